"""How the command handles answers that a real server gives only in rare moments."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest
from support.cli_clock import Clock
from support.cli_run import COMMAND, Worker
from support.cli_stub import DROP, Answer, Request, Script, Stub, answer, chunked, in_order, problem
from worker_cli import Client
from worker_cli.__main__ import main

ID = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"
OTHER = "77ab1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"

Serve = Callable[[Script], Stub]

CREATED = answer(201, {"id": ID, "status": "running"})


def routes(**answers: Answer | list[Answer]) -> Script:
    """A script that answers by the last word of the path; a list is given one by one."""

    def script(request: Request) -> Answer:
        found = answers[request.path.rpartition("/")[2]]
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    return script


def status(word: str, **fields: object) -> Answer:
    return answer(200, {"id": ID, "status": word} | fields)


@pytest.mark.parametrize(
    ("word", "fields", "shown", "why"),
    [
        ("completed", {"exit_code": 0}, "exit code 0", "ended by itself before it was killed"),
        ("failed", {"exit_code": 3}, "exit code 3", "ended by itself before it was killed"),
        ("timed_out", {"signal": 9}, "SIGKILL", "was stopped because of its --timeout"),
        ("out_of_memory", {"signal": 9}, "SIGKILL", "was stopped because it ran out of memory"),
        ("lost", {"reason": "gone"}, "gone", "was stopped; its exit status is unknown"),
        ("vanished", {"ended_at": "2026-11-24T11:00:00.000Z"}, "", "ended for another reason"),
    ],
)
def test_a_job_that_ends_otherwise_while_it_is_killed(
    worker: Worker, serve: Serve, word: str, fields: dict[str, object], shown: str, why: str
) -> None:
    """A user would believe to have killed a job that had completed, or the reverse."""
    stub = serve(
        routes(
            kill=answer(202, {"id": ID, "status": "stopping"}),
            status=status(word, **fields),
        )
    )
    done = worker.run("kill", "--server", stub.url, ID)
    assert done.code == 1
    assert done.out == f"{ID} {word}" + (f" ({shown})\n" if shown else "\n")
    assert done.stderr == f"worker: job {ID} {why}\n"


@pytest.mark.parametrize(
    ("words", "stop_grace", "ends_after", "waits", "asks"),
    [
        ((), 10.0, 40.0, 40.0, 0),
        ((), 10.0, None, 40.0, 1),
        ((), 300.0, 310.0, 310.0, 1),
        ((), 300.0, None, 330.0, 1),
        ((), None, None, 40.0, 1),
        (("--grace", "5m"), 10.0, 310.0, 310.0, 0),
        (("--grace", "5"), 300.0, None, 35.0, 0),
        (("--now",), 300.0, None, 40.0, 0),
    ],
)
def test_kill_waits_for_as_long_as_the_grace_lasts(
    serve: Serve,
    clock: Clock,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    stop_grace: float | None,
    ends_after: float | None,
    waits: float,
    asks: int,
) -> None:
    """Kill would stop waiting before the grace of a job is over, or never."""
    begin = clock.now

    def script(request: Request) -> Answer:
        if request.path == f"/jobs/{ID}":
            return status("stopping", spec={"command": "make", "stop_grace": stop_grace})
        clock.now += float(request.query["wait"][0])
        over = ends_after is not None and clock.now >= begin + ends_after
        return status("killed" if over else "stopping")

    stub = serve(script)
    assert main(["kill", "--server", stub.url, *words, ID]) == (ends_after is None)
    captured = capfd.readouterr()
    if ends_after is None:
        assert captured.out == f"{ID} stopping\n"
        assert captured.err == f"worker: job {ID} has not ended yet\n"
    else:
        assert (captured.out, captured.err) == (f"{ID} killed\n", "")
    assert clock.now - begin == waits
    assert [each.path for each in stub.requests].count(f"/jobs/{ID}") == asks


def test_a_kill_with_a_lost_answer_is_reported(worker: Worker, serve: Serve) -> None:
    """A user would not know whether the job still runs."""
    stub = serve(routes(kill=DROP))
    done = worker.run("kill", "--server", stub.url, ID)
    assert done.code == 125
    assert "was lost before the answer was complete" in done.stderr
    assert f"worker status {ID}" in done.stderr


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_with_a_lost_answer_is_reported(
    serve: Serve, clock: Clock, capfd: pytest.CaptureFixture[str], gone: bool
) -> None:
    """A user would start the job a second time."""
    stub = serve(routes(run=DROP))
    if gone:
        clock.meanwhile = stub.__exit__
    assert main(["run", "--server", stub.url, "make"]) == 125
    message = capfd.readouterr().err
    assert "was lost before the answer was complete" in message
    assert ("since then cannot reach" in message) == gone
    assert "; whether the job was created is not known, see: worker list -n 3\n" in message
    assert len({each.headers["idempotency-key"] for each in stub.requests}) == 1


@pytest.mark.parametrize("words", [("run",), ("run", "--wait")])
def test_ctrl_c_while_a_job_is_created_is_reported(
    worker: Worker, serve: Serve, words: tuple[str, ...]
) -> None:
    """A user would start the job a second time, or search for one that does not exist."""

    def script(_: Request) -> Answer:
        process.send_signal(signal.SIGINT)
        process.wait(60)  # the answer does not come before
        return DROP

    stub = serve(script)
    worker.environ["WORKER_SERVER"] = stub.url
    process = worker.start(*words, "make")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.decode() == (
        "worker: interrupted; `worker list -n 3` shows whether the job was created\n"
    )


def test_ctrl_c_while_waiting_says_how_to_wait_again(worker: Worker, serve: Serve) -> None:
    """A user would not know whether Ctrl-C also ended the job."""

    def script(request: Request) -> Answer:
        if request.query:
            process.send_signal(signal.SIGINT)
            process.wait(60)  # the answer does not come before
            return DROP
        return answer(200, {"id": ID, "status": "running"})

    stub = serve(script)
    worker.environ["WORKER_SERVER"] = stub.url
    process = worker.start("wait", ID)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, b"")
    assert (
        stderr.decode()
        == f"worker: detached; the job keeps running. To wait again: worker wait {ID}\n"
    )


@pytest.mark.parametrize(
    ("redirection", "why"),
    [("> /dev/full", "No space left on device"), (">&-", "it is closed")],
)
def test_an_id_that_cannot_be_printed_is_a_message(
    worker: Worker, serve: Serve, redirection: str, why: str
) -> None:
    """The job would run, and nobody would know its id."""
    worker.environ["WORKER_SERVER"] = serve(routes(run=CREATED)).url
    done = redirected(worker, f"run make {redirection}")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"worker: the job was created: {ID}\nworker: cannot write to stdout: {why}\n"
    )


def test_an_id_whose_reader_has_left_is_a_message(worker: Worker, serve: Serve) -> None:
    """The same in a pipe whose other end has failed."""
    worker.environ["WORKER_SERVER"] = serve(routes(run=CREATED)).url
    process = worker.start("run", "make")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read().decode() == f"worker: the job was created: {ID}\n"
    assert process.wait(60) == 141
    process.stderr.close()


@pytest.mark.parametrize("words", [f"status {ID}", f"out {ID}", "list", f"wait {ID}"])
def test_a_closed_stdout_is_reported(worker: Worker, serve: Serve, words: str) -> None:
    """A script would see a success, although nothing was written."""
    headers = {"X-Output-Start": "0", "X-Output-Size": "4", "X-Job-Status": "completed"}
    script = routes(
        status=status("completed", exit_code=0),
        out=answer(200, b"data", headers),
        jobs=answer(200, {"jobs": [{"id": ID, "status": "running"}]}),
    )
    worker.environ["WORKER_SERVER"] = serve(script).url
    done = redirected(worker, f"{words} >&-")
    assert done.returncode == 1
    assert done.stderr == b"worker: cannot write to stdout: it is closed\n"


def redirected(worker: Worker, words: str) -> subprocess.CompletedProcess[bytes]:
    line = f"{COMMAND} {words}"
    return subprocess.run(
        ["/bin/sh", "-c", line], stderr=subprocess.PIPE, env=worker.environ, check=False
    )


def test_several_kills_are_sent_before_waiting(worker: Worker, serve: Serve) -> None:
    """Ten stubborn jobs would take ten times their grace."""
    stub = serve(
        routes(
            kill=answer(202, {"id": ID, "status": "stopping"}),
            status=status("killed", signal=15),
        )
    )
    done = worker.run("kill", "--server", stub.url, ID, OTHER)
    assert done.code == 0
    assert [each.path.rpartition("/")[2] for each in stub.requests] == [
        "kill",
        "kill",
        "status",
        "status",
    ]


def test_a_job_that_is_removed_while_it_is_killed_hides_no_other(
    worker: Worker, serve: Serve
) -> None:
    """The status of the jobs after it would not be reported."""
    gone = problem(404, "job_not_found", f"you have no job with the id {ID}")
    stub = serve(
        routes(
            kill=answer(202, {"id": ID, "status": "stopping"}),
            status=[gone, status("killed", signal=15)],
        )
    )
    done = worker.run("kill", "--server", stub.url, ID, OTHER)
    assert (done.code, done.out) == (1, f"{OTHER} killed\n")
    assert f"you have no job {ID}" in done.stderr


def test_a_lost_server_says_how_to_continue(worker: Worker, serve: Serve) -> None:
    """The job would keep running, and nobody would know its id."""
    stub = serve(
        routes(
            run=answer(201, {"id": ID, "status": "running"}),
            out=problem(500, "internal_error", "the server failed to answer"),
        )
    )
    done = worker.run("run", "--server", stub.url, "--wait", "make")
    assert done.code == 1
    assert done.stderr == (
        f"worker: the job may still run; to follow it again: worker out -f {ID}\n"
        "worker: the server failed to answer\n"
    )


def endless(word: str) -> Script:
    """A script for a job with more output than is read."""
    headers = {"X-Output-Start": "0", "X-Output-Size": "99999", "X-Job-Status": word}
    out = chunked([b"y\n" * 50_000], headers)
    return routes(run=CREATED, out=out, status=status(word, exit_code=0))


@pytest.mark.parametrize(
    ("word", "message"), [("completed", ""), ("running", "the job keeps running")]
)
def test_a_closed_pipe_reports_a_running_job(
    worker: Worker, serve: Serve, word: str, message: str
) -> None:
    """`yes | head` would leave a job running without a message, or `seq | head` print one."""
    worker.environ["WORKER_SERVER"] = serve(endless(word)).url
    process = worker.start("run", "--wait", "yes")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    seen = process.stderr.read().decode()
    assert (message in seen) if message else not seen
    assert process.wait(60) == 141
    process.stderr.close()


GAP = {"X-Output-Start": "7", "X-Output-Size": "11", "X-Job-Status": "completed"}
LOST = "worker: the server no longer has 7 B of output (bytes 0 to 7); see run --output-limit\n"


@pytest.mark.parametrize(
    ("words", "fields", "code"),
    [
        (("out", ID), {"exit_code": 0}, 1),
        (("out", "-f", ID), {"exit_code": 0}, 1),
        (("out", "-o", "file", ID), {"exit_code": 0}, 1),
        (("run", "--wait", "yes"), {"exit_code": 0}, 1),
        (("run", "--wait", "--separate-stderr", "yes"), {"exit_code": 0}, 1),
        (("run", "--wait", "yes"), {"exit_code": 3}, 3),
    ],
)
def test_incomplete_output_is_not_a_success(
    worker: Worker, serve: Serve, words: tuple[str, ...], fields: dict[str, int], code: int
) -> None:
    """A script would believe that the newest output is all of the output."""
    word = "completed" if not fields["exit_code"] else "failed"
    script = routes(run=CREATED, out=answer(200, b"data", GAP), status=status(word, **fields))
    done = worker.run(words[0], "--server", serve(script).url, *words[1:])
    assert done.code == code
    # Each stream is short of its own; data of the second goes to stderr, too.
    assert done.stderr.replace("data", "") == LOST * (1 + ("--separate-stderr" in words))
    whole = worker.run("out", "--server", serve(script).url, "--offset", "7", ID)
    assert (whole.code, whole.stderr) == (0, "")


def ended(word: str = "completed") -> Script:
    """A script for a job that writes "data" and ends."""
    end = {"X-Output-Start": "0", "X-Output-Size": "4", "X-Job-Status": word}
    return routes(run=CREATED, out=chunked([b"data"], end), status=status(word, exit_code=0))


UNUSED_INPUT = (
    "worker: the job's input is empty, because this command's stdin is not passed on; "
    "to pass it on: worker run --stdin -\n"
)


@pytest.mark.parametrize(
    ("words", "redirection", "message"),
    [
        ("run --wait cat", "< file", UNUSED_INPUT),
        ("run --wait cat", "< /dev/null", ""),
        ("run --wait cat", "<&-", ""),
    ],
)
def test_input_that_is_not_passed_on_is_reported(
    worker: Worker, serve: Serve, words: str, redirection: str, message: str
) -> None:
    """`worker run --wait cat < file` would silently print nothing."""
    (worker.home / "file").write_bytes(b"data")
    worker.environ["WORKER_SERVER"] = serve(ended()).url
    done = subprocess.run(
        ["/bin/sh", "-c", f"{COMMAND} {words} {redirection}"],
        capture_output=True,
        env=worker.environ,
        check=True,
        text=True,
        cwd=worker.home,
    )
    assert done.stderr == message


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("run", "--wait", "cat"), b""),
        (("run", "--wait", "--stdin", "-", "cat"), b"data"),
        (("run", "cat"), b"data"),
    ],
)
def test_input_is_not_reported_without_need(
    worker: Worker, serve: Serve, words: tuple[str, ...], stdin: bytes
) -> None:
    """A message would appear although no input is missing, or in every turn of a shell's loop."""
    worker.environ["WORKER_SERVER"] = serve(ended()).url
    assert worker.ok(*words, stdin=stdin).stderr == ""


