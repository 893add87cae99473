"""worker login: save the server's address and the user's credentials."""

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
    """Ask for missing settings, check them on the server, and save them."""
    from worker_cli.client import Client
    from worker_cli.settings import config, credentials

    settings = config.load(_overrides(args), new_profile=True)
    config.check_can_save(settings)
    common.log_requests(args)
    if terminal.is_terminal(sys.stdin) and _will_ask(args, settings):
        # Report a wrong address or CA before the user types a password.
        with Client.of(settings, "", "") as client:
            client.check_server()
    user = settings.user or _ask_user(settings.server)
    password = _password(args, settings, user)
    if not password:
        raise errors.SettingsError("the password is empty; nothing was sent or changed")
    with Client.of(settings, user, password) as client:
        client.whoami()
    place = credentials.store(settings, user, password)
    config.save_profile(dataclasses.replace(settings, user=user))
    terminal.note(f"logged in to {settings.server} as {user}; the password is saved in {place}")
    if settings.profile != config.load(config.Overrides()).profile:
        terminal.note(f"to use it, add: --profile {settings.profile}")
    return exits.DONE


def _overrides(args: Args) -> Overrides:
    overrides = common.overrides(args)
    if not args.operands:
        return overrides
    if overrides.server:
        raise errors.UsageError("the server is given twice, as URL and with --server")
    if not args.operands[0]:
        raise errors.UsageError("the URL is empty; is a variable not set?")
    return dataclasses.replace(overrides, server=args.operands[0])


def _will_ask(args: Args, settings: Settings) -> bool:
    has_password = args.has(PASSWORD_STDIN) or settings.password
    return not (settings.user and has_password)


def _ask_user(server: str) -> str:
    default = os.environ.get("USER", "")
    _require_terminal("--user NAME")
    sys.stderr.write(f"User at {server}{f' [{default}]' if default else ''}: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:  # Ctrl-D; an empty line is the default
        raise EOFError
    return line.strip() or default


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
    _require_terminal("--password-stdin, or WORKER_PASSWORD in the environment")
    import getpass

    return getpass.getpass(f"Password of {user}: ", stream=sys.stderr)


def _require_terminal(alternative: str) -> None:
    if not terminal.is_terminal(sys.stdin):
        raise errors.UsageError(f"there is no terminal to ask on; login needs {alternative}")


ACTION = Action(
    "login",
    run,
    summary="save server and credentials",
    operands="[URL]",
    most=1,
    about=(
        "Ask for user and password, check them on the server, and save them for the other "
        "actions. The address, CA and user are saved in config.toml, under the profile's name. The "
        "password is saved in a file that only you can read, or in the system's keyring if the "
        "keyring package is installed.\n\n"
        "A password is never an argument, because others could see it."
    ),
    options=(PASSWORD_STDIN,),
    examples=(
        ("worker login https://server:8443 --cacert ca.pem", "log in; asks for user and password"),
        ("worker login --profile lab https://lab:8443", "save a second server"),
        ("pass show worker | worker login --user ann --password-stdin", "in a script"),
    ),
)
