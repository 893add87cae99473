"""A service manager that keeps descriptors, as systemd does (sd_notify(3), sd_listen_fds(3))."""

import os
import select
import socket
import subprocess
import sys
import threading

from worker_core.linux import descriptors

_END = b"end"


class Manager:
    """What systemd does with the descriptors of a service (sd_notify(3))."""

    def __init__(self, path):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._lock = threading.Lock()
        self._reader = None
        self.store = []  # (name, descriptor)

    def keep_reading(self):
        """Take what is sent from now on, so that nobody who sends has to wait."""

        def serve():
            while select.select([self._socket], [], [])[0]:
                if self.read():
                    return

        self._reader = threading.Thread(target=serve)
        self._reader.start()

    def read(self):
        """Take what was sent; return whether the end of it was."""
        with self._lock:
            return self._read()

    def _read(self):
        while True:
            try:
                data, came, _ = descriptors.receive(self._socket, 4096, 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            if data == _END:
                return True
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            if fields.get("FDSTORE") == "1":
                assert fields["FDPOLL"] == "0"  # else it is dropped when the supervisor ends
                self.store += [(fields["FDNAME"], each) for each in came]
            elif fields.get("FDSTOREREMOVE") == "1":
                descriptors.close(fd for name, fd in self.store if name == fields["FDNAME"])
                self.store = [each for each in self.store if each[0] != fields["FDNAME"]]

    def passed(self):
        """Return what the next process of the service gets."""
        self.read()
        with self._lock:
            return self._copies()

    def _copies(self):
        return [(name, os.dup(descriptor)) for name, descriptor in self.store]

    def close(self):
        """Keep nothing any more."""
        if self._reader is not None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(_END, self.path)
            self._reader.join(10)
        descriptors.close(descriptor for _, descriptor in self.store)
        self._socket.close()

    def start(self, argv, env=None, **options):
        """Start a process of the service: it gets what is stored, from descriptor 3 on."""
        passed = self.passed()
        environment = {**(os.environ if env is None else env), "NOTIFY_SOCKET": self.path}
        environment["LISTEN_FDS"] = str(len(passed))
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in passed)
        numbers = [number for _, number in passed]
        program = [sys.executable, "-c", _START, *map(str, numbers), "--", *argv]
        started = subprocess.Popen(program, pass_fds=numbers, env=environment, **options)
        descriptors.close(numbers)
        return started


_START = """
import os, sys
at = sys.argv.index("--")
moved = [os.dup(int(number)) for number in sys.argv[1:at]]
while moved and min(moved) < 3 + len(moved):
    moved = [os.dup(number) for number in moved]
for number, descriptor in enumerate(moved, 3):
    os.dup2(descriptor, number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[at + 1], sys.argv[at + 1:])
"""
