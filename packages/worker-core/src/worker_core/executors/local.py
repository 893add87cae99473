"""The client of the supervisor: runs jobs on this machine that outlive the engine.

It finds the supervisor of a state directory or starts one, reconnects when the supervisor ends, and
upgrades a supervisor with an older protocol in place.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

from worker_core import enforcement, wire
from worker_core.disk import jobdir
from worker_core.disk.jobdir import Exit
from worker_core.executor import Listener
from worker_core.executors.kept_descriptor import KeptDescriptor
from worker_core.linux.descriptor_store import DescriptorStore
from worker_core.model.errors import ExecutorUnavailable, FieldError, WorkerError
from worker_core.model.kill import KillRequest
from worker_core.model.spec import JobSpec

log = logging.getLogger(__name__)

_START_SECONDS = 15.0  # for a supervisor to start
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 2.0  # seconds between two tries
_BUSY = 75  # exit code of a supervisor when another one is running
_SEND_SECONDS = 10.0  # for it to read a message; the store's writer may wait for that
_CLOSE_SECONDS = 30.0  # for a supervisor to end all jobs
_ANSWER_SECONDS = 2.0  # for it to answer a question
_ALIVE = "alive"  # the token of the question whether the supervisor answers


class LocalExecutor:
    """Runs jobs through the supervisor of `state_dir`."""

    def __init__(
        self,
        state_dir: str,
        *,
        ephemeral: bool = False,
        no_new_privileges: bool = True,
        may_start: bool = True,
        store: DescriptorStore | None = None,
    ) -> None:
        """Prepare a client; the options say how a supervisor is started if none is running.

        With `ephemeral` the supervisor kills its jobs when this connection ends. Without
        `no_new_privileges` jobs may use sudo and the like. Without `may_start` none is started.
        With `store`, systemd keeps what the next supervisor needs if this process ends too.
        """
        self._state_dir = state_dir
        self._ephemeral = ephemeral
        self._no_new_privileges = no_new_privileges
        self._may_start = may_start
        self._lock = threading.Lock()  # one frame at a time goes out
        self._peer: socket.socket | None = None
        self._fault: str | None = "not connected yet"
        self._reported: str | None = None  # the fault that the supervisor has reported of itself
        self.hanging_starts = 0
        self._answered = threading.Event()  # of the latest question whether it is alive
        self._answered.set()
        self._able: dict[str, Any] = {"controllers": (), "cure": ""}
        self._closing = threading.Event()
        self._tokens = itertools.count()
        self._receipts: dict[object, _Receipt] = {}  # token -> what waits for its answer
        self._reader: threading.Thread | None = None
        self._kept = KeptDescriptor(store)
        self._upgraded = False  # asked once to be of a later revision
        # A server raises its own limit on open files. The jobs of a supervisor that it starts later
        # must not inherit that (select(2) fails above 1,024).
        self._open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    def connect(self, listener: Listener) -> None:
        """Connect, starting a supervisor if there is none."""
        decoder = self._open()
        reader = threading.Thread(
            target=self._read, args=(listener, decoder), name="worker-executor", daemon=True
        )
        try:
            reader.start()
        except RuntimeError:  # the limit on processes
            self.close(end_jobs=False)
            raise
        self._reader = reader

    def start(self, job_id: str, spec: dict[str, Any]) -> None:
        """Start a job."""
        self._send({"op": "start", "id": job_id, "spec": spec})

    def kill(self, job_id: str, request: KillRequest) -> None:
        """Kill a job."""
        how = {"reason": request.reason, "signal": request.signal, "grace": request.grace}
        self._send({"op": "kill", "id": job_id, **how})

    def signal(self, job_id: str, signum: int) -> None:
        """Send a signal to a job's process tree; return once the supervisor has read the request.

        A signal is sent at most once. If the supervisor ends or does not answer, it is not known
        whether the signal was sent: then this raises ExecutorUnavailable.
        """
        receipt = _Receipt()
        token = f"read-{next(self._tokens)}"
        with self._lock:
            self._receipts[token] = receipt
        # Requests are read in order, so the answer to the second one confirms the first as well.
        request = {"op": "signal", "id": job_id, "signal": signum}
        if self._send(request) and self._send({"op": "query", "ids": [], "token": token}):
            receipt.done.wait(_ANSWER_SECONDS)
        with self._lock:
            self._receipts.pop(token, None)
        if not receipt.confirmed:
            raise ExecutorUnavailable(
                "cannot confirm that the signal was sent: "
                f"{self._fault or 'the supervisor does not answer'}; "
                "check the state of the job, then try again"
            )

    def query(self, job_ids: Iterable[str]) -> None:
        """Ask about jobs."""
        self._send({"op": "query", "ids": list(job_ids), "token": next(self._tokens)})

    def unenforceable(self, spec: JobSpec) -> list[FieldError]:
        """Return each limit that the supervisor cannot enforce."""
        missing = enforcement.unenforceable(spec.limits.to_dict(), **self._able)
        return [FieldError(f"limits.{name}", why) for name, why in missing.items()]

    def fault(self) -> str | None:
        """Ask whether the supervisor is alive; return why it cannot be reached, None if it can."""
        if self._fault is not None:
            return self._fault
        if self._answered.is_set():  # otherwise an earlier caller waits for the same answer
            self._answered.clear()
            self._send({"op": "query", "ids": [], "token": _ALIVE})
        if self._answered.wait(_ANSWER_SECONDS):
            return self._fault or self._reported
        return f"it has not answered for {_ANSWER_SECONDS:g} seconds"

    def close(self, *, end_jobs: bool) -> None:
        """Disconnect; with `end_jobs`, the supervisor kills all jobs and ends first."""
        self._closing.set()
        if end_jobs:
            self._send({"op": "shutdown"})
            if self._reader is not None:
                self._reader.join(_CLOSE_SECONDS)
        with self._lock:
            if self._peer is not None:
                with contextlib.suppress(OSError):
                    self._peer.shutdown(socket.SHUT_RDWR)
        if self._reader is not None:
            self._reader.join(_CLOSE_SECONDS)
        if self._peer is not None:
            self._peer.close()
        self._kept.close()

    def _send(self, message: wire.Message) -> bool:
        """Send a message; return whether that worked.

        A start or a kill that was not sent needs no care here: the next connection begins with a
        question about every job, and the answer shows what is missing.
        """
        with self._lock:
            if self._peer is None:
                return False
            try:
                self._peer.sendall(wire.encode(message))
            except OSError:  # the supervisor has ended or reads nothing; half a message may be sent
                with contextlib.suppress(OSError):
                    self._peer.shutdown(socket.SHUT_RDWR)
                return False
            return True

    # -- the reader's thread, but for the first _open ----------------------------------------------

    def _read(self, listener: Listener, decoder: wire.Decoder) -> None:
        """Run until closed. Whatever fails is tried again, because nothing else would do that."""
        pause = _FIRST_PAUSE
        connected = True
        while True:
            try:
                if not connected:
                    decoder = self._open()
                listener.connected()
                pause = _FIRST_PAUSE
                while self._receive(
                    listener, decoder
                ):  # to the end of the stream, even after `close`
                    pass
            except (WorkerError, OSError) as error:
                self._fault = str(error)
                log.error("%s", error)
            if self._closing.wait(pause):
                return
            log.warning("the supervisor has ended; connecting to a new one or starting one")
            connected = False
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _receive(self, listener: Listener, decoder: wire.Decoder) -> bool:
        """Pass on what was received; return False at the end of the connection."""
        peer = self._peer
        try:
            data = self._kept.receive(peer, 1 << 16) if peer is not None else b""
            for message in decoder.feed(data):
                if message.get("event") == "kept":
                    self._kept.replace()
                elif message.get("token") == _ALIVE:
                    self._reported = message.get("fault")
                    self.hanging_starts = message.get("hanging", 0)
                    self._answered.set()
                elif receipt := self._receipts.get(message.get("token")):
                    receipt.confirmed = True
                    receipt.done.set()
                else:
                    _pass_on(listener, message)
        except (OSError, wire.ProtocolError) as error:
            log.warning("the connection to the supervisor failed: %s", error)
            data = b""
        listener.caught_up()
        if self._kept.is_due:
            self._request_kept()
        if not data:
            self._kept.disconnected()
            self._fault = "the supervisor has ended"
            self._answered.set()  # there will be no answer
            with self._lock:
                for receipt in self._receipts.values():
                    receipt.done.set()
        return bool(data)

    def _request_kept(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._peer is not None:
                self._kept.request(self._peer)

    def _open(self) -> wire.Decoder:
        """Connect to a supervisor of this protocol; return the decoder of its messages."""
        deadline = time.monotonic() + _START_SECONDS
        pause = _FIRST_PAUSE
        problem = "it did not answer"
        while time.monotonic() < deadline:
            try:
                peer, decoder = self._greet()
            except wire.ProtocolError as error:
                problem = str(error)
            except OSError:
                fault = self._spawn()
                if fault is None:
                    continue
                problem = fault
            else:
                with self._lock:
                    if self._peer is not None:
                        self._peer.close()
                    self._peer = peer
                    self._fault = None
                    self._answered.set()
                return decoder
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._fault = f"cannot reach the supervisor of {self._state_dir}: {problem}"
        raise ExecutorUnavailable(self._fault)

    def _greet(self) -> tuple[socket.socket, wire.Decoder]:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(_START_SECONDS)
            _connect(peer, self._state_dir)
            decoder = wire.Decoder()
            peer.sendall(wire.encode(wire.hello(pid=os.getpid())))
            first: list[wire.Message] = []
            while not first:
                data = peer.recv(4096)
                if not data:
                    raise ConnectionResetError("it closed the connection")
                first = decoder.feed(data)
            self._agree(first[0], peer)
            self._able = first[0]["able"]
            self._kept.request(peer)
            peer.settimeout(None)
            # Only for sending: reading may wait for a message for a long time.
            most = struct.pack("ll", *divmod(int(_SEND_SECONDS * 1e6), 1_000_000))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, most)
        except BaseException:
            peer.close()
            raise
        return peer, decoder

    def _agree(self, hello: wire.Message, peer: socket.socket) -> None:
        theirs = hello.get("protocol")
        if hello.get("hello") != "worker" or not isinstance(theirs, int):
            raise wire.ProtocolError("it is not a supervisor")
        if theirs > wire.PROTOCOL:
            self._fault = (
                f"cannot use the supervisor of {self._state_dir}: it speaks protocol {theirs} and "
                f"this release {wire.PROTOCOL}; install the later release again"
            )
            raise ExecutorUnavailable(self._fault)
        revision = hello.get("revision", 0)
        older = not self._upgraded and isinstance(revision, int) and revision < wire.REVISION
        if theirs < wire.PROTOCOL or older:
            self._upgraded = True
            log.info("upgrading a supervisor of protocol %d", theirs)
            peer.sendall(wire.encode({"op": "upgrade"}))
            raise wire.ProtocolError("it is being upgraded")

    def _spawn(self) -> str | None:
        """Start a supervisor and wait until it listens.

        Returns None, or why there may be no supervisor yet.
        """
        if not self._may_start:
            return "none is running; start the service worker-supervisor"
        argv = [sys.executable, "-P", "-m", "worker_core.supervisor", self._state_dir]
        argv += ["--open-files", str(self._open_files)]
        argv += ["--ephemeral"] if self._ephemeral else []
        argv += [] if self._no_new_privileges else ["--allow-new-privileges"]
        log_path = os.path.join(self._state_dir, jobdir.LOG)
        try:
            with open(log_path, "ab", opener=_private) as output:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # This avoids glibc's posix_spawn, which leaves two signals ignored for ever.
                    start_new_session=True,
                )
            code = _wait(process, _START_SECONDS)
        except OSError as error:
            return f"cannot start one: {error}"
        if code == _BUSY:
            return "another one is starting"
        return None if code == 0 else f"a new one did not start; see {log_path}"


class _Receipt:
    """Whether a request was read: `done` is set once that is known, or the connection is lost."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.confirmed = False


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait for the end of a process, or kill it; `subprocess` would look only every 50 ms."""
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()  # select(2) refuses descriptors above 1,023
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(seconds * 1000):
            process.kill()
        return process.wait()
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _connect(peer: socket.socket, state_dir: str) -> None:
    """Connect through a directory descriptor, because a socket's path may have 107 bytes only."""
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        peer.connect(f"/proc/self/fd/{directory}/{jobdir.SOCKET}")
    finally:
        os.close(directory)


def _pass_on(listener: Listener, message: wire.Message) -> None:
    """Call the listener; a WorkerError means that it cannot store this now. Reconnecting helps."""
    try:
        match message:
            case {"event": "started", "id": job_id, "pid": pid, "at": at}:
                listener.started(job_id, pid, at, message.get("enforced", {}))
            case {"event": "exited", "id": job_id, "exit": end}:
                listener.exited(job_id, Exit.from_dict(end))
            case {"event": "unrecorded", "id": job_id, "why": why}:
                listener.unrecorded(job_id, why)
            case {"event": "known", "jobs": jobs}:
                listener.known(jobs)
            case _:
                log.warning("unknown event: %s", message.get("event"))
    except WorkerError:
        raise
    except Exception:
        log.exception("cannot handle %s", message.get("event"))
