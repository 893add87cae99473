"""Job ids: the first characters of one, and @last."""

from __future__ import annotations

import pytest
from support.cli_run import Worker


def test_beginning_of_an_id(user: Worker) -> None:
    """People would have to copy 36 characters."""
    job = user.ok("run", "echo", "hi").line
    user.ok("wait", "-q", job)
    for text in (job[:8], job[:13], job[:35], job.upper(), job[:9].upper()):
        assert user.ok("out", text).out == "hi\n"


def test_last(user: Worker) -> None:
    """The newest job, which is looked at most often, would need its id."""
    user.ok("run", "echo", "one")
    job = user.ok("run", "echo", "two").line
    assert user.ok("wait", "@last").out == f"{job} completed (exit code 0)\n"
    assert user.ok("out", "@last").out == "two\n"


def test_last_of_nothing(user: Worker) -> None:
    """A new user would get an unclear message about a job called @last."""
    done = user.run("out", "@last")
    assert done.code == 1
    assert done.stderr == "worker: there is no @last: you have no jobs yet\n"


def test_ambiguous_beginning_lists_the_candidates(user: Worker) -> None:
    """The wrong job would be killed."""
    jobs: dict[str, list[str]] = {}
    while max(map(len, jobs.values()), default=0) < 2:
        job = user.ok("run", "echo", "hi").line
        jobs.setdefault(job[0], []).append(job)
    first, second = next(pair for pair in jobs.values() if len(pair) == 2)
    for each in (first, second):
        user.ok("wait", "-q", each)
    done = user.run("kill", first[0])
    assert done.code == 1
    head, *rows = done.stderr.splitlines()
    assert head == f"worker: the ids of several jobs begin with {first[0]}; type more characters:"
    assert rows == [f"  {each}  completed  echo hi" for each in (second, first)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "worker: invalid job id 'hello'; see `worker list`"),
        ("@first", "worker: invalid job id '@first'"),
        ("../whoami", "worker: invalid job id '../whoami'"),
        ("", "worker: invalid job id ''"),
        ("abcdef00", "worker: you have no job whose id begins with abcdef00; see `worker list`"),
    ],
)
def test_invalid_ids(user: Worker, text: str, message: str) -> None:
    """A mistyped id would become another request to the server."""
    done = user.run("status", text)
    assert done.code == 1
    assert done.stderr.startswith(message)
