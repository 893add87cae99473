"""Limits and isolation: what the options send, and how a record shows them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from support.cli_run import Worker
from support.cli_stub import Script, Stub, answer, problem
from worker_cli import Client
from worker_cli.commands import limit_options, run
from worker_cli.job import JobRecord
from worker_cli.ui import render

ID = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"
NOW = datetime(2026, 11, 24, tzinfo=UTC)

Serve = Callable[[Script], Stub]


def requested(worker: Worker, serve: Serve, *words: str | bytes) -> dict[str, Any]:
    """Return the job object that the command sends."""
    stub = serve(lambda _: answer(201, {"id": ID, "status": "running"}))
    worker.ok("run", "--server", stub.url, *words, "true")
    job = stub.requests[0].json
    return {name: job[name] for name in ("limits", "isolation") if name in job}


def test_every_limit_is_sent(worker: Worker, serve: Serve) -> None:
    """A job would run without the limit that was typed, or with another one."""
    words = (
        "--memory 512M --cpus 1.5 --pids 20 --io-read 10M --io-write 5M --cpu-time 1m "
        "--open-files 64 --file-size 1G --best-effort"
    )
    assert requested(worker, serve, *words.split()) == {
        "limits": {
            "memory": 512 << 20,
            "cpus": 1.5,
            "pids": 20,
            "io": {"read": 10 << 20, "write": 5 << 20},
            "cpu_time": 60.0,
            "open_files": 64,
            "file_size": 1 << 30,
            "best_effort": True,
        }
    }


@pytest.mark.parametrize(
    ("words", "isolation"),
    [
        (["--private-network"], {"private_network": True}),
        (["--private-tmp"], {"private_tmp": True}),
        (["--pid-namespace"], {"pid_namespace": True}),
        (
            ["--read-only", "--writable", "/a", "--writable=/b c"],
            {"read_only": True, "writable": ["/a", "/b c"]},
        ),
        (["--read-only", "--writable", b"/\xff"], {"read_only": True, "writable": ["/\udcff"]}),
        (
            ["--isolate"],
            dict.fromkeys(("private_network", "private_tmp", "read_only", "pid_namespace"), True),
        ),
    ],
)
def test_every_isolation_option_is_sent(
    worker: Worker, serve: Serve, words: list[str | bytes], isolation: dict[str, object]
) -> None:
    """A job could see or change more than it should."""
    assert requested(worker, serve, *words) == {"isolation": isolation}


def test_no_limits_are_sent_by_default(worker: Worker, serve: Serve) -> None:
    """The server's defaults would never apply, and an older server would refuse every job."""
    assert requested(worker, serve) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--memory", "much"), "--memory much: must be a number of bytes"),
        (("--cpus", "-1"), "--cpus -1: must be a number above 0 and up to 999999999, such"),
        (("--cpus", "1e3"), "--cpus 1e3: must be a number"),
        (("--cpus", "nan"), "--cpus nan: must be a number"),
        (("--pids", "1.5"), "--pids 1.5: must be a whole number"),
        *[
            ((option, "0"), f"{option} 0: must be {least}")
            for option, least in (
                ("--pids", "a whole number from 1 "),
                ("--open-files", "a whole number from 1 "),
                ("--memory", "a number of bytes from 1 up"),
                ("--file-size", "a number of bytes from 1 up"),
                ("--io-read", "a number of bytes from 1 up"),
                ("--io-write", "a number of bytes from 1 up"),
                ("--cpus", "a number above 0"),
                ("--cpu-time", "seconds above 0"),
            )
        ],
        (("--cpu-time", "long"), "--cpu-time long: must be seconds"),
        (("--writable", "/srv"), "--writable DIR needs --read-only"),
        (("--read-only", "--writable", ""), "--writable : must not be empty"),
        (("--isolate=yes",), "--isolate takes no value"),
        (("--mem", "1G"), "unknown option --mem; did you mean --memory?"),
    ],
)
def test_wrong_usage(worker: Worker, words: tuple[str, ...], message: str) -> None:
    """A typing mistake would be sent to the server, or leave a job without its limit."""
    done = worker.run("run", *words, "true")
    assert done.code == 2
    assert done.stderr.startswith(f"Client Error: {message}")


def test_the_library_sends_the_same(serve: Serve, client_of: Callable[[Stub], Client]) -> None:
    """Limits would only be available on the command line."""
    stub = serve(lambda _: answer(201, {"id": ID, "status": "running"}))
    client_of(stub).run("true", limits={"pids": 9}, isolation={"read_only": True})
    job = stub.requests[0].json
    assert (job["limits"], job["isolation"]) == ({"pids": 9}, {"read_only": True})


@pytest.mark.parametrize(
    ("words", "field", "message"),
    [
        (["--memory", "9G"], "limits.memory", "--memory"),
        (["--io-read", "9"], "limits.io.read", "--io-read"),
        (["--io-write", "9"], "limits.io", "--io-write"),
        (["--io-write", "9", "--io-read", "9"], "limits.io", "--io-read and --io-write"),
        (["--memory", "9G"], "limits.cpus", "--cpus (set by the server)"),
        (["--stop-signal", "FOO"], "stop_signal", "--stop-signal"),
        (["--grace", "9"], "stop_grace", "--grace"),
        (["--env", "A=1", "--env", "B=1"], "env['B']", "--env 'B'"),
        (["--label", "a[b]=1"], "labels['a[b]']", "--label 'a[b]'"),
        (["--isolate"], "isolation.read_only", "--isolate"),
        (["--read-only", "--writable", "x"], "isolation.writable[0]", "--writable"),
        ([], "command", "command"),
        ([], "limits.gpus", "limits.gpus"),
    ],
)
def test_a_refusal_names_options(
    worker: Worker, serve: Serve, words: list[str], field: str, message: str
) -> None:
    """The message would name a field of the API, which is not in the help."""
    wrong = [{"field": field, "message": "is wrong"}, {"field": "name", "message": "too long"}]
    detail = f"{field}: is wrong (and 1 more, see errors)"
    stub = serve(lambda _: problem(422, "invalid_job", detail, errors=wrong))
    done = worker.run("run", "--server", stub.url, "--name", "x", *words, "true")
    assert done.code == 1
    assert done.stderr == f"worker: {message}: is wrong; --name: too long\n"


