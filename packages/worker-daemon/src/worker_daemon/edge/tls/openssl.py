"""Clear a mode of OpenSSL that Python's ssl always sets and cannot clear.

With SSL_MODE_AUTO_RETRY, a read continues with the next record until one has data for the
application. A client that sends only key updates (27 bytes each, without a login) could keep the
main loop in one read for any time. Without this mode, the read returns after each record, and the
loop can serve the other clients.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
import logging
import ssl
from typing import Any

_log = logging.getLogger(__name__)

_CLEAR_MODE = 78  # SSL_CTRL_CLEAR_MODE, openssl/ssl.h
_AUTO_RETRY = 4  # SSL_MODE_AUTO_RETRY


def read_record_by_record(sock: ssl.SSLSocket) -> None:
    """Make each read of a TLS socket return after one record."""
    control = _control()
    if control is not None:
        # CPython, Modules/_ssl.c: struct PySSLSocket begins with the socket, the SSL object and
        # the context. If the third field is the context, the second is the SSL object.
        inner: Any = sock._sslobj  # type: ignore[attr-defined]
        fields = (ctypes.c_void_p * 3).from_address(id(inner) + object.__basicsize__)
        if fields[2] == id(sock.context):
            control(fields[1], _CLEAR_MODE, _AUTO_RETRY, None)
            return
    _warn()


@functools.cache
def _control() -> Any:
    try:
        control = ctypes.CDLL(getattr(_ssl, "__file__", None)).SSL_ctrl
    except (OSError, AttributeError):
        return None
    control.restype = ctypes.c_long
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    return control


@functools.cache
def _warn() -> None:
    _log.warning(
        "a client that sends only TLS key updates can keep this server busy: the ssl module of "
        "this Python has another layout than that of CPython"
    )
