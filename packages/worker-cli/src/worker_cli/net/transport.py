"""Send requests to one server over TLS, and send them again where that is safe.

Nothing that `requests` would take from the environment is used: no CA bundle (REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE) and no ~/.netrc. Redirects are not followed, because the password is only for the
named server. A proxy from the environment is used, but not for loopback addresses.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import threading
import time
import weakref
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests
from urllib3.exceptions import HTTPError

from worker_cli import __version__, errors
from worker_cli.net import connections, peers, problem_documents, proxies, request_errors, tls
from worker_cli.ui import humanize

Value = TypeVar("Value")

DRAINING = "draining"
TOO_MANY_FOLLOWERS = "too_many_followers"

CONNECT_SECONDS = 10.0  # also the time limit for sending each piece of a body
ANSWER_SECONDS = 60.0

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_FIRST_CONTACT_TRIES = 3

# What a request can raise: requests' own exceptions (RequestException is an OSError), urllib3's,
# the operating system's, and ValueError for names that cannot be encoded.
_FAILURES = (OSError, HTTPError, ValueError)


class Transport:
    """Sends the requests to one server. Any thread may use it; each has its own connections."""

    def __init__(
        self,
        server: str,
        *,
        user: str,
        password: str,
        cacert: Path | None,
        cert: Path | None,
        key: Path | None,
        patience: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server = server
        self._headers = {
            "Authorization": _basic(user, password),
            "User-Agent": f"worker-cli/{__version__}",
            "Accept-Encoding": "identity",
        }
        self.on_outage: Callable[[errors.Unreachable], object] = lambda _: None
        """Called before each retry of a request that got no answer, by the thread that sends it."""
        self.on_return: Callable[[], object] = lambda: None
        """Called at the first answer after an outage, by the thread that received it."""
        self._in_outage = False
        self.clock_ahead = 0.0
        """Seconds that the server's clock was ahead of this machine's at the latest answer."""
        self._contact = connections.Contact()
        self._context = tls.context(cacert)
        self._context.sslsocket_class = connections.socket_class(self._contact)
        if cert:
            tls.load_client_certificate(self._context, cert, key or cert)
        self._proxy = proxies.find(server)
        proxy = self._proxy and proxies.without_password(self._proxy)
        self.peer = peers.Peer(server, cacert, proxy, cert)
        self._patience, self.sleep, self.clock = patience, sleep, clock
        self._local = threading.local()
        # Weak references: the session of a thread is freed when the thread ends.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    def close(self) -> None:
        """Close every connection; the transport can still be used and opens new ones."""
        for session in list(self._sessions):
            session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool = False,
        seconds: float = ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """Send a request and return the JSON object of the answer, empty when there is none.

        With `repeat`, a request whose connection is lost is sent again; set it only where a second
        request does no harm. Raises RequestRefused, NotLoggedIn and Unreachable.
        """
        # ASCII only: a byte that is not UTF-8 is a lone surrogate here and is sent as \udcXX.
        data = None if body is None else json.dumps(body, allow_nan=False).encode("ascii")
        content_type = {} if data is None else {"Content-Type": "application/json"}
        all_headers = {**(headers or {}), **content_type}
        query = {name: _as_bytes(value) for name, value in (params or {}).items()}

        def attempt() -> dict[str, Any]:
            options = {
                "params": query,
                "data": data,
                "headers": all_headers,
            }
            with self._send(method, path, seconds, **options) as response:
                return self._object(response)

        return self.with_retries(attempt) if repeat else attempt()

    def check_server(self) -> None:
        """Raise Unreachable unless a workerd answers that is trusted; no login is sent."""
        with contextlib.suppress(errors.NotLoggedIn):
            headers = {"Authorization": None}  # removes the session's header
            self._send("GET", "/whoami", ANSWER_SECONDS, headers=headers).close()

    def stream(self, path: str, params: Mapping[str, Any], *, endless: bool) -> requests.Response:
        """Send a GET for raw bytes, once; return the response, whose body is not yet read.

        With `endless`, there is no time limit between two pieces of the body.
        """
        seconds = None if endless else ANSWER_SECONDS
        accept = {"Accept": "application/octet-stream"}
        return self._send("GET", path, seconds, params=params, headers=accept)

    def chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the body as it arrives; raise ConnectionLost when it is cut short."""
        try:
            yield from response.iter_content(1 << 16)
        except _FAILURES as error:
            raise request_errors.from_body(error, self.peer) from error

    def parse(self, make: Callable[[Mapping[str, Any]], Value], answer: Any) -> Value:
        """Return `make(answer)`; raise Unreachable when the answer does not have the right form."""
        try:
            return make(answer)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise peers.not_workerd(self.peer, "JSON that does not describe a job") from error

    def with_retries(
        self, attempt: Callable[[], Value], temporary_codes: Container[str] = (DRAINING,)
    ) -> Value:
        """Return `attempt()`; repeat it after growing pauses while another try may succeed.

        `temporary_codes` are the refusals after which another try may succeed. When one try ended
        in ConnectionLost and the last one in ServerUnavailable, raises ConnectionLost: the
        request may have arrived.
        """
        pauses = self.pauses()
        lost = ""  # the message only: the exception would be a reference cycle with this frame
        while True:
            try:
                return attempt()
            except errors.ClientError as error:
                pause = next(pauses, None)
                if pause is None or not self._is_temporary(error, temporary_codes):
                    if lost and isinstance(error, errors.ServerUnavailable):
                        raise request_errors.unavailable_since(lost, error) from error
                    raise
                if isinstance(error, errors.ConnectionLost):
                    lost = str(error)
                if isinstance(error, errors.Unreachable):
                    self.report_outage(error)
                self.sleep(pause)

    def report_outage(self, error: errors.Unreachable) -> None:
        """Call `on_outage`: a request got no answer and will be sent again."""
        self._in_outage = True
        self.on_outage(error)

    def pauses(self) -> Iterator[float]:
        """Yield how long to pause before each retry.

        After a first successful TLS handshake there are retries until the patience is used up: the
        server exists and is probably being restarted. Before that there are only two retries,
        because the address is more likely wrong.
        """
        give_up = self.clock() + self._patience
        pause, tries = _FIRST_PAUSE, 1
        while self.clock() < give_up if self._contact.made else tries < _FIRST_CONTACT_TRIES:
            yield pause * random.uniform(0.5, 1.0)  # noqa: S311  # to spread clients, not to hide
            pause, tries = min(pause * 2, _LONGEST_PAUSE), tries + 1

    def _is_temporary(self, error: errors.ClientError, temporary_codes: Container[str]) -> bool:
        """Return whether the same request may succeed a moment later."""
        match error:
            case errors.ConnectionLost():
                return True
            case errors.ServerUnavailable():
                return self._contact.made
            case errors.RequestRefused():
                return error.code in temporary_codes
            case _:
                return False

    def _send(
        self, method: str, path: str, seconds: float | None, **options: Any
    ) -> requests.Response:
        try:
            response = self._session().request(
                method,
                self.server + path,
                timeout=(CONNECT_SECONDS, seconds),
                allow_redirects=False,
                stream=True,
                **options,
            )
            problem = problem_documents.error_of(response, self.peer)
        except _FAILURES as error:
            raise request_errors.from_request(error, self.peer) from error
        self._compare_clocks(response.headers.get("Date"))
        self._contact.made = (
            True  # connections.Contact does not see a handshake inside a proxy's TLS
        )
        if problem:
            raise problem
        if self._in_outage:
            self._in_outage = False
            self.on_return()
        return response

    def _compare_clocks(self, date: str | None) -> None:
        from email.utils import parsedate_to_datetime

        with contextlib.suppress(ValueError, TypeError, OverflowError):
            if date:
                self.clock_ahead = (parsedate_to_datetime(date) - humanize.now()).total_seconds()

    def _object(self, response: requests.Response) -> dict[str, Any]:
        try:
            content = response.content
        except _FAILURES as error:
            raise request_errors.from_body(error, self.peer) from error
        if not content:
            return {}
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            content_type = response.headers.get("Content-Type", "no content type")
            raise peers.not_workerd(self.peer, f"something that is not JSON ({content_type})")
        return answer

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.headers.update(self._headers)
            session.proxies.update({"https": self._proxy} if self._proxy else {})
            session.mount("https://", connections.Adapter(self._context))
            self._sessions.add(session)
        return session


def _as_bytes(value: Any) -> Any:
    """Return a query parameter as bytes; lone surrogates become the bytes that they stand for."""
    if isinstance(value, list):
        return [_as_bytes(item) for item in value]
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _basic(user: str, password: str) -> str:
    # UTF-8, as the server's challenge requires; requests would send Latin-1.
    pair = f"{user}:{password}".encode("utf-8", "surrogateescape")
    return "Basic " + base64.b64encode(pair).decode("ascii")
