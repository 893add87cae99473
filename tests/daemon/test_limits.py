"""What jobs may use: defaults where they say nothing, maxima that they cannot pass."""

import math
from pathlib import Path

import pytest
from support import api as support
from support.api import refused
from worker_core import Engine, InvalidSpec, JobSpec, Limits
from worker_daemon import errors
from worker_daemon.command import check
from worker_daemon.settings import config, limits

GIB = 1 << 30
YOURS = "your maximum on this server (its setting limits.max.%s)"


def table(tmp_path, text):
    """Read the setting from a file."""
    path = tmp_path / "w.toml"
    path.write_text(text)
    return config.load(path).limits


def faults(tmp_path, text):
    """Return what is wrong with a file, without the path in front of each."""
    with pytest.raises(errors.ConfigError) as caught:
        table(tmp_path, text)
    return [each.removeprefix(f"{tmp_path}/w.toml: ") for each in caught.value.faults]


def bounded(read, user="alice", **limits):
    """Return the limits of a job as the user gets it."""
    return read.bounded(JobSpec("true", limits=Limits(**limits)), user).limits


def over(read, user="alice", **limits):
    """Return the message for limits over a maximum."""
    with pytest.raises(InvalidSpec) as caught:
        bounded(read, user, **limits)
    return {each.field: each.message for each in caught.value.errors}


EVERYTHING = """
[limits.default]
memory = "1GiB"
cpus = 1
pids = 100
io = { read = "10MiB", write = "5MiB" }
cpu_time = "10m"
open_files = 512
file_size = "2GiB"
[limits.max]
memory = "8 GiB"
cpus = 4.5
pids = 1000
io = { read = "100MiB", write = "50MiB" }
cpu_time = "1h"
open_files = 4096
file_size = "20GiB"
"""


def test_defaults_are_filled_in_where_a_job_says_nothing(tmp_path):
    """A job without limits would take the whole machine."""
    read = table(tmp_path, EVERYTHING)
    assert bounded(read) == Limits(
        memory=GIB,
        cpus=1,
        pids=100,
        io={"read": 10 << 20, "write": 5 << 20},
        cpu_time=600.0,
        open_files=512,
        file_size=2 * GIB,
    )
    asked = bounded(read, memory=2 * GIB, io={"read": 7})
    assert (asked.memory, asked.cpus, asked.io) == (2 * GIB, 1, {"read": 7, "write": 5 << 20})


def test_each_maximum_holds_and_is_told(tmp_path):
    """A user could take more than the administrator gives, or would not learn how much that is."""
    read = table(tmp_path, EVERYTHING)
    most = {
        "memory": 8 * GIB,
        "cpus": 4.5,
        "pids": 1000,
        "io": {"read": 100 << 20, "write": 50 << 20},
        "cpu_time": 3600.0,
        "open_files": 4096,
        "file_size": 20 * GIB,
    }
    assert bounded(read, **most) == Limits(**most)
    more = {name: value + 1 for name, value in most.items() if name != "io"}
    said = over(read, **more, io={"read": (100 << 20) + 1, "write": (50 << 20) + 1})
    assert said["limits.memory"] == f"must be at most 8GiB, {YOURS % 'memory'}"
    assert said["limits.cpus"] == f"must be at most 4.5, {YOURS % 'cpus'}"
    assert said["limits.io.write"] == f"must be at most 50MiB, {YOURS % 'io.write'}"
    assert said["limits.cpu_time"] == f"must be at most 1h, {YOURS % 'cpu_time'}"
    assert set(said) == {f"limits.{name}" for name in limits.AMOUNTS}


def test_a_maximum_bounds_who_asks_for_nothing(tmp_path):
    """Leaving the limit out would be the way around the maximum."""
    read = table(tmp_path, "[limits.max]\npids = 50\n")
    assert bounded(read) == Limits(pids=50)


