"""An engine on a disk that fails: `python -m support.failing_disk DIRECTORY`, on a small tmpfs.

Started by tests/core/test_faults.py in a mount namespace of its own; fails like a test.
"""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worker_core import Engine, JobSpec, State, StoreUnavailable

from support.core import begin, marked, run, shell, waiting_for
from support.waiting import wait_until


@contextlib.contextmanager
def without_inodes(disk: Path) -> Iterator[None]:
    """Have no file be made in this block."""
    (disk / "state" / "reserve").unlink()
    fillers = []
    with contextlib.suppress(OSError):
        while True:
            fillers.append(disk / str(len(fillers)))
            fillers[-1].touch()
    yield
    for each in fillers:
        each.unlink(missing_ok=True)


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Have the state directory be on a file system that is mounted read-only."""
    state = str(disk / "state")
    subprocess.run(["mount", "--bind", state, state], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", state], check=True)
    yield
    subprocess.run(["umount", state], check=True)


def is_held_back(engine: Engine, job_id: str, why: str) -> bool:
    """Return whether a job is shown as one whose end cannot be recorded, wherever it is shown."""
    told = f"its process has ended, but that cannot be recorded yet: {why}"
    shown = [engine.get(job_id), engine.wait(job_id, 0.01)]
    shown += [job for job in engine.list().jobs if job.id == job_id]
    return all((job.state, job.reason) == (State.STOPPING, told) for job in shown)


def check(disk: Path, fails: Callable[[Path], object], why: str, fault: str) -> None:
    """End jobs while the disk fails: it is said, and recorded once the disk works again."""
    go = Path(f"{disk}.{fails.__name__}")
    with Engine(disk / "state") as engine:
        ends = begin(engine, shell(waiting_for(go) + "; exit 3"))
        stays = begin(engine, shell("echo ready; sleep 600"))
        with fails(disk):  # type: ignore[attr-defined]
            go.touch()
            wait_until(lambda: is_held_back(engine, ends.id, why))
            engine.kill(stays.id, by="me", wait=0)
            wait_until(lambda: not marked(stays.id) and is_held_back(engine, stays.id, why))
            assert engine.kill(ends.id, by="me", wait=0).state is State.STOPPING
            wait_until(lambda: fault in engine.health()["disk"])
            with pytest.raises(StoreUnavailable):
                engine.submit(JobSpec("true"), "me")
            assert not (disk / "state" / "jobs" / ends.id / "exit.json").exists()
        job = engine.wait(ends.id, 20)
        assert (job.state, job.exit_code, job.killed_by) == (State.FAILED, 3, None)
        job = engine.wait(stays.id, 20)
        assert (job.state, job.signal, job.killed_by) == (State.KILLED, 15, "me")
        wait_until(lambda: set(engine.health().values()) == {"ok"})
        assert run(engine, JobSpec("true")).state is State.COMPLETED


def a_mount_without_programs_is_named(disk: Path) -> None:
    """A script would be said not to be executable, which it is."""
    script, reads = disk / "script", Path(f"{disk}.reads")
    script.write_text("#!/bin/sh\n")
    reads.write_text(f"#!{script}\n")
    for each in (script, reads):
        each.chmod(0o755)
    subprocess.run(["mount", "-o", "remount,noexec", disk], check=True)
    why = "permission denied (its file system is mounted noexec)"
    with Engine(disk / "state") as engine:
        assert run(engine, JobSpec(str(script))).reason == f"{script}: {why}"
        assert (
            run(engine, JobSpec(str(reads))).reason == f"{reads}: bad interpreter: {script}: {why}"
        )
    subprocess.run(["mount", "-o", "remount,exec", disk], check=True)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    a_mount_without_programs_is_named(place)
    check(place, without_inodes, "No space left on device", "more files can be made")
    check(place, read_only, "Read-only file system", "is mounted read-only")
