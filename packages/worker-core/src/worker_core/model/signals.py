"""Names and numbers of signals."""

from __future__ import annotations

import signal

from worker_core.model.errors import InvalidRequest, echo

_VALID = frozenset(map(int, signal.valid_signals()))  # computed once: it takes 0.1 ms
_LONGEST = 20  # characters of a name


def number(name: str | int) -> int:
    """Return the number of a signal given as 15, "15", "TERM", "SIGTERM" or "SIGRTMIN+3".

    Raises InvalidRequest for anything else.
    """
    if isinstance(name, int) and not isinstance(name, bool):
        found = name
    elif isinstance(name, str) and name.isascii() and name.isdecimal() and len(name) < 4:
        found = int(name)
    elif isinstance(name, str) and len(name) <= _LONGEST:
        upper = name.upper()
        upper = upper if upper.startswith("SIG") else f"SIG{upper}"
        base, _, more = upper.partition("+")
        found = int(getattr(signal.Signals, base, 0))
        if more:
            fits = base == "SIGRTMIN" and more.isascii() and more.isdecimal() and len(more) < 3
            found = found + int(more) if fits else 0
    else:
        found = 0
    if found in _VALID:
        return found
    raise InvalidRequest(
        f"invalid signal {echo(name)}: give a name such as TERM or a number from 1 to "
        f"{signal.NSIG - 1}"
    )


def name(signum: int) -> str:
    """Return the name of a signal number, as in "SIGTERM" or "SIGRTMIN+3"; "32" is its own."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        if signum < signal.SIGRTMIN:  # the C library reserves the first two
            return str(signum)
        return f"SIGRTMIN+{signum - signal.SIGRTMIN}"


def failure_reason(exit_code: int | None, signum: int | None) -> str | None:
    """Return the sentence for a job that ended by itself, None for exit code 0."""
    if signum is not None:
        named = name(signum)
        return f"ended by signal {named}" + ("" if named == str(signum) else f" ({signum})")
    return f"exit code {exit_code}" if exit_code else None
