"""The main loop's waits: nobody is forgotten, and nobody waits for what a stranger's socket did."""

import contextlib
import os
import socket

import pytest
from worker_daemon.edge import epoll


class User:
    """One end of a pair of sockets, wanting what it is told to want."""

    accepting = False
    connected = True

    def __init__(self, waits):
        self.own, self.other = socket.socketpair()
        self.waits = waits
        self.wants_read = self.wants_write = False
        self.events = []
        self._fileno = self.own.fileno()
        waits[self._fileno] = self

    def readable(self):
        return self.wants_read

    def writable(self):
        return self.wants_write

    def handle_read_event(self):
        self.events.append("read")
        self.own.recv(100)

    def handle_write_event(self):
        self.events.append("write")
        self.wants_write = False

    def handle_close(self):
        self.events.append("close")
        self.close()

    def close(self):
        """Leave, as waitress's dispatchers do."""
        if self._fileno is not None:
            del self.waits[self._fileno]
            self._fileno = None
        self.own.close()
        self.other.close()


@pytest.fixture
def waits():
    """A loop without anybody."""
    made = epoll.Loop()
    with contextlib.closing(made):
        yield made
        for user in list(made.values()):
            user.close()


def test_what_a_user_wants_is_asked_before_the_first_wait(waits):
    """A connection that was just accepted would not be read."""
    user = User(waits)
    user.wants_read = True  # as in a constructor, after it was added
    user.other.send(b"x")
    waits.turn(5)
    assert user.events == ["read"]


def test_a_change_counts_from_the_next_turn_on(waits):
    """An answer that a task thread has written would stay where it is."""
    user = User(waits)
    waits.turn(0)
    user.wants_write = True
    waits.changed(user)
    waits.turn(5)
    waits.turn(0)
    assert user.events == ["write"]


def test_a_change_that_nobody_told_of_is_found(waits):
    """One forgotten word would hang a connection for good."""
    user = User(waits)
    waits.turn(0)
    user.wants_write = True
    waits.ask_all()
    waits.turn(5)
    assert user.events == ["write"]


def test_what_is_up_to_date_needs_no_turn(waits):
    """Each answer would wake the loop for nothing; or a change would wait for the next event."""
    user = User(waits)
    assert not waits.up_to_date(user), "it was not asked yet"
    waits.turn(0)
    assert waits.up_to_date(user)
    user.wants_write = True
    assert not waits.up_to_date(user)
    waits.changed(user)
    waits.turn(5)  # writes, and wants nothing after it
    assert waits.up_to_date(user)


def test_what_changes_while_it_is_asked_is_not_taken_for_known(waits):
    """A task thread's answer that comes between question and answer would stay where it is."""

    class Changing(User):
        def writable(self):
            wanted = self.wants_write
            if asking:  # by the loop; meanwhile a task thread writes, and looks itself
                asking.clear()
                self.wants_write = True
                found.append(waits.up_to_date(self))
            return wanted

    asking, found = [], []
    Changing(waits)
    waits.turn(0)
    asking.append(True)
    waits.ask_all()
    assert found == [False], "the task thread knows that it has to tell of it"


def test_a_hang_up_is_told_even_to_who_wants_nothing(waits):
    """A follower who has left would keep its place."""
    user = User(waits)
    user.other.close()
    waits.turn(5)
    assert user.events == ["close"]


def test_a_descriptor_that_is_used_again_belongs_to_its_new_user(waits):
    """The next client would get the last one's bytes, or wait for ever."""
    first = User(waits)
    first.wants_read = True
    waits.turn(0)
    waits.changed(first)
    descriptor = first._fileno
    first.close()
    second = User(waits)
    assert second._fileno == descriptor
    second.wants_read = True
    second.other.send(b"x")
    waits.turn(5)
    assert (first.events, second.events) == ([], ["read"])


def test_an_event_of_a_closed_descriptor_is_not_its_next_users(waits):
    """A client that has just connected would be cut off for one that has hung up."""
    users = [User(waits) for _ in range(2)]
    for user in users:
        user.wants_read = True
    waits.turn(0)
    replaced = []

    def replace(gone):
        descriptor = gone._fileno
        gone.close()
        replaced.append(User(waits))
        assert replaced[0]._fileno == descriptor

    for user, other in (users, reversed(users)):
        user.handle_read_event = lambda other=other: replace(other)
        user.other.send(b"x")
    waits.turn(5)
    assert [user.events for user in replaced] == [[]]


