"""Limits and isolation against the real `workerd`."""

from __future__ import annotations

import json
import re

from support.cli_run import Worker

ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")


def test_a_limit_is_enforced_and_shown(user: Worker) -> None:
    """The option would have no effect, or nobody could see that it has one."""
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


def test_an_unenforceable_limit_names_best_effort(user: Worker) -> None:
    """The message would not say how to run the job anyway."""
    done = user.run("run", "--memory", "1G", "true")
    if done.code == 0:  # here it can be enforced
        return
    assert done.code == 1
    assert "--memory: cannot be enforced here: it needs the cgroup v2 controller" in done.stderr
    assert user.ok("run", "--memory", "1G", "--best-effort", "--wait", "echo", "x").out == "x\n"


def test_a_limit_that_is_none_is_refused_by_name(user: Worker) -> None:
    """The message would name a field of the API instead of the option."""
    done = user.run("run", "--cpus", "0.001", "true")
    assert done.code == 1
    assert "--cpus: must be at least 0.01" in done.stderr
