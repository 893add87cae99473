"""The daemon's log on stderr: lines for people, or JSON for programs."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from typing import Any

_STDERR = 2
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Text from clients must not be able to start a new line or to move the cursor.
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {
    code: repr(chr(code))[1:-1]
    for code in (*range(32), *range(127, 160), 0x2028, 0x2029, *_DIRECTIONS)
}
# Longer text from clients is cut, and its real length shown: a command line may have megabytes, and
# anybody can send a path of 64 KiB.
_LONGEST_TEXT = 1000  # characters of a text
_LONGEST_LIST = 4000  # characters of all texts of a list, such as an argv
_MOST_ITEMS = 100
_LONGEST_MESSAGE = 16_000  # characters of a message or a traceback, which are mostly our own
_ENDS = re.compile(r"""[\s="']""")


class TextFormatter(logging.Formatter):
    """``TIME LEVEL message key=value …``, without the time if the journal adds its own."""

    def __init__(self, *, stamped: bool) -> None:
        super().__init__()
        self._stamped = stamped

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of an exception."""
        line = f"{record.levelname.lower()}: {_message(record)}"
        for name, value in _extras(record).items():
            line += f" {name}={_quoted(value)}"
        line = line.translate(_ESCAPES)
        if self._stamped:
            line = f"{_time(record)} {line}"
        return f"{line}\n{_exception(self, record)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the fields of the caller."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_extras(record),
        }
        if record.exc_info:
            entry["exception"] = _exception(self, record)
        return json.dumps(entry, default=str)


class Stderr(logging.Handler):
    """Writes each record to stderr, with one system call; Python's streams need three."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line; report a failure on stderr."""
        try:
            line = memoryview(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
            while line:
                line = line[os.write(_STDERR, line) :]
        except Exception:  # noqa: BLE001  # as every handler of logging does
            self.handleError(record)


def set_up(level: str, style: str) -> None:
    """Log to stderr at `level` ("info", …) in `style` ("text" or "json")."""
    stamped = "JOURNAL_STREAM" not in os.environ
    # Collect only what the formatters show; the rest would take as long as the line itself
    # (docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = Stderr()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter(stamped=stamped))
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)


def set_level(level: str) -> None:
    """Change the lowest level that is logged."""
    logging.getLogger().setLevel(level.upper())


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}Z"


def _quoted(value: object) -> object:
    # A value with a separator in it is quoted, so that no client can add a field to the line.
    needs_quotes = isinstance(value, str) and _ENDS.search(value)
    return json.dumps(value, ensure_ascii=False) if needs_quotes else value


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: _short(value) for name, value in vars(record).items() if name not in _STANDARD}


def _message(record: logging.LogRecord) -> str:
    return _cut(record.getMessage(), _LONGEST_MESSAGE)


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return _cut(formatter.formatException(record.exc_info), _LONGEST_MESSAGE)  # type: ignore[arg-type]


def _short(value: object) -> object:
    """Return a value for a line; of a long value, its beginning and its length."""
    if isinstance(value, str):
        return _cut(value, _LONGEST_TEXT)
    if isinstance(value, list | tuple):
        return _short_list(value)
    if value is None or isinstance(value, int | float):
        return value
    return _cut(str(value), _LONGEST_TEXT)


def _short_list(values: Sequence[object]) -> list[object]:
    shown: list[object] = []
    left = _LONGEST_LIST
    for value in itertools.islice(values, _MOST_ITEMS):
        short = _cut(str(value), min(left, _LONGEST_TEXT))
        shown.append(short)
        left -= len(short)
        if left <= 0:
            break
    if len(shown) < len(values):
        shown.append(f"… ({len(values)} in all)")
    return shown


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
