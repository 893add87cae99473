"""worker in a minute: a real server, a real client, and a few jobs.

    python3 tests/system/demo.py

Needs python3 (3.11 or newer) with venv, and nothing else: it makes `.venv` in the clone,
installs the three distributions there, starts workerd on loopback with the development
certificate and a user of its own, and then does what a user would do, with the real
`worker` command. Each answer is compared with what it has to be. Exit code 0: all of it
was so; 1: something differed, and the last lines say what. It ends what it started and
leaves nothing behind but `.venv`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import stage
from stage import Differs, expect, expect_in, heading, note


def a_job(user: stage.User) -> None:
    heading("A job: run it, ask how it went, read its output")
    job = user.run("echo", "hello")
    user.wait(job, "completed")
    expect_in("the status", user.worker("status", job), "completed")
    expect("the output", user.worker("out", job), "hello\n")
    note("`run` printed an id and did not wait; the output is what `echo` wrote, byte for byte")


def a_mistake(user: stage.User) -> None:
    heading("A mistake: the job is there, and it says why it failed")
    job = user.run("echi", "hello")
    user.wait(job, "failed")
    expect_in("the status", user.worker("status", job), "echi: command not found")
    expect_in("the output", user.worker("out", job), "echi: command not found")
    note("no guessing: status and output both name the cause")


def a_long_job(user: stage.User, server: stage.Server) -> None:
    heading("A long job, with children of its own, one of which would rather not end")
    script = 'echo working; trap "" TERM; setsid sleep 300 & sleep 300; wait'
    job = user.run("sh", "-c", script)
    user.wait(job, "running")
    stage.until(lambda: user.output(job) == "working\n", "the job has begun to write")
    expect_in("the status", user.worker("status", job), "running")
    outlive_the_server(user, server, job)
    end_it(user, job)


def outlive_the_server(user: stage.User, server: stage.Server, job: str) -> None:
    heading("Meanwhile the server crashes, and comes back")
    before = stage.processes_of(job)
    server.crash()
    server.start()
    expect_in("the status", user.worker("status", job), "running")
    expect("the set of the job's processes", str(stage.processes_of(job)), str(before))
    note(f"the job's {len(before)} processes never noticed")


def end_it(user: stage.User, job: str) -> None:
    heading("End it, and everything that it started")
    expect_in("the answer", user.worker("kill", "--grace", "1", job), "killed")
    expect_in("the status", user.worker("status", job), "killed")
    expect("the output", user.worker("out", job), "working\n")
    left = stage.processes_of(job)
    if left:
        raise Differs(f"processes of the killed job still run: {left}")
    note("killed, its output kept, and no process of it is left on this machine")


def the_truth(user: stage.User) -> None:
    heading("And the truth about what cannot be done")
    job = user.run("true")
    user.wait(job, "completed")
    expect_in("the answer", user.worker("kill", job, exit_code=1), "already completed")
    note("a job that ended by itself is never reported as killed")


def play(scripts: Path) -> None:
    """Play every scene with the commands in `scripts`; raise Differs at the first difference."""
    directory = Path(tempfile.mkdtemp(prefix="worker-demo-"))
    server = stage.Server(scripts, directory)
    user = stage.User(server)
    try:
        heading("A server, with one user, and a workstation that trusts its certificate")
        server.add_user()
        server.start()
        user.log_in()
        a_job(user)
        a_mistake(user)
        a_long_job(user, server)
        the_truth(user)
    except Differs as difference:
        raise Differs(f"{difference}\n\nThe server's log:\n{server.log_text()}") from None
    finally:
        server.end(user.jobs)
        shutil.rmtree(directory)


def main() -> int:
    parser = argparse.ArgumentParser(description="Show worker at work, and check that it is so.")
    parser.add_argument("--bin", type=Path, help="use the commands in this directory, not .venv's")
    options = parser.parse_args()
    # As an exception, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        play(options.bin or stage.prepare())
        heading("All of it was as it has to be.")
    except Differs as difference:
        sys.stdout.flush()
        print(f"\nThe demo found a difference: {difference}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read this, such as `head`, has seen enough. What could not be written is still in
        # the buffer, and would be complained of at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())
