"""The pidfds of leaders outlive the supervisor: where they are kept, and within which bounds."""

import contextlib
import itertools
import logging
import os
import resource
import signal
import socket
import uuid

import pytest
from support.kernel import needs_exit_status
from support.systemd import Manager
from support.waiting import wait_until
from worker_core import JobSpec, wire
from worker_core.disk.jobdir import JobDir, Pid, make_private_dir
from worker_core.executors.kept_descriptor import KeptDescriptor
from worker_core.linux import descriptors, libc, procfs
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.supervisor import keeper as keeping
from worker_core.supervisor import recover
from worker_core.supervisor.bag import Bag, Held, contents
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.keeper import Keeper
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.rundir import RunDir
from worker_core.supervisor.running_job import RunningJob
from worker_core.supervisor.server import Server
from worker_core.supervisor.start_log import StartLog
from worker_core.testing.fakes import FakeClock


def new_id():
    return str(uuid.uuid4())


@pytest.fixture
def children():
    """Return what starts a process that does nothing; all are ended at the end."""
    pids = []

    def start():
        pid = os.fork()
        if pid == 0:
            signal.pause()
        pids.append(pid)
        return pid

    yield start
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def full():
    """Return a context in which this process can open nothing more."""

    @contextlib.contextmanager
    def limited():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return limited


def looked_into(descriptor):
    """Return what is in a bag; the copies are closed."""
    found = [pair for some in contents(descriptor) for pair in some]
    descriptors.close(pidfd for _, pidfd in found)
    return [held for held, _ in found]


def running(pid):
    return RunningJob(JobDir("/nowhere", new_id()), {}, pid=Pid(pid, 0, "boot", 1.5))


# The bag


@needs_exit_status
def test_what_is_in_a_bag_can_be_looked_at_again_and_says_how_a_process_ended():
    """The supervisor after the next one would find nothing, and what ended in between be lost."""
    bag = Bag()
    pid = os.fork()
    if pid == 0:
        os._exit(41)
    held = Held(new_id(), pid, 1.5)
    pidfd = os.pidfd_open(pid)
    bag.put([held], [pidfd])
    os.close(pidfd)
    reading = os.dup(bag.fileno())
    bag.close()  # as at the end of its supervisor
    os.waitpid(pid, 0)
    for _ in range(2):
        [[(found, pidfd)]] = contents(reading)
        assert found == held
        assert libc.wait_status(pidfd) == 41 << 8
        assert not os.get_inheritable(pidfd)
        os.close(pidfd)
    os.close(reading)


@pytest.mark.parametrize("what", [os.devnull, "pipe", "stream", "foreign"])
def test_what_is_no_bag_is_empty(what):
    """A mistake of an engine would stop the supervisor at its start."""
    if what == "pipe":
        reading, writing = os.pipe()
    elif what in ("stream", "foreign"):
        kind = socket.SOCK_STREAM if what == "stream" else socket.SOCK_SEQPACKET
        first, second = socket.socketpair(socket.AF_UNIX, kind)
        first.sendall(b"\x02 of another release")
        reading, writing = second.detach(), first.detach()
    else:
        reading, writing = os.open(what, os.O_RDONLY), os.open(what, os.O_RDONLY)
    assert looked_into(reading) == []
    descriptors.close([reading, writing])


def test_a_supervisor_that_can_open_no_more_raises_its_limit_to_look(children):
    """After a crash under load it could not take back what is known of hundreds of jobs."""
    bag = Bag()
    pidfd = os.pidfd_open(children())
    held = [Held(new_id(), 1, 1.5) for _ in range(descriptors.MOST)]
    bag.put(held, [pidfd] * len(held))
    os.close(pidfd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (pidfd + 32, hard))
    try:
        assert looked_into(bag.fileno()) == held
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > descriptors.MOST
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        bag.close()


def test_the_limit_on_descriptors_in_flight_is_none_for_a_bag(children):
    """A user without privileges may send as many as he may open: jobs after that would be lost."""
    status = os.fork()
    if status == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            bag, pidfd = Bag(), os.pidfd_open(os.getpid())
            for _ in range(150):
                bag.put([Held(new_id(), 1, 1.5)], [pidfd])
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (64, hard)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(status, 0)[1]) == 0


