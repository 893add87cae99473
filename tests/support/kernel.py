"""What the kernel that the tests run on can do."""

import functools
import os

import pytest
from worker_core.linux import libc


@functools.cache
def reports_exit_status():
    """Return whether a pidfd has the exit status of a process that was reaped (Linux 6.15)."""
    child = os.fork()
    if child == 0:
        os._exit(37)
    pidfd = os.pidfd_open(child)
    try:
        os.waitpid(child, 0)
        return libc.wait_status(pidfd) == 37 << 8
    except OSError:
        return False
    finally:
        os.close(pidfd)


needs_exit_status = pytest.mark.skipif(
    not reports_exit_status(), reason="needs Linux 6.15, which reports an exit status by pidfd"
)
