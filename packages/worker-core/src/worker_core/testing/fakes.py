"""A fake executor and a fake clock."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from worker_core.disk.jobdir import Exit, Pid
from worker_core.executor import Listener
from worker_core.model import signals
from worker_core.model.errors import FieldError
from worker_core.model.kill import KillRequest
from worker_core.model.spec import JobSpec
from worker_core.model.state import Cause
from worker_core.model.usage import Usage

_NOTHING = Usage(wall_seconds=0.0)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._set = 0.0

    def now(self) -> float:
        """Return the time that it was set to."""
        return self._now + self._set

    def monotonic(self) -> float:
        """Return the first time plus all that `advance` has added."""
        return self._now

    def set(self, seconds: float) -> None:
        """Set the UTC clock forward or back, while no time passes."""
        self._set += seconds

    def advance(self, seconds: float) -> None:
        """Move it forward."""
        self._now += seconds


class FakeExecutor:
    """Runs nothing, and reports as if it did.

    `true` ends with 0 and `false` with 1 at once, `sleep` runs until it is killed or `finish` is
    called, every other command is not found. There are no files; a job's output is empty.
    """

    def __init__(self) -> None:
        self._running: dict[str, Pid] = {}
        self._ended: dict[str, Exit] = {}
        self._news: queue.SimpleQueue[Callable[[Listener], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def connect(self, listener: Listener) -> None:
        """Start reporting."""
        self._thread = threading.Thread(target=self._tell, args=(listener,), daemon=True)
        self._thread.start()
        self._news.put(lambda to: to.connected())

    def start(self, job_id: str, spec: dict[str, Any]) -> None:
        """Pretend to start a job; a second start does nothing."""
        with self._lock:
            if job_id in self._ended:
                end = self._ended[job_id]
                self._news.put(lambda to: to.exited(job_id, end))
                return
            if spec["command"] not in ("true", "false", "sleep"):
                reason = f"{spec['command']}: command not found"
                self._end(job_id, Exit(Cause.NOT_STARTED, 127, None, reason, time.time()))
                return
            pid = self._running.setdefault(
                job_id, Pid(100_000 + len(self._running), 0, "fake", time.time())
            )
            self._news.put(lambda to: to.started(job_id, pid.pid, pid.started_at, {}))
        if spec["command"] != "sleep":
            self.finish(job_id, exit_code=int(spec["command"] == "false"))

    def finish(
        self, job_id: str, *, exit_code: int | None = None, signal: int | None = None
    ) -> None:
        """Pretend that a job ends by itself."""
        reason = signals.failure_reason(exit_code, signal)
        with self._lock:
            self._end(job_id, Exit(Cause.OWN, exit_code, signal, reason, time.time(), _NOTHING))

    def kill(self, job_id: str, request: KillRequest) -> None:
        """Pretend that a signal ends a job."""
        number = signals.number(request.signal or "TERM")
        with self._lock:
            if job_id in self._running:
                now = time.time()
                self._end(job_id, Exit(Cause.KILL, None, number, request.reason, now, _NOTHING))

    def signal(self, job_id: str, signum: int) -> None:
        """Pretend that SIGKILL ends a job; other signals do nothing."""
        if signum == signals.number("KILL") and job_id in self._running:
            self.finish(job_id, signal=signum)

    def query(self, job_ids: Iterable[str]) -> None:
        """Report the state of jobs."""
        with self._lock:
            jobs = {job_id: self._known(job_id) for job_id in job_ids}
            self._news.put(lambda to: to.known(jobs))

    def unenforceable(self, spec: JobSpec) -> list[FieldError]:  # noqa: ARG002
        """Return nothing: every limit is accepted."""
        return []

    hanging_starts = 0

    def fault(self) -> str | None:
        """Return None: it always answers."""
        return None

    def close(self, *, end_jobs: bool) -> None:
        """Stop reporting; with `end_jobs`, end all jobs first."""
        if end_jobs:
            for job_id in list(self._running):
                self.kill(job_id, KillRequest(signal=signals.number("KILL")))
        self._news.put(None)
        if self._thread is not None:
            self._thread.join()

    def _known(self, job_id: str) -> dict[str, Any]:
        if job_id in self._ended:
            return {"exit": self._ended[job_id].to_dict()}
        return {"running": asdict(self._running[job_id])} if job_id in self._running else {}

    def _end(self, job_id: str, end: Exit) -> None:
        self._running.pop(job_id, None)
        if self._ended.setdefault(job_id, end) is end:
            self._news.put(lambda to: to.exited(job_id, end))

    def _tell(self, listener: Listener) -> None:
        while (news := self._news.get()) is not None:
            news(listener)
            listener.caught_up()
