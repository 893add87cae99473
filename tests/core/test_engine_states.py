"""The engine as a state machine: whatever is done in whatever order, every record stays true."""

import os
import shutil
import signal
import tempfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)  # fmt: skip
from support.core import marked, shell, supervisor_pid, wait_gone
from support.kernel import reports_exit_status
from support.waiting import wait_until
from worker_core import Engine, EngineSettings, JobNotFinished, JobNotFound, JobNotRunning, State

SLOTS = 3


class Jobs(RuleBasedStateMachine):
    """A durable engine, closed and opened again, and its supervisor killed, in between.

    A job waits for a file `end`, writes its content out and exits with it as its code; so what must
    come of each is known. Only what is possible in a job's state is drawn.
    """

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.expected = {}  # id -> what must be: "runs", an exit code, "killed" or "lost"
        self.abandoned = set()  # ids whose supervisor is gone, on a kernel without exit statuses
        self.engine = None

    @initialize()
    def begin(self):
        self.open()

    def open(self):
        path = os.path.join(self.folder, "state")
        self.engine = Engine(path, settings=EngineSettings(max_running=SLOTS))

    def teardown(self):
        if self.engine is not None:
            for job_id in self.live():
                self.kill(job_id)
            assert all(marked(job_id) == [] for job_id in self.expected)
            self.engine.close()
        shutil.rmtree(self.folder)

    def live(self, *, started=None):
        jobs = [each for each, what in self.expected.items() if what == "runs"]
        if started is None:
            return jobs
        return [each for each in jobs if (self.engine.get(each).state is State.RUNNING) == started]

    @rule(owner=st.sampled_from("ab"))
    def submit(self, owner):
        end = f"{self.folder}/$WORKER_JOB_ID"
        script = f"until [ -e {end} ]; do sleep 0.005; done; cat {end}; exit $(cat {end})"
        self.expected[self.engine.submit(shell(script, timeout=300), owner).id] = "runs"

    @precondition(lambda self: self.live(started=True))
    @rule(data=st.data(), code=st.integers(0, 3))
    def finish(self, data, code):
        job_id = data.draw(st.sampled_from(self.live(started=True)))
        path = os.path.join(self.folder, job_id)
        with open(f"{path}.new", "w") as file:
            file.write(str(code))
        os.rename(f"{path}.new", path)
        self.engine.wait(job_id, 20)
        self.expected[job_id] = "lost" if job_id in self.abandoned else code

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def kill_one(self, data):
        self.kill(data.draw(st.sampled_from(self.live())))

    def kill(self, job_id):
        self.engine.kill(job_id, by="me", wait=20)
        self.expected[job_id] = "lost" if job_id in self.abandoned else "killed"

    @precondition(lambda self: self.live(started=True))
    @rule(data=st.data())
    def stop_and_continue(self, data):
        job_id = data.draw(st.sampled_from(self.live(started=True)))
        self.engine.signal(job_id, "STOP")
        self.engine.signal(job_id, "CONT")

    @precondition(lambda self: set(self.expected) - set(self.live()))
    @rule(data=st.data())
    def kill_too_late(self, data):
        ended = sorted(set(self.expected) - set(self.live()))
        try:
            self.engine.kill(data.draw(st.sampled_from(ended)))
        except JobNotRunning:
            return
        raise AssertionError("a job that has ended was killed")

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def remove(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.expected)))
        try:
            self.engine.remove(job_id)
        except JobNotFinished:
            assert self.expected[job_id] == "runs"
            return
        assert self.expected.pop(job_id) != "runs"
        try:
            self.engine.get(job_id)
        except JobNotFound:
            return
        raise AssertionError("a removed job was found")

    @rule()
    def open_again(self):
        self.engine.close()
        self.open()

    @precondition(lambda self: self.live(started=True))
    @rule()
    def kill_the_supervisor(self):
        running = self.live(started=True)
        for job_id in running:  # a start on its way may or may not have happened
            wait_until(lambda job_id=job_id: self.engine.get(job_id).started_at)
        pid = supervisor_pid(self.engine.state_dir)
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        if not reports_exit_status():
            self.abandoned.update(running)
        wait_until(lambda: supervisor_pid(self.engine.state_dir) not in (None, pid))
        wait_until(lambda: self.engine.health()["supervisor"] == "ok")

    @invariant()
    def every_record_is_true(self):
        if self.engine is None:
            return
        states = {job.id: job for job in self.engine.list(limit=1000).jobs}
        assert set(states) == set(self.expected)
        for job_id, what in self.expected.items():
            job = states[job_id]
            match what:
                case "runs":
                    assert job.state in (State.QUEUED, State.RUNNING)
                case "killed":
                    assert (job.state, job.killed_by) == (State.KILLED, "me")
                case "lost":
                    assert (job.state, job.exit_code, job.signal) == (State.LOST, None, None)
                case code:
                    assert job.state is (State.FAILED if code else State.COMPLETED)
                    assert job.exit_code == code
                    assert self.engine.read_output(job_id) == str(code).encode()

    @invariant()
    def every_slot_is_used(self):
        if self.engine is None:
            return
        live = len(self.live())
        assert self.engine.counts() == {
            "running": min(live, SLOTS),
            "queued": max(live - SLOTS, 0),
        }


Jobs.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestJobs = Jobs.TestCase
