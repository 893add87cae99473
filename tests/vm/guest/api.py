"""A user of the API, inside the machine."""

import os
import uuid
from pathlib import Path
from typing import Any

import requests
from support.waiting import wait_until
from vm.guest.service import PASSWORD, PATIENCE, Service

OCTETS = {"Accept": "application/octet-stream"}


class User(requests.Session):
    """Somebody who sends requests; `path` begins with a slash."""

    def __init__(self, service: Service, name: str) -> None:
        super().__init__()
        self.name = name
        self._url = service.url
        self.auth = (name, PASSWORD)
        self.verify = str(service.configuration / "ca.pem")
        self.trust_env = False

    def request(self, method: str, path: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send a request, by a new connection: workerd may be another one by now."""
        headers = {"Connection": "close", **(options.pop("headers", None) or {})}
        options = {"timeout": 90, **options}
        return super().request(method, self._url + path, headers=headers, **options)

    def run(self, command: str, *args: str, **fields: Any) -> str:
        """Create a job; return its id."""
        answer = self.post("/jobs/run", json={"command": command, "args": args, **fields})
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    def shell(self, line: str, **fields: Any) -> str:
        """Create a job of a shell; return its id."""
        return self.run("/bin/sh", "-c", line, **fields)

    def status(self, job_id: str, wait: float = 0) -> dict[str, Any]:
        """Return a job's status, after `wait` seconds or when it has ended."""
        answer = self.get(f"/jobs/{job_id}/status?wait={wait}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end; return its status."""
        status = self.status(job_id, wait=60)
        assert status["ended_at"], f"the job goes on: {status}"
        return status

    def leader(self, job_id: str) -> int:
        """Return the pid of a job's leader, once it has one."""
        wait_until(lambda: self.record(job_id)["pid"], PATIENCE)
        pid: int = self.record(job_id)["pid"]
        return pid

    def record(self, job_id: str) -> dict[str, Any]:
        """Return the whole record of a job."""
        found: dict[str, Any] = self.get(f"/jobs/{job_id}").json()
        return found

    def out(self, job_id: str) -> bytes:
        """Return a job's output."""
        answer = self.get(f"/jobs/{job_id}/out", headers=OCTETS)
        assert answer.status_code == 200, answer.text
        return answer.content

    def kill(self, job_id: str, **how: Any) -> dict[str, Any]:
        """End a job; return what is answered."""
        answer = self.put(f"/jobs/{job_id}/kill?wait=30", json=how)
        assert answer.status_code in (200, 202, 409), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def unfinished(self) -> list[str]:
        """Return the ids of the jobs that have not ended."""
        answer = self.get("/jobs?status=queued&status=running&status=stopping&limit=200")
        return [job["id"] for job in answer.json()["jobs"]]


class Gate:
    """Holds jobs back until a test lets them go on: each says `read line < gate`."""

    def __init__(self) -> None:
        self.path = Path("/run") / f"gate-{uuid.uuid4()}"  # where every account gets to
        os.mkfifo(self.path)
        self.path.chmod(0o666)
        self._fd = os.open(self.path, os.O_RDWR)

    @property
    def wait(self) -> str:
        """The words of a shell that wait for the gate."""
        return f"read line < {self.path}"

    def open(self, jobs: int = 1) -> None:
        """Let as many jobs go on, now or when they get here."""
        os.write(self._fd, b"\n" * jobs)  # a byte for each: two readers cannot share a line

    def remove(self) -> None:
        """Take the gate away."""
        os.close(self._fd)
        self.path.unlink()
