"""A name that is used again: whether the new user gets the jobs of the one before."""

import getpass
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import api as support
from support.api import OCTETS, Api, User, refused
from support.waiting import wait_until
from worker_core import Engine
from worker_daemon import errors
from worker_daemon.auth import htpasswd
from worker_daemon.command import user


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The users file of `running`."""
    return tmp_path / "users"


@pytest.fixture
def running(tmp_path: Path, file: Path) -> Iterator[Api]:
    """A server that goes on while its users change."""
    with Engine() as engine, support.serving(engine, tmp_path) as api:
        yield api


def wait_for_change(alice: User) -> None:
    """Wait until the server has looked at the file: at once only for a password that is new."""
    wait_until(lambda: alice.get("/jobs").json()["jobs"] == [])


def add(file: Path, keep_jobs: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add alice, with a password from stdin."""
    text = io.TextIOWrapper(io.BytesIO(support.PASSWORD.encode() + b"\n"))
    monkeypatch.setattr(sys, "stdin", text)
    user.add(file, "alice", from_stdin=True, cost=4, keep_jobs=keep_jobs)


def test_a_new_user_does_not_reach_the_jobs_of_a_namesake(
    running: Api, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody new could read and end what somebody else has run, by having the same name."""
    old = running.user("alice").run("sleep", "1000", cwd="/")
    key = {"Idempotency-Key": "the same"}
    body = {"command": "true", "cwd": "/"}
    first = running.user("alice").post("/jobs/run", json=body, headers=key).json()["id"]
    user.remove(file, "alice")
    add(file, False, monkeypatch)
    assert "with ?owner=alice:1" in capsys.readouterr().err
    alice, root = running.user("alice"), running.user("root")
    wait_for_change(alice)
    for method, path in (
        ("GET", f"/jobs/{old}"),
        ("GET", f"/jobs/{old}?owner=alice"),
        ("GET", f"/jobs/{old}/status"),
        ("GET", f"/jobs/{old}/out"),
        ("PUT", f"/jobs/{old}/kill"),
        ("DELETE", f"/jobs/{old}"),
    ):
        refused(alice.request(method, path), 404, "job_not_found")
    refused(alice.get(f"/jobs/{old}?owner=alice:1"), 422, "invalid_request")
    again = alice.post("/jobs/run", json=body, headers=key).json()["id"]
    assert again != first
    alice.ended(again)
    assert [job["id"] for job in alice.get("/jobs").json()["jobs"]] == [again]
    events = alice.get("/events", headers={"Last-Event-ID": "0"}, stream=True)
    with events:
        lines = events.iter_lines(chunk_size=1)
        assert again.encode() in next(line for line in lines if line.startswith(b"data"))
    assert [job["id"] for job in root.get("/jobs?owner=alice").json()["jobs"]] == [again]
    earlier = [job["id"] for job in root.get("/jobs?owner=alice:1").json()["jobs"]]
    assert {old, first} <= set(earlier)
    assert again not in earlier
    assert root.get(f"/jobs/{again}?owner=alice").json()["owner"] == "alice:2"
    assert root.put(f"/jobs/{old}/kill?owner=alice:1", json={"now": True}).status_code == 200


def test_a_third_user_reaches_neither(
    running: Api, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third user of a name would get the jobs of the first or of the second one."""
    ids = []
    alice = running.user("alice")
    for _ in range(3):
        wait_for_change(alice)
        ids.append(alice.run("true", cwd="/"))
        assert ids[-1] in alice.get("/jobs").text
        assert not any(each in alice.get("/jobs?limit=500").text for each in ids[:-1])
        user.remove(file, "alice")
        add(file, False, monkeypatch)
    root = running.user("root")
    for number, job_id in enumerate(ids, 1):
        assert job_id in root.get(f"/jobs?owner=alice:{number}").text


def test_a_user_who_comes_back_has_the_jobs_of_before(
    running: Api, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who was removed by mistake would lose all jobs."""
    job_id = running.user("alice").run("echo", "hi", cwd="/")
    running.user("alice").ended(job_id)
    for keep_jobs in (None, True):
        user.remove(file, "alice")
        add(file, keep_jobs, monkeypatch)
        said = capsys.readouterr().err
        assert "alice was a user before, and gets the jobs of that time; to start without" in said
        alice = running.user("alice")
        assert alice.get(f"/jobs/{job_id}/out", headers=OCTETS).content == b"hi\n"


@pytest.mark.parametrize(("answer", "number"), [("y", 1), ("Yes", 1), ("", 2), ("n", 2), ("?", 2)])
def test_a_terminal_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    number: int,
) -> None:
    """The administrator would not know that there are jobs, or give them away by Enter."""
    file = tmp_path / "users"
    asked = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or answer)
    monkeypatch.setattr(getpass, "getpass", lambda _: "a long password")
    user.add(file, "alice", cost=4)
    assert asked == [], "there was nobody of this name"
    user.remove(file, "alice")
    user.add(file, "alice", cost=4)
    assert asked == ["Give them to the new alice? [y/N] "]
    assert "alice was a user before. The jobs of that time are kept" in capsys.readouterr().err
    assert htpasswd.load_owners(file)[1] == {"alice": number}


def test_other_lines_and_other_names_stay(tmp_path: Path) -> None:
    """A comment or another user would be lost when a name is used again."""
    file = tmp_path / "users"
    file.touch(mode=0o600)
    hashed = htpasswd.hash_password(b"x", 4)
    file.write_text(f"# ours\nalice:{hashed}\n#workerd-owner:bob:3\nzoe:{hashed}\n")
    user.remove(file, "alice")
    lines = ["# ours", f"zoe:{hashed}", "#workerd-owner:bob:3", "#workerd-owner:alice:1"]
    assert file.read_text().splitlines() == lines
    user.put(file, "zoe", b"y", 4)
    assert htpasswd.load_owners(file)[1] == {"bob": 3, "alice": 1}


@pytest.mark.parametrize("rest", ["alice", "alice:0", "a:x", ""])
def test_a_line_that_cannot_be_read_lets_nobody_in(tmp_path: Path, rest: str) -> None:
    """A slip of the editor would give the jobs of one user to another."""
    file = tmp_path / "users"
    file.touch(mode=0o600)
    file.write_text(f"#workerd-owner:{rest}\n")
    with pytest.raises(errors.UsersError, match="line 1: must be #workerd-owner:NAME:NUMBER"):
        htpasswd.load(file)
