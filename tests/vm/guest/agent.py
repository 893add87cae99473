"""Started in the machine once it is up: runs the tests of the plan, tells, and ends the boot."""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

PAYLOAD = Path(__file__).resolve().parents[3]
PORT = "/dev/ttyS1"


def main() -> None:
    """Carry out the plan, whatever happens."""
    subprocess.run(["stty", "-F", PORT, "raw", "-echo"], check=True)
    plan = json.loads((PAYLOAD / "plan.json").read_text())
    try:
        _run(plan["tests"])
        _tell({"done": True})
    except BaseException:  # noqa: BLE001  # the outer side is told, and nobody else is there
        _tell({"failed": traceback.format_exc()})
    _end(plan["then"])


def _tell(message: dict[str, object]) -> None:
    with open(PORT, "w") as port:
        port.write(json.dumps(message) + "\n")


def _run(tests: list[str]) -> None:
    if not tests:
        return
    os.chdir(PAYLOAD)
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1", LANG="C.UTF-8")
    sys.path.insert(0, str(PAYLOAD / "tests"))
    import pytest
    from vm.guest import fixtures, report

    plugins = [report.Reporter(PORT, tests), fixtures]
    code = pytest.main(["-p", "no:cacheprovider", *tests], plugins=plugins)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {code!r}; see the console")


def _end(how: str) -> None:
    """End this boot; qemu ends with it."""
    if how == "power cut":
        Path("/proc/sys/kernel/sysrq").write_text("1")
        Path("/proc/sysrq-trigger").write_text("b")
    verb = {"reboot": "reboot", "power off": "poweroff"}[how]
    subprocess.run(["systemctl", "--no-block", verb], check=True)


if __name__ == "__main__":
    main()
