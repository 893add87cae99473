"""Each sentence of THREATS.md, tried by an attacker: an engine, a job or a stranger.

A test names the numbers of its sentences, and no sentence is without a test.
"""

import contextlib
import fcntl
import json
import os
import pwd
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from support.waiting import wait_until
from worker_core import wire
from worker_core.disk import jobdir
from worker_core.linux import procfs
from worker_core.supervisor import requests, server, tree

THREATS = Path(__file__).parents[2] / "packages" / "worker-core" / "THREATS.md"
ENGINE = pwd.getpwnam("nobody").pw_uid
BOUNDED = 1 << 29  # bytes that the supervisor may take at most

SPEC = {
    "command": "true",
    "args": [],
    "env": {},
    "cwd": "/",
    "stdin": None,
    "run_as": "daemon",
    "timeout": None,
    "stop_signal": "SIGTERM",
    "stop_grace": 5.0,
    "separate_stderr": False,
    "output_limit": 0,
    "limits": {},
    "isolation": {},
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def sentence(*numbers):
    """Say which sentences a test tries."""

    def note(test):
        test.sentences = numbers
        return test

    return note


def sentences():
    return {int(number) for number in re.findall(r"^(\d+)\. ", THREATS.read_text(), re.M)}


def test_each_sentence_has_a_test():
    """The page would promise what nobody has tried."""
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    tried = {number for test in tests for number in getattr(test, "sentences", ())}
    assert tried == sentences() == set(range(1, len(sentences()) + 1))


@pytest.fixture
def place():
    """A directory that every account can go through."""
    with tempfile.TemporaryDirectory(prefix="worker-threats-") as path:
        os.chmod(path, 0o711)
        yield Path(path)


@pytest.fixture
def state_dir(place):
    path = place / "state"
    path.mkdir(0o700)
    (path / "jobs").mkdir(0o700)
    for each in (path, path / "jobs"):
        os.chown(each, ENGINE, -1)
    return path


_peers = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while _peers:
        _peers.pop().close()


class Engine:
    """A connection to the supervisor, which sends whatever it likes."""

    def __init__(self, state_dir, *, greet=True):
        self.peer = socket.socket(socket.AF_UNIX)
        _peers.append(self.peer)
        self.peer.settimeout(30)
        self.peer.connect(str(state_dir / jobdir.SOCKET))
        self._decoder = wire.Decoder()
        self._came = []
        self.hello = self.receive()
        if greet:
            self.send(wire.hello(pid=os.getpid()))

    def send(self, message):
        self.peer.sendall(wire.encode(message))

    def receive(self):
        while not self._came:
            data = self.peer.recv(1 << 16)
            assert data, "the supervisor closed the connection"
            self._came += self._decoder.feed(data)
        return self._came.pop(0)

    def known(self, *ids):
        """Return what the supervisor knows of jobs; all that was asked before is done by then."""
        self.send({"op": "query", "ids": ids, "token": 1})
        while (message := self.receive()).get("event") != "known":
            pass
        return message["jobs"]

    def start(self, job_id=None, **more):
        job_id = job_id or str(uuid.uuid4())
        self.send({"op": "start", "id": job_id, "spec": SPEC | more})
        return job_id

    def end(self, job_id):
        """Wait for the end of a job; return it."""
        while (message := self.receive()).get("event") != "exited" or message["id"] != job_id:
            pass
        return message["exit"]

    def begin(self, job_id=None, **more):
        """Start a job that runs; return its id and its pid."""
        job_id = self.start(job_id, **{"command": "sleep", "args": ["600"]} | more)
        while (message := self.receive()).get("event") != "started" or message["id"] != job_id:
            assert message.get("event") != "exited", message
        return job_id, message["pid"]


class Supervisor:
    """A supervisor of root for the engine nobody."""

    def __init__(self, state_dir, *options):
        self.state_dir = state_dir
        self.run_dir = state_dir.with_name("run")
        self.argv = [sys.executable, "-m", "worker_core.supervisor", str(state_dir)]
        self.argv += ["--foreground", "--engine", "nobody", "--run-dir", str(self.run_dir)]
        self.argv += options or ["--accounts", "daemon"]

    def __enter__(self):
        self.start()
        return self

    def start(self):
        self.process = subprocess.Popen(self.argv)
        wait_until(self._answers)

    def _answers(self):
        assert self.process.poll() is None, "it has ended"
        with contextlib.suppress(OSError):
            Engine(self.state_dir).peer.close()
            return True
        return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def engine(self):
        return Engine(self.state_dir)

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            engine = Engine(self.state_dir)
            engine.send({"op": "shutdown"})
            wait_until(lambda: not list((self.run_dir / "jobs").iterdir()))
        self.process.terminate()
        if self.process.wait(20):
            raise AssertionError(f"the supervisor ended with {self.process.returncode}")

    def log(self):
        return (self.state_dir / jobdir.LOG).read_text()


@pytest.fixture
def supervisor(state_dir):
    with Supervisor(state_dir) as supervisor:
        yield supervisor


@pytest.fixture
def victim():
    """A process of root's that leads a session, as the supervisor's jobs do."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    alive = process.poll() is None
    process.kill()
    process.wait()
    assert alive, "root's process was killed"


def as_engine(code, *args, uid=ENGINE):
    """Run Python code as the engine, or as another account."""
    become = "import os, socket, sys; os.setgroups([]); "
    become += f"os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})\n"
    return subprocess.run(
        [sys.executable, "-c", become + code, *map(str, args)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def forge(path, content):
    """Write a file as the engine would."""
    path.unlink(missing_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.chown(path, ENGINE, -1)


def recorded(process):
    """Return what pid.json would say of a process."""
    stat = procfs.stat(process.pid)
    return {
        "pid": stat.pid,
        "start_time": stat.start_time,
        "boot_id": jobdir.boot_id(),
        "started_at": 1.0,
        "enforced": {},
    }


@sentence(1)
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_directory_that_others_can_write_is_refused(state_dir, mode):
    """The records would be in reach of those they are kept from."""
    made = Supervisor(state_dir)
    made.run_dir.mkdir()
    made.run_dir.chmod(mode)
    done = subprocess.run(made.argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"accounts other than root can write in {made.run_dir}" in done.stderr
    assert "Traceback" not in done.stderr


@sentence(1)
def test_the_records_are_roots_alone(supervisor):
    """An engine could change which process is killed."""
    job_id, pid = supervisor.engine().begin()
    record = supervisor.run_dir / "jobs" / job_id / "pid.json"
    wait_until(record.exists)
    assert json.loads(record.read_text())["pid"] == pid
    for each in (supervisor.run_dir, *supervisor.run_dir.rglob("*")):
        found = each.lstat()
        assert (found.st_uid, found.st_mode & 0o077) == (0, 0), each


@sentence(2)
def test_a_forged_pid_is_not_signalled(supervisor, victim):
    """An engine could have root kill any process of the machine."""
    engine = supervisor.engine()
    forged = str(uuid.uuid4())
    directory = supervisor.state_dir / "jobs" / forged
    directory.mkdir()
    os.chown(directory, ENGINE, -1)
    forge(directory / "spec.json", SPEC)
    forge(directory / "pid.json", recorded(victim))
    kill = {"cause": "kill", "reason": None, "signalled": [15], "counts": False, "kill_at": 0.0}
    forge(directory / "kill.json", kill)
    forge(supervisor.state_dir / "supervisor.births", f"{forged} {victim.pid}\n")
    supervisor.kill()
    supervisor.start()
    engine = supervisor.engine()
    engine.known(forged)
    engine.send({"op": "kill", "id": forged, "signal": 9, "reason": None, "grace": 0.0})
    end = engine.known(forged)[forged]["exit"]
    assert end["cause"] == "lost"


@sentence(2)
def test_a_job_that_runs_is_known_by_roots_record_alone(supervisor, victim):
    """An engine could exchange the process of a job for another one while it runs."""
    engine = supervisor.engine()
    job_id, pid = engine.begin()
    directory = supervisor.state_dir / "jobs" / job_id
    wait_until((directory / "pid.json").exists)
    forge(directory / "pid.json", recorded(victim))
    supervisor.kill()
    supervisor.start()
    engine = supervisor.engine()
    assert engine.known(job_id)[job_id]["running"]["pid"] == pid
    engine.send({"op": "kill", "id": job_id, "signal": 9})
    engine.end(job_id)
    wait_until(lambda: procfs.stat(pid) is None)


@sentence(3)
def test_a_forged_end_hides_no_job(supervisor):
    """A job could go on for ever, unseen, with the account that it was given."""
    job_id, pid = supervisor.engine().begin()
    directory = supervisor.state_dir / "jobs" / job_id
    wait_until((directory / "pid.json").exists)
    end = {"cause": "own", "exit_code": 0, "signal": None, "reason": None, "ended_at": 1.0}
    forge(directory / "exit.json", end)
    supervisor.kill()
    supervisor.start()
    engine = supervisor.engine()
    assert engine.known(job_id)[job_id]["running"]["pid"] == pid
    engine.send({"op": "kill", "id": job_id, "signal": 9})
    assert engine.end(job_id)["cause"] == "kill"
    assert json.loads((directory / "exit.json").read_text())["cause"] == "kill"


@contextlib.contextmanager
def marked(job_id, uid):
    """Run a process that carries the mark of a job and leads a session."""

    def become():
        resource.setrlimit(resource.RLIMIT_RTTIME, (tree.mark(job_id), resource.RLIM_INFINITY))
        os.setresuid(uid, uid, uid)

    argv = ["sleep", "600"]
    process = subprocess.Popen(argv, start_new_session=True, preexec_fn=become)  # noqa: PLW1509
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def without_groups(state_dir, monkeypatch):
    """A supervisor that has only marks to go by."""
    monkeypatch.setenv("WORKER_CGROUPS", "off")
    with Supervisor(state_dir) as supervisor:
        yield supervisor


@sentence(4)
@pytest.mark.parametrize("uid", [0, pwd.getpwnam("games").pw_uid])
def test_a_mark_is_not_enough(without_groups, uid):
    """An engine could have a process killed that carries the mark of its job: that of another
    supervisor, since all marks can be seen."""
    job_id = str(uuid.uuid4())
    with marked(job_id, uid) as stranger:
        engine = without_groups.engine()
        engine.begin(job_id)
        engine.send({"op": "kill", "id": job_id, "signal": 9})
        engine.end(job_id)
        assert stranger.poll() is None
        adopted = str(uuid.UUID(int=uuid.UUID(job_id).int ^ 1))  # the same mark
        directory = without_groups.state_dir / "jobs" / adopted
        directory.mkdir()
        os.chown(directory, ENGINE, -1)
        forge(directory / "spec.json", SPEC)
        assert engine.known(adopted)[adopted].get("running") is None
        assert stranger.poll() is None


@sentence(4)
def test_what_carries_the_mark_and_may_be_the_jobs_is_ended(without_groups):
    """The check of accounts would let a job's own processes go on."""
    job_id = str(uuid.uuid4())
    with marked(job_id, pwd.getpwnam("daemon").pw_uid) as hidden:
        engine = without_groups.engine()
        engine.begin(job_id)
        engine.send({"op": "kill", "id": job_id, "signal": 9})
        engine.end(job_id)
        assert hidden.wait(20) == -signal.SIGKILL


@sentence(5)
@pytest.mark.parametrize("name", ["games", "no-such", "games\0", "daemon,games", "0", "#0", ""])
def test_an_account_that_root_has_not_listed_runs_nothing(supervisor, name):
    """An engine could be anybody but root."""
    engine = supervisor.engine()
    end = engine.end(engine.start(run_as=name))
    assert end["cause"] == "not_started"
    assert end["reason"].startswith(f"cannot run as {name}: root's supervisor may not run jobs")
    assert "--accounts" in end["reason"]


@sentence(6)
@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_list_that_others_can_write_is_refused(state_dir, place, mode):
    """An engine could add accounts to it."""
    listed = place / "accounts"
    listed.write_text("daemon\n")
    listed.chmod(mode)
    made = Supervisor(state_dir, "--accounts", str(listed))
    done = subprocess.run(made.argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"accounts other than root can write in {listed}" in done.stderr


@sentence(5, 6)
def test_the_list_is_read_again_on_reload(state_dir, place):
    """A new user's account would need a restart, which costs the ends of jobs; a broken list would
    end the supervisor."""
    listed = place / "accounts"
    listed.write_text("# whom\ndaemon   # the first\n\n")
    with Supervisor(state_dir, "--accounts", str(listed)) as supervisor:
        engine = supervisor.engine()
        assert engine.end(engine.start())["exit_code"] == 0
        assert "cannot run as games" in engine.end(engine.start(run_as="games"))["reason"]
        listed.chmod(0o666)
        supervisor.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "cannot reload" in supervisor.log())
        assert engine.end(engine.start())["exit_code"] == 0
        listed.chmod(0o644)
        listed.write_text("daemon\ngames\n")
        before = _made(state_dir / jobdir.SOCKET)
        supervisor.process.send_signal(signal.SIGHUP)
        wait_until(lambda: _made(state_dir / jobdir.SOCKET) not in (None, before))
        engine = supervisor.engine()
        assert engine.end(engine.start(run_as="games"))["exit_code"] == 0


def _made(path):
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return None


@sentence(7)
def test_root_is_only_for_those_whom_root_lets(state_dir):
    """An engine would be root."""
    with Supervisor(state_dir, "--accounts", "daemon,root") as supervisor:
        engine = supervisor.engine()
        end = engine.end(engine.start(run_as="root"))
        assert end["reason"].startswith("cannot run as root: this supervisor runs no jobs as root")


ID = str(uuid.UUID(int=7 << 64 | 4 << 76 | 2 << 62))
BAD_IDS = [
    "../../../tmp/x", "", ".", "..", f"{ID}/", f"{ID}\n", f" {ID}", f"{ID}/../x", ID.upper() + "A",
    ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", ID.replace("0", "A"),
    ID.replace("0", "\u0660"), 7, None, [ID], {"id": ID}, True,
]  # fmt: skip


@sentence(8)
def test_only_a_uuid_is_an_id(supervisor):
    """An engine could have root write and kill where a path leads: ../../system.slice"""
    engine = supervisor.engine()
    for each in BAD_IDS:
        engine.send({"op": "start", "id": each, "spec": SPEC})
        engine.send({"op": "kill", "id": each})
        engine.send({"op": "signal", "id": each, "signal": 9})
        engine.send({"op": "query", "ids": [ID, each], "token": 1})
    assert engine.known(ID) == {ID: {}}
    assert list((supervisor.state_dir / "jobs").iterdir()) == []
    assert supervisor.log().count("refused a request") == 4 * len(BAD_IDS)


def requests_of(job_id):
    """Yield requests with one field out of its bounds."""
    number = [float("nan"), float("inf"), -1, 1e300, 1 << 80, "5", True, [], {}]
    fields = {
        "command": [7, None, [], {}],
        "args": ["x", [7], [None], {"a": 1}, 7],
        "env": [[], "x", {"A": 7}, {"A": None}, 7],
        "cwd": [7, [], "x" * 5000],
        "stdin": [7, [], {"size": 3}, "x" * 5000],
        "run_as": [7, [], "x" * 300],
        "timeout": number,
        "stop_signal": ["SIGNONE", 0, -9, 65, 1 << 40, [], 9.5, True, "\u0669"],
        "stop_grace": number,
        "separate_stderr": ["x", 1, []],
        "output_limit": [-1, 1.5, "x", 1 << 63, True],
        "limits": [
            7,
            "x",
            [1],
            {"memory": "x"},
            {"pids": -1},
            {"a": {"b": "c"}},
            dict.fromkeys(map(str, range(40)), 1),
        ],
        "isolation": [7, "x", [1], {"writable": [7]}, {"writable": ["x"] * 2000}],
    }
    for name, values in fields.items():
        for value in values:
            if (name, value) != ("command", None):
                yield {"op": "start", "id": str(uuid.uuid4()), "spec": SPEC | {name: value}}
    for value in ([], "x", 7, None):
        yield {"op": "start", "id": str(uuid.uuid4()), "spec": value}
    for name, values in {
        "signal": ["9", 0, -9, 65, 1 << 40, True, 9.0],
        "grace": number,
        "reason": [7, [], "x" * 5000],
    }.items():
        for value in values:
            yield {"op": "kill", "id": job_id, name: value}
    for value in (None, "9", 0, 65, True):
        yield {"op": "signal", "id": job_id, "signal": value}
    for value in (None, "x", {}, [[]], [None], [ID] * (requests.MAX_IDS + 1)):
        yield {"op": "query", "ids": value, "token": 1}
    for value in (None, [], "x" * 100, {}, 1.5):
        yield {"op": "query", "ids": [], "token": value}
    for value in ("", "nothing", 7, None, [], {}, "x" * 10_000):
        yield {"op": value}
    yield {}


@sentence(9)
def test_a_request_out_of_bounds_does_nothing(supervisor):
    """A time that is not a number would put all timers in disorder, a list in place of a name end
    what handles it; and a job would run although nobody could end it."""
    engine = supervisor.engine()
    job_id, pid = engine.begin()
    hostile = list(requests_of(job_id))
    for each in hostile:
        engine.send(each)
    assert engine.known(job_id)[job_id]["running"]["pid"] == pid
    assert [path.name for path in (supervisor.state_dir / "jobs").iterdir()] == [job_id]
    log = supervisor.log()
    assert log.count("refused a request") == len(hostile)
    assert "Traceback" not in log
    assert max(map(len, log.splitlines())) < 300
    assert engine.end(engine.start())["exit_code"] == 0


def memory(supervisor):
    return procfs.peak_memory(supervisor.process.pid)


@sentence(10)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"op": "start", "id": [' + b"[]," * (10 << 20) + b"[]]}",
        b"\xff" * 1000,
        b"7",
        b'{"op": 1' + b"0" * 10_000 + b"}",
    ],
    ids=["nested", "objects", "parts", "no text", "no object", "digits"],
)
def test_a_message_that_costs_more_than_its_length_is_refused(supervisor, body):
    """An engine could have the supervisor use all memory of the machine, or its log all room."""
    engine = supervisor.engine()
    with pytest.raises((AssertionError, ConnectionError)):  # noqa: PT012  # either may find out
        engine.peer.sendall(len(body).to_bytes(4, "big") + body)
        engine.receive()
    assert memory(supervisor) < BOUNDED
    engine = supervisor.engine()
    assert engine.end(engine.start())["exit_code"] == 0
    assert "Traceback" not in supervisor.log()


