"""Processes that have lost the mark of their job: their job is never started a second time."""

import json
import os
import subprocess
import sys

import pytest
from support.core import wait_gone

# A program whose first launcher ends right after a fork, before it reports that.
PROGRAM = """
import json, os, resource, sys
from worker_core import Engine, JobSpec, Limits
state_dir, runs, script, bounded, limited = sys.argv[1:]
if bounded:
    resource.setrlimit(resource.RLIMIT_RTTIME, (10**9, 10**9))
with Engine(state_dir) as engine:
    os.environ.pop("WORKER_CRASH_AT", None)
    more = {"limits": Limits(open_files=50)} if limited else {}
    spec = JobSpec("sh", ["-c", script], env={"RUNS": runs}, **more)
    job = engine.wait(engine.submit(spec, "me").id, 20)
    print(json.dumps([job.state.value, job.exit_code, job.reason]))
"""
SCRIPTS = {
    "lives": 'echo $$ >> "$RUNS"; sleep 0.5; exit 3',
    "leaves": 'echo $$ >> "$RUNS"; sleep 600 & exit 3',
    "unmarks": 'echo $$ >> "$RUNS"; prlimit --pid $$ --rttime=1000000000: && sleep 0.5; exit 3',
}


@pytest.mark.parametrize("limited", ["", "limited"])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("groups", ["on", "off"])
def test_no_job_is_started_twice_if_its_process_is_not_recognised(
    tmp_path, groups, script, limited
):
    """A job would run twice if a launcher ended right after its fork."""
    runs = tmp_path / "runs"
    runs.touch()
    bounded = "" if script == "unmarks" else "bounded"
    arguments = [tmp_path / "state", runs, SCRIPTS[script], bounded, limited]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"WORKER_CRASH_AT": "launcher.forked", "WORKER_CGROUPS": groups},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "has ended: -9" in (tmp_path / "state" / "supervisor.log").read_text()
    (pid,) = map(int, runs.read_text().split())  # it ran once
    wait_gone(pid)
    state, exit_code, reason = json.loads(done.stdout)
    if state == "lost":
        assert "the process that was starting it has ended" in reason
    else:
        assert (state, exit_code) == ("failed", 3)
    # Its pid was reported, or its group tells which job it belongs to.
    assert state == "failed" or (groups, limited) == ("off", "")
