"""worker run: create a job; with --wait, be as if it ran here."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from worker_cli import errors, exits, options, parsing
from worker_cli.commands import common, limit_options
from worker_cli.options import Action, AnyOption, Args, Flag, Option
from worker_cli.ui import humanize, terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.handle import JobHandle

WAIT = Flag("--wait", about="follow its output and exit as it exits; Ctrl-C leaves it running")
ENV = Option(
    "--env",
    metavar="K=V",
    parse=parsing.pair,
    about="set an environment variable; repeatable, the last for a K counts",
)
CWD = Option(
    "--cwd", metavar="DIR", parse=parsing.text, about="run in this directory of the server"
)
NAME = Option("--name", metavar="NAME", parse=parsing.text, about="a name to find it by")
LABEL = Option(
    "--label", metavar="K=V", parse=parsing.pair, about="a label to find it by; repeatable"
)
TIMEOUT = Option(
    "--timeout",
    metavar="TIME",
    parse=parsing.time_limit,
    about="stop it when it has run so long: 90, 10m, 1h30m",
)
STDIN = Option(
    "--stdin",
    metavar="FILE",
    parse=parsing.text,
    about="give it this file, or with - what comes in here, as its input: 12 MB at most, "
    "if the server's max_body is the usual one",
    completes=options.FILE,
)
STOP_SIGNAL = Option(
    "--stop-signal", metavar="SIGNAL", parse=parsing.text, about="what asks it to stop (SIGTERM)"
)
GRACE = Option(
    "--grace",
    metavar="TIME",
    parse=parsing.duration,
    about="how long after that it is stopped by force (10s)",
)
SEPARATE_STDERR = Flag("--separate-stderr", about="keep its stderr apart from its stdout")
OUTPUT_LIMIT = Option(
    "--output-limit",
    metavar="SIZE",
    parse=parsing.size,
    about="keep the newest so many bytes of output: 64k, 10M, 1G; 0 keeps all",
)
SHELL = Option(
    "--shell",
    metavar="LINE",
    parse=parsing.text,
    about="run this line in /bin/sh, in place of a command",
)

MOST_STDIN = 256 << 20
"""Bytes of input that are read at most, far more than servers take; theirs is not known here."""
_CHUNK = 1 << 20

FIELDS: Mapping[str, tuple[AnyOption, ...]] = {
    "env": (ENV,),
    "labels": (LABEL,),
    "cwd": (CWD,),
    "stdin": (STDIN,),
    "name": (NAME,),
    "timeout": (TIMEOUT,),
    "stop_signal": (STOP_SIGNAL,),
    "stop_grace": (GRACE,),
    "separate_stderr": (SEPARATE_STDERR,),
    "output_limit": (OUTPUT_LIMIT,),
    **limit_options.FIELDS,
}
"""The options that a field of the job object comes from."""


def run(args: Args) -> int:
    """Create the job, and print its id or stay with it."""
    argv = [parsing.lossless(word) for word in _argv(args)]
    limit_options.check(args)
    labels = {
        parsing.lossless(key): parsing.lossless(value)
        for key, value in common.labels(args, LABEL).items()
    }
    stdin = _stdin(args.get(STDIN))
    with common.connect(args) as client:
        if not args.has(WAIT):
            return _told(_create(client, args, argv, labels, stdin))
        from worker_cli.ui import attach

        return attach.run_attached(
            client,
            lambda: _create(client, args, argv, labels, stdin),
            separate_stderr=args.has(SEPARATE_STDERR),
        )


def _told(job: JobHandle) -> int:
    """Print the id, on stderr where stdout does not take it: nobody else knows it."""
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
            f"--shell LINE takes the place of a command; too much: {' '.join(args.operands)}"
        )
    return ["/bin/sh", "-c", line]


def _stdin(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        if name == "-":
            return _bounded(name, cast(io.BufferedReader, sys.stdin.buffer))
        with Path(name).open("rb") as stream:
            return _bounded(name, stream)
    except OSError as error:
        why = "stdin is closed" if error.errno == errno.EBADF else error.strerror
        raise errors.UsageError(f"--stdin {name}: {why}") from None


def _bounded(name: str, stream: io.BufferedIOBase) -> bytes:
    """Read to the end, or until it is certain that there is too much: /dev/zero has no end."""
    content = bytearray()
    # One read at a time: `read` would begin another after a Ctrl-D, and need a second one.
    while chunk := stream.read1(_CHUNK):
        content += chunk
        if len(content) > MOST_STDIN:
            raise errors.ClientError(_too_large(name, f"more than {humanize.size(MOST_STDIN)}"))
    return bytes(content)


def _create(
    client: Client, args: Args, argv: list[str], labels: dict[str, str], stdin: bytes | None
) -> JobHandle:
    fields: dict[str, Any] = {
        "env": {parsing.lossless(key): parsing.lossless(value) for key, value in args.all(ENV)}
        or None,
        "labels": labels or None,
        "cwd": _given(args, CWD),
        "name": _given(args, NAME),
        "timeout": args.get(TIMEOUT),
        "stop_signal": args.get(STOP_SIGNAL),
        "stop_grace": args.get(GRACE),
        "output_limit": args.get(OUTPUT_LIMIT),
        "limits": limit_options.limits(args),
        "isolation": limit_options.isolation(args),
    }
    try:
        return client.run(*argv, stdin=stdin, separate_stderr=args.has(SEPARATE_STDERR), **fields)
    except errors.RequestRefused as error:
        raise _refused(error, args, stdin) from error
    except errors.ConnectionLost as error:
        raise errors.ConnectionLost(
            f"{error}; whether the job was created is not known, see: worker list -n 3"
        ) from error
    except KeyboardInterrupt:
        terminal.note("interrupted; `worker list -n 3` shows whether the job was created")
        raise


def _refused(error: errors.RequestRefused, args: Args, stdin: bytes | None) -> errors.ClientError:
    """Return a refusal in words of the command line where the server's are those of its API."""
    if error.code == "body_too_large" and stdin is not None:
        return errors.ClientError(_too_large(args.get(STDIN), humanize.size(len(stdin))))
    if error.code == "invalid_job" and error.errors:
        faults = [
            f"{_named(str(each.get('field')), args)}: {each.get('message')}"
            for each in error.errors
        ]
        return errors.ClientError("; ".join(faults))
    return error


