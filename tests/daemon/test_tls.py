"""TLS under waitress: every answer whole, and nobody waits for somebody else's connection."""

import contextlib
import dataclasses
import hashlib
import io
import select
import socket
import ssl
import subprocess
import threading

import pytest
from support.edge import CERTS, reply, reset, serving
from support.waiting import wait_until
from worker_daemon import certificate, errors
from worker_daemon.command import ca, check
from worker_daemon.edge import channel
from worker_daemon.edge.tls import contexts
from worker_daemon.settings import units

BIG = bytes(range(256)) * (40 << 12)  # 40 MiB
DROPS = 20_000
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def app(environ, start_response):
    """Answer with what the path asks for; by default with the body that came."""
    path = environ["PATH_INFO"]
    if path == "/list":
        start_response("200 OK", [("Content-Length", str(len(BIG)))])
        return [BIG]
    if path == "/file":
        start_response("200 OK", [("Content-Length", str(len(BIG)))])
        return environ["wsgi.file_wrapper"](io.BytesIO(BIG))
    if path == "/stream":
        start_response("200 OK", [])
        return (BIG[at : at + 70_001] for at in range(0, len(BIG), 70_001))
    if path == "/drops":
        start_response("200 OK", [("Content-Length", str(100 * DROPS))])
        return (b"x" * 100 for _ in range(DROPS))
    body = environ["wsgi.input"].read()
    text = f"{environ['wsgi.url_scheme']} {environ['REMOTE_ADDR']} ".encode() + body
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]


def get(edge, path=b"/"):
    """Return the whole answer to one request on a connection of its own."""
    with edge.connect() as connection:
        connection.sendall(GET % path)
        return reply(connection)


def body_of(answer):
    """Return an answer's body, with the chunks put together."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" not in head:
        return rest
    body, stream = bytearray(), io.BytesIO(rest)
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        stream.readline()
    return bytes(body)


def test_a_request_is_served_over_tls_1_3_and_the_server_says_nothing_about_itself():
    """Clients could speak an old TLS, links would say http, or a scanner be told the server."""
    with serving(app) as edge, edge.connect() as connection:
        assert connection.version() == "TLSv1.3"
        connection.sendall(GET % b"/")
        head, _, body = reply(connection).partition(b"\r\n\r\n")
    assert body == b"https 127.0.0.1 "
    assert b"Server:" not in head


def test_tls_1_2_is_spoken_only_when_it_is_allowed():
    """An old client would be let in unasked, or could not be let in at all."""
    old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    with (
        serving(app) as edge,
        pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|protocol version"),
    ):
        edge.connect(**old)
    with serving(app, tls_min_version="1.2") as edge, edge.connect(**old) as connection:
        connection.sendall(GET % b"/")
        assert reply(connection).endswith(b"https 127.0.0.1 ")


@pytest.mark.parametrize("path", [b"/list", b"/file", b"/stream"])
def test_a_big_answer_arrives_whole(path):
    """Big outputs would be cut where the socket's buffer was full once."""
    with serving(app) as edge:
        assert hashlib.sha256(body_of(get(edge, path))).digest() == hashlib.sha256(BIG).digest()


def test_a_reader_that_pauses_gets_everything():
    """A slow client would lose bytes when the TLS layer had taken half a record."""
    with serving(app) as edge, edge.connect() as connection:
        connection.sendall(GET % b"/stream")
        first = connection.recv(1)
        for _ in range(50):  # requests of others go on meanwhile
            assert get(edge).endswith(b"https 127.0.0.1 ")
        assert body_of(first + reply(connection)) == BIG


