"""workerd's server in this process, around any WSGI application: for tests of the edge itself."""

import contextlib
import dataclasses
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from worker_daemon.auth import login_hook
from worker_daemon.edge import listeners, server
from worker_daemon.edge.tls import contexts
from worker_daemon.settings import config, units

CERTS = Path(__file__).resolve().parents[2] / "certs"


def settings(**changes: Any) -> config.Config:
    """Return settings for loopback with the development certificate."""
    base = config.Config(
        listen=units.Address("127.0.0.1", 0),
        cert=CERTS / "server.pem",
        key=CERTS / "server.key",
    )
    return dataclasses.replace(base, **changes)


def _anybody(*_: Any) -> str:
    """Let everybody send long bodies, as alice."""
    return "alice"


def _logged_in(app: Callable[..., Any]) -> Callable[..., Any]:
    """Return an application that takes everybody for a user."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ[login_hook.LOGGED_IN]("alice", lambda: True)
        return app(environ, start_response)

    return application


class Edge:
    """A running server; `port` is where, `server` the object.

    Every request counts as one of a user, unless the application `verifies` logins itself.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        chosen: config.Config,
        may_send_body: Callable[..., Any] = _anybody,
        *,
        verifies: bool = False,
    ) -> None:
        self.settings = chosen
        self.tls = contexts.Tls(chosen)
        sockets = listeners.open_sockets(chosen.listen)
        app = app if verifies else _logged_in(app)
        self.server = server.Server(app, chosen, self.tls, sockets, may_send_body=may_send_body)
        self.port = self.server.port
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def stop(self) -> None:
        """Drain, and wait for the end."""
        self.server.drain()
        self.thread.join(15)
        assert not self.thread.is_alive(), "the server did not end"

    def plain(self) -> socket.socket:
        """Return a TCP connection that sends at once, with a deadline on everything."""
        return connect_to(self.port)

    def connect(self, **kwargs: Any) -> ssl.SSLSocket:
        """Return a TLS connection whose certificate is checked."""
        context = ssl.create_default_context(cafile=CERTS / "ca.pem")
        for name, value in kwargs.items():
            setattr(context, name, value)
        return context.wrap_socket(self.plain(), server_hostname="localhost")


def connect_to(port: int) -> socket.socket:
    """Return a TCP connection that sends at once, with a deadline on everything."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@contextlib.contextmanager
def serving(
    app: Callable[..., Any],
    *,
    may_send_body: Callable[..., Any] = _anybody,
    verifies: bool = False,
    **changes: Any,
) -> Iterator[Edge]:
    """Serve `app` until the block ends."""
    edge = Edge(app, settings(**changes), may_send_body, verifies=verifies)
    try:
        yield edge
    finally:
        edge.stop()


def reply(connection: socket.socket) -> bytes:
    """Read until the other side has said all."""
    data = bytearray()
    while piece := connection.recv(1 << 16):
        data += piece
    return bytes(data)


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset instead of a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
