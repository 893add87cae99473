"""Two commands that change the same file at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def another_is_faster(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have the next change of a file wait for the lock while another command makes `change`."""
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        change()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)


def is_locked(directory: Path) -> bool:
    """Return whether the lock of a directory is held."""
    descriptor = os.open(directory / ".lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
