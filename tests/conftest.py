"""Rules for every test run."""

import os
import signal

import hypothesis
import pytest

# How long an example takes says something about the machine, not about the product.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# A run in the background of a script, or below nohup, starts with these ignored, and so would
# everything that is tested: no Ctrl-C would reach it.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# Why a test may be skipped, everywhere and in one place: each entry is the beginning of a
# reason as pytest prints it. In CI ($CI is set) a skip for any other reason fails the run,
# because a test that quietly does not run protects nobody.
ALLOWED_SKIPS: tuple[str, ...] = (
    "needs nginx",  # stands in front of the server; .ci/run installs it
    "needs root",  # runs jobs as other accounts; CI is root
    "needs Linux 6.15",  # the exit status of an adopted job; Debian 12 and Ubuntu 24.04 are older
    "needs control groups",  # a container may have no cgroup2 that it can write
    "needs FUSE",  # a file system that hangs; .ci/run installs it, a container may lack /dev/fuse
)

_unlisted: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each skip whose reason is not in ALLOWED_SKIPS."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _note_skip(report.nodeid, report.longrepr)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a whole module that skipped itself."""
    if report.skipped:
        _note_skip(report.nodeid, report.longrepr)


def _note_skip(nodeid: str, longrepr: object) -> None:
    reason = str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(ALLOWED_SKIPS):
        _unlisted.append(f"{nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn a run with unlisted skips into a failed one in CI."""
    if _unlisted and os.environ.get("CI") and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which skips have no listed reason, wherever the tests run."""
    if _unlisted:
        terminalreporter.section("skipped without a reason listed in tests/conftest.py")
        for line in _unlisted:
            terminalreporter.line(line)
