"""TLS key updates: 27 bytes that a stranger may send as often as they like."""

import _ssl
import ctypes
import socket
import ssl

import pytest
from support.edge import CERTS, serving
from support.waiting import wait_until
from worker_daemon.edge import channel, server
from worker_daemon.edge.tls import openssl

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def app(_environ, start_response):
    """Answer with two bytes."""
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


class Client:
    """A TLS client that can send key updates."""

    def __init__(self, connection):
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=CERTS / "ca.pem")
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self.connection = connection
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(self._out.read())
                self._in.write(connection.recv(1 << 16))
        connection.sendall(self._out.read())

    def updates(self, count, *, wants_one):
        """Return the bytes of so many key updates; each may ask the server for one."""
        library = ctypes.CDLL(_ssl.__file__)
        inner = self._tls._sslobj
        pointer = (ctypes.c_void_p * 2).from_address(id(inner) + object.__basicsize__)[1]
        for _ in range(count):
            assert library.SSL_key_update(ctypes.c_void_p(pointer), int(wants_one)) == 1
            assert library.SSL_do_handshake(ctypes.c_void_p(pointer)) == 1
        return self._out.read()

    def encrypted(self, data):
        """Return data as it goes over the wire."""
        self._tls.write(data)
        return self._out.read()

    def read(self):
        """Return the next bytes of the server."""
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self._in.write(self.connection.recv(1 << 16))


@pytest.fixture
def reads(monkeypatch):
    """The reads of all connections, as a list that grows."""
    found = []
    receive = channel.TlsChannel._receive
    monkeypatch.setattr(
        channel.TlsChannel, "_receive", lambda each: (found.append(each), receive(each))[1]
    )
    return found


def test_a_read_ends_after_each_key_update(reads):
    """A stranger who sends nothing else would keep the server inside one read for minutes."""
    with serving(app) as edge, edge.plain() as plain:
        client = Client(plain)
        plain.sendall(client.updates(300, wants_one=False) + client.encrypted(GET))
        assert client.read().startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(reads) > 300, "one record a read, and others have their turn in between"


def test_a_client_that_reads_no_answers_keeps_the_loop_from_nothing(reads, monkeypatch):
    """The loop would never rest while a stranger asks for key updates and reads none."""
    small = (socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    monkeypatch.setattr(server, "_SOCKET_OPTIONS", [*server._SOCKET_OPTIONS, small])
    with serving(app) as edge, socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", edge.port))
        client = Client(plain)
        (own,) = edge.server._channels()
        plain.settimeout(0.1)
        for _ in range(300):
            try:
                plain.sendall(client.updates(50, wants_one=True))
            except TimeoutError:
                break
            if own._read_needs_room:
                break
        wait_until(lambda: own._read_needs_room)
        counts = []
        edge.server._on_tick = lambda _: counts.append(len(reads))
        wait_until(lambda: len(counts) > 2 and counts[-1] == counts[-3], message="it rests")
        with edge.connect() as other:
            other.sendall(GET)
            assert other.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_python_built_in_another_way_is_named(monkeypatch, caplog):
    """An administrator would not know that this server can be kept busy."""
    monkeypatch.setattr(openssl, "_control", lambda: None)
    openssl._warn.cache_clear()
    with serving(app) as edge:
        for _ in range(2):
            with edge.connect() as connection:
                connection.sendall(GET)
                assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    openssl._warn.cache_clear()
    assert caplog.text.count("TLS key updates can keep this server busy") == 1
