"""Clients without a login cannot fill the disk with log lines."""

import logging

import pytest
from support.edge import reply, serving
from support.waiting import wait_until
from worker_daemon.edge.shares import log_limit


@pytest.fixture
def limit():
    """A limit on its own."""
    return log_limit.LogLimit()


def record(*, second=1000, **fields):
    """Return a log record of a second."""
    made = logging.makeLogRecord(fields)
    made.created = second + 0.5
    return made


def written(limit, count, **fields):
    """Return how many of so many lines are written."""
    return sum(limit.filter(record(**fields)) for _ in range(count))


def test_a_network_has_few_lines_per_second(limit):
    """Anybody could fill the disk with a megabyte of log per second."""
    assert written(limit, 1000, address="192.0.2.1", user=None) == log_limit.LINES_OF_NETWORK
    assert written(limit, 1000, address="192.0.2.2") == log_limit.LINES_OF_NETWORK
    later = written(limit, 1000, address="192.0.2.1", second=1001)
    assert later == log_limit.LINES_OF_NETWORK


def test_all_networks_together_have_few_lines_per_second(limit):
    """Whoever has many addresses could fill the disk all the same."""
    networks = (f"2001:db8:{number:x}::1" for number in range(5000))
    total = sum(written(limit, 20, address=network) for network in networks)
    assert total == log_limit.LINES
    assert len(limit._left_out) <= log_limit._NETWORKS + 1


@pytest.mark.parametrize("fields", [{"address": "192.0.2.1", "user": "alice"}, {}], ids=str)
def test_lines_about_users_and_the_daemon_are_all_written(limit, fields):
    """A flood would hide what a user has done, or what is wrong with the server."""
    written(limit, 1000, address="192.0.2.1")
    assert written(limit, 1000, **fields) == 1000


def test_left_out_lines_are_counted_in_one_line(limit, caplog):
    """Nobody would notice the flood, or the reports would be one."""
    written(limit, 1000, address="192.0.2.1")
    written(limit, 100, address="192.0.2.2")
    limit.report(100)
    written(limit, 50, address="192.0.2.2")
    limit.report(101)
    assert [each.getMessage() for each in caplog.records] == [
        "left out 1080 log lines about clients without a login, 990 of them about 192.0.2.1"
    ]
    limit.report(111)
    assert caplog.records[-1].getMessage() == (
        "left out 50 log lines about clients without a login, 50 of them about 192.0.2.2"
    )
    limit.report(200)
    assert len(caplog.records) == 2, "nothing was left out since"


def test_failed_handshakes_and_refused_requests_are_limited(caplog):
    """One of the ways to cause a line would have no limit."""
    caplog.set_level(logging.INFO)
    with serving(lambda *_: [], verifies=True) as edge:
        for _ in range(30):
            with edge.plain() as plain:
                plain.sendall(b"\x16\x03\x01\x00\x05hello")
                reply(plain)
        for _ in range(30):
            with edge.connect() as connection:
                connection.sendall(b"GET\r\n\r\n")
                reply(connection)
        wait_until(lambda: "left out" in caplog.text)
    lines = [each for each in caplog.records if hasattr(each, "address")]
    seconds = {int(each.created) for each in lines}
    assert len(lines) <= log_limit.LINES_OF_NETWORK * len(seconds)
    assert {each.msg for each in lines} >= {"no TLS handshake: %s"}


def test_a_client_that_leaves_is_not_logged_with_its_path(caplog):
    """A path of 8 KiB would be a line of that length for each request of anybody."""
    caplog.set_level(logging.INFO)
    gone = []

    def app(environ, start_response):
        wait_until(environ["waitress.client_disconnected"])
        gone.append(1)
        start_response("401 Unauthorized", [("Content-Length", "1")])
        return [b"x"]

    with serving(app, verifies=True) as edge:
        with edge.connect() as connection:
            connection.sendall(b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: gone and not edge.server._channels())
    assert "aaaa" not in caplog.text
