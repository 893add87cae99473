"""What bounds a job: each limit planned, set, reported, and refused where nothing can enforce it.

The cgroup limits bite in the virtual machine of tests/vm, where controllers are delegated.
"""

import resource

import pytest
from worker_core import Engine, InvalidSpec, JobSpec, Limits, State, enforcement
from worker_core.linux import procfs, usage
from worker_core.supervisor import cgroup

GIB = 1 << 30
CONTROLLERS = ("cpu", "io", "memory", "pids")


@pytest.fixture(scope="module")
def engine():
    with Engine() as engine:
        yield engine


def run(engine, script, **bounds):
    job = engine.submit(JobSpec("sh", ["-c", script], limits=Limits(**bounds)), owner="me")
    return engine.wait(job.id, 30), engine.read_output(job.id)


def test_more_open_files_than_there_can_be_are_refused(engine):
    """A job that needs many open files would be accepted, and fail later."""
    most = enforcement.most_files()
    with pytest.raises(InvalidSpec, match=f"open_files: cannot be more than {most} here"):
        engine.submit(JobSpec("true", limits=Limits(open_files=most + 1)), "me")
    with pytest.raises(
        enforcement.UnenforceableError, match=f"open_files cannot be more than {most}"
    ):
        enforcement.plan({"open_files": most + 1}, (), "", "/")
    tried = JobSpec("true", limits=Limits(open_files=most + 1, best_effort=True))
    assert engine.wait(engine.submit(tried, "me").id, 30).enforced == {"open_files": None}
    allowed = JobSpec("true", limits=Limits(open_files=most))
    assert engine.wait(engine.submit(allowed, "me").id, 30).enforced == {"open_files": "rlimit"}


def test_open_files_are_bounded_softly_and_hard(engine):
    """A job could raise its own bound."""
    job, output = run(engine, "ulimit -Sn; ulimit -Hn; ulimit -n 60", open_files=50)
    assert output.splitlines()[:2] == [b"50", b"50"]
    assert job.state is State.FAILED
    assert job.enforced == {"open_files": "rlimit"}


def test_cpu_time_ends_a_busy_loop(engine):
    """A runaway job would burn a processor for ever."""
    job, _ = run(engine, "while :; do :; done", cpu_time=0.5)
    assert (job.state, job.signal) == (State.FAILED, 24)
    assert "SIGXCPU" in job.reason
    assert job.enforced == {"cpu_time": "rlimit"}


def test_file_size_is_bounded(engine, tmp_path):
    """A job could fill the disk with one file."""
    target = tmp_path / "big"
    job, _ = run(engine, f"head -c 3000000 /dev/zero > {target}", file_size=1 << 20)
    assert job.state is State.FAILED
    assert target.stat().st_size == 1 << 20


def test_limits_of_a_child_hold_for_its_children(engine):
    """A job could escape its bounds by a fork."""
    _, output = run(engine, "sh -c 'sh -c \"ulimit -n\"'", open_files=77)
    assert output == b"77\n"


def test_a_job_without_limits_has_none_of_ours(engine):
    """A server's own bounds would leak into every job."""
    job, output = run(engine, "ulimit -n; ulimit -t; ulimit -f")
    assert output.splitlines()[1:] == [b"unlimited", b"unlimited"]
    assert job.enforced == {}


def test_what_cannot_be_enforced_is_refused_with_the_cure(monkeypatch):
    """A user would rely on a limit that nothing enforces."""
    monkeypatch.setenv("WORKER_CGROUPS", "off")
    with Engine() as engine:
        with pytest.raises(InvalidSpec) as caught:
            engine.submit(JobSpec("true", limits=Limits(memory=GIB, cpus=1)), owner="me")
        assert [each.field for each in caught.value.errors] == ["limits.memory", "limits.cpus"]
        assert f"cgroup v2 controller memory; {cgroup.cure(None)}" in str(caught.value)
        assert engine.list().jobs == ()


def test_the_cure_is_one_that_is_still_to_be_taken(monkeypatch):
    """The message would suggest a step that is already done."""
    for mount, cure in (("/sys/fs/cgroup", cgroup.NOT_OURS), (None, cgroup.NO_MOUNT)):
        monkeypatch.setattr(procfs, "cgroup2_mount", lambda mount=mount: mount)
        assert cgroup.cure(None) == cure


def test_best_effort_runs_and_says_what_nothing_enforces(monkeypatch):
    """A record would claim a bound that was not there."""
    monkeypatch.setenv("WORKER_CGROUPS", "off")
    bounds = Limits(memory=GIB, open_files=64, best_effort=True)
    with Engine() as engine:
        job = engine.submit(JobSpec("true", limits=bounds), owner="me")
        assert engine.wait(job.id, 30).enforced == {"memory": None, "open_files": "rlimit"}


