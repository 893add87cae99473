"""`from worker_cli import Client`: the same verbs for programs."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from worker_cli import Client, JobNotFinished, JobNotFound, JobNotRunning, RequestRefused


def test_a_job_by_its_handle(client: Client) -> None:
    """The example of the README would not work."""
    job = client.run("sh", "-c", "echo out; echo $X; exit 3", env={"X": "y"})
    assert b"".join(job.follow()) == b"out\ny\n"
    status = job.wait()
    assert (status.status, status.exit_code, status.ended, status.succeeded) == (
        "failed",
        3,
        True,
        False,
    )
    assert job.output() == b"out\ny\n"
    assert job.output(offset=4) == b"y\n"
    assert job.output(tail=1) == b"y\n"
    assert client.job(job.id).status() == status


def test_the_fields_of_a_status(client: Client) -> None:
    """A program would have to parse times and look up fields by name."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    status = client.run("true").wait()
    assert status.created_at is not None
    assert status.started_at is not None
    assert status.ended_at is not None
    assert before < status.created_at <= status.started_at <= status.ended_at
    assert status.usage is not None
    assert status.usage.wall_seconds is not None
    assert status.raw["exit_code"] == 0


def test_record(client: Client) -> None:
    """A program could not see what it had requested."""
    job = client.run("sleep", "60", name="n", labels={"a": "b"})
    record = job.record()
    assert record.argv == ("sleep", "60")
    assert record.owner == client.user
    assert record.spec["name"] == "n"
    job.kill(now=True)


def test_list(client: Client) -> None:
    """A program could not find its jobs again."""
    ids = [client.run("true", labels={"batch": "x"}, name=f"n{at % 2}").id for at in range(5)]
    for each in ids:
        client.wait(each)
    newest_first = ids[::-1]
    assert [each.id for each in client.list()] == newest_first
    assert [each.id for each in client.list(limit=2)] == newest_first[:2]
    assert [each.id for each in client.list(name="n1")] == [ids[3], ids[1]]
    assert [each.id for each in client.list(labels={"batch": "y"})] == []
    assert [each.id for each in client.list(status="completed")] == newest_first
    assert [each.id for each in client.list(status=["failed", "killed"])] == []
    assert [each.id for each in client.list(id_prefix=ids[0])] == [ids[0]]
    assert list(client.list(since=datetime.now(UTC) + timedelta(days=1))) == []


def test_list_goes_over_all_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many jobs only the first page would be seen."""
    monkeypatch.setattr("worker_cli.client._PAGE", 2)
    ids = [client.run("true").id for _ in range(5)]
    assert [each.id for each in client.list()] == ids[::-1]
    assert [each.id for each in client.list(limit=3)] == ids[:1:-1]


def test_kill_and_its_refusals(client: Client) -> None:
    """A program could not see why a job was not killed."""
    job = client.run("sleep", "60")
    with pytest.raises(JobNotFinished) as unfinished:
        job.remove()
    assert unfinished.value.code == "job_not_finished"
    assert job.kill() == "killed"
    with pytest.raises(JobNotRunning) as late:
        job.kill()
    assert (late.value.status, late.value.code) == (409, "job_not_running")
    assert late.value.request_id
    job.remove()
    with pytest.raises(JobNotFound):
        job.status()


def test_kill_without_waiting(client: Client) -> None:
    """A program that kills many jobs would wait for each of them."""
    job = client.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    assert next(iter(job.follow())) == b"ready\n"
    assert job.kill(wait=0, grace=0.2) == "stopping"
    assert job.wait().status == "killed"


def test_refused_fields_are_named(client: Client) -> None:
    """A program could not show which field is wrong."""
    with pytest.raises(RequestRefused) as caught:
        client.run("true", cwd="here", timeout=0)
    assert caught.value.code == "invalid_job"
    assert {each["field"] for each in caught.value.errors} == {"cwd", "timeout"}


def test_the_same_key_makes_one_job(client: Client) -> None:
    """A program that was restarted would run its job twice."""
    first = client.run("true", idempotency_key="nightly")
    assert client.run("true", idempotency_key="nightly").id == first.id
    with pytest.raises(RequestRefused) as caught:
        client.run("false", idempotency_key="nightly")
    assert caught.value.code == "idempotency_key_reused"
    assert len(list(client.list())) == 1


def test_wait_has_a_timeout(client: Client) -> None:
    """A timeout would have no effect."""
    job = client.run("sleep", "60")
    assert not job.wait(timeout=0.1).ended
    job.kill(now=True)


def test_signal(client: Client) -> None:
    """A program could not send a signal to a job."""
    job = client.run("sleep", "60")
    while job.status().status == "queued":
        pass
    assert job.signal("STOP") == "running"
    assert job.kill(now=True) == "killed"


def test_stdin(client: Client) -> None:
    """Arguments that are not UTF-8 would arrive changed."""
    data = bytes(range(256))
    assert b"".join(client.run("cat", stdin=data).follow()) == data


def test_any_thread_may_use_a_client(client: Client) -> None:
    """A program with threads would mix up its answers."""
    jobs = [client.run("sh", "-c", f"seq {at} {at + 500}") for at in range(8)]
    found: dict[int, bytes] = {}

    def follow(at: int) -> None:
        found[at] = b"".join(jobs[at].follow())

    threads = [threading.Thread(target=follow, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for at in range(8):
        assert found[at] == "".join(f"{n}\n" for n in range(at, at + 501)).encode()


def test_whoami_and_version(client: Client) -> None:
    """A program could not check its settings."""
    assert client.whoami()["user"] == client.user
    assert client.version()["name"] == "workerd"


def test_from_settings(client: Client, monkeypatch: pytest.MonkeyPatch, user: object) -> None:
    """A program would need settings of its own beside those of the command."""
    for name, value in user.environ.items():  # type: ignore[attr-defined]
        monkeypatch.setenv(name, value)
    with Client.from_settings() as same:
        assert same.whoami()["user"] == client.user