def test_silent_and_half_open_connections_delay_nobody():
    """One client that connects and says nothing would stop the daemon for everybody."""
    with serving(app) as edge:
        hello = _client_hello()
        silent = [edge.plain() for _ in range(150)]
        for connection in silent[::2]:
            connection.sendall(hello[: len(hello) // 2])
        assert get(edge).endswith(b"https 127.0.0.1 ")
        for connection in silent:
            connection.close()


def _client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["silent", "half a handshake"])
def test_a_handshake_has_a_deadline(sent):
    """Clients that never finish their handshake would use up all connections."""
    with serving(app, handshake_timeout=0.2) as edge, edge.plain() as connection:
        connection.sendall(sent)
        assert reply(connection) == b""


def test_plain_http_is_told_that_the_port_speaks_https():
    """A person who forgets the s of https would see a connection that just closes."""
    with serving(app) as edge, edge.plain() as connection:
        connection.sendall(GET % b"/")
        answer = reply(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"https://" in answer


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 100, b"\x16" * 100, b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05hello", b"\xff"],
)
def test_garbage_ends_its_own_connection_only(garbage):
    """A port scanner would bring the daemon down."""
    with serving(app) as edge:
        with edge.plain() as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            reply(connection)
        assert get(edge).endswith(b"https 127.0.0.1 ")


def test_garbage_inside_an_open_connection_ends_it():
    """Bytes that were tampered with on their way would be taken for a request, or stop the loop."""
    with serving(app) as edge:
        connection = edge.connect()
        with socket.socket(fileno=connection.detach()) as raw:
            raw.settimeout(10)
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            reply(raw)
        assert get(edge).endswith(b"https 127.0.0.1 ")


@pytest.mark.parametrize("path", [b"/list", b"/file", b"/stream"])
def test_a_client_that_vanishes_costs_only_its_own_answer(path, monkeypatch):
    """Each client that hangs up while it is answered would cost a thread or the daemon."""
    monkeypatch.setattr("worker_daemon.auth.verifier.MOST_ASIDE", 0)
    with serving(app, threads=1, max_long_requests=1) as edge:
        for _ in range(5):
            connection = edge.connect()
            connection.sendall(GET % path)
            connection.recv(100)
            reset(connection)
        assert get(edge).endswith(b"https 127.0.0.1 ")
        wait_until(lambda: not edge.server._channels(), message="channels stay open")


def test_a_fast_reader_takes_turns_with_the_others(monkeypatch):
    """One quick download would stop the main loop, and everybody, until it is done."""
    turns = []  # bytes sent in each, by the main loop; a task thread sends, too
    loop = []
    handle_write, send = channel.TlsChannel.handle_write, channel.TlsChannel.send

    def counted_turn(self):
        loop[:] = [threading.get_ident()]
        turns.append(0)
        handle_write(self)

    def counted_send(self, *args, **kwargs):
        sent = send(self, *args, **kwargs)
        if threading.get_ident() in loop:
            turns[-1] += sent
        return sent

    monkeypatch.setattr(channel.TlsChannel, "handle_write", counted_turn)
    monkeypatch.setattr(channel.TlsChannel, "send", counted_send)
    with serving(app) as edge:
        assert body_of(get(edge, b"/file")) == BIG
    assert sum(turns) > len(BIG) / 2
    assert max(turns) <= 2 << 20


def test_readers_of_a_file_hold_no_thread(monkeypatch):
    """A few slow downloads of finished output would leave no thread for requests."""
    monkeypatch.setattr("worker_daemon.auth.verifier.MOST_ASIDE", 0)
    with serving(app, threads=1, max_long_requests=1) as edge:
        readers = [edge.connect() for _ in range(6)]
        for reader in readers:
            reader.sendall(GET % b"/file")
            reader.recv(1)
        assert get(edge).endswith(b"https 127.0.0.1 ")
        for reader in readers:
            reset(reader)


def test_reading_and_writing_at_once_mix_nothing_up(monkeypatch):
    """Task threads write while the main loop reads: without a lock the connection breaks."""
    overlaps = _watch_for_overlaps(monkeypatch)
    body = bytes(range(256)) * (40 << 10)  # sent while the answer to /drops is being written
    upload = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    requests = b"GET /drops HTTP/1.1\r\nHost: x\r\n\r\n" + upload % len(body) + body
    with serving(app) as edge:
        for _ in range(3):
            with edge.connect() as connection:
                answers = io.BytesIO(_exchange(connection, requests))
            _length(answers)
            assert answers.read(100 * DROPS) == b"x" * 100 * DROPS
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            assert answers.read(_length(answers)) == b"https 127.0.0.1 " + body
    assert not overlaps


def _watch_for_overlaps(monkeypatch):
    """Return a list of the uses of a server's SSL object while another thread was using it."""
    using, overlaps = {}, []

    def watched(real):
        def use(self, *args):
            other = using.setdefault(self, threading.get_ident())
            if other != threading.get_ident():
                overlaps.append(real.__name__)
            try:
                return real(self, *args)
            finally:
                using.pop(self, None)

        return use

    for name in ("send", "recv"):
        monkeypatch.setattr(ssl.SSLSocket, name, watched(getattr(ssl.SSLSocket, name)))
    return overlaps


def test_what_the_tls_layer_refused_comes_again_as_it_was(monkeypatch):
    """OpenSSL wants the same bytes again; with others the connection may break."""
    refused, wrong = {}, []
    real = ssl.SSLSocket.send

    def send(self, data, *flags):
        if refused.pop(self, data) != data:
            wrong.append(self)
        try:
            return real(self, data, *flags)
        except ssl.SSLWantWriteError:
            refused[self] = data
            raise

    with serving(app) as edge, edge.connect() as connection:
        connection.sendall(GET % b"/stream")
        monkeypatch.setattr(ssl.SSLSocket, "send", send)
        first = connection.recv(1)
        assert get(edge).endswith(b"https 127.0.0.1 ")  # time for the answer to grow
        assert body_of(first + reply(connection)) == BIG
    assert not wrong


def _exchange(connection, data):
    """Send `data` while reading, from one thread, until the other side closes."""
    connection.setblocking(False)
    received, left = bytearray(), memoryview(data)
    while True:
        select.select([connection], [connection] if left else [], [], 10)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while piece := connection.recv(1 << 16):
                received += piece
            return bytes(received)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            left = left[connection.send(left[: 1 << 16]) :] if left else left


def _length(file):
    length = 0
    while (line := file.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length


def test_a_record_never_stays_inside_the_tls_layer():
    """The rest of a record would wait there unseen until the client sent something more."""
    body = b"x" * (1 << 20)
    with serving(app) as edge, edge.connect() as connection:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for data in (head + body, head, body):  # in one go, then head and body apart
            connection.sendall(data)
            if data is not head:
                file = connection.makefile("rb")
                file.readline()
                assert len(file.read(_length(file))) == len(body) + len(b"https 127.0.0.1 ")


def test_a_body_that_waits_for_100_continue_is_asked_for():
    """curl sends big bodies only after it was invited to, and would pause a second each time."""
    with serving(app) as edge, edge.connect() as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert reply(connection).endswith(b"https 127.0.0.1 hello")


def test_certificates_are_reloaded_without_dropping_a_connection(tmp_path):
    """Renewing a certificate would need a restart, or cut off everybody who is connected."""
    with serving(app) as edge, edge.connect() as old:
        before = old.getpeercert(binary_form=True)
        edge.tls.reload(_issued(tmp_path, edge.settings))
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        with context.wrap_socket(edge.plain(), server_hostname="localhost") as new:
            assert new.getpeercert(binary_form=True) != before
        old.sendall(GET % b"/")
        assert reply(old).endswith(b"https 127.0.0.1 ")


def test_a_reload_that_fails_changes_nothing(tmp_path):
    """A half-written certificate at the moment of the reload would stop the service."""
    with serving(app) as edge:
        settings = _issued(tmp_path, edge.settings)
        settings.cert.write_text("not a certificate")
        with pytest.raises(errors.CertificateError, match="not a certificate in PEM"):
            edge.tls.reload(settings)
        assert get(edge).endswith(b"https 127.0.0.1 ")


def _issued(directory, settings):
    """Return `settings` with a certificate of a new CA in `directory`."""
    authority = ca.Authority.create("test")
    cert, key = authority.issue(["localhost", "127.0.0.1"])
    for name, content in (
        ("ca.pem", authority.certificate),
        ("server.pem", cert),
        ("server.key", key),
    ):
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
    return dataclasses.replace(
        settings, cert=directory / "server.pem", key=directory / "server.key"
    )


def test_with_a_client_ca_only_its_certificates_may_connect(tmp_path):
    """The setting that shuts strangers out at the door would leave it open."""
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=client",
            "-keyout",
            key,
            "-out",
            cert,
        ],
        check=True,
        capture_output=True,
    )
    with serving(app, client_ca=cert) as edge:
        with edge.connect() as stranger:
            stranger.sendall(GET % b"/")
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                reply(stranger)
        context = ssl.create_default_context(cafile=CERTS / "ca.pem")
        context.load_cert_chain(cert, key)
        with context.wrap_socket(edge.plain(), server_hostname="localhost") as known:
            known.sendall(GET % b"/")
            assert reply(known).endswith(b"https 127.0.0.1 ")


