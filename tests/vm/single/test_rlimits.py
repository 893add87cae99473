"""Limits that need no controller, on every system."""

from vm.guest.api import User

OPEN = "import itertools\nkept = []\nfor at in itertools.count(3):\n kept.append(open('/dev/null'))"


def test_open_files(alice: User) -> None:
    """One job could use up the files of the machine."""
    job = alice.run("python3", "-c", OPEN, limits={"open_files": 50})
    assert alice.ended(job)["exit_code"] == 1
    assert b"Too many open files" in alice.out(job)
    assert alice.record(job)["enforced"] == {"open_files": "rlimit"}


def test_file_size(alice: User) -> None:
    """One job could fill the disk with a single file."""
    limits = {"file_size": 1 << 20}
    job = alice.shell("exec dd if=/dev/zero of=$HOME/big bs=64k count=64", limits=limits)
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("failed", 25)
    assert "SIGXFSZ" in end["reason"]
    assert alice.record(job)["enforced"] == {"file_size": "rlimit"}
    size = alice.shell("stat -c %s $HOME/big")
    alice.ended(size)
    assert alice.out(size) == b"%d\n" % (1 << 20)


def test_cpu_time(alice: User) -> None:
    """A job that turns in circles would do so for ever."""
    job = alice.shell("while :; do :; done", limits={"cpu_time": 1})
    end = alice.ended(job)
    assert (end["status"], end["signal"]) == ("failed", 24)
    assert "SIGXCPU" in end["reason"]
    assert 0.9 < end["usage"]["user_seconds"] + end["usage"]["system_seconds"] < 2.5
    assert alice.record(job)["enforced"] == {"cpu_time": "rlimit"}
