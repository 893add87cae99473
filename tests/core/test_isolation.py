"""Sandboxes and accounts: what a job cannot see or touch, and that its end is reported exactly."""

import json
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.waiting import wait_until
from worker_core import (
    Engine,
    EngineSettings,
    InvalidSpec,
    Isolation,
    JobNotRunning,
    JobSpec,
    State,
)
from worker_core.linux import procfs
from worker_core.supervisor import identity
from worker_core.testing import faults

EVERYTHING = Isolation(private_network=True, private_tmp=True, read_only=True, pid_namespace=True)
NOBODY = 65534


@pytest.fixture(scope="module")
def engine():
    with Engine() as engine:
        yield engine


def run(engine, script, isolation=EVERYTHING, **spec):
    job = engine.submit(JobSpec("sh", ["-c", script], isolation=isolation, **spec), owner="me")
    return engine.wait(job.id, 30), engine.read_output(job.id)


def begin(engine, script, **spec):
    """Start a job in a sandbox and wait until it is ready."""
    job = engine.submit(JobSpec("sh", ["-c", script], isolation=EVERYTHING, **spec), owner="me")
    wait_until(lambda: b"ready" in engine.read_output(job.id), message=f"{script} to be ready")
    return job


def test_a_private_network_has_no_way_out(engine):
    """A job could reach the server's network, or services on its loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"cat /proc/net/route | wc -l; exec 3<>/dev/tcp/127.0.0.1/{port}"
        spec = JobSpec("bash", ["-c", script], isolation=Isolation(private_network=True))
        job = engine.wait(engine.submit(spec, owner="me").id, 30)
        open_job = engine.wait(engine.submit(JobSpec("bash", ["-c", script]), "me").id, 30)
    assert job.state is State.FAILED
    assert engine.read_output(job.id).startswith(b"1\n")  # the heading, and no route
    assert b"Connection refused" in engine.read_output(job.id)
    assert open_job.state is State.COMPLETED


def test_the_private_loopback_works(engine):
    """A job that connects to itself would fail in a sandbox."""
    _, output = run(engine, "grep -c lo: /proc/net/dev; cat /sys/class/net/lo/flags")
    assert output.startswith(b"1\n")


def test_a_private_tmp_is_empty_and_leaves_nothing(engine, tmp_path):
    """A job could read other jobs' temporary files, or leave its own."""
    (tmp_path / "secret").write_text("x")
    script = f"ls -A /tmp /var/tmp; touch /tmp/left-by-a-sandbox; cat {tmp_path}/secret"
    job, output = run(engine, script, Isolation(private_tmp=True))
    assert output.startswith(b"/tmp:\n\n/var/tmp:\n")
    assert not os.path.exists("/tmp/left-by-a-sandbox")
    if str(tmp_path).startswith("/tmp/"):
        assert job.state is State.FAILED


def test_the_relays_of_a_sandbox_do_not_look_like_the_supervisor(engine):
    """Whoever kills the supervisor by its command line would kill every job in a sandbox."""
    job = begin(engine, "echo ready; sleep 600")
    wait_until(lambda: engine.get(job.id).started_at)
    leader = engine.get(job.id).pid
    for pid in (leader, *procfs.children(leader)):
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert shown.rstrip(b"\0") == b"worker: sandbox of a job"
    engine.kill(job.id, now=True)


def test_read_only_spares_the_directory_and_what_is_named(engine, tmp_path):
    """A job could change the host's files, or could not even write its own results."""
    work, more = tmp_path / "work", tmp_path / "more"
    work.mkdir()
    more.mkdir()
    script = f"touch here {more}/there; touch {tmp_path}/no; echo x > /dev/null && echo dev"
    isolation = Isolation(read_only=True, writable=[str(more)])
    _, output = run(engine, script, isolation, cwd=str(work))
    assert (work / "here").exists()
    assert (more / "there").exists()
    assert not (tmp_path / "no").exists()
    assert b"Read-only file system" in output
    assert output.endswith(b"dev\n")