def test_a_pipe_that_is_not_passed_on_is_reported(worker: Worker, serve: Serve) -> None:
    """`generate | worker run --wait cat` would silently print nothing."""
    worker.environ["WORKER_SERVER"] = serve(ended()).url
    done = subprocess.run(
        [COMMAND, "run", "--wait", "cat"],
        input=b"data",
        capture_output=True,
        env=worker.environ,
        check=True,
    )
    assert done.stderr.decode() == UNUSED_INPUT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("echo hello world",),
            (
                "worker: the job runs a program with the name 'echo hello world'; "
                "to run it as a shell line: worker run --shell 'echo hello world'\n"
            ),
        ),
        (("echo", "hello world"), ""),
        (("--shell", "echo hello world"), ""),
        (("./make_report",), ""),
    ],
)
def test_a_shell_line_in_one_word_is_explained(
    worker: Worker, serve: Serve, words: tuple[str, ...], message: str
) -> None:
    """The job would fail later with "not found", and nobody would see why."""
    done = worker.ok("run", "--server", serve(routes(run=CREATED)).url, *words)
    assert (done.line, done.stderr) == (ID, message)


def test_a_queued_job_is_reported_with_its_reason(worker: Worker, serve: Serve) -> None:
    """A user would see nothing, and not know whether anything happens."""
    queued = status("queued", reason="4 jobs run already")
    end = {"X-Output-Start": "0", "X-Output-Size": "4", "X-Job-Status": "completed"}
    answers = {"run": CREATED, "out": chunked([b"data"], end)}
    script = routes(**answers, status=[queued, status("completed", exit_code=0)])
    seen = worker.at_terminal("run", "--server", serve(script).url, "--wait", "make").read()
    message = f"worker: job {ID} is queued: 4 jobs run already; Ctrl-C leaves it in the queue"
    assert message in " ".join(seen.decode().split())
    stub = serve(script)
    assert worker.ok("run", "--server", stub.url, "--wait", "make").stderr == ""
    assert [each.path.rpartition("/")[2] for each in stub.requests] == ["run", "out", "status"]


