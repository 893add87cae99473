"""What a figure gets: how long it may take, where to put its files, and which tools are there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks import tools

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """The surroundings of one figure; `directory` is empty and its own."""

    directory: Path
    quick: bool
    missing: list[str] = field(default_factory=list)
    """Sentences about baselines that are left out."""

    def pick(self, full: T, quick: T) -> T:
        """Return a number of rounds or the like, for a full or a quick run."""
        return quick if self.quick else full

    def optional(self, need: Callable[[], T]) -> T | None:
        """Return what `need` returns, or None with a note when it misses a tool."""
        try:
            return need()
        except tools.MissingToolError as error:
            self.missing.append(str(error))
            return None

    def spawned_per_second(self, count: int, at_once: int, *argv: str) -> float:
        """Return how many a second a program in C starts and reaps."""
        spawn = tools.compiled("spawn", self.directory)
        command = [spawn, str(count), str(at_once), *argv]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(done.stdout.splitlines()[-1])
