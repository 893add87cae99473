"""worker run: create a job; with --wait, follow its output and exit with its exit code."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from worker_cli import errors, exits, options, parsing
from worker_cli.commands import common, limit_options, queue_options
from worker_cli.options import Action, AnyOption, Args, Flag, Option
from worker_cli.ui import humanize, terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.handle import JobHandle

WAIT = Flag("--wait", about="follow its output and exit with its code; Ctrl-C leaves it running")
ENV = Option(
    "--env",
    metavar="K=V",
    parse=parsing.pair,
    about="set an environment variable; repeatable, the last one for a K is used",
)
CWD = Option(
    "--cwd", metavar="DIR", parse=parsing.text, about="run in this directory of the server"
)
NAME = Option("--name", metavar="NAME", parse=parsing.text, about="a name for the job")
TIMEOUT = Option(
    "--timeout",
    metavar="TIME",
    parse=parsing.time_limit,
    about="stop the job when it has run for this long: 90, 10m, 1h30m",
)
STDIN = Option(
    "--stdin",
    metavar="FILE",
    parse=parsing.text,
    about="read standard input from FILE ('-': from this command's stdin); up to 12 MB by default",
    completes=options.FILE,
)
STOP_SIGNAL = Option(
    "--stop-signal",
    metavar="SIGNAL",
    parse=parsing.text,
    about="the signal that asks the job to stop (default: SIGTERM)",
)
SEPARATE_STDERR = Flag("--separate-stderr", about="keep stderr separate from stdout")
OUTPUT_LIMIT = Option(
    "--output-limit",
    metavar="SIZE",
    parse=parsing.size,
    about="keep only this much of the newest output: 64k, 10M, 1G; 0 keeps all",
)
SHELL = Option(
    "--shell",
    metavar="LINE",
    parse=parsing.text,
    about="run this line with /bin/sh instead of a command",
)

MAX_STDIN = 256 << 20
"""The most bytes of input that are read; the server's own limit is lower, but not known here."""
_CHUNK = 1 << 20

FIELDS: Mapping[str, tuple[AnyOption, ...]] = {
    "env": (ENV,),
    "labels": (common.LABEL,),
    "cwd": (CWD,),
    "stdin": (STDIN,),
    "name": (NAME,),
    "timeout": (TIMEOUT,),
    "stop_signal": (STOP_SIGNAL,),
    "stop_grace": (common.GRACE,),
    "separate_stderr": (SEPARATE_STDERR,),
    "output_limit": (OUTPUT_LIMIT,),
    **limit_options.FIELDS,
    **queue_options.FIELDS,
}
"""The options that set each field of the job object."""


def run(args: Args) -> int:
    """Create the job; print its id, or follow it with --wait."""
    argv = [parsing.lossless(word) for word in _argv(args)]
    limit_options.check(args)
    queue_options.check(args)
    labels = {
        parsing.lossless(key): parsing.lossless(value) for key, value in common.labels(args).items()
    }
    stdin = _read_stdin(args.get(STDIN))
    with common.connect(args) as client:
        if not args.has(WAIT):
            job = _create(client, args, argv, labels, stdin)
            _note_shell_line(argv)
            return _print_id(job)
        from worker_cli.ui import attach

        def create() -> JobHandle:
            job = _create(client, args, argv, labels, stdin)
            if not args.has(STDIN) and _has_unread_input(sys.stdin):
                terminal.note(
                    "the job's input is empty, because this command's stdin is not passed on; "
                    "to pass it on: worker run --stdin -"
                )
            return job

        return attach.run_attached(client, create, separate_stderr=args.has(SEPARATE_STDERR))


def _note_shell_line(argv: list[str]) -> None:
    """Explain what happens to a shell line that is given as one word."""
    if len(argv) == 1 and humanize.is_shell_line(argv[0]):
        quoted = humanize.command_line(argv)
        terminal.note(
            f"the job runs a program with the name {quoted}; "
            f"to run it as a shell line: worker run --shell {quoted}"
        )


