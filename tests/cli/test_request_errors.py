"""Each error message names what failed; only a lost connection is called lost."""

from __future__ import annotations

import errno
import http.client
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import urllib3.exceptions
from support.cli_certs import Authority
from support.cli_run import COMMAND, Worker
from support.cli_stub import Answer, Script, Stub, answer, in_order
from worker_cli import Client, errors, system_limits
from worker_cli import main as program
from worker_cli.__main__ import main
from worker_cli.commands import common
from worker_cli.net import peers, request_errors

PEER = peers.Peer("https://localhost:8443", None, None)
Serve = Callable[[Script], Stub]
ClientOf = Callable[[Stub], Client]

LOST = {
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ReadTimeout,
    http.client.BadStatusLine,
    http.client.IncompleteRead,
    http.client.RemoteDisconnected,
    urllib3.exceptions.IncompleteRead,
    urllib3.exceptions.InvalidChunkLength,
}


def kinds(*modules: object) -> list[type[Exception]]:
    """Return every exception of some modules, each once."""
    found = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ]
    return [each for each in dict.fromkeys(found) if not issubclass(each, Warning)]


def made(kind: type[Exception]) -> Exception:
    """Return an exception of a kind, as far as it can be made with a text alone."""
    error = kind.__new__(kind)
    # A BadStatusLine that is no HTTP at all is another failure: see below.
    error.args = ("HTTP/1.",) if kind is http.client.BadStatusLine else ("of a new kind",)
    for name in ("partial", "length", "expected", "response"):  # what their texts show
        error.__dict__.setdefault(name, b"")
    return error


@pytest.mark.parametrize(
    "kind", kinds(requests.exceptions, urllib3.exceptions, http.client), ids=str
)
def test_only_a_lost_connection_is_called_lost(kind: type[Exception]) -> None:
    """A user would search the network for what is wrong with a setting."""
    inner = made(kind)
    outer = inner if isinstance(inner, OSError) else requests.ConnectionError(inner)
    message = request_errors.from_request(outer, PEER)
    assert isinstance(message, errors.ConnectionLost) == (kind in LOST), str(message)
    assert "was lost" not in str(message) or kind in LOST


def test_an_unknown_failure_is_named() -> None:
    """The message would not say what went wrong."""
    error = requests.exceptions.RetryError("too many 500 error responses")
    assert str(request_errors.from_request(error, PEER)) == (
        "the request to https://localhost:8443 failed: too many 500 error responses "
        "(requests.exceptions.RetryError); the server may have received it; --debug shows more"
    )
    assert "; nothing was sent;" in str(
        request_errors.from_request(requests.exceptions.InvalidHeader("bad"), PEER)
    )


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (requests.exceptions.ContentDecodingError("x"), errors.Unreachable, "compressed"),
        (requests.exceptions.ConnectionError("Read timed out."), errors.ConnectionLost, "in time"),
        (requests.exceptions.StreamConsumedError("x"), errors.Unreachable, "StreamConsumed"),
        (
            ssl.SSLError(1, "BAD_RECORD_MAC"),
            errors.ConnectionLost,
            "lost before the answer was complete",
        ),
        (
            requests.exceptions.ChunkedEncodingError(
                urllib3.exceptions.ProtocolError("Response ended prematurely")
            ),
            errors.ConnectionLost,
            "lost before the answer was complete",
        ),
        (OSError(errno.EMFILE, "x"), errors.Unreachable, "ulimit -n"),
    ],
)
def test_failures_within_an_answer(error: Exception, kind: type[Exception], message: str) -> None:
    """Output would be requested again and again, although that cannot help."""
    found = request_errors.from_body(error, PEER)
    assert type(found) is kind
    assert message in str(found)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("https://a..b:8443", "the address is not valid"),
        (f"https://{'x' * 64}.invalid:8443", "the address is not valid"),
        ("https://*.invalid:8443", "the address is not valid"),
        ("localhost:0", "invalid server address"),
    ],
)
def test_an_impossible_address_is_named(worker: Worker, server: str, message: str) -> None:
    """The message would say that the connection was lost, although there never was one."""
    done = worker.run("run", "--server", server, "true")
    assert done.code == 2
    assert message in done.stderr
    assert "lost" not in done.stderr
    assert "created" not in done.stderr


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.7\r\n",
    ],
    ids=["many headers", "a long header", "another protocol"],
)
def test_an_answer_that_is_not_http_is_not_a_lost_connection(
    serve: Serve, client_of: ClientOf, data: bytes
) -> None:
    """The request would be sent again for half a minute."""
    with pytest.raises(errors.Unreachable, match="something that is not HTTP") as caught:
        client_of(serve(lambda _: Answer(data))).whoami()
    assert not isinstance(caught.value, errors.ConnectionLost)


# Settings of the environment


def test_a_key_log_that_cannot_be_written_is_named(worker: Worker, serve: Serve) -> None:
    """The message would name the CA instead."""
    stub = serve(lambda _: answer(200, {"user": "ann"}))
    worker.environ["SSLKEYLOGFILE"] = str(worker.home / "no" / "keys")
    done = worker.run("whoami", "--server", stub.url)
    assert done.code == 2
    assert done.stderr == (
        f"worker: cannot write {worker.home}/no/keys, which SSLKEYLOGFILE names: No such file or "
        "directory; name another file, or unset SSLKEYLOGFILE\n"
    )
    worker.environ["SSLKEYLOGFILE"] = str(worker.home / "keys")
    worker.ok("whoami", "--server", stub.url)
    assert "SECRET" in (worker.home / "keys").read_text()


