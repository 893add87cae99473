"""The users file: what is taken, what is refused, and how it is changed."""

import os
import stat
import threading

import pytest
from worker_daemon import errors
from worker_daemon.auth import htpasswd

HASH = "$2b$04$dyOasEGJI9LtiIfQLQcFTOa8wdTu7z/ON1HCS.KXU12up8TJoQ1cC"


@pytest.fixture
def file(tmp_path):
    """A users file with alice and a comment."""
    path = tmp_path / "users"
    path.touch(mode=0o600)
    path.write_text(f"# who may\nalice:{HASH}\n")
    return path


def edit(path):
    """Add bob."""
    with htpasswd.editing(path) as users:
        users["bob"] = HASH


def test_a_new_file_is_for_its_owner_only(tmp_path):
    """Everybody on the machine could take the hashes away and guess at leisure."""
    old = os.umask(0)
    try:
        path = tmp_path / "new directory" / "users"
        with htpasswd.editing(path) as users:
            users["alice"] = HASH
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_change_keeps_everything_else(file):
    """Comments, and the group that the service reads the file with, would be lost."""
    file.chmod(0o640)
    os.chown(file, -1, os.getgroups()[0] if os.getgroups() else os.getgid())
    with htpasswd.editing(file) as users:
        users["bob"] = HASH
        del users["alice"]
    assert file.read_text() == f"# who may\nbob:{HASH}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_failed_change_changes_nothing(file):
    """A slip at the prompt would leave half a file."""
    before = file.read_text(), sorted(os.listdir(file.parent))
    with pytest.raises(KeyError), htpasswd.editing(file) as users:
        del users["nobody"]
    assert (file.read_text(), sorted(os.listdir(file.parent))) == before


def test_a_full_disk_leaves_the_old_file(file, monkeypatch):
    """All users would be locked out."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.UsersError, match=r"cannot write .*No space left"):
        edit(file)
    assert os.listdir(file.parent) == ["users"]
    assert "bob" not in file.read_text()


def test_changes_at_the_same_time_all_arrive(file):
    """Of two administrators, one would find that the other's change has undone his."""

    def add(name):
        with htpasswd.editing(file) as users:
            users[name] = HASH

    threads = [threading.Thread(target=add, args=(f"user{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(htpasswd.load(file)[0]) == {"alice", *(f"user{n}" for n in range(20))}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("bob", f"line 2: 'bob' has no bcrypt hash; {htpasswd._CURE}"),
        ("bob:", "line 2: 'bob' has no bcrypt hash"),
        ("bob:$apr1$xyz$abc", "line 2: 'bob' has no bcrypt hash"),
        ("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "line 2: 'bob' has no bcrypt hash"),
        (f"bob:{HASH}:extra", "line 2: 'bob' has no bcrypt hash"),
        (f"bob:{HASH[:-1]}", "line 2: 'bob' has no bcrypt hash"),
        (f"bob:$2x${HASH[4:]}", "line 2: 'bob' has no bcrypt hash"),
        (
            f"bob:$2b$31${HASH[7:]}",
            "line 2: 'bob' has a hash of cost 31; the highest allowed is 16",
        ),
        (f"bob:$2b$03${HASH[7:]}", "line 2: 'bob' has a hash of cost 03"),
        (f"alice:{HASH}", "line 2: 'alice' is there twice"),
        (f":{HASH}", "line 2: '' is not a user name"),
        (f"b\udcffb:{HASH}", "line 2: 'b\\udcffb' is not a user name: it is not UTF-8 text"),
        (f"b\x01b:{HASH}", "line 2: 'b\\x01b' is not a user name: it has control characters"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line, fault):
    """The administrator would look for the bad line in a file of hundreds."""
    entries, faults = htpasswd.parse(f"alice:{HASH}\n{line}\n")
    assert set(entries) == {"alice"}
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_all_bad_lines_are_named_at_once(file):
    """They would come out one by one, each after a restart."""
    file.write_text("a:x\nb:y\n")
    with pytest.raises(errors.UsersError) as refused:
        htpasswd.load(file)
    assert len(str(refused.value).splitlines()) == 2
    assert all(line.startswith(str(file)) for line in str(refused.value).splitlines())


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o620, 0o660])
def test_a_file_that_others_can_read_or_change_is_refused(file, mode):
    """Hashes would be open to everybody on the machine, or anybody could add himself."""
    file.chmod(mode)
    with pytest.raises(errors.UsersError, match="`chmod g-wx,o= "):
        htpasswd.load(file)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_that_a_service_group_may_read_is_taken(file, mode):
    """A service with an account of its own could not read the file that root keeps for it."""
    file.chmod(mode)
    assert set(htpasswd.load(file)[0]) == {"alice"}


def test_no_file_and_no_regular_file_are_said_so(tmp_path):
    """The administrator would not know that the first user is still missing."""
    with pytest.raises(errors.UsersError, match=r"no users file .*; `workerd user add NAME` makes"):
        htpasswd.load(tmp_path / "users")
    with pytest.raises(errors.UsersError, match=r"cannot read .*: Is a directory"):
        htpasswd.load(tmp_path)


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        (b"", "the password is empty"),
        (b"x" * 73, "the password has 73 bytes; bcrypt takes at most 72"),
        (b"a\0b", "the password has a NUL byte in it"),
    ],
)
def test_a_password_that_could_not_be_used_is_not_taken(password, fault):
    """A user would be made who can never log in, or with less than the password says."""
    with pytest.raises(errors.UsersError, match=fault):
        htpasswd.hash_password(password)