def test_a_user_has_bounds_of_their_own(tmp_path):
    """Anybody who needs more could get it only together with everybody."""
    read = table(
        tmp_path,
        "[limits.default]\nmemory = '1GiB'\ncpus = 2\n[limits.max]\nmemory = '2GiB'\npids = 100\n"
        "[limits.users.alice.max]\nmemory = 'unlimited'\ncpus = 1\n"
        "[limits.users.alice.default]\nmemory = '4GiB'\n",
    )
    assert bounded(read, "bob") == Limits(memory=GIB, cpus=2, pids=100)
    assert bounded(read) == Limits(memory=4 * GIB, cpus=1, pids=100)
    assert bounded(read, memory=100 * GIB).memory == 100 * GIB
    assert set(over(read, cpus=1.5, pids=101)) == {"limits.cpus", "limits.pids"}
    assert set(over(read, "bob", memory=3 * GIB, cpus=1.5)) == {"limits.memory"}


def test_an_unlimited_default_leaves_a_user_alone(tmp_path):
    """A default for everybody could not be taken back for one."""
    text = "[limits.default]\npids = 9\n[limits.users.alice.default]\npids = 'unlimited'\n"
    assert bounded(table(tmp_path, text)) == Limits()
    assert table(tmp_path, text).users["alice"].default == {"pids": math.inf}


def test_best_effort_is_no_way_around_a_maximum(tmp_path):
    """A job with best_effort would have no limit where the machine cannot enforce the maximum."""
    assert bounded(table(tmp_path, ""), pids=9, best_effort=True).best_effort
    read = table(tmp_path, "[limits.max]\npids = 50\n")
    assert bounded(read, pids=9, best_effort=True) == Limits(pids=9)
    text = "[limits.default]\nbest_effort = true\n[limits.max]\npids = 50\n"
    assert bounded(table(tmp_path, text), pids=9) == Limits(pids=9, best_effort=True)
    text += "[limits.users.alice.default]\nbest_effort = false\n"
    assert not bounded(table(tmp_path, text)).best_effort


def test_a_job_that_nothing_bounds_stays_as_it_is(tmp_path):
    """Jobs would have to be copied, input and all, for nothing."""
    spec = JobSpec("true", stdin=b"x")
    assert table(tmp_path, "").bounded(spec, "alice") is spec


def test_every_fault_is_told_at_once(tmp_path):
    """The administrator would find the mistakes one by one, each by another failed start."""
    said = faults(
        tmp_path,
        "threads = 0\n[limits.default]\nmemory = 'much'\ncpus = 0\npids = 1.5\nio = 7\n"
        "best_effort = 1\nmemroy = 1\ncpu_time = '0s'\n"
        "[limits.max]\nopen_files = true\nio = { both = 1, read = 0 }\nbest_effort = true\n"
        "[limits.mx]\n[limits.users]\nbob = 1\n[limits.users.'al ice']\nmaxi = 1\n"
        "[limits.users.'al ice'.max]\nfile_size = 0\n",
    )
    assert said == [
        "threads must be a whole number of at least 1, not 0",
        "limits.mx is not known here; known: default, max, users",
        "limits.default.best_effort must be true or false",
        "limits.default.io must be a table, not 7",
        "limits.default.memory must be a number of bytes or a text such as \"16 MiB\", not 'much'",
        "limits.default.cpus must be at least 0.01, not 0",
        "limits.default.pids must be a whole number of at least 1, not 1.5",
        f"limits.default.memroy is not a limit; known: {', '.join(limits.AMOUNTS)}",
        "limits.default.cpu_time must be at least 0.01, not '0s'",
        "limits.max.best_effort is not a limit; it belongs in default",
        "limits.max.open_files must be a whole number of at least 4, not True",
        "limits.max.io.both is not a limit; known: " + ", ".join([*limits.AMOUNTS, *limits.FIELDS]),
        "limits.max.io.read must be at least 4KiB, not 0",
        "limits.users.bob must be a table, not 1",
        'limits.users."al ice".maxi is not known here; known: default, max',
        'limits.users."al ice".max.file_size must be at least 1, not 0',
    ]


@pytest.mark.parametrize("text", ["limits = 1\n", "limits = 'x'\n", "limits = [1]\n"])
def test_what_is_no_table_is_said_so(tmp_path, text):
    """A typing error would be a traceback."""
    assert faults(tmp_path, text)[0].startswith("limits must be a table, not ")


