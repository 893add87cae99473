"""Long-lived requests: those that follow output, read events, or wait for the end of a job.

Each of them holds a thread. Their number is limited below the number of threads, so that short
requests always find one; a request above the limit is refused with 503 and Retry-After. The last
eighth of the places is for users who have none yet, so that no user can keep the others out.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Generator, Iterator

import falcon
import worker_core

from worker_daemon import problems

# Seconds between two checks whether the client is still connected and its login still valid.
HEARTBEAT = 0.8
WRITE = "worker_daemon.write"  # WSGI environ: the server's write(), set by `app.App`
_NO_LOGIN = "the user was removed, or the password was changed"


class LongRequests:
    """Limits the number of long requests; `count` is how many there are now."""

    def __init__(
        self,
        most: int,
        draining: threading.Event,
        *,
        code: str = "too_many_followers",
        what: str = "too many long-lived requests",
    ) -> None:
        self._most = most
        self._code, self._what = code, what
        self._draining = draining
        self._lock = threading.Lock()
        self._of_user: Counter[str] = Counter()
        self.count = 0
        self._waits: dict[worker_core.Cancellation, falcon.Request] = {}
        self._supervised = False  # whether `_supervise` runs

    def enter(self, user: str) -> contextlib.ExitStack:
        """Take a place, which is given back when the returned stack is closed.

        Raises Problem when all places are taken, or while the daemon shuts down.
        """
        if self._draining.is_set():
            raise problems.draining()
        with self._lock:
            own = self._of_user[user]
            if self.count >= self._most - (self._most // 8 if own else 0):
                whose = f", {own} of them yours" if own else ""
                raise problems.Problem(
                    self._code, f"{self._what} ({self.count} open{whose}); retry shortly"
                )
            self._of_user[user] += 1
            self.count += 1
        place = contextlib.ExitStack()
        place.callback(self._leave, user)
        return place

    def wait(
        self, engine: worker_core.Engine, job: worker_core.Job, req: falcon.Request, seconds: float
    ) -> worker_core.Job:
        """Return the job once it has ended, or its record after `seconds`.

        Returns early when the client has left. Raises Problem when its login is no longer valid.
        """
        if job.state.final or not seconds:
            return job
        with self.enter(req.context.user), self._cancelled_when_over(req) as cancel:
            job = engine.wait(job.id, seconds, cancel=cancel)
        if not req.context.stands():
            raise problems.unauthorized(_NO_LOGIN)
        return job

    @contextlib.contextmanager
    def _cancelled_when_over(self, req: falcon.Request) -> Iterator[worker_core.Cancellation]:
        """Yield what ends a wait when its client has left or its login is no longer valid."""
        cancel = worker_core.Cancellation()
        with self._lock:
            self._waits[cancel] = req
            if not self._supervised:
                self._start_supervising()
        try:
            if self.over(req):
                cancel.request()
            yield cancel
        finally:
            with self._lock:
                del self._waits[cancel]

    def _start_supervising(self) -> None:
        thread = threading.Thread(target=self._supervise, name="worker-waits", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit on threads: then waits end with the job or by timeout
            return
        self._supervised = True

    def _supervise(self) -> None:
        """Look at all waiting requests regularly, in a thread of its own, while there are any.

        One thread that looks at all of them costs less than each of them waking up by itself.
        """
        while True:
            self._draining.wait(HEARTBEAT)
            with self._lock:
                waits = list(self._waits.items())
                if not waits or self._draining.is_set():
                    self._supervised = False
            for cancel, req in waits:
                if self.over(req) or not req.context.stands():
                    cancel.request()
            if not waits or self._draining.is_set():
                return

    def over(self, req: falcon.Request) -> bool:
        """Return whether to stop: the client has left, or the daemon shuts down."""
        return self._draining.is_set() or gone(req)

    def _leave(self, user: str) -> None:
        with self._lock:
            self.count -= 1
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]


def gone(req: falcon.Request) -> bool:
    """Return whether the client has closed the connection, as far as the server knows."""
    hung_up = req.env.get("waitress.client_disconnected")
    return hung_up is not None and bool(hung_up())


def check_login(req: falcon.Request) -> None:
    """Raise an OSError if the login of a request is no longer valid.

    The server then breaks the connection off, so that the client cannot take this for the end of
    the answer. When it connects again it gets 401.
    """
    if not req.context.stands():
        raise ConnectionAbortedError(_NO_LOGIN)


def while_logged_in(
    req: falcon.Request, chunks: Generator[bytes, None, None]
) -> Generator[bytes, None, None]:
    """Yield the chunks of an answer, and check the login of its request before each."""
    with contextlib.closing(chunks):
        for chunk in chunks:
            check_login(req)
            yield chunk


def pass_on(resp: falcon.Response) -> None:
    """Ask proxies to forward the answer at once, without buffering or compressing it."""
    resp.set_header("X-Accel-Buffering", "no")  # nginx, and others that imitate it
    resp.set_header("Cache-Control", f"{problems.ALWAYS['Cache-Control']}, no-transform")


def send_head(req: falcon.Request) -> None:
    """Send status and headers now; a WSGI server otherwise waits for the first byte of the body."""
    write = req.env.get(WRITE)
    if write is not None:
        write(b"")


class Stream:
    """A body that is made while it is sent. `ending` is closed at its end."""

    def __init__(
        self, chunks: Generator[bytes, None, None], ending: contextlib.ExitStack | None = None
    ) -> None:
        self._chunks = chunks
        self.ending = ending or contextlib.ExitStack()

    def __iter__(self) -> Generator[bytes, None, None]:
        return self._chunks

    def close(self) -> None:
        """End it. A WSGI server calls this in every case."""
        with self.ending:
            self._chunks.close()
