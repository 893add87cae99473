"""The accounts of jobs: the settings, and jobs that root's service runs."""

import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import worker_daemon
from support import api as support
from support.daemon import Daemon
from support.waiting import wait_until
from worker_core import Engine
from worker_core.disk import jobdir
from worker_daemon.settings import config, run_as

UNITS = Path(worker_daemon.__file__).with_name("systemd")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def settings(**changes):
    """Return settings."""
    return config.Config(state_dir=Path("/nowhere"), **changes)


@pytest.fixture
def unprivileged(monkeypatch):
    """A workerd that runs as the account nobody."""
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)


def test_each_user_has_the_account_that_the_table_names():
    """A job would run with the rights of somebody else."""
    chosen = settings(run_as={"alice": "daemon"}, run_as_default="nobody")
    assert run_as.of(chosen, "alice") == "daemon"
    assert run_as.of(chosen, "bob") == "nobody"
    assert run_as.of(settings(), "bob") is None


def test_accounts_must_exist():
    """The first job of each user would fail, and nobody would know why."""
    chosen = settings(
        supervisor="service", run_as={"alice": "no-such", "bob": "daemon"}, run_as_default="no\0ne"
    )
    assert run_as.faults(chosen) == [
        "run_as_default: there is no account 'no\\x00ne' on this machine; `useradd` makes one",
        "run_as.alice: there is no account 'no-such' on this machine; `useradd` makes one",
    ]


@pytest.mark.parametrize("supervisor", ["own", "service"])
def test_root_is_only_for_who_is_named(supervisor):
    """A user who was forgotten in the table would be root."""
    chosen = settings(supervisor=supervisor, run_as_default="root", run_as={"alice": "daemon"})
    assert "run_as_default is root: root is only for users that run_as names" in run_as.faults(
        chosen
    )
    named = settings(supervisor="service", run_as_default="nobody", run_as={"alice": "root"})
    assert run_as.faults(named) == []


def test_other_accounts_need_the_service(unprivileged):
    """Every job would fail, and the administrator search for the reason."""
    (fault,) = run_as.faults(settings(run_as={"alice": "daemon", "bob": "nobody"}))
    assert fault.startswith("run_as.alice: jobs cannot run as daemon, because the supervisor that")
    assert 'start worker-supervisor.service and set supervisor = "service"' in fault
    chosen = settings(supervisor="service", run_as_default="games", run_as={"alice": "daemon"})
    assert run_as.faults(chosen) == []


@pytest.mark.parametrize("accounts", [{}, {"alice": "daemon"}])
def test_the_service_needs_an_account_for_everybody(accounts):
    """A job of a user who is not listed could use workerd's socket, and become any other user."""
    (fault,) = run_as.faults(settings(supervisor="service", run_as=accounts))
    assert fault.startswith('run_as_default is missing, and supervisor is "service": ')
    assert fault.endswith("set run_as_default to an account that is only for jobs")


@pytest.mark.parametrize(
    "named",
    [
        {"run_as_default": "nobody"},
        {"run_as_default": "daemon", "run_as": {"bob": "nobody"}},
    ],
)
def test_no_job_has_the_account_of_workerd(unprivileged, named):
    """Another name for workerd's account would let a job act as every other user."""
    where = next(iter({**named.get("run_as", {}), "run_as_default": 0}))
    (fault,) = run_as.faults(settings(supervisor="service", **named))
    setting = "run_as.bob" if where == "bob" else "run_as_default"
    assert fault.startswith(f"{setting} is nobody, the account of workerd itself: ")
    assert fault.endswith("name an account that is only for jobs")


@needs_root
def test_check_finds_the_account_of_workerd_also_for_root(tmp_path):
    """`sudo workerd check` would accept what the service then refuses."""
    os.chown(tmp_path, pwd.getpwnam("nobody").pw_uid, -1)
    chosen = config.Config(state_dir=tmp_path, supervisor="service", run_as_default="nobody")
    (fault,) = run_as.faults(chosen)
    assert "the account of workerd itself" in fault


@needs_root
def test_accounts_that_can_read_the_secrets_are_named(tmp_path):
    """Jobs could take the server's key or the users' hashes, because of a forgotten group."""
    group = pwd.getpwnam("nobody").pw_gid
    for name in ("key", "users"):
        (tmp_path / name).touch(mode=0o640)
        os.chown(tmp_path / name, -1, group)
    files = {"key": tmp_path / "key", "users": tmp_path / "users"}
    (tmp_path / "accounts").write_text("nobody\ndaemon # for a\n")
    chosen = settings(
        supervisor="service", run_as_default="nobody", run_as={"a": "daemon"}, **files
    )
    assert run_as.warnings(chosen) == [
        f"run_as_default: nobody is in the group of {path}, so that jobs of this account can read"
        " that file; take nobody out of the group"
        for path in files.values()
    ]
    for path in files.values():
        path.chmod(0o600)
    assert run_as.warnings(chosen) == []


