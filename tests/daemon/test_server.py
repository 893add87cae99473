"""The server around TLS: limits, deadlines, threads, and a clean end."""

import json
import socket
import ssl
import threading

import pytest
from support.edge import Edge, reply, reset, serving, settings
from support.waiting import wait_until
from worker_daemon import errors, problems
from worker_daemon.edge import channel, deadlines, listeners, server, workers
from worker_daemon.edge.http1 import request_parser
from worker_daemon.settings import units


class App:
    """An application whose requests to /hold last until `release` is set."""

    def __init__(self):
        self.release = threading.Event()
        self.holding = []
        self.gone = threading.Event()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/hold":
            self.holding.append(environ)
            self.release.wait(20)
        if environ["PATH_INFO"] == "/follow":
            start_response("200 OK", [])
            return self._follow(environ["waitress.client_disconnected"])
        if environ["PATH_INFO"] == "/flood":
            start_response("200 OK", [])
            return self._flood()
        if environ["PATH_INFO"] == "/nothing":
            start_response("204 No Content", [])
            return []
        if environ["PATH_INFO"] == "/break":
            raise RuntimeError("the application's own secret")
        body = b"%d bytes" % len(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def _follow(self, disconnected):
        yield b"first line\n"
        wait_until(lambda: disconnected() or self.release.is_set(), 20)
        if disconnected():
            self.gone.set()
        yield b"last line\n"

    def _flood(self):
        try:
            while True:
                yield bytes(1 << 16)
        finally:
            self.gone.set()


@pytest.fixture
def app():
    """An application whose requests end with the test."""
    application = App()
    yield application
    application.release.set()


def request(path=b"/", *, body=b"", close=True, method=b"GET", more=b""):
    """Return the bytes of a request."""
    head = b"%s %s HTTP/1.1\r\nHost: localhost\r\n" % (method, path)
    if close:
        head += b"Connection: close\r\n"
    if body:
        head += b"Content-Length: %d\r\n" % len(body)
    return head + more + b"\r\n" + body


def ask(edge, data):
    """Send `data` on a connection of its own and return all that comes back."""
    with edge.connect() as connection:
        connection.sendall(data)
        return reply(connection)


def problem(answer):
    """Return status and document of a refusal."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head
    document = json.loads(body)
    assert f"X-Request-Id: {document['request_id']}" in head.decode()
    assert document["status"] == int(head.split()[1])
    return document["status"], document["code"]


# Limits


def test_a_body_of_exactly_the_limit_is_taken(app):
    """The documented limit would be one byte less than it says."""
    with serving(app, max_body=1000) as edge:
        assert ask(edge, request(body=b"x" * 1000)).endswith(b"1000 bytes")


@pytest.mark.parametrize("size", [1001, 40 << 20])
def test_a_longer_body_is_refused_while_it_is_being_sent(app, size):
    """The client would see a reset connection instead of the reason."""
    with serving(app, max_body=1000) as edge:
        answer = ask(edge, request(method=b"POST", body=b"x" * size, close=False))
        assert problem(answer) == (413, "body_too_large")
        assert ask(edge, request()).endswith(b"0 bytes")


def test_a_longer_body_is_not_invited(app):
    """A client that asks first would send megabytes for nothing."""
    with serving(app, max_body=1000) as edge, edge.connect() as connection:
        head = request(body=b"x" * 2000, more=b"Expect: 100-continue\r\n")[:-2000]
        connection.sendall(head)
        assert problem(reply(connection)) == (413, "body_too_large")


def test_a_chunked_body_over_the_limit_is_refused(app):
    """Without a length in front the limit would not hold."""
    with serving(app, max_body=1000) as edge:
        chunk = b"200\r\n" + bytes(0x200) + b"\r\n"
        head = request(method=b"POST", more=b"Transfer-Encoding: chunked\r\n")
        assert problem(ask(edge, head + 4 * chunk + b"0\r\n\r\n")) == (413, "body_too_large")


def test_a_header_over_the_limit_is_refused(app):
    """Headers without end would fill the memory."""
    with serving(app, max_header=4096) as edge:
        answer = ask(edge, request(more=b"X: " + b"x" * 5000 + b"\r\n"))
        assert problem(answer) == (431, "header_too_large")


def test_blanks_in_a_header_cost_no_time(app):
    """One request of a stranger, with blanks before an illegal octet, would stop the daemon."""
    with serving(app, max_header=1 << 18) as edge:
        answer = ask(edge, request(more=b"X:" + b" " * 120_000 + b"\0\r\n"))  # minutes of waitress
        assert problem(answer) == (400, "malformed_request")
        assert ask(edge, request(more=b"X:" + b" " * 120_000 + b"\r\n")).endswith(b"0 bytes")
        assert ask(edge, request(more=b"X:" + b" a" * 60_000 + b"\r\n")).endswith(b"0 bytes")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET\r\n\r\n", (400, "malformed_request")),
        (b"get / HTTP/1.1\r\n\r\n", (400, "malformed_request")),
        (b"GET /\r\n\r\n", (400, "malformed_request")),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", (400, "malformed_request")),
        (b"GET / HTTP/1.1\nHost: x\r\n\r\n", (400, "malformed_request")),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", (400, "malformed_request")),
        (request(more=b"Content-Length: -1\r\n"), (400, "malformed_request")),
        (request(more=b"Content-Length: 1, 2\r\n"), (400, "malformed_request")),
        (request(more=b"Content-Length: 1\r\nContent-Length: 1\r\n"), (400, "malformed_request")),
        (request(more=b"Content-Length: +1\r\n"), (400, "malformed_request")),
        (
            request(more=b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
            (400, "malformed_request"),
        ),
        (request(more=b"Transfer-Encoding : chunked\r\n"), (400, "malformed_request")),
        (request(more=b"Transfer-Encoding:\r\nContent-Length: 0\r\n"), (400, "malformed_request")),
        (request(more=b"Transfer-Encoding: ,\r\n"), (400, "malformed_request")),
        (request(more=b"Transfer-Encoding: chunked, chunked\r\n"), (400, "malformed_request")),
        (request(more=2 * b"Transfer-Encoding: chunked\r\n"), (400, "malformed_request")),
        (
            b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (400, "malformed_request"),
        ),
        (request(more=b"Host: y\r\n"), (400, "malformed_request")),
        (request(more=b"Transfer-Encoding: chunked, x\r\n"), (501, "not_implemented")),
        (request(more=b"X: a\r\n b\r\n\0: c\r\n"), (400, "malformed_request")),
        (request(more=b"X: a\nY: b\r\n"), (400, "malformed_request")),
        (b"GET / HTTP/1.1\r\n\r\n", (400, "malformed_request")),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\x00\r\n\r\n", (400, "malformed_request")),
        (b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n", (400, "malformed_request")),
        (request(more=b"Content-Length: " + b"9" * 5000 + b"\r\n"), (400, "malformed_request")),
        (request(more=b"Transfer-Encoding: gzip\r\n"), (501, "not_implemented")),
        (
            request(more=b"Transfer-Encoding: chunked\r\n") + b"xyz\r\n",
            (400, "malformed_request"),
        ),
    ],
)
def test_what_is_no_request_is_answered_with_a_problem_document(app, data, expected):
    """A program would get text where it expects the problem documents of the API."""
    with serving(app) as edge:
        assert problem(ask(edge, data)) == expected


def test_an_application_that_breaks_shows_nothing_of_itself(app, caplog):
    """A client would read tracebacks, with whatever secrets are in them."""
    with serving(app) as edge:
        answer = ask(edge, request(b"/break"))
        assert problem(answer) == (500, "internal_error")
        assert b"secret" not in answer
    assert "the application's own secret" in caplog.text


# Deadlines


@pytest.mark.parametrize(
    "sent",
    [b"GET / HT", request()[:-2], b"\r\n", b"GET / HTTP/1.1\r\nA: b\r\n"],
)
def test_a_header_has_a_deadline(app, sent):
    """Clients that send a byte now and then would use up all connections."""
    with serving(app, header_timeout=0.2, idle_timeout=0.2) as edge:
        assert ask(edge, sent) == b""


def test_a_body_that_stands_still_has_a_deadline(app):
    """Clients that stop in the middle of a body would use up all connections."""
    with serving(app, body_timeout=0.2) as edge:
        assert ask(edge, request(body=b"x" * 100)[:-1]) == b""


def test_a_body_that_drips_has_a_deadline(app):
    """A byte now and then would keep a connection for ever."""
    with serving(app, body_timeout=0.4) as edge, edge.connect() as connection:
        connection.sendall(request(body=b"x" * 100)[:-100])
        connection.settimeout(0.05)
        for _ in range(90):
            try:
                assert connection.recv(100) == b""
                break
            except TimeoutError:
                connection.send(b"x")
        else:
            raise AssertionError("the connection stays open")


def test_an_unused_connection_has_a_deadline(app):
    """Connections that nobody uses any more would pile up."""
    with serving(app, idle_timeout=0.2) as edge, edge.connect() as connection:
        connection.sendall(request(close=False))
        assert reply(connection).endswith(b"0 bytes")


def test_a_request_at_work_has_no_deadline(app):
    """Whoever waits for the end of a long job would be cut off."""
    short = {"idle_timeout": 0.1, "header_timeout": 0.1, "body_timeout": 0.1}
    with serving(app, **short) as edge, edge.connect() as connection:
        connection.sendall(request(b"/hold"))
        wait_until(lambda: app.holding)
        ticks = []
        edge.server._on_tick = ticks.append
        wait_until(lambda: len(ticks) > 2)
        app.release.set()
        assert reply(connection).endswith(b"0 bytes")


def test_a_reader_that_stands_still_has_a_deadline(app):
    """A client that stops reading would keep a thread and its place for ever."""
    with serving(app, body_timeout=0.3) as edge, edge.connect() as connection:
        connection.sendall(request(b"/flood"))
        assert app.gone.wait(10), "the application still writes"


# Long bodies

LONG = b"x" * (1 << 20)
CHUNKED = b"".join(b"4000\r\n%s\r\n" % LONG[:0x4000] for _ in range(64)) + b"0\r\n\r\n"
KEY = b"Authorization: Basic key\r\n"


def stranger(*_):
    """Refuse whoever asks."""
    raise problems.unauthorized("you are not known")


@pytest.mark.parametrize(
    "data",
    [
        request(method=b"POST", body=LONG)[: -len(LONG)],
        request(method=b"POST", body=LONG),
        request(method=b"POST", body=LONG, more=b"Expect: 100-continue\r\n")[: -len(LONG)],
        request(method=b"POST", more=b"Transfer-Encoding: chunked\r\n"),
        request(method=b"POST", more=b"Transfer-Encoding: chunked\r\n") + CHUNKED,
    ],
    ids=["head", "whole", "expect", "chunked head", "chunked"],
)
def test_a_long_body_is_not_taken_from_a_stranger(app, data):
    """Strangers could fill the disk with bodies that are not looked at before they are whole."""
    with serving(app, may_send_body=stranger) as edge:
        answer = ask(edge, data)
    assert b"\r\nwww-authenticate: basic " in answer.lower()
    assert b"\r\nConnection: close\r\n" in answer
    assert problem(answer) == (401, "unauthorized")


def test_a_refusal_of_a_head_has_no_body(app):
    """The client would take the body for the next answer."""
    with serving(app, may_send_body=stranger) as edge:
        head, _, body = ask(edge, request(method=b"HEAD", body=LONG)).partition(b"\r\n\r\n")
    assert (head.split()[1], body) == (b"401", b"")
    assert b"Cache-Control: no-store" in head


@pytest.mark.parametrize("line", [b"5;" + b"x" * 40_000, b"0\r\nX: " + b"x" * 40_000])
def test_long_lines_in_a_chunked_body_are_refused(app, line):
    """Each further byte would cost a copy of the whole line, and hold up everybody."""
    with serving(app) as edge:
        data = request(more=b"Transfer-Encoding: chunked\r\n") + line
        assert problem(ask(edge, data)) == (400, "malformed_request")


@pytest.mark.parametrize("gone", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\0\r\n\r\n"])
def test_who_sends_nonsense_and_leaves_is_no_fault(app, gone, caplog, monkeypatch):
    """The log would be full of tracebacks that strangers make."""
    monkeypatch.setattr("worker_daemon.auth.verifier.MOST_ASIDE", 0)
    with serving(app, threads=1, max_long_requests=1) as edge:
        holders = [edge.connect() for _ in range(2)]  # all threads
        for holder in holders:
            holder.sendall(request(b"/hold"))
        wait_until(lambda: len(app.holding) == 2)
        leaving = edge.connect()
        leaving.sendall(gone)
        wait_until(lambda: any(c.requests[0].error for c in edge.server._channels() if c.requests))
        reset(leaving)
        wait_until(lambda: len(edge.server._channels()) == 2)
        app.release.set()
        for holder in holders:
            assert reply(holder).endswith(b"0 bytes")
            holder.close()
        assert ask(edge, request()).endswith(b"0 bytes")
    assert "Traceback" not in caplog.text


def test_a_short_body_is_taken_from_anybody(app):
    """Each small request would be handed to a thread twice."""
    with serving(app, may_send_body=stranger) as edge:
        assert ask(edge, request(body=b"x" * 1000)).endswith(b"1000 bytes")


def test_who_sends_a_long_body_is_asked_for_once(app):
    """The application's own check of logins would be another one, or cost a second time."""
    asked = []
    with serving(app, may_send_body=lambda *call: asked.append(call)) as edge:
        for data in (
            request(body=LONG, more=KEY),
            request(more=KEY + b"Transfer-Encoding: chunked\r\n") + CHUNKED,
        ):
            assert ask(edge, data).endswith(b"1048576 bytes")
    assert asked == [("GET", "Basic key", "127.0.0.1")] * 2


def test_a_long_body_is_invited_once_its_sender_is_known(app):
    """Clients that wait for an invitation would wait for ever."""
    with serving(app) as edge, edge.connect() as connection:
        connection.sendall(request(body=LONG, more=b"Expect: 100-continue\r\n")[: -len(LONG)])
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(LONG)
        assert reply(connection).endswith(b"1048576 bytes")


def test_a_long_body_has_its_place_among_other_requests(app):
    """Answers would be out of order, or a body be taken for requests."""
    mixed = request(close=False) + request(body=LONG, close=False)
    mixed += request(more=b"Transfer-Encoding: chunked\r\n", close=False) + CHUNKED
    with serving(app) as edge:
        answer = ask(edge, mixed + mixed + request(body=b"end"))
    sizes = [int(part.split()[-1]) for part in answer.split(b" bytes")[:-1]]
    assert sizes == 2 * [0, len(LONG), len(LONG)] + [3]


def test_who_begins_to_send_is_not_invited(app):
    """The invitation would take the place of the answer."""
    expecting = b"Expect: 100-continue\r\n"
    chunked = expecting + b"Transfer-Encoding: chunked\r\n"
    with serving(app) as edge:
        answer = ask(edge, request(more=chunked) + b"5\r\nabcde\r\n0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"5 bytes")
        assert ask(edge, request(body=LONG, more=expecting)).endswith(b"1048576 bytes")


def test_a_long_body_is_read_on_at_once(app, monkeypatch):
    """Each would wait for the loop to turn by itself."""
    monkeypatch.setattr(server, "_TICK", 3600)
    with serving(app) as edge:
        assert ask(edge, request(body=LONG)).endswith(b"1048576 bytes")


@pytest.mark.parametrize(
    "broken", [b"GET http://[/ HTTP/1.1", b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000]
)
def test_what_cannot_be_read_behind_a_long_body_is_refused(app, broken):
    """One client could end the daemon."""
    chunked = request(more=b"Transfer-Encoding: chunked\r\n", close=False)
    data = chunked + b"5\r\nabcde\r\n0\r\n\r\n" + broken + b"\r\nHost: x\r\n\r\n"
    with serving(app) as edge:
        first, _, rest = ask(edge, data).partition(b"5 bytes")
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert problem(rest) == (400, "malformed_request")
        assert ask(edge, request()).endswith(b"0 bytes")


def test_an_error_that_nobody_foresaw_ends_one_connection_alone(app, monkeypatch, caplog):
    """One client could end the daemon."""
    with serving(app) as edge:
        monkeypatch.setattr(request_parser.RequestParser, "resume", lambda *_: 1 / 0)
        head, _, _ = request(body=LONG).partition(b"\r\n\r\n")  # the body would be cut off
        assert ask(edge, head + b"\r\n\r\n") == b""
        assert ask(edge, request()).endswith(b"0 bytes")
    assert "ZeroDivisionError" in caplog.text


def test_a_slow_sender_reads_why_it_is_refused(app):
    """A client with a slow link would see a reset connection instead of the reason."""
    data = request(method=b"POST", body=LONG)
    with serving(app, may_send_body=stranger) as edge, edge.connect() as connection:
        connection.sendall(data[:200_000])
        (slow,) = edge.server._channels()
        wait_until(lambda: slow._discarded > 100_000)
        slow._deadlines._begun -= 50  # as if that had taken so many seconds
        assert not slow.expired(slow._deadlines._moved + 1)
        assert slow.expired(slow._deadlines._moved + 10), "it sends no more"
        connection.sendall(data[200_000:])
        assert problem(reply(connection)) == (401, "unauthorized")
        slow._deadlines._begun -= 5000
        assert slow.expired(slow._deadlines._moved + 1), "it sends a byte now and then"


def test_nothing_of_a_long_body_is_taken_before_its_sender_is_known(app):
    """A slow check of a password would be time to send everything."""
    asked, known = threading.Event(), threading.Event()

    def may_send_body(*_):
        asked.set()
        assert known.wait(30)

    with serving(app, may_send_body=may_send_body) as edge, edge.connect() as connection:
        sending = threading.Thread(target=connection.sendall, args=(request(body=LONG),))
        sending.start()
        assert asked.wait(30)
        ticks = []
        edge.server._on_tick = ticks.append
        wait_until(lambda: len(ticks) > 1)
        (waiting,) = edge.server._channels()
        assert waiting.requests[0].body_bytes_received == 0
        known.set()
        assert reply(connection).endswith(b"1048576 bytes")
        sending.join(30)


def test_who_leaves_before_being_known_costs_nothing(app):
    """The connection would stay, or the daemon end."""
    asked, known = threading.Event(), threading.Event()

    def may_send_body(*_):
        asked.set()
        assert known.wait(30)

    with serving(app, may_send_body=may_send_body) as edge:
        connection = edge.connect()
        connection.sendall(request(body=LONG)[: -len(LONG)])
        assert asked.wait(30)
        connection.close()
        known.set()
        wait_until(lambda: not edge.server._channels())
        assert ask(edge, request()).endswith(b"0 bytes")


def test_a_check_that_fails_is_told(app, caplog):
    """The client would wait for ever."""
    with serving(app, may_send_body=lambda *_: 1 / 0) as edge:
        assert problem(ask(edge, request(body=LONG))) == (500, "internal_error")
    assert "ZeroDivisionError" in caplog.text


# Connections and threads


def test_a_connection_serves_one_request_after_the_other(app):
    """Each request would cost a new handshake."""
    with serving(app) as edge, edge.connect() as connection:
        for size in (0, 10, 0):
            connection.sendall(request(body=b"x" * size, close=False))
            answer = connection.recv(1 << 16)
            while not answer.endswith(b"%d bytes" % size):
                answer += connection.recv(1 << 16)


def test_a_connection_outlives_an_answer_without_a_body(app):
    """Each of a thousand jobs that are removed would cost a new handshake."""
    head = b"GET /nothing HTTP/1.1\r\nHost: x\r\n"
    with serving(app) as edge, edge.connect() as connection:
        for _ in range(2):
            connection.sendall(head + b"\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += connection.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 204 ")
            assert b"Connection: close" not in answer
        connection.sendall(head + b"Connection: close\r\n\r\n")
        assert b"Connection: close" in reply(connection)


def test_requests_that_were_sent_together_are_answered_in_their_order(app):
    """A client that pipelines would get somebody else's answer."""
    with serving(app) as edge:
        sent = [request(body=b"x" * n, close=n == 20) for n in range(21)]
        answer = ask(edge, b"".join(sent))
    sizes = [int(part.split()[-1]) for part in answer.split(b" bytes")[:-1]]
    assert sizes == list(range(21))


def test_a_client_that_hangs_up_is_noticed_while_its_request_runs(app):
    """A follower who has left would keep its place until the job writes again."""
    with serving(app) as edge:
        connection = edge.connect()
        connection.sendall(request(b"/follow"))
        received = b""
        while b"first line" not in received:
            received += connection.recv(1 << 16)
        connection.close()
        assert app.gone.wait(10), "not noticed"


def test_requests_at_work_leave_room_for_others(app):
    """Some silent followers would freeze the whole API."""
    with serving(app, threads=2, max_long_requests=30) as edge:
        holders = [edge.connect() for _ in range(30)]
        for holder in holders:
            holder.sendall(request(b"/hold"))
        wait_until(lambda: len(app.holding) == 30)
        assert ask(edge, request()).endswith(b"0 bytes")
        app.release.set()
        for holder in holders:
            assert reply(holder).endswith(b"0 bytes")
            holder.close()


def test_threads_are_made_only_when_they_are_needed(app):
    """Every daemon would start hundreds of threads that nobody needs."""
    with serving(app) as edge:
        for _ in range(20):
            ask(edge, request())
        assert edge.server.threads.count <= 3


def test_connections_that_do_nothing_make_room_for_one_that_does(app):
    """Whoever opens enough connections would shut everybody else out."""
    with serving(app, max_connections=10) as edge:
        crowd = [edge.plain() for _ in range(15)] + [edge.connect() for _ in range(5)]
        assert ask(edge, request()).endswith(b"0 bytes")
        for connection in crowd:
            connection.close()


def test_connections_at_work_do_not_make_room(app):
    """Somebody's request would be cut off because others are coming."""
    with serving(app, max_connections=12) as edge:
        busy = [edge.connect() for _ in range(8)]
        for connection in busy:
            connection.sendall(request(b"/hold"))
        wait_until(lambda: len(app.holding) == 8)
        crowd = [edge.plain() for _ in range(4)]
        assert ask(edge, request()).endswith(b"0 bytes")
        app.release.set()
        for connection in busy:
            assert reply(connection).endswith(b"0 bytes")
        for connection in crowd + busy:
            connection.close()


# Addresses


def test_localhost_is_every_loopback_address_on_one_port(app):
    """A client that prefers the other IP version would find nobody."""
    with serving(app, listen=units.Address("localhost", 0)) as edge:
        for host in listeners.resolve(edge.settings.listen):
            with socket.create_connection((host, edge.port), timeout=10):
                pass


def test_an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address(app):
    """Logs and login throttling would see the same client under two names."""
    with serving(app, listen=units.Address("::", 0)) as edge, edge.connect() as connection:
        connection.sendall(request(b"/hold"))
        wait_until(lambda: app.holding)
        assert app.holding[0]["REMOTE_ADDR"] == "127.0.0.1"
        app.release.set()


def test_an_address_in_use_is_refused_with_its_reason(app):
    """The administrator would read a traceback, or the bare errno."""
    with serving(app) as edge, pytest.raises(errors.ListenError, match="another program listens"):
        listeners.open_sockets(units.Address("127.0.0.1", edge.port))


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_that_is_not_ours_is_refused_with_its_reason(host):
    """The administrator would not know which part of the address is wrong."""
    with pytest.raises(errors.ListenError, match=f"cannot listen on {host}:0: "):
        listeners.open_sockets(units.Address(host, 0))


# The end


def test_draining_lets_requests_finish_and_takes_no_new_ones(app):
    """A restart would cut off requests, or wait for ever for connections that do nothing."""
    edge = Edge(app, settings())
    with edge.connect() as unused, edge.connect() as busy, edge.plain() as silent:
        busy.sendall(request(b"/hold", close=False))
        wait_until(lambda: app.holding and len(edge.server._channels()) == 3)
        edge.server.drain()
        assert edge.server.draining.wait(30)
        assert reply(unused) == b""
        assert reply(silent) == b""
        with pytest.raises(ConnectionRefusedError):
            edge.plain()
        app.release.set()
        answer = reply(busy)
        assert answer.endswith(b"0 bytes")
        assert b"Connection: close" in answer
    edge.stop()


def test_draining_ends_requests_that_do_not_finish(app):
    """One request that hangs would keep the daemon from ending."""
    edge = Edge(app, settings(drain_timeout=0.2))
    with edge.connect() as busy:
        busy.sendall(request(b"/hold"))
        wait_until(lambda: app.holding)
        edge.server.drain()
        assert reply(busy) == b""
        edge.thread.join(10)
        assert not edge.thread.is_alive()


def test_a_request_on_its_way_is_still_answered_while_draining(app):
    """Whoever was in the middle of sending would not know whether the job was created."""
    edge = Edge(app, settings())
    with edge.connect() as connection:
        data = request(body=b"x" * 100)
        connection.sendall(data[:-50])
        wait_until(lambda: any(c.request for c in edge.server._channels()))
        edge.server.drain()
        assert edge.server.draining.wait(30)
        connection.sendall(data[-50:])
        assert reply(connection).endswith(b"100 bytes")
    edge.stop()


def test_who_has_just_come_is_still_answered_while_draining(app, monkeypatch):
    """A restart under systemd's socket, which loses nobody, would cut off who is shaking hands."""
    monkeypatch.setattr(deadlines, "_FIRST_DRAINING", 60)
    edge = Edge(app, settings(drain_timeout=60))
    with edge.connect() as fresh:
        edge.server.drain()
        assert edge.server.draining.wait(30)
        fresh.sendall(request())
        assert reply(fresh).endswith(b"0 bytes")
    edge.stop()


def test_who_was_answered_does_not_keep_it_from_ending(app, monkeypatch):
    """Every kept connection of a browser would make a restart longer."""
    monkeypatch.setattr(deadlines, "_FIRST_DRAINING", 60)
    edge = Edge(app, settings(drain_timeout=60))
    with edge.connect() as kept:
        kept.sendall(request(close=False))
        wait_until(lambda: all(c.idle and c.served for c in edge.server._channels()))
        edge.server.drain()
        assert reply(kept).endswith(b"0 bytes")
    edge.stop()


def test_calls_run_in_the_loop(app):
    """A reload would run inside a signal handler, in the middle of anything."""
    with serving(app) as edge:
        threads = []
        edge.server.call(lambda: threads.append(threading.current_thread()))
        wait_until(lambda: threads)
        assert threads == [edge.thread]


def test_a_tls_client_that_closes_properly_sees_a_proper_close(app):
    """Strict clients take a connection that just ends for an attack, and report an error."""
    with serving(app) as edge:
        context = ssl.create_default_context(cafile=edge.settings.cert.with_name("ca.pem"))
        connection = context.wrap_socket(
            edge.plain(), server_hostname="localhost", suppress_ragged_eofs=False
        )
        with connection:
            connection.sendall(request())
            assert reply(connection).endswith(b"0 bytes")


def test_an_error_that_nobody_foresaw_closes_its_connection_only(app, monkeypatch, caplog):
    """One odd client could bring the whole daemon down."""
    with serving(app) as edge:
        with edge.connect() as connection, monkeypatch.context() as broken:
            broken.setattr(channel.TlsChannel, "received", lambda *_: 1 / 0)
            connection.sendall(request())
            assert reply(connection) == b""
        assert ask(edge, request()).endswith(b"0 bytes")
    assert "internal error on a connection of 127.0.0.1" in caplog.text


def test_a_client_that_leaves_during_the_farewell_is_no_error(app, caplog):
    """Each impatient client would be an error in the log, or bring the daemon down."""
    with serving(app) as edge:
        for _ in range(20):
            connection = edge.connect()
            connection.sendall(request(b"/break"))
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        assert ask(edge, request()).endswith(b"0 bytes")
    assert "internal error on a connection" not in caplog.text


class Task:
    """A task as waitress makes it; it lasts until `go_on` is set."""

    addr = ("127.0.0.1", 1)
    network = "127.0.0.1"
    known = True

    def __init__(self, error=None):
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._error = error

    def service(self):
        self.begun.set()
        assert self.go_on.wait(10)
        if self._error is not None:
            raise self._error


def test_each_task_has_a_thread_while_there_may_be_more():
    """A short request would wait for somebody's follower, for hours."""
    threads = workers.WorkerPool(3)
    tasks = [Task() for _ in range(4)]
    for task in tasks[:3]:
        threads.add_task(task)
        assert task.begun.wait(10)
    threads.add_task(tasks[3])
    assert threads.count == 3
    tasks[0].go_on.set()
    assert tasks[3].begun.wait(10)
    for task in tasks:
        task.go_on.set()
    threads.shutdown(10)
    assert not any(thread.is_alive() for thread in threads._threads)


def test_a_task_that_fails_ends_no_thread(caplog):
    """After a few of them nobody would be served any more."""
    threads = workers.WorkerPool(1)
    for error in (SystemExit(1), RuntimeError("odd")):
        task = Task(error)
        task.go_on.set()
        threads.add_task(task)
    last = Task()
    last.go_on.set()
    threads.add_task(last)
    assert last.begun.wait(10)
    threads.shutdown(10)
    assert [record.message for record in caplog.records] == ["a request of 127.0.0.1 failed"] * 2


def test_a_thread_that_cannot_be_started_is_made_later(monkeypatch, caplog):
    """After the machine was short of threads for a moment there would be too few for ever, and the
    daemon could not end."""

    def fails(_):
        raise RuntimeError("can't start new thread")

    threads = workers.WorkerPool(1)
    tasks = [Task(), Task()]
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", fails)
        threads.add_task(tasks[0])
    assert "can't start new thread" in caplog.text
    for task in tasks:
        task.go_on.set()
    threads.add_task(tasks[1])
    assert all(task.begun.wait(10) for task in tasks)
    threads.shutdown(10)


def test_the_end_waits_for_no_task_for_ever(caplog):
    """The daemon would not end while somebody follows."""
    threads = workers.WorkerPool(1)
    task = Task()
    threads.add_task(task)
    assert task.begun.wait(10)
    threads.shutdown(0.01)
    task.go_on.set()
    assert "1 requests are still running" in caplog.text
