"""Waking followers when a file grows."""

import os
import threading

import pytest
from support.waiting import wait_until
from worker_core.linux import libc
from worker_core.output import spool
from worker_core.output.inotify import Watches


@pytest.fixture
def watches():
    watches = Watches()
    yield watches
    watches.close()


def append(path):
    with open(path, "ab") as file:
        file.write(b"x")


def test_a_write_wakes_everybody_who_waits(watches, tmp_path):
    """Followers would see new output only when a timer says so."""
    path = str(tmp_path / "output")
    append(path)
    ready, woken = threading.Barrier(6, timeout=30), []

    def follow():
        with watches.on(path) as watch:
            seen = watch.changes
            ready.wait()
            woken.append(watch.wait(seen, 10))

    threads = [threading.Thread(target=follow) for _ in range(5)]
    for each in threads:
        each.start()
    ready.wait()
    append(path)
    for each in threads:
        each.join(10)
    assert woken == [True] * 5


def test_what_one_has_read_the_others_need_not_read_again(watches, tmp_path):
    """Five hundred followers would read each line five hundred times; or one would miss some."""
    path = tmp_path / "out"
    path.write_bytes(b"0123456789")
    asked = []

    def read(offset):
        asked.append(offset)
        return offset, path.read_bytes()[offset:]

    with watches.on(str(path)) as watch:
        assert watch.read(2, read) == (2, b"23456789")
        assert watch.read(2, read) == watch.read(2, read) == (2, b"23456789")
        assert watch.read(5, read) == (5, b"56789")
        assert watch.read(10, read) == (10, b"")
        assert asked == [2]
        assert watch.read(1, read) == (1, b"123456789"), "what was not read before"
        seen = watch.changes
        append(path)
        assert watch.wait(seen, 10)
        assert watch.read(10, read) == (10, path.read_bytes()[10:])
        assert asked == [2, 1, 10]


def test_behind_a_full_chunk_there_may_be_more(watches, tmp_path):
    """A follower would stand still at 64 KiB, until the job writes again."""
    path = tmp_path / "out"
    path.write_bytes(b"x" * (spool.CHUNK + 5))

    def read(offset):
        return offset, path.read_bytes()[offset : offset + spool.CHUNK]

    with watches.on(str(path)) as watch:
        assert len(watch.read(0, read)[1]) == spool.CHUNK
        assert watch.read(spool.CHUNK, read) == (spool.CHUNK, b"x" * 5)


def test_a_file_that_is_not_watched_is_read_each_time(watches, tmp_path):
    """The growth of the file would never be reported to its followers."""
    path = tmp_path / "later"
    with watches.on(str(path)) as watch:
        assert watch.read(0, lambda offset: (offset, b"")) == (0, b"")
        assert watch.read(0, lambda offset: (offset, b"new")) == (0, b"new")


def test_a_change_between_look_and_wait_is_not_missed(watches, tmp_path):
    """The last bytes of a job would never be shown."""
    path = str(tmp_path / "output")
    append(path)
    with watches.on(path) as watch:
        seen = watch.changes
        append(path)
        wait_until(lambda: watch.changes != seen)
        assert watch.wait(seen, 0)
        assert not watch.wait(watch.changes, 0)


def test_a_file_that_appears_later_is_watched_once_it_is_told(watches, tmp_path):
    """The output of a job that was queued would not be followed."""
    path = str(tmp_path / "output")
    with watches.on(path) as watch:
        append(path)
        watches.touch(path)
        seen = watch.changes
        append(path)
        assert watch.wait(seen, 10)


def test_who_leaves_takes_the_watch_along(watches, tmp_path):
    """Each job that was ever followed would cost kernel memory for ever."""
    path = str(tmp_path / "output")
    append(path)
    with watches.on(path), watches.on(path):
        assert len(watches._by_number) == 1
    assert (watches._by_path, watches._by_number) == ({}, {})


def test_without_watches_a_wait_looks_again_soon(watches, tmp_path, monkeypatch):
    """At the kernel's bound on watches, followers would hang."""

    def none_left(*_):
        raise OSError(28, os.strerror(28))

    path = str(tmp_path / "output")
    append(path)
    monkeypatch.setattr(libc, "inotify_add", none_left)
    with watches.on(path) as watch:
        assert not watch.wait(watch.changes, 600)
    monkeypatch.undo()


def test_when_the_kernel_drops_events_everybody_looks(watches, tmp_path, monkeypatch):
    """When very much is written at once, some followers would stand still."""
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        append(path)
    with watches.on(paths[0]) as first, watches.on(paths[1]) as second:
        seen = first.changes, second.changes
        monkeypatch.setattr(libc, "inotify_watches", lambda _: iter([-1]))
        append(paths[0])
        assert first.wait(seen[0], 10)
        assert second.wait(seen[1], 10)


def test_closing_wakes_who_waits_and_frees_the_descriptor(tmp_path):
    """A daemon that ends would wait for its followers."""
    path = str(tmp_path / "output")
    append(path)
    watches = Watches()
    with watches.on(path) as watch:
        descriptor, seen = watches._inotify, watch.changes
        watches.close()
        assert watch.wait(seen, 10)
    wait_until(lambda: not _is_inotify(descriptor))


def _is_inotify(descriptor):
    try:
        return "inotify" in os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return False
