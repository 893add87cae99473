"""worker completion: print a script with which a shell completes our command lines."""

from __future__ import annotations

import sys
from pathlib import Path

from worker_cli import errors, exits
from worker_cli.options import Action, Args

SHELLS = ("bash", "zsh", "fish")


def run(args: Args) -> int:
    """Print the script for a shell."""
    shell = args.operands[0]
    if shell not in SHELLS:
        raise errors.UsageError(f"no script for {shell}; choose one of: {', '.join(SHELLS)}")
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
        "Print a script that completes actions, options, and the ids of your jobs. It gets the ids "
        "from the server."
    ),
    examples=(
        ("source <(worker completion bash)", "in ~/.bashrc"),
        ("source <(worker completion zsh)", "in ~/.zshrc, after compinit"),
        ("worker completion fish | source", "in ~/.config/fish/config.fish"),
    ),
    completes=(SHELLS, ()),
)
