"""A program that uses an engine and may be killed at any instant, and what must be true after.

Run as `python -m support.crashing STATE_DIR RUNS ROUNDS`: submits jobs of several kinds, says on
stdout what was acknowledged, and kills those that do not end.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from worker_core import Engine, EngineSettings, Job, JobNotRunning, JobSpec, State

from support.core import marked
from support.waiting import wait_until

# Every job writes its id into the file RUNS when it runs, so that two runs of one would show.
KINDS = {
    "exit 3": 'echo "$WORKER_JOB_ID" >> "$RUNS"; echo out; exit 3',
    "exit 0": 'echo "$WORKER_JOB_ID" >> "$RUNS"; echo out; sleep 0.05; echo more',
    "by signal": 'echo "$WORKER_JOB_ID" >> "$RUNS"; kill -KILL $$',
    "endless": 'echo "$WORKER_JOB_ID" >> "$RUNS"; exec sleep 600',
}
ENDS = {
    "exit 3": (State.FAILED, 3, None, b"out\n"),
    "exit 0": (State.COMPLETED, 0, None, b"out\nmore\n"),
    "by signal": (State.FAILED, None, 9, b""),
    "endless": (State.KILLED, None, 15, b""),
    "endless, by force": (State.KILLED, None, 9, b""),
}


def start(state_dir: Path, rounds: int = 1, **environment: str) -> subprocess.Popen[str]:
    """Start the program."""
    argv = [sys.executable, "-m", "support.crashing", state_dir, state_dir.parent / "runs"]
    tests = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [*argv, str(rounds)],
        env=os.environ | {"PYTHONPATH": tests} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(program: subprocess.Popen[str], timeout: float = 30) -> dict[str, str]:
    """Return kind by id of the jobs that the program was promised, once it has ended."""
    output, _ = program.communicate(timeout=timeout)
    return dict(json.loads(line) for line in output.splitlines())


def check(state_dir: Path, promised: dict[str, str], *, may_be_lost: bool = False) -> None:
    """Open the directory again, and check the end of every job that was promised or recorded."""
    with Engine(state_dir) as engine:
        # The program may have ended between the record of a job and its promise.
        recorded = {job.id: str(job.spec.name) for job in engine.list(limit=1000).jobs}
        assert promised.items() <= recorded.items()
        for job_id, kind in recorded.items():
            if kind == "endless":
                with contextlib.suppress(JobNotRunning):
                    engine.kill(job_id, by="me", wait=20)
            _check_end(engine, engine.wait(job_id, 20), kind, may_be_lost=may_be_lost)
        wait_until(lambda: set(os.listdir(state_dir / "jobs")) == set(recorded))
    runs = (state_dir.parent / "runs").read_text().split()
    assert len(runs) == len(set(runs)), "a job ran twice"
    assert set(runs) <= set(recorded), "a job ran that is not recorded"


def _check_end(engine: Engine, job: Job, kind: str, *, may_be_lost: bool) -> None:
    assert marked(job.id) == []
    if job.state is State.LOST:
        assert may_be_lost
        assert "the end could not be observed" in str(job.reason)
    elif kind == "endless" and job.signal is None:  # it was killed before it had started
        assert (job.state, job.started_at) == (State.KILLED, None)
    else:
        if kind == "endless" and may_be_lost and job.signal == signal.SIGKILL:
            # The supervisor was killed between the record of the kill and the stop signal.
            kind = "endless, by force"
        output = engine.read_output(job.id)
        assert (job.state, job.exit_code, job.signal, output) == ENDS[kind], (kind, job)


def main() -> None:
    """Be the program."""
    state_dir, runs, rounds = sys.argv[1:]
    with Engine(state_dir, settings=EngineSettings(max_running=4)) as engine:
        os.environ.pop("WORKER_CRASH_AT", None)  # what is started from now on does not crash
        for _ in range(int(rounds)):
            jobs = []
            for kind, script in KINDS.items():
                spec = JobSpec("sh", ["-c", script], env={"RUNS": runs}, name=kind)
                job = engine.submit(spec, "me")
                sys.stdout.write(json.dumps([job.id, kind]) + "\n")
                sys.stdout.flush()
                jobs.append(job.id)
            while engine.get(jobs[-1]).started_at is None and not engine.get(jobs[-1]).state.final:
                engine.wait(jobs[-1], 0.01)
            with contextlib.suppress(JobNotRunning):
                engine.kill(jobs[-1], by="me", wait=20)
            for job_id in jobs:
                engine.wait(job_id, 20)


if __name__ == "__main__":
    main()
