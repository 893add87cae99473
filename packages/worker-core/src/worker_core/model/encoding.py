"""Text that stands for bytes (argv, environment, paths), and compact JSON.

Such text is UTF-8 with surrogateescape everywhere. `os.fsencode` depends on the locale: with
LANG=de_DE.ISO-8859-1 it encodes "µ" as one byte and cannot encode "漢". Clients send UTF-8, and
the job must get the same bytes whatever the locale is.
"""

from __future__ import annotations

import json
import os
import sys

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make a new one each time


def encode(text: str) -> bytes:
    """Return the bytes that a text stands for."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """Return the text that stands for these bytes; `encode` gives the same bytes again."""
    return data.decode("utf-8", "surrogateescape")


def compact_json(value: object) -> str:
    """Return the JSON of a value without spaces, in ASCII.

    This is the form of what is stored, and of what engine and supervisor send to each other.
    Surrogates, which stand for raw bytes, are escaped as every other character outside ASCII.
    """
    return _ENCODER.encode(value)


def use_utf8() -> None:
    """Execute this program again in Python's UTF-8 mode, unless paths are UTF-8 already.

    Afterwards a path given as text means the same file in every locale. To be called in the first
    lines of a program: pid, arguments, environment and inheritable descriptors stay.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        argv = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execv(sys.executable, argv)  # noqa: S606  # this program itself