# The keeper


def test_a_bag_has_what_still_runs_and_little_else(children):
    """What is kept would grow with every job that ever ran, or forget one that runs for days."""
    jobs = {}
    keeper = Keeper(lambda: jobs)
    long = [running(children()) for _ in range(3)]
    short = running(children())
    for process in long:
        jobs[process.id] = process
        keeper.add(process.id, process.pid.pid, 1.5)
    for _ in range(600):
        short.dir = JobDir("/nowhere", new_id())
        jobs[short.id] = short
        keeper.add(short.id, short.pid.pid, 1.5)
        del jobs[short.id]
    kept = {held.job_id: held for held in looked_into(keeper.bag.fileno())}
    assert {process.id for process in long} <= set(kept)
    assert kept[long[0].id] == Held(long[0].id, long[0].pid.pid, 1.5)
    assert len(kept) <= keeping._ROOM + len(long)
    keeper.bag.close()


@pytest.mark.parametrize("full", [False, True])
def test_tidying_keeps_hundreds_of_running_jobs(children, full):
    """With many jobs the bag would overflow, or lose some of them."""
    bag = Bag()
    pidfd = os.pidfd_open(children())
    held = [Held(new_id(), 1, 1.5) for _ in range(400)]
    with contextlib.suppress(BlockingIOError):
        for each in held if not full else itertools.cycle(held):
            bag.put([each], [pidfd])
    before = {each.job_id for each in looked_into(bag.fileno())}
    assert bag.tidy(before) >= len(before)
    assert {each.job_id for each in looked_into(bag.fileno())} == before
    assert bag.tidy({held[7].job_id}) >= 1
    assert {each.job_id for each in looked_into(bag.fileno())} == {held[7].job_id}
    assert bag.tidy(()) == 0
    assert looked_into(bag.fileno()) == []
    os.close(pidfd)
    bag.close()


def test_a_start_goes_on_although_nothing_can_be_opened(children, full, caplog):
    """On a machine that is short of descriptors, jobs that run would be taken for not started."""
    keeper = Keeper(dict)
    process = running(children())
    with caplog.at_level(logging.WARNING), full():
        keeper.add(process.id, process.pid.pid, 1.5)
    assert f"job {process.id}: nobody keeps its pidfd" in caplog.text
    keeper.bag.close()


def test_a_bag_is_passed_on_through_exec(children):
    """An upgrade of the supervisor would forget what others have kept of adopted jobs."""
    keeper = Keeper(dict)
    assert keeping.passed_on() == []
    process = running(children())
    keeper.add(process.id, process.pid.pid, 1.5)
    keeper.pass_on()
    bag = keeper.bag.fileno()
    assert os.get_inheritable(bag)
    assert keeping.passed_on() == [bag]
    assert not os.get_inheritable(bag)
    assert [held.job_id for held in looked_into(bag)] == [process.id]
    assert keeping.passed_on() == []
    keeper.bag.close()


# Taking back


@pytest.fixture
def processes(tmp_path):
    loop = Loop(FakeClock())
    told = []
    table = JobTable(
        RunDir(str(tmp_path)),
        loop,
        None,
        root_jobs=True,
        emit=told.append,
        watched=lambda: True,
        on_empty=lambda: None,
    )
    yield table, loop, told
    table.launchers.close()
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


def claimed(tmp_path):
    directory = JobDir(str(tmp_path), new_id())
    make_private_dir(directory.path)
    assert directory.claim(JobSpec("sh").to_dict())
    return directory


@needs_exit_status
def test_a_job_that_was_not_recorded_yet_is_taken_back_with_its_end(tmp_path, processes):
    """Of a job that had just begun nobody would know the end, nor that it was ever started."""
    table, loop, told = processes
    directory = claimed(tmp_path)
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    pidfd, bag = os.pidfd_open(pid), Bag()
    bag.put([Held(directory.job_id, pid, 1.5)], [pidfd])
    os.close(pidfd)
    os.waitpid(pid, 0)
    for _ in range(2):  # by the engine, and by systemd
        recover.take_back(table, bag.fileno())
    loop._run_timers()
    [event] = told
    end = event["exit"]
    assert (end["cause"], end["exit_code"], end["pid"], end["started_at"]) == ("own", 3, pid, 1.5)
    assert directory.exit().exit_code == 3
    bag.close()


