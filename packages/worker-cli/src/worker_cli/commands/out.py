"""worker out: print the output of a job, byte for byte."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from worker_cli import errors, exits, options, parsing
from worker_cli.commands import common
from worker_cli.options import Action, Args, Flag, Option
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.output import Output

FOLLOW = Flag("-f", "--follow", about="continue until the job has ended")
TAIL = Option("--tail", metavar="N", parse=parsing.count, about="print only the last N lines")
OFFSET = Option(
    "--offset", metavar="N", parse=parsing.count, about="start at byte N; the first is 0"
)
STDERR = Flag("--stderr", about="print its stderr, if the job was run with --separate-stderr")
FILE = Option(
    "-o",
    metavar="FILE",
    parse=parsing.text,
    about="write to FILE; - writes to stdout, even binary data to a terminal",
    completes=options.FILE,
)


def run(args: Args) -> int:
    """Copy the output to stdout or a file."""
    from worker_cli import ids
    from worker_cli.ui import attach

    if args.has(TAIL) and args.has(OFFSET):
        raise errors.UsageError("--tail and --offset cannot be combined")
    file = args.get(FILE)
    gaps = attach.GapReporter()
    with common.connect(args) as client:
        job_id = ids.resolve(client, args.operands[0])
        open_output = client.follow if args.has(FOLLOW) else client.chunks
        output = open_output(
            job_id,
            stream="stderr" if args.has(STDERR) else "stdout",
            offset=args.get(OFFSET) or 0,
            tail=args.get(TAIL),
            on_gap=gaps,
        )
        try:
            _copy(output, file)
        except errors.RequestRefused as error:
            if error.code != "stream_not_separate":
                raise
            raise errors.ClientError(
                f"job {job_id} was not run with --separate-stderr, so its stderr is part of its "
                f"output; see: worker out {job_id}"
            ) from error
        except errors.Unreachable as error:
            if output.size is None:
                raise
            cure = _how_to_continue(args, job_id, output.offset)
            raise type(error)(f"{error}; {cure}") from error
        except OSError as error:
            if file in (None, "-"):
                raise
            raise errors.ClientError(
                f"cannot write {file}: {error.strerror or error}; name another file with -o FILE"
            ) from error
        except KeyboardInterrupt:
            if args.has(FOLLOW):
                terminal.note(f"detached; the job keeps running. To stop it: worker kill {job_id}")
            return exits.INTERRUPTED
    return gaps.code


def _how_to_continue(args: Args, job_id: str, offset: int) -> str:
    flags = [flag.names[0] for flag in (FOLLOW, STDERR) if args.has(flag)]
    command = " ".join(["worker out", *flags, f"--offset {offset} {job_id}"])
    may_run = "the job may still run; " if args.has(FOLLOW) else ""
    return f"{may_run}{offset} bytes were read, to continue: {command}"


def _copy(output: Output, name: str | None) -> None:
    from worker_cli.ui import output_writer

    chunks = iter(output)
    # Read before the file is opened: a job that does not exist must not empty the file.
    first = next(chunks, b"")
    begin = output.offset - len(first)
    with _opened(name) as stream:
        writer = output_writer.OutputWriter(stream, allow_binary=name == "-")
        try:
            writer.write(first)
            for chunk in chunks if name in (None, "-") else _with_progress(output, begin, chunks):
                writer.write(chunk)
        except output_writer.BinaryOnTerminal:
            raise errors.ClientError(
                "the output is binary and was not written to the terminal; "
                "write it to a file with -o FILE, or to the terminal with -o -"
            ) from None


def _opened(name: str | None) -> contextlib.AbstractContextManager[BinaryIO]:
    if name is None or name == "-":
        return contextlib.nullcontext(sys.stdout.buffer)
    return Path(name).open("wb")


def _with_progress(output: Output, begin: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    from worker_cli.ui import progress

    start = time.monotonic()
    with progress.Line() as line:
        for chunk in chunks:
            yield chunk
            done, seconds = output.offset - begin, time.monotonic() - start
            total = None if output.size is None else output.size - begin
            line.show(functools.partial(progress.transfer, done, total, seconds))


ACTION = Action(
    "out",
    run,
    summary="print the output of a job",
    operands="ID",
    least=1,
    most=1,
    about=(
        "Print what a job has written so far, byte for byte. With -f, continue until the job has "
        "ended; after a lost connection, the output continues where it stopped.\n\n"
        "The exit code is 1 when the server no longer has some of the output, because the job "
        "wrote more than its output limit. stderr says which bytes are missing."
    ),
    options=(FOLLOW, TAIL, OFFSET, STDERR, FILE),
    examples=(
        ("worker out @last", "print what the newest job has written so far"),
        ("worker out -f --tail 20 0f3c", "print the last 20 lines, and follow"),
        ("worker out -o core.tar 0f3c", "write to a file"),
    ),
    completes=(options.JOB,),
)
