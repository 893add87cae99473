"""The beginning of a connection: application protocols, and hellos and requests in pieces."""

import socket
import ssl
import time

import pytest
from support.edge import CERTS, reply, serving
from support.waiting import wait_until
from worker_daemon.edge.tls import client_hello, handshake

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
DELAYED = 0.04  # seconds that the kernel puts an acknowledgement off, at least
NO_PROTOCOL = "(?i)no.application.protocol"


def app(environ, start_response):
    """Answer with the length of the body."""
    text = b"%d bytes" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]


@pytest.fixture
def edge():
    """A server."""
    with serving(app) as running:
        yield running


def context(*protocols):
    """Return a client's context that offers protocols."""
    made = ssl.create_default_context(cafile=CERTS / "ca.pem")
    if protocols:
        made.set_alpn_protocols(protocols)
    return made


def hello(*protocols):
    """Return the first record of such a client."""
    sent = ssl.MemoryBIO()
    client = context(*protocols).wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [((), None), (("http/1.1",), "http/1.1"), (("h2", "http/1.1"), "http/1.1")],
)
def test_http_1_1_is_chosen_among_others(edge, offered, chosen):
    """Browsers and curl, which offer HTTP/2 as well, could not connect."""
    with context(*offered).wrap_socket(edge.plain(), server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == chosen
        connection.sendall(GET)
        assert reply(connection).endswith(b"0 bytes")


@pytest.mark.parametrize("offered", [("h2",), ("h2", "http/1.0"), ("x" * 255,) * 40])
def test_a_client_that_speaks_something_else_only_is_refused(edge, offered):
    """It would send HTTP/2 to a server that takes it for a broken request (RFC 7301, 3.2)."""
    with edge.plain() as plain, pytest.raises(ssl.SSLError, match=NO_PROTOCOL):
        context(*offered).wrap_socket(plain, server_hostname="localhost")
    with edge.connect() as connection:
        connection.sendall(GET)
        assert reply(connection).endswith(b"0 bytes")


@pytest.mark.parametrize("protocols", [("h2",), ("http/1.1",)])
def test_a_hello_in_single_bytes_is_read_as_a_whole(edge, protocols, monkeypatch):
    """The refusal would depend on how the network cuts the hello, or the loop never rest."""
    looks = []
    begin = handshake.Handshake._begin
    monkeypatch.setattr(handshake.Handshake, "_begin", lambda c: (looks.append(c), begin(c))[1])
    data = hello(*protocols)
    with edge.plain() as plain:
        for at in range(len(data)):
            plain.send(data[at : at + 1])
        first = plain.recv(100)
    alert = client_hello.NO_APPLICATION_PROTOCOL
    assert first == alert if protocols == ("h2",) else first[:1] == b"\x16"
    assert len(looks) <= 6, "with the head of the record, with all of it, and no more often"


@pytest.mark.parametrize("length", [1, 4, 5, 50])
def test_a_client_that_leaves_in_its_hello_is_gone(edge, length):
    """The loop would wait for the rest, or never rest."""
    plain = edge.plain()
    plain.sendall(hello("h2")[:length])
    wait_until(edge.server._channels)
    plain.shutdown(socket.SHUT_WR)
    assert reply(plain)[:1] in (b"", b"\x15")  # perhaps an alert
    plain.close()
    wait_until(lambda: not edge.server._channels())


def test_protocols_are_read_from_whole_hellos_only():
    """A stranger's odd bytes would be an error in the log, or end the daemon."""
    whole = hello("h2", "http/1.1")
    assert client_hello.protocols(whole) == [b"h2", b"http/1.1"]
    assert client_hello.protocols(hello()) is None
    for at in range(len(whole)):
        assert client_hello.protocols(whole[:at]) is None
        for octet in (0, 1, 0xFF):
            client_hello.protocols(whole[:at] + bytes([octet]) + whole[at + 1 :])


def test_a_client_without_nodelay_waits_for_no_acknowledgement(edge):
    """Each new connection, and each request in two pieces, would cost 40 ms more."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    pieces = {
        "first request": [GET],
        "head and body": [head % 5, b"abcde"],
        "head and long body": [head % 70_000, b"a" * 70_000],
    }
    took = {name: [] for name in pieces}
    for name, sent in pieces.items():
        for _ in range(12):
            with edge.connect() as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
                begun = time.monotonic()
                for piece in sent:
                    connection.sendall(piece)
                assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
                took[name].append(time.monotonic() - begun)
    # The quickest, as the machine may be slow: none can be quicker than the kernel's delay.
    assert {name: min(each) for name, each in took.items() if min(each) >= DELAYED} == {}


def test_a_client_that_left_after_its_hello_costs_no_handshake(edge, monkeypatch):
    """A flood of hellos whose senders have gone would cost as much as those of users."""
    begun = []
    monkeypatch.setattr(handshake.Handshake, "_start_tls", begun.append)
    plain = edge.plain()
    first = hello("http/1.1")
    plain.sendall(first[:-1])
    wait_until(edge.server._channels)
    plain.send(first[-1:], socket.MSG_MORE)  # in one packet with the end
    plain.shutdown(socket.SHUT_WR)
    assert reply(plain) == b""
    plain.close()
    assert not begun