def _has_unread_input(stdin: TextIO) -> bool:
    """Return whether stdin is a file or pipe with data that nobody has read."""
    try:
        status = os.fstat(stdin.fileno())
        if stat.S_ISREG(status.st_mode):
            return os.lseek(stdin.fileno(), 0, os.SEEK_CUR) < status.st_size
        if not stat.S_ISFIFO(status.st_mode):
            return False
        available = fcntl.ioctl(stdin.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(available, sys.byteorder) > 0
    except (OSError, ValueError):  # stdin is closed
        return False


def _print_id(job: JobHandle) -> int:
    """Print the id; on stderr if stdout cannot be written, because nobody else knows it."""
    try:
        terminal.print_line(job.id)
        terminal.flush()
    except OSError:
        terminal.note(f"the job was created: {job.id}")
        raise
    return exits.DONE


def _argv(args: Args) -> list[str]:
    line = args.get(SHELL)
    if line is None:
        if not args.operands:
            raise errors.UsageError("run needs a COMMAND, or --shell LINE")
        return args.operands
    if args.operands:
        raise errors.UsageError(
            f"--shell LINE replaces the command; unexpected: {' '.join(args.operands)}"
        )
    return ["/bin/sh", "-c", line]


def _read_stdin(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        if name == "-":
            return _read_limited(name, cast(io.BufferedReader, sys.stdin.buffer))
        with Path(name).open("rb") as stream:
            return _read_limited(name, stream)
    except OSError as error:
        why = "stdin is closed" if error.errno == errno.EBADF else error.strerror
        raise errors.SettingsError(
            f"cannot read --stdin {name}: {why}; name a file on this machine, or - for this "
            "command's stdin"
        ) from None


def _read_limited(name: str, stream: io.BufferedIOBase) -> bytes:
    """Read to the end, but fail when it is too much: /dev/zero has no end."""
    content = bytearray()
    # read1, because `read` would need a second Ctrl-D on a terminal.
    while chunk := stream.read1(_CHUNK):
        content += chunk
        if len(content) > MAX_STDIN:
            raise errors.ClientError(_too_large(name, f"more than {humanize.size(MAX_STDIN)}"))
    return bytes(content)


def _create(
    client: Client, args: Args, argv: list[str], labels: dict[str, str], stdin: bytes | None
) -> JobHandle:
    fields: dict[str, Any] = {
        "env": {parsing.lossless(key): parsing.lossless(value) for key, value in args.all(ENV)}
        or None,
        "labels": labels or None,
        "cwd": _text(args, CWD),
        "name": _text(args, NAME),
        "timeout": args.get(TIMEOUT),
        "stop_signal": args.get(STOP_SIGNAL),
        "stop_grace": args.get(common.GRACE),
        "output_limit": args.get(OUTPUT_LIMIT),
        "limits": limit_options.limits(args),
        "isolation": limit_options.isolation(args),
        **queue_options.fields(args, client),
        "lock": _text(args, queue_options.LOCK),
        "after": queue_options.after(args, client),
    }
    try:
        job = client.run(*argv, stdin=stdin, separate_stderr=args.has(SEPARATE_STDERR), **fields)
    except errors.RequestRefused as error:
        raise _in_terms_of_options(error, args, stdin) from error
    except errors.ConnectionLost as error:
        raise errors.ConnectionLost(
            f"{error}; whether the job was created is not known, see: worker list -n 3"
        ) from error
    except KeyboardInterrupt:
        terminal.note("interrupted; `worker list -n 3` shows whether the job was created")
        raise
    queue_options.note_time(fields)
    return job


def _in_terms_of_options(
    error: errors.RequestRefused, args: Args, stdin: bytes | None
) -> errors.ClientError:
    """Return a refusal that names options where the server names fields of its API."""
    if error.code == "body_too_large" and stdin is not None:
        return errors.ClientError(_too_large(args.get(STDIN), humanize.size(len(stdin))))
    if error.code == "invalid_job" and error.errors:
        faults = [
            f"{_options_of(str(fault.get('field')), args)}: {fault.get('message')}"
            for fault in error.errors
        ]
        cure = limit_options.cure(error.errors)
        return errors.ClientError("; ".join([*faults, *cure]))
    return error


def _too_large(name: str | None, size: str) -> str:
    return (
        f"--stdin {name}: {size} of input is more than the server accepts with a job; "
        "copy the file to the server and let the job read it there "
        "(worker run --shell 'COMMAND < FILE'), or have max_body raised in the server's settings"
    )


def _options_of(field: str, args: Args) -> str:
    """Return the options that set a field; the field's own name if there is no option for it."""
    name, _, rest = field.partition("[")
    key = rest.rpartition("]")[0]
    if name not in FIELDS:
        return field
    names = [option.names[0] for option in FIELDS[name] if args.has(option)]
    if not names:
        return f"{FIELDS[name][0].names[0]} (set by the server)"
    # The index in a list is not shown, because each item is an option of its own.
    return " and ".join(names) + ("" if not key or key.isdecimal() else f" {key}")


def _text(args: Args, option: Option[str]) -> str | None:
    value = args.get(option)
    return None if value is None else parsing.lossless(value)


ACTION = Action(
    "run",
    run,
    summary="create a job; print its id",
    operands="COMMAND [ARG …]",
    most=None,
    about=(
        "Create a job that runs COMMAND with its arguments on the server, print its id and "
        "return at once. The command is run as it is, without a shell. Everything from COMMAND on "
        "belongs to the job, including options.\n\n"
        "The job ends when its first process ends; other processes that it started are then "
        "killed, even if they run in the background. To run a server, start it without &.\n\n"
        "With --wait, the exit code is the job's own: 128+N when signal N ended it, 124 when it "
        "ran longer than --timeout, 126 or 127 when the command could not be executed or found, "
        "125 when the server did not answer or the job is lost. It is 1 when the job exited with "
        "0, but the server no longer has all of its output.\n\n"
        "The job runs in the home directory of its account on the server, or in /. It gets only "
        "the environment variables that --env sets, none of yours. Its standard input is empty, "
        "unless --stdin is given."
    ),
    options=(
        WAIT,
        SHELL,
        ENV,
        CWD,
        STDIN,
        NAME,
        common.LABEL,
        TIMEOUT,
        STOP_SIGNAL,
        common.GRACE,
        SEPARATE_STDERR,
        OUTPUT_LIMIT,
        *limit_options.OPTIONS,
        *queue_options.OPTIONS,
    ),
    examples=(
        ("worker run echo hello", "create a job and print its id"),
        ("worker run --wait make -j8", "build, and exit with make's exit code"),
        ("worker run --shell 'ls | wc -l'", "run a shell line"),
        ("worker run --timeout 10m --name nightly ./backup --all", "with a time limit and a name"),
        ("worker run --memory 2G --cpus 1.5 ./train", "with limited memory and CPU"),
        ("worker run --after @last ./deploy", "when the newest job has completed"),
        ("worker run --at 22:00 --priority 5 ./report", "tonight, before your other jobs"),
        (
            "worker run --isolate --cwd /srv/try ./setup",
            "without network; can write only to /srv/try",
        ),
        ("worker run --stdin - tar xz -C /srv/app < app.tgz", "unpack a local file on the server"),
    ),
    completes=(options.PROGRAM,),
    options_end_at_operand=True,
)
