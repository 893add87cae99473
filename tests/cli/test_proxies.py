"""Proxies: used when the environment names one, and named in messages when they fail."""

from __future__ import annotations

import pytest
from support.cli_certs import Authority, Identity
from support.cli_proxy import Proxy
from support.cli_run import Worker
from support.cli_stub import Answer, Request, Stub, answer
from worker_cli import Client, ServerUnavailable, Untrusted
from worker_cli.net import address, proxies

SERVER = "https://worker.invalid:8443"


def ok(_: Request) -> Answer:
    return answer(200, {"user": "ann"})


@pytest.fixture
def far(authority: Authority) -> Identity:
    """The certificate of a server that only the proxy can reach."""
    return authority.issue("far", hosts=("worker.invalid",))


def client(authority: Authority, server: str = SERVER) -> Client:
    return Client(server, user="ann", password="secret", cacert=authority.cert)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_is_gone_through(
    authority: Authority, far: Identity, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Behind a company's proxy no server could be reached."""
    with Stub(far, ok) as stub, Proxy(stub.port) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        with client(authority) as caller:
            assert caller.whoami() == {"user": "ann"}
        (line,) = proxy.requests
        assert line.startswith("CONNECT worker.invalid:8443 HTTP/")
        assert not any("authorization" in each.lower() for each in proxy.headers)


def test_trust_is_the_same_through_a_proxy(
    authority: Authority, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy could impersonate the server."""
    with Stub(identity, ok) as stub, Proxy(stub.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with (
            client(authority) as caller,
            pytest.raises(Untrusted, match=r"not for worker\.invalid"),
        ):
            caller.whoami()
        assert stub.requests == []


def test_loopback_needs_no_proxy(
    authority: Authority, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo would fail on every machine behind a proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with Stub(identity, ok) as stub, client(authority, stub.url) as caller:
        assert caller.whoami() == {"user": "ann"}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost.", True),
        ("LOCALHOST", True),
        ("db.localhost", True),
        ("127.0.0.1", True),
        ("127.255.3.4", True),
        ("127.1", True),
        ("0x7f000001", True),
        ("2130706433", True),
        ("0177.0.0.1", True),
        ("0.0.0.0", True),
        ("[::1]", True),
        ("[0:0:0:0:0:0:0:1]", True),
        ("[::1%lo]", True),
        ("[::ffff:127.0.0.1]", True),
        ("[::ffff:7f00:1]", True),
        ("[::]", True),
        ("128.0.0.1", False),
        ("[::2]", False),
        ("[fe80::1%lo]", False),
        ("[::ffff:128.0.0.1]", False),
        ("127.0.0.1.example.org", False),
        ("127.example.org", False),
        ("localhost.example.org", False),
        ("notlocalhost", False),
    ],
)
def test_loopback_is_an_address_not_a_spelling(
    monkeypatch: pytest.MonkeyPatch, host: str, loopback: bool
) -> None:
    """The password for a server on this machine would be sent over the network."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    for suffix in ("", ":8443", "/path"):
        found = proxies.find(address.normalized(f"https://{host}{suffix}"))
        assert (found is None) == loopback


@pytest.mark.parametrize(
    ("proxy", "fault"),
    [
        ("foo:bar", "it has no host"),
        ("http://", "it has no host"),
        (":80", "it has no host"),
        ("http://h:port", "that is not an address"),
        ("http://h:99999", "that is not an address"),
        ("http://[::1", "that is not an address"),
        ("http://a..b:80", "that is not an address"),
        ("socks5://h:1", "SOCKS needs the Python package PySocks, which is not installed"),
        ("ftp://ann:secret@h:1", "ftp is not a kind of proxy"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_used_is_named(
    worker: Worker, proxy: str, fault: str, variable: str
) -> None:
    """The message would say that the connection was lost, although there never was one."""
    worker.environ[variable] = proxy
    done = worker.run("run", "--server", SERVER, "true")
    shown = proxy.replace("ann:secret@", "")
    assert done.code == 2
    assert done.stderr == (
        f"worker: cannot use the proxy {shown!r}, which {variable} names: {fault}; a proxy looks "
        "like http://HOST:PORT; set NO_PROXY=worker.invalid to connect without it\n"
    )


def test_no_proxy_is_respected(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to an internal server would go through the proxy."""
    with Proxy(None) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "worker.invalid")
        with (
            client(authority) as caller,
            pytest.raises(ServerUnavailable, match=r"worker\.invalid is not known"),
        ):
            caller.whoami()
        assert proxy.requests == []


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "407 Proxy Authentication Required",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
    ],
)
def test_a_proxy_that_refuses_is_named(worker: Worker, refusal: bytes, message: str) -> None:
    """A user would search for the fault on the server."""
    with Proxy(None, refusal) as proxy:
        worker.environ["HTTPS_PROXY"] = proxy.url.replace("//", "//ann:secret@")
        done = worker.run("whoami", "--server", SERVER)
    assert done.code == 125
    assert f"cannot reach {SERVER} through the proxy {proxy.url}: " in done.stderr
    assert message in done.stderr
    assert "set NO_PROXY=worker.invalid to connect directly" in done.stderr
    assert "secret" not in done.stderr


def test_a_proxy_that_is_not_there_is_named(worker: Worker) -> None:
    """The same when nothing listens at the proxy's address."""
    worker.environ["HTTPS_PROXY"] = "http://127.0.0.1:1"
    done = worker.run("whoami", "--server", SERVER)
    assert done.code == 125
    assert (
        "through the proxy http://127.0.0.1:1: Connection refused; check HTTPS_PROXY" in done.stderr
    )


def test_a_proxy_that_hangs_up_is_named(worker: Worker) -> None:
    """The same when the proxy closes the connection."""
    with Proxy(None) as proxy:
        worker.environ["HTTPS_PROXY"] = proxy.url
        done = worker.run("whoami", "--server", SERVER)
    assert done.code == 125
    assert f"the connection to {SERVER} (through the proxy {proxy.url}) was lost" in done.stderr
