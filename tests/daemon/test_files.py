"""Files that are replaced as a whole."""

import os
import stat
from pathlib import Path

import pytest
from worker_daemon import files


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """Temporary files would pile up beside the users file."""
    path = tmp_path / "users"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_mode_is_as_asked_whatever_the_umask_is(tmp_path: Path, mode: int) -> None:
    """A key could be readable for everybody, or a CA certificate for nobody."""
    path = tmp_path / "file"
    before = os.umask(0o077)
    try:
        files.write(path, b"", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    """After `workerd user add` the service could no longer read the users file."""
    path = tmp_path / "users"
    path.touch()
    path.chmod(0o640)
    files.write(path, b"new", keep_owner=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All users would be gone, and the message would name a file that nobody knows."""
    path = tmp_path / "users"
    files.write(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]
