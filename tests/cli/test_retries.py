"""What the client does when a connection is lost: which requests are sent again."""

from __future__ import annotations

import base64
import gc
import socketserver
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.cli_certs import Authority
from support.cli_clock import Clock
from support.cli_stub import DROP, Answer, Request, Script, Stub, answer, in_order, problem
from worker_cli import (
    Client,
    ConnectionLost,
    NotLoggedIn,
    RequestRefused,
    ServerUnavailable,
    Unreachable,
)

Serve = Callable[[Script], Stub]
ClientOf = Callable[[Stub], Client]

ID = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"
BRIEF = {"id": ID, "status": "running"}
DRAINING = problem(503, "draining", "the server is ending; ask again soon")


def test_run_is_sent_again_with_the_same_key(serve: Serve, client_of: ClientOf) -> None:
    """A job would run twice when the answer to the first request is lost."""
    stub = serve(in_order(DROP, DROP, answer(201, BRIEF)))
    assert client_of(stub).run("make", "-j8").id == ID
    assert [each.body for each in stub.requests] == [stub.requests[0].body] * 3
    keys = {each.headers["idempotency-key"] for each in stub.requests}
    assert len(keys) == 1


def test_each_run_has_a_key_of_its_own(serve: Serve, client_of: ClientOf) -> None:
    """Two equal commands would create only one job."""
    stub = serve(in_order(answer(201, BRIEF)))
    client = client_of(stub)
    client.run("date")
    client.run("date")
    first, second = (each.headers["idempotency-key"] for each in stub.requests)
    assert first != second


def test_run_uses_the_key_that_it_is_given(serve: Serve, client_of: ClientOf) -> None:
    """A program that was restarted would create its job a second time."""
    stub = serve(in_order(answer(201, BRIEF)))
    client_of(stub).run("date", idempotency_key="nightly-2026-11-24")
    assert stub.requests[0].headers["idempotency-key"] == "nightly-2026-11-24"


def test_a_cut_answer_to_run_is_asked_for_again(serve: Serve, client_of: ClientOf) -> None:
    """Half an answer would be treated as a complete one, or as a refusal."""
    whole = answer(201, BRIEF).data
    halves = [Answer(whole[:length], cut=True) for length in (10, 60, len(whole) - 5)]
    stub = serve(in_order(*halves[:2], answer(201, BRIEF)))
    assert client_of(stub).run("true").id == ID
    stub = serve(in_order(halves[2], answer(201, BRIEF)))
    assert client_of(stub).run("true").id == ID


def test_status_survives_lost_connections(serve: Serve, client_of: ClientOf) -> None:
    """Every short network failure would end a script."""
    stub = serve(in_order(DROP, answer(200, BRIEF)))
    assert client_of(stub).status(ID).status == "running"


