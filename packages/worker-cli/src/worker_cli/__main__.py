"""Where the `worker` command begins: whatever it loads it loads under guard.

Ctrl-C while modules are being imported is as likely as at any other time, and as silent.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130  # exits.INTERRUPTED, which is yet to be loaded


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; no error leaves it as an exception."""
    try:
        from worker_cli import program

        return program.run(words)
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
