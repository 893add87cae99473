"""The store against the executor: every finding of recover.py."""

import pytest
from worker_core.recover import Finding, compare
from worker_core.state import State

RUNNING, ENDED, NEVER = {"running": {"pid": 1}}, {"exit": {}}, {}


@pytest.mark.parametrize(
    ("state", "known", "same_boot", "finding"),
    [
        (State.RUNNING, RUNNING, True, Finding.FOLLOW),
        (State.STOPPING, RUNNING, True, Finding.KILL_AGAIN),
        (State.RUNNING, ENDED, True, Finding.ENDED),
        (State.STOPPING, ENDED, True, Finding.ENDED),
        (State.RUNNING, ENDED, False, Finding.ENDED),
        (State.RUNNING, NEVER, True, Finding.START),
        (State.STOPPING, NEVER, True, Finding.CANCEL),
        (State.RUNNING, NEVER, False, Finding.LOSE),
        (State.STOPPING, NEVER, False, Finding.LOSE),
    ],
)
def test_the_finding(state, known, same_boot, finding):
    """After a restart a job would run twice, be forgotten, or get an invented end."""
    assert compare(state, known, same_boot=same_boot) is finding
