"""Runs the tests of this folder in a virtual machine and reports them here, one by one.

They are collected as everywhere; but instead of being called, each is run by pytest inside the
machine, and what that pytest reports is reported here.
"""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from vm.guest import boots, marks
from vm.host import cache, disk, machine, root, wheels

HERE = Path(__file__).parent
Messages = Generator[dict[str, Any], None, None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller choose the Debian in the machine."""
    parser.addoption("--suite", choices=list(root.SUITES), default="bookworm")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known, and be there for the tests of this folder."""
    marks.register(config)
    config.pluginmanager.register(_Outside(config), "worker-vm")


class _Outside:
    """One machine for each folder with tests, and one boot after another in it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._suite: str = config.getoption("--suite")
        self._stack = contextlib.ExitStack()
        self._plans: dict[str, dict[str, list[str]]] = {}
        self._machine: machine.Machine | None = None
        self._at: tuple[str, str] | None = None  # the folder and the boot that is under way
        self._messages: Messages = _nothing()
        self._fault: str | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort by machine and boot, and leave out what is for another suite."""
        foreign = [each for each in items if _ours(each) and self._suite not in _suites(each)]
        if foreign:
            self._config.hook.pytest_deselected(items=foreign)
            items[:] = [each for each in items if each not in foreign]
        items.sort(key=lambda item: _place(item) if _ours(item) else ("", 0, False))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what each boot has to run."""
        plans: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for item in filter(_ours, session.items):
            plans[_folder(item)][marks.boot(item)].append(item.nodeid)
        self._plans = plans

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Report what became of a test in the machine, instead of running it."""
        if not _ours(item):
            return False
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        """End the machine that is still up, also after Ctrl-C or with -x."""
        self._messages.close()
        self._stack.close()

    def _reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        try:
            self._reach(_folder(item), marks.boot(item))
            for message in self._messages:
                if "report" not in message:
                    continue
                report = self._config.hook.pytest_report_from_serializable(
                    config=self._config, data=message["report"]
                )
                assert report.nodeid == item.nodeid
                yield report
                if report.when == "teardown":
                    return
            raise machine.MachineError("the machine ended without a word about this test")
        except machine.MachineError as error:
            self._fault = str(error)
            yield _failed(item, self._fault)

    def _reach(self, folder: str, boot: str) -> None:
        """Have the machine of a folder be in a boot, going through the boots before it."""
        if self._at == (folder, boot):
            if self._fault:
                raise machine.MachineError("the machine failed before, see above")
            return
        self._finish()
        if self._at is None or self._at[0] != folder:
            self._machine = self._new_machine()
            passed = 0
        else:
            passed = boots.order(self._at[1]) + 1
        for each in list(boots.BOOTS)[passed : boots.order(boot) + 1]:
            self._finish()
            self._start(folder, each)

    def _new_machine(self) -> machine.Machine:
        self._stack.close()
        self._stack.enter_context(cache.locked())
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="worker-vm-"))
        made = disk.disk(self._suite)
        return machine.Machine(made, wheels.product() / "next", Path(directory))

    def _start(self, folder: str, boot: str) -> None:
        assert self._machine is not None
        self._at, self._fault = (folder, boot), None
        later = {name for name in self._plans[folder] if boots.order(name) > boots.order(boot)}
        then = boots.BOOTS[boot] if later else "power off"
        plan = {"tests": self._plans[folder][boot], "then": then}
        self._messages = self._machine.boot(plan)

    def _finish(self) -> None:
        """Wait until the boot that is under way has ended."""
        for _ in self._messages:
            pass
        self._messages = _nothing()


def _nothing() -> Messages:
    yield from ()


def _ours(item: pytest.Item) -> bool:
    return HERE in item.path.parents


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


def _suites(item: pytest.Item) -> tuple[str, ...]:
    mark = item.get_closest_marker("suite")
    return tuple(root.SUITES) if mark is None else mark.args


def _place(item: pytest.Item) -> tuple[str, int, bool]:
    return _folder(item), boots.order(marks.boot(item)), marks.last(item)


def _failed(item: pytest.Item, text: str) -> pytest.TestReport:
    return pytest.TestReport(
        item.nodeid, item.location, {}, "failed", text, "setup", [("machine", text)]
    )
