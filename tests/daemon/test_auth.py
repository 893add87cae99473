"""Who is let in, and what a stranger learns: nothing but that the server is alive."""

import base64
import http.client
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from support import api as support
from support import edge
from support.api import OCTETS, PASSWORD, Api, User, refused
from support.waiting import wait_until
from worker_core import Engine
from worker_daemon.auth import htpasswd

CHALLENGE = 'Basic realm="worker", charset="UTF-8"'


def basic(pair: bytes) -> str:
    """Return an Authorization header."""
    return f"Basic {base64.b64encode(pair).decode()}"


PATHS = [
    ("GET", "/"),
    ("GET", "/jobs"),
    ("POST", "/jobs/run"),
    ("GET", "/jobs/x"),
    ("DELETE", "/jobs/x"),
    ("GET", "/jobs/x/status"),
    ("GET", "/jobs/x/out"),
    ("PUT", "/jobs/x/kill"),
    ("PUT", "/jobs/x/signal"),
    ("GET", "/events"),
    ("GET", "/whoami"),
    ("GET", "/version"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/no/such/path"),
    ("PATCH", "/jobs"),
    ("OPTIONS", "/jobs"),
    ("BREW", "/jobs"),
    ("WEBSOCKET", "/jobs"),
    ("POST", "/healthz/"),
    ("GET", "/HEALTHZ"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_stranger_learns_nothing(api: Api, method: str, path: str) -> None:
    """Anybody on the network could find out what there is, or use it."""
    answer = api.stranger().request(method, path, data=b"{", params={"wait": "x"})
    document = refused(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == CHALLENGE
    reference = refused(api.stranger().get("/jobs"), 401, "unauthorized")
    assert {**document, "request_id": ""} == {**reference, "request_id": ""}
    assert "Allow" not in answer.headers


def test_liveness_is_public(api: Api) -> None:
    """A load balancer would need somebody's password."""
    answer = api.stranger().get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert api.stranger().head("/healthz").status_code == 200
    assert api.user("eve", "nonsense").get("/healthz").status_code == 200


def test_a_user_is_let_in(api: Api) -> None:
    """Nobody could use the server."""
    assert api.user("alice").get("/whoami").json() == {"user": "alice", "admin": False}
    assert api.user("root").get("/whoami").json() == {"user": "root", "admin": True}


def test_a_wrong_password_and_an_unknown_user_are_answered_alike(api: Api) -> None:
    """A stranger could find out who has an account."""
    answers = [
        api.user("alice", "wrong").get("/whoami"),
        api.user("mallory", "wrong").get("/whoami"),
        api.user("", "wrong").get("/whoami"),
        # Long bodies are refused before the application sees the request.
        api.user("alice", "wrong").post("/jobs/run", data=bytes(1 << 20)),
        api.user("mallory", "wrong").post("/jobs/run", data=bytes(1 << 20)),
    ]
    documents = [{**refused(each, 401, "unauthorized"), "request_id": ""} for each in answers]
    assert all(each == documents[0] for each in documents)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YWxpY2U",  # the padding is missing
        basic(b"alice"),
        basic(b"\xff\xfe:x"),
        f"Bearer {base64.b64encode(b'alice:' + PASSWORD.encode()).decode()}",
        f"Basic  {base64.b64encode(b'alice').decode()} x",
        base64.b64encode(b"alice:x").decode(),
        "Negotiate abc",
        "Basic \xe4\xf6\xfc",
        "Basic \x80\xff",
    ],
)
def test_malformed_headers_are_refused(api: Api, value: str) -> None:
    """A broken client would get a server error, or be let in."""
    answer = raw(api, value.encode("latin-1"))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == CHALLENGE
    assert b'"unauthorized"' in answer.read()


@pytest.mark.parametrize(
    "pair",
    [
        b"alice:" + b"p" * 73,
        b"alice:" + b"p" * 5000,
        b"alice:",
        b":",
        b":x",
        b"alice:\x00",
        b"al\x00ice:x",
        b"alice:\xff\xff",
        b"a" * 5000 + b":x",
        "ålïcé:x".encode(),
        b"alice\n:x",
        b"*:x",
    ],
)
def test_odd_names_and_passwords_are_wrong(api: Api, pair: bytes) -> None:
    """They would be a server error; bcrypt refuses more than 72 bytes and NUL."""
    assert raw(api, basic(pair).encode()).status in (401, 429)


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_the_scheme_in_any_case(api: Api, scheme: str) -> None:
    """The standard lets clients write it as they like."""
    pair = base64.b64encode(f"alice:{PASSWORD}".encode())
    assert raw(api, scheme.encode() + b" " + pair).status == 200


@pytest.mark.parametrize("size", [0, 100_000], ids=["short", "long"])
def test_whoever_keeps_failing_waits(api: Api, size: int) -> None:
    """Passwords could be guessed as fast as the machine can hash."""
    answer: requests.Response | None = None
    for guess in range(100):
        answer = api.user("bob", f"guess {guess}").post("/jobs/run", data=bytes(size))
        if answer.status_code != 401:
            break
    assert answer is not None
    detail = refused(answer, 429, "too_many_logins")["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert detail.endswith(f"try again in {answer.headers['Retry-After']} s")


def test_others_do_not_wait_for_it(api: Api, alice: User) -> None:
    """One who guesses could keep everybody out."""
    assert alice.get("/whoami").status_code == 200
    for guess in range(20):
        api.user("mallory", f"guess {guess}").get("/whoami")
    assert alice.get("/whoami").status_code == 200


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("garbage\n")])
def test_an_unusable_users_file_is_no_fault_of_the_user(
    engine: Engine, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """Users would be told that they had failed to log in, and look for the fault at their end."""
    with support.serving(engine, tmp_path) as running:
        alice = running.user("alice")
        assert alice.get("/whoami").status_code == 200
        spoil(tmp_path / "users")
        wait_until(lambda: alice.get("/whoami").status_code != 200)
        for user in (alice, running.user("mallory")):
            answer = user.get("/whoami")
            assert "users file" in refused(answer, 503, "users_unavailable")["detail"]
            assert int(answer.headers["Retry-After"]) >= 1
        refused(running.stranger().get("/whoami"), 401, "unauthorized")
        assert running.stranger().get("/healthz").status_code == 200


def test_an_unusable_users_file_is_documented(alice: User) -> None:
    """A program made from the document would not know the answer."""
    paths = alice.get("/openapi.json").json()["paths"]
    assert "`users_unavailable`" in paths["/whoami"]["get"]["responses"]["503"]["description"]
    assert "503" not in paths["/healthz"]["get"]["responses"]


def remove(entries: dict[str, str]) -> None:
    """Remove alice."""
    del entries["alice"]


def change_password(entries: dict[str, str]) -> None:
    """Give alice another password."""
    entries["alice"] = htpasswd.hash_password(b"another", 4)


@pytest.mark.parametrize("change", [remove, change_password])
def test_requests_under_way_end_with_the_login(
    engine: Engine, tmp_path: Path, change: Callable[[dict[str, str]], None]
) -> None:
    """Who was removed would read on for as long as a job runs, or would take the cut for the
    job's end."""
    with support.serving(engine, tmp_path) as running:
        alice, listener, waiter, bob = map(running.user, ("alice", "alice", "alice", "bob"))
        mine, bobs = (user.shell("echo one; sleep 1000") for user in (alice, bob))
        mine_out, bobs_out = (f"/jobs/{job}/out?follow=true" for job in (mine, bobs))
        waited: list[requests.Response] = []
        path = f"/jobs/{mine}/status?wait=60"
        waiting = threading.Thread(target=lambda: waited.append(waiter.get(path)))
        with (
            alice.get(mine_out, headers=OCTETS, stream=True) as followed,
            bob.get(bobs_out, headers=OCTETS, stream=True) as bob_followed,
            listener.get("/events", stream=True) as events,
        ):
            waiting.start()
            wait_until(
                lambda: "\nworkerd_followers 4\n" in running.user("bob").get("/metrics").text
            )
            with htpasswd.editing(tmp_path / "users") as entries:
                change(entries)
            for answer in (followed, events):
                with pytest.raises(requests.exceptions.ChunkedEncodingError):
                    assert answer.content
            waiting.join(20)
            refused(waited[0], 401, "unauthorized")
            assert waited[0].headers["WWW-Authenticate"] == CHALLENGE
            wait_until(lambda: bob.out(bobs) == b"one\n")
            bob.put(f"/jobs/{bobs}/kill", json={"now": True})
            assert bob_followed.content == b"one\n"
        engine.kill(mine, by="root", now=True)


def raw(api: Api, authorization: bytes) -> http.client.HTTPResponse:
    """Send a header as it is; `requests` would refuse or repair it."""
    context = ssl.create_default_context(cafile=edge.CERTS / "ca.pem")
    connection = http.client.HTTPSConnection(
        "localhost", api.edge.port, timeout=10, context=context
    )
    connection.putrequest("GET", "/whoami")
    connection.putheader("Authorization", authorization)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    answer.read = lambda *_: body  # type: ignore[method-assign]
    return answer