@pytest.mark.parametrize("value", ["'nan'", "nan", "inf", "-1", "1e300", "true", "'x'", "[]"])
def test_what_is_no_amount_is_refused(tmp_path, value):
    """Every job would be refused because of a setting that was accepted."""
    assert faults(tmp_path, f"[limits.default]\ncpus = {value}\n")[0].startswith(
        "limits.default.cpus must be "
    )


def test_a_default_over_its_maximum_is_a_fault(tmp_path):
    """Jobs that ask for nothing would be refused, or get another limit than was written."""
    said = faults(
        tmp_path,
        "[limits.default]\nmemory = '2GiB'\n[limits.max]\nmemory = '1GiB'\npids = 9\n"
        "[limits.users.alice.default]\npids = 10\n",
    )
    assert said == [
        "limits.default.memory must be at most 1GiB, the maximum",
        "limits.users.alice.default.pids must be at most 9, the maximum",
    ]


def test_the_readme_has_every_limit():
    """An administrator could not know what can be bounded."""
    readme = Path(__file__).parents[2] / "packages/worker-daemon/README.md"
    lines = readme.read_text().splitlines()
    for name, amount in {**limits.AMOUNTS, **limits.FIELDS}.items():
        assert f"| `{name}` | {amount.doc} |" in lines


FIELDS = "[limits.max]\noutput_limit = '1GiB'\ntimeout = '1h'\nstop_grace = '5s'\n"


def job(read, user="alice", output_limit=10 << 20, **fields):
    """Return a job as the user gets it, whose server has a setting `output_limit`."""
    return read.bounded(JobSpec("true", **fields), user, output_limit)


def test_what_a_job_says_of_itself_has_maxima(tmp_path):
    """A user could keep an output of any size, or a slot for a hundred years."""
    read = table(tmp_path, FIELDS)
    with pytest.raises(InvalidSpec) as caught:
        job(read, output_limit=2 * GIB, timeout=3601.0, stop_grace=5.1)
    assert {each.field: each.message for each in caught.value.errors} == {
        "timeout": f"must be at most 1h, {YOURS % 'timeout'}",
        "stop_grace": f"must be at most 5s, {YOURS % 'stop_grace'}",
    }
    with pytest.raises(InvalidSpec, match="at most 1GiB and not 0, which is no limit, your maxim"):
        read.bounded(JobSpec("true", output_limit=0), "alice")
    with pytest.raises(InvalidSpec, match="output_limit: must be at most 1GiB, your maximum on"):
        read.bounded(JobSpec("true", output_limit=GIB + 1), "alice")
    given = read.bounded(JobSpec("true", output_limit=GIB, timeout=9, stop_grace=1), "alice")
    assert (given.output_limit, given.timeout, given.stop_grace) == (GIB, 9, 1)


def test_a_job_that_says_nothing_has_the_maxima(tmp_path):
    """Leaving a field out would be the way around its maximum."""
    read = table(tmp_path, FIELDS)
    got = job(read)
    assert (got.output_limit, got.timeout, got.stop_grace) == (10 << 20, 3600.0, 5.0)
    assert job(read, output_limit=0).output_limit == GIB
    assert job(read, output_limit=5 * GIB).output_limit == GIB
    assert job(table(tmp_path, "")) == JobSpec("true")


def test_a_user_has_maxima_of_their_own(tmp_path):
    """Anybody who needs more could get it only together with everybody."""
    text = FIELDS + "[limits.users.alice.max]\ntimeout = 'unlimited'\noutput_limit = '2GiB'\n"
    read = table(tmp_path, text)
    assert job(read).timeout is None
    assert job(read, output_limit=0).output_limit == 2 * GIB
    assert job(read, "bob").timeout == 3600.0


def test_fields_of_a_job_have_no_default_here(tmp_path):
    """A setting would be written and be without effect."""
    said = faults(tmp_path, "[limits.default]\ntimeout = '1h'\n")
    assert said == [f"limits.default.timeout is not a limit; known: {', '.join(limits.AMOUNTS)}"]
    assert faults(tmp_path, "[limits.max]\ntimeout = 0\noutput_limit = -1\n") == [
        'limits.max.output_limit must be a number of bytes or a text such as "16 MiB", not -1',
        "limits.max.timeout must be at least 0.01, not 0",
    ]


