"""Build the distributions, check them, install the wheels alone, and run the demo with them.

    python tests/system/build_and_install.py DIRECTORY

For each distribution it makes an sdist, and a wheel from that sdist, in DIRECTORY. A file that is
missing in the sdist is therefore missing in the wheel. The wheels are installed into a new
environment that does not see the tree. Needs `build` and `twine`. Exit code 0 means that every
step succeeded.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {f"worker-{name}": f"worker_{name}" for name in ("core", "daemon", "cli")}


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command; end with its exit code if it fails."""
    print("+", *command, flush=True)
    result = subprocess.run(command, cwd=cwd, check=False)
    if result.returncode:
        sys.exit(result.returncode)


def build(directory: Path) -> list[Path]:
    """Build and check every distribution; return the wheels."""
    for name in PACKAGES:
        run(
            sys.executable, "-m", "build", "--outdir", directory, ROOT / "packages" / name, cwd=ROOT
        )
    files = sorted(directory.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=ROOT)
    wheels = [file for file in files if file.suffix == ".whl"]
    if len(wheels) != len(PACKAGES):
        sys.exit(f"expected a wheel of each distribution, found {[each.name for each in wheels]}")
    for wheel in wheels:
        check_content(wheel)
    return wheels


def check_content(wheel: Path) -> None:
    """End with a message unless a wheel has its license, type marker and every module."""
    module = wheel.name.partition("-")[0]
    source = ROOT / "packages" / module.replace("_", "-") / "src"
    expected = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    expected.add(f"{module}/py.typed")
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = sorted(expected - names)
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        missing.append("LICENSE")
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}")


def install(wheels: list[Path], directory: Path) -> Path:
    """Install the wheels into a new environment; return the directory of its commands."""
    environment = directory / "environment"
    venv.create(environment, with_pip=True)
    scripts = environment / "bin"
    run(scripts / "python", "-m", "pip", "install", "-q", *wheels, cwd=directory)
    importer = ROOT / "tests" / "support" / "import_all.py"
    run(scripts / "python", importer, *PACKAGES.values(), cwd=directory)
    return scripts


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the distributions and try the wheels.")
    parser.add_argument("directory", type=Path, help="gets dist/ and environment/")
    directory = parser.parse_args().directory.resolve()
    for name in ("dist", "environment"):
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / "dist").mkdir(parents=True)
    scripts = install(build(directory / "dist"), directory)
    run(sys.executable, ROOT / "tests/system/demo.py", "--bin", scripts, cwd=directory)


if __name__ == "__main__":
    main()
