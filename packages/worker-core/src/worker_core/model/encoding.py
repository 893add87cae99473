"""Text that stands for bytes: argv, environment, paths. UTF-8 with surrogateescape everywhere.

`os.fsencode` depends on the locale: with LANG=de_DE.ISO-8859-1 it makes one byte of "µ" and cannot
encode "漢". Clients send UTF-8, so the same bytes must reach the job, whatever the locale is.
"""

from __future__ import annotations

import os
import sys


def encode(text: str) -> bytes:
    """Return the bytes that a text stands for."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """Return the text that stands for these bytes; `encode` gives the same bytes again."""
    return data.decode("utf-8", "surrogateescape")


def use_utf8() -> None:
    """Execute this program again in Python's UTF-8 mode, unless paths are UTF-8 already.

    Afterwards every path given as text means the same file in every locale. For the first lines
    of a program: pid, arguments, environment and inheritable descriptors stay.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        argv = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execv(sys.executable, argv)  # noqa: S606  # ourselves
