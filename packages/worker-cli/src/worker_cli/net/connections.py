"""The TLS connections that requests opens: our context, keepalive, and a timeout for each piece."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from requests.adapters import HTTPAdapter

_PIECE_BYTES = 16384

# Following output has no read timeout, so keepalive detects a server that has vanished, after about
# a minute.
_SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class Adapter(HTTPAdapter):
    """Opens connections with our TLS context unchanged; requests would add its own CA bundle."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(
            *args, **kwargs, ssl_context=self._context, socket_options=_SOCKET_OPTIONS
        )

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._context, socket_options=_SOCKET_OPTIONS
        )

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:  # noqa: ARG002
        # The inherited method loads requests' own CA bundle into the context.
        conn.cert_reqs = "CERT_REQUIRED"


class Contact:
    """Whether there was ever a connection to the server.

    The sockets refer to this object instead of the transport. Otherwise a transport would be part
    of a reference cycle, and its connections would stay open until the garbage collector runs.
    """

    made = False


def socket_class(contact: Contact) -> type[ssl.SSLSocket]:
    """Return a class of sockets that record in `contact` that a handshake succeeded.

    They also apply the timeout to each piece of what is sent. The timeout of ssl's own `sendall`
    is for the whole, so that a long body would fail on a slow link.
    """

    class Socket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            contact.made = True

        def sendall(self, data: Any, flags: int = 0) -> None:
            with memoryview(data).cast("B") as view:
                for offset in range(0, len(view), _PIECE_BYTES):
                    super().sendall(view[offset : offset + _PIECE_BYTES], flags)

    return Socket
