"""Connections that have not logged in: strangers do not keep users out, however many they are."""

import base64
import contextlib
import random

import pytest
import requests
from support import api as support
from support.edge import serving
from support.waiting import wait_until
from worker_core import Engine
from worker_daemon.auth import throttle
from worker_daemon.edge.shares import connection_groups

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def crowded(tmp_path):
    """A server with room for 300 connections."""
    with Engine() as engine, support.serving(engine, tmp_path, max_connections=300) as running:
        yield running


def strangers(running, count, sent):
    """Open connections that send something and then nothing more."""
    found = []
    for _ in range(count):
        connection = running.edge.connect() if sent is not None else running.edge.plain()
        with contextlib.suppress(OSError):
            connection.sendall(sent or b"")
        found.append(connection)
    return found


@pytest.mark.parametrize("sent", [None, b"", HEAD, HEAD + b"\r\n"], ids=str)
def test_a_user_gets_in_however_many_strangers_are_there(crowded, sent):
    """Anybody could lock out all users, with 300 requests that never end."""
    crowd = strangers(crowded, 300, sent)
    with crowded.user("alice") as alice:
        assert alice.get("/whoami").json()["user"] == "alice"
    for connection in crowd:
        connection.close()


def test_a_user_who_is_there_stays(crowded):
    """Strangers could cut off everybody's requests."""
    with crowded.user("alice") as alice:
        job = alice.run("sleep", "1000")
        waiting = requests.Request("GET", f"{crowded.url}/jobs/{job}/out?follow=true")
        waiting.auth, waiting.headers = alice.auth, support.OCTETS
        followed = alice.send(waiting.prepare(), stream=True, timeout=30)
        before = {id(each) for each in crowded.edge.server._channels()}
        crowd = strangers(crowded, 400, HEAD)
        assert len(crowded.edge.server._channels()) <= 300
        assert before <= {id(each) for each in crowded.edge.server._channels()}
        alice.put(f"/jobs/{job}/kill")
        assert followed.content == b""
        for connection in crowd:
            connection.close()


BODY = HEAD + b"Authorization: Basic %s\r\nContent-Length: 9000000\r\n\r\n"


def test_one_user_does_not_take_all_places(tmp_path):
    """A user who begins a long body on each of many connections would lock everybody out."""
    with (
        Engine() as engine,
        support.serving(engine, tmp_path, max_connections=100) as running,
        contextlib.ExitStack() as stack,
    ):
        login = base64.b64encode(b"bob:" + support.PASSWORD.encode())
        for _ in range(150):
            connection = stack.enter_context(running.edge.connect())
            connection.sendall(BODY % login + b"x")
        edge = running.edge.server
        wait_until(lambda: len(edge.authenticated) == len(edge._channels()))
        assert len(edge._channels()) > 80
        alice = stack.enter_context(running.user("alice"))
        assert alice.get("/whoami").json()["user"] == "alice"
        for _ in range(20):
            stack.enter_context(running.edge.connect()).sendall(BODY % login + b"x")
        assert alice.get("/whoami").json()["user"] == "alice"
        assert alice.get("/healthz").status_code == 200


def test_idle_users_leave_room_for_those_who_come(tmp_path, monkeypatch):
    """With as many idle users as there are places, nobody else could ever log in."""
    monkeypatch.setattr("worker_daemon.edge.server._PATIENCE", 0)
    with (
        Engine() as engine,
        support.serving(engine, tmp_path, max_connections=20) as running,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(60):
            user = stack.enter_context(running.user("alice"))
            assert user.get("/whoami").status_code == 200
        assert len(running.edge.server._channels()) <= 20


def test_nobody_is_closed_while_nobody_comes(tmp_path):
    """The last one who fits in would be closed at once, for want of a place for the next."""
    with (
        Engine() as engine,
        support.serving(engine, tmp_path, max_connections=20) as running,
        contextlib.ExitStack() as stack,
    ):
        places = 20 - len(running.edge.server.map)
        for _ in range(places):
            user = stack.enter_context(running.user("alice"))
            assert user.get("/whoami").status_code == 200
        ticks = []
        running.edge.server._on_tick = ticks.append
        wait_until(lambda: len(ticks) > 2)
        assert len(running.edge.server._channels()) == places


def test_one_address_has_a_limit_of_its_own(tmp_path):
    """One stranger would use up the memory that thousands of connections need."""
    with (
        Engine() as engine,
        support.serving(engine, tmp_path, max_unauthenticated_per_address=20) as running,
    ):
        crowd = strangers(running, 60, HEAD)
        wait_until(lambda: len(running.edge.server._channels()) <= 20)
        with running.user("alice") as alice:
            assert alice.get("/whoami").json()["user"] == "alice"
        for connection in crowd:
            connection.close()


def test_who_has_logged_in_does_not_count(tmp_path):
    """Users who share an address would close each other's connections."""
    with (
        Engine() as engine,
        support.serving(engine, tmp_path, max_unauthenticated_per_address=2) as running,
        contextlib.ExitStack() as stack,
    ):
        users = [stack.enter_context(running.user("alice")) for _ in range(10)]
        for _ in range(2):
            for user in users:
                assert user.get("/whoami").status_code == 200
        assert len(running.edge.server._channels()) == 10


def test_a_failed_login_is_none():
    """A stranger could hold a place with any password."""

    def app(environ, start_response):
        start_response("401 Unauthorized", [("Content-Length", "0")])
        return []

    with serving(app, verifies=True) as edge, edge.connect() as connection:
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401")
        (channel,) = edge.server._channels()
        assert edge.server.unauthenticated.oldest() is channel


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%lo", "fe80::2", True),
    ],
)
def test_what_counts_as_one_client(address, other, same):
    """A stranger with an IPv6 network would be as many as they like."""
    assert (throttle.network(address) == throttle.network(other)) is same


def test_the_network_with_the_most_loses_its_oldest():
    """A few connections of many people would make room for the many of one."""
    known = connection_groups.ConnectionGroups()
    for name, address in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"), ("b3", "b")):
        known.add(name, address)
    order = []
    while (name := known.oldest()) is not None:
        order.append(name)
        known.remove(name)
    assert order[:2] == ["b1", "b2"]
    assert sorted(order[2:]) == ["a1", "b3", "c1"]


def test_a_user_who_changes_the_group_is_counted_once():
    """A proxy's connection would count for each of its users, and be closed for the others."""
    known = connection_groups.ConnectionGroups()
    for number in range(3):
        known.add(number, "alice")
    known.add(1, "bob")
    known.add(1, "bob")
    assert len(known) == 3
    assert known.oldest(1) == 0
    known.remove(0)
    assert known.oldest(1) is None, "nobody has more than one"
    assert known.oldest() in (1, 2)


def test_it_counts_right_whatever_comes_and_goes():
    """Places would be lost for good, or a connection be closed that is not in the way."""
    chance = random.Random(300)
    known, there = connection_groups.ConnectionGroups(), {}
    for number in range(5000):
        if there and chance.random() < 0.5:
            gone = chance.choice(list(there))
            known.remove(gone)
            known.remove(gone)
            del there[gone]
        else:
            there[number] = chance.choice("abcdef")
            known.add(number, there[number])
        counts = {address: list(there.values()).count(address) for address in there.values()}
        first = known.oldest()
        assert (first is None) == (not there)
        if first is not None:
            address = there[first]
            assert counts[address] == max(counts.values())
            assert first == min(each for each in there if there[each] == address)
