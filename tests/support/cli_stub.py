"""A scripted HTTPS server for what a real one cannot be made to do: break off, lie, be another.

    with Stub(identity, script) as stub:
        Client(stub.url, cacert=…)

`script(request)` returns the Answer to each request. Answers are raw bytes, so that a test can
leave out, cut short or garble whatever it likes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from support.cli_certs import Identity


@dataclass(frozen=True)
class Request:
    """What a client sent; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """Bytes to send, and whether the connection is closed abruptly (no TLS farewell) after them."""

    data: bytes
    cut: bool = False


Script = Callable[[Request], Answer]


def answer(
    status: int = 200,
    body: bytes | dict[str, Any] | list[Any] = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """A whole HTTP response; a dict or list becomes JSON."""
    kind = "application/octet-stream"
    if not isinstance(body, bytes):
        body, kind = json.dumps(body).encode(), "application/json"
    shown = {"Content-Type": kind, "Content-Length": str(len(body))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
    return Answer(f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode("latin-1") + body)


def problem(status: int, code: str, detail: str, **more: Any) -> Answer:
    """A problem document as workerd sends it; `headers=` adds headers."""
    headers = {"Content-Type": "application/problem+json"} | more.pop("headers", {})
    document = {"type": "about:blank", "title": code, "status": status, "detail": detail}
    return answer(status, document | {"code": code, "request_id": "r-1"} | more, headers)


def chunked(
    chunks: Sequence[bytes], headers: dict[str, str] | None = None, *, whole: bool = True
) -> Answer:
    """A chunked response; with `whole=False` the connection breaks before its end."""
    head = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    data = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{head}\r\n".encode("latin-1")
    data += b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return Answer(data + b"0\r\n\r\n") if whole else Answer(data, cut=True)


DROP = Answer(b"", cut=True)
"""No answer: the connection breaks."""


def in_order(*answers: Answer) -> Script:
    """A script that gives one answer after the other, and then repeats the last."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


class Stub:
    """The server. `requests` contains all requests, oldest first."""

    def __init__(self, identity: Identity | None, script: Script, *, port: int = 0) -> None:
        """Serve with TLS as `identity`, or plain HTTP when there is none."""
        self.script = script
        self.requests: list[Request] = []
        self._context: ssl.SSLContext | None = None
        if identity:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(identity.cert, identity.key)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # clients of these tests hang up at will
            if self._context is None:
                self._talk(connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as secure:
                self._sockets.append(secure)  # wrapping leaves the other without a descriptor
                self._talk(secure)

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while request := _read_request(stream):
                self.requests.append(request)
                reply = self.script(request)
                connection.sendall(reply.data)
                if reply.cut:
                    connection.shutdown(socket.SHUT_RDWR)
                    return


def _read_request(stream: Any) -> Request | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(first[0], first[1], headers, body)
