"""The `workerd` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import worker_daemon
from worker_daemon import errors
from worker_daemon.auth import htpasswd
from worker_daemon.settings import config, paths

_EXAMPLES = """\
examples:
  workerd init server.example.org     make settings, a certificate and the first user
  workerd user add alice              add a user, and ask for the password
  workerd check                       check the configuration
  workerd                             serve in the foreground, until SIGTERM
"""
# The settings that are also options.
_FLAGS = {
    "listen": "HOST:PORT",
    "cert": "FILE",
    "key": "FILE",
    "users": "FILE",
    "state_dir": "DIRECTORY",
    "log_level": "LEVEL",
}


_NO_THREAD = (
    "cannot start a thread: the limit on processes is reached; raise it (TasksMax= of the service, "
    "`ulimit -u` of the account), or end other processes"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if it succeeded, 1 if it failed, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except errors.DaemonError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"workerd: {line}\n")
        return 1
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        sys.stderr.write(f"workerd: {_NO_THREAD}\n")
        return 1
    except EOFError:
        sys.stderr.write("\nworkerd: aborted: end of input; nothing was changed\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    action = options.action or "serve"
    if action == "help":
        _parser().parse_args([*options.of, "--help"])  # which ends there
    if action == "init":
        return _init(options)
    if action != "user":  # which uses the encoding of the terminal
        from worker_core.model import encoding

        encoding.use_utf8()
    if action == "check":
        return _check(options)
    settings = _load(options)
    if action == "serve":
        from worker_daemon.command import serve

        return serve.serve(settings, lambda: _load(options))
    if action == "recover":
        from worker_daemon.command import recover

        return recover.recover(settings.state_dir)
    return _user(options, settings.users)


def _init(options: argparse.Namespace) -> int:
    from worker_daemon.command import init

    wanted = init.plan(
        options.directory,
        options.names,
        options.listen,
        options.user,
        options.group,
        renew=options.renew,
    )
    if options.renew:
        init.renew(wanted)
    else:
        init.init(wanted, from_stdin=options.password_stdin, cost=options.cost)
    return 0


def _load(options: argparse.Namespace) -> config.Config:
    flags = {name: getattr(options, name, None) for name in _FLAGS}
    return config.load(getattr(options, "config", None), flags)


def _check(options: argparse.Namespace) -> int:
    from worker_daemon.command import check, listening

    try:
        settings = _load(options)
    except errors.ConfigError as error:
        more = check.faults(error.rest, error.broken) if error.rest is not None else []
        raise errors.ConfigError([*error.faults, *more]) from None
    faults = check.faults(settings)
    port, note = listening.look(settings)
    if faults or port:
        raise errors.ConfigError([*faults, *(fault for fault in port if fault not in faults)])
    for warning in check.warnings(settings):
        sys.stderr.write(f"workerd: warning: {warning}\n")
    for line in note:
        sys.stderr.write(f"{line}\n")
    sys.stderr.write("configuration OK\n")
    return 0


def _user(options: argparse.Namespace, path: Path) -> int:
    from worker_daemon.command import user

    if options.user_action == "list":
        user.list_(path)
    elif options.user_action == "remove":
        user.remove(path, options.name)
    else:
        how = {"from_stdin": options.password_stdin, "cost": options.cost}
        if options.user_action == "add":
            user.add(path, options.name, keep_jobs=options.keep_jobs, **how)
        else:
            user.passwd(path, options.name, **how)
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest word, as argparse does from Python 3.14 on."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        known = [str(each) for each in action.choices or ()]
        if isinstance(value, str) and value not in known:
            import difflib

            for near in difflib.get_close_matches(value, known, n=1):
                raise argparse.ArgumentError(action, f"no {value!r}; did you mean {near}?")
        super()._check_value(action, value)


def _parser() -> _Parser:
    common = _common()
    parser = _Parser(
        prog="workerd",
        parents=[common],
        description="Run jobs for remote users over authenticated HTTPS.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"workerd {worker_daemon.__version__}"
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    actions.add_parser("serve", parents=[common], help="serve in the foreground (the default)")
    actions.add_parser("check", parents=[common], help="check the configuration")
    actions.add_parser(
        "recover",
        parents=[common],
        help="rebuild the records of jobs from their directories",
        description="Rebuild the records of jobs from their directories, if the database is "
        "missing, damaged or an older copy. Stop workerd first. Running jobs keep running. Nothing "
        "is deleted: what cannot be used is moved to set-aside in the state directory.",
        allow_abbrev=False,
    )
    _add_init(actions)
    _add_user(actions, common)
    action = actions.add_parser("help", help="print this help, or the help of an action")
    action.add_argument("of", nargs="*", metavar="ACTION", help="an action, as in: help user add")
    return parser


def _path(value: str) -> Path:
    if not value:  # Path would take it for the working directory
        raise argparse.ArgumentTypeError("must be a path, not ''")
    return Path(value)


def _common() -> _Parser:
    """Return the options that are accepted before and after the name of every action."""
    # SUPPRESS: the default after the action must not replace an option before it.
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    common.add_argument("--config", type=_path, metavar="FILE", help="Settings (TOML).")
    for name, value in _FLAGS.items():
        doc = config.settings()[name].doc
        common.add_argument(f"--{name.replace('_', '-')}", metavar=value, help=doc)
    return common


def _add_init(actions: Any) -> None:
    action = actions.add_parser(
        "init",
        help="make settings, a CA, a certificate and the first user",
        description="Make settings, a CA, a key and certificate for this server, and the first "
        "user. Existing files are not overwritten.",
        allow_abbrev=False,
    )
    action.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="names and IP addresses that clients use for this server (default: the host name; with"
        " --renew, the names in the present certificate)",
    )
    directory = _default_directory()
    action.add_argument(
        "--directory",
        type=_path,
        help="where to write" + (" (default: %(default)s)" if directory else ""),
        default=directory,
    )
    action.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=":8443",
        help="where to listen (default: %(default)s, every address)",
    )
    action.add_argument("--user", metavar="NAME", help="the first user (default: your own name)")
    action.add_argument(
        "--group", help="the group of the service, which may then read the key and the users file"
    )
    action.add_argument(
        "--renew",
        action="store_true",
        help="only make a new key and certificate, with the present CA",
    )
    _add_password(action)


def _default_directory() -> Path | None:
    try:
        return paths.config_dir()
    except errors.HomeError:  # reported when the directory is needed, but not in the help
        return None


def _add_user(actions: Any, common: _Parser) -> None:
    action = actions.add_parser("user", parents=[common], help="add, change or remove users")
    verbs = action.add_subparsers(metavar="VERB", dest="user_action", required=True)
    for name, text in (
        ("add", "add a user"),
        ("passwd", "change a password"),
        ("remove", "remove a user"),
        ("list", "list the users"),
    ):
        verb = verbs.add_parser(name, parents=[common], help=text)
        if name != "list":
            verb.add_argument("name", metavar="NAME")
        if name in ("add", "passwd"):
            _add_password(verb)
        if name == "add":
            _add_jobs(verb)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--keep-jobs",
        action="store_true",
        default=None,
        help="give the user the jobs of an earlier user of the same name, without asking",
    )
    choice.add_argument(
        "--without-jobs",
        action="store_false",
        dest="keep_jobs",
        default=None,
        help="do not give the user the jobs of an earlier user of the same name",
    )


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from the first line of standard input",
    )
    parser.add_argument(
        "--cost",
        type=int,
        choices=range(4, htpasswd.MAX_COST + 1),
        metavar="N",
        default=htpasswd.DEFAULT_COST,
        help=f"the cost of bcrypt, 4 to {htpasswd.MAX_COST} (default: %(default)s)",
    )


if __name__ == "__main__":
    sys.exit(main())
