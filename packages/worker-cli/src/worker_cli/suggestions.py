"""What to type instead of an unknown action or option: by its meaning, else by its spelling.

Imported only after a mistake, because difflib is slow to import.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

# The words that docker, systemd, Slurm, PBS and shells have for our actions.
_ACTIONS: Mapping[str, Sequence[str]] = {
    "run": ("submit", "start", "exec", "create", "sbatch", "srun", "qsub", "launch", "add"),
    "status": ("show", "info", "inspect", "describe", "stat", "state", "get"),
    "out": ("logs", "log", "output", "stdout", "cat", "tail", "attach", "follow", "print"),
    "kill": ("stop", "cancel", "terminate", "abort", "scancel", "qdel", "end"),
    "list": ("ps", "ls", "jobs", "queue", "squeue", "qstat", "top", "history"),
    "remove": ("rm", "delete", "del"),
    "prune": ("clean", "purge", "gc", "clear"),
    "login": ("auth", "signin", "connect", "configure", "config"),
    "logout": ("signout", "disconnect"),
    "help": ("man", "usage", "?"),
}
_OPTIONS: Mapping[str, Sequence[str]] = {
    "--wait": ("-f", "--follow", "--attach", "--foreground", "-a", "--fg"),
    "--follow": ("--wait", "-w", "--watch", "-F"),
    "--stdin": ("-i", "--interactive", "--input"),
    "--env": ("-e", "-E", "--environment", "--setenv"),
    "--cwd": ("-w", "-C", "-D", "--workdir", "--chdir", "--dir", "--directory"),
    "--shell": ("-c", "--command", "--sh"),
    "--timeout": ("--time", "-t", "--time-limit", "--max-time"),
    "--memory": ("-m", "--mem", "--ram"),
    "--cpus": ("--cpu", "-c", "--cores"),
    "--label": ("-l", "--tag", "--filter"),
    "--tail": ("-n", "--lines"),
    "-n": ("--limit", "--all", "-a", "--max", "--count", "--lines"),
    "-o": ("--output", "--format", "--json", "--file"),
    "--now": ("-9", "--force", "-f", "-KILL", "--kill"),
    "--signal": ("-s", "--sig"),
    "--grace": ("-t", "--time", "--timeout"),
    "--yes": ("-f", "--force"),
    "--debug": ("-v", "-vv", "--verbose", "--trace"),
    "--user": ("-u", "-U", "--username"),
    "--server": ("-H", "-s", "--host", "--url", "--address"),
    "--cacert": ("--ca", "--cafile", "--ca-cert", "--ca-file"),
    "--version": ("-V", "-v"),
    "--help": ("-?", "-help"),
    "--password-stdin": ("-p", "--password", "--pass"),
}
_ADVICE = {
    "-d": "a job always runs in the background, unless --wait is given",
    "--detach": "a job always runs in the background, unless --wait is given",
    "--background": "a job always runs in the background, unless --wait is given",
    "--bg": "a job always runs in the background, unless --wait is given",
    "--no-wait": "without --wait, run does not wait",
    "-k": "the server's certificate is always verified; name its CA with --cacert FILE",
    "--insecure": "the server's certificate is always verified; name its CA with --cacert FILE",
    "--rm": "finished jobs are deleted with: worker remove, worker prune",
    "-p": "a password is never an argument, because others could see it",
    "--password": "a password is never an argument, because others could see it",
    "-it": "jobs have no terminal; for their input, see --stdin",
    "--tty": "jobs have no terminal; for their input, see --stdin",
}


def action(name: str, actions: Sequence[str]) -> str:
    """Return the end of a message about an unknown action: a suggestion, or nothing."""
    return _did_you_mean(_synonym(name, _ACTIONS, actions) or _similar(name, actions))


def option(name: str, options: Sequence[str]) -> str:
    """Return the end of a message about an unknown option: advice, a suggestion, or nothing."""
    if name in _ADVICE:
        return f"; {_ADVICE[name]}"
    return _did_you_mean(_similar(name, options) or _synonym(name, _OPTIONS, options))


def _synonym(word: str, synonyms: Mapping[str, Sequence[str]], known: Sequence[str]) -> str | None:
    meant = (name for name, words in synonyms.items() if word in words and name in known)
    return next(meant, None)


def _similar(word: str, known: Sequence[str]) -> str | None:
    # Compared without their dashes, which would make all options similar.
    names = {name.lstrip("-"): name for name in known}
    close = difflib.get_close_matches(word.lstrip("-"), names, n=1, cutoff=0.7)
    # A short option is similar to no other: `-s` is not a misspelt `--silent`.
    completed = [name for name in known if len(word) > 2 and name.startswith(word)]
    return next(iter([*(names[name] for name in close if len(word) > 2), *completed]), None)


def _did_you_mean(name: str | None) -> str:
    return f"; did you mean {name}?" if name else ""
