"""Failing logins: who has to wait, what that tells, and what is known of a user's addresses."""

import http.client
import logging
import os
import random
import socket
import ssl
import stat
from base64 import b64encode

import bcrypt
import pytest
from support.daemon import Daemon
from support.waiting import wait_until
from worker_daemon.auth import htpasswd, known_addresses, throttle, verifier

HERE = "192.0.2.1"
ELSEWHERE = "198.51.100.9"
ALICE = b"alice"


class Clock:
    """Time that passes only when told to."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def file(tmp_path):
    """A users file with alice and bob."""
    return write(tmp_path / "users", alice=b"wonderland", bob=b"builder")


@pytest.fixture
def directory(tmp_path):
    """A state directory."""
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


def write(path, **passwords):
    """Write a users file."""
    path.touch(mode=0o600)
    for name, password in passwords.items():
        hashed = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
        with htpasswd.editing(path) as entries:
            entries[name] = hashed
    return path


def attack(users, name, addresses=200):
    """Fail at a name twice from each of many addresses."""
    for n in range(addresses):
        for _ in range(2):
            users.verify(name, b"guess", f"203.0.{n // 250}.{n % 250}")


def exhaust(users, address, name="somebody"):
    """Fail at an address until it has to wait."""
    while not users.verify(name, b"guess", address).retry_after:
        pass


def test_an_address_without_failures_may_always_try_once(file):
    """Whoever guesses a user's password from elsewhere could keep that user out for good."""
    known = verifier.Verifier(file, clock=Clock())
    attack(known, "alice")
    assert known.verify("alice", b"wonderland", HERE).accepted
    assert known.verify("alice", b"wonderlanD", ELSEWHERE) == verifier.Verdict(accepted=False)
    assert known.verify("alice", b"wonderlamb", ELSEWHERE).retry_after


def test_a_user_gets_in_at_a_known_address_whoever_fails_there(file):
    """A neighbour behind the same router could keep a user out for good."""
    clock = Clock()
    known = verifier.Verifier(file, clock=clock)
    assert known.verify("alice", b"wonderland", HERE).accepted
    clock.now += 7200  # the verified pair is forgotten
    exhaust(known, HERE)
    attack(known, "alice")
    assert known.verify("alice", b"wonderland", HERE).retry_after
    wait_until(lambda: known.verify("alice", b"wonderland", HERE).accepted)
    assert known.verify("bob", b"builder", HERE).retry_after
    assert not known._snapshot.in_background
    assert known.verify("bob", b"builder", HERE).retry_after


def test_a_known_address_does_not_buy_guesses(file, monkeypatch):
    """A neighbour could guess a user's password as fast as the machine hashes."""
    clock = Clock()
    known = verifier.Verifier(file, clock=clock)
    assert known.verify("alice", b"wonderland", HERE).accepted
    tried = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, _: bool(tried.append(password)))
    exhaust(known, HERE)
    tried.clear()
    for n in range(100):
        assert known.verify("alice", b"guess%d" % n, HERE).retry_after
        wait_until(lambda: not known._snapshot.in_background)
    assert len(tried) == 20


def test_what_runs_in_the_background_is_bounded(file, monkeypatch):
    """Requests that are told to wait would fill the machine with threads."""
    known = verifier.Verifier(file, clock=Clock())
    gate = verifier.threading.Event()
    assert known.verify("alice", b"wonderland", HERE).accepted
    exhaust(known, HERE)
    calls = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: calls.append(1) or not gate.wait(20))
    for n in range(50):
        assert known.verify("alice", b"guess%d" % (n % 25), HERE).retry_after
    assert len(known._snapshot.in_background) == verifier._BACKGROUND
    gate.set()
    wait_until(lambda: not known._snapshot.in_background)
    assert len(calls) == verifier._BACKGROUND


@pytest.mark.parametrize("seed", range(4))
def test_a_name_that_exists_is_throttled_like_one_that_does_not(file, seed):
    """Names could be guessed from one address, by who has to wait and for how long."""

    def answers(name):
        script, clock = random.Random(seed), Clock()
        known = verifier.Verifier(file, clock=clock)
        assert known.verify("alice", b"wonderland", HERE).accepted
        assert known.verify("alice", b"wonderland", ELSEWHERE).accepted
        clock.now += 7200
        for _ in range(200):
            clock.now += script.choice([0, 0, 0, 0, 1, 10, 60, 1000])
            address = script.choice([HERE, HERE, HERE, ELSEWHERE, f"203.0.113.{script.random()}"])
            asked = script.choice([name, name, "other", "bob"])
            guess = b"guess%d" % script.randrange(30)
            yield known.verify(asked, guess, address).retry_after

    assert [*answers("alice")] == [*answers("stranger")]