def _settings():
    from support import edge

    return edge.settings()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "server.pem").unlink(), "there is no .*server.pem; `workerd init`"),
        (lambda d: (d / "server.key").unlink(), "there is no .*server.key"),
        (lambda d: (d / "server.pem").write_text("x"), "server.pem: it is not a certificate"),
        (lambda d: (d / "server.key").write_text("x"), "server.key: it is not a private key"),
        (lambda d: (d / "server.key").chmod(0o644), "others can read it; `chmod o= "),
        (
            lambda d: (d / "server.key").write_bytes((CERTS / "server.key").read_bytes()),
            "server.key is not the key of the certificate .*server.pem",
        ),
        (
            lambda d: (d / "server.pem").write_bytes(
                (CERTS / "ca.pem").read_bytes() + (d / "server.pem").read_bytes()
            ),
            "server.pem: the certificate of .*server.key must be the first one in it",
        ),
    ],
    ids=[
        *("no certificate", "no key", "bad certificate", "bad key", "open key", "other key"),
        "wrong order",
    ],
)
def test_a_certificate_that_cannot_be_used_is_named_with_its_cure(tmp_path, spoil, message):
    """The administrator would see OpenSSL's words, which name neither file nor cure."""
    settings = _issued(tmp_path, _settings())
    spoil(tmp_path)
    with pytest.raises(errors.CertificateError, match=message):
        contexts.Tls(settings)


