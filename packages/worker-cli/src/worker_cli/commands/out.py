"""worker out: the output of a job, byte for byte."""

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

FOLLOW = Flag("-f", "--follow", about="go on until the job has ended and everything was read")
TAIL = Option("--tail", metavar="N", parse=parsing.count, about="the last N lines only")
OFFSET = Option(
    "--offset", metavar="N", parse=parsing.count, about="from byte N on, the first is 0"
)
STDERR = Flag("--stderr", about="its stderr, if it was run with --separate-stderr")
FILE = Option(
    "-o",
    metavar="FILE",
    parse=parsing.text,
    about="write to FILE; - is stdout, binary on a terminal too",
    completes=options.FILE,
)


def run(args: Args) -> int:
    """Copy the output to stdout or a file."""
    from worker_cli import ids
    from worker_cli.ui import attach

    if args.has(TAIL) and args.has(OFFSET):
        raise errors.UsageError("--tail and --offset say two different places to begin at")
    file = args.get(FILE)
    gaps = attach.GapReporter()
    with common.connect(args) as client:
        job_id = ids.resolve(client, args.operands[0])
        read = client.follow if args.has(FOLLOW) else client.chunks
        output = read(
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
                f"job {job_id} was not run with --separate-stderr: its stderr is part of its "
                f"output, see: worker out {job_id}"
            ) from error
        except errors.Unreachable as error:
            if output.size is None:
                raise
            raise type(error)(f"{error}; {_way_back(args, job_id, output.offset)}") from error
        except OSError as error:
            if file in (None, "-"):
                raise
            raise errors.ClientError(
                f"cannot write {file}: {error.strerror or error}; name another file with -o FILE"
            ) from error
        except KeyboardInterrupt:
            if args.has(FOLLOW):
                terminal.note(f"the job is not touched; to stop it: worker kill {job_id}")
            return exits.INTERRUPTED
    return gaps.code


def _way_back(args: Args, job_id: str, offset: int) -> str:
    flags = [flag.names[0] for flag in (FOLLOW, STDERR) if args.has(flag)]
    command = " ".join(["worker out", *flags, f"--offset {offset} {job_id}"])
    goes_on = "the job may go on; " if args.has(FOLLOW) else ""
    return f"{goes_on}{offset} bytes are read, go on with: {command}"


def _copy(output: Output, name: str | None) -> None:
    from worker_cli.ui import output_writer

    chunks = iter(output)
    # Asked before the file is opened: a job that is not there must not empty it.
    first = next(chunks, b"")
    begin = output.offset - len(first)
    with _opened(name) as stream:
        target = output_writer.OutputWriter(stream, allow_binary=name == "-")
        try:
            target.write(first)
            for chunk in chunks if name in (None, "-") else _with_progress(output, begin, chunks):
                target.write(chunk)
        except output_writer.BinaryOnTerminal:
            raise errors.ClientError(
                "the output is binary and not shown on a terminal; "
                "send it elsewhere, or ask for it with -o -"
            ) from None


def _opened(name: str | None) -> contextlib.AbstractContextManager[BinaryIO]:
    if name is None or name == "-":
        return contextlib.nullcontext(sys.stdout.buffer)
    return Path(name).open("wb")


def _with_progress(output: Output, begin: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    from worker_cli.ui import progress

    began = time.monotonic()
    with progress.Line() as line:
        for chunk in chunks:
            yield chunk
            done, seconds = output.offset - begin, time.monotonic() - began
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
        "Print what a job has written so far, byte for byte. With -f, go on until it has ended "
        "and everything was read; a lost connection is made again, and the output goes on "
        "where it stopped.\n\n"
        "The exit code is 1 when some of it is no longer kept, because the job wrote more than its "
        "output limit; which bytes are missing stands on stderr."
    ),
    options=(FOLLOW, TAIL, OFFSET, STDERR, FILE),
    examples=(
        ("worker out @last", "what the newest job has written so far"),
        ("worker out -f --tail 20 0f3c", "the last lines, and what follows"),
        ("worker out -o core.tar 0f3c", "into a file"),
    ),
    completes=(options.JOB,),
)