def test_a_full_disk_says_how_to_continue(worker: Worker, serve: Serve) -> None:
    """The same for output that cannot be written."""
    worker.environ["WORKER_SERVER"] = serve(endless("running")).url
    done = redirected(worker, "run --wait yes > /dev/full")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"worker: the job may still run; to follow it again: worker out -f {ID}\n"
        "worker: cannot write to stdout: No space left on device\n"
    )


def test_both_streams_are_copied_and_their_errors_reported(worker: Worker, serve: Serve) -> None:
    """An error while reading stderr would block the command, or be hidden."""

    def script(request: Request) -> Answer:
        if request.path.endswith("/run"):
            return answer(201, {"id": ID, "status": "running"})
        if request.query["stream"] == ["stderr"]:
            return problem(500, "internal_error", "no stderr here")
        headers = {"X-Output-Start": "0", "X-Output-Size": "4", "X-Job-Status": "completed"}
        return chunked([b"data"], headers)

    done = worker.run("run", "--server", serve(script).url, "--wait", "--separate-stderr", "make")
    assert (done.code, done.stdout) == (1, b"data")
    assert "no stderr here" in done.stderr


@pytest.mark.parametrize(
    ("word", "fields", "code"),
    [
        ("lost", {"reason": "the end could not be observed"}, 125),
        ("out_of_memory", {"signal": 9}, 137),
        ("killed", {"killed_by": "ann"}, 143),
        ("killed", {"exit_code": 0}, 143),
        ("killed", {"exit_code": 3}, 3),
        ("timed_out", {"signal": 15}, 124),
        ("failed", {"exit_code": 127, "reason": "no such file"}, 127),
        ("completed", {"exit_code": 0}, 0),
        ("vanished", {"ended_at": "2026-11-24T11:00:00.000Z"}, 125),
    ],
)
def test_exit_codes_of_ends_that_are_rare(
    worker: Worker, serve: Serve, word: str, fields: dict[str, object], code: int
) -> None:
    """A lost job would count as successful, or an unknown status be waited on for ever."""
    stub = serve(routes(status=status(word, **fields)))
    assert worker.run("wait", "--server", stub.url, ID).code == code


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"status": "queued", "reason": "256 jobs run already"}, "queued (256 jobs run already)"),
        ({"status": "killed", "killed_by": "ann"}, "killed (by ann)"),
        ({"status": "failed", "signal": 11}, "failed (SIGSEGV)"),
        ({"status": "failed", "signal": 40}, "failed (SIGRTMIN+6)"),
        ({"status": "failed", "signal": 33}, "failed (signal 33)"),
        ({"status": "timed_out", "reason": "timed out after 3 s"}, "timed_out (after 3 s)"),
        ({"status": "failed", "reason": "a\x1b[2J\udcff"}, r"failed (a\x1b[2J\xff)"),
        ({"status": "running"}, "running"),
    ],
)
def test_outcomes(worker: Worker, serve: Serve, fields: dict[str, object], shown: str) -> None:
    """A user would not see why a job waits or failed, or its reason could clear the screen."""
    stub = serve(lambda _: answer(200, {"id": ID} | fields))
    assert worker.ok("status", "--server", stub.url, ID).out == f"{shown}\n"