def test_accounts_that_root_has_not_listed_are_named(tmp_path):
    """Every job of a user would fail, and nobody would know before."""
    chosen = settings(
        supervisor="service", run_as_default="nobody", run_as={"a": "daemon", "b": "root"},
        users=tmp_path / "users",
    )  # fmt: skip
    listed = tmp_path / "accounts"
    assert run_as.warnings(chosen) == [
        (
            f"{listed} is missing: worker-supervisor runs jobs only as the accounts that root lists"
            " there, one on each line; or name them in its unit (--accounts)"
        )
    ]
    listed.write_text("# whom\nnobody\n")
    assert run_as.warnings(chosen) == [
        (
            f"run_as.a: daemon is not in {listed}, and worker-supervisor refuses its jobs; add it, "
            "and `systemctl reload worker-supervisor`"
        )
    ]
    listed.write_text("nobody, daemon\ndaemon\nnobody")
    assert run_as.warnings(chosen) == []
    listed.write_bytes(b"\xff")
    assert run_as.warnings(chosen)[0].startswith(f"cannot read {listed}: ")


def test_the_unit_names_the_list_that_check_reads():
    """`check` would be satisfied with a list that nobody uses."""
    unit = (UNITS / "worker-supervisor.service").read_text()
    assert " --accounts /etc/xdg/workerd/accounts\n" in unit
    assert "RuntimeDirectoryPreserve=yes" in unit


def test_users_who_share_the_account_of_workerd_are_counted(unprivileged):
    """Nobody would learn that users of one account can read each other's jobs on the machine."""
    (warning,) = run_as.warnings(settings(), ["alice", "bob"])
    assert "the jobs of all 2 users run as the account of workerd" in warning
    assert 'set supervisor = "service" and run_as_default' in warning
    assert run_as.warnings(settings(), ["alice"]) == []


@needs_root
def test_as_root_everybody_needs_an_account():
    """Jobs of a user who is not in the table would run as root."""
    (fault,) = run_as.faults(settings(run_as={"alice": "daemon"}))
    assert "jobs of all other users would run as root; set run_as_default" in fault
    assert run_as.faults(settings(run_as={"alice": "daemon"}, run_as_default="nobody")) == []
    assert run_as.warnings(settings()) == [
        "workerd runs as root, and so do all jobs; set run_as_default"
    ]
    assert run_as.warnings(settings(run_as_default="nobody")) == []


def test_who_decides_on_new_privileges_is_said():
    """A setting would have no effect, without a message."""
    chosen = settings(supervisor="service", no_new_privileges=False, run_as_default="nobody")
    warning, _list_is_missing = run_as.warnings(chosen)
    assert "add --allow-new-privileges to its ExecStart" in warning


def test_what_is_no_account_is_refused(tmp_path):
    """A typing error would cause a traceback, or only one would be reported at a time."""
    path = tmp_path / "w.toml"
    path.write_text("run_as_default = 7\nsupervisor = 'none'\n[run_as]\nalice = ''\nbob = 1\n")
    with pytest.raises(config.errors.ConfigError) as caught:
        config.load(path)
    assert [each.removeprefix(f"{path}: ") for each in caught.value.faults] == [
        "run_as_default must be the name of a Unix account, not 7",
        "supervisor must be one of 'own', 'service', not 'none'",
        "run_as.alice must be the name of a Unix account, not ''",
        "run_as.bob must be the name of a Unix account, not 1",
    ]
    path.write_text("run_as = 'alice'\n")
    with pytest.raises(config.errors.ConfigError, match="must be a table of users and their"):
        config.load(path)


# Jobs


@needs_root
def test_jobs_run_as_their_users(tmp_path):
    """Users could read and change one another's files."""
    chosen = {"run_as": {"alice": "daemon"}, "run_as_default": "nobody"}
    with Engine() as engine, support.serving(engine, tmp_path, **chosen) as api:
        for name, account in (("alice", "daemon"), ("bob", "nobody")):
            user = api.user(name)
            job_id = user.shell("id -un; id -Gn", cwd="/")
            user.ended(job_id)
            group = grp.getgrgid(pwd.getpwnam(account).pw_gid).gr_name
            assert user.out(job_id).decode().split() == [account, group]
            assert user.get(f"/jobs/{job_id}").json()["run_as"] == account


@contextmanager
def service(state_dir, *options, account=None, prefix=()):
    """Run a supervisor for the engine of an account, our own if none is named."""
    known = pwd.getpwnam(account) if account else pwd.getpwuid(os.geteuid())
    state_dir.mkdir(mode=0o700)
    os.chown(state_dir, known.pw_uid, -1)
    argv = [*prefix, sys.executable, "-m", "worker_core.supervisor", str(state_dir)]
    argv += ["--foreground", "--engine", known.pw_name, "--accounts", "daemon,games,nobody"]
    argv += ["--run-dir", f"{state_dir}.run", *options]
    process = subprocess.Popen(argv)
    try:
        wait_until((state_dir / jobdir.SOCKET).exists)
        yield process
    finally:
        process.terminate()
        assert process.wait(20) == 0


