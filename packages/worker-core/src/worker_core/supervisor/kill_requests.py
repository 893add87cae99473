"""Handles requests to signal or to end a job, by the state of the job.

    not begun           the start is given up; if the job begins nevertheless, it is killed then
    the leader runs     its tree gets the signal (killer.py)
    the leader has      a kill shortens the grace of the rest of the tree; a plain signal is
    ended               dropped
    recorded            nothing

Requests about the jobs of one owner take a bounded part of the time (turns.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from worker_core.model import signals
from worker_core.model.state import Cause
from worker_core.supervisor import turns
from worker_core.supervisor.killer import Killer
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.running_job import EndRequest, RunningJob
from worker_core.supervisor.starts import Starts
from worker_core.supervisor.sweeper import Sweeper
from worker_core.supervisor.turns import Turns


class KillRequests:
    """Carries out requests to signal or to end jobs."""

    def __init__(
        self,
        loop: Loop,
        jobs: Mapping[str, RunningJob],
        killer: Killer,
        share: Turns,
        *,
        starts: Starts,
        sweeper: Sweeper,
        end_unbegun: Callable[[RunningJob, EndRequest], None],
    ) -> None:
        """`end_unbegun` ends a job of which nothing has begun."""
        self._loop = loop
        self._jobs = jobs
        self._killer = killer
        self._turns = share
        self._starts = starts
        self._sweeper = sweeper
        self._end_unbegun = end_unbegun

    def signal(self, job_id: str, signum: int) -> None:
        """Send a signal to the tree, without the wish to end the job."""
        job = self._jobs.get(job_id)
        if job is not None:
            what = job_id, signum
            self._turns.signal(job.owner, what, lambda: self._signal(job_id, signum))

    def kill(
        self,
        job_id: str,
        *,
        cause: Cause = Cause.KILL,
        reason: str | None = None,
        signum: int | None = None,
        grace: float | None = None,
    ) -> None:
        """End a job: send the stop signal to its tree, and SIGKILL after the grace.

        Without `signum` and `grace` those of the job count. A further request can only shorten the
        grace. A leader that has ended or is exiting ended by itself, and keeps its outcome.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return
        if signum is None:
            signum = signals.number(job.spec["stop_signal"])
        if grace is None:
            grace = job.spec["stop_grace"]
        request = EndRequest(cause, reason, signum, grace)
        self._turns.kill(
            job.owner,
            (job_id, signum),
            lambda: self._kill(job_id, request),
            due=self._loop.clock.monotonic() + grace,
            rest=turns.ONCE if job.kill is None else turns.OFTEN,
        )

    def end(self, job: RunningJob, cause: Cause, reason: str) -> None:
        """End a job for a reason of its own: its time is over, or its output cannot be capped."""
        self.kill(job.id, cause=cause, reason=reason)

    def begun(self, job: RunningJob) -> None:
        """Carry out what was asked for while the job was being started."""
        request, job.end_request = job.end_request, None
        if request is not None and request.cause is not Cause.NOT_STARTED:
            self._loop.attempt(lambda: self._killer.kill(job, request))
        for signum in job.early_signals:
            self.signal(job.id, signum)
        job.early_signals.clear()

    def _signal(self, job_id: str, signum: int) -> None:
        self._starts.launchers.hear()  # a leader's end, after which its pid may be another's
        job = self._jobs.get(job_id)
        if job is None or job.end is not None:
            return
        if job.leader is not None:
            self._killer.signal(job, signum)
        elif job.pid is None and signum not in job.early_signals:
            job.early_signals.append(signum)  # it may run already, unknown to us

    def _kill(self, job_id: str, request: EndRequest) -> None:
        self._starts.launchers.hear()  # a leader's end, after which its pid may be another's
        job = self._jobs.get(job_id)
        if job is None:
            return
        if job.grace_until:
            self._killer.hasten(job, request)
            self._sweeper.hasten(job)
        elif job.end is not None or job.gone:
            return
        elif job.pid is not None:
            self._killer.kill(job, request)
        elif not self._starts.end(job, request):
            self._end_unbegun(job, request)