def _too_large(name: str | None, size: str) -> str:
    return (
        f"--stdin {name}: {size} of input are more than the server takes with a job; "
        "bring the file to the server and let the job read it there "
        "(worker run --shell 'COMMAND < FILE'), or have max_body raised in the server's settings"
    )


def _named(field: str, args: Args) -> str:
    """Return the options that a field comes from; a field without any is its own name."""
    name, _, key = field.removesuffix("]").partition("[")
    if name not in FIELDS:
        return field
    given = [each.names[0] for each in FIELDS[name] if args.has(each)]
    if not given:
        return f"{FIELDS[name][0].names[0]} (set by the server)"
    # Of a list of texts the place says nothing: each is an option of its own.
    return " and ".join(given) + ("" if not key or key.isdecimal() else f" {key}")


def _given(args: Args, option: Option[str]) -> str | None:
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
        "return at once. The command is run as it is given, without a shell in between. "
        "Everything from COMMAND on belongs to the job, options too.\n\n"
        "The job ends with its first process; whatever that leaves running, in the background or "
        "detached, is ended too. Start a server without &.\n\n"
        "With --wait the exit code is the job's own; 128+N when signal N ended it, 124 when its "
        "time was up, 126 or 127 when it could not be executed or found, 125 when the server "
        "could not be asked, or nobody saw the job's end. A job that ended with 0 makes it 1 when "
        "some of its output was no longer kept.\n\n"
        "The job runs in the home of its account on the server, or in /, and in a clean "
        "environment: nothing of yours is passed on but what --env sets."
    ),
    options=(
        WAIT,
        SHELL,
        ENV,
        CWD,
        STDIN,
        NAME,
        LABEL,
        TIMEOUT,
        STOP_SIGNAL,
        GRACE,
        SEPARATE_STDERR,
        OUTPUT_LIMIT,
        *limit_options.OPTIONS,
    ),
    examples=(
        ("worker run echo hello", "print the id of a job that says hello"),
        ("worker run --wait make -j8", "build, with the output here and make's exit code"),
        ("worker run --shell 'ls | wc -l'", "run a shell line"),
        ("worker run --timeout 10m --name nightly ./backup --all", "with a limit and a name"),
        ("worker run --memory 2G --cpus 1.5 ./train", "with no more than that of the server"),
        (
            "worker run --isolate --cwd /srv/try ./setup",
            "without network; writes only below /srv/try",
        ),
        ("worker run --stdin - tar xz -C /srv/app < app.tgz", "unpack a local file over there"),
    ),
    completes=(options.PROGRAM,),
    options_end_at_operand=True,
)