def test_json_is_what_the_server_sent(worker: Worker, serve: Serve) -> None:
    """Fields of a newer server would be lost, or bytes that are not UTF-8 stop the command."""
    record = {"id": ID, "status": "running", "spec": {"command": "\udcff"}, "new": [1]}
    stub = serve(lambda _: answer(200, record))
    shown = worker.ok("status", "--server", stub.url, "-o", "jsonl", ID).out
    assert shown == (
        f'{{"id":"{ID}","status":"running","spec":{{"command":"\\udcff"}},"new":[1]}}\n'
    )


def test_any_bytes_can_be_looked_for(worker: Worker, serve: Serve) -> None:
    """A name that is not UTF-8 would end in a traceback."""
    stub = serve(lambda _: answer(200, {"jobs": []}))
    worker.ok("list", "--server", stub.url, "--name", b"\xff\xfe", "--label", "a=ü")
    assert stub.requests[0].target == "/jobs?label=a%3D%C3%BC&name=%FF%FE&limit=200"


def test_a_signal_has_the_same_name_in_the_list(worker: Worker, serve: Serve) -> None:
    """A user would have to know the numbers of real-time signals."""
    job = {"id": ID, "status": "killed", "signal": 37}
    done = worker.ok("list", "--server", serve(lambda _: answer(200, {"jobs": [job]})).url)
    assert done.out.split("\n")[1].split()[1:3] == ["killed", "RTMIN+3"]


