"""The `worker` command: parse the command line, run the action, return its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from worker_cli import commands, errors, exits, options, system_limits
from worker_cli.commands import common
from worker_cli.ui import terminal

_VERSION = options.Flag("--version", about="print the version of this client")


class _WrongUsage(Exception):
    """A wrong command line, and its action if that is known."""

    def __init__(self, error: errors.UsageError, action: options.Action | None) -> None:
        super().__init__(str(error))
        self.action = action


def run(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; KeyboardInterrupt is the only exception."""
    _prepare_streams()
    try:
        action, args = _parse_command_line(list(sys.argv[1:] if words is None else words))
        return _run_action(action, args)
    except _WrongUsage as error:
        _print_usage_error(error)
        return exits.USAGE


def _run_action(action: options.Action, args: options.Args) -> int:
    """Run an action; report a failure in one sentence, with --debug after its traceback."""
    try:
        code = action.run(args)
        terminal.flush()
        return code
    except errors.UsageError as error:
        raise _WrongUsage(error, action) from None
    except BrokenPipeError:
        _discard_stdout()
        return exits.BROKEN_PIPE
    except EOFError:
        sys.stderr.write("\nworker: aborted: end of input; nothing was changed\n")
        return exits.NO_ANSWER
    except Exception as error:  # noqa: BLE001  # the last resort, so that nobody sees a traceback
        if args.has(common.DEBUG):
            import traceback

            traceback.print_exc()
        return _report_failure(error)


def _report_failure(error: Exception) -> int:
    if isinstance(error, errors.ClientError):
        terminal.note(str(error))
        return exits.of_error(error)
    if limit := system_limits.explain(error):
        terminal.note(f"cannot continue: {limit}")
        return exits.NO_ANSWER
    if isinstance(error, OSError):
        _discard_stdout()
        terminal.note(_explain_os_error(error))
        return exits.REFUSED
    if isinstance(error, ImportError):
        terminal.note(f"cannot continue: {system_limits.explain_import_error(error)}")
        return exits.NO_ANSWER
    terminal.note(
        f"this is a bug in the client ({type(error).__name__}: {error}); "
        "please report it together with what --debug shows"
    )
    return exits.NO_ANSWER


def _explain_os_error(error: OSError) -> str:
    if isinstance(error, terminal.OutputError):
        return str(error)
    why = f"I/O error: {error.strerror or error}"
    if error.filename:
        return f"{why}: {error.filename}"
    try:
        os.getcwd()
    except FileNotFoundError:
        return f"{why}; the working directory was removed: change to one that exists"
    return why


def _parse_command_line(words: list[str]) -> tuple[options.Action, options.Args]:
    """Return the action that a command line names, with its options and operands."""
    action: options.Action | None = None
    try:
        known = (*common.EVERYWHERE, _VERSION)
        leading = options.parse(words, known, options_end_at_operand=True)
        if leading.has(_VERSION):
            return _version()
        if not leading.operands:
            return commands.load("help"), options.Args()
        name, *rest = leading.operands
        before = [word for word in words[: -len(leading.operands)] if word != "--"]
        action = commands.find(name)
        args = options.parse(
            [*before, *rest],
            (*action.options, *common.EVERYWHERE),
            options_end_at_operand=action.options_end_at_operand,
        )
        if args.has(common.HELP):
            return commands.load("help"), options.Args([name])
        action.check(args)
    except errors.UsageError as error:
        raise _WrongUsage(error, action) from None
    return action, args


def _version() -> tuple[options.Action, options.Args]:
    action = commands.load("version")
    return action, options.parse(["--client"], action.options, options_end_at_operand=False)


def _print_usage_error(error: _WrongUsage) -> None:
    """Print what is wrong, the usage, and where to find help."""
    from worker_cli.ui import help_texts

    usage = help_texts.usage(error.action)
    name = f" {error.action.name}" if error.action else ""
    sys.stderr.write(f"Client Error: {error}\nusage: {usage}\nhelp: worker{name} --help\n")


def _prepare_streams() -> None:
    """Open streams that are closed, and let every character of a message be writable."""
    # Reading from a closed stdin, or writing data to a closed stdout, is an error: each is
    # replaced by /dev/null opened for the other direction. Messages to a closed stderr are lost.
    streams = (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_RDWR),
    )
    for name, mode, access in streams:
        if getattr(sys, name) is None:  # it was closed when this process started
            null = os.open(os.devnull, access)
            setattr(sys, name, open(null, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null, so that the flush at exit does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
