"""The watchdog of the unit."""

import signal

from vm.guest import system
from vm.guest.api import Gate, User
from vm.guest.service import Service

UNIT_SECONDS = 30 + 15  # WatchdogSec, and TimeoutStopSec for the end


def test_a_stopped_workerd_is_replaced(service: Service, alice: User, gate: Gate) -> None:
    """A workerd that hangs would hang until somebody looks."""
    job = alice.shell(f"{gate.wait}; exit 19")
    before = service.pid
    system.kill(before, signal.SIGSTOP)
    service.await_another(before, UNIT_SECONDS + 60)
    assert "Watchdog timeout" in service.journal()
    assert alice.status(job)["status"] == "running"
    gate.open()
    assert alice.ended(job)["exit_code"] == 19
