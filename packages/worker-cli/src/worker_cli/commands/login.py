"""worker login: say once where the server is and who you are."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from typing import TYPE_CHECKING

from worker_cli import errors, exits
from worker_cli.commands import common
from worker_cli.options import Action, Args, Flag
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.settings.config import Overrides, Settings

PASSWORD_STDIN = Flag("--password-stdin", about="read the password from the first line of stdin")


def run(args: Args) -> int:
    """Ask what is not given, try it on the server, and only then keep it."""
    from worker_cli.client import Client
    from worker_cli.settings import config, credentials

    settings = config.load(_given(args), new_profile=True)
    config.check_can_save(settings)
    user = settings.user or _ask_user(settings.server)
    password = _password(args, settings, user)
    if not password:
        raise errors.SettingsError("the password is empty; nothing was sent, nor changed")
    common.log_requests(args)
    with Client.of(settings, user, password) as client:
        client.whoami()
    place = credentials.store(settings, user, password)
    config.save_profile(dataclasses.replace(settings, user=user))
    terminal.note(f"logged in to {settings.server} as {user}; the password is kept in {place}")
    if settings.profile != config.load(config.Overrides()).profile:
        terminal.note(f"use it with --profile {settings.profile}")
    return exits.DONE


def _given(args: Args) -> Overrides:
    given = common.overrides(args)
    if not args.operands:
        return given
    if given.server:
        raise errors.UsageError("the server is given twice, as URL and with --server")
    if not args.operands[0]:
        raise errors.UsageError("the URL is empty; is a variable not set?")
    return dataclasses.replace(given, server=args.operands[0])


def _ask_user(server: str) -> str:
    usual = os.environ.get("USER", "")
    _need_person("--user NAME")
    sys.stderr.write(f"User at {server}{f' [{usual}]' if usual else ''}: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:  # Ctrl-D, which is no answer; Enter takes what is usual
        raise EOFError
    return line.strip() or usual


def _password(args: Args, settings: Settings, user: str) -> str:
    if args.has(PASSWORD_STDIN):
        try:
            line = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape")
        except OSError as error:
            why = "stdin is closed" if error.errno == errno.EBADF else error.strerror
            raise errors.UsageError(f"--password-stdin: {why}") from None
        return line.removesuffix("\n").removesuffix("\r")
    if settings.password:
        return settings.password
    _need_person("--password-stdin, or WORKER_PASSWORD in the environment")
    import getpass

    return getpass.getpass(f"Password of {user}: ", stream=sys.stderr)


def _need_person(instead: str) -> None:
    if not terminal.is_terminal(sys.stdin):
        raise errors.UsageError(f"there is no terminal to ask on; login needs {instead}")


ACTION = Action(
    "login",
    run,
    summary="say once where, and who you are",
    operands="[URL]",
    most=1,
    about=(
        "Ask for the user and the password, try them on the server, and keep them for the other "
        "actions: the address, CA and user in config.toml, under the profile's name, the password "
        "in a file that only you can read, or in the system's keyring when the keyring package "
        "is installed.\n\n"
        "A password is never an argument, where others could see it."
    ),
    options=(PASSWORD_STDIN,),
    examples=(
        ("worker login https://server:8443 --cacert ca.pem", "asks for user and password"),
        ("worker login --profile lab https://lab:8443", "a second server, for --profile lab"),
        ("pass show worker | worker login --user ann --password-stdin", "in a script"),
    ),
)
