"""Passwords: who is let in, who waits, and what a login costs."""

import concurrent.futures
import os
import threading

import bcrypt
import pytest
from support.waiting import wait_until
from worker_daemon import errors
from worker_daemon.auth import htpasswd, throttle, verifier

HERE = "192.0.2.1"
ELSEWHERE = "198.51.100.9"


class Clock:
    """Time that passes only when told to."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def file(tmp_path):
    """A users file with alice and bob."""
    path = tmp_path / "users"
    write(path, alice=b"wonderland", bob=b"builder")
    return path


def write(path, cost=4, **passwords):
    """Replace the file the way htpasswd and editors do: a new one is moved over the old."""
    lines = (
        b"%s:%s\n" % (name.encode(), bcrypt.hashpw(password, bcrypt.gensalt(cost)))
        for name, password in passwords.items()
    )
    new = path.with_name("new")
    new.touch(mode=0o600)
    new.write_bytes(b"".join(lines))
    new.replace(path)


@pytest.fixture
def slow(monkeypatch):
    """Count verifications, and hold them until `open` is set."""
    real = bcrypt.checkpw
    gate = threading.Event()
    gate.set()
    calls = []

    def checkpw(password, hashed):
        calls.append(hashed)
        assert gate.wait(20)
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    calls_and_gate = type("Slow", (), {"calls": calls, "gate": gate})
    yield calls_and_gate
    gate.set()


def test_the_right_password_is_accepted_and_no_other(file):
    """Users could not log in, or strangers could."""
    known = verifier.Verifier(file)
    assert known.verify("alice", b"wonderland", HERE) == verifier.Verdict(accepted=True)
    for name, password in (
        ("alice", b"builder"),
        ("alice", b"Wonderland"),
        ("alice", b"wonderland "),
        ("alice", b""),
        ("Alice", b"wonderland"),
        ("carol", b"wonderland"),
        ("", b"wonderland"),
        ("", b""),
    ):
        assert known.verify(name, password, HERE) == verifier.Verdict(accepted=False)


@pytest.mark.parametrize("password", [b"x" * 73, b"x" * 10_000, b"wonder\0land", b"wonderland\0"])
def test_a_password_that_bcrypt_cannot_hash_is_just_wrong(file, password):
    """A long password would be a server error, or match by its first 72 bytes."""
    write(file, alice=b"x" * 72)
    assert verifier.Verifier(file).verify("alice", password, HERE) == verifier.Verdict(
        accepted=False
    )


@pytest.mark.parametrize("name", ["al\0ice", "alice\n", "a:b", "\x7f", " alice", "é" * 200])
def test_a_name_that_nobody_can_have_is_just_wrong(file, name):
    """Odd bytes in a user name would be a server error, or end up in the log as they are."""
    assert verifier.Verifier(file).verify(name, b"wonderland", HERE) == verifier.Verdict(
        accepted=False
    )


def test_names_and_passwords_may_be_in_any_language_and_have_colons(file):
    """People would be told to find an ASCII password."""
    password = "pä:ss:wörd ✓".encode()
    file.write_bytes("zoë 李:".encode() + bcrypt.hashpw(password, bcrypt.gensalt(4)) + b"\n")
    assert verifier.Verifier(file).verify("zoë 李", password, HERE).accepted


@pytest.mark.parametrize("prefix", [b"$2b$", b"$2y$", b"$2a$"])
def test_hashes_of_htpasswd_and_others_are_taken(file, prefix):
    """A file made by Apache's htpasswd ($2y$) would not work."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4))
    file.write_bytes(b"# a comment\n\nalice:" + prefix + hashed[4:] + b"\n")
    assert verifier.Verifier(file).verify("alice", b"secret", HERE).accepted


def test_a_verified_pair_is_not_hashed_again(file, slow):
    """Every request would take a third of a second."""
    known = verifier.Verifier(file)
    for _ in range(5):
        assert known.verify("alice", b"wonderland", HERE).accepted
    assert len(slow.calls) == 1
    assert not known.verify("alice", b"wonderlanD", HERE).accepted
    assert len(slow.calls) == 2


