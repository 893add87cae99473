"""The supervisor as a service of root, for an engine without privileges."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.waiting import wait_until
from worker_core.disk import jobdir

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# An engine as nobody, which runs each job of argv[2] (JSON: spec and run_as) and tells what it was.
ENGINE = """
import json, os, sys
from worker_core import Engine, EngineSettings, JobSpec
Engine  # imported now, while the files can be read
state_dir, jobs = sys.argv[1], json.loads(sys.argv[2])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
with Engine(state_dir, settings=EngineSettings(start_supervisor=False)) as engine:
    for argv, run_as in jobs:
        more = argv.pop() if isinstance(argv[-1], dict) else {}
        spec = JobSpec.from_dict({"command": argv[0], "args": argv[1:], **more})
        job = engine.submit(spec, "me", run_as=run_as)
        if argv[0] == "sleep":
            while engine.get(job.id).started_at is None:
                engine.wait(job.id, 0.01)
            job = engine.kill(job.id, by="me", wait=20)
        job = engine.wait(job.id, 20)
        print(json.dumps([job.state.value, job.reason, engine.read_output(job.id).decode()]))
"""


@pytest.fixture
def place():
    """A directory that every account can go through. Not pytest's: each run closes that again."""
    with tempfile.TemporaryDirectory(prefix="worker-service-") as path:
        os.chmod(path, 0o711)
        yield Path(path)


@pytest.fixture
def state_dir(place):
    path = place / "state"
    path.mkdir(0o700)
    os.chown(path, NOBODY, NOBODY)
    return path


class Service:
    """A supervisor in the foreground."""

    def __init__(self, state_dir, *options):
        self.argv = [sys.executable, "-m", "worker_core.supervisor", str(state_dir)]
        self.run_dir = state_dir.with_name("run")
        self.argv += ["--foreground", "--engine", "nobody", "--run-dir", str(self.run_dir)]
        self.argv += options or ["--accounts", "daemon"]
        self.state_dir = state_dir

    def __enter__(self):
        self.process = subprocess.Popen(self.argv)
        wait_until((self.state_dir / jobdir.SOCKET).exists)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(20) == 0


def run(state_dir, *jobs):
    done = subprocess.run(
        [sys.executable, "-c", ENGINE, str(state_dir), json.dumps(jobs)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_jobs_run_as_the_account_that_is_named(state_dir):
    """A daemon without privileges could not run jobs as its users."""
    with Service(state_dir):
        told = run(
            state_dir, (["id", "-un"], "daemon"), (["id", "-un"], None), (["id", "-Gn"], "daemon")
        )
    assert [output for _, _, output in told] == ["daemon\n", "nobody\n", "daemon\n"]


def test_a_box_works_in_a_private_home(state_dir, place):
    """Isolation would fail for every user whose home others cannot read."""
    home = place / "home"
    home.mkdir(0o700)
    os.chown(home, 1, 1)
    with Service(state_dir):
        told = run(
            state_dir,
            *(
                (
                    ["sh", "-c", "touch here && ls", {"cwd": str(home), "isolation": {each: True}}],
                    "daemon",
                )
                for each in ("read_only", "pid_namespace", "private_network")
            ),
        )
    assert [output for _, _, output in told] == ["here\n"] * 3


def test_a_taken_over_daemon_gets_no_root(state_dir):
    """Whoever breaks into the daemon would be root."""
    with Service(state_dir):
        ((state, reason, _),) = run(state_dir, (["id", "-un"], "root"))
    assert state == "failed"
    assert reason.startswith("cannot run as root: this supervisor runs no jobs as root")
    with Service(state_dir, "--root-jobs"):
        ((_, _, output),) = run(state_dir, (["id", "-un"], "root"))
    assert output == "root\n"


def test_what_the_supervisor_writes_belongs_to_the_daemon(state_dir):
    """The daemon could not read the output of its jobs, or others could."""
    with Service(state_dir):
        run(state_dir, (["echo", "x"], "daemon"))
    for folder, _, files in os.walk(state_dir):
        for name in files:
            found = os.lstat(os.path.join(folder, name))
            assert (found.st_uid, found.st_mode & 0o077) == (NOBODY, 0), name


def test_a_planted_link_leads_nowhere(state_dir, place):
    """A daemon that was taken over could have root write where it likes."""
    target = place / "of root"
    target.mkdir(0o700)
    with Service(state_dir):
        run(state_dir, (["true"], None))
        (state_dir / "jobs").rename(state_dir / "moved")
        (state_dir / "jobs").symlink_to(target)
        done = subprocess.run(
            [sys.executable, "-c", ENGINE, str(state_dir), json.dumps([(["true"], None)])],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Permission denied" in done.stderr
    assert list(target.iterdir()) == []


def test_jobs_of_others_can_be_ended_and_leave_no_group(state_dir):
    """A daemon without privileges could start jobs, but not end them."""
    with Service(state_dir) as service:
        ((state, reason, _),) = run(state_dir, (["sleep", "600"], "daemon"))
        assert (state, reason) == ("killed", "killed by me")
        assert service.process.poll() is None  # a service stays


def test_an_upgrade_keeps_rights_and_jobs(state_dir):
    """After a SIGHUP the supervisor would write with the rights of root."""
    with Service(state_dir) as service:
        run(state_dir, (["true"], "daemon"))
        before = _made(state_dir / jobdir.SOCKET)
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: _made(state_dir / jobdir.SOCKET) not in (None, before))
        ((_, _, output),) = run(state_dir, (["id", "-un"], "daemon"))
        assert output == "daemon\n"
        assert (state_dir / jobdir.SOCKET).stat().st_uid == NOBODY


def test_without_the_service_the_engine_says_what_to_start(state_dir):
    """The daemon would start a supervisor of its own, which cannot run jobs as others."""
    code = ENGINE.replace("with Engine(", "import worker_core.executors.local as local\n"
                          "local._START_SECONDS = 0.3\nwith Engine(")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, str(state_dir), "[]"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "none is running; start the service worker-supervisor" in done.stderr


def test_a_stranger_cannot_connect(state_dir):
    """Any local user could run jobs as anybody."""
    with Service(state_dir) as service:
        os.chmod(state_dir, 0o777)
        os.chmod(state_dir / jobdir.SOCKET, 0o777)
        code = (
            "import os, socket, sys; os.setgroups([])\n"
            "os.setresgid(1, 1, 1); os.setresuid(1, 1, 1)\n"
            "peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1]); print(peer.recv(9))"
        )
        # From the directory itself: the way to it may be closed to a stranger before we are asked.
        done = subprocess.run(
            [sys.executable, "-c", code, jobdir.SOCKET],
            cwd=state_dir,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == "b''", done.stderr
        assert service.process.poll() is None


def test_an_unknown_account_is_a_clear_error(state_dir):
    """The service would start with the wrong rights."""
    done = subprocess.run(
        [sys.executable, "-m", "worker_core.supervisor", str(state_dir), "--engine", "no-such"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no account no-such" in done.stderr


def _made(path):
    try:
        return path.stat().st_ctime_ns
    except FileNotFoundError:
        return None
