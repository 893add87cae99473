"""The rules that every test run keeps, from conftest.py and support."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import wait_until

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def run_pytest(
    directory: Path, source: str, *options: str, ci: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest over one file with the conftest.py of this project."""
    shutil.copy(CONFTEST, directory)
    (directory / "test_sample.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", directory, directory, *options],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )


SKIPS = """
import pytest
def test_runs(): pass
@pytest.mark.skip(reason="moon in the wrong phase")
def test_skips(): pass
"""
SKIPS_ALL = """
import pytest
pytest.skip("moon in the wrong phase", allow_module_level=True)
"""


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_skip_without_a_listed_reason_fails_in_ci(tmp_path: Path, options: list[str]) -> None:
    """A test that quietly stops running would be missed by nobody."""
    done = run_pytest(tmp_path, SKIPS, *options, ci="1")
    assert done.returncode == 1
    assert "test_sample.py::test_skips: moon in the wrong phase" in done.stdout


def test_such_a_skip_is_shown_but_passes_elsewhere(tmp_path: Path) -> None:
    """Somebody without the means for one test could not run the others."""
    done = run_pytest(tmp_path, SKIPS, ci="")
    assert done.returncode == 0
    assert "test_sample.py::test_skips: moon in the wrong phase" in done.stdout


def test_a_module_that_skips_itself_fails_in_ci(tmp_path: Path) -> None:
    """A whole file of tests may vanish behind one missing import."""
    done = run_pytest(tmp_path, SKIPS_ALL, ci="1")
    assert done.returncode != 0
    assert "test_sample.py: moon in the wrong phase" in done.stdout


def test_waiting_returns_the_value_that_was_waited_for() -> None:
    """Every test that waits goes on with what it found."""
    values = iter([0, "", "found"])
    assert wait_until(lambda: next(values)) == "found"


def test_waiting_in_vain_says_what_for() -> None:
    """A failed wait without a word costs somebody an hour."""
    with pytest.raises(AssertionError, match=r"not within 0 s: the moon"):
        wait_until(lambda: False, 0, lambda: "the moon")


def test_no_signal_is_ignored_because_the_run_is_in_the_background(tmp_path: Path) -> None:
    """A gate in the background of a script would fail where Ctrl-C is tested, and nowhere else."""
    source = """
import signal
def test_signals():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
"""
    (tmp_path / "test_sample.py").write_text(source)
    shutil.copy(CONFTEST, tmp_path)
    ignoring = 'trap "" INT QUIT HUP; exec "$@"'
    words = [sys.executable, "-m", "pytest", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(
        ["sh", "-c", ignoring, "sh", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
