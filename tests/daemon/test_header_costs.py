"""What headers and queries cost the application that reads them."""

import time
from types import SimpleNamespace

import pytest
from falcon import testing
from support import heads
from worker_daemon.api import app
from worker_daemon.auth import verifier
from worker_daemon.settings import config

SMALL, LARGE = 16 << 10, 64 << 10
LITTLE = 0.1  # seconds of CPU time for 64 KiB in one header, which a cost by the square exceeds
# Those that falcon or the daemon reads, each with a beginning and an end of its value.
HEADERS = {
    "AUTHORIZATION": ("Basic ", ""),
    "ACCEPT": ("text/plain;q=", ""),
    "ACCEPT_ENCODING": ("gzip", ""),
    "CONNECTION": ("close", ""),
    "CONTENT_ENCODING": ("gzip", ""),
    "CONTENT_TYPE": ("application/json; charset=", "utf-8"),
    "COOKIE": ("a=", "; b=c"),
    "DATE": ("Sat, 28 Nov", " 2026"),
    "FORWARDED": ("for=", ";by=b"),
    "HOST": ("localhost", ":1"),
    "IDEMPOTENCY_KEY": ("k", ""),
    "IF_MATCH": ('"a', '"'),
    "IF_MODIFIED_SINCE": ("Sat, ", "GMT"),
    "IF_NONE_MATCH": ('"a', '"'),
    "IF_RANGE": ('"a', '"'),
    "LAST_EVENT_ID": ("1", ""),
    "RANGE": ("bytes=1", "-2"),
    "X_FORWARDED_FOR": ("1.2.3.4, ", ""),
    "X_FORWARDED_HOST": ("a", ""),
}


@pytest.fixture(scope="module")
def calls(engine):
    """Return a function that sends a request with headers and a query to the application."""
    everybody = SimpleNamespace(verify=lambda *_: verifier.Verdict(accepted=True))
    application = app.create_app(engine, everybody, config.Config())
    client = testing.TestClient(application, headers={"Authorization": "Basic YTpi"})
    body = {"command": "echo", "args": ["hello"]}
    job = client.simulate_post("/jobs/run", json=body).json["id"]
    client.simulate_get(f"/jobs/{job}/status?wait=30")

    def call(query="", **headers):
        environ = testing.create_environ(path=f"/jobs/{job}/out")
        environ["QUERY_STRING"] = query
        environ |= {"HTTP_AUTHORIZATION": "Basic YTpi", "HTTP_ACCEPT": "application/octet-stream"}
        for name, value in headers.items():
            environ[name if name == "CONTENT_TYPE" else f"HTTP_{name}"] = value
        answer = testing.StartResponseMock()
        b"".join(testing.closed_wsgi_iterable(application(environ, answer)))
        return int(answer.status.split()[0])

    return call


def cpu_time(work):
    """Return the least CPU time of this thread that `work()` takes."""
    times = []
    for _ in range(3):
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
        if times[-1] < LITTLE:
            break
    return min(times)


def grows_too_fast(work, octet):
    """Return what is wrong if four times the octets cost over five times as much."""
    text = octet.decode("latin-1")
    long = cpu_time(lambda: work(text * (LARGE // len(text))))
    if long <= LITTLE:
        return None
    short = cpu_time(lambda: work(text * (SMALL // len(text))))
    return f"{short:.4f} s, then {long:.4f} s" if long > 5 * short else None


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_costs_more_than_its_length(calls, name):
    """One request of a stranger, or of a user, would keep the interpreter from all others."""
    before, after = HEADERS[name]
    wrong = {}
    for octet in heads.OCTETS:
        work = lambda text: calls(**{name: before + text + after})  # noqa: E731
        if fault := grows_too_fast(work, octet):
            wrong[octet] = fault
    assert wrong == {}


@pytest.mark.parametrize("before", ["", "stream=", "offset=1", "tail=", "follow=", "owner=", "a&"])
def test_no_query_costs_more_than_its_length(calls, before):
    """One request of a user would keep the interpreter from all others."""
    wrong = {}
    for octet in heads.OCTETS:
        if fault := grows_too_fast(lambda text: calls(query=before + text), octet):
            wrong[octet] = fault
    assert wrong == {}