def test_a_verified_pair_is_forgotten_after_an_hour(file, slow):
    """A password read from a core dump's hash would be good for as long as the daemon runs."""
    clock = Clock()
    known = verifier.Verifier(file, clock=clock)
    known.verify("alice", b"wonderland", HERE)
    clock.now += 3599
    known.verify("alice", b"wonderland", HERE)
    assert len(slow.calls) == 1
    clock.now += 2
    assert known.verify("alice", b"wonderland", HERE).accepted
    assert len(slow.calls) == 2


def test_the_memory_of_pairs_is_bounded(file, monkeypatch):
    """Many users over a long time would fill the memory."""
    monkeypatch.setattr(verifier, "_REMEMBERED", 1)
    known = verifier.Verifier(file)
    known.verify("alice", b"wonderland", HERE)
    known.verify("bob", b"builder", HERE)
    assert len(known._snapshot.verified) == 1


def test_who_was_removed_is_out_within_a_tenth_of_a_second(file):
    """Somebody who is known would stay in for an hour."""
    clock = Clock()
    known = verifier.Verifier(file, clock=clock)
    for _ in range(2):
        assert known.verify("alice", b"wonderland", HERE).accepted
    write(file, bob=b"builder")
    clock.now += 0.1
    assert not known.verify("alice", b"wonderland", HERE).accepted


def test_a_changed_file_counts_from_the_next_login_on(file):
    """Somebody who was removed would stay in until the daemon is restarted."""
    known = verifier.Verifier(file)
    assert known.verify("alice", b"wonderland", HERE).accepted
    write(file, alice=b"new", carol=b"singer")
    assert not known.verify("alice", b"wonderland", HERE).accepted
    assert known.verify("alice", b"new", HERE).accepted
    assert known.verify("carol", b"singer", HERE).accepted
    assert not known.verify("bob", b"builder", HERE).accepted


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries.pop("alice"),
        lambda entries: entries.update(alice=htpasswd.hash_password(b"new", 4)),
    ],
    ids=["removed", "new password"],
)
def test_a_login_stands_until_its_user_is_removed_or_has_a_new_password(file, slow, change):
    """A request that stays would go on for somebody who was removed, or cost a hash to ask."""
    known = verifier.Verifier(file, clock=(clock := Clock()))
    alice, again = (known.verify("alice", b"wonderland", HERE) for _ in range(2))
    bob = known.verify("bob", b"builder", HERE)
    assert alice.stands()
    with htpasswd.editing(file) as entries:
        change(entries)
    clock.now += 0.1
    assert [each.stands() for each in (alice, again, bob)] == [False, False, True]
    assert len(slow.calls) == 2


def test_a_login_stands_while_nobody_knows_better(file):
    """A slip of the editor would cut off everybody who follows; or they would stay for good."""
    known = verifier.Verifier(file, clock=(clock := Clock()))
    alice, bob = (
        known.verify(name, password, HERE)
        for name, password in (("alice", b"wonderland"), ("bob", b"builder"))
    )
    good = file.read_bytes()
    file.write_bytes(b"garbage\n")
    clock.now += 0.1
    assert alice.stands()
    assert bob.stands()
    file.write_bytes(b"".join(good.splitlines(keepends=True)[1:]))
    clock.now += 0.1
    assert not alice.stands()
    assert bob.stands()


def test_a_change_within_the_same_moment_and_size_is_noticed(file):
    """On a coarse clock a password that was changed at once would not be taken over."""
    known = verifier.Verifier(file)
    before = file.stat()
    write(file, alice=b"wonderlanD", bob=b"builder")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not known.verify("alice", b"wonderland", HERE).accepted


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.chmod(0o644),
        lambda file: file.write_bytes(b"alice:plain text\n"),
        lambda file: file.write_bytes(b"\xff\n"),
    ],
    ids=["gone", "open to others", "no hash", "no text"],
)
def test_while_the_file_cannot_be_used_nobody_gets_in(file, caplog, spoil):
    """Somebody who was removed by a slip of the editor would stay in unseen."""
    known = verifier.Verifier(file)
    assert known.verify("alice", b"wonderland", HERE).accepted
    spoil(file)
    for _ in range(3):
        verdict = known.verify("alice", b"wonderland", HERE)
        assert not verdict.accepted
        assert not verdict.usable
        assert verdict.retry_after is None, "nothing was tried too often"
    assert caplog.text.count("nobody can log in") == 1
    file.unlink(missing_ok=True)
    write(file, alice=b"wonderland")
    assert known.verify("alice", b"wonderland", HERE).accepted


