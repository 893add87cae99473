"""Suggestions after a mistake: the action or option that the user probably meant."""

from __future__ import annotations

import pytest
from support.cli_run import Worker
from worker_cli import commands, suggestions
from worker_cli.commands import common

NAMES = ("--wait", "--name", "--count", "--quiet", "-q", "-n")


def options_of(action: str) -> list[str]:
    options = (*commands.load(action).options, *commands.EVERYWHERE)
    return [name for option in options for name in option.names]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--wiat", "--wait"),
        ("--nam", "--name"),
        ("--quite", "--quiet"),
        ("--cou", "--count"),
        ("--zzz", None),
    ],
)
def test_misspelt_options(word: str, meant: str | None) -> None:
    """A user would have to read the whole help text to find the typing mistake."""
    assert suggestions.option(word, NAMES) == (f"; did you mean {meant}?" if meant else "")


@pytest.mark.parametrize("word", ["--bogus", "--nope", "--frob"])
def test_unrelated_options_are_not_suggested(word: str) -> None:
    """A user would be led to an option that has nothing to do with what was meant."""
    assert suggestions.option(word, options_of("run")) == ""


@pytest.mark.parametrize(
    ("action", "word", "meant"),
    [
        ("run", "--mem", "--memory"),
        ("run", "-e", "--env"),
        ("run", "-w", "--cwd"),
        ("run", "-f", "--wait"),
        ("run", "-i", "--stdin"),
        ("run", "-c", "--shell"),
        ("out", "-n", "--tail"),
        ("out", "--watch", "--follow"),
        ("kill", "-9", "--now"),
        ("kill", "-s", "--signal"),
        ("list", "--json", "-o"),
        ("list", "-a", "-n"),
        ("prune", "--force", "--yes"),
        ("status", "-v", "--debug"),
    ],
)
def test_options_of_other_programs(action: str, word: str, meant: str) -> None:
    """Somebody who comes from docker, Slurm or a shell would have to search the help text."""
    assert suggestions.option(word, options_of(action)) == f"; did you mean {meant}?"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("logs", "out"),
        ("ps", "list"),
        ("ls", "list"),
        ("squeue", "list"),
        ("stop", "kill"),
        ("scancel", "kill"),
        ("rm", "remove"),
        ("submit", "run"),
        ("sbatch", "run"),
        ("exec", "run"),
        ("inspect", "status"),
        ("klil", "kill"),
        ("stat", "status"),
    ],
)
def test_actions_of_other_programs(worker: Worker, word: str, meant: str) -> None:
    """Somebody who comes from docker, Slurm or a shell would have to read the help text first."""
    done = worker.run(word, "0f3c")
    assert done.code == 2
    assert done.stderr.splitlines()[0] == (
        f"Client Error: unknown action {word}; did you mean {meant}?"
    )


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("run", "-d", "make"), "a job always runs in the background, unless --wait is given"),
        (("-d", "run", "make"), "a job always runs in the background, unless --wait is given"),
        (("run", "-it", "bash"), "jobs have no terminal; for their input, see --stdin"),
        (("whoami", "-k"), "the server's certificate is always verified; name its CA with"),
        (("login", "--password", "x"), "a password is never an argument, because others could"),
    ],
)
def test_advice(worker: Worker, words: tuple[str, ...], advice: str) -> None:
    """A user would look for another spelling of an option that does not exist on purpose."""
    done = worker.run(*words)
    assert done.code == 2
    assert f"; {advice}" in done.stderr.splitlines()[0]


def test_every_suggestion_exists() -> None:
    """A suggestion would name an action or an option that was renamed."""
    known = {name for action in commands.NAMES for name in options_of(action)} | {"--version"}
    assert set(suggestions._OPTIONS) <= known
    assert set(suggestions._ACTIONS) <= set(commands.NAMES)
    real = {*known, *commands.NAMES}
    assert not {word for words in suggestions._ACTIONS.values() for word in words} & real
    assert common.HELP.names[0] in known
