"""The manual page, generated from the declarations of the actions.

`python -m worker_cli.ui.manual > man/worker.1` writes the page that is in the wheel. A test checks
that the file is up to date.
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
    ("2", "wrong usage, or a setting that cannot be used"),
    ("125", "no answer, an untrusted server or no login"),
    ("130", "interrupted by Ctrl-C; a job that was followed keeps running"),
)
_JOB_CODES = (
    ("N", "the job's own exit code"),
    ("128+N", "signal N ended it"),
    ("124", "it was stopped because of its --timeout"),
    ("125", "it is lost: its end could not be observed"),
    ("126, 127", "its command could not be executed, or was not found"),
)
_ENVIRONMENT = (
    ("WORKER_SERVER", "address of the server, as --server"),
    ("WORKER_CACERT", "certificate of the only CA to trust, as --cacert"),
    ("WORKER_USER", "name of the user, as --user"),
    ("WORKER_PASSWORD", "password; there is no option, because others could see it"),
    ("WORKER_PROFILE", "profile in config.toml, as --profile"),
    ("NO_COLOR", "if not empty, no colour is used"),
    ("HTTPS_PROXY, NO_PROXY", "a proxy to use, and the hosts to connect to without it"),
    ("NETRC", "file to read instead of ~/.netrc"),
)
_FILES = (
    (
        "~/.config/worker/config.toml",
        "profiles, each with server, cacert, user, cert and key",
    ),
    (
        "~/.config/worker/credentials.json",
        "passwords; mode 0600, and not used when others can read it",
    ),
    ("~/.netrc", "passwords by host, used when login has saved none"),
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
        + _paragraphs(
            "Options take precedence over these variables, then come config.toml and the defaults."
        )
        + "\n"
        + _tagged(_ENVIRONMENT),
        ".SH FILES\n" + _tagged(_FILES),
    ]
    return "\n".join(parts) + "\n"


_DESCRIPTION = (
    "worker runs commands on a server where workerd is running, over HTTPS, and reads their "
    "output. A job keeps running when you log out, and when workerd is restarted. You can see "
    "and change only your own jobs; for administrators, see worker list.\n\n"
    "An ID may be shortened to its first characters, if no other job of yours begins with them; "
    "@last is your newest job."
)


def _action(action: Action) -> str:
    parts = [
        f".SS {_escaped(help_texts.usage(action))}",
        _paragraphs(action.about),
        _options(action.options),
    ]
    if action.examples:
        parts += [".PP\nExamples:", _tagged(action.examples)]
    return "\n".join(part for part in parts if part)


def _options(options: Iterable[AnyOption]) -> str:
    return _tagged(
        (help_texts.option_usage(option.names, option.metavar), option.about) for option in options
    )


def _tagged(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n.B {_escaped(name)}\n{_escaped(about)}" for name, about in rows)


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(_escaped(paragraph) for paragraph in text.split("\n\n"))


def _escaped(text: str) -> str:
    """Return a text that troff shows unchanged."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\&...")
    text = text.replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    sys.stdout.write(page())