def test_mending_the_mode_is_noticed(file):
    """After the chmod that the log asks for, the daemon would still let nobody in."""
    known = verifier.Verifier(file)
    file.chmod(0o644)
    assert not known.verify("alice", b"wonderland", HERE).accepted
    file.chmod(0o600)
    assert known.verify("alice", b"wonderland", HERE).accepted


def test_a_file_that_cannot_be_used_stops_the_daemon_from_starting(file):
    """It would start, and let nobody in."""
    file.chmod(0o604)
    with pytest.raises(errors.UsersError, match="others may read or change it; `chmod g-wx,o= "):
        verifier.Verifier(file)


# What a login costs


def test_a_stranger_costs_one_hash_of_the_same_cost_as_a_user(file, slow):
    """Names could be guessed by how long the refusal takes."""
    write(file, cost=5, alice=b"wonderland")
    known = verifier.Verifier(file)
    known.verify("alice", b"wrong", HERE)
    known.verify("stranger", b"wrong", HERE)
    assert [hashed[:7] for hashed in slow.calls] == [b"$2b$05$"] * 2


def test_the_cost_of_a_stranger_stays_the_same(file, slow):
    """With users of several costs, a name whose cost changes would be told from a user's."""
    hashes = {
        name: bcrypt.hashpw(b"x", bcrypt.gensalt(cost)).decode()
        for name, cost in (("alice", 4), ("bob", 5), ("carol", 6))
    }
    file.write_text("".join(f"{name}:{hashed}\n" for name, hashed in hashes.items()))
    known = verifier.Verifier(file, clock=(clock := Clock()))
    for n in range(12):
        clock.now += 10_000
        known.verify("stranger", b"%d" % n, HERE)
    assert len({hashed[:7] for hashed in slow.calls}) == 1
    for n in range(40):
        clock.now += 10_000
        known.verify(f"stranger{n}", b"x", HERE)
    assert {hashed[4:6] for hashed in slow.calls} == {b"04", b"05", b"06"}


def test_requests_with_the_same_pair_share_one_verification(file, slow):
    """Fifty commands started at once would take fifty times a third of a second, or be refused."""
    known = verifier.Verifier(file)
    slow.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        verdicts = [pool.submit(known.verify, "alice", b"wonderland", HERE) for _ in range(50)]
        wait_until(lambda: slow.calls)
        slow.gate.set()
        assert all(verdict.result().accepted for verdict in verdicts)
    assert len(slow.calls) == 1


def test_threads_that_wait_for_a_verification_are_few(file, slow):
    """Anybody could keep all others from logging in, with one wrong login on many connections."""
    known = verifier.Verifier(file)
    aside = []
    known.before_waiting = lambda: aside.append(1)
    slow.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        verdicts = [pool.submit(known.verify, "nobody", b"x", HERE) for _ in range(100)]
        wait_until(lambda: sum(v.done() for v in verdicts) == 100 - 1 - verifier._SHARING)
        assert all(v.result() == verifier.Verdict(False, 1.0) for v in verdicts if v.done())
        wait_until(lambda: len(aside) == 1 + verifier._SHARING)
        slow.gate.set()
        assert not any(verdict.result().accepted for verdict in verdicts)
    known.verify("nobody", b"y", HERE)
    assert len(slow.calls) == 2


def test_users_at_their_own_addresses_do_not_share_places_with_others(file, slow):
    """Strangers who wait for a verification would have the commands of a user refused."""
    known = verifier.Verifier(file)
    assert known.verify("alice", b"wonderland", HERE).accepted
    file.touch()  # verified pairs are forgotten, addresses are not
    slow.gate.clear()
    count = verifier._SHARING + 10
    with concurrent.futures.ThreadPoolExecutor(2 * count) as pool:
        crowd = [pool.submit(known.verify, "nobody", b"x", ELSEWHERE) for _ in range(count)]
        wait_until(lambda: sum(v.done() for v in crowd) == 9)
        verdicts = [pool.submit(known.verify, "alice", b"wonderland", HERE) for _ in range(count)]
        wait_until(lambda: len(known._snapshot.running) == 2)
        slow.gate.set()
        assert all(verdict.result().accepted for verdict in verdicts)


