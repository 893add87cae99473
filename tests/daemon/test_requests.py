"""What is true for every request: problem documents, methods, paths, request ids."""

import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from falcon import testing
from support.api import JSON, Api, User, refused
from worker_core import Engine, QueueFull, StoreUnavailable
from worker_daemon.api import app
from worker_daemon.auth import verifier
from worker_daemon.settings import config


@pytest.mark.parametrize("path", ["/", "/job", "/jobs/a/b", "/jobs/a/out/", "/%00", "/ä"])
def test_there_is_nothing_here(alice: User, path: str) -> None:
    """A misspelt address would be answered with something else, or a server error."""
    assert "/openapi.json" in refused(alice.get(path), 404, "not_found")["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/jobs", "GET, HEAD"),
        ("GET", "/jobs/run", "POST"),
        ("POST", "/jobs/x", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/jobs/x/status", "GET, HEAD"),
        ("DELETE", "/jobs/x/out", "GET, HEAD"),
        ("GET", "/jobs/x/kill", "PUT"),
        ("POST", "/jobs/x/kill", "PUT"),
        ("POST", "/healthz", "GET, HEAD"),
        ("TRACE", "/jobs", "GET, HEAD"),
        ("BREW", "/jobs", "GET, HEAD"),
        ("WEBSOCKET", "/jobs", "GET, HEAD"),
    ],
)
def test_other_methods(alice: User, method: str, path: str, allowed: str) -> None:
    """A user who uses the wrong method would not learn the right one."""
    answer = alice.request(method, path)
    assert answer.headers["Allow"] == allowed
    assert allowed in refused(answer, 405, "method_not_allowed")["detail"]


def test_options(alice: User) -> None:
    """A program could not find out the allowed methods."""
    answer = alice.options("/jobs/x")
    assert (answer.status_code, answer.headers["Allow"]) == (200, "DELETE, GET, HEAD, PATCH")


@pytest.mark.parametrize("path", ["/jobs", "/jobs/x", "/whoami", "/version", "/readyz"])
def test_the_head_of_everything(alice: User, path: str) -> None:
    """A HEAD request would be refused."""
    whole, head = alice.get(path), alice.head(path)
    assert head.content == b""
    assert (head.status_code, head.headers["Content-Type"]) == (
        whole.status_code,
        whole.headers["Content-Type"],
    )


def test_each_request_has_an_id(alice: User) -> None:
    """A request that a user reports could not be found in the log."""
    ids = [alice.get(path).headers["X-Request-Id"] for path in ("/jobs", "/jobs", "/nothing")]
    assert len({uuid.UUID(each) for each in ids}) == 3


def test_nothing_is_kept_by_caches(alice: User) -> None:
    """Somebody's jobs could be shown to the next user of a browser or a proxy."""
    answer = alice.get("/jobs")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_unforeseen_error_tells_no_secrets(
    alice: User, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client would see internals of the server, or the error would not be logged."""

    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(engine, "list", broken)
    answer = alice.get("/jobs")
    document = refused(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.__dict__["request_id"] == document["request_id"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (QueueFull("100 jobs are queued already"), "queue_full"),
        (StoreUnavailable("the disk is full"), "store_unavailable"),
    ],
)
def test_what_may_work_later_says_so(
    alice: User,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
) -> None:
    """Programs would give up, or retry at once and make it worse."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(engine, "submit", refuse)
    answer = alice.post("/jobs/run", json={"command": "true"})
    assert refused(answer, 503, code)["detail"] == str(error)
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_long_or_odd_id_is_unknown(alice: User) -> None:
    """An id that nobody made would be a server error."""
    for job_id in ("a" * 5000, "%00", "%FF%FE", "..%2e", "%0d%0aX: y", "' OR 1=1 --", "*", "%25"):
        for method, tail in (("GET", ""), ("GET", "/status"), ("GET", "/out"), ("PUT", "/kill")):
            refused(alice.request(method, f"/jobs/{job_id}{tail}"), 404, "job_not_found")


def test_a_body_where_none_is_read(alice: User) -> None:
    """The rest of a body would be taken for the next request."""
    for _ in range(3):
        answer = alice.request("GET", "/whoami", data=b"x" * 100_000, headers=JSON)
        assert answer.json()["user"] == "alice"


def test_ready(api: Api, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work would be sent to a server that cannot do it."""
    assert alice.get("/readyz").json()["checks"] == {
        "store": "ok",
        "supervisor": "ok",
        "disk": "ok",
    }
    wrong = {"store": "ok", "supervisor": "it does not answer", "disk": "only 5 bytes are free"}
    monkeypatch.setattr(api.engine, "health", lambda: wrong)
    detail = refused(alice.get("/readyz"), 503, "not_ready")["detail"]
    assert detail == "supervisor: it does not answer; disk: only 5 bytes are free"
    assert alice.get("/healthz").status_code == 200, "alive all the same"


def test_nothing_begins_while_the_server_ends(engine: Engine) -> None:
    """Work would be sent to a server that is shutting down."""
    draining = threading.Event()
    everybody = SimpleNamespace(verify=lambda *_: verifier.Verdict(accepted=True))
    client = testing.TestClient(
        app.create_app(engine, everybody, config.Config(), draining=draining),
        headers={"Authorization": "Basic YTpi"},
    )
    job = client.simulate_post("/jobs/run", json={"command": "sleep", "args": ["1000"]})
    path = f"/jobs/{job.json['id']}"
    assert client.simulate_get("/readyz").status_code == 200
    draining.set()
    for method, target in (
        ("GET", "/readyz"),
        ("POST", "/jobs/run"),
        ("GET", f"{path}/out?follow=true"),
        ("GET", f"{path}/status?wait=1"),
        ("GET", "/events"),
    ):
        body = {"command": "true"} if method == "POST" else None
        answer = client.simulate_request(method, target, json=body)
        assert (answer.status_code, answer.json["code"]) == (503, "draining"), target
        assert int(answer.headers["Retry-After"]) >= 1
    assert client.simulate_get(f"{path}/status").status_code == 200
    assert client.simulate_put(f"{path}/kill").status_code in (200, 202)


def test_the_readme_has_every_parameter(alice: User) -> None:
    """A user without openapi.json could not find a job among thousands, or one of another user."""
    readme = (Path(__file__).parents[2] / "packages/worker-daemon/README.md").read_text()
    names = set()
    for methods in alice.get("/openapi.json").json()["paths"].values():
        methods.pop("parameters", None)  # those of the path
        for operation in methods.values():
            given = operation.get("parameters", [])
            names |= {each["name"] for each in given if each["in"] == "query"}
    assert {"owner", "since", "follow"} <= names
    assert [name for name in sorted(names) if f"`?{name}=" not in readme] == []


def test_version(alice: User) -> None:
    """A client could not tell whether the server is too old for it."""
    told = alice.get("/version").json()
    assert told["name"] == "workerd"
    assert told["version"].count(".") == 2
    assert told["core"].count(".") == 2
