"""Requests to one server over one trusted connection, tried again where that is safe.

Nothing is taken from the environment behind the caller's back: no CA bundle (REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE), no ~/.netrc, no redirect followed to where the password was not meant for. Only a
proxy is, and never for loopback.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from worker_cli import __version__, errors
from worker_cli.net import client_certificate, problems, proxies, tls, translate
from worker_cli.ui import humanize

Value = TypeVar("Value")

DRAINING = "draining"
FOLLOWERS_FULL = "too_many_followers"

CONNECT_SECONDS = 10.0  # also for each piece of a body to be sent
ANSWER_SECONDS = 60.0
_PIECE = 16384

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_FIRST_CONTACT_TRIES = 3

# What requests raises, and what it lets through: urllib3's, the system's, and ValueError for names
# that cannot be encoded. RequestException is an OSError.
_FAILURES = (OSError, HTTPError, ValueError)

# A peer that vanished without a farewell is noticed after about a minute, however long it may be
# silent otherwise: followers have no read timeout.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class Transport:
    """The way to one server. Any thread may use it; each has connections of its own."""

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
        """Called, by the thread that waits, before each further try of what was not answered."""
        self.on_return: Callable[[], object] = lambda: None
        """Called, by the thread that was answered, at the first answer after an outage."""
        self._away = False
        self.clock_ahead = 0.0
        """Seconds by which the server's clock was ahead of this machine's in the latest answer."""
        self._contact = _Contact()
        self._context = tls.context(cacert)
        self._context.sslsocket_class = _sockets(self._contact)
        if cert:
            client_certificate.show(self._context, cert, key or cert)
        self._proxy = proxies.find(server)
        shown = self._proxy and proxies.shown(self._proxy)
        self.peer = translate.Peer(server, cacert, shown, cert)
        self._patience, self.sleep, self.clock = patience, sleep, clock
        self._local = threading.local()
        # Weak, so that the session of a thread that has ended goes with it.
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

        With `repeat`, a request whose connection is lost is sent again: to be set only where a
        second one does no harm. Raises Refused, NotLoggedIn and Unreachable.
        """
        # ASCII only: a byte that is no UTF-8 is a lone surrogate here, and goes as \udcXX.
        data = None if body is None else json.dumps(body, allow_nan=False).encode("ascii")
        sent = dict(headers or {}) | ({} if data is None else {"Content-Type": "application/json"})

        query = {name: _lossless(value) for name, value in (params or {}).items()}

        def attempt() -> dict[str, Any]:
            options = {"params": query, "data": data, "headers": sent}
            with self._send(method, path, seconds, **options) as response:
                return self._object(response)

        return self.patiently(attempt) if repeat else attempt()

    def stream(self, path: str, params: Mapping[str, Any], *, endless: bool) -> requests.Response:
        """Send a GET for raw bytes, once; return the response, whose body is not yet read.

        With `endless`, the body may pause for any time.
        """
        seconds = None if endless else ANSWER_SECONDS
        sent = {"Accept": "application/octet-stream"}
        return self._send("GET", path, seconds, params=params, headers=sent)

    def chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the body as it comes; raise Dropped where it is cut short."""
        try:
            yield from response.iter_content(1 << 16)
        except _FAILURES as error:
            raise translate.broken(error, self.peer) from error

    def understood(self, make: Callable[[Mapping[str, Any]], Value], answer: Any) -> Value:
        """Return what `make` makes of an answer; raise Unreachable when it cannot."""
        try:
            return make(answer)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise translate.not_workerd(self.peer, "JSON that describes no job") from error

    def patiently(self, attempt: Callable[[], Value], codes: Container[str] = (DRAINING,)) -> Value:
        """Return `attempt()`, trying again with growing pauses while another try may help.

        `codes` are the refusals that pass by themselves. Raises Dropped, too, where only an
        earlier try was Dropped and the last one Absent: the request may have arrived.
        """
        pauses = self.pauses()
        dropped = ""  # the error itself would be a cycle with this frame
        while True:
            try:
                return attempt()
            except errors.ClientError as error:
                pause = next(pauses, None)
                if pause is None or not self._may_pass(error, codes):
                    if dropped and isinstance(error, errors.Absent):
                        raise translate.gone_since(dropped, error) from error
                    raise
                if isinstance(error, errors.Dropped):
                    dropped = str(error)
                if isinstance(error, errors.Unreachable):
                    self.note_outage(error)
                self.sleep(pause)

    def note_outage(self, error: errors.Unreachable) -> None:
        """Have it told that something was not answered and will be tried again."""
        self._away = True
        self.on_outage(error)

    def pauses(self) -> Iterator[float]:
        """Yield how long to wait before each further try: three, or while patience lasts.

        A server that has proved who it is, if only by a handshake, is waited for: it is being
        restarted. One that never did is more likely not there at all.
        """
        give_up = self.clock() + self._patience
        pause, tries = _FIRST_PAUSE, 1
        while self.clock() < give_up if self._contact.made else tries < _FIRST_CONTACT_TRIES:
            yield pause * random.uniform(0.5, 1.0)  # noqa: S311  # to spread clients, not to hide
            pause, tries = min(pause * 2, _LONGEST_PAUSE), tries + 1

    def _may_pass(self, error: errors.ClientError, codes: Container[str]) -> bool:
        """Whether the same request may be answered a moment later."""
        match error:
            case errors.Dropped():
                return True
            case errors.Absent():
                return self._contact.made
            case errors.Refused():
                return error.code in codes
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
            problem = problems.of(response, self.peer)
        except _FAILURES as error:
            raise translate.explain(error, self.peer) from error
        self._compare_clocks(response.headers.get("Date"))
        self._contact.made = True  # a handshake within the TLS of a proxy is not seen
        if problem:
            raise problem
        if self._away:
            self._away = False
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
            raise translate.broken(error, self.peer) from error
        if not content:
            return {}
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            kind = response.headers.get("Content-Type", "no content type")
            raise translate.not_workerd(self.peer, f"no JSON object ({kind})")
        return answer

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.headers.update(self._headers)
            session.proxies.update({"https": self._proxy} if self._proxy else {})
            session.mount("https://", _Adapter(self._context))
            self._sessions.add(session)
        return session


class _Adapter(HTTPAdapter):
    """Connections that trust what the context trusts, and nothing that requests would add."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(
            *args, **kwargs, ssl_context=self._context, socket_options=_KEEPALIVE
        )

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._context, socket_options=_KEEPALIVE
        )

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:  # noqa: ARG002
        # The inherited one loads requests' own CA bundle into the context.
        conn.cert_reqs = "CERT_REQUIRED"


class _Contact:
    """Whether the server was there once. Sockets have this alone: a transport ends with its user,
    not when the collector finds a cycle."""

    made = False


def _sockets(contact: _Contact) -> type[ssl.SSLSocket]:
    """Return a class of sockets that make the contact by their handshake.

    They give each piece of what is sent the time to connect; ssl's own give it to the whole, and a
    long body would fail on a slow link.
    """

    class Socket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            contact.made = True

        def sendall(self, data: Any, flags: int = 0) -> None:
            with memoryview(data).cast("B") as whole:
                for at in range(0, len(whole), _PIECE):
                    super().sendall(whole[at : at + _PIECE], flags)

    return Socket


def _lossless(value: Any) -> Any:
    """Return a parameter as bytes, which may be such that are no UTF-8."""
    if isinstance(value, list):
        return [_lossless(each) for each in value]
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _basic(user: str, password: str) -> str:
    # UTF-8, as the server's challenge says; requests would send Latin-1.
    pair = f"{user}:{password}".encode("utf-8", "surrogateescape")
    return "Basic " + base64.b64encode(pair).decode("ascii")
