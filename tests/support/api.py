"""The HTTP API in this process: the real application, engine, users and TLS server."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import requests
from worker_core import Engine
from worker_daemon.api import app
from worker_daemon.auth import verifier

from support import edge

PASSWORD = "correct horse"  # everybody's
OCTETS = {"Accept": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}


class User(requests.Session):
    """Somebody who sends requests; `path` begins with a slash."""

    def __init__(self, url: str, auth: tuple[str, str] | None) -> None:
        super().__init__()
        self._url = url
        self.auth = auth
        self.verify = str(edge.CERTS / "ca.pem")
        self.trust_env = False  # no proxy, no netrc, no other CA

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; a test hangs for half a minute at most."""
        return super().request(method, self._url + path, **{"timeout": 30, **kwargs})

    def run(self, command: str, *args: str, **fields: Any) -> str:
        """Create a job; return its id."""
        answer = self.post("/jobs/run", json={"command": command, "args": args, **fields})
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    def shell(self, line: str, **fields: Any) -> str:
        """Create a job of a shell; return its id."""
        return self.run("/bin/sh", "-c", line, **fields)

    def ended(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end; return its status."""
        status: dict[str, Any] = self.get(f"/jobs/{job_id}/status?wait=30").json()
        assert status["ended_at"], f"the job goes on: {status}"
        return status

    def out(self, job_id: str, query: str = "") -> bytes:
        """Return a job's output."""
        answer = self.get(f"/jobs/{job_id}/out{query}", headers=OCTETS)
        assert answer.status_code == 200, answer.text
        return answer.content


class Api:
    """A running server. alice and bob are users, root is an administrator, eve is nobody."""

    def __init__(self, engine: Engine, running: edge.Edge) -> None:
        self.engine = engine
        self.edge = running
        self.url = f"https://localhost:{running.port}"
        self._sessions = contextlib.ExitStack()

    def user(self, name: str, password: str = PASSWORD) -> User:
        """Return somebody with a name and a password."""
        return self._sessions.enter_context(User(self.url, (name, password)))

    def stranger(self) -> User:
        """Return somebody who says nothing of themselves."""
        return self._sessions.enter_context(User(self.url, None))

    def close(self) -> None:
        """Close all connections."""
        self._sessions.close()


@contextlib.contextmanager
def serving(
    engine: Engine, directory: Path, *, downloads: int = 1024, **settings: Any
) -> Iterator[Api]:
    """Serve the API around an engine until the block ends."""
    file = directory / "users"
    file.touch(mode=0o600)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    file.write_text("".join(f"{name}:{hashed}\n" for name in ("alice", "bob", "root")))
    settings.setdefault("admins", frozenset({"root"}))

    def application(*call: Any) -> Any:
        return made(*call)

    def may_send_body(*call: Any) -> str:
        return made.may_send_body(*call)

    with edge.serving(
        application, may_send_body=may_send_body, verifies=True, **settings
    ) as running:
        made = app.create_app(
            engine,
            verifier.Verifier(file),
            running.settings,
            draining=running.server.draining,
            downloads=downloads,
        )
        api = Api(engine, running)
        try:
            yield api
        finally:
            api.close()


def refused(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Return a problem document after a look at its shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["detail"]
    return document


class Gate:
    """Holds a job back until a test lets it go on: the job says `read line < gate`."""

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        self._path = directory / "gate"
        os.mkfifo(self._path)

    def open(self) -> None:
        """Let the job go on, once it is there."""
        self._path.write_text("go\n")
