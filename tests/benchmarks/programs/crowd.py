"""Many followers of one job in one process: when does each line reach each of them?

Reads from stdin, as JSON: host, port, ca, user, password, job, followers, seconds. Prints "ready"
once everybody is connected, and after `seconds` a JSON object with the seconds between the printing
of a line and its arrival, and how many lines the follower with the fewest got.
"""

import json
import re
import select
import ssl
import sys
import time
from pathlib import Path

from benchmarks.client import Connection

_STAMP = re.compile(rb"^(\d{10,})$", re.M)
_NANO = 1e-9


class Crowd:
    """All connections, and what came through them."""

    def __init__(self, told: dict) -> None:
        self._epoll = select.epoll()
        self._connections = {}
        self._left = {}
        self.lines = {}
        self.delays = []
        for _ in range(told["followers"]):
            self._join(told)

    def _join(self, told: dict) -> None:
        login = (told["user"], told["password"])
        connection = Connection(told["host"], told["port"], Path(told["ca"]), *login)
        connection.send(
            "GET", f"/jobs/{told['job']}/out?follow=true", Accept="application/octet-stream"
        )
        connection.socket.setblocking(False)
        number = connection.socket.fileno()
        self._connections[number] = connection
        self._left[number] = b""
        self.lines[number] = 0
        self._epoll.register(number, select.EPOLLIN)

    def settle(self) -> None:
        """Take the heads and all that was printed before; whoever is refused is an error."""
        waiting = set(self._connections)
        deadline = time.monotonic() + 30
        while waiting and time.monotonic() < deadline:
            for number, _ in self._epoll.poll(1):
                data = self._read(number)
                if number in waiting and data:
                    if not data.startswith(b"HTTP/1.1 200"):
                        raise RuntimeError(data.decode("latin-1"))
                    waiting.discard(number)
        if waiting:
            raise RuntimeError(f"{len(waiting)} followers got no answer")

    def listen(self, seconds: float) -> None:
        """Note each line's delay for so long."""
        begun = time.monotonic()
        while (left := begun + seconds - time.monotonic()) > 0:
            for number, _ in self._epoll.poll(left):
                data = self._read(number)
                self._note(number, data, begun)

    def _note(self, number: int, data: bytes, begun: float) -> None:
        now = time.monotonic()
        text = self._left[number] + data.replace(b"\r", b"")
        whole, _, self._left[number] = text.rpartition(b"\n")
        for stamp in _STAMP.findall(whole):
            printed = int(stamp) * _NANO
            if printed >= begun:
                self.delays.append(now - printed)
                self.lines[number] += 1

    def _read(self, number: int) -> bytes:
        found = b""
        try:
            while data := self._connections[number].socket.recv(1 << 14):
                found += data
        except ssl.SSLWantReadError:
            return found
        raise RuntimeError("the server ended a follower's connection")


def main() -> None:
    """Follow."""
    told = json.load(sys.stdin)
    crowd = Crowd(told)
    crowd.settle()
    print("ready", flush=True)
    crowd.listen(told["seconds"])
    print(json.dumps({"delays": crowd.delays, "fewest": min(crowd.lines.values())}))


if __name__ == "__main__":
    main()
