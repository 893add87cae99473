"""The demo of the README, played with the distributions that are installed here."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).with_name("demo.py")
SCRIPTS = Path(sys.executable).parent


def play(scripts: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo with the commands in `scripts`."""
    with playing(scripts, temporary) as demo:
        try:
            out, err = demo.communicate(timeout=180)
        finally:
            demo.kill()  # if it still runs
    return subprocess.CompletedProcess(demo.args, demo.returncode, out, err)


def playing(scripts: Path, temporary: Path) -> subprocess.Popen[str]:
    """Start the demo with the commands in `scripts`."""
    return subprocess.Popen(
        [sys.executable, DEMO, "--bin", scripts],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Return where the demo keeps what it needs, to see what it leaves there."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    return directory


def left(temporary: Path) -> list[str]:
    """Return the command lines that still name the directory of the demo."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(file.read_text(errors="replace").replace("\0", " "))
    return [line for line in found if str(temporary) in line]


def test_the_demo_shows_what_it_promises(temporary: Path) -> None:
    """It is the first thing that a new user runs."""
    done = play(SCRIPTS, temporary)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.splitlines()
    assert "  $ worker run echo hello" in shown
    assert "  hello" in shown
    assert "echi: command not found" in done.stdout
    assert shown[-2] == "All of it was as it has to be."
    assert not list(temporary.iterdir())
    assert not left(temporary)


def test_who_has_seen_enough_may_leave(tmp_path: Path, temporary: Path) -> None:
    """Below `head`, the first thing that a new user sees of worker would be a traceback."""
    scripts, gate = tmp_path / "bin", tmp_path / "gate"
    scripts.mkdir()
    shutil.copy(SCRIPTS / "workerd", scripts)
    os.mkfifo(gate)
    # The client waits at the gate, so that the reader has gone before the next line is written.
    (scripts / "worker").write_text(f'#!/bin/sh\nread _ <{gate}\nexec {SCRIPTS / "worker"} "$@"\n')
    (scripts / "worker").chmod(0o755)
    with gate.open("r+b", buffering=0) as gate_keeper, playing(scripts, temporary) as demo:
        assert demo.stdout
        assert demo.stderr
        while "listening on" not in (line := demo.stdout.readline()):
            assert line, demo.stderr.read()
        demo.stdout.close()
        gate_keeper.write(b"\n")
        assert demo.stderr.read() == ""
        assert demo.wait(180) == 141
    assert not list(temporary.iterdir())
    assert not left(temporary)


def test_a_difference_is_told_and_all_is_tidied_up(tmp_path: Path, temporary: Path) -> None:
    """A demo that ends well whatever happens shows nothing; one that fails must not litter."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    shutil.copy(SCRIPTS / "workerd", scripts)
    real = SCRIPTS / "worker"
    liar = f'#!/bin/sh\n[ "$1" = out ] && echo goodbye && exit\nexec {real} "$@"\n'
    (scripts / "worker").write_text(liar)
    (scripts / "worker").chmod(0o755)
    done = play(scripts, temporary)
    assert done.returncode == 1
    assert (
        "The demo found a difference: the output is 'goodbye\\n' and not 'hello\\n'" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert not list(temporary.iterdir())
    assert not left(temporary)