@needs_root
def test_workerd_uses_the_service_and_starts_no_supervisor(tmp_path):
    """workerd would start a supervisor of its own, which cannot run jobs as others."""
    daemon = Daemon(tmp_path, start=False, supervisor="service", run_as_default="nobody")
    with daemon, service(daemon.state_dir) as process:
        daemon.start()
        with support.User(daemon.url, (daemon.user, daemon.password)) as user:
            job_id = user.run("id", "-un", cwd="/")
            user.ended(job_id)
            assert user.out(job_id) == b"nobody\n"
        assert daemon.supervisors() == [process.pid]
        assert daemon.stop() == 0


def test_workerd_refuses_to_start_without_an_account_for_everybody(tmp_path):
    """Settings that let a user act as every other would be accepted."""
    daemon = Daemon(tmp_path, start=False, supervisor="service")
    for action in ("check", "serve"):
        argv = [sys.executable, "-m", "worker_daemon", action, f"--config={daemon.config}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "workerd: run_as_default is missing" in done.stderr
        assert "Traceback" not in done.stderr
    assert not daemon.state_dir.exists()


# An engine that has no rights, and each job of its: spec and account.
ENGINE = """
import json, os, sys
from worker_core import Engine, EngineSettings, JobSpec
Engine  # imported now, while the files can be read
state_dir, jobs = sys.argv[1], json.loads(sys.argv[2])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
with Engine(state_dir, settings=EngineSettings(start_supervisor=False)) as engine:
    for spec, run_as in jobs:
        job = engine.submit(JobSpec.from_dict(spec), "me", run_as=run_as)
        if spec["command"] == "sleep":
            while engine.get(job.id).started_at is None:
                engine.wait(job.id, 0.01)
            job = engine.kill(job.id, by="me", wait=20)
        job = engine.wait(job.id, 20)
        print(json.dumps([job.state.value, job.reason, engine.read_output(job.id).decode()]))
"""


def bounding_set():
    """Return the capabilities that the unit leaves to the supervisor, as setpriv takes them."""
    (line,) = [
        line.partition("=")[2]
        for line in (UNITS / "worker-supervisor.service").read_text().splitlines()
        if line.startswith("CapabilityBoundingSet=")
    ]
    return ",".join(["-all", *(f"+{each[4:].lower()}" for each in line.split())])


@pytest.fixture
def home(tmp_path):
    """The home of the account daemon, below directories that all may pass."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    path = tmp_path / "home"
    path.mkdir(mode=0o755)
    os.chown(path, pwd.getpwnam("daemon").pw_uid, -1)
    return path


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_the_rights_that_the_unit_leaves_are_enough(tmp_path, home):
    """The service would start, but could not run, isolate or kill jobs of other accounts."""
    state_dir = tmp_path / "state"
    switches = ("private_network", "read_only", "pid_namespace")
    box = {"isolation": dict.fromkeys(switches, True), "cwd": str(home)}
    private_tmp = {"isolation": {"private_tmp": True}, "cwd": "/"}
    script = "id -un; pwd; touch x && ls; wc -l < /proc/net/route; ls -d /proc/[0-9]* | wc -l"
    jobs = [
        ({"command": "id", "args": ["-un"], "cwd": str(home)}, "daemon"),
        ({"command": "sleep", "args": ["600"]}, "daemon"),
        ({"command": "sh", "args": ["-c", script], **box}, "daemon"),
        ({"command": "ls", "args": ["-A", "/tmp"], **private_tmp}, "daemon"),
    ]
    # Marks and /proc, because they need the most rights.
    prefix = ["env", "WORKER_CGROUPS=off", "setpriv", f"--bounding-set={bounding_set()}"]
    with service(state_dir, account="nobody", prefix=prefix):
        argv = [sys.executable, "-c", ENGINE, str(state_dir), json.dumps(jobs)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    plain, killed, boxed, empty = map(json.loads, done.stdout.splitlines())
    assert plain == ["completed", None, "daemon\n"]
    assert killed[:2] == ["killed", "killed by me"]
    assert boxed[0] == "completed", boxed
    user, directory, listed, routes, processes = boxed[2].splitlines()
    assert (user, directory, listed) == ("daemon", str(home), "x")
    assert int(routes) <= 1  # the head of the table
    assert int(processes) <= 5
    assert empty == ["completed", None, ""]


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_a_detached_process_is_ended_with_the_rights_that_the_unit_leaves(tmp_path, home):
    """Processes left behind by a job of another account would run for ever."""
    state_dir = tmp_path / "state"
    mark = f"{os.getpid()}.5"  # a number of seconds that no other process sleeps
    jobs = [({"command": "sh", "args": ["-c", f"setsid sleep {mark} &"], "cwd": "/"}, "daemon")]
    prefix = ["env", "WORKER_CGROUPS=off", "setpriv", f"--bounding-set={bounding_set()}"]
    with service(state_dir, account="nobody", prefix=prefix):
        argv = [sys.executable, "-c", ENGINE, str(state_dir), json.dumps(jobs)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)[0] == "completed", done.stderr
    wait_until(lambda: not running("sleep", mark))


def running(*argv):
    """Return whether a process with this argv exists."""
    wanted = "".join(f"{word}\0" for word in argv).encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if entry.read_bytes() == wanted:
                return True
    return False
