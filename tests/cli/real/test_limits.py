"""Limits and isolation against the real `workerd`."""

from __future__ import annotations

import json
import re

from support.cli_run import Worker

ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")


def test_a_limit_holds_and_is_told(user: Worker) -> None:
    """The option would be taken and have no effect, or nobody could see that it had."""
    done = user.ok(
        "run", "--wait", "--open-files", "64", "--file-size", "1M", "sh", "-c", "ulimit -n"
    )
    assert done.out == "64\n"
    record = json.loads(user.ok("status", "-o", "json", "@last").out)
    assert record["enforced"] == {"open_files": "rlimit", "file_size": "rlimit"}
    terminal = user.at_terminal("status", "@last", columns=200)
    shown = ESCAPE.sub("", terminal.read().decode())
    terminal.close()
    assert "limits   open files 64 (rlimit), file size 1.0 MiB (rlimit)" in shown
    assert " of CPU" in shown


def test_what_cannot_be_enforced_says_how_to_go_on(user: Worker) -> None:
    """A person would be told that it does not work, and not what would."""
    done = user.run("run", "--memory", "1G", "true")
    if done.code == 0:  # here it can be enforced
        return
    assert done.code == 1
    assert "--memory: cannot be enforced here: it needs the cgroup v2 controller" in done.stderr
    assert user.ok("run", "--memory", "1G", "--best-effort", "--wait", "echo", "x").out == "x\n"


def test_a_limit_that_is_none_is_refused_by_name(user: Worker) -> None:
    """A person would be told of a field of the API, and not of the option."""
    done = user.run("run", "--cpus", "0.001", "true")
    assert done.code == 1
    assert "--cpus: must be at least 0.01" in done.stderr
