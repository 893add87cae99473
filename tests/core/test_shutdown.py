"""What the shutdown of the machine does to jobs; the whole of it is played in tests/vm."""

import signal

import pytest
from worker_core.disk.jobdir import Kill
from worker_core.linux import procfs
from worker_core.supervisor.outcome import outcome, unless_shut_down

KILL = Kill("kill", "no more use", [signal.SIGTERM], False, 0.0)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_the_shutdown_ends_is_lost(monkeypatch, signum):
    """A job that a reboot ended would look as if its program had failed."""
    monkeypatch.setattr(procfs, "shutting_down", lambda: True)
    end = unless_shut_down(outcome(signum, None, None))
    assert (end.cause, end.exit_code, end.signal) == ("lost", None, None)
    assert end.reason == "the machine was shut down"


@pytest.mark.parametrize(
    ("status", "kill", "cause"),
    [(3 << 8, None, "own"), (0, None, "own"), (signal.SIGSEGV, None, "own"), (15, KILL, "kill")],
)
def test_a_job_that_ends_in_another_way_keeps_its_outcome(monkeypatch, status, kill, cause):
    """The last jobs before a reboot would lose their exit codes."""
    monkeypatch.setattr(procfs, "shutting_down", lambda: True)
    end = outcome(status, kill, None)
    assert unless_shut_down(end) == end
    assert end.cause == cause


def test_a_signal_is_not_taken_for_a_shutdown():
    """`kill PID` by another user would make a job lost."""
    end = outcome(signal.SIGTERM, None, None)
    assert unless_shut_down(end) == end