# Mounts of the administrator's, in a mount namespace of its own: below the directory argv[1] a
# tmpfs, and over /tmp another one. Runs argv[2] in a sandbox there, and prints how that ended.
ADMINISTRATOR = """
import json, os, sys
from worker_core import Engine, Isolation, JobSpec
from worker_core.linux import libc
work, script, state_dir = sys.argv[1:]
uid, gid = os.geteuid(), os.getegid()
libc.unshare(libc.CLONE_NEWNS | (libc.CLONE_NEWUSER if uid else 0))
if uid:
    maps = {"setgroups": "deny", "uid_map": f"{uid} {uid} 1", "gid_map": f"{gid} {gid} 1"}
    for name, text in maps.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
libc.make_mounts_private()
strict = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
libc.mount("tmpfs", f"{work}/sealed", "tmpfs", strict)
with open(f"{work}/sealed/program", "w", opener=lambda p, f: os.open(p, f, 0o755)) as file:
    file.write("#!/bin/sh")
libc.set_mounts_read_only(f"{work}/sealed")
libc.mount("tmpfs", "/tmp", "tmpfs", strict)
with Engine(state_dir) as engine:
    isolation = Isolation(read_only=True, private_tmp=True)
    job = engine.submit(JobSpec("sh", ["-c", script], cwd=work, isolation=isolation), "me")
    job = engine.wait(job.id, 30)
    print(json.dumps([job.reason, engine.read_output(job.id).decode()]))
"""