def test_who_is_closed_in_a_turn_is_not_called_in_it(waits):
    """An event would be handled on a closed socket, as an error in the log."""
    users = [User(waits) for _ in range(2)]
    for user in users:
        user.wants_read = True
        user.other.send(b"x")
        user.handle_read_event = lambda: [u.close() for u in users]
    waits.turn(5)
    assert not waits


def test_a_closed_loop_holds_no_descriptor():
    """A program that serves again and again would run out of files."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        epoll.Loop().close()
    assert len(os.listdir("/proc/self/fd")) == before


class Shaking(User):
    """A connection whose handshake is under way."""

    def __init__(self, waits, network, step=0, *, known=False):
        super().__init__(waits)
        self.network, self.handshake_step, self.from_known_network = network, step, known
        self.wants_read = True
        self.other.send(b"hello")


class Stranger(User):
    """A connection without a login that has sent something."""

    known = False

    def __init__(self, waits, *, at_home=False):
        super().__init__(waits)
        self.from_known_network = at_home
        self.wants_read = True
        self.other.send(b"byte")


def test_a_turn_serves_few_connections_without_a_login(waits):
    """Single bytes on a thousand connections would delay the requests of all users."""
    crowd = [Stranger(waits) for _ in range(200)]
    office = Stranger(waits, at_home=True)
    user = User(waits)
    user.wants_read = True
    user.other.send(b"request")
    waits.turn(1)
    assert user.events == office.events == ["read"]
    assert sum(bool(each.events) for each in crowd) == epoll._STRANGERS
    for _ in range(1000):
        waits.turn(0)
        if all(each.events for each in crowd):
            break
    assert all(each.events == ["read"] for each in crowd)


def turns_until(waits, user, most=100):
    """Return how many turns it takes until a user had an event."""
    for number in range(1, most):
        waits.turn(1)
        if user.events:
            return number
    raise AssertionError("no event")


def test_a_turn_has_few_steps_of_handshakes(waits):
    """Anybody could stop the server for a second, by sending a recorded hello 200 times."""
    crowd = [Shaking(waits, "stranger") for _ in range(200)]
    waits.turn(1)
    known = User(waits)
    known.wants_read = True
    known.other.send(b"request")
    assert turns_until(waits, known) == 1
    assert sum(bool(each.events) for each in crowd) <= 8


def test_handshakes_of_other_networks_do_not_wait(waits):
    """With 200 hellos of a stranger in line, all who come later would wait for them."""
    crowd = [Shaking(waits, "stranger") for _ in range(200)]
    waits.turn(1)
    alice = Shaking(waits, "alice")
    assert turns_until(waits, alice) == 1
    for _ in range(100):
        waits.ask_all()
        waits.turn(0)
    assert all(each.events == ["read"] for each in crowd)


def test_a_connection_may_leave_the_line(waits):
    """A connection that was closed while it waited would be used, or stop the loop."""
    crowd = [Shaking(waits, "stranger") for _ in range(20)]
    waits.turn(1)
    late = [each for each in crowd if not each.events]
    for each in late:
        each.close()
    waits.ask_all()
    for _ in range(10):
        waits.turn(0)
    assert late
    assert not any(each.events for each in late)


def test_the_end_of_a_handshake_does_not_wait_for_beginnings(waits):
    """With hellos of 200 networks in line, a handshake would wait for all of them twice."""
    for number in range(200):
        Shaking(waits, number)
    waits.turn(1)
    alice = Shaking(waits, "alice", step=1)
    assert turns_until(waits, alice) == 1


def test_networks_of_users_do_not_wait_for_unknown_ones(waits):
    """A stranger with hundreds of addresses would delay each new connection of all users."""
    for number in range(500):
        Shaking(waits, number, step=number % 2)
    waits.turn(1)
    alice = Shaking(waits, "alice", known=True)
    assert turns_until(waits, alice) == 1


def test_clients_that_leave_do_not_wait_in_the_queue(waits):
    """The queue would grow without end, as more clients come and leave than have handshakes."""
    crowd = [Shaking(waits, "stranger") for _ in range(60)]
    waits.turn(1)
    for each in crowd:
        each.other.close()
    waits.turn(1)
    assert sum(each.events == ["close"] for each in crowd) >= 50, "in one turn"
    waits.turn(1)
    assert not waits
