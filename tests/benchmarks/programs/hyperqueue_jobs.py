"""`DIRECTORY CORES`: run as many jobs as each line of stdin says, and print how many a second."""

import sys
import time

import hyperqueue
from hyperqueue import client as hyperqueue_client
from hyperqueue.cluster import WorkerConfig


def jobs_per_second(client: hyperqueue.Client, directory: str, count: int) -> float:
    """Submit one job after the other, then wait for all of them."""
    begun = time.perf_counter()
    submitted = []
    for _ in range(count):
        job = hyperqueue.Job(default_workdir=directory)
        job.program(["/bin/true"])
        submitted.append(client.submit(job))
    client.wait_for_jobs(submitted)
    return count / (time.perf_counter() - begun)


def main(directory: str, cores: str) -> None:
    """Serve the lines of stdin."""
    # A progress bar is nobody's time.
    hyperqueue_client.create_progress_callback = lambda: lambda _jobs: None
    with hyperqueue.LocalCluster(directory) as cluster:
        cluster.start_worker(WorkerConfig(cores=int(cores)))
        client = cluster.client()
        for line in sys.stdin:
            print(f"RESULT {jobs_per_second(client, directory, int(line))}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
