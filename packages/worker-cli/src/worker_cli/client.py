"""Client: the verbs of the `worker` command, for programs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
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
    """A connection of one user to one workerd server.

    Use it as a context manager, or call `close`. Any thread may use it. Every method raises
    Unreachable (or its subclasses Untrusted, ServerUnavailable and ConnectionLost), NotLoggedIn,
    or RequestRefused with the server's `code`. JobNotFound, JobNotRunning and JobNotFinished are
    kinds of RequestRefused.

    `run`, and every request that only reads, is sent again when the connection is lost; `run`
    still creates only one job. When a server that was reached once becomes unavailable, as during
    a restart, requests are repeated for `patience` seconds.
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
        """Set up a client for `server`; nothing is sent yet.

        `cacert` is the only CA that is trusted; None trusts the system's CAs. `cert` and `key` are
        PEM files, for a server that requires a client certificate besides the password; without
        `key`, the key is in the file of `cert`.

        Raises Untrusted when `cacert` cannot be used or the address is not https. Raises
        SettingsError for an invalid address, for an unusable `cert` or `key`, for a user name with
        a colon (HTTP Basic cannot transmit it), and for a user or password that is not UTF-8.
        """
        if ":" in user:
            raise errors.SettingsError(f"the user name {user!r} contains a colon")
        for what, text in (("user name", user), ("password", password)):
            if not parsing.is_unicode(text):
                raise errors.SettingsError(f"the {what} is not UTF-8; servers accept only UTF-8")
        self.server = address.normalized(server)
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
        """Return a client with the settings that the `worker` command uses.

        The arguments take precedence over the environment, then come the configuration file and
        what `worker login` saved. Raises SettingsError and NotLoggedIn.
        """
        from worker_cli.settings import config, credentials

        overrides = config.Overrides(server=server, user=user, cacert=cacert, profile=profile)
        settings = config.load(overrides)
        return cls.of(settings, *credentials.find(settings))

    @classmethod
    def of(cls, settings: Settings, user: str, password: str) -> Self:
        """Return a client for the server, CA and client certificate in `settings`."""
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
        lost: Callable[[errors.Unreachable], object],
        restored: Callable[[], object] = lambda: None,
    ) -> None:
        """Call `lost(error)` before each retry of a request that got no answer.

        `restored()` is called at the first answer after that. Both are called in the thread that
        sends the request, which waits for them to return. By default nothing is called.
        """
        self._transport.on_outage = lost
        self._transport.on_return = restored

    def close(self) -> None:
        """Close the connections; jobs keep running."""
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
        priority: int | None = None,
        hold: bool = False,
        start_after: datetime | None = None,
        lock: str | None = None,
        after: Iterable[Mapping[str, str]] | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle:
        """Create a job and return a handle on it; it is stored, but may not have started yet.

        A command that does not exist is not an error here: the job is created and then fails.
        Strings may contain any byte through surrogateescape, as `os.fsdecode` returns them.
        `timeout` and `stop_grace` are seconds, `output_limit` is bytes; None means the server's
        default.

        `limits` may contain `memory` and `file_size` in bytes, `cpus`, `pids`, `open_files`,
        `cpu_time` in seconds, and `io` as {"read": …, "write": …} in bytes per second. The server
        refuses the job when it cannot enforce a limit, unless `best_effort` is true; the record's
        `enforced` says what enforces each. `isolation` may contain `private_network`,
        `private_tmp`, `read_only`, `writable` as a list of directories, and `pid_namespace`.

        Of your waiting jobs the one with the highest `priority` (-100 to 100) starts first. A job
        with `hold` waits for `release`, and none starts before its `start_after`.
        Of your jobs with the same `lock`, one runs at a time.
        `after` names jobs that must first reach a state: {"job": id, "when": "success"},
        or "failure", "end" or "start". If that can never come true, the job is skipped.

        Calls with the same `idempotency_key` create one job; without a key, each call creates its
        own. Raises RequestRefused with code "invalid_job" and the wrong fields in `errors`.
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
            "priority": priority,
            "hold": hold or None,
            "start_after": _stamp(start_after),
            "lock": lock,
            "after": None if after is None else [dict(each) for each in after],
        }
        body = {key: value for key, value in fields.items() if value is not None}
        import uuid  # here, because the import is slow and only `run` needs it

        answer = self._transport.call(
            "POST",
            "/jobs/run",
            body={"command": command, "args": list(args)} | body,
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
            repeat=True,
        )
        return JobHandle(self, self._status(answer).id)

    def job(self, job_id: str) -> JobHandle:
        """Return a handle on a job by its full id, without a request."""
        return JobHandle(self, job_id)

    def status(self, job_id: str) -> JobStatus:
        """Return the state of a job; raise JobNotFound."""
        return self._status(self._get(job_id, "/status"))

    def get(self, job_id: str) -> JobRecord:
        """Return the full record of a job, including what was requested; raise JobNotFound."""
        return self._record(self._get(job_id, ""))

    def wait(self, job_id: str, timeout: float | None = None) -> JobStatus:
        """Wait until the job has ended, at most `timeout` seconds; return its state then."""
        clock = self._transport.clock
        deadline = None if timeout is None else clock() + timeout
        while True:
            remaining = _WAIT_SECONDS if deadline is None else max(0.0, deadline - clock())
            status = self._wait_once(job_id, min(remaining, _WAIT_SECONDS))
            if status.ended or (deadline is not None and clock() >= deadline):
                return status

    def _wait_once(self, job_id: str, seconds: float) -> JobStatus:
        params = {"wait": f"{seconds:.3f}"}
        try:
            answer = self._get(job_id, "/status", params, seconds + transport.ANSWER_SECONDS)
        except errors.RequestRefused as error:
            if error.code != transport.TOO_MANY_FOLLOWERS:
                raise
            self._transport.sleep(min(seconds, error.retry_after or POLL_SECONDS))
            return self.status(job_id)
        return self._status(answer)

    def output(
        self, job_id: str, *, stream: str = "stdout", offset: int = 0, tail: int | None = None
    ) -> bytes:
        """Return the output so far, from byte `offset` on or only its last `tail` lines.

        Use `chunks` for output that does not fit in memory. `stream` may be "stderr" for a job
        with separate_stderr. Raises JobNotFound.
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
        """Return the output so far as an iterable of chunks of at most 64 KiB.

        `on_gap(start, end)` is called for bytes that the server no longer has: of a job that
        writes more than its output limit, it deletes the oldest output.
        """
        options = {"stream": stream, "offset": offset, "tail": tail, "on_gap": on_gap}
        return self._output(job_id, follow=False, **options)

    def follow(
        self,
        job_id: str,
        *,
        stream: str = "stdout",
        offset: int = 0,
        tail: int | None = None,
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Output:
        """Return the output as `chunks` does, and continue until the job has ended.

        With `tail`, it begins with the last lines of the output so far.
        """
        options = {"stream": stream, "offset": offset, "tail": tail, "on_gap": on_gap}
        return self._output(job_id, follow=True, **options)

    def _output(self, job_id: str, **options: Any) -> Output:
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
        """Kill a job and everything it started; return its status after at most `wait` seconds.

        `wait` is at most 60. The status is "stopping" if the job has not ended by then. `signal`
        is sent first, and SIGKILL after `grace` seconds, or at once with `now`. Raises
        JobNotRunning, which says how the job ended, when it ended by itself first; JobNotFound;
        ConnectionLost when the answer was lost: the job may have been killed or not.
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
        """Send a signal to a job's processes, without killing the job; return its status.

        Raises JobNotRunning and JobNotFound.
        """
        answer = self._transport.call("PUT", f"{_path(job_id)}/signal", body={"signal": signal})
        return self._status(answer).status

    def update(
        self,
        job_id: str,
        *,
        priority: int | None = None,
        hold: bool | None = None,
        start_after: datetime | None = None,
    ) -> JobRecord:
        """Change what a waiting job waits for; None leaves it as it is. Return its record.

        A `start_after` that has passed is no time. Raises RequestRefused with code
        "job_not_waiting" when the job has started or ended, and JobNotFound.
        """
        changes = {"priority": priority, "hold": hold, "start_after": _stamp(start_after)}
        body = {name: value for name, value in changes.items() if value is not None}
        return self._record(self._transport.call("PATCH", _path(job_id), body=body, repeat=True))

    def hold(self, job_id: str) -> JobRecord:
        """Keep a waiting job from starting; see `update`."""
        return self.update(job_id, hold=True)

    def release(self, job_id: str) -> JobRecord:
        """Let a held job start; see `update`."""
        return self.update(job_id, hold=False)

    def remove(self, job_id: str) -> None:
        """Delete the record and the output of a finished job; raise JobNotFinished, JobNotFound."""
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
        """Yield the user's jobs that match all arguments, newest first; at most `limit`.

        Pages are fetched when they are needed. `since` is the earliest time of creation and
        `ended_before` the latest time of the end: an aware datetime, or a timedelta before the
        server's present time.
        """
        params: dict[str, Any] = {
            "status": [status] if isinstance(status, str) else [*status],
            "label": [f"{key}={value}" for key, value in (labels or {}).items()],
            "name": name,
            "id_prefix": id_prefix,
            "since": _time_parameter(since),
            "ended_before": _time_parameter(ended_before),
        }
        remaining = limit
        while remaining is None or remaining > 0:
            params["limit"] = _PAGE if remaining is None else min(remaining, _PAGE)
            answer = self._transport.call("GET", "/jobs", params=params, repeat=True)
            jobs = answer.get("jobs") or ()
            for job in jobs:
                yield self._record(job)
            params["cursor"] = answer.get("next_cursor")
            if not jobs or not params["cursor"]:
                return
            remaining = None if remaining is None else remaining - len(jobs)

    @property
    def clock_ahead(self) -> float:
        """Seconds that the server's clock is ahead of this machine's, as of the latest answer.

        0.0 before the first answer. The error is at most one second plus the time of the request.
        """
        return self._transport.clock_ahead

    def server_time(self) -> datetime:
        """Return the present time by the server's clock, which also sets the times in records."""
        return humanize.now() + timedelta(seconds=self.clock_ahead)

    def check_server(self) -> None:
        """Check that the server answers and is trusted; raise Unreachable if not.

        Neither the user nor the password is sent.
        """
        self._transport.check_server()

    def whoami(self) -> dict[str, Any]:
        """Return what the server knows about this user; the name is in "user"."""
        return self._transport.call("GET", "/whoami", repeat=True)

    def version(self) -> dict[str, Any]:
        """Return the server's description of itself; its version is in "version"."""
        return self._transport.call("GET", "/version", repeat=True)

    def _get(
        self,
        job_id: str,
        suffix: str,
        params: Mapping[str, Any] | None = None,
        seconds: float = transport.ANSWER_SECONDS,
    ) -> dict[str, Any]:
        path = _path(job_id) + suffix
        return self._transport.call("GET", path, params=params, repeat=True, seconds=seconds)

    def _status(self, answer: Mapping[str, Any]) -> JobStatus:
        return self._transport.parse(JobStatus.from_json, answer)

    def _record(self, answer: Mapping[str, Any]) -> JobRecord:
        return self._transport.parse(JobRecord.from_json, answer)


def _time_parameter(when: datetime | timedelta | None) -> str | None:
    if isinstance(when, timedelta):
        return f"{max(when, timedelta()) // timedelta(milliseconds=1)}ms"
    return None if when is None else when.isoformat()


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='', errors='surrogateescape')}"


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds")