def listing(count: int) -> Script:
    """A script for a server with many jobs, which it lists in pages."""
    ids = [f"{number:08x}{ID[8:]}" for number in range(count)]

    def script(request: Request) -> Answer:
        first = int(request.query.get("cursor", ["0"])[0])
        last = first + int(request.query["limit"][0])
        jobs = [{"id": each, "status": "running"} for each in ids[first:last]]
        return answer(200, {"jobs": jobs, "next_cursor": str(last) if last < count else None})

    return script


@pytest.mark.parametrize("words", [("-q",), ("-o", "jsonl"), ()])
def test_a_program_gets_every_job(worker: Worker, serve: Serve, words: tuple[str, ...]) -> None:
    """`worker kill $(worker list -q)` would leave all but the newest 50 running."""
    done = worker.ok("list", "--server", serve(listing(450)).url, *words)
    assert done.out.count(ID[8:]) == 450
    assert done.stderr == ""
    done = worker.ok("list", "--server", serve(listing(450)).url, *words, "-n", "3")
    assert done.out.count(ID[8:]) == 3


@pytest.mark.parametrize(
    ("words", "shown"), [((), 50), (("-o", "table"), 50), (("-n", "0"), 450), (("-q",), 450)]
)
def test_a_terminal_gets_the_newest(
    worker: Worker, serve: Serve, words: tuple[str, ...], shown: int
) -> None:
    """The list would be too long for the terminal, or not say that there are more jobs."""
    terminal = worker.at_terminal("list", "--server", serve(listing(450)).url, *words)
    seen = terminal.read().decode()
    assert seen.count("running") + seen.count(ID[8:]) == shown
    assert seen.count("only the newest 50 jobs are shown; for all: worker list -n 0") == (
        shown == 50
    )


