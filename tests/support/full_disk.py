"""An engine on a disk that fills up: `python -m support.full_disk DIRECTORY`, on a small tmpfs.

Started by tests/core/test_faults.py in a mount namespace of its own; fails like a test.
"""

import os
import sys
from pathlib import Path

import pytest
from worker_core import Engine, JobSpec, State, StoreUnavailable
from worker_core.disk import reserve

from support.core import begin, marked, run, shell, supervisor_pid, waiting_for
from support.waiting import wait_until


def fill(path: Path) -> None:
    """Write until not one byte is free."""
    size = 1 << 16
    with open(path, "ab", buffering=0) as file:
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def refused(engine: Engine) -> None:
    """See that no job is accepted, once it was seen that the reserve is gone."""
    wait_until(lambda: not engine._reserve.kept())
    with pytest.raises(StoreUnavailable, match="; remove finished jobs, or free space"):
        engine.submit(JobSpec("true", env={"LARGE": "x" * 100_000}), "me")
    assert engine.health()["disk"].startswith("only ")


def ends_are_recorded(disk: Path) -> None:
    """A job fills the disk: what it and others come to is told, and what it wrote removed."""
    kept, go = disk / "state" / "reserve", Path(sys.argv[1] + ".1")
    with Engine(disk / "state") as engine:
        ends = begin(engine, shell(waiting_for(go) + "; exit 3"))
        stays = begin(engine, shell("echo ready; sleep 600"))
        assert kept.stat().st_blocks * 512 >= reserve.SIZE
        fills = run(engine, shell("cat /dev/zero"))
        assert (fills.state, fills.exit_code) == (State.FAILED, 1)
        go.touch()
        assert engine.wait(ends.id, 20).exit_code == 3
        assert engine.kill(stays.id, by="me", wait=20).state is State.KILLED
        refused(engine)
        assert not kept.exists()
        engine.remove(fills.id)
        assert run(engine, JobSpec("true")).state is State.COMPLETED
        assert kept.stat().st_blocks * 512 >= reserve.SIZE
        assert engine.health()["store"] == "ok"


def ends_are_held_back(disk: Path) -> None:
    """Somebody else fills the disk, its reserve too: nothing is told that is not recorded."""
    kept, go = disk / "state" / "reserve", Path(sys.argv[1] + ".2")
    with Engine(disk / "state") as engine:
        pid = supervisor_pid(engine.state_dir)
        large = run(engine, shell("head -c 300000 /dev/zero"))
        ends = begin(engine, shell(waiting_for(go) + "; exit 3"))
        writes = begin(engine, shell(waiting_for(go) + "; head -c 9000 /dev/zero; exit $?"))
        stays = begin(engine, shell("echo ready; sleep 600"))
        kept.unlink()
        fill(disk / "filler")

        refused(engine)
        go.touch()
        log = Path(engine.state_dir, "supervisor.log")
        wait_until(lambda: not marked(writes.id))
        wait_until(lambda: log.read_text().count("cannot record its end") >= 2)
        engine.kill(stays.id, by="me", wait=0)
        wait_until(lambda: not marked(stays.id))
        wait_until(lambda: "No space left" in (engine.get(stays.id).reason or ""))

        engine.remove(large.id)  # makes room
        assert engine.wait(ends.id, 20).exit_code == 3
        assert engine.wait(writes.id, 20).exit_code == 1  # its own: head could not write
        job = engine.wait(stays.id, 20)
        assert (job.state, job.signal, job.killed_by) == (State.KILLED, 15, "me")
        assert engine.read_output(ends.id) == b"ready\n"
        os.unlink(disk / "filler")
        assert run(engine, JobSpec("true")).state is State.COMPLETED
        assert engine.health()["store"] == "ok"
        assert supervisor_pid(engine.state_dir) == pid


if __name__ == "__main__":
    ends_are_recorded(Path(sys.argv[1]))
    ends_are_held_back(Path(sys.argv[1]))
