"""worker completion: a script that lets a shell complete worker's words."""

from __future__ import annotations

import sys
from pathlib import Path

from worker_cli import errors, exits
from worker_cli.options import Action, Args

SHELLS = ("bash", "zsh", "fish")


def run(args: Args) -> int:
    """Print the script for one shell."""
    shell = args.operands[0]
    if shell not in SHELLS:
        raise errors.UsageError(f"there is no script for {shell}; there are: {', '.join(SHELLS)}")
    script = Path(__file__).parent.parent / "shell" / f"worker.{shell}"
    sys.stdout.write(script.read_text("utf-8"))
    return exits.DONE


ACTION = Action(
    "completion",
    run,
    summary="print a script for completion in a shell",
    operands="bash|zsh|fish",
    least=1,
    most=1,
    about=(
        "Print a script that completes actions, options, and the ids of your jobs, which it asks "
        "the server for."
    ),
    examples=(
        ("source <(worker completion bash)", "in ~/.bashrc"),
        ("source <(worker completion zsh)", "in ~/.zshrc, after compinit"),
        ("worker completion fish | source", "in ~/.config/fish/config.fish"),
    ),
    completes=(SHELLS, ()),
)