@sentence(10)
def test_no_frame_is_longer_than_a_job_needs(supervisor):
    """A hundred connections could announce 4 GB each and send them."""
    for greet, most in ((True, requests.MAX_REQUEST), (False, 1 << 16)):
        engine = Engine(supervisor.state_dir, greet=greet)
        engine.peer.sendall((most + 1).to_bytes(4, "big") + b"x" * 100)
        with pytest.raises((AssertionError, ConnectionResetError)):
            engine.receive()


@sentence(10)
def test_all_connections_together_hold_a_bounded_amount(supervisor):
    """Each connection keeps its bounds, and all of them together take the memory."""
    engines = [supervisor.engine() for _ in range(server._MAX_CONNECTIONS)]
    one_more = socket.socket(socket.AF_UNIX)
    _peers.append(one_more)
    one_more.connect(str(supervisor.state_dir / jobdir.SOCKET))
    assert one_more.recv(10) == b""
    most = requests.MAX_REQUEST
    sent = 0
    for each in engines:
        with contextlib.suppress(ConnectionError):
            each.peer.sendall(most.to_bytes(4, "big"))
            for _ in range(most // (1 << 20) - 1):
                each.peer.sendall(b" " * (1 << 20))
                sent += 1 << 20
    assert sent > server._MAX_HELD
    assert memory(supervisor) < server._MAX_HELD * 2
    for each in engines:
        each.peer.close()
    engine = None
    while engine is None:  # until it has seen that they are closed
        with contextlib.suppress(AssertionError, ConnectionError):
            engine = supervisor.engine()
    assert engine.end(engine.start())["exit_code"] == 0


@sentence(10)
def test_an_answer_is_bounded(supervisor):
    """An engine could ask again and again for all ends, with reasons of its own making."""
    engine = supervisor.engine()
    ids = [str(uuid.uuid4()) for _ in range(300)]
    end = {"cause": "own", "exit_code": 0, "signal": None, "ended_at": 1.0}
    for job_id in ids:
        directory = supervisor.state_dir / "jobs" / job_id
        directory.mkdir()
        os.chown(directory, ENGINE, -1)
        forge(directory / "exit.json", end | {"reason": "x" * 200_000})
    assert len(engine.known(*ids[:50])) == 50
    with pytest.raises((AssertionError, ConnectionError)):  # noqa: PT012  # either may find out
        for _ in range(20):
            engine.send({"op": "query", "ids": ids, "token": 1})
        engine.receive()
    assert memory(supervisor) < BOUNDED
    engine = supervisor.engine()
    assert engine.end(engine.start())["exit_code"] == 0


@sentence(9)
def test_a_long_question_is_answered_while_others_go_on(supervisor):
    """One connection would keep all jobs from being started and reaped."""
    engine, other = supervisor.engine(), supervisor.engine()
    ids = [str(uuid.uuid4()) for _ in range(requests.MAX_IDS)]
    running, pid = engine.begin()
    engine.send({"op": "query", "ids": [*ids[1:], running], "token": 7})
    engine.send({"op": "query", "ids": [], "token": 8})
    assert other.end(other.start())["exit_code"] == 0
    answers = []
    while len(answers) < 2:
        message = engine.receive()
        if message.get("event") == "known":
            answers.append(message)
    assert [each["token"] for each in answers] == [7, 8]
    assert answers[0]["jobs"][running]["running"]["pid"] == pid
    assert len(answers[0]["jobs"]) == requests.MAX_IDS


@sentence(10)
def test_of_jobs_that_run_little_is_kept(supervisor):
    """An engine could have the supervisor remember the largest environment of each job."""
    engine = supervisor.engine()
    large = {f"V{n}": "x" * 100_000 for n in range(10)}
    engine.begin(env=large)
    before = procfs.peak_memory(supervisor.process.pid)
    for _ in range(24):
        engine.begin(env=large)
    assert procfs.peak_memory(supervisor.process.pid) - before < 12 * sum(map(len, large.values()))


@sentence(10)
def test_asking_to_kill_again_and_again_keeps_nothing(supervisor):
    """Each request would make the record of the kill longer."""
    engine = supervisor.engine()
    script = "trap '' TERM HUP; while :; do sleep 0.1; done"
    job_id, _ = engine.begin(command="sh", args=["-c", script])
    for _ in range(50):
        for signum in (15, 1):
            engine.send({"op": "kill", "id": job_id, "signal": signum, "grace": 1000.0})
    engine.known(job_id)
    record = supervisor.run_dir / "jobs" / job_id / "kill.json"
    assert sorted(json.loads(record.read_text())["signalled"]) == [1, 15]


@sentence(11)
def test_an_engine_cannot_end_the_supervisor(supervisor):
    """One engine that was taken over would take the service away, and all its bounds on time."""
    engine = supervisor.engine()
    job_id, _ = engine.begin()
    for _ in range(5):
        engine.send({"op": "shutdown"})
        engine.send({"op": "upgrade"})
    assert engine.end(job_id)["cause"] == "kill"
    assert engine.end(engine.start())["exit_code"] == 0
    assert "only just been executed" in supervisor.log()
    assert supervisor.process.poll() is None


LINKS = ["spec.json", "output", "stderr", "exit.json", "start.json", "pid.json", "kill.json"]


@sentence(12)
@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["symlink", "hard link", "magic link", "directory"])
def test_no_link_is_followed(supervisor, place, name, kind):
    """An engine could have root empty, fill or read files of others, or use its descriptors."""
    engine = supervisor.engine()
    target = place / "file of root"
    target.write_text("precious")
    target.chmod(0o600)
    job_id = str(uuid.uuid4())
    directory = supervisor.state_dir / "jobs" / job_id
    directory.mkdir()
    os.chown(directory, ENGINE, -1)
    planted = directory / name
    match kind:
        case "symlink":
            planted.symlink_to(target)
        case "hard link":
            os.link(target, planted)
        case "magic link":
            planted.symlink_to("/proc/self/fd/4")
        case "directory":
            planted.mkdir()
    engine.start(job_id, args=["x"], command="echo", output_limit=1, separate_stderr=True)
    assert engine.end(engine.start())["exit_code"] == 0
    engine.send({"op": "kill", "id": job_id, "signal": 9})
    engine.known(job_id)
    assert engine.end(engine.start())["exit_code"] == 0
    assert target.read_text() == "precious"
    assert supervisor.process.poll() is None