def test_a_kill_has_no_longer_grace_than_a_job(tmp_path):
    """A job could be given a hundred years to end, and take its slot meanwhile."""
    limits = table(tmp_path, FIELDS)
    with Engine() as engine, support.serving(engine, tmp_path, limits=limits) as api:
        alice = api.user("alice")
        job_id = alice.run("sleep", "600")
        answer = alice.put(f"/jobs/{job_id}/kill", json={"grace": 6})
        document = refused(answer, 422, "invalid_request")
        assert document["errors"] == [
            {"field": "grace", "message": f"must be at most 5s, {YOURS % 'stop_grace'}"}
        ]
        assert alice.put(f"/jobs/{job_id}/kill", json={"grace": 5}).status_code == 200


# Through the API


@pytest.fixture
def api(tmp_path):
    """A server that gives 100 open files, and at most 200."""
    everybody = limits.UserLimits({"open_files": 100}, {"open_files": 200})
    policy = limits.LimitPolicy(everybody, {"bob": limits.UserLimits(most={"open_files": 300})})
    with Engine() as engine, support.serving(engine, tmp_path, limits=policy) as running:
        yield running


def test_a_job_has_the_default_and_its_record_says_so(api):
    """The record would not tell what bounded the job."""
    alice = api.user("alice")
    job_id = alice.shell("ulimit -n")
    alice.ended(job_id)
    assert alice.out(job_id) == b"100\n"
    record = alice.get(f"/jobs/{job_id}").json()
    assert record["spec"]["limits"] == {"open_files": 100}
    assert record["enforced"] == {"open_files": "rlimit"}


def test_a_request_over_the_maximum_is_refused_with_it(api):
    """A user would have to guess how much is allowed, or be allowed everything."""
    job = {"command": "true", "limits": {"open_files": 201}}
    document = refused(api.user("alice").post("/jobs/run", json=job), 422, "invalid_job")
    told = f"must be at most 200, {YOURS % 'open_files'}"
    assert document["errors"] == [{"field": "limits.open_files", "message": told}]
    assert document["detail"] == f"limits.open_files: {told}"
    assert api.user("bob").post("/jobs/run", json=job).status_code == 201
    assert api.user("alice").get("/jobs").json()["jobs"] == []


def test_the_same_request_again_is_the_same_job(api):
    """A default that was filled in would make a repeated request another one."""
    ask = {"json": {"command": "true"}, "headers": {"Idempotency-Key": "k"}}
    first, second = (api.user("alice").post("/jobs/run", **ask).json()["id"] for _ in range(2))
    assert first == second


# What the machine can enforce


@pytest.mark.parametrize(
    ("text", "controllers", "missing"),
    [
        ("[limits.max]\nmemory = 1048576\ncpus = 1", "cpuset cpu io memory pids", ""),
        ("[limits.max]\nmemory = 1048576\ncpus = 1", "cpuset cpu", "memory"),
        (
            "[limits.default]\nmemory = 1048576\nio = {read = 4096}\npids = 1",
            "",
            "memory, pids, io",
        ),
        ("[limits.default]\ncpus = 1", None, "cpus"),
        ("[limits.users.alice.max]\npids = 1", "", "pids"),
        ('[limits.max]\nmemory = "unlimited"\nopen_files = 4\ncpu_time = 1', "", ""),
        ("[limits.default]\nbest_effort = true\nmemory = 1048576", "", ""),
        ("", "", ""),
    ],
)
def test_what_the_machine_cannot_enforce_is_a_warning(
    tmp_path, monkeypatch, text, controllers, missing
):
    """Every job would be refused, although the check reported no problem."""
    (tmp_path / "cgroup.controllers").write_text(controllers or "")
    mount = None if controllers is None else str(tmp_path)
    monkeypatch.setattr("worker_core.linux.procfs.cgroup2_mount", lambda: mount)
    found = check.unenforceable(table(tmp_path, text))
    said = f"limits: this machine has no cgroup v2 controller for {missing}, and jobs with such"
    assert [each[: len(said)] for each in found] == ([said] if missing else [])
