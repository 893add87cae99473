"""The disk space that is reserved for the ends of jobs."""

import errno
import os
import stat

from worker_core.disk import reserve


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_room_is_really_taken(tmp_path):
    """A file of the right length that takes no room would keep nothing."""
    kept = reserve.Reserve(str(tmp_path))
    assert kept.kept()
    status = (tmp_path / "reserve").stat()
    assert status.st_blocks * 512 >= reserve.SIZE
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_what_was_given_up_is_seen_and_taken_again(tmp_path):
    """Jobs would be accepted into the room that ends need, or never again."""
    clock, room = Clock(), [True]
    kept = reserve.Reserve(str(tmp_path), clock=clock)
    made = kept._make
    kept._make = lambda: room[0] and made()
    assert kept.kept()
    room[0] = False
    reserve.give_up(str(tmp_path))  # as another process does
    clock.now += 2
    assert not kept.kept()
    room[0] = True
    assert kept.kept()
    room[0] = False
    kept.give_up()
    assert not kept.kept(), "its own doing is known at once"
    kept.give_up()
    assert os.listdir(tmp_path) == []


def test_half_a_reserve_is_made_whole(tmp_path):
    """A crash while it was made would leave a file that keeps no room, for ever."""
    (tmp_path / "reserve").touch()
    assert reserve.Reserve(str(tmp_path)).kept()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= reserve.SIZE


def test_without_room_nothing_is_left_behind(tmp_path, monkeypatch, caplog):
    """The attempt would use up the last space on the disk."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not reserve.Reserve(str(tmp_path)).kept()
    assert os.listdir(tmp_path) == []
    assert "cannot keep a reserve on the disk" in caplog.text


def test_what_is_a_full_disk():
    """A quota would hold back the end of jobs where a full disk does not."""
    assert reserve.is_full(OSError(errno.EDQUOT, ""))
    assert not reserve.is_full(OSError(errno.EIO, ""))
