"""An engine on a disk that fills up: `python -m support.full_disk DIRECTORY`, on a small tmpfs.

Started by tests/core/test_faults.py in a mount namespace of its own; fails like a test.
"""

import os
import sys
from pathlib import Path

import pytest
from worker_core import Engine, JobSpec, State, StoreUnavailable

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


def main() -> None:
    """Fill the disk while jobs run, see what can be done, and make room again."""
    disk, go = Path(sys.argv[1]), Path(sys.argv[1] + ".go")
    with Engine(disk / "state") as engine:
        pid = supervisor_pid(engine.state_dir)
        large = run(engine, shell("head -c 300000 /dev/zero"))
        ends = begin(engine, shell(waiting_for(go) + "; exit 3"))
        writes = begin(engine, shell(waiting_for(go) + "; head -c 9000 /dev/zero; exit $?"))
        stays = begin(engine, shell("echo ready; sleep 600"))
        fill(disk / "filler")

        with pytest.raises(StoreUnavailable, match=r"disk is full|No space left on device"):
            engine.submit(JobSpec("true", env={"LARGE": "x" * 100_000}), "me")
        assert engine.health()["store"] != "ok"
        assert engine.health()["disk"].startswith("only ")
        go.touch()
        log = Path(engine.state_dir, "supervisor.log")
        wait_until(lambda: not marked(writes.id))
        wait_until(lambda: log.read_text().count("cannot record its end") >= 2)
        assert engine.kill(stays.id, by="me", wait=0).state is State.RUNNING  # as recorded so far
        wait_until(lambda: not marked(stays.id))

        engine.remove(large.id)  # makes room
        assert engine.wait(ends.id, 20).exit_code == 3
        assert engine.wait(writes.id, 20).exit_code == 1  # its own: head could not write
        job = engine.wait(stays.id, 20)
        assert (job.state, job.signal, job.killed_by) == (State.KILLED, 15, "me")
        assert engine.read_output(ends.id) == b"ready\n"
        assert run(engine, JobSpec("true")).state is State.COMPLETED
        assert engine.health()["store"] == "ok"
        assert supervisor_pid(engine.state_dir) == pid
        assert len(engine.list().jobs) == len(os.listdir(disk / "state" / "jobs")) == 4


if __name__ == "__main__":
    main()