@pytest.mark.parametrize("again", [None, 1])
def test_the_process_of_a_start_that_was_given_up_is_not_the_job_s(tmp_path, processes, again):
    """A job whose launcher was killed would have the end of the process that went with it."""
    table, loop, told = processes
    directory = claimed(tmp_path)
    pid = os.fork()
    if pid == 0:
        signal.pause()
    pidfd, bag = os.pidfd_open(pid), Bag()
    bag.put([Held(directory.job_id, pid, 1.5)], [pidfd])
    os.close(pidfd)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    start_log = StartLog(str(tmp_path))
    start_log.forking(directory.job_id)
    start_log.note(directory.job_id, pid)
    start_log.claimed(directory.job_id)  # for another launcher
    if again is not None:
        start_log.note(directory.job_id, again)
    os.close(start_log.fileno())
    table.start_log = StartLog(str(tmp_path))
    recover.take_back(table, bag.fileno())
    loop._run_timers()
    assert (table.jobs, told, directory.exit()) == ({}, [], None)
    if again is None:
        assert recover.known(table, directory.job_id) == {}
        assert directory.claimed() is None
    bag.close()


@pytest.fixture
def stranger():
    """Return the pid of a process that is not our child, and that does nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.write(writing, b"%d" % pid)
        os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(reading, 16))
    descriptors.close([reading, writing])
    yield pid
    os.kill(pid, signal.SIGKILL)


def test_a_living_process_that_no_record_names_is_not_taken_for_a_leader(
    tmp_path, processes, stranger
):
    """Whoever can write a bag could have the supervisor end any process of the machine."""
    table, loop, told = processes
    directory = claimed(tmp_path)
    pidfd, bag = os.pidfd_open(stranger), Bag()
    bag.put([Held(directory.job_id, stranger, 1.5)], [pidfd])
    recover.take_back(table, bag.fileno())
    loop._run_timers()
    assert [(each["event"], each["exit"]["cause"]) for each in told] == [("exited", "lost")]
    assert not procfs.stat(stranger).ended
    os.close(pidfd)
    bag.close()


@pytest.fixture
def served(tmp_path):
    """Serve a socket; lend the loop, the server, and what connects to it."""
    loop = Loop(FakeClock())
    path = str(tmp_path / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    came = []

    def handle(message, connection):
        came.append((message["op"], connection.take(), connection))

    server = Server(listener, loop, handle, on_alone=lambda: None, able={}, engine_uid=os.geteuid())
    peers = []

    def turn(until):
        wait_until(
            lambda: [loop._guard(k.data, r) for k, r in loop._selector.select(0)] and until()
        )

    def connect():
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(path)
        peers.append(peer)
        turn(lambda: server._connections)
        return peer

    yield server, connect, turn, came
    for each in (*server._connections, *peers, listener):
        each.close()
    for each in (loop._selector, loop._wakeup, loop._waker):
        each.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_descriptors_are_taken_from_the_own_account_only(served, trusted):
    """An engine that was taken over could hang root's supervisor with a file of its own."""
    server, connect, turn, came = served
    peer = connect()
    [connection] = server._connections
    connection.gives_descriptors = trusted
    peer.sendall(wire.encode(wire.hello()))
    null = os.open(os.devnull, os.O_RDONLY)
    descriptors.send(peer, wire.encode({"op": "kept"}), [null])
    os.close(null)
    turn(lambda: came)
    [(op, given, _)] = came
    assert (op, len(given)) == ("kept", int(trusted))
    descriptors.close(given)


