"""The `worker` command: find the action, run it, and turn what happens into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from worker_cli import commands, errors, exits, options, system_limits
from worker_cli.commands import common
from worker_cli.ui import terminal

_VERSION = options.Flag("--version", about="print the version of this client")


class _WrongUsage(Exception):
    """A wrong command line, with the help text that belongs to it."""

    def __init__(self, error: errors.UsageError, action: options.Action | None) -> None:
        super().__init__(str(error))
        self.action = action


def run(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; only Ctrl-C leaves it as an exception."""
    _prepare_streams()
    try:
        action, args = _parse_command_line(list(sys.argv[1:] if words is None else words))
        return _guarded(action, args)
    except _WrongUsage as error:
        _print_usage_error(error)
        return exits.USAGE


def _guarded(action: options.Action, args: options.Args) -> int:
    """Run an action, and say in a sentence what goes wrong; with --debug, after a traceback."""
    try:
        code = action.run(args)
        terminal.flush()
        return code
    except errors.UsageError as error:
        raise _WrongUsage(error, action) from None
    except BrokenPipeError:
        return _reader_left()
    except EOFError:
        sys.stderr.write("\nworker: the input ended at a question; nothing was changed\n")
        return exits.NO_ANSWER
    except Exception as error:  # noqa: BLE001  # the last resort, so that nobody sees a traceback
        if args.has(common.DEBUG):
            import traceback

            traceback.print_exc()
        return _failed(error)


def _failed(error: Exception) -> int:
    if isinstance(error, errors.ClientError):
        terminal.note(str(error))
        return exits.of_error(error)
    if reached := system_limits.explain(error):
        terminal.note(f"cannot go on: {reached}")
        return exits.NO_ANSWER
    if isinstance(error, OSError):
        _discard_stdout()
        ours = isinstance(error, terminal.OutputError)
        terminal.note(
            str(error) if ours else f"cannot go on: {error.strerror or error}{_named(error)}"
        )
        return exits.REFUSED
    if isinstance(error, ImportError):
        terminal.note(f"cannot go on: {system_limits.explain_import_error(error)}")
        return exits.NO_ANSWER
    terminal.note(
        f"this is a bug in the client ({type(error).__name__}: {error}); "
        "please report it together with what --debug shows"
    )
    return exits.NO_ANSWER


def _named(error: OSError) -> str:
    if error.filename:
        return f": {error.filename}"
    try:
        os.getcwd()
    except FileNotFoundError:
        return "; the working directory was removed: change to one that is there"
    return ""


def _parse_command_line(words: list[str]) -> tuple[options.Action, options.Args]:
    """Return the action that a command line names, and what it is given."""
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
        action = _find(name)
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


def _find(name: str) -> options.Action:
    if name in (*commands.NAMES, *commands.HIDDEN):
        return commands.load(name)
    near = options.did_you_mean(name, commands.NAMES)
    raise errors.UsageError(f"unknown action {name}{near}")


def _print_usage_error(error: _WrongUsage) -> None:
    """Say what is wrong, and how it is done; the former last, where it is seen."""
    from worker_cli.ui import help_texts

    text = help_texts.of_action(error.action) if error.action else help_texts.overview()
    sys.stderr.write(f"{text}\n\nClient Error: {error}\n")


def _prepare_streams() -> None:
    """Let no character of a message or a name be one that cannot be written, nor a stream miss."""
    # Data that has nowhere to go, or to come from, is an error; messages may go nowhere.
    streams = (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_RDWR),
    )
    for name, mode, access in streams:
        if getattr(sys, name) is None:  # it was closed when this process began
            null = os.open(os.devnull, access)
            setattr(sys, name, open(null, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _reader_left() -> int:
    _discard_stdout()
    return exits.BROKEN_PIPE


def _discard_stdout() -> None:
    """Let what is still to be flushed at exit go nowhere, for it cannot go where it should."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