def test_an_encrypted_key_is_refused_and_not_asked_for(tmp_path):
    """A daemon without a terminal would hang at a prompt for the passphrase."""
    settings = _issued(tmp_path, _settings())
    subprocess.run(
        [
            "openssl",
            "pkey",
            "-in",
            settings.key,
            "-aes256",
            "-passout",
            "pass:x",
            "-out",
            tmp_path / "encrypted.key",
        ],
        check=True,
    )
    settings = dataclasses.replace(settings, key=tmp_path / "encrypted.key")
    with pytest.raises(errors.CertificateError, match="it is encrypted; `openssl pkey"):
        contexts.Tls(settings)


def test_the_published_keys_are_known():
    """workerd would serve the key that everybody has on a public address.

    After making the certificates anew, put their fingerprints into published_keys.txt.
    """
    for name in ("server.pem", "ca.pem"):
        assert set(certificate.fingerprints(CERTS / name)) <= certificate.PUBLISHED


def test_a_published_key_is_recognised_in_another_file_and_certificate(tmp_path):
    """Renaming the file, or signing the same key anew, would get around the refusal."""
    other = tmp_path / "mine.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-key",
            CERTS / "server.key",
            "-subj",
            "/CN=mine",
            "-out",
            other,
        ],
        check=True,
    )
    settings = dataclasses.replace(_settings(), cert=other, listen=units.Address("0.0.0.0", 0))
    assert "its key is published" in check.exposure(settings, ["0.0.0.0"])[0]
    assert check.exposure(settings, ["127.0.0.1", "::1", "127.8.8.8", "::ffff:127.0.0.1"]) == []
    assert "on ::ffff:128.0.0.1:" in check.exposure(settings, ["::1%lo", "::ffff:128.0.0.1"])[0]


def test_the_validity_of_certificates_is_read():
    """An expired certificate would be served without a word."""
    first, last = certificate.validity(certificate.load(CERTS / "server.pem")[0])
    assert (first.year, last.year) == (2026, 2056)
