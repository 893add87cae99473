"""The client of the supervisor: requests that the supervisor may not have read."""

import os
import signal
import threading

import pytest
from support.core import run, shell, supervisor_pid, waiting_for
from support.waiting import wait_until
from worker_core import Engine, ExecutorUnavailable
from worker_core.executors import local


def test_a_signal_is_confirmed(tmp_path):
    """A user would read that a signal was sent although nothing was."""
    script = "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.01; done"
    with Engine(tmp_path / "state") as engine:
        job = engine.submit(shell(script), "me")
        wait_until(lambda: engine.read_output(job.id))
        engine.signal(job.id, "USR1")
        assert engine.wait(job.id, 20).exit_code == 3
        assert not engine._executor._receipts


def test_a_signal_that_a_dying_supervisor_has_not_read_is_an_error(tmp_path):
    """The signal would be lost, and its sender told that it was sent."""
    with Engine(tmp_path / "state") as engine:
        job = engine.submit(shell(waiting_for(tmp_path / "file")), "me")
        wait_until(lambda: engine.read_output(job.id))
        supervisor = supervisor_pid(engine.state_dir)
        os.kill(supervisor, signal.SIGSTOP)
        errors = []

        def send():
            with pytest.raises(ExecutorUnavailable, match="cannot confirm that the signal") as e:
                engine.signal(job.id, "USR1")
            errors.append(str(e.value))

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: engine._executor._receipts)
        os.kill(supervisor, signal.SIGKILL)
        thread.join(20)
        assert len(errors) == 1
        (tmp_path / "file").touch()
        assert engine.wait(job.id, 20).state.final


def test_a_supervisor_that_does_not_answer_holds_up_no_signal(tmp_path, monkeypatch):
    """A request to signal a job would never be answered."""
    monkeypatch.setattr(local, "_ANSWER_SECONDS", 0.05)
    with Engine(tmp_path / "state") as engine:
        job = engine.submit(shell(waiting_for(tmp_path / "file")), "me")
        wait_until(lambda: engine.read_output(job.id))
        supervisor = supervisor_pid(engine.state_dir)
        os.kill(supervisor, signal.SIGSTOP)
        try:
            with pytest.raises(ExecutorUnavailable, match="does not answer; check the state"):
                engine.signal(job.id, "USR1")
        finally:
            os.kill(supervisor, signal.SIGCONT)
        (tmp_path / "file").touch()
        assert engine.wait(job.id, 20).state.final
        assert run(engine, shell("true")).exit_code == 0
