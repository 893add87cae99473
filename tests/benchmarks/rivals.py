"""Other job queues on the same machine, each used in its own fastest way of one job a submission.

Each gets `count` times /bin/true, and is timed from the first submission until all have ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from support.waiting import wait_until

from benchmarks import tools
from benchmarks.bench import Bench
from benchmarks.service import source_tree

_AT_ONCE = 8
_PATIENCE = 60.0


class TaskSpooler:
    """task-spooler with eight slots, one `tsp` a job."""

    title = "task-spooler, 8 slots"

    def __init__(self, bench: Bench, directory: Path) -> None:
        self._bench = bench
        self._tsp = tools.find("tsp")
        self._environ = {
            **os.environ,
            "TS_SOCKET": str(directory / "socket"),
            "TMPDIR": str(directory),
            "TS_SLOTS": str(_AT_ONCE),
            "TS_MAXFINISHED": "100000",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call("-K")

    def jobs_per_second(self, count: int) -> float:
        """Run jobs."""
        spawn = tools.compiled("spawn", self._bench.directory)
        self._call("-C")
        begun = time.perf_counter()
        submit = [spawn, str(count), str(_AT_ONCE), self._tsp, "/bin/true"]
        subprocess.run(submit, env=self._environ, check=True, capture_output=True)
        wait_until(lambda: self._call("-l").count("finished") >= count, _PATIENCE)
        return count / (time.perf_counter() - begun)

    def _call(self, *argv: str) -> str:
        done = subprocess.run(
            [self._tsp, *argv], env=self._environ, check=True, capture_output=True, text=True
        )
        return done.stdout


class Nq:
    """nq runs one job at a time in each directory, so it gets eight directories."""

    title = "nq, 8 queues"

    def __init__(self, bench: Bench, directory: Path) -> None:
        self._nq = tools.find("nq")
        self._spawn = tools.compiled("spawn", bench.directory)
        self._queues = [directory / str(number) for number in range(_AT_ONCE)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave: nothing of it runs on."""

    def jobs_per_second(self, count: int) -> float:
        """Run jobs."""
        each = count // _AT_ONCE
        begun = time.perf_counter()
        self._in_all(self._spawn, str(each), "1", self._nq, "-c", "-q", "/bin/true")
        self._in_all(self._nq, "-w")
        return each * _AT_ONCE / (time.perf_counter() - begun)

    def _in_all(self, *argv: str) -> None:
        running = [
            subprocess.Popen(
                argv, env={**os.environ, "NQDIR": str(queue)}, stdout=subprocess.DEVNULL
            )
            for queue in self._queues
        ]
        for process in running:
            if process.wait(_PATIENCE):
                raise RuntimeError(f"{argv} failed")


class HyperQueue:
    """HyperQueue with a worker of eight cores, one submission a job, from its own Python client."""

    title = "HyperQueue, 8 cores"

    def __init__(self, _bench: Bench, directory: Path) -> None:
        tools.need_module("hyperqueue")
        argv = [sys.executable, "-m", "benchmarks.programs.hyperqueue_jobs", str(directory)]
        self._process = subprocess.Popen(
            [*argv, str(_AT_ONCE)],
            env=source_tree(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=_PATIENCE)

    def jobs_per_second(self, count: int) -> float:
        """Run jobs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:  # it prints its own messages, too
            if line.startswith("RESULT "):
                return float(line.split()[1])
        raise RuntimeError("HyperQueue's client has ended")


ALL = (TaskSpooler, Nq, HyperQueue)
