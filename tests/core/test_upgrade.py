"""The supervisor executes itself anew: what holds that up, and what is reported of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from worker_core.supervisor.upgrade import Upgrade


class Loop:
    """Stands for the loop: runs what is due when a test says so."""

    def __init__(self) -> None:
        self.clock = SimpleNamespace(monotonic=lambda: 100.0)
        self._due: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, call: Callable[[], None]) -> None:
        """Note a call."""
        self._due.append(call)

    def turn(self) -> None:
        """Run what was noted before."""
        due, self._due = self._due, []
        for call in due:
            call()


class Table:
    """Stands for the table of jobs, with starts that are under way until `settled`."""

    settled = False

    def waits_for_grace(self, _seconds: float) -> bool:
        """Return that no tree is in its grace."""
        return False

    def pause(self, _seconds: float) -> bool:
        """Return whether no start is under way."""
        return self.settled


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of accounts."""
    path = tmp_path / "accounts"
    path.write_text("nobody\n")
    return path


@pytest.fixture
def made(listed: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An upgrade whose starts are paused and not settled yet."""
    loop, table = Loop(), Table()
    made = Upgrade(
        loop, table, None,  # type: ignore[arg-type]
        lock=0, accounts=str(listed), service=True,
    )  # fmt: skip
    done: list[str] = []
    monkeypatch.setattr(made, "_execute", lambda: done.append("executed"))
    made.ask()
    assert made.fault is None
    return SimpleNamespace(upgrade=made, loop=loop, table=table, done=done)


def test_a_list_that_becomes_bad_while_starts_are_paused_is_reported_until_it_is_fixed(
    made: Any, listed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No job would ever be started again, and nobody would know why."""
    listed.unlink()
    for _ in range(5):
        made.loop.turn()
    assert made.upgrade.fault.startswith("no job is started until this is fixed: cannot reload: ")
    assert str(listed) in made.upgrade.fault
    assert [each.getMessage() for each in caplog.records] == [made.upgrade.fault]
    listed.write_text("nobody\n")
    made.table.settled = True
    made.loop.turn()
    assert (made.upgrade.fault, made.done) == (None, ["executed"])


def test_a_list_that_is_bad_from_the_beginning_pauses_nothing(
    listed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in the list would stop all jobs."""
    os.unlink(listed)
    loop = Loop()
    upgrade = Upgrade(
        loop, Table(), None,  # type: ignore[arg-type]
        lock=0, accounts=str(listed), service=True,
    )  # fmt: skip
    upgrade.ask()
    assert upgrade.fault is None
    assert "going on as before" in caplog.text
    assert not loop._due
