"""Which servers the client trusts, and the messages about those that it does not trust."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli_certs import Authority, Identity
from support.cli_run import Worker
from support.cli_stub import Answer, Script, Stub, answer
from worker_cli import Client, NotLoggedIn, Unreachable, Untrusted

Serve = Callable[[Script], Stub]


def ok(_: object) -> Answer:
    return answer(200, {"user": "ann"})


def client(stub: Stub, cacert: Path | None, server: str | None = None) -> Client:
    return Client(server or stub.url, user="ann", password="secret", cacert=cacert)


def refusal(identity: Identity | None, cacert: Path, server: str | None = None) -> str:
    """Return the message for an untrusted server, and check that it got no request."""
    with Stub(identity, ok) as stub, client(stub, cacert, server) as caller:
        with pytest.raises(Untrusted) as caught:
            caller.whoami()
        assert stub.requests == []
    return str(caught.value)


def test_named_ca_is_trusted(serve: Serve, authority: Authority) -> None:
    """A server with a CA of its own could not be used."""
    stub = serve(ok)
    with client(stub, authority.cert) as caller:
        assert caller.whoami() == {"user": "ann"}


def test_same_subject_from_another_ca_is_refused(tmp_path: Path, authority: Authority) -> None:
    """Anybody who copies the names in a certificate could read passwords."""
    other = Authority(tmp_path, "other").issue("server")
    message = refusal(other, authority.cert)
    assert other.fingerprint in message
    assert "--cacert" in message
    assert str(authority.cert) in message


def test_system_cas_do_not_count_beside_a_named_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    """An environment variable for other programs could add a trusted CA."""
    other = Authority(tmp_path, "other")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(other.cert))
    assert "is not from" in refusal(other.issue("server"), authority.cert)


def test_without_a_named_ca_the_system_decides(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, authority: Authority
) -> None:
    """A server with a certificate from the company's CA would need --cacert for ever."""
    stub = serve(ok)
    with client(stub, None) as caller, pytest.raises(Untrusted, match="CA that this system trusts"):
        caller.whoami()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    with client(stub, None) as caller:
        assert caller.whoami() == {"user": "ann"}


def test_the_bundle_of_requests_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    """requests adds its own CA bundle to every context, so any public CA would be trusted."""
    stub = serve(ok)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(authority.cert))
    monkeypatch.setattr("requests.certs.where", lambda: str(authority.cert))
    other = Authority(tmp_path, "other")
    with client(stub, other.cert) as caller, pytest.raises(Untrusted):
        caller.whoami()


def test_wrong_host_name_is_refused(authority: Authority) -> None:
    """Any server with a certificate of the same CA could impersonate any other."""
    elsewhere = authority.issue("elsewhere", hosts=("elsewhere.example", "10.0.0.1"))
    message = refusal(elsewhere, authority.cert)
    assert "not for localhost but for elsewhere.example, 10.0.0.1" in message


def test_wrong_address_is_refused(authority: Authority) -> None:
    """The same for a connection by IP address."""
    named = authority.issue("named", hosts=("localhost",))
    with Stub(named, ok) as stub:
        server = f"https://127.0.0.1:{stub.port}"
        with client(stub, authority.cert, server) as caller, pytest.raises(Untrusted) as caught:
            caller.whoami()
    assert "not for 127.0.0.1 but for localhost" in str(caught.value)


def test_expired_certificate_is_refused_with_its_date(authority: Authority) -> None:
    """A user would search for a fault in the CA file instead of the date."""
    message = refusal(authority.issue("expired", days=-3), authority.cert)
    assert re.search(r"expired on \d{4}-\d\d-\d\d, and this machine's clock says \d{4}", message)


def test_certificate_of_the_future_points_at_the_clock(authority: Authority) -> None:
    """On a machine whose clock is behind, every certificate seems wrong."""
    message = refusal(authority.issue_for_later("later"), authority.cert)
    assert re.search(
        r"not valid before \d{4}-\d\d-\d\d, .* clock says \d{4}-.*set whichever clock is wrong",
        message,
    )


def test_plain_http_address_is_refused(worker: Worker) -> None:
    """A typing mistake would send the password unencrypted."""
    done = worker.run("status", "0f3c", "--server", "http://localhost:8443")
    assert done.code == 125
    assert "HTTPS only" in done.stderr
    assert "https://localhost:8443" in done.stderr


def test_plain_http_server_is_refused(authority: Authority) -> None:
    """A user would not guess from "wrong version number" that the port is wrong."""
    with RawServer(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") as port:
        caller = Client(f"https://localhost:{port}", user="a", password="b", cacert=authority.cert)
        with caller, pytest.raises(Untrusted, match=r"does not speak TLS.*plain HTTP"):
            caller.whoami()


def test_redirections_are_not_followed(serve: Serve, authority: Authority) -> None:
    """The password would be sent to whatever address an answer names."""
    elsewhere = serve(ok)
    stub = serve(lambda _: answer(302, b"", {"Location": elsewhere.url}))
    with client(stub, authority.cert) as caller, pytest.raises(Unreachable, match="a redirect to"):
        caller.whoami()
    assert elsewhere.requests == []


def test_netrc_does_not_replace_the_login(
    serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """requests would use ~/.netrc instead of our login, and create another user's jobs."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login eve password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    stub = serve(ok)
    with client(stub, authority.cert) as caller:
        caller.whoami()
    assert stub.requests[0].headers["authorization"] == "Basic YW5uOnNlY3JldA=="


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), ("not a certificate", "no certificate in PEM")]
)
def test_unusable_ca_file_is_named(
    worker: Worker, tmp_path: Path, content: str | None, message: str
) -> None:
    """A wrong path in --cacert would look like a problem of the server."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    done = worker.run("whoami", "--cacert", str(file))
    assert done.code == 125
    assert message in done.stderr
    assert str(file) in done.stderr


def test_handshake_that_breaks_is_tried_again(serve: Serve, authority: Authority) -> None:
    """A server that is being restarted would look like one without TLS."""
    with RawServer(b"") as port:
        server = f"https://localhost:{port}"
        caller = Client(server, user="a", password="b", cacert=authority.cert)
        with caller, pytest.raises(Unreachable, match="lost before") as caught:
            caller.whoami()
    assert not isinstance(caught.value, Untrusted)


def test_name_and_password_are_sent_as_utf8(serve: Serve, authority: Authority) -> None:
    """Nobody with an umlaut in the password could log in: requests sends Latin-1."""
    stub = serve(ok)
    with Client(stub.url, user="jürgen", password="pässwörd:€", cacert=authority.cert) as caller:
        caller.whoami()
    assert stub.requests[0].headers["authorization"] == "Basic asO8cmdlbjpww6Rzc3fDtnJkOuKCrA=="


def test_refused_login_is_its_own_error(serve: Serve, authority: Authority) -> None:
    """A program could not distinguish a wrong password from a refused job."""
    stub = serve(lambda _: answer(401, b"", {"WWW-Authenticate": 'Basic realm="worker"'}))
    with client(stub, authority.cert) as caller, pytest.raises(NotLoggedIn):
        caller.whoami()


class RawServer:
    """Answers the first bytes of each connection with `reply`, and hangs up."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        for connection in self._connections():
            with connection:
                connection.recv(4096)
                connection.sendall(self._reply)

    def _connections(self) -> Iterator[socket.socket]:
        while True:
            try:
                yield self._listener.accept()[0]
            except OSError:
                return