@sentence(12)
def test_no_directory_is_entered_through_a_link(supervisor, place):
    """An engine could write where another process is: /proc/PID/root is closed to it, and not to
    root."""
    engine = supervisor.engine()
    target = place / "open to all"
    target.mkdir()
    target.chmod(0o777)
    job_id = str(uuid.uuid4())
    (supervisor.state_dir / "jobs" / job_id).symlink_to(f"/proc/1/root{target}")
    engine.start(job_id)
    assert engine.end(engine.start())["exit_code"] == 0
    assert list(target.iterdir()) == []


@sentence(13)
@pytest.mark.parametrize("name", LINKS)
def test_no_pipe_is_waited_for(supervisor, name):
    """One `mkfifo` would stop all jobs of the machine."""
    engine = supervisor.engine()
    job_id = str(uuid.uuid4())
    directory = supervisor.state_dir / "jobs" / job_id
    directory.mkdir()
    os.mkfifo(directory / name)
    for each in (directory, directory / name):
        os.chown(each, ENGINE, -1)
    engine.start(job_id, output_limit=1, separate_stderr=True)
    engine.known(job_id)
    engine.send({"op": "kill", "id": job_id, "signal": 9})
    assert engine.end(engine.start())["exit_code"] == 0


@sentence(13)
def test_no_lease_is_waited_for(supervisor):
    """An engine that holds a lease on a file would stop all jobs for 45 seconds each time."""
    engine = supervisor.engine()
    job_id = str(uuid.uuid4())
    directory = supervisor.state_dir / "jobs" / job_id
    directory.mkdir()
    os.chown(directory, ENGINE, -1)
    held = []
    for name in LINKS[1:]:
        forge(directory / name, "{}")
        held.append(os.open(directory / name, os.O_RDWR))
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(held[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)
    began = time.monotonic()
    engine.start(job_id, separate_stderr=True)
    engine.known(job_id)
    assert engine.end(engine.start())["exit_code"] == 0
    patience = int(Path("/proc/sys/fs/lease-break-time").read_text())
    assert time.monotonic() - began < patience
    for each in held:
        os.close(each)


@sentence(13, 15)
@pytest.mark.parametrize("what", ["locks", "pipes", "directories", "links", "garbage"])
def test_the_supervisor_starts_whatever_it_finds(state_dir, place, what):
    """A file that an engine leaves behind would keep the next supervisor from starting, and so all
    jobs of all users from being ended in time."""
    names = [jobdir.LOCK, jobdir.LOG, jobdir.SOCKET, "supervisor.jobs", "supervisor.births"]
    held = []
    for name in names:
        path = state_dir / name
        match what:
            case "locks":
                path.touch()
                held.append(os.open(path, os.O_RDWR))
                fcntl.flock(held[-1], fcntl.LOCK_EX)
            case "pipes":
                os.mkfifo(path)
            case "directories":
                path.mkdir()
            case "links":
                path.symlink_to(place / "elsewhere")
            case "garbage":
                path.write_bytes(b"\0\xff" * 1000)
        os.chown(path, ENGINE, -1, follow_symlinks=False)
    with Supervisor(state_dir) as supervisor:
        engine = supervisor.engine()
        assert engine.end(engine.start())["exit_code"] == 0
    for each in held:
        os.close(each)
    assert not (place / "elsewhere").exists()


GARBAGE = [
    "", "{", "[]", "7", "null", "{}", '{"a": 1}', '{"pid": []}', "[" * 100_000, "\0",
    '{"cause": "own", "exit_code": "x", "signal": [], "reason": 7, "ended_at": "x"}',
    '{"cause": [], "exit_code": 0, "signal": null, "reason": null, "ended_at": NaN}',
    '{"pid": -1, "start_time": 1e400, "boot_id": 7, "started_at": null}',
    '{"command": [], "stop_signal": {}, "stop_grace": "x", "timeout": NaN, "limits": 7}',
    '{"stdout": "x", "stderr": -5}', "x" * (2 << 20),
]  # fmt: skip


@sentence(15)
def test_no_record_of_an_engine_breaks_anything(supervisor):
    """One file with a wrong type would end the supervisor at its start, or every answer."""
    ids = []
    for content in GARBAGE:
        for names in (["spec.json"], LINKS):
            job_id = str(uuid.uuid4())
            ids.append(job_id)
            directory = supervisor.state_dir / "jobs" / job_id
            directory.mkdir()
            os.chown(directory, ENGINE, -1)
            for name in names:
                forge(directory / name, content)
    supervisor.kill()
    supervisor.start()
    engine = supervisor.engine()
    assert set(engine.known(*ids)) == set(ids)
    for job_id in ids:
        engine.send({"op": "kill", "id": job_id, "signal": 9})
    assert engine.end(engine.start())["exit_code"] == 0
    assert "Traceback" not in supervisor.log()


@sentence(14)
def test_the_input_is_opened_with_the_rights_of_the_engine(supervisor, place):
    """A user could read root's files as the input of a job, or the memory map of its supervisor."""
    engine = supervisor.engine()
    secret, link = place / "secret", place / "link"
    secret.write_text("of root")
    secret.chmod(0o600)
    link.symlink_to("/proc/self/maps")
    readable = place / "readable"
    readable.write_text("of everybody")
    for path in (
        secret, "/proc/self/maps", "/proc/self/mem", "/proc/1/root/etc/passwd", link,
        f"/proc/self/cwd{readable}", "/dev/fd/0",
    ):  # fmt: skip
        job_id = engine.start(command="cat", stdin=str(path))
        end = engine.end(job_id)
        assert (end["cause"], end["reason"].split(":")[0]) == ("not_started", "stdin"), path
    job_id = engine.start(command="cat", stdin=str(readable))
    assert engine.end(job_id)["exit_code"] == 0


@sentence(16)
def test_what_is_made_is_the_engines(supervisor):
    """The engine could not read the output of its jobs, or others could."""
    engine = supervisor.engine()
    engine.end(engine.start(separate_stderr=True))
    engine.begin()
    for each in supervisor.state_dir.rglob("*"):
        found = each.lstat()
        assert (found.st_uid, found.st_mode & 0o077) == (ENGINE, 0), each


@sentence(20)
def test_a_descriptor_that_an_engine_sends_does_not_arrive(supervisor):
    """To close one can take for ever, on a file system that the engine makes up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(ENGINE, ENGINE, ENGINE)
            os.setresuid(ENGINE, ENGINE, ENGINE)
            engine = Engine(supervisor.state_dir)
            socket.send_fds(engine.peer, [wire.encode({"op": "kept"})], [writing])
            code = engine.known()  # it has read all of that
        finally:
            os._exit(code != {})
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    os.set_blocking(reading, False)
    assert os.read(reading, 1) == b""  # nobody has the other end
    os.close(reading)


@sentence(17)
def test_a_stranger_cannot_connect(supervisor):
    """Any local user could run jobs as anybody."""
    os.chmod(supervisor.state_dir, 0o711)
    os.chmod(supervisor.state_dir / jobdir.SOCKET, 0o777)
    code = "peer = socket.socket(socket.AF_UNIX)\npeer.connect(sys.argv[1]); print(peer.recv(9))"
    for name, answer in (("daemon", "b''"), ("games", "b''"), ("nobody", "b'\\x00")):
        uid = pwd.getpwnam(name).pw_uid
        done = as_engine(code, supervisor.state_dir / jobdir.SOCKET, uid=uid)
        assert done.stdout.startswith(answer), (name, done.stderr)


ATTACK = """
import ctypes, os, resource, signal, sys
supervisor, state_dir = int(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, action):
    try:
        action()
    except OSError:
        return
    print(name)
def traced():
    if libc.ptrace(16, supervisor, 0, 0):
        raise OSError
for signum in (0, signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
    attempt(f"signal {signum}", lambda: os.kill(supervisor, signum))
attempt("ptrace", traced)
attempt("prlimit", lambda: resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (8, 8)))
for name in ("mem", "environ", "maps", "fd", "cwd", "root"):
    attempt(name, lambda: os.listdir(f"/proc/{supervisor}/{name}"))
    attempt(name, lambda: open(f"/proc/{supervisor}/{name}", "rb").read(1))
attempt("state", lambda: os.listdir(state_dir))
for fd in (1, 2):
    attempt("output", lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
    attempt("output", lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
attempt("nice", lambda: os.setpriority(os.PRIO_PROCESS, supervisor, 19))
with open("/proc/self/oom_score_adj") as file:
    if int(file.read()) < int(sys.argv[3]):
        print("score")
attempt("score", lambda: open("/proc/self/oom_score_adj", "wb", buffering=0).write(b"-1000"))
print("done", sorted(os.listdir("/proc/self/fd")))
"""


@sentence(18, 19, 21)
def test_a_job_cannot_reach_the_supervisor(supervisor):
    """A job could stop what ends it, read other users' output, or take a descriptor of root's."""
    engine = supervisor.engine()
    usual = Path("/proc/self/oom_score_adj").read_text().strip()
    args = ["-c", ATTACK, str(supervisor.process.pid), str(supervisor.state_dir), usual]
    job_id = engine.start(command="/usr/bin/python3", args=args)
    assert engine.end(job_id)["exit_code"] == 0
    output = (supervisor.state_dir / "jobs" / job_id / "output").read_text()
    assert output == "done ['0', '1', '2', '3']\n"  # 3 is what lists them
    assert supervisor.process.poll() is None
