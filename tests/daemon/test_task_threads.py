"""Strangers neither take the threads from users nor wait for each other's networks."""

import contextlib
import threading

import pytest
from support.edge import serving
from support.waiting import wait_until
from worker_daemon.edge import workers


class Task:
    """A request; it lasts until `go_on` is set, and can leave its place before."""

    addr = ("127.0.0.1", 1)

    def __init__(
        self, threads, network="stranger", *, known=False, waits=False, at_home=False, served=False
    ):
        self.network, self.known, self.from_known_network = network, known, at_home
        self.served = served
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._threads, self._waits = threads, waits

    def service(self):
        if self._waits:
            self._threads.leave_place()
            self._threads.leave_place()
        self.begun.set()
        assert self.go_on.wait(10)


@pytest.fixture
def threads():
    """Threads for many tasks, all of which have ended when the test has."""
    made = workers.WorkerPool(100)
    yield made
    made.shutdown(10)
    assert not any(thread.is_alive() for thread in made._threads)


def added(threads, tasks):
    """Give the tasks out."""
    for task in tasks:
        threads.add_task(task)
    return tasks


def test_strangers_leave_threads_to_users(threads):
    """Anybody could take all threads, or have hundreds of them compete with those of users."""
    crowd = added(threads, [Task(threads) for _ in range(50)])
    user = Task(threads, known=True)
    added(threads, [user])
    assert user.begun.wait(10)
    assert sum(each.begun.is_set() for each in crowd) <= workers._STRANGERS
    assert threads.count == workers._STRANGERS + 1
    for task in [user, *crowd]:
        task.go_on.set()
    assert all(task.begun.wait(10) for task in crowd)


def test_strangers_of_other_networks_do_not_wait(threads):
    """Whoever logs in would wait for all requests of somebody who sends a thousand."""
    crowd = added(threads, [Task(threads) for _ in range(50)])
    other = Task(threads, "other")
    added(threads, [other])
    assert crowd[0].begun.wait(10)
    for task in crowd[:2]:
        task.go_on.set()
    assert other.begun.wait(10)
    for task in [other, *crowd]:
        task.go_on.set()


def test_a_first_request_does_not_wait_for_further_ones(threads):
    """Strangers at a user's address, who send request after request, would delay each login."""
    crowd = added(threads, [Task(threads, served=True) for _ in range(50)])
    user = Task(threads)
    added(threads, [user])
    assert crowd[0].begun.wait(10)
    for task in (crowd[0], crowd[1]):
        task.go_on.set()
    assert user.begun.wait(10)
    for task in [user, *crowd]:
        task.go_on.set()
    assert all(task.begun.wait(10) for task in crowd)


def test_strangers_in_networks_of_users_do_not_wait_for_other_networks(threads):
    """Whoever has hundreds of addresses could keep users from logging in again."""
    crowd = added(threads, [Task(threads, number) for number in range(50)])
    user = Task(threads, "office", at_home=True)
    added(threads, [user])
    assert user.begun.wait(10)
    for task in [user, *crowd]:
        task.go_on.set()


def test_who_logs_in_or_waits_leaves_the_place_to_the_next(threads):
    """Four users who follow an output would keep everybody else from logging in."""
    tasks = added(threads, [Task(threads, waits=True) for _ in range(20)])
    assert all(task.begun.wait(10) for task in tasks)
    stays = added(threads, [Task(threads) for _ in range(20)])
    wait_until(lambda: sum(each.begun.is_set() for each in stays) == workers._STRANGERS)
    for task in tasks + stays:
        task.go_on.set()
    assert all(task.begun.wait(10) for task in stays)


def refuse(environ, start_response):
    """Answer at length, as to somebody without a login."""
    start_response("401 Unauthorized", [("Content-Length", "100000")])
    return [b"x" * 100_000]


def test_a_stranger_who_reads_no_answers_is_cut_off():
    """A few hundred such connections would hold all threads, each for half a minute."""
    with serving(refuse, verifies=True) as edge:
        connection = edge.connect()
        requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
        with contextlib.suppress(OSError):  # a reset, or a broken pipe
            for _ in range(100):
                connection.sendall(requests)
        wait_until(lambda: not edge.server._channels())
        connection.close()
