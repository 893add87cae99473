"""systemd and the kernel, asked from inside the machine."""

import contextlib
import os
import subprocess
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def run(*command: str, check: bool = True, stdin: str = "") -> str:
    """Run a command; return what it wrote to both streams. With `check`, failing is an error."""
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=240,
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
    return done.stdout


def systemctl(*arguments: str, check: bool = True) -> str:
    """Run systemctl."""
    return run("systemctl", *arguments, check=check)


def journal(unit: str, *options: str) -> str:
    """Return the messages of and about a unit in this boot."""
    return run("journalctl", "--no-pager", "-b", "-u", unit, *options)


def journal_tail() -> str:
    """Return what was logged last, the kernel's messages included."""
    return run("journalctl", "--no-pager", "-b", "-n", "120", check=False)


def cgroup_pids(group: Path) -> list[int]:
    """Return the processes in a control group and below it."""
    found = []
    for directory, _, _ in os.walk(group):  # which makes nothing of a group that has just gone
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in Path(directory, "cgroup.procs").read_text().split()]
    return found


def cgroup_of(pid: int) -> Path:
    """Return the control group of a process."""
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return CGROUPS / line.removeprefix("0::/")


def argv(pid: int) -> list[str]:
    """Return the command line of a process, empty once it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def status(pid: int, field: str) -> str:
    """Return a field of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def kill(pid: int, signum: int) -> None:
    """Send a signal."""
    os.kill(pid, signum)
