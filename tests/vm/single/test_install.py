"""What an administrator has after following the README."""

import subprocess

from vm.guest import system
from vm.guest.api import User
from vm.guest.service import BIN, Service


def test_the_service_runs_as_its_own_account(service: Service) -> None:
    """A daemon that faces a network must not be root."""
    assert service.show("ActiveState") == "active"
    assert (
        system.status(service.pid, "Uid").split() == [system.run("id", "-u", "workerd").strip()] * 4
    )
    assert system.status(service.pid, "CapBnd") == "0" * 16
    assert system.status(service.pid, "NoNewPrivs") == "1"
    assert service.show("StatusText") == "listening on https://[::]:8443"


def test_it_is_started_at_boot(service: Service) -> None:
    """A server that is not there after a power cut is no server."""
    assert system.systemctl("is-enabled", service.unit).strip() == "enabled"


def test_settings_are_in_order(service: Service) -> None:
    """`workerd init` must not write what `workerd check` rejects.

    It warns of one thing: three users share the account of workerd here.
    """
    check = [str(BIN / "workerd"), "check"]
    check += [f"--config={service.configuration / 'workerd.toml'}"]
    check += [f"--state-dir={service.state_dir}"]
    said = system.run("runuser", "-u", "workerd", "--", *check)
    warning, note, verdict = said.splitlines()
    assert warning.startswith("workerd: warning: the jobs of all 3 users run as the account")
    assert note.startswith("a running workerd listens on ")
    assert verdict == "configuration OK"


def test_what_is_secret_is_readable_for_nobody_else(service: Service) -> None:
    """Whoever reads the key can be the server; whoever reads the state reads all output."""
    for name in ("server.key", "users"):
        assert (service.configuration / name).stat().st_mode & 0o007 == 0
    assert (service.configuration / "ca.key").stat().st_mode & 0o077 == 0
    assert service.state_dir.stat().st_mode & 0o077 == 0


def test_a_job_runs_as_the_service_without_more_rights(service: Service, alice: User) -> None:
    """A job that could get more rights than the service would own the machine."""
    job = alice.shell(
        "id -un; pwd; echo $HOME; grep -E '^(NoNewPrivs|CapEff|Seccomp):' /proc/self/status"
    )
    assert alice.ended(job)["exit_code"] == 0
    assert alice.out(job).decode().split() == [
        *("workerd", "/srv/worker", "/srv/worker"),
        *("CapEff:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"),
    ]


def test_the_command_line_works_as_init_says(worker: dict[str, str]) -> None:
    """The lines that init prints for a workstation are the first that a user types."""
    command = ["/opt/tests/bin/worker", "run", "--wait", "echo", "hello"]
    done = subprocess.run(command, env=worker, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
