"""workerd as a service of systemd: installed as the README says, and looked at by root."""

import shlex
import signal
from pathlib import Path
from typing import Any

import pexpect
from support.waiting import wait_until
from vm.guest import readme, system

BIN = Path("/opt/worker/bin")
CONFIGURATION = Path("/etc/xdg/workerd")
STATE = Path("/var/lib/workerd")
PASSWORD = "correct horse"
USERS = ("alice", "bob")
PATIENCE = 60.0  # seconds for what takes a moment on a real machine


class Service:
    """A unit that runs workerd."""

    def __init__(self, unit: str = "workerd.service") -> None:
        self.unit = unit
        self.configuration = CONFIGURATION
        self.state_dir = STATE
        self.url = "https://localhost:8443"

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return system.systemctl("show", "--value", "-p", name, self.unit).strip()

    @property
    def pid(self) -> int:
        """The process id of workerd, 0 if it does not run."""
        return int(self.show("MainPID"))

    @property
    def restarts(self) -> int:
        """How often systemd has started it anew by itself."""
        return int(self.show("NRestarts"))

    @property
    def cgroup(self) -> Path:
        """The control group of the unit, also while it is stopped."""
        return system.CGROUPS / "system.slice" / self.unit

    def start(self) -> None:
        """Start it; returns once it is ready."""
        self._do("start")

    def restart(self) -> None:
        """Restart it; returns once it is ready."""
        self._do("restart")

    def stop(self) -> None:
        """Stop it; returns once workerd has ended."""
        self._do("stop")

    def _do(self, verb: str) -> None:
        said = system.systemctl(verb, self.unit, check=False)
        wanted = "inactive" if verb == "stop" else "active"
        assert self.show("ActiveState") == wanted, f"{said}\n{self.journal()}"

    def await_another(self, before: int, patience: float = PATIENCE) -> int:
        """Wait until systemd has replaced the workerd of pid `before`; return the new pid."""

        def another() -> int:
            pid = self.pid
            ready = self.show("ActiveState") == "active" and self.show("SubState") == "running"
            return pid if ready and pid not in (0, before) else 0

        return wait_until(another, patience, self.journal)

    def processes(self) -> list[int]:
        """Return all processes of the unit, jobs included, but not the supervisor's launchers."""
        pids = system.cgroup_pids(self.cgroup)
        return [pid for pid in pids if system.argv(pid)[:1] != ["worker: launcher of jobs"]]

    def supervisors(self) -> list[int]:
        """Return the supervisors of its state directory, in whatever group they are."""
        wanted = {"worker_core.supervisor", str(self.state_dir)}
        pids = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
        return [pid for pid in pids if wanted <= set(system.argv(pid))]

    @property
    def supervisor(self) -> int:
        """The process id of the one supervisor."""
        (pid,) = self.supervisors()
        return pid

    def replace_supervisor(self) -> None:
        """Kill the supervisor; return once workerd has started another."""
        before = self.supervisor
        system.kill(before, signal.SIGKILL)
        wait_until(lambda: self.supervisors() not in ([], [before]), PATIENCE, self.journal)

    def journal(self) -> str:
        """Return what it has logged and systemd about it in this boot."""
        return system.journal(self.unit, "-n", "200")

    def set(self, **settings: Any) -> None:
        """Change settings in workerd.toml, and restart. None takes one out."""
        file = self.configuration / "workerd.toml"
        lines = file.read_text().splitlines()
        lines = [each for each in lines if each.partition(" = ")[0] not in settings]
        new = [f"{name} = {value}" for name, value in settings.items() if value is not None]
        lines = new + lines  # before the first table
        file.write_text("\n".join(lines) + "\n")
        self.restart()


def install() -> None:
    """Do what the README says after the line that fetches the distributions, then add users."""
    for line in readme.set_up():
        _type(line)
    for name in USERS:
        command = [str(BIN / "workerd"), "user", "add", name, "--password-stdin", "--cost", "4"]
        system.run(*command, stdin=PASSWORD)


def give_accounts() -> None:
    """Do what the README says for each user to have an account; the accounts are there."""
    install_second, settings, start = readme.second_unit()
    _type(install_second)
    with (CONFIGURATION / "workerd.toml").open("a") as file:
        file.write(settings)
    _type(start)


def _type(line: str) -> None:
    """Type a line at a terminal, and the password wherever it is asked for."""
    questions = {"Password for .*: $": f"{PASSWORD}\n", "The same again: $": f"{PASSWORD}\n"}
    said, code = pexpect.run(
        f"/bin/sh -ec {shlex.quote(line)}", timeout=240, withexitstatus=True, events=questions
    )
    assert code == 0, f"{line}: {said.decode()}"
