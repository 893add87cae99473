"""?tail= of long outputs."""

import os

import pytest
from support.api import OCTETS, Api, User, refused
from support.waiting import wait_until
from worker_core.output import spool
from worker_daemon.api.resources import output

SPARSE = "import os; os.ftruncate(1, 15 << 40)"


def test_the_tail_of_a_sparse_output_begins_at_once(alice: User) -> None:
    """A sparse file, which needs no disk space, would keep the server busy for hours."""
    job_id = alice.run("python3", "-c", SPARSE, output_limit=0)
    alice.ended(job_id)
    answer = alice.get(f"/jobs/{job_id}/out?tail=1", headers=OCTETS, stream=True)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == spool.LONGEST_TAIL
    assert next(answer.iter_content(100)) == bytes(100)
    answer.close()


def test_a_long_search_takes_a_place(own: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many searches at the same time would leave no thread for other requests."""
    alice, other = own.user("alice"), own.user("alice")
    job_id = alice.shell("head -c 3000000 /dev/zero | tr '\\0' x")
    alice.ended(job_id)
    monkeypatch.setattr(output, "_BLOCKS_AT_ONCE", 2)
    counts = []
    whole = os.pread

    def pread(*call: int) -> bytes:
        counts.append(other.get("/metrics").text.count("\nworkerd_followers 1\n"))
        return whole(*call)

    monkeypatch.setattr(spool.os, "pread", pread)
    assert len(alice.out(job_id, "?tail=1")) == 3_000_000
    assert counts[:2] == [0, 0]
    assert set(counts[2:-1]) >= {1}
    wait_until(lambda: "\nworkerd_followers 0\n" in other.get("/metrics").text)


def test_a_search_ends_with_its_client(own: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search would continue although its client has left."""
    from worker_daemon.api import long_requests

    alice = own.user("alice")
    job_id = alice.shell("head -c 3000000 /dev/zero | tr '\\0' x")
    alice.ended(job_id)
    monkeypatch.setattr(long_requests, "gone", lambda _req: True)
    reads = []
    whole = os.pread
    monkeypatch.setattr(spool.os, "pread", lambda *call: (reads.append(1), whole(*call))[1])
    refused(alice.get(f"/jobs/{job_id}/out?tail=1"), 503, "draining")
    assert len(reads) <= 1
