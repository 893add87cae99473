"""`python -m benchmarks [FIGURE ...]`: measure, and print a table.

The exit code is 0 when everything that was asked for could be measured and met its target, and 1
when not; a baseline whose tool is missing is only named.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import figures, report, tools
from benchmarks.bench import Bench
from benchmarks.rows import Row


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the arguments name."""
    options = _parser().parse_args(argv)
    if options.list:
        for name in figures.NAMES:
            print(f"{name:10} {_title(name)}")
        return 0
    machine = report.machine()
    _say(report.sentence(machine))
    if machine["load_before"] > machine["cores"] / 2:
        _say("the machine is busy with something else: expect the ratios to be rough")
    found, missing, failed = _measure(options.figure or figures.NAMES, options)
    rows = [row for some in found.values() for row in some]
    if rows:
        print(report.table(rows))
    for each in missing:
        print(f"not measured: {each}")
    if options.json is not None:
        json.dump(report.document(found, missing, machine), options.json, indent=1)
        options.json.write("\n")
        _say(f"everything, with the values of each round, is in {options.json.name}")
    return 1 if failed or any(row.met is False for row in rows) else 0


def _measure(
    names: Sequence[str], options: argparse.Namespace
) -> tuple[dict[str, list[Row]], list[str], bool]:
    """Measure figures one after the other; return them, what was missing, and if any failed."""
    found: dict[str, list[Row]] = {}
    missing: list[str] = []
    failed = False
    # Removed at the end only: ext4 creates files slowly for minutes after many were removed.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as directory:
        for name in names:
            begun = time.monotonic()
            bench = Bench(Path(directory) / name, options.quick)
            try:
                bench.directory.mkdir()
                found[name] = _module(name).measure(bench)
            except tools.MissingToolError as error:
                bench.missing.append(str(error))
            except Exception:  # noqa: BLE001  # the other figures are worth something all the same
                failed = True
                traceback.print_exc()
            missing += [f"{name}: {each}" for each in bench.missing]
            _say(f"{name}: {time.monotonic() - begun:.1f} s")
    return found, missing, failed


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.figures.{name}")


def _title(name: str) -> str:
    return str(_module(name).__doc__).partition("\n")[0]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _figure(name: str) -> str:
    if name not in figures.NAMES:
        raise argparse.ArgumentTypeError(f"there is no {name!r}, but {', '.join(figures.NAMES)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure how fast worker is, beside what it could be compared with.",
    )
    names = f"which figures (default: all): {', '.join(figures.NAMES)}"
    parser.add_argument("figure", nargs="*", type=_figure, help=names)
    parser.add_argument("--quick", action="store_true", help="few and short rounds: under 2 min")
    parser.add_argument("--list", action="store_true", help="say which figures there are")
    parser.add_argument(
        "--json", type=argparse.FileType("w"), metavar="FILE", help="write everything there"
    )
    parser.add_argument(
        "--directory",
        default="/var/tmp",
        help="where state directories are made, on a real disk (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
