"""The files of a small Debian with systemd, made by debootstrap: a minute or two, once only."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from vm.host import cache

SUITES = {  # the versions of Python and glibc in each, to find wheels for it
    "bookworm": ("3.11", (2, 36)),  # systemd 252: no DelegateSubgroup=, and so no limits by cgroup
    "trixie": ("3.13", (2, 41)),  # systemd 257
}
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "procps",
    "python3",
    "python3-venv",
    "linux-image-cloud-amd64",
)
FILES = {
    "etc/hostname": "server\n",
    "etc/hosts": "127.0.0.1 localhost server\n::1 localhost\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    # So that the journal of the boot before is there to be looked at.
    "etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\n",
    "etc/systemd/system/vm-tests.service": """\
[Unit]
Description=run the tests that came on the second disk
After=multi-user.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStartPre=/bin/mount -o ro /dev/vdb /payload
ExecStart=/opt/tests/bin/python /payload/tests/vm/guest/agent.py
StandardOutput=journal+console
StandardError=journal+console
TimeoutStopSec=5
""",
}
# Work of Debian's own that would compete with the tests for an emulated processor.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "serial-getty@ttyS0.service",
    "systemd-networkd.service",
)


def root(suite: str) -> Path:
    """Return the directory that holds the root file system of a suite."""
    recipe = cache.key(Path(__file__).read_bytes())
    return cache.made(f"root-{suite}", recipe, lambda directory: _make(directory, suite))


def _make(directory: Path, suite: str) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.exit(
            "cannot make a Debian for the virtual machine: that takes root and debootstrap; "
            "run `apt-get install debootstrap`, and tox as root"
        )
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    log = directory / "debootstrap.log"
    with log.open("wb") as file:
        done = subprocess.run(
            [*command, suite, directory, MIRROR], stdout=file, stderr=file, check=False
        )
    if done.returncode:
        pytest.exit(f"debootstrap failed:\n{log.read_text()[-2000:]}")
    log.unlink()
    _configure(directory)


def _configure(directory: Path) -> None:
    for name, text in FILES.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (directory / "payload").mkdir()
    units = directory / "etc/systemd/system"
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "vm-tests.service").symlink_to("../vm-tests.service")
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    shutil.rmtree(directory / "var/cache/apt/archives", ignore_errors=True)