@pytest.fixture
def hidden_from_tmp():
    """A directory that is not below /tmp, which the sandbox of these tests hides."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as path:
        yield Path(path)


# What an untrusted program in the home of the server's account could try. It prints what worked.
INTRUDER = """
for each in state conf/users key; do
    cat $each 2>/dev/null && echo "read $each"
    echo mine 2>/dev/null > $each && echo "wrote $each"
    ls -A $each/* 2>/dev/null | grep . && echo "listed $each"
done
mv conf away 2>/dev/null && echo "moved conf"
mv local away 2>/dev/null && echo "moved local"
rm -rf conf local key 2>/dev/null
mkdir -p conf local/share 2>/dev/null; echo mine 2>/dev/null > conf/users && echo "wrote new"
touch local/mine && echo "wrote beside"
"""


@pytest.fixture
def home(hidden_from_tmp):
    """A home with the state, the users file and the key of a server in it."""
    for each in ("conf", "local/share/state"):
        (hidden_from_tmp / each).mkdir(parents=True)
    (hidden_from_tmp / "conf/users").write_text("ann:secret\n")
    (hidden_from_tmp / "key").write_text("secret\n")
    (hidden_from_tmp / "state").symlink_to("local/share/state")
    return hidden_from_tmp


@pytest.mark.parametrize("isolation", [Isolation(read_only=True), EVERYTHING])
def test_a_read_only_job_cannot_reach_the_files_of_the_server(home, isolation):
    """An isolated program in the account's home could let itself in, or delete all records."""
    settings = EngineSettings(hidden_paths=[str(home / "conf"), str(home / "key")])
    with Engine(home / "local/share/state", settings=settings) as engine:
        job, output = run(engine, INTRUDER, isolation, cwd=str(home))
        assert (job.state, output) == (State.COMPLETED, b"wrote beside\n")
        assert engine.get(job.id).state is State.COMPLETED
    assert (home / "conf/users").read_text() == "ann:secret\n"
    assert (home / "key").read_text() == "secret\n"
    assert (home / "local/mine").exists()


def test_a_read_only_job_may_not_start_in_a_hidden_directory(home):
    """It would find an empty directory where the user sees files."""
    settings = EngineSettings(hidden_paths=[str(home / "conf")])
    state = home / "local/share/state"
    with Engine(state, settings=settings) as engine:
        for what, spec in {
            f"working directory {state}/jobs": {"cwd": f"{state}/jobs"},
            f"working directory {home}/conf": {"cwd": f"{home}/conf"},
        }.items():
            job, _ = run(engine, "true", Isolation(read_only=True), **spec)
            assert job.reason == (
                f"{what}: hidden by read_only, because it belongs to the server; choose another "
                "place"
            )
        writable = Isolation(read_only=True, writable=[f"{home}/conf"])
        job, _ = run(engine, "true", writable, cwd=str(home))
        assert job.reason.startswith(f"writable {home}/conf: hidden by read_only")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("touch sealed/x; touch beside && echo wrote beside", "sealed/x': Read-only file system"),
        ("sealed/program", "sealed/program: Permission denied"),
        ("printf '#!/bin/sh' > /tmp/x; chmod 755 /tmp/x; /tmp/x", "/tmp/x: Permission denied"),
        (
            "grep sealed /proc/self/mountinfo",
            "ro,nosuid,nodev,noexec,relatime",
        ),
    ],
)
def test_a_sandbox_takes_no_restriction_from_a_mount(hidden_from_tmp, script, says):
    """A job with read_only could write on a mount that is read-only for everybody, or execute
    programs where nobody may."""
    work = hidden_from_tmp / "work"
    (work / "sealed").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", ADMINISTRATOR, work, script, hidden_from_tmp / "state"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _reason, output = json.loads(done.stdout)
    assert says in output
    assert not (work / "sealed" / "x").exists()
    assert (work / "beside").exists() == ("beside" in script)


def test_a_writable_directory_may_be_inside_another(engine, tmp_path):
    """What is mounted last would hide what was mounted before."""
    inner = tmp_path / "inner"
    inner.mkdir()
    for order in ([str(inner), str(tmp_path)], [str(tmp_path), str(inner)]):
        isolation = Isolation(read_only=True, writable=order)
        job, output = run(engine, "touch inner/x x && echo both", isolation, cwd=str(tmp_path))
        assert output == b"both\n", job.reason


def test_a_pid_namespace_shows_nobody_else(engine):
    """A job could see other users' command lines."""
    _, output = run(engine, "ls /proc | grep -c '^[0-9]'", Isolation(pid_namespace=True))
    assert int(output) <= 5  # init, sh, ls, grep and a fork on its way
    job, _ = run(engine, f"kill -0 {os.getpid()}", Isolation(pid_namespace=True))
    assert job.state is State.FAILED


@pytest.mark.parametrize("isolation", [Isolation(pid_namespace=True), EVERYTHING])
@pytest.mark.parametrize(
    ("script", "exit_code", "signal"),
    [("exit 0", 0, None), ("exit 255", 255, None), ("kill -KILL $$", None, 9),
     ("kill -SEGV $$", None, 11), ("kill -TERM $$", None, 15), ("kill -HUP $$", None, 1)],
)  # fmt: skip
def test_the_end_is_exact_in_a_sandbox(engine, isolation, script, exit_code, signal):
    """A crash would look like an exit code of 139."""
    job, _ = run(engine, script, isolation)
    assert (job.exit_code, job.signal) == (exit_code, signal)


def test_the_output_is_exact_in_a_sandbox(engine):
    """Bytes would be lost, or bytes of our own processes be mixed in."""
    everything = bytes(range(256)) * 300
    spec = JobSpec("cat", stdin=everything, isolation=EVERYTHING, separate_stderr=True)
    job = engine.wait(engine.submit(spec, owner="me").id, 30)
    assert job.state is State.COMPLETED
    assert engine.read_output(job.id) == everything
    assert engine.read_output(job.id, "stderr") == b""


@pytest.mark.parametrize(
    ("spec", "reason", "exit_code"),
    [
        ({"command": "echi"}, "echi: command not found", 127),
        ({"command": "/etc/passwd"}, "/etc/passwd: permission denied (not executable)", 126),
        ({"command": "ls", "cwd": "/nope"}, "cannot change to working directory /nope", 126),
    ],
)
def test_a_job_that_cannot_start_says_why_in_a_sandbox(engine, spec, reason, exit_code):
    """The reason would be lost on the way out of the sandbox."""
    job = engine.submit(JobSpec(**spec, isolation=EVERYTHING), owner="me")
    job = engine.wait(job.id, 30)
    assert job.state is State.FAILED
    assert job.reason.startswith(reason)
    assert job.exit_code == exit_code
    assert job.started_at is None


def test_a_kill_ends_all_processes_of_a_sandbox(engine):
    """Children in the sandbox would go on, or the job would not be called killed."""
    job = begin(engine, "setsid sleep 301 & (setsid env -i sleep 302 &) ; echo ready; sleep 303")
    job = engine.kill(job.id, by="me")
    assert (job.state, job.signal, job.killed_by) == (State.KILLED, 15, "me")
    assert not sleepers("301", "302", "303")


def test_a_sandbox_that_ignores_the_signal_gets_sigkill(engine):
    """A job in a sandbox could refuse to end."""
    job = begin(engine, "trap '' TERM; echo ready; while :; do sleep 304; done")
    job = engine.kill(job.id, by="me", grace=0.1)
    assert (job.state, job.signal) == (State.KILLED, 9)
    assert not sleepers("304")


def test_a_job_that_handles_the_signal_in_a_sandbox_keeps_its_exit_code(engine):
    """The exit code of a clean end would be lost."""
    job = begin(engine, "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    job = engine.kill(job.id, by="me")
    assert (job.state, job.exit_code) == (State.KILLED, 5)


def test_a_timeout_reaches_into_a_sandbox(engine):
    """A job in a sandbox would run for ever."""
    job, _ = run(engine, "sleep 305", timeout=1)
    assert (job.state, job.signal) == (State.TIMED_OUT, 15)
    assert not sleepers("305")


def test_what_a_program_leaves_in_its_sandbox_is_killed(engine):
    """A background process would outlive its job."""
    job, _ = run(engine, "(setsid sleep 306 &); exit 3")
    assert job.exit_code == 3
    assert not sleepers("306")


def test_a_stopped_sandbox_can_be_killed(engine):
    """SIGSTOP to a sandbox would leave its job `stopping` for ever."""
    job = begin(engine, "echo ready; sleep 307")
    engine.signal(job.id, "STOP")
    job = engine.kill(job.id, by="me")
    assert job.state is State.KILLED
    assert not sleepers("307")


def test_killing_a_finished_job_in_a_sandbox_is_refused(engine):
    """A finished job would be called killed."""
    job, _ = run(engine, "exit 0")
    with pytest.raises(JobNotRunning, match="already completed with exit code 0"):
        engine.kill(job.id, by="me")


def test_a_shell_in_the_root_directory_writes_nothing(engine):
    """With the root as working directory, read_only would mean nothing."""
    _, output = run(engine, "touch /left-by-a-sandbox", Isolation(read_only=True), cwd="/")
    assert b"Read-only file system" in output


def test_no_privileges_are_gained_by_exec(engine):
    """A job could become root through a setuid program."""
    _, output = run(engine, "grep NoNewPrivs /proc/self/status", Isolation())
    assert output.split() == [b"NoNewPrivs:", b"1"]


@pytest.mark.parametrize(
    ("isolation", "field"),
    [
        ({"private_tmp": "yes"}, "isolation.private_tmp"),
        ({"writable": "/x", "read_only": True}, "isolation.writable"),
        ({"writable": ["x"], "read_only": True}, "isolation.writable[0]"),
        ({"writable": ["/x"]}, "isolation.writable"),
        ({"network": True}, "isolation"),
        ("all", "isolation"),
    ],
)
def test_bad_isolation_is_refused_by_field(isolation, field):
    """A misspelt switch would leave a job open."""
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.from_dict({"command": "true", "isolation": isolation})
    assert [each.field for each in caught.value.errors] == [field]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@needs_root
def test_a_job_runs_as_the_account_it_is_given(engine):
    """A user's job would have the server's rights."""
    script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME; umask; pwd"
    job = engine.submit(JobSpec("sh", ["-c", script]), owner="me", run_as="nobody")
    assert engine.wait(job.id, 30).state is State.COMPLETED
    uid, gid, groups, names, umask, cwd = engine.read_output(job.id).decode().splitlines()
    assert (uid, gid, groups) == (str(NOBODY), str(NOBODY), str(NOBODY))
    assert names == "/nonexistent nobody nobody"
    assert umask == "0022"
    assert cwd == "/"
    assert engine.get(job.id).run_as == "nobody"


@needs_root
def test_another_account_cannot_read_spool_files_or_become_root_again(engine):
    """A job could read the output of others, or take the server's rights back."""
    secret = engine.submit(JobSpec("echo", ["secret"]), owner="other")
    engine.wait(secret.id, 30)
    path = engine.output_info(secret.id).path
    script = f"cat {path}; python3 -c 'import os; os.setuid(0)'"
    job = engine.submit(JobSpec("sh", ["-c", script]), owner="me", run_as="nobody")
    engine.wait(job.id, 30)
    output = engine.read_output(job.id)
    assert b"Permission denied" in output
    assert b"secret" not in output.replace(str(path).encode(), b"")
    assert b"PermissionError" in output


@needs_root
def test_an_account_stays_the_same_in_a_sandbox(engine):
    """Isolation would give a job rights that its account does not have."""
    spec = JobSpec("id", ["-u"], isolation=EVERYTHING)
    job = engine.submit(spec, owner="me", run_as="nobody")
    assert engine.wait(job.id, 30).state is State.COMPLETED
    assert engine.read_output(job.id) == b"65534\n"


@needs_root
def test_an_unknown_account_is_a_clear_failure(engine):
    """A job would run as another account."""
    job = engine.submit(JobSpec("id"), owner="me", run_as="no-such-account")
    job = engine.wait(job.id, 30)
    assert job.state is State.FAILED
    assert job.reason == "there is no account no-such-account on this machine"


@pytest.mark.parametrize(
    ("spec", "isolation", "reason"),
    [
        ({"cwd": "{tmp}"}, {"private_tmp": True}, "working directory {tmp}: hidden by private_tmp"),
        ({"command": "{tmp}/x"}, {"private_tmp": True}, "command {tmp}/x: hidden by private_tmp"),
        (
            {},
            {"private_tmp": True, "read_only": True, "writable": ["{tmp}"]},
            "writable {tmp}: hidden by private_tmp",
        ),
        (
            {},
            {"read_only": True, "writable": ["/nonexistent/x"]},
            "cannot leave /nonexistent/x writable: No such file or directory",
        ),
    ],
)
def test_a_path_that_the_sandbox_hides_is_named(engine, spec, isolation, reason):
    """A user would look for a file that exists, or for missing rights that are not missing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory, "x").touch(mode=0o700)
        text = json.dumps({"command": "true", **spec, "isolation": isolation})
        given = json.loads(text.replace("{tmp}", directory))
        job = engine.wait(engine.submit(JobSpec.from_dict(given), owner="me").id, 30)
        assert job.state is State.FAILED
        assert job.reason.startswith(reason.replace("{tmp}", directory))
        assert "namespaces" not in job.reason


def test_an_account_is_not_missing_because_no_descriptor_is_free(monkeypatch):
    """A job would fail for good because the supervisor was busy for a moment."""
    own = pwd.getpwuid(os.getuid()).pw_name
    with monkeypatch.context() as busy:
        busy.setattr(pwd, "getpwnam", {}.__getitem__)  # what it says of everybody then
        undo = faults.install("open:1:EMFILE")
        try:
            with pytest.raises(OSError, match="Too many open files"):
                identity.find(own)
        finally:
            undo()
    assert identity.find(own).uid == os.getuid()


def sleepers(*seconds):
    """Return the command lines of sleeping processes with these arguments."""
    wanted = {f"sleep\0{each}\0".encode() for each in seconds}
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
        except OSError:
            continue
        if line in wanted:
            found.append(line)
    return found