def test_the_last_of_an_environment_variable_counts(worker: Worker, serve: Serve) -> None:
    """The last value for a variable would not be the one that the job gets."""
    stub = serve(routes(run=answer(201, {"id": ID, "status": "running"})))
    words = ("--env", "A=1", "--env", "A=2", "--label", "a=1", "--label", "a=1")
    worker.ok("run", "--server", stub.url, *words, "env")
    assert stub.requests[0].json["env"] == {"A": "2"}
    assert stub.requests[0].json["labels"] == {"a": "1"}
    assert "the last one for a K is used" in " ".join(worker.ok("run", "--help").out.split())


def test_output_that_breaks_off_says_where(
    worker: Worker,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """A user would have to restart a long download, or not know that it is incomplete."""
    headers = {"X-Output-Start": "0", "X-Output-Size": "9", "X-Job-Status": "running"}
    answers = in_order(chunked([b"1234"], headers, whole=False), DROP)
    for name, value in (worker.environ | {"WORKER_SERVER": serve(answers).url}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "patience", 0.5)
    assert main(["out", "-f", ID]) == 125
    stdout, stderr = capfdbinary.readouterr()
    assert stdout == b"1234"
    message = (
        f"; the job may still run; 4 bytes were read, to continue: worker out -f --offset 4 {ID}\n"
    )
    assert stderr.endswith(message.encode())


def test_wait_reports_why_the_end_is_not_recorded_yet(
    serve: Serve, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """A user would not know why `wait` still waits when the server's disk is full."""
    why = "its process has ended, but that cannot be recorded yet: No space left on device"
    begin = clock.now

    def script(request: Request) -> Answer:
        clock.now += float(request.query.get("wait", ["0"])[0])
        if clock.now - begin >= 100:
            return status("failed", exit_code=3)
        return status("stopping", reason=why)

    stub = serve(script)
    assert main(["wait", "--server", stub.url, ID]) == 3
    captured = capfd.readouterr()
    assert captured.out == f"{ID} failed (exit code 3)\n"
    assert captured.err == f"worker: job {ID}: stopping ({why})\n"
