"""Where the `worker` command begins: whatever it loads it loads under guard.

Ctrl-C while modules are being imported is as likely as at any other time, and as silent.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130  # exits.INTERRUPTED, which is yet to be loaded, and exits.NO_ANSWER
_NO_ANSWER = 125


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; no error leaves it as an exception."""
    try:
        from worker_cli import main

        return main.run(words)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (ImportError, MemoryError, OSError) as error:
        return _cannot_begin(error)


def _cannot_begin(error: Exception) -> int:
    """Say why this command cannot even be loaded: a limit, or an installation that is not whole."""
    with contextlib.suppress(Exception):
        from worker_cli import system_limits

        sys.stderr.write(f"worker: cannot start: {system_limits.explain_import_error(error)}\n")
    return _NO_ANSWER


if __name__ == "__main__":
    sys.exit(main())