def test_a_server_that_never_answered_gets_few_tries(authority: Authority) -> None:
    """A user who typed a wrong port would wait half a minute for the error."""
    connections = []
    with socketserver.TCPServer(("127.0.0.1", 0), lambda *each: connections.append(each)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"https://localhost:{server.server_address[1]}"
        try:
            with (
                Client(url, user="ann", password="secret", cacert=authority.cert) as client,
                pytest.raises(ConnectionLost, match="lost before the answer was complete"),
            ):
                client.status(ID)
        finally:
            server.shutdown()
            thread.join()
    assert len(connections) == 3


def test_a_server_is_waited_for_though_it_has_answered_nothing_yet(
    serve: Serve, client_of: ClientOf
) -> None:
    """A restart of the server during a script's first request would end the script."""
    stub = serve(in_order(*[DROP] * 8, answer(200, BRIEF)))
    assert client_of(stub).status(ID).status == "running"


def test_a_server_that_answered_before_is_waited_for(serve: Serve, client_of: ClientOf) -> None:
    """A restart of the server would end every program that uses it."""
    stub = serve(in_order(answer(200, BRIEF), *[DROP] * 8, answer(200, BRIEF)))
    client = client_of(stub)
    client.status(ID)
    assert client.status(ID).status == "running"


def test_patience_ends(serve: Serve, client_of: ClientOf) -> None:
    """A program would hang for ever on a server that is gone for good."""
    stub = serve(in_order(answer(200, BRIEF), DROP))
    client = client_of(stub)
    client.status(ID)
    with pytest.raises(ConnectionLost):
        client.status(ID)
    assert 28 < sum(clock_of(client).slept) < 33


def test_pauses_grow(serve: Serve, client_of: ClientOf) -> None:
    """A thousand clients would overload a server that is starting."""
    stub = serve(in_order(answer(200, BRIEF), *[DROP] * 8, answer(200, BRIEF)))
    client = client_of(stub)
    client.status(ID)
    client.status(ID)
    slept = clock_of(client).slept
    assert slept[0] <= 0.1
    assert 1.0 <= slept[-1] <= 2.0


def test_a_server_that_is_stopped_is_waited_for(serve: Serve, client_of: ClientOf) -> None:
    """A restart of the server would end a program."""
    stub = serve(in_order(answer(200, BRIEF)))
    client = client_of(stub)
    client.status(ID)
    client.close()
    stub.__exit__()
    with pytest.raises(ServerUnavailable, match="nothing listens there"):
        client.status(ID)
    assert sum(clock_of(client).slept) > 28


def test_a_server_lost_during_a_request_is_reported_with_both_facts(
    serve: Serve, client_of: ClientOf
) -> None:
    """A caller would believe that no request arrived, because the last one did not."""
    stub = serve(in_order(DROP))
    client = client_of(stub)
    clock_of(client).meanwhile = stub.__exit__
    with pytest.raises(ConnectionLost) as caught:
        client.run("make")
    assert isinstance(caught.value.__cause__, ServerUnavailable)
    assert str(caught.value) == (
        f"the connection to {stub.url} was lost before the answer was complete; "
        f"since then cannot reach {stub.url}: nothing listens there"
    )


def test_draining_is_waited_for(serve: Serve, client_of: ClientOf) -> None:
    """The answer of a server that is shutting down would be treated as a refusal."""
    stub = serve(in_order(DRAINING, DRAINING, answer(200, BRIEF)))
    assert client_of(stub).status(ID).status == "running"


def test_other_refusals_are_not_repeated(serve: Serve, client_of: ClientOf) -> None:
    """A client would repeat its request to a server with a full queue, without reporting it."""
    stub = serve(
        in_order(problem(503, "queue_full", "the queue is full", headers={"Retry-After": "10"}))
    )
    with pytest.raises(RequestRefused) as caught:
        client_of(stub).run("true")
    assert caught.value.code == "queue_full"
    assert caught.value.retry_after == 10
    assert len(stub.requests) == 1


def test_a_wrong_password_is_sent_once(serve: Serve, client_of: ClientOf) -> None:
    """Repeating a wrong login would lock the user out."""
    stub = serve(in_order(problem(401, "unauthorized", "wrong user or password")))
    with pytest.raises(NotLoggedIn, match="wrong user or password; run `worker login` again, or"):
        client_of(stub).status(ID)
    assert len(stub.requests) == 1


def test_too_many_wrong_passwords_are_a_login_error(serve: Serve, client_of: ClientOf) -> None:
    """A script could not distinguish a locked account from a refused job."""
    stub = serve(in_order(problem(429, "too_many_logins", "too many wrong passwords")))
    with pytest.raises(NotLoggedIn, match="too many wrong passwords"):
        client_of(stub).status(ID)


def test_connections_of_ended_threads_are_not_kept(serve: Serve, client_of: ClientOf) -> None:
    """A program with a thread for each job would run out of descriptors."""
    client = client_of(serve(in_order(answer(200, BRIEF))))
    for _ in range(3):
        thread = threading.Thread(target=client.status, args=(ID,))
        thread.start()
        thread.join()
    del thread
    gc.collect()
    assert len(client._transport._sessions) == 0


def test_each_piece_of_a_long_body_has_its_time(
    serve: Serve, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long standard input could not be sent over a slow link."""
    sent: list[int] = []
    send = ssl.SSLSocket.sendall

    def counted(self: ssl.SSLSocket, data: Any, flags: int = 0) -> None:
        sent.append(len(data))
        send(self, data, flags)

    monkeypatch.setattr(ssl.SSLSocket, "sendall", counted)
    stub = serve(in_order(answer(201, BRIEF)))
    client_of(stub).run("wc", stdin=b"x" * 1_000_000)
    assert len(base64.b64decode(stub.requests[0].json["stdin"]["base64"])) == 1_000_000
    assert sum(sent) > 1_000_000
    assert max(sent) <= 16384


@pytest.mark.parametrize("verb", ["kill", "signal", "remove"])
def test_what_changes_a_job_is_sent_once(serve: Serve, client_of: ClientOf, verb: str) -> None:
    """A repeated kill would report that the job was already killed."""
    acts: dict[str, Callable[[Client], object]] = {
        "kill": lambda client: client.kill(ID),
        "signal": lambda client: client.signal(ID, "HUP"),
        "remove": lambda client: client.remove(ID),
    }
    stub = serve(in_order(DROP))
    with pytest.raises(ConnectionLost):
        acts[verb](client_of(stub))
    assert len(stub.requests) == 1


def test_wait_goes_on_over_a_restart(serve: Serve, client_of: ClientOf) -> None:
    """`worker wait` in a script would fail because of an upgrade of the server."""
    done = {"id": ID, "status": "completed", "exit_code": 0}
    stub = serve(
        in_order(answer(200, BRIEF), DROP, DRAINING, answer(200, BRIEF), answer(200, done))
    )
    assert client_of(stub).wait(ID).exit_code == 0


def test_wait_makes_do_without_a_place(serve: Serve, client_of: ClientOf) -> None:
    """On a server with many followers nobody could wait."""
    done = {"id": ID, "status": "completed", "exit_code": 0}

    def script(request: Request) -> Answer:
        if "wait" in request.query:
            return problem(503, "too_many_followers", "full", headers={"Retry-After": "5"})
        return answer(200, BRIEF if len(stub.requests) < 5 else done)

    stub = serve(script)
    client = client_of(stub)
    assert client.wait(ID).succeeded
    assert set(clock_of(client).slept) == {5.0}


def test_wait_ends_when_its_time_is_up(serve: Serve, client_of: ClientOf) -> None:
    """A timeout would have no effect."""

    def script(request: Request) -> Answer:
        clock_of(client).now += float(request.query["wait"][0])
        return answer(200, BRIEF)

    stub = serve(script)
    client = client_of(stub)
    assert client.wait(ID, timeout=70).status == "running"
    assert [float(each.query["wait"][0]) for each in stub.requests] == [30, 30, 10]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (answer(200, b"<html>", {"Content-Type": "text/html"}), "text/html"),
        (answer(200, b"[1, 2]", {"Content-Type": "application/json"}), "not JSON"),
        (answer(200, b'{"id": "x"', {"Content-Type": "application/json"}), "not JSON"),
        (answer(200, {"id": "x"}), "does not describe a job"),
        (
            answer(200, {"id": "x", "status": "running", "created_at": "soon"}),
            "does not describe a job",
        ),
        (answer(404, b"nothing here"), "is not a workerd, or one"),
        (answer(500, b"oops"), "HTTP 500"),
        (answer(403, b"<html>", {"Content-Type": "text/html"}), "there is a proxy in between"),
        (Answer(b"SSH-2.0-OpenSSH\r\n\r\n"), "something that is not HTTP"),
    ],
)
def test_answers_that_are_not_from_workerd_are_recognised(
    serve: Serve, client_of: ClientOf, reply: Answer, message: str
) -> None:
    """Another web server at that address would cause a traceback or an unclear message."""
    with pytest.raises(Unreachable) as caught:
        client_of(serve(in_order(reply))).status(ID)
    assert message in str(caught.value)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateways_without_their_server_are_waited_for(
    serve: Serve, client_of: ClientOf, status: int
) -> None:
    """Behind a reverse proxy, a restart of the server would end every program."""
    stub = serve(in_order(answer(200, BRIEF), answer(status, b"<html>"), answer(200, BRIEF)))
    client = client_of(stub)
    client.status(ID)
    assert client.status(ID).status == "running"


def clock_of(client: Client) -> Clock:
    clock: Clock = client.clock  # type: ignore[attr-defined]
    return clock