@pytest.mark.parametrize(
    ("field", "message", "cured"),
    [
        (
            "limits.memory",
            "cannot be enforced here: it needs the cgroup v2 controller memory",
            True,
        ),
        ("limits.open_files", "cannot be more than 1024 here: start the supervisor with", True),
        ("limits.memory", "must be at most 1073741824", False),
        ("cwd", "cannot be enforced here", False),
    ],
)
def test_best_effort_is_named_where_it_helps(
    worker: Worker, serve: Serve, field: str, message: str, cured: bool
) -> None:
    """A user whose server has no cgroups would not find the option to run the job anyway."""
    wrong = [{"field": field, "message": message}]
    stub = serve(lambda _: problem(422, "invalid_job", message, errors=wrong))
    done = worker.run("run", "--server", stub.url, "--memory", "1G", "true")
    assert done.code == 1
    cure = "; to run the job without that limit, add --best-effort\n"
    assert done.stderr.endswith(cure) == cured


def test_every_field_of_a_job_has_its_option(worker: Worker, serve: Serve) -> None:
    """A message about a new option would use the name of a field of the API."""
    words = (
        "--env A=1 --label a=1 --cwd / --name x --timeout 1 --stdin - --stop-signal INT --grace 1 "
        "--separate-stderr --output-limit 1 --memory 1 --cpus 1 --pids 1 --io-read 1 --io-write 1 "
        "--cpu-time 1 --open-files 1 --file-size 1 --isolate --writable /"
    )
    stub = serve(lambda _: answer(201, {"id": ID, "status": "running"}))
    worker.ok("run", "--server", stub.url, *words.split(), "true")
    job = stub.requests[0].json
    fields = set(job) - {"command", "args", "limits", "isolation"}
    fields |= {f"{name}.{each}" for name in ("limits", "isolation") for each in job[name]}
    assert fields <= set(run.FIELDS)


# What a record tells


def details(**fields: Any) -> dict[str, str]:
    """Return what `worker status` shows of a job, by label."""
    record = JobRecord.from_json({"id": ID, "status": "running"} | fields)
    _, *lines = render.details(record, NOW).splitlines()
    return {line[2:10].strip(): line[11:] for line in lines}


def test_limits_are_shown_with_what_enforces_them() -> None:
    """A user would rely on a limit that is not enforced."""
    limits = {
        "memory": 512 << 20,
        "cpus": 1.5,
        "io": {"read": 10 << 20, "write": 1024},
        "cpu_time": 90,
        "open_files": 64,
        "best_effort": True,
    }
    enforced = {"memory": "cgroup", "cpus": None, "io": None, "open_files": "rlimit"}
    shown = details(spec={"command": "x", "limits": limits}, enforced=enforced)
    assert shown["limits"] == (
        "memory 512.0 MiB (cgroup), cpus 1.5 (not enforced), "
        "io read 10.0 MiB/s, write 1.0 KiB/s (not enforced), cpu time 1m30s, open files 64 (rlimit)"
    )


def test_isolation_and_account_are_shown() -> None:
    """A user could not see what a job has access to."""
    isolation = {
        "private_network": True,
        "private_tmp": True,
        "read_only": True,
        "writable": ["/srv", "/a\x1b[2J"],
        "pid_namespace": True,
    }
    shown = details(spec={"command": "x", "isolation": isolation}, run_as="alice")
    assert shown["as"] == "alice"
    assert shown["private"] == (
        r"network, /tmp, processes, file system read-only except /srv /a\x1b[2J"
    )


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ({"user_seconds": 1.0, "system_seconds": 2.0}, "3.0s of CPU"),
        (
            {"user_seconds": 1, "system_seconds": 2, "max_rss_bytes": 1 << 20, "max_processes": 3},
            "3.0s of CPU, 1.0 MiB of memory at most, 3 processes at most",
        ),
        (
            {"max_processes": 1, "read_bytes": 0, "written_bytes": 2048},
            "1 process, 0 B read, 2.0 KiB written",
        ),
        ({"max_rss_bytes": None, "wall_seconds": 1.0}, None),
        (None, None),
    ],
)
def test_usage_is_shown_as_far_as_it_is_measured(usage: object, message: str | None) -> None:
    """A user would believe that a value that was not measured is zero."""
    assert details(spec={"command": "x"}, usage=usage).get("used") == message


@pytest.mark.parametrize(
    "spec",
    [
        {"limits": None, "isolation": None},
        {"limits": [], "isolation": "all"},
        {"limits": {"memory": "half", "io": 7, "gpus": {"a": 1}}, "isolation": {"new": True}},
    ],
)
def test_unknown_fields_of_a_newer_server_are_ignored(spec: dict[str, object]) -> None:
    """An update of the server would break every client."""
    assert "job" in details(spec={"command": "x"} | spec)


def test_every_option_is_one_of_run(worker: Worker) -> None:
    """An option would be without effect, or not be in the help."""
    text = worker.ok("run", "--help").out
    assert all(f"  {option.names[0]}" in text for option in limit_options.OPTIONS)
