"""What several actions share: options, and the way from them to a client."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker_cli import errors, exits, options, parsing
from worker_cli.options import AnyOption, Args, Flag, Option
from worker_cli.ui import terminal

if TYPE_CHECKING:
    from worker_cli.client import Client
    from worker_cli.settings.config import Overrides

HELP = Flag("-h", "--help", about="print this help")
DEBUG = Flag("--debug", about="show requests, and the traceback of a failure")
SERVER = Option(
    "--server",
    metavar="URL",
    parse=parsing.text,
    about="the server's address (or WORKER_SERVER; https://localhost:8443 when not set anywhere)",
)
CACERT = Option(
    "--cacert",
    metavar="FILE",
    parse=parsing.text,
    about="the certificate of the only CA to trust (or WORKER_CACERT; without one the system's)",
    completes=options.FILE,
)
USER = Option("--user", metavar="NAME", parse=parsing.text, about="who you are (or WORKER_USER)")
PROFILE = Option(
    "--profile",
    metavar="NAME",
    parse=parsing.text,
    about="use these settings from config.toml (or WORKER_PROFILE)",
    completes=options.PROFILE,
)
EVERYWHERE: tuple[AnyOption, ...] = (SERVER, CACERT, USER, PROFILE, DEBUG, HELP)

FORMATS = ("table", "json", "jsonl")
FORMAT = Option(
    "-o",
    metavar="|".join(FORMATS),
    parse=parsing.one_of(*FORMATS),
    about="the form of the output: for people, or as JSON for programs",
    completes=FORMATS,
)


def labels(args: Args, option: Option[tuple[str, str]]) -> dict[str, str]:
    """Return the labels that were given; a job has one value for each."""
    found: dict[str, str] = {}
    for key, value in args.all(option):
        if found.setdefault(key, value) != value:
            name = option.names[0]
            raise errors.UsageError(
                f"{name} {key}={found[key]} and {name} {key}={value}: a label has one value only"
            )
    return found


def overrides(args: Args) -> Overrides:
    """Return the settings that are on the command line."""
    from worker_cli.settings.config import Overrides

    return Overrides(
        server=args.get(SERVER),
        cacert=args.get(CACERT),
        user=args.get(USER),
        profile=args.get(PROFILE),
    )


def connect(args: Args) -> Client:
    """Return a client for the settings in force; nothing is sent yet."""
    from worker_cli.client import Client

    log_requests(args)
    settings = overrides(args)
    client = Client.from_settings(
        profile=settings.profile,
        server=settings.server,
        user=settings.user,
        cacert=settings.cacert,
    )
    if terminal.is_terminal(sys.stderr):
        outage = _Outage(client.server)
        client.on_outage(outage.begin, outage.end)
    return client


class _Outage:
    """Says once that a connection is lost, and once that it is there again; for any thread."""

    def __init__(self, server: str) -> None:
        import threading

        self._server = server
        self._told = threading.Lock()

    def begin(self, _: object) -> None:
        if self._told.acquire(blocking=False):
            terminal.note(f"the connection to {self._server} is lost; trying again")

    def end(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was not told, or another thread was faster
            self._told.release()
            terminal.note(f"connected to {self._server} again")


def log_requests(args: Args) -> None:
    """With --debug, show each request and how it was answered."""
    if not args.has(DEBUG):
        return
    import logging

    form = "worker: %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format=form)


def print_json(args: Args, value: Mapping[str, Any]) -> bool:
    """Print one object as JSON if that was asked for; return whether it was."""
    from worker_cli.ui import render

    form = args.get(FORMAT)
    if form == "json":
        terminal.print_line(render.as_json(value))
    elif form == "jsonl":
        terminal.print_line(render.as_json_lines([value]))
    return form in ("json", "jsonl")


def check_one_format(args: Args, quiet: Flag) -> None:
    """Raise UsageError where both -q and another form of the output are asked for."""
    form = args.get(FORMAT)
    if form and args.has(quiet):
        raise errors.UsageError(f"-q and -o {form} are two different forms of output")


JobOrError = str | errors.ClientError
"""The id of a job, or why a text is none."""


def resolve_jobs(client: Client, texts: Sequence[str]) -> list[JobOrError]:
    """Return the jobs that are named, each once, and in the place of what is none its error.

    All are looked up before anything is done to one of them: @last is another job afterwards.
    """
    found = [_resolve_job(client, text) for text in dict.fromkeys(texts)]
    return list(dict.fromkeys(found))


def _resolve_job(client: Client, text: str) -> JobOrError:
    from worker_cli import ids

    try:
        return ids.resolve(client, text)
    except (errors.Unreachable, errors.NotLoggedIn):
        raise
    except errors.ClientError as error:
        return error


def for_each(jobs: Sequence[JobOrError], act: Callable[[str], int]) -> int:
    """Act on each of several jobs; return the first exit code that is not 0.

    What is wrong with one is noted and does not keep the others from their turn.
    """
    codes = [_guarded(each, act) for each in jobs]
    return next((code for code in codes if code), exits.DONE)


def _guarded(job: JobOrError, act: Callable[[str], int]) -> int:
    try:
        if isinstance(job, errors.ClientError):
            raise job
        return act(job)
    except (errors.Unreachable, errors.NotLoggedIn):
        raise
    except errors.ClientError as error:
        terminal.note(str(error))
        return exits.of_error(error)
