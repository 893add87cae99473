"""The manual page, made from the declarations of the actions.

`python -m worker_cli.ui.manual > man/worker.1` writes the page that goes into the wheel; a test
compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from worker_cli import __version__, commands
from worker_cli.options import Action, AnyOption
from worker_cli.ui import help_texts

_EXIT_CODES = (
    ("0", "done"),
    ("1", "the server refused: there is no such job, it has already ended, …"),
    ("2", "wrong usage; the message stands below the help text"),
    ("125", "no answer, no trust or no login: the connection, the certificate or the password"),
    ("130", "interrupted by Ctrl-C; a job that was followed goes on"),
)
_JOB_CODES = (
    ("N", "the job's own exit code"),
    ("128+N", "signal N ended it"),
    ("124", "its time was up"),
    ("125", "its end could not be observed"),
    ("126, 127", "it could not be executed, or not be found"),
)
_ENVIRONMENT = (
    ("WORKER_SERVER", "address of the server, as --server"),
    ("WORKER_CACERT", "certificate of the only CA to trust, as --cacert"),
    ("WORKER_USER", "name of the user, as --user"),
    ("WORKER_PASSWORD", "password; there is no option for it, because others can see those"),
    ("WORKER_PROFILE", "profile in config.toml, as --profile"),
    ("NO_COLOR", "when not empty, no colour"),
    ("HTTPS_PROXY, NO_PROXY", "a proxy to go through, and the hosts that need none"),
    ("NETRC", "in place of ~/.netrc"),
)
_FILES = (
    (
        "~/.config/worker/config.toml",
        "profiles: server, cacert, user, cert and key, each under a name",
    ),
    ("~/.config/worker/credentials.json", "passwords, mode 0600; refused when others can read it"),
    ("~/.netrc", "passwords by host, used where login has stored none"),
)


def page() -> str:
    """Return the manual page in the man(7) language."""
    actions = [commands.load(name) for name in commands.NAMES]
    parts = [
        f'.TH WORKER 1 "" "worker-cli {__version__}" "User Commands"',
        ".SH NAME\nworker \\- run commands on a server and read their output",
        ".SH SYNOPSIS\n.B worker\n.I ACTION\n[\\fIOPTION\\fR \\&...] \\&...",
        f".SH DESCRIPTION\n{_paragraphs(_DESCRIPTION)}",
        ".SH ACTIONS\n" + "\n".join(map(_action, actions)),
        ".SH OPTIONS OF EVERY ACTION\n" + _options(commands.EVERYWHERE),
        ".SH EXIT STATUS\n" + _tagged(_EXIT_CODES),
        f".PP\n{_escaped('run --wait and wait exit as the job did:')}\n{_tagged(_JOB_CODES)}",
        ".SH ENVIRONMENT\n"
        + _paragraphs("Options come first, then these, then config.toml, then defaults.")
        + "\n"
        + _tagged(_ENVIRONMENT),
        ".SH FILES\n" + _tagged(_FILES),
    ]
    return "\n".join(parts) + "\n"


_DESCRIPTION = (
    "worker runs commands on a server where workerd listens, over HTTPS, and brings back their "
    "output. A job goes on when you log out, and when the server's software is restarted. You see "
    "and touch only the jobs that you created; for those of others, which administrators may "
    "reach, see worker list.\n\n"
    "Where an ID is asked for, the first characters of one are enough, if no other job of yours "
    "begins so; @last is your newest job."
)


def _action(action: Action) -> str:
    usage = f"worker {action.name} {'[OPTION …] ' if action.options else ''}{action.operands}"
    parts = [f".SS {_escaped(usage.rstrip())}", _paragraphs(action.about), _options(action.options)]
    if action.examples:
        parts += [".PP\nExamples:", _tagged(action.examples)]
    return "\n".join(part for part in parts if part)


def _options(options: Iterable[AnyOption]) -> str:
    return _tagged((help_texts.usage(each.names, each.metavar), each.about) for each in options)


def _tagged(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n.B {_escaped(name)}\n{_escaped(about)}" for name, about in rows)


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(_escaped(each) for each in text.split("\n\n"))


def _escaped(text: str) -> str:
    """Return a text that troff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\&...")
    text = text.replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    sys.stdout.write(page())
