"""Client: everything that `worker` does, for programs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from worker_cli import errors, parsing
from worker_cli.handle import JobHandle
from worker_cli.job import JobRecord, JobStatus
from worker_cli.net import address, transport
from worker_cli.output import POLL_SECONDS, Output
from worker_cli.ui import humanize

if TYPE_CHECKING:
    from worker_cli.settings.config import Settings

_WAIT_SECONDS = 30.0
_KILL_SECONDS = 10.0
_PAGE = 200


class Client:
    """One user's view of one workerd.

    Use it as a context manager, or call `close`. Any thread may use it. Every method raises
    Unreachable (with Untrusted and Dropped), NotLoggedIn, or Refused with the server's `code`;
    where a method's own text names JobNotFound, that is a Refused too.

    Requests that read, and `run`, are sent again when the connection is lost; a job never runs
    twice for it. A server that was reached once is waited for during `patience` seconds when it
    goes away, as it does while it is being restarted.
    """

    def __init__(
        self,
        server: str = address.DEFAULT,
        *,
        user: str,
        password: str,
        cacert: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
        patience: float = 30.0,
    ) -> None:
        """Prepare to talk to `server`; nothing is sent yet.

        `cacert` is the only CA that is trusted; None trusts the system's. Raises Untrusted when
        it cannot be used, or when the address is not https; SettingsError for a malformed address,
        a user name with a colon, which HTTP Basic cannot carry, or a name or password that is no
        UTF-8.

        `cert` and `key` are PEM files, for a server that demands a certificate besides the
        password; without `key` it is in the file of `cert`. Raises SettingsError when they cannot
        be used.
        """
        if ":" in user:
            raise errors.SettingsError(f"the user name {user!r} contains a colon")
        for what, text in (("user name", user), ("password", password)):
            if not parsing.is_unicode(text):
                raise errors.SettingsError(f"the {what} is not UTF-8, and servers take no other")
        self.server = address.normal(server)
        self.user = user
        self._transport = transport.Transport(
            self.server,
            user=user,
            password=password,
            cacert=None if cacert is None else Path(cacert),
            cert=None if cert is None else Path(cert),
            key=None if key is None else Path(key),
            patience=patience,
        )

    @classmethod
    def from_settings(
        cls,
        *,
        profile: str | None = None,
        server: str | None = None,
        user: str | None = None,
        cacert: str | None = None,
    ) -> Self:
        """Make a client from the settings that the `worker` command uses.

        What is given comes before the environment, then the configuration file and what
        `worker login` stored. Raises SettingsError and NotLoggedIn.
        """
        from worker_cli.settings import config, credentials

        given = config.Given(server=server, user=user, cacert=cacert, profile=profile)
        settings = config.load(given)
        return cls.of(settings, *credentials.find(settings))

    @classmethod
    def of(cls, settings: Settings, user: str, password: str) -> Self:
        """Make a client for the server of some settings, with its CA and our certificate."""
        return cls(
            settings.server,
            user=user,
            password=password,
            cacert=settings.cacert,
            cert=settings.cert,
            key=settings.key,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def on_outage(
        self,
        tell: Callable[[errors.Unreachable], object],
        over: Callable[[], object] = lambda: None,
    ) -> None:
        """Have `tell(error)` called before each further try of what was not answered.

        `over()` is called at the first answer after that. The thread that waits calls them, and
        waits for them. Nothing is told by default.
        """
        self._transport.on_outage = tell
        self._transport.on_return = over

    def close(self) -> None:
        """Close the connections; jobs go on."""
        self._transport.close()

    def run(
        self,
        command: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stop_signal: str | None = None,
        stop_grace: float | None = None,
        separate_stderr: bool = False,
        output_limit: int | None = None,
        limits: Mapping[str, Any] | None = None,
        isolation: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle:
        """Create a job and return it; it is stored for good, but has perhaps not started yet.

        A command that cannot be found is no error here: the job exists and has failed. Strings
        may carry any byte through surrogateescape, as `os.fsdecode` makes them. `timeout` and
        `stop_grace` are seconds, `output_limit` is bytes; None leaves a default to the server.

        `limits` may have `memory` and `file_size` in bytes, `cpus`, `pids`, `open_files`,
        `cpu_time` in seconds, `io` as {"read": …, "write": …} in bytes per second, and
        `best_effort`, without which a limit that the server cannot enforce refuses the job;
        the record's `enforced` tells what held. `isolation` may have `private_network`,
        `private_tmp`, `read_only`, `writable` as a list of directories, and `pid_namespace`.

        Two calls with the same `idempotency_key` make one job; without one, each call makes its
        own. Raises Refused with code "invalid_job" and the fields that are wrong in `errors`.
        """
        fields: dict[str, Any] = {
            "env": env,
            "cwd": cwd,
            "stdin": None if stdin is None else {"base64": base64.b64encode(stdin).decode("ascii")},
            "name": name,
            "labels": labels,
            "timeout": timeout,
            "stop_signal": stop_signal,
            "stop_grace": stop_grace,
            "separate_stderr": separate_stderr or None,
            "output_limit": output_limit,
            "limits": limits,
            "isolation": isolation,
        }
        body = {key: value for key, value in fields.items() if value is not None}
        import uuid  # only here, and not quick to import

        answer = self._transport.call(
            "POST",
            "/jobs/run",
            body={"command": command, "args": list(args)} | body,
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
            repeat=True,
        )
        return JobHandle(self, self._status(answer).id)

    def job(self, job_id: str) -> JobHandle:
        """Return a handle on a job by its whole id; the server is not asked."""
        return JobHandle(self, job_id)

    def status(self, job_id: str) -> JobStatus:
        """Return the state of a job; raise JobNotFound."""
        return self._status(self._get(job_id, "/status"))

    def get(self, job_id: str) -> JobRecord:
        """Return the whole record of a job, what was asked for included; raise JobNotFound."""
        return self._record(self._get(job_id, ""))

    def wait(self, job_id: str, timeout: float | None = None) -> JobStatus:
        """Wait until the job has ended, or `timeout` seconds; return its state then."""
        clock = self._transport.clock
        give_up = None if timeout is None else clock() + timeout
        while True:
            left = _WAIT_SECONDS if give_up is None else max(0.0, give_up - clock())
            status = self._wait_once(job_id, min(left, _WAIT_SECONDS))
            if status.ended or (give_up is not None and clock() >= give_up):
                return status

    def _wait_once(self, job_id: str, seconds: float) -> JobStatus:
        params = {"wait": f"{seconds:.3f}"}
        try:
            answer = self._get(job_id, "/status", params, seconds + transport.ANSWER_SECONDS)
        except errors.Refused as error:
            if error.code != transport.FOLLOWERS_FULL:
                raise
            self._transport.sleep(min(seconds, error.retry_after or POLL_SECONDS))
            return self.status(job_id)
        return self._status(answer)

    def output(
        self, job_id: str, *, stream: str = "stdout", offset: int = 0, tail: int | None = None
    ) -> bytes:
        """Return the output that there is now, from byte `offset` on or its last `tail` lines.

        For more than fits in memory, see `chunks`. `stream` may be "stderr" for a job with
        separate_stderr. Raises JobNotFound.
        """
        return b"".join(self.chunks(job_id, stream=stream, offset=offset, tail=tail))

    def chunks(
        self,
        job_id: str,
        *,
        stream: str = "stdout",
        offset: int = 0,
        tail: int | None = None,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Output:
        """Return the output that there is now as an iterable of chunks of at most 64 KiB.

        `on_gap(start, end)` is called where the server has given bytes back to its disk, which it
        does with the oldest ones of a job that writes more than its output limit.
        """
        where = {"stream": stream, "offset": offset, "tail": tail, "on_gap": on_gap}
        return self._reader(job_id, follow=False, **where)

    def follow(
        self,
        job_id: str,
        *,
        stream: str = "stdout",
        offset: int = 0,
        tail: int | None = None,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Output:
        """Return the output as `chunks` does, going on until the job has ended and all was read.

        With `tail`, it begins with the last lines of what there is now.
        """
        where = {"stream": stream, "offset": offset, "tail": tail, "on_gap": on_gap}
        return self._reader(job_id, follow=True, **where)

    def _reader(self, job_id: str, **options: Any) -> Output:
        return Output(self._transport, f"{_path(job_id)}/out", **options)

    def kill(
        self,
        job_id: str,
        *,
        signal: str | int | None = None,
        grace: float | None = None,
        now: bool = False,
        reason: str | None = None,
        wait: float = _KILL_SECONDS,
    ) -> str:
        """Stop a job and everything it started; return its status after at most `wait` seconds.

        The server waits 60 at most. The status is "stopping" while the job has not ended yet.
        `signal` is sent first and SIGKILL after `grace` seconds, or at once with `now`. Raises
        JobNotRunning, which says how the job ended, when it ended by itself first; JobNotFound;
        Dropped when the answer was lost, and the job may have been stopped or not.
        """
        fields = {"signal": signal, "grace": grace, "now": now or None, "reason": reason}
        answer = self._transport.call(
            "PUT",
            f"{_path(job_id)}/kill",
            params={"wait": f"{wait:g}"},
            body={key: value for key, value in fields.items() if value is not None},
            seconds=wait + transport.ANSWER_SECONDS,
        )
        return self._status(answer).status

    def signal(self, job_id: str, signal: str | int) -> str:
        """Send a signal to a job's processes without the wish to end it; return its status.

        Raises JobNotRunning and JobNotFound.
        """
        answer = self._transport.call("PUT", f"{_path(job_id)}/signal", body={"signal": signal})
        return self._status(answer).status

    def remove(self, job_id: str) -> None:
        """Remove the record and the output of a finished job; raise JobNotFinished, JobNotFound."""
        self._transport.call("DELETE", _path(job_id))

    def list(
        self,
        *,
        status: str | Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        id_prefix: str | None = None,
        since: datetime | timedelta | None = None,
        ended_before: datetime | timedelta | None = None,
        limit: int | None = None,
    ) -> Iterator[JobRecord]:
        """Yield the user's jobs, newest first, that match everything given; at most `limit`.

        Pages are fetched as they are needed. `since` is the earliest time of creation and
        `ended_before` the latest time of the end: an aware datetime, or a timedelta for how long
        ago that is by the server's clock.
        """
        params: dict[str, Any] = {
            "status": [status] if isinstance(status, str) else [*status],
            "label": [f"{key}={value}" for key, value in (labels or {}).items()],
            "name": name,
            "id_prefix": id_prefix,
            "since": _moment(since),
            "ended_before": _moment(ended_before),
        }
        left = limit
        while left is None or left > 0:
            params["limit"] = _PAGE if left is None else min(left, _PAGE)
            answer = self._transport.call("GET", "/jobs", params=params, repeat=True)
            jobs = answer.get("jobs") or ()
            for each in jobs:
                yield self._record(each)
            params["cursor"] = answer.get("next_cursor")
            if not jobs or not params["cursor"]:
                return
            left = None if left is None else left - len(jobs)

    @property
    def clock_ahead(self) -> float:
        """Seconds by which the server's clock is ahead of this machine's, as of the latest answer.

        0.0 before any. It is exact to a second and the time that an answer takes.
        """
        return self._transport.clock_ahead

    def server_time(self) -> datetime:
        """Return the time by the server's clock, from which the stamps in records are."""
        return humanize.now() + timedelta(seconds=self.clock_ahead)

    def whoami(self) -> dict[str, Any]:
        """Return what the server knows of this user; the name is in "user"."""
        return self._transport.call("GET", "/whoami", repeat=True)

    def version(self) -> dict[str, Any]:
        """Return what the server says of itself; its version is in "version"."""
        return self._transport.call("GET", "/version", repeat=True)

    def _get(
        self,
        job_id: str,
        tail: str,
        params: Mapping[str, Any] | None = None,
        seconds: float = transport.ANSWER_SECONDS,
    ) -> dict[str, Any]:
        path = _path(job_id) + tail
        return self._transport.call("GET", path, params=params, repeat=True, seconds=seconds)

    def _status(self, answer: Mapping[str, Any]) -> JobStatus:
        return self._transport.understood(JobStatus.from_json, answer)

    def _record(self, answer: Mapping[str, Any]) -> JobRecord:
        return self._transport.understood(JobRecord.from_json, answer)


def _moment(when: datetime | timedelta | None) -> str | None:
    if isinstance(when, timedelta):
        return f"{max(when, timedelta()) // timedelta(milliseconds=1)}ms"
    return None if when is None else when.isoformat()


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='', errors='surrogateescape')}"