def test_a_right_password_is_a_success_also_in_the_background(file):
    """A user whose router is shared would count as somebody who guesses."""
    known = verifier.Verifier(file, clock=(clock := Clock()))
    for _ in range(22):
        clock.now += 3601
        assert known.verify("alice", b"wonderland", HERE).accepted
        clock.now += 3601
        exhaust(known, HERE)
        wait_until(lambda: known.verify("alice", b"wonderland", HERE).accepted)
        wait_until(lambda: not known._snapshot.in_background)
    assert not known._logins._by_home._records


# What is kept


def test_known_addresses_survive_a_restart(file, directory):
    """After a restart a user could be locked out at the usual address."""
    first = verifier.Verifier(file, known=known_addresses.KnownAddresses(directory))
    assert first.verify("alice", b"wonderland", HERE).accepted
    again = verifier.Verifier(file, known=known_addresses.KnownAddresses(directory), clock=Clock())
    exhaust(again, HERE)
    assert again.verify("alice", b"wonderland", HERE).retry_after
    wait_until(lambda: again.verify("alice", b"wonderland", HERE).accepted)


def test_the_files_say_neither_who_nor_from_where(directory, monkeypatch):
    """Whoever reads a backup would learn who logs in from which address."""
    old = os.umask(0)
    try:
        known = known_addresses.KnownAddresses(directory)
        known.add(ALICE, HERE)
        known.save()
    finally:
        os.umask(old)
    files = sorted(directory.iterdir())
    assert [path.name for path in files] == ["logins", "logins.key"]
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"alice" not in path.read_bytes()
        assert HERE.encode() not in path.read_bytes()
    other = known_addresses.KnownAddresses()
    monkeypatch.setattr(other, "_key", b"another")
    assert other._pair(ALICE, HERE) != known._pair(ALICE, HERE)


