"""The soak: real jobs through the real daemon, which is killed again and again meanwhile.

    tox -e soak                     five minutes
    tox -e soak -- --seconds 60     shorter

At the end the outcome and the output of every acknowledged job are compared with what its command
must give. It prints figures, and exits with 1 if anything differs.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from support.core import marked, supervisor_pid, wait_gone
from support.daemon import Daemon
from support.waiting import wait_until
from worker_cli import Client
from worker_cli.errors import ClientError, Refused, Unreachable
from worker_core import procfs

SHARES = {"restarts": 0.5, "kills": 0.25, "followers": 0.25}  # of the time


def sha(data):
    return hashlib.sha256(data).hexdigest()


def numbers(count):
    return b"".join(b"%d\n" % n for n in range(1, count + 1))


# Name -> (script, allowed ends as (status, exit code, signal), hash of the output or None for any).
JOBS = {
    "quick": ("exit 0", {("completed", 0, None)}, sha(b"")),
    "code": ("echo x; exit 7", {("failed", 7, None)}, sha(b"x\n")),
    "signal": ("kill -SEGV $$", {("failed", None, 11)}, sha(b"")),
    "slow": ("sleep 1.5; echo late; exit 3", {("failed", 3, None)}, sha(b"late\n")),
    "large": ("seq 200000", {("completed", 0, None)}, sha(numbers(200_000))),
    "orphans": ("(setsid env -i sleep 600 &); sleep 0.3; exit 4", {("failed", 4, None)}, sha(b"")),
    "timeout": ("echo on; sleep 600", {("timed_out", None, 15)}, sha(b"on\n")),
    "killed": ("sleep 600", {("killed", None, 15), ("killed", None, None)}, sha(b"")),
}


class Soak:
    """One run. `wrong` collects every difference."""

    def __init__(self, directory, seconds):
        self.directory = directory
        self.seconds = seconds
        self.random = random.Random(1)
        self.wrong = []
        self.figures = Counter()

    def client(self, daemon):
        return Client(
            daemon.url, user=daemon.user, password=daemon.password, cacert=daemon.ca, patience=60
        )

    def _thread(self, target, *args):
        """Return a thread whose failure is a difference too."""

        def work():
            try:
                target(*args)
            except Exception as error:
                self.wrong.append(f"{target.__name__} failed: {error!r}")
                raise

        return threading.Thread(target=work)

    # -- jobs, and a daemon that is killed ------------------------------------------------------

    def restarts(self):
        """Submit a mix; SIGKILL workerd all the time, and the supervisor sometimes."""
        until = time.monotonic() + self.seconds * SHARES["restarts"]
        promised, lost_possible = {}, set()
        with Daemon(self.directory / "restarts", max_running=16) as daemon:
            threads = [self._thread(self._submit, daemon, until, promised) for _ in range(4)]
            for each in threads:
                each.start()
            while time.monotonic() < until:
                self._break(daemon, promised, lost_possible)
            for each in threads:
                each.join(120)
                assert not each.is_alive(), "a client hangs"
            self._compare(daemon, promised, lost_possible)
        self.figures["jobs"] = len(promised)

    def _submit(self, daemon, until, promised):
        chosen, pause = random.Random(threading.get_ident()), threading.Event()
        with self.client(daemon) as client:
            while time.monotonic() < until:
                pause.wait(0.1)  # the point is the breaking, not the number
                kind = chosen.choice(list(JOBS))
                options = {"timeout": 0.7} if kind == "timeout" else {}
                job = client.run("sh", "-c", JOBS[kind][0], **options)
                promised[job.id] = kind
                if kind == "killed":
                    self._kill(job)

    def _kill(self, job):
        """Kill until an answer comes: unlike `run`, a kill is not sent again by the client."""
        while True:
            try:
                job.kill()
                return
            except Refused as error:  # killed by the one whose answer was lost, or lost itself
                self.figures[f"kill answered {error.code}"] += 1
                if error.code == "job_not_running":
                    return
            except Unreachable:
                self.figures["kills without an answer"] += 1

    def _break(self, daemon, promised, lost_possible):
        pause = threading.Event()
        pause.wait(self.random.uniform(0.2, 2.0))
        if self.random.random() < 0.15:
            pid = supervisor_pid(str(daemon.state_dir))
            if pid is None:
                return
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)
            # Only what was promised up to now, or is just being promised, may have been its job.
            pause.wait(0.5)
            lost_possible.update(promised)
            self.figures["supervisor killed"] += 1
        elif self.random.random() < 0.2:
            daemon.restart()
            self.figures["workerd restarted"] += 1
        else:
            daemon.kill9()
            daemon.start()
            self.figures["workerd killed"] += 1

    def _compare(self, daemon, promised, lost_possible):
        with self.client(daemon) as client:
            for job_id, kind in promised.items():
                status = client.wait(job_id, 60)
                end = (status.status, status.exit_code, status.signal)
                _, allowed, output = JOBS[kind]
                self.figures[f"ended {status.status}"] += 1
                if status.status == "lost" and job_id in lost_possible:
                    continue
                if end not in allowed or sha(client.output(job_id)) != output:
                    self.wrong.append(f"{kind} {job_id}: {status}")
            known = {record.id for record in client.list()}
            unknown = known - set(promised)
            # An answer that was lost with the daemon leaves a job that nobody was promised.
            self.figures["jobs without an answer"] = len(unknown)
        left = [job_id for job_id in promised if marked(job_id)]
        self.wrong += [f"{job_id} left processes" for job_id in left]

    # -- kills at the moment of exit ------------------------------------------------------------

    def kills(self):
        """Aim two thousand kills at the moment at which a job ends by itself."""
        until = time.monotonic() + self.seconds * SHARES["kills"]
        with Daemon(self.directory / "kills") as daemon:
            before = self._held(daemon)
            threads = [self._thread(self._aim, daemon, until) for _ in range(8)]
            for each in threads:
                each.start()
            for each in threads:
                each.join(self.seconds + 60)
                assert not each.is_alive(), "a kill hangs"
            wait_until(lambda: self._held(daemon)[1] == before[1], message="children to be reaped")
            self.figures["supervisor descriptors more"] = self._held(daemon)[0] - before[0]
            if self._held(daemon)[0] != before[0]:
                self.wrong.append("the supervisor holds more descriptors than before")

    def _aim(self, daemon, until):
        chosen = random.Random(threading.get_ident())
        pause = threading.Event()
        with self.client(daemon) as client:
            while self.figures["kills aimed"] < 2000 and time.monotonic() < until:
                self.figures["kills aimed"] += 1
                job = client.run("sleep", "0.05")
                pause.wait(max(0.0, 0.04 + chosen.uniform(-0.02, 0.02)))
                try:
                    said = job.kill()
                except Refused as error:
                    said = error.code
                status = job.wait(30)
                by_itself = status.exit_code == 0
                self.figures["kills that came too late"] += by_itself
                told = "job_not_running" if by_itself else "killed"
                truth = "completed" if by_itself else "killed"
                if (said, status.status) != (told, truth):
                    self.wrong.append(f"kill of {job.id} answered {said}: {status}")

    def _held(self, daemon):
        pid = supervisor_pid(str(daemon.state_dir))
        return len(os.listdir(f"/proc/{pid}/fd")), procfs.children(pid)

    # -- followers ------------------------------------------------------------------------------

    def followers(self):
        """Twenty followers of every one of a thousand short jobs, each seeing every byte."""
        until = time.monotonic() + self.seconds * SHARES["followers"]
        with Daemon(self.directory / "followers", max_followers=64) as daemon:
            clients = [self.client(daemon) for _ in range(20)]
            while self.figures["jobs followed"] < 1000 and time.monotonic() < until:
                self._follow(clients)
            for each in clients:
                each.close()

    def _follow(self, clients):
        job_id = clients[0].run("sh", "-c", "echo one; seq 2000; echo end").id
        expected = b"one\n" + numbers(2000) + b"end\n"

        def follow(client):
            try:
                seen = b"".join(client.follow(job_id))
            except ClientError as error:
                seen = str(error).encode()
            if seen != expected:
                self.wrong.append(f"a follower of {job_id} saw {len(seen)} bytes: {seen[-80:]!r}")

        threads = [threading.Thread(target=follow, args=(each,)) for each in clients]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
            if each.is_alive():
                self.wrong.append(f"a follower of {job_id} hangs")
        self.figures["jobs followed"] += 1
        self.figures["followers"] += len(threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="how long it takes, about")
    parser.add_argument("--only", choices=list(SHARES), help="one part, for all of the time")
    options = parser.parse_args()
    parts = [options.only] if options.only else list(SHARES)
    seconds = options.seconds / SHARES[options.only] if options.only else options.seconds
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), seconds)
        for part in parts:
            getattr(soak, part)()
    for name in ("jobs", "kills aimed", "jobs followed"):
        if not options.only and not soak.figures[name]:
            soak.wrong.append(f"no {name}: nothing was proved")
    for name, figure in sorted(soak.figures.items()):
        print(f"{figure:8}  {name}")
    for line in soak.wrong[:50]:
        print(f"WRONG: {line}")
    print(f"{len(soak.wrong)} differences")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
