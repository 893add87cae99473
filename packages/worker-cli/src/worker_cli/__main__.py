"""The entry point of the `worker` command, which also handles errors while modules are imported.

Ctrl-C during the imports is as likely as at any other time, and must not print a traceback.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The same as exits.INTERRUPTED and exits.NO_ANSWER, which may not have been imported yet.
_INTERRUPTED = 130
_NO_ANSWER = 125


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; no error leaves it as an exception."""
    try:
        from worker_cli import main

        return main.run(words)
    except KeyboardInterrupt:
        if words is None:
            # An object whose construction was interrupted cannot be closed, for instance a response
            # of http.client; Python would print a traceback when it is deleted, after this block.
            sys.unraisablehook = lambda _: None
        return _INTERRUPTED
    except (ImportError, MemoryError, OSError) as error:
        return _cannot_start(error)


def _cannot_start(error: Exception) -> int:
    """Report why the modules cannot be imported: a limit, or an incomplete installation."""
    with contextlib.suppress(Exception):
        from worker_cli import system_limits

        sys.stderr.write(f"worker: cannot start: {system_limits.explain_import_error(error)}\n")
    return _NO_ANSWER


if __name__ == "__main__":
    sys.exit(main())
