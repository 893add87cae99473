"""What a job uses, while it runs and afterwards."""

from typing import Any

import pexpect
import pytest
from support.waiting import wait_until
from vm.guest.api import Gate, User
from vm.guest.service import PATIENCE

WORKER = "/opt/tests/bin/worker"
HELD = 64 << 20
# The leader waits; a child of it takes the memory and the time.
CHILD = f"x = b'x' * {HELD}; import time\nwhile time.process_time() < 2: pass\nprint('held')"
LINE = 'python3 -c "{}; import sys; sys.stdout.flush(); open(sys.argv[1]).readline()" {}'


def started(alice: User, gate: Gate) -> str:
    """Return a job that has used what it will use, and waits."""
    job = alice.shell(LINE.format(CHILD, gate.path) + "; true")
    wait_until(lambda: alice.out(job) == b"held\n", PATIENCE)
    return job


def seconds(usage: dict[str, Any]) -> float:
    """Return how much time of a processor was used."""
    return float(usage["user_seconds"] + usage["system_seconds"])


@pytest.mark.suite("trixie")
def test_the_whole_tree_is_counted_live_and_afterwards(
    alice: User, gate: Gate, worker: dict[str, str]
) -> None:
    """Nobody could say which job it is that makes the server slow."""
    job = started(alice, gate)
    live = alice.status(job)["usage"]
    shown = pexpect.run(f"{WORKER} status {job}", env=worker, timeout=PATIENCE).decode()
    assert "of CPU" in shown
    assert "of memory at most" in shown
    assert "2 processes at most" in shown
    gate.open()
    after = alice.ended(job)["usage"]
    for usage in (live, after):
        assert 2 <= seconds(usage) < 10
        assert HELD < usage["max_rss_bytes"] < 2 * HELD
        assert usage["max_processes"] == 2
    assert seconds(after) >= seconds(live)
    assert after["wall_seconds"] > live["wall_seconds"]


@pytest.mark.suite("bookworm")
def test_without_controllers_the_time_of_the_whole_tree_is_counted(alice: User, gate: Gate) -> None:
    """A shell that waits for the real work would look idle."""
    job = started(alice, gate)
    live = alice.status(job)["usage"]
    gate.open()
    after = alice.ended(job)["usage"]
    assert 2 <= seconds(live) <= seconds(after) < 10
    assert after["max_processes"] is None
