"""What several actions share: options, the client for them, and acting on several jobs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker_cli import errors, exits, options, parsing
from worker_cli.job import FINAL, LIVE
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
    about="the server's address (or WORKER_SERVER; default: https://localhost:8443)",
)
CACERT = Option(
    "--cacert",
    metavar="FILE",
    parse=parsing.text,
    about="certificate of the only CA to trust (or WORKER_CACERT; default: the system's CAs)",
    completes=options.FILE,
)
USER = Option(
    "--user",
    metavar="NAME",
    parse=parsing.text,
    about="your user name on the server (or WORKER_USER)",
)
PROFILE = Option(
    "--profile",
    metavar="NAME",
    parse=parsing.text,
    about="use the settings of this profile in config.toml (or WORKER_PROFILE)",
    completes=options.PROFILE,
)
EVERYWHERE: tuple[AnyOption, ...] = (SERVER, CACERT, USER, PROFILE, DEBUG, HELP)

FORMATS = ("table", "json", "jsonl")
FORMAT = Option(
    "-o",
    metavar="|".join(FORMATS),
    parse=parsing.one_of(*FORMATS),
    about="output format: a table for people, or JSON for programs",
    completes=FORMATS,
)

QUIET = Flag(
    "-q", "--quiet", about="print only ids (list), only the status word (status), nothing (wait)"
)
LABEL = Option("--label", metavar="K=V", parse=parsing.pair, about="a label of the job; repeatable")
STATUS = Option(
    "--status",
    metavar="STATUS",
    parse=parsing.one_of(*LIVE, *FINAL),
    about=f"only jobs with this status; repeatable: {', '.join((*LIVE, *FINAL))}",
    completes=(*LIVE, *FINAL),
)
GRACE = Option(
    "--grace",
    metavar="TIME",
    parse=parsing.duration,
    about="time between the stop signal and SIGKILL: 30, 2m (default: 10s, or the job's own)",
)


def labels(args: Args) -> dict[str, str]:
    """Return the labels on the command line; raise UsageError for two values of one label."""
    values: dict[str, str] = {}
    for key, value in args.all(LABEL):
        if values.setdefault(key, value) != value:
            raise errors.UsageError(
                f"--label {key}={values[key]} and --label {key}={value}: a label has only one value"
            )
    return values


def overrides(args: Args) -> Overrides:
    """Return the settings that the command line overrides."""
    from worker_cli.settings.config import Overrides

    return Overrides(
        server=args.get(SERVER),
        cacert=args.get(CACERT),
        user=args.get(USER),
        profile=args.get(PROFILE),
    )


def connect(args: Args) -> Client:
    """Return a client with the effective settings; nothing is sent yet."""
    from worker_cli.client import Client

    log_requests(args)
    client = Client.from_settings(
        profile=args.get(PROFILE),
        server=args.get(SERVER),
        user=args.get(USER),
        cacert=args.get(CACERT),
    )
    if terminal.is_terminal(sys.stderr):
        reporter = _OutageReporter(client.server)
        client.on_outage(reporter.connection_lost, reporter.connection_restored)
    return client


class _OutageReporter:
    """Reports a lost connection once, and once that it is restored; for any thread."""

    def __init__(self, server: str) -> None:
        import threading

        self._server = server
        self._reported = threading.Lock()

    def connection_lost(self, _: object) -> None:
        if self._reported.acquire(blocking=False):
            terminal.note(f"the connection to {self._server} is lost; trying again")

    def connection_restored(self) -> None:
        with contextlib.suppress(RuntimeError):  # not reported, or another thread was faster
            self._reported.release()
            terminal.note(f"connected to {self._server} again")


def log_requests(args: Args) -> None:
    """With --debug, show each request and the status of its answer."""
    if not args.has(DEBUG):
        return
    import logging

    form = "worker: %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format=form)


def print_json(args: Args, value: Mapping[str, Any]) -> bool:
    """Print an object as JSON if -o asks for it; return whether it did."""
    from worker_cli.ui import render

    form = args.get(FORMAT)
    if form == "json":
        terminal.print_line(render.as_json(value))
    elif form == "jsonl":
        terminal.print_line(render.as_json_lines([value]))
    return form in ("json", "jsonl")


def check_one_format(args: Args) -> None:
    """Raise UsageError when both -q and -o are given."""
    form = args.get(FORMAT)
    if form and args.has(QUIET):
        raise errors.UsageError(f"-q and -o {form} cannot be combined")


JobOrError = str | errors.ClientError
"""The id of a job, or why a text does not name one."""


def resolve_jobs(client: Client, texts: Sequence[str]) -> list[JobOrError]:
    """Return the ids of the named jobs, each once; for a text that names no job, the error.

    All are resolved before the first job is changed, because @last may be another job after that.
    """
    jobs = [_resolve_job(client, text) for text in dict.fromkeys(texts)]
    return list(dict.fromkeys(jobs))


def _resolve_job(client: Client, text: str) -> JobOrError:
    from worker_cli import ids

    try:
        return ids.resolve(client, text)
    except (errors.Unreachable, errors.NotLoggedIn):
        raise
    except errors.ClientError as error:
        return error


def for_each(jobs: Sequence[JobOrError], act: Callable[[str], int]) -> int:
    """Call `act` for each job; return the first exit code that is not 0.

    An error with one job is reported, and the other jobs still get their turn.
    """
    codes = [_act_or_report(job, act) for job in jobs]
    return next((code for code in codes if code), exits.DONE)


def _act_or_report(job: JobOrError, act: Callable[[str], int]) -> int:
    try:
        if isinstance(job, errors.ClientError):
            raise job
        return act(job)
    except (errors.Unreachable, errors.NotLoggedIn):
        raise
    except errors.ClientError as error:
        terminal.note(str(error))
        return exits.of_error(error)