def test_a_file_is_private_from_its_first_moment(directory, monkeypatch):
    """Another account could open the key before its mode is set."""
    modes, real = [], os.open

    def opened(path, flags, mode=0o777, **kwargs):
        if flags & os.O_CREAT:
            modes.append(mode)
        return real(path, flags, mode, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    known = known_addresses.KnownAddresses(directory)
    known.add(ALICE, HERE)
    known.save()
    assert modes == [0o600, 0o600]


def test_what_is_known_already_is_not_written_again(directory):
    """Each login would wait for the disk."""
    known = known_addresses.KnownAddresses(directory)
    known.add(ALICE, HERE)
    known.save()
    (directory / "logins").unlink()
    known.add(ALICE, HERE)
    known.save()
    assert not (directory / "logins").exists()


def test_the_store_is_bounded(directory, monkeypatch):
    """The memory and the file would grow for ever, or one user push out all others."""
    monkeypatch.setattr(known_addresses, "_KEPT", 50)
    monkeypatch.setattr(known_addresses, "_KEPT_OF_USER", 10)
    known = known_addresses.KnownAddresses(directory)
    known.add(ALICE, HERE)
    for n in range(100):
        known.add(b"mallory", f"203.0.113.{n}")
    assert known.knows(ALICE, HERE)
    assert sum(known.knows(b"mallory", f"203.0.113.{n}") for n in range(100)) == 10
    assert known.knows(b"mallory", "203.0.113.99")
    for n in range(200):
        known.add(b"user%d" % n, ELSEWHERE)
    known.save()
    lines = (directory / "logins").read_bytes().splitlines()
    assert len(lines) == len(known._users) == 50
    again = known_addresses.KnownAddresses(directory)
    assert again._users == known._users
    assert again._counts == known._counts


def damage(directory, what):
    """Damage what is stored."""
    key, lines = directory / "logins.key", directory / "logins"
    match what:
        case "lines":
            lines.write_bytes(b"\xff" * 100 + b"\n" + lines.read_bytes()[:-9])
        case "a line among others":
            lines.write_bytes(b"garbage\n" + lines.read_bytes())
        case "empty":
            lines.write_bytes(b"")
            key.write_bytes(b"")
        case "key":
            key.write_bytes(b"short")
        case "no key":
            key.unlink()
        case "open to others":
            key.chmod(0o644)
        case "a directory":
            lines.unlink()
            lines.mkdir()
        case "a FIFO":
            key.unlink()
            os.mkfifo(key, 0o600)
        case "a link":
            key.unlink()
            key.symlink_to("/dev/zero")
        case "huge":
            with lines.open("ab") as file:
                file.truncate(1 << 30)


DAMAGES = {
    "lines": False,
    "a line among others": True,
    "empty": False,
    "key": False,
    "no key": False,
    "open to others": False,
    "a directory": False,
    "a FIFO": False,
    "a link": False,
    "huge": True,
}


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_damaged_keeps_nobody_out(file, directory, caplog, what):
    """A damaged file would stop the start, or somebody from logging in."""
    known = known_addresses.KnownAddresses(directory)
    known.add(ALICE, HERE)
    known.save()
    damage(directory, what)
    known = known_addresses.KnownAddresses(directory)
    assert known.knows(ALICE, HERE) is DAMAGES[what]
    if what not in ("empty", "no key"):
        assert str(directory) in caplog.text
    users = verifier.Verifier(file, known=known)
    assert users.verify("bob", b"builder", ELSEWHERE).accepted
    assert users.verify("alice", b"wonderland", HERE).accepted
    if what != "a directory":
        again = known_addresses.KnownAddresses(directory)
        assert again.knows(ALICE, HERE)
        assert again.knows(b"bob", ELSEWHERE)


def test_every_address_of_a_user_is_known(file, directory):
    """A user who works at two places within an hour could be locked out at one of them."""
    users = verifier.Verifier(file, known=known_addresses.KnownAddresses(directory))
    for address in (HERE, ELSEWHERE, HERE):
        assert users.verify("alice", b"wonderland", address).accepted
    again = known_addresses.KnownAddresses(directory)
    assert again.knows(ALICE, HERE)
    assert again.knows(ALICE, ELSEWHERE)
    assert len((directory / "logins").read_bytes().splitlines()) == 2


def test_a_file_that_cannot_be_written_keeps_nobody_out(file, directory, caplog):
    """On a full disk nobody could log in, or each login would add a line to the log."""
    directory.rmdir()
    directory.touch()  # so that not even root can write into it
    users = verifier.Verifier(file, known=known_addresses.KnownAddresses(directory))
    with caplog.at_level(logging.WARNING):
        for name, password in (("alice", b"wonderland"), ("bob", b"builder")):
            assert users.verify(name, password, HERE).accepted
    assert (
        caplog.text.count(
            f"cannot store in {directory} the addresses from which users log in: Not a dir"
        )
        == 1
    )
    directory.unlink()
    directory.mkdir()
    assert users.verify("bob", b"builder", ELSEWHERE).accepted
    again = known_addresses.KnownAddresses(directory)
    assert again.knows(ALICE, HERE)
    assert again.knows(b"bob", HERE)


def test_addresses_of_ipv6_are_known_by_their_network():
    """A laptop whose address changes each day would be a stranger each day."""
    logins = throttle.Logins()
    logins.begin(ALICE, "2001:db8:1:2::1", 0.0).succeed()
    assert logins.begin_in_background(ALICE, "2001:db8:1:2::9", 0.0)
    assert logins.begin_in_background(ALICE, "2001:db8:1:3::1", 0.0) is None


# The daemon


def ask(daemon, name, password, address):
    """Send a request from an address of loopback; return its status."""
    trust = ssl.create_default_context(cafile=daemon.ca)
    with socket.create_connection(("127.0.0.1", daemon.port), 30, (address, 0)) as plain:
        connection = http.client.HTTPSConnection("localhost", context=trust)
        connection.sock = trust.wrap_socket(plain, server_hostname="localhost")
        pair = b64encode(f"{name}:{password}".encode()).decode()
        connection.request("GET", "/whoami", headers={"Authorization": f"Basic {pair}"})
        status = connection.getresponse().status
        connection.close()
        return status


def test_a_daemon_knows_the_addresses_of_its_users_after_a_restart(tmp_path):
    """Addresses that fail at a user's name would lock that user out after each restart."""
    usual, shared = "127.0.0.9", "127.0.0.10"
    with Daemon(tmp_path) as daemon:
        who = daemon.user, daemon.password
        assert [ask(daemon, *who, each) for each in (usual, shared)] == [200, 200]
        daemon.restart()
        for n in range(50):
            assert ask(daemon, daemon.user, "guess", f"127.0.1.{n}") == 401
        assert ask(daemon, *who, usual) == 200
        daemon.restart()
        while ask(daemon, "nobody", "guess", shared) == 401:
            pass
        assert ask(daemon, daemon.user, "guess", shared) == 429
        assert ask(daemon, *who, shared) == 429
        wait_until(lambda: ask(daemon, *who, shared) == 200)
        daemon.stop()
        (daemon.state_dir / "logins").write_bytes(b"\0" * 5000)
        (daemon.state_dir / "logins.key").write_bytes(b"\0" * 5)
        daemon.start()
        assert ask(daemon, *who, usual) == 200
        assert "logins.key is damaged" in daemon.log()