def test_an_engine_gets_the_descriptor_with_its_message(served, children):
    """It would keep one of an earlier message, in which the newest jobs are not."""
    server, connect, turn, came = served
    peer, old = connect(), connect()
    for each in (peer, old):
        each.sendall(wire.encode(wire.hello()))
    peer.sendall(wire.encode({"op": "kept"}))
    turn(lambda: came)
    pipes = [os.pipe() for _ in range(3)]
    kept, decoder, messages = KeptDescriptor(None), wire.Decoder(), []
    [(_, _, given)] = came
    for reading, _ in pipes:
        given.send({"event": "kept"}, reading)
    server.broadcast({"event": "last"})
    while not messages or messages[-1].get("event") != "last":
        messages += decoder.feed(kept.receive(peer, 4096))
    for each in messages:
        if each.get("event") == "kept":
            kept.replace()
    assert [each.get("event") for each in messages][1:] == ["kept"] * 3 + ["last"]
    assert os.path.sameopenfile(kept._kept[0], pipes[-1][0])
    messages = wire.Decoder().feed(old.recv(4096))
    assert [each.get("event") for each in messages] == [None, "last"]  # an engine of 0.1.0
    kept.close()
    descriptors.close(number for pair in pipes for number in pair)


# The engine


def test_an_engine_that_can_open_no_more_goes_on_and_asks_again(full, monkeypatch):
    """Under many connections it would lose its supervisor, or the ends of all jobs at the next
    crash of that."""
    kept = KeptDescriptor(None)
    monkeypatch.setattr("worker_core.executors.kept_descriptor._PAUSE", -1.0)
    ours, theirs = socket.socketpair()
    null = os.open(os.devnull, os.O_RDONLY)
    frame = wire.encode({"event": "kept"})
    descriptors.send(theirs, frame, [null])
    assert kept.receive(ours, 4096) == frame
    kept.replace()
    assert not kept.is_due
    [first] = kept._kept
    descriptors.send(theirs, frame, [null])
    with full():
        assert kept.receive(ours, 4096) == frame
    kept.replace()
    assert kept._kept == [first]
    assert kept.is_due
    kept.request(ours)
    data, came, _ = descriptors.receive(theirs, 4096, 4)
    assert (wire.Decoder().feed(data), len(came)) == ([{"op": "kept"}], 1)
    assert not kept.is_due
    kept.close()
    descriptors.close([null, *came])
    ours.close()
    theirs.close()


# systemd


@pytest.fixture
def manager(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    yield manager
    manager.close()


def test_systemd_has_one_descriptor_however_often_it_is_replaced(manager):
    """A unit's store has few places: when they are taken, it keeps nothing any more."""
    pipes = [os.pipe() for _ in range(7)]
    store = DescriptorStore()
    for number, (reading, _) in enumerate(pipes):
        if number in (2, 3, 5):  # the service is started again
            store = DescriptorStore(manager.passed())
            descriptors.close(store.stored)
        store.keep(reading)
        manager.read()
        [(name, kept)] = manager.store
        assert os.path.sameopenfile(kept, reading)
        assert DescriptorStore.owns(name)
    store = DescriptorStore()  # executed itself anew: what is stored is not known any more
    for reading, _ in pipes:
        store.keep(reading)
        manager.read()
    assert len(manager.store) == 1
    descriptors.close(number for pair in pipes for number in pair)


def test_without_systemd_nothing_is_stored(monkeypatch, tmp_path, caplog):
    """A program that uses the engine would fail outside of a service."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    DescriptorStore([("http", 3)]).keep(0)
    assert caplog.text == ""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    DescriptorStore().keep(0)
    assert "systemd does not take FDSTORE=1" in caplog.text


def test_descriptors_that_were_dropped_are_reported(full):
    """Half of what came would be taken for all of it."""
    ours, theirs = socket.socketpair()
    null = os.open(os.devnull, os.O_RDONLY)
    descriptors.send(theirs, b"x", [null, null, null])
    with full():
        assert descriptors.receive(ours, 16, 8) == (b"x", [], True)
    descriptors.send(theirs, b"x", [null, null, null])
    data, came, cut = descriptors.receive(ours, 16, 8)
    assert (data, len(came), cut) == (b"x", 3, False)
    assert not any(map(os.get_inheritable, came))
    descriptors.close([*came, null])
    ours.close()
    theirs.close()
