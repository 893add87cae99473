"""An HTTP proxy that tunnels every CONNECT to one place, or refuses it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class Proxy:
    """Listens on loopback. `requests` contains the first line of each request."""

    def __init__(self, target: int | None, refusal: bytes = b"") -> None:
        """Tunnel to the port `target` on loopback; without one, answer with `refusal`."""
        self._target, self._refusal = target, refusal
        self.requests: list[str] = []
        self.headers: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
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
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        first, *rest = head.decode("latin-1").splitlines()
        self.requests.append(first)
        self.headers += rest
        if self._target is None:
            with contextlib.suppress(OSError):  # the client may have closed it already
                connection.sendall(self._refusal)
                connection.shutdown(socket.SHUT_RDWR)
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        self._sockets.append(server)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._spawn(_copy, connection, server)
        self._spawn(_copy, server, connection)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
