"""Commands in a pseudo-terminal."""

import pexpect


def ends(child: pexpect.spawn, code: int) -> None:
    """See a command end, with an exit code."""
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code
