"""Requests that stay: those that follow output, read events, or wait for an end.

Each holds a thread, so there is a cap on them, below the number of threads: past it the others
are told to come back, and short requests always find a thread. The last eighth of the places is
kept for users who have none yet, so that no user alone can shut the others out.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator

import falcon
import worker_core

from worker_daemon import problems

# Seconds between two looks at whether the client is still there, and still has a login.
HEARTBEAT = 0.8
WRITE = "worker_daemon.write"  # where `app.App` puts the WSGI server's write
LOGGED_IN = "worker_daemon.logged_in"  # where the server puts `channel.TlsChannel.logged_in`
_NO_LOGIN = "the user was removed, or has a new password"


class LongRequests:
    """The cap on requests that stay, and `count`, how many there are."""

    def __init__(
        self,
        most: int,
        draining: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        *,
        code: str = "too_many_followers",
        what: str = "too many long-lived requests",
    ) -> None:
        self._most = most
        self._code, self._what = code, what
        self._draining = draining
        self._clock = clock
        self._lock = threading.Lock()
        self._of_user: Counter[str] = Counter()
        self.count = 0

    def enter(self, user: str) -> contextlib.ExitStack:
        """Take a place; closing what is returned gives it back.

        Raises Problem when the places are taken, or while the daemon is ending.
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
        """Return the job once it has ended, or as it is when the time is up or nobody listens.

        Raises Problem when the login of the request counts no more.
        """
        if job.state.final or not seconds:
            return job
        deadline = self._clock() + seconds
        with self.enter(req.context.user):
            while not job.state.final and not self.over(req):
                left = deadline - self._clock()
                if left <= 0:
                    break
                job = engine.wait(job.id, min(left, HEARTBEAT))
                if not req.context.stands():
                    raise problems.unauthorized(_NO_LOGIN)
        return job

    def over(self, req: falcon.Request) -> bool:
        """Say whether to stop: the client has left, or the daemon is ending."""
        return self._draining.is_set() or gone(req)

    def _leave(self, user: str) -> None:
        with self._lock:
            self.count -= 1
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]


def gone(req: falcon.Request) -> bool:
    """Say whether the client has hung up, as far as the server can tell."""
    hung_up = req.env.get("waitress.client_disconnected")
    return hung_up is not None and bool(hung_up())


def check_login(req: falcon.Request) -> None:
    """Break the answer off when the login of its request counts no more.

    The OSError makes the server end the connection, so that no client takes it for the end of what
    it reads; whoever comes back is told why.
    """
    if not req.context.stands():
        raise ConnectionAbortedError(_NO_LOGIN)


def while_logged_in(
    req: falcon.Request, chunks: Generator[bytes, None, None]
) -> Generator[bytes, None, None]:
    """Yield the chunks of an answer, each after a look at the login of its request."""
    with contextlib.closing(chunks):
        for chunk in chunks:
            check_login(req)
            yield chunk


def pass_on(resp: falcon.Response) -> None:
    """Ask proxies to pass the answer on as it comes, neither collected nor compressed."""
    resp.set_header("X-Accel-Buffering", "no")  # nginx, and others that follow it
    resp.set_header("Cache-Control", f"{problems.ALWAYS['Cache-Control']}, no-transform")


def send_head(req: falcon.Request) -> None:
    """Send status and headers now; a WSGI server waits with them for the first byte of the body."""
    write = req.env.get(WRITE)
    if write is not None:
        write(b"")


class Stream:
    """A body that is made while it is sent. `ending` is closed when no more of it will be."""

    def __init__(
        self, chunks: Generator[bytes, None, None], ending: contextlib.ExitStack | None = None
    ) -> None:
        self._chunks = chunks
        self.ending = ending or contextlib.ExitStack()

    def __iter__(self) -> Generator[bytes, None, None]:
        return self._chunks

    def close(self) -> None:
        """End it: WSGI's promise is that this is called whatever happens."""
        with self.ending:
            self._chunks.close()