def test_few_verifications_run_at_a_time_and_the_rest_is_told_to_wait(file, slow):
    """Guessing passwords would take all processors and threads."""
    known = verifier.Verifier(file)
    slow.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        verdicts = [pool.submit(known.verify, f"user{n}", b"x", f"192.0.2.{n}") for n in range(40)]
        wait_until(lambda: sum(v.done() for v in verdicts) == 40 - verifier._WAITING)
        assert len(slow.calls) <= max(1, (os.cpu_count() or 2) // 2)
        assert all(v.result().retry_after for v in verdicts if v.done())
        slow.gate.set()
        refused = [v.result() for v in verdicts]
    assert not any(verdict.accepted for verdict in refused)


def test_an_error_while_hashing_leaves_nobody_waiting(file, monkeypatch):
    """Requests that share a verification would hang for ever when it fails."""
    known = verifier.Verifier(file)

    def broken(password, hashed):
        raise MemoryError

    monkeypatch.setattr(bcrypt, "checkpw", broken)
    with pytest.raises(MemoryError):
        known.verify("alice", b"wonderland", HERE)
    monkeypatch.undo()
    assert known.verify("alice", b"wonderland", HERE).accepted


def test_a_hash_with_a_broken_salt_refuses_its_user(file, caplog):
    """One bad line would be a server error at each login of that user."""
    file.write_bytes(b"alice:$2b$04$" + b"/" * 53 + b"\n")
    assert verifier.Verifier(file).verify("alice", b"x", HERE) == verifier.Verdict(accepted=False)


# Guessing


def test_whoever_keeps_failing_waits_longer_and_longer(file):
    """Passwords could be guessed as fast as the machine hashes."""
    clock = Clock()
    known = verifier.Verifier(file, clock=clock)
    waits = []
    for n in range(40):
        verdict = known.verify(f"user{n}", b"x", HERE)
        if verdict.retry_after is not None:
            waits.append(verdict.retry_after)
            clock.now += verdict.retry_after
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(waits) == 60.0
    clock.now += 3600
    assert known.verify("alice", b"wonderland", HERE).accepted


def test_a_remembered_pair_does_not_wait(file):
    """Somebody who guesses from the same address would lock out the user who is at work there."""
    known = verifier.Verifier(file, clock=Clock())
    assert known.verify("alice", b"wonderland", HERE).accepted
    while known.verify("alice", b"guess", HERE).retry_after is None:
        pass
    assert known.verify("alice", b"wonderland", HERE).accepted


def test_guesses_from_many_addresses_are_slowed_down_too(file):
    """A botnet could guess one user's password from a thousand addresses, as often as it likes."""
    known = verifier.Verifier(file, clock=Clock())
    verdicts = [
        known.verify("alice", b"guess", f"203.0.113.{n}") for n in range(100) for _ in range(3)
    ]
    # The first twenty are free. Then every address without failures has one try.
    assert sum(verdict.retry_after is None for verdict in verdicts) == 20 + 93


def test_a_success_of_ones_own_does_not_buy_guesses_at_others():
    """With an account of his own, a guesser could start anew after every nine failures."""
    logins = throttle.Logins()
    tried = 0
    for n in range(60):
        tried += not logins.begin(b"user%d" % n, HERE, 0.0).wait
        mine = logins.begin(b"bob", HERE, 0.0)
        if not mine.wait:
            mine.succeed()
    assert tried == 10


def test_an_ipv6_guesser_cannot_change_addresses_within_his_network():
    """Everybody with IPv6 has more addresses than there are failures to count."""
    assert throttle.network("2001:db8:1:2::1") == throttle.network("2001:db8:1:2:ffff::9")
    assert throttle.network("2001:db8:1:2::1") != throttle.network("2001:db8:1:3::1")
    assert throttle.network("192.0.2.1") != throttle.network("192.0.2.2")
    assert throttle.network("not an address") == "not an address"


def test_the_memory_of_failures_is_bounded(monkeypatch):
    """Guesses under a million names would fill the memory."""
    monkeypatch.setattr(throttle, "_KEPT", 100)
    logins = throttle.Logins()
    for n in range(1000):
        logins.begin(b"%d" % n, f"name{n}", 0.0).succeed()
        logins.begin(b"x%d" % n, f"name{n}", 0.0)
    for n in range(1000):
        logins.begin_in_background(b"%d" % n, f"name{n}", 0.0)
    tables = [logins._by_address, logins._by_user, logins._by_home]
    assert [len(table._records) for table in tables] == [100, 100, 100]
