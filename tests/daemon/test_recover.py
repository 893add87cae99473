"""`workerd recover`: what an administrator does when the database is lost."""

import os
import pwd
import shutil
import subprocess
import sys

import pytest
from support.core import begin, run, shell, waiting_for
from support.daemon import Daemon
from worker_core import Engine, JobSpec


def recover(daemon):
    """Run `workerd recover` with the settings of a daemon, and return the completed process."""
    return subprocess.run(
        [sys.executable, "-m", "worker_daemon", "recover", f"--config={daemon.config}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def daemon(tmp_path):
    """A daemon that does not run, with one finished job of its user."""
    with Daemon(tmp_path, start=False) as daemon:
        with Engine(daemon.state_dir) as engine:
            daemon.job = run(engine, shell("echo kept; exit 3"), owner=daemon.user)
        yield daemon


def refusal(daemon):
    """Start the daemon, which must fail, and return its message."""
    before = len(daemon.log())
    with pytest.raises(AssertionError, match="workerd ended with exit code 1"):
        daemon.start()
    daemon._process = None
    return daemon.log()[before:]


def test_a_lost_database_stops_the_start_and_is_made_again(daemon):
    """All outputs would be deleted, and a running job would keep running unnoticed."""
    go = daemon.directory / "go"
    with Engine(daemon.state_dir) as engine:
        runs = begin(engine, shell(waiting_for(go) + "; exit 4"), owner=daemon.user)
    for rest in ("", "-wal", "-shm"):
        (daemon.state_dir / f"worker.db{rest}").unlink(missing_ok=True)
    shutil.rmtree(daemon.state_dir / "backups")

    said = refusal(daemon)
    missing = "worker.db is missing, but 2 jobs have a directory"
    assert f"workerd: cannot use {daemon.state_dir}: {missing}" in said
    assert "run `workerd recover`" in said
    assert "Traceback" not in said

    done = recover(daemon)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "jobs with a record: 2 (1 failed, 1 running)\n"
        "began with: nothing; no database or copy could be read\n"
        "records made from directories alone: 2\n"
        "start workerd: it asks the supervisor about the jobs that were started\n"
    )
    daemon.start()
    daemon.stop()
    go.touch()
    with Engine(daemon.state_dir) as engine:
        assert engine.wait(runs.id, 20).exit_code == 4
        assert engine.read_output(daemon.job.id) == b"kept\n"


def test_what_cannot_be_recovered_is_refused(daemon):
    """A mistyped path would become a state directory, or a running server lose its database."""
    with Engine(daemon.state_dir):
        done = recover(daemon)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another engine has it open; stop that one" in done.stderr
    shutil.rmtree(daemon.state_dir)
    done = recover(daemon)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("workerd: cannot recover ")
    assert "Traceback" not in done.stderr
    assert not daemon.state_dir.exists()


def test_root_leaves_a_database_that_the_service_can_open(daemon):
    """After root ran `recover`, the service could not start."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the state directory is that of another account")
    nobody = pwd.getpwnam("nobody")
    for place, directories, files in os.walk(daemon.state_dir):
        for name in (".", *directories, *files):
            os.chown(os.path.join(place, name), nobody.pw_uid, nobody.pw_gid)
    (daemon.state_dir / "worker.db").unlink()
    for parent in daemon.state_dir.parents:
        if parent.stat().st_uid == 0 and parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    done = recover(daemon)
    assert done.returncode == 0, done.stderr
    assert (daemon.state_dir / "worker.db").stat().st_uid == nobody.pw_uid
    assert {path.stat().st_uid for path in daemon.state_dir.rglob("*")} == {nobody.pw_uid}


def test_what_is_not_known_is_said(daemon):
    """A job without an owner would belong to a wrong user, or disappear."""
    (daemon.state_dir / "jobs" / daemon.job.id / "record.json").unlink()
    (daemon.state_dir / "worker.db").write_bytes(b"")
    shutil.rmtree(daemon.state_dir / "backups")
    done = recover(daemon)
    assert (
        f"owner, name and labels unknown, of release 0.1.0: {daemon.job.id}; an administrator "
        "finds them with the owner :unknown\n" in done.stdout
    )
    assert f"the database that was there: {daemon.state_dir}/set-aside/database/" in done.stdout
    with Engine(daemon.state_dir) as engine:
        assert engine.list(owner=daemon.user).jobs == ()
        assert run(engine, JobSpec("true")).exit_code == 0
