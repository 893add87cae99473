"""Whether many people can watch one job, while everybody else is served as before.

A job prints four lines a second, each with the time of its printing. Every measurement has a
daemon of its own, since memory once used is not always given back.
"""

from __future__ import annotations

import functools
import itertools
import json
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.rows import Row, Target, alternate, percentile
from benchmarks.service import Service, memory, source_tree

_MILLI = 1000
_PAUSE = 0.02  # seconds between two questions for the status
_LINES = 4  # a second
_PRINTER = """
import sys, time
begun = time.monotonic()
for number in range(480):
    time.sleep(max(0, begun + number / 4 - time.monotonic()))
    print(time.monotonic_ns(), flush=True)
"""
_OTHER_FILES = 200


@dataclass(frozen=True)
class Found:
    """What one measurement gave: seconds, seconds, and bytes."""

    delivery: list[float]
    status: list[float]
    memory: int


def measure(bench: Bench) -> list[Row]:
    """Measure 1, 500 and 1,000 followers."""
    _make_room(1000 + _OTHER_FILES)
    seconds = bench.pick(6.0, 3.0)
    numbers = itertools.count()

    def follow(followers: int) -> Found:
        return _measure(bench.directory / str(next(numbers)), followers, seconds)

    crowds = bench.pick((1, 500, 1000), (1, 500))
    found = alternate(
        {str(crowd): functools.partial(follow, crowd) for crowd in crowds},
        bench.pick(3, 1),
    )
    return [row for crowd in crowds[1:] for row in _rows(crowd, found[str(crowd)], found["1"])]


def _rows(crowd: int, found: list[Found], alone: list[Found]) -> Iterator[Row]:
    for percent in (50, 99):
        yield Row(
            f"a line reaches {crowd} followers, p{percent}",
            "ms",
            [_MILLI * percentile(each.delivery, percent) for each in found],
            target=Target(most=250) if (crowd, percent) == (500, 99) else None,
        )
    yield Row(
        f"status with {crowd} followers, p99",
        "ms",
        [_MILLI * percentile(each.status, 99) for each in found],
        "with one",
        [_MILLI * percentile(each.status, 99) for each in alone],
        Target(most=3.0),
    )
    yield Row(
        f"memory of each of {crowd} followers",
        "kB",
        [
            (each.memory - one.memory) / (crowd - 1) / 1000
            for each, one in zip(found, alone, strict=True)
        ],
        target=Target(most=64.0),
    )


def _measure(directory: Path, followers: int, seconds: float) -> Found:
    with Service(directory, max_long_requests=followers * 2) as service:
        connection = service.connect()
        job = connection.run(sys.executable, "-c", _PRINTER)
        told = {
            "host": service.host,
            "port": service.port,
            "ca": str(service.ca),
            "user": service.user,
            "password": service.password,
            "job": job,
            "followers": followers,
            "seconds": seconds,
        }
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.programs.crowd"],
            env=source_tree(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as crowd:
            assert crowd.stdin is not None
            assert crowd.stdout is not None
            crowd.stdin.write(json.dumps(told))
            crowd.stdin.close()
            if crowd.stdout.readline() != "ready\n":
                raise RuntimeError("the followers did not come to listen")
            status = _poll(service, job, seconds)
            used = memory(service.pid)
            result = json.loads(crowd.stdout.read())
        connection.close()
    if result["fewest"] < (seconds - 1) * _LINES - 1:
        raise RuntimeError(f"a follower got only {result['fewest']} lines in {seconds} s")
    return Found(result["delays"], status, used)


def _poll(service: Service, job: str, seconds: float) -> list[float]:
    """Ask for the status again and again while the others listen."""
    connection = service.connect()
    tick = threading.Event()
    found = []
    for _ in range(int(seconds / _PAUSE) - 1):
        found.append(connection.time("GET", f"/jobs/{job}/status"))
        tick.wait(max(0.0, _PAUSE - found[-1]))
        if sum(found) > seconds:
            break
    connection.close()
    return found


def _make_room(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
