"""Outputs as people see them, kept in files that are read by people.

WORKER_UPDATE_SNAPSHOTS=1 writes them anew; the difference is then for a reviewer to judge.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / "cli" / "snapshots"

_VARIABLE = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r"\b\d+s ago"), "<age> ago"),
    (re.compile(r"\b\d+(\.\d+)?s(?=,| of CPU)"), "<duration>"),
    (re.compile(r"\d+\.\d [KM]iB of memory"), "<size> of memory"),
    (re.compile(r"https://localhost:\d+"), "<server>"),
)


def check(name: str, text: str) -> None:
    """Compare a text with its snapshot, after replacing what differs in each run."""
    for pattern, instead in _VARIABLE:
        text = pattern.sub(instead, text)
    text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    file = DIRECTORY / f"{name}.txt"
    if os.environ.get("WORKER_UPDATE_SNAPSHOTS"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8"), f"not as in {file}"
