"""A virtual machine: a disk of its own that lasts over boots, and one qemu at a time."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from vm.host.disk import Disk
from vm.host.wheels import ROOT

QEMU = "qemu-system-x86_64"
SILENCE = 300.0  # seconds without a result after which the machine counts as stuck
LIFETIME = 1800.0  # seconds that a boot may last


class MachineError(Exception):
    """The machine did not do what it was started for; the text has the end of its console."""


class Machine:
    """A computer that keeps what is written to its disk when it is booted again."""

    def __init__(self, disk: Disk, wheels: Path, directory: Path) -> None:
        """Give it a copy of `disk` and, at each boot, of `wheels`; all is kept in `directory`."""
        if shutil.which(QEMU) is None:
            pytest.exit(f"there is no {QEMU}; `apt-get install qemu-system-x86`")
        self._disk = disk
        self._wheels = wheels
        self._directory = directory
        self._image = directory / "disk"
        self._console = directory / "console"
        copy = ["cp", "--sparse=always", "--reflink=auto", disk.image, self._image]
        subprocess.run(copy, check=True)

    def boot(self, plan: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Boot, have `plan` carried out, and yield each message of the agent until it is down.

        Raises MachineError when it is silent for too long or goes down before it says so. Closing
        the iterator ends the machine.
        """
        command = self._command(_payload(self._directory, plan, self._wheels))
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe) as qemu:
            try:
                yield from self._messages(qemu)
            finally:
                qemu.kill()

    def console(self) -> str:
        """Return the end of what the kernel and systemd had to say."""
        text = self._console.read_text("utf-8", "replace") if self._console.exists() else ""
        return "\n".join(text.splitlines()[-60:])

    def _command(self, payload: Path) -> list[str]:
        drive = "if=virtio,format=raw"
        # Nothing is lost when only the machine loses its power: qemu's writes are the host's.
        return [
            *(QEMU, "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-net", "none"),
            *("-kernel", str(self._disk.kernel), "-initrd", str(self._disk.initrd)),
            *("-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 mitigations=off"),
            *("-drive", f"file={self._image},{drive},cache=unsafe"),
            *("-drive", f"file={payload},{drive},readonly=on"),
            *("-serial", f"file:{self._console}", "-serial", "stdio"),
        ]

    def _messages(self, qemu: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
        done = False
        for line in self._lines(qemu):
            message: dict[str, Any] = json.loads(line)
            if "failed" in message:
                raise MachineError(f"{message['failed']}\n{self.console()}")
            done = done or "done" in message
            yield message
        if not done:
            raise MachineError(
                f"the machine went down before its tests had ended\n{self.console()}"
            )

    def _lines(self, qemu: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert qemu.stdout is not None
        end, data = time.monotonic() + LIFETIME, b""
        while True:
            patience = min(SILENCE, end - time.monotonic())
            ready, _, _ = select.select([qemu.stdout], [], [], max(patience, 0))
            if not ready:
                raise MachineError(f"the machine said nothing for too long\n{self.console()}")
            more = os.read(qemu.stdout.fileno(), 1 << 16)
            if not more:
                return
            *lines, data = (data + more).split(b"\n")
            yield from (line for line in lines if line.strip())


def _payload(directory: Path, plan: dict[str, Any], wheels: Path) -> Path:
    """Make the second disk: tests, wheels of the next version, and what there is to do."""
    inside = directory / "payload"
    shutil.rmtree(inside, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "host")
    shutil.copytree(ROOT / "tests" / "vm", inside / "tests" / "vm", ignore=ignored)
    shutil.copytree(wheels, inside / "wheels")
    (inside / "tests" / "vm" / "conftest.py").unlink()  # the outer side's
    for name in (
        "pyproject.toml",
        "tests/support/__init__.py",
        "tests/support/waiting.py",
        "packages/worker-daemon/README.md",
    ):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, inside / name)
    (inside / "plan.json").write_text(json.dumps(plan))
    image = directory / "payload.image"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", inside, image], check=True)
    return image
