"""Files of the state directory: private from the first instant, whole or not there."""

import errno
import json
import os
import stat

import pytest
from support.core import run, shell
from worker_core import Engine
from worker_core.disk import files, jobdir
from worker_core.disk.jobdir import Exit, JobDir
from worker_core.model.state import Cause
from worker_core.model.usage import Usage


def test_everything_is_private(tmp_path):
    """Other users of the server could read jobs' input and output."""
    before = os.umask(0)
    try:
        with Engine(tmp_path / "state") as engine:
            spec = shell("cat; echo e >&2", stdin=b"secret", separate_stderr=True)
            assert run(engine, spec).exit_code == 0
    finally:
        os.umask(before)
    seen = {}
    for folder, _, names in os.walk(tmp_path / "state"):
        seen[folder] = stat.S_IMODE(os.stat(folder).st_mode)
        for name in names:
            path = os.path.join(folder, name)
            assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, path
    assert set(seen.values()) == {0o700}


def test_a_file_has_its_mode_before_it_has_its_content(tmp_path, monkeypatch):
    """For a moment a secret would be readable by everybody."""
    modes = []
    real = os.write

    def write(fd, data):
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    files.replace(str(tmp_path / "file"), b"secret", sync=True)
    assert modes == [0o600]


def test_a_replaced_file_is_never_half_written(tmp_path, monkeypatch):
    """After a full disk a record would be cut short."""
    path = str(tmp_path / "file")
    files.replace(path, b"old", sync=False)

    def full(*_):
        raise OSError(28, os.strerror(28))

    for name in ("write", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="No space"):
                files.replace(path, b"new", sync=False)
    with open(path, "rb") as file:
        assert file.read() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_job_is_claimed_once(tmp_path):
    """A job would be started twice."""
    jobdir.make_private_dir(str(tmp_path / "jobs"))
    directory = JobDir(str(tmp_path), "id")
    assert directory.claimed() is None
    assert directory.claim({"command": "ls"})
    assert not directory.claim({"command": "other"})
    assert directory.claimed() == {"command": "ls"}


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_file_is_read_as_none(tmp_path, damaged):
    """After a crash of the machine a cut file would stop the whole recovery."""
    jobdir.make_private_dir(str(tmp_path / "jobs"))
    directory = JobDir(str(tmp_path), "id")
    directory.claim({})
    with open(directory.file("exit.json"), "wb") as file:
        file.write(damaged)
    with open(directory.file("spec.json"), "wb") as file:
        file.write(damaged)
    assert directory.exit() is None
    assert directory.claimed() == {}


def test_an_end_is_read_as_it_was_written(tmp_path):
    """A code would be lost between supervisor and engine."""
    jobdir.make_private_dir(str(tmp_path / "jobs"))
    directory = JobDir(str(tmp_path), "id")
    directory.claim({})
    end = Exit(Cause.OWN, 3, None, "exit code 3", 1.5, Usage(wall_seconds=0.25, read_bytes=7))
    directory.write_exit(end, sync=True)
    assert directory.exit() == end
    with open(directory.file("exit.json")) as file:
        written = json.load(file)
    assert (written["cause"], written["wall_seconds"], written["read_bytes"]) == ("own", 0.25, 7)


@pytest.mark.parametrize("later", [{"io_stalls": 5}, {"usage": "of a later release"}])
def test_an_end_with_fields_of_a_later_release_is_read(later):
    """After a downgrade, jobs would never be recorded as ended."""
    end = Exit(Cause.KILL, None, 15, None, 1.5, Usage(1.0), pid=3, started_at=1.0)
    assert Exit.from_dict(end.to_dict() | later) == end


@pytest.mark.parametrize(
    "wrong",
    [{"cause": "boredom"}, {"wall_seconds": "1"}, {"max_rss_bytes": -1}, {"ended_at": None}],
)
def test_an_end_that_is_damaged_is_none(wrong):
    """A record would hold what no job can have."""
    with pytest.raises(ValueError, match="not the end of a job"):
        Exit.from_dict(Exit(Cause.OWN, 0, None, None, 1.5, Usage(1.0)).to_dict() | wrong)