@pytest.mark.parametrize(
    ("name", "value", "files"),
    [
        ("memory", 5, [("memory.max", "5"), ("memory.swap.max", "0"), ("memory.oom.group", "1")]),
        ("cpus", 1.5, [("cpu.max", "150000 100000")]),
        ("cpus", 0.01, [("cpu.max", "1000 100000")]),
        ("pids", 7, [("pids.max", "7")]),
    ],
)
def test_what_is_written_to_the_group(name, value, files):
    """The kernel would enforce another limit than the requested one."""
    plan = enforcement.plan({name: value}, CONTROLLERS, "", "/")
    assert plan.group_files == files
    assert plan.enforced == {name: "cgroup"}


@pytest.mark.parametrize(("pid_namespace", "processes"), [(False, 12), (True, 10)])
def test_what_a_group_counts_is_told_without_our_own(tmp_path, pid_namespace, processes):
    """A single process in a pid namespace would be counted as three."""
    (tmp_path / "cpu.stat").write_text("usage_usec 9\nuser_usec 1500000\nsystem_usec 500000\n")
    (tmp_path / "memory.peak").write_text("4096\n")
    (tmp_path / "pids.peak").write_text("12\n")
    (tmp_path / "io.stat").write_text("254:0 rbytes=1 wbytes=2 rios=1\n254:16 rbytes=3 wbytes=4\n")
    assert usage.counted(str(tmp_path), CONTROLLERS, pid_namespace=pid_namespace) == {
        "user_seconds": 1.5,
        "system_seconds": 0.5,
        "max_rss_bytes": 4096,
        "max_processes": processes,
        "read_bytes": 4,
        "written_bytes": 6,
    }


def test_io_needs_a_disk_and_says_so(tmp_path):
    """On a memory file system io.max cannot hold, and must not be claimed."""
    with pytest.raises(enforcement.UnenforceableError, match="is not on a disk of its own"):
        enforcement.plan({"io": {"read": 1}}, CONTROLLERS, "", "/proc")
    plan = enforcement.plan({"io": {"read": 1}, "best_effort": True}, CONTROLLERS, "", "/proc")
    assert plan.enforced == {"io": None}
    with pytest.raises(enforcement.UnenforceableError, match="No such file"):
        enforcement.plan({"io": {"read": 1}}, CONTROLLERS, "", str(tmp_path / "missing"))


def test_cpu_time_is_never_less_than_asked_for():
    """A limit of half a second would become none at all, or kill at once."""
    plan = enforcement.plan({"cpu_time": 0.5}, (), "", "/")
    assert plan.rlimits == [(resource.RLIMIT_CPU, 1, 2)]


@pytest.mark.parametrize(
    ("bounds", "field", "message"),
    [
        ({"memory": 0}, "limits.memory", "at least 1"),
        ({"memory": "1G"}, "limits.memory", "whole number"),
        ({"memory": True}, "limits.memory", "whole number"),
        ({"cpus": 0}, "limits.cpus", "at least 0.01"),
        ({"cpus": float("nan")}, "limits.cpus", "at least 0.01"),
        ({"pids": 1.5}, "limits.pids", "whole number"),
        ({"io": 5}, "limits.io", "read, write or both"),
        ({"io": {}}, "limits.io", "read, write or both"),
        ({"io": {"read": None}}, "limits.io.read", "whole number"),
        ({"io": {"speed": 1}}, "limits.io", "read, write or both"),
        ({"best_effort": 1}, "limits.best_effort", "true or false"),
        ({"ram": 1}, "limits", "ram: unknown field; known are memory"),
        ([], "limits", "must be an object"),
    ],
)
def test_bad_limits_are_refused_by_field(bounds, field, message):
    """A misspelt limit would be no limit."""
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.from_dict({"command": "true", "limits": bounds})
    (error,) = caught.value.errors
    assert error.field == field
    assert message in error.message


def test_a_spec_with_limits_survives_the_store(tmp_path):
    """After a restart a queued job would run without its bounds."""
    bounds = Limits(memory=GIB, io={"read": 5}, cpus=0.5, best_effort=True)
    with Engine(tmp_path / "state") as engine:
        job = engine.submit(JobSpec("true", limits=bounds), owner="me")
        assert engine.get(job.id).spec.limits == bounds
        assert engine.get(job.id).record_view()["spec"]["limits"] == {
            "memory": GIB,
            "io": {"read": 5},
            "cpus": 0.5,
            "best_effort": True,
        }
