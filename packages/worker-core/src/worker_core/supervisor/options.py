"""The command line of the supervisor."""

from __future__ import annotations

import argparse
import pwd


def parse() -> argparse.Namespace:
    """Return the options of this process."""
    parser = argparse.ArgumentParser(prog="python -m worker_core.supervisor")
    parser.add_argument("state_dir")
    parser.add_argument("--ephemeral", action="store_true", help="end with the engine")
    parser.add_argument("--foreground", action="store_true", help="be a service")
    parser.add_argument("--engine", type=_account, help="the account that the engine runs as")
    parser.add_argument(
        "--accounts",
        default="",
        metavar="NAME[,NAME...]|/FILE",
        help="the other accounts that jobs may run as, or a file of root's with one on each line",
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="where root keeps what it must know of running jobs (with --engine)",
    )
    parser.add_argument("--root-jobs", action="store_true", help="let that engine run jobs as root")
    parser.add_argument("--open-files", type=int, help="soft limit that jobs inherit")
    parser.add_argument("--allow-new-privileges", action="store_true", help="let jobs use sudo")
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no account {name}") from None