def test_a_netrc_that_is_not_utf_8_is_named(worker: Worker) -> None:
    """A user would not know which file is meant, or what to do."""
    file = worker.home / ".netrc"
    file.touch(mode=0o600)
    file.write_bytes(b"machine a login b password \xe9\n")
    del worker.environ["WORKER_PASSWORD"]
    done = worker.run("whoami")
    cure = "save the file as UTF-8, or set NETRC to another file"
    assert (done.code, done.stderr) == (
        2,
        f"worker: cannot read {file}: byte 27 is not UTF-8; {cure}\n",
    )


def test_a_chain_in_the_wrong_order_is_named(
    worker: Worker, authority: Authority, tmp_path: Path
) -> None:
    """The message would name the key, and a user create a new one in vain."""
    mine = authority.issue_to_client("client")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(authority.cert.read_bytes() + mine.cert.read_bytes())
    worker.config.mkdir(parents=True)
    (worker.config / "config.toml").write_text(
        f'[profiles.default]\ncert = "{chain}"\nkey = "{mine.key}"\n'
    )
    done = worker.run("whoami")
    assert done.code == 2
    assert f"cannot use {chain} for this client's certificate: " in done.stderr
    assert f"the certificate of {mine.key} must be the first one in it" in done.stderr


# Streams, directories and limits


def shell(worker: Worker, line: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        text=True,
        env=worker.environ,
        cwd=cwd or worker.home,
        check=False,
    )


RECORD = {
    "id": "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11",
    "status": "killed",
    "user": "ann",
    "version": "1",
}
VERBS = [
    "run true",
    "status @",
    "list -q",
    "kill @",
    "wait @",
    "remove @",
    "whoami",
    "version",
    "help",
    "completion bash",
    "out @",
]


@pytest.mark.parametrize("words", VERBS)
def test_streams_that_are_closed(worker: Worker, serve: Serve, words: str) -> None:
    """A cron job or a service would fail without a reason, or with a traceback."""

    def script(request: object) -> Answer:
        path = getattr(request, "path", "")
        if path.endswith("/out"):
            return answer(200, b"data", {"X-Output-Start": "0", "X-Output-Size": "4"})
        return answer(200, {"jobs": [RECORD]} if path == "/jobs" else RECORD)

    worker.environ["WORKER_SERVER"] = serve(script).url
    line = f"{COMMAND} " + words.replace("@", str(RECORD["id"]))
    assert shell(worker, f"{line} <&-").stderr == ""
    assert shell(worker, f"{line} 2>&-").stdout != ""
    closed = shell(worker, f"{line} >&-")
    assert closed.stderr.splitlines()[-1] == "worker: cannot write to stdout: it is closed"
    assert shell(worker, f"{line} >&- 2>&- <&-").returncode == closed.returncode != 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --stdin - cat", "cannot read --stdin -: stdin is closed"),
        ("login --user ann --password-stdin", "--password-stdin: stdin is closed"),
    ],
)
def test_an_input_that_is_closed_is_not_empty(worker: Worker, words: str, message: str) -> None:
    """A job would run without its input, or the password seem empty."""
    done = shell(worker, f"{COMMAND} {words} <&-")
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]


def test_a_working_directory_that_was_removed(worker: Worker, serve: Serve, tmp_path: Path) -> None:
    """The message would be "No such file or directory", without a name."""
    worker.environ["WORKER_SERVER"] = serve(lambda _: answer(200, {"user": "ann"})).url
    gone = tmp_path / "gone"
    for words, code, message in (
        ("whoami", 0, ""),
        ("login --cacert ca.pem", 2, "cannot save the path ca.pem: the working directory was"),
    ):
        gone.mkdir()
        done = shell(worker, f"rmdir {gone} && exec {COMMAND} {words}", cwd=gone)
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.EMFILE, "x"),
            "cannot start: this process has reached its limit",
        ),
        (MemoryError(), "cannot start: there is not enough memory"),
        (ImportError("libssl: failed to map"), "cannot start: libssl: failed to map; if no limit"),
    ],
)
def test_a_failed_import_is_explained(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    """A limit of the machine would end in a traceback."""

    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(program, "run", run)
    assert main(["whoami"]) == 125
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "cannot continue: there is not enough memory"),
        (
            ImportError("libssl: failed to map"),
            "cannot continue: libssl: failed to map; if no limit",
        ),
    ],
)
def test_a_limit_that_is_reached_later_is_not_reported_as_a_bug(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    """A limit of the machine would be reported as a bug in the client."""

    def connect(_: object) -> None:
        raise error

    monkeypatch.setattr(common, "connect", connect)
    assert main(["whoami"]) == 125
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EMFILE, "x"), "its limit of open files"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("can't start new thread"), "the limit of processes and threads"),
        (RuntimeError("another"), None),
        (OSError(errno.ENOSPC, "x"), None),
    ],
)
def test_limits_of_the_machine_are_explained(error: Exception, message: str | None) -> None:
    """A limit of the machine would be reported as an error number, or as a bug."""
    assert (
        (system_limits.explain(error) or "").count(message or "") == 1
        if message
        else not system_limits.explain(error)
    )


def test_a_failed_thread_is_not_reported_as_a_bug(
    worker: Worker,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A limit on processes would be reported as a bug in the client."""
    import threading

    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    created = answer(201, {"id": RECORD["id"], "status": "running"})
    stub = serve(in_order(created, created))
    for name, value in worker.environ.items():
        monkeypatch.setenv(name, value)

    monkeypatch.setattr("worker_cli.ui.attach.threading", SimpleNamespace(Thread=NoThread))
    code = main(["run", "--server", stub.url, "--wait", "--separate-stderr", "true"])
    assert code == 125
    message = capsys.readouterr().err
    assert "the job may still run; to follow it again: worker out -f" in message
    assert "cannot continue: the limit of processes and threads" in message
