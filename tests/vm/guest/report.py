"""A pytest plugin that sends each report out of the machine, one line of JSON each."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from vm.guest import marks, system


class Reporter:
    """Runs the tests in the order of the plan and writes what came of them to a serial port."""

    def __init__(self, port: str, tests: list[str]) -> None:
        self._port = open(port, "w")  # noqa: SIM115  # open until the machine is down
        self._order = {name: at for at, name in enumerate(tests)}
        self._config: pytest.Config | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        """Make the marks known."""
        self._config = config
        marks.register(config)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the order of the outer side."""
        items.sort(key=lambda item: self._order[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        """Add what the services had logged to a report of a failure."""
        report: Any = yield
        if report.failed:
            report.sections.append(("end of the journal", system.journal_tail()))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send a report."""
        assert self._config is not None
        hook = self._config.hook
        data = hook.pytest_report_to_serializable(config=self._config, report=report)
        self._port.write(json.dumps({"report": data}) + "\n")
        self._port.flush()
