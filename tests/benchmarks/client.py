"""The least of an HTTPS client: one kept-alive connection, nothing but requests and answers."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

_TIMEOUT = 70.0  # longer than any answer may take


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Connection:
    """One connection of one user."""

    def __init__(
        self, host: str, port: int, ca: Path, user: str, password: str, source: str = ""
    ) -> None:
        self.login = basic(user, password)
        origin = (source, 0) if source else None
        plain = socket.create_connection((host, port), _TIMEOUT, origin)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.create_default_context(cafile=ca)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")

    def send(self, method: str, path: str, body: object = None, **headers: str) -> None:
        """Send a request."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: {self.login}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + data)

    def receive(self) -> tuple[int, str, bytes]:
        """Return status, head and body of an answer that says how long it is."""
        data = bytearray()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].decode("latin-1")
        length = 0
        for line in head.split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        while len(data) < end + 4 + length:
            data += self._more()
        return int(head[9:12]), head, bytes(data[end + 4 :])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of an answer; anything but success is an error."""
        self.send(method, path, body)
        status, _, data = self.receive()
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {data.decode()}")
        return json.loads(data) if data else None

    def run(self, *argv: str, **options: object) -> str:
        """Create a job; return its id."""
        job = {"command": argv[0], "args": argv[1:], **options}
        return str(self.ask("POST", "/jobs/run", job)["id"])

    def wait(self, job_id: str) -> dict[str, Any]:
        """Return the status of a job once it has ended; a job that did not complete is an error."""
        status: dict[str, Any] = {"status": "running"}
        while status["status"] in ("queued", "running", "stopping"):
            status = self.ask("GET", f"/jobs/{job_id}/status?wait=60")
        if status["status"] != "completed":
            raise RuntimeError(f"the job has not completed: {status}")
        return status

    def time(self, method: str, path: str) -> float:
        """Return the seconds until an answer is there."""
        begun = time.perf_counter()
        self.ask(method, path)
        return time.perf_counter() - begun

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def _more(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionResetError("workerd closed the connection")
        return data