def test_what_a_process_left_that_had_our_pid_is_in_nobodys_way(tmp_path):
    """A leftover file would prevent a job from being recorded as ended."""
    path = tmp_path / "file"
    (tmp_path / f"file.{os.getpid()}.tmp").write_bytes(b"half")
    files.replace(str(path), b"new", sync=False)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_read_whole(tmp_path, monkeypatch):
    """A record longer than what one read gives would be cut."""
    monkeypatch.setattr(files, "_CHUNK", 3)
    (tmp_path / "file").write_bytes(b"0123456789")
    assert files.read(str(tmp_path / "file")) == b"0123456789"


def test_the_end_of_a_job_tells_its_beginning(tmp_path):
    """The record of a very short job would have no start time and no pid."""
    with Engine(tmp_path / "state") as engine:
        job = run(engine, shell("echo $$"))
        end = JobDir(engine.state_dir, job.id).exit()
        assert int(engine.read_output(job.id)) == job.pid == end.pid
        assert job.created_at <= job.started_at == end.started_at <= job.ended_at


def described(**more):
    spec = {"command": "true", "name": "n", "labels": {"a": "b"}, "stdin": None, **more}
    return {"format": 1, "owner": "me", "run_as": "other", "spec": spec}


def test_the_claim_is_the_record_once_more_and_says_when_it_was_made(tmp_path):
    """Each job would take a file more; or one that waited through a restart would look lost."""
    directory = JobDir(str(tmp_path), "job")
    directory.make()
    directory.write_record(described(timeout=5))
    os.utime(directory.file("record.json"), (1, 1))
    before = directory.disk_bytes()
    assert directory.claimed() is None
    assert directory.claim({"command": "not used"})
    assert not directory.claim({"command": "not used"})
    assert directory.disk_bytes() == before
    assert directory.claimed_at() > 1
    spec = {"command": "true", "stdin": None, "timeout": 5, "run_as": "other", "owner": "me"}
    assert directory.claimed() == spec
    directory.unclaim()
    assert directory.record() == described(timeout=5)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EXDEV])
def test_where_a_file_has_one_name_only_the_claim_is_a_file(tmp_path, monkeypatch, number):
    """On a file system without hard links no job would start."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    directory = JobDir(str(tmp_path), "job")
    directory.make()
    directory.write_record(described())
    spec = {"command": "true", "stop_signal": "SIGINT"}
    assert directory.claim(spec)
    assert not directory.claim(spec)
    assert directory.claimed() == spec


def test_a_claim_says_where_the_input_is(tmp_path):
    """A supervisor that takes over a job would not know where its input is."""
    directory = JobDir(str(tmp_path), "job")
    directory.make()
    for stdin, path in (({"size": 3}, directory.file("stdin")), ({"file": "/a"}, "/a")):
        directory.write_record(described(stdin=stdin))
        directory.claim({})
        assert directory.claimed()["stdin"] == path
        for name in ("spec.json", "record.json"):
            os.unlink(directory.file(name))


@pytest.mark.parametrize("half", [b"", b'{"cause": "ow'])
@pytest.mark.parametrize("sync", [False, True])
def test_an_end_takes_the_place_of_half_of_it(tmp_path, half, sync):
    """The end of a job whose supervisor was killed while it wrote would never be recorded."""
    directory = JobDir(str(tmp_path), "job")
    directory.make()
    with open(directory.file("exit.json"), "wb") as file:
        file.write(half)
    assert directory.exit() is None
    end = Exit(Cause.OWN, 3, None, None, 1.0)
    directory.write_exit(end, sync=sync)
    assert directory.exit() == end
    assert os.listdir(directory.path) == ["exit.json"]
