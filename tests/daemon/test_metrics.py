"""GET /metrics: numbers for Prometheus, in its text format."""

from typing import Any

from support.api import Api, User, refused
from worker_daemon.api import prometheus


def numbers(user: User) -> dict[str, float]:
    """Return every sample by its name and labels, having looked at the form of each line."""
    answer = user.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, float] = {}
    for line in answer.text.splitlines():
        if line.startswith("#"):
            assert line.split()[1] in ("HELP", "TYPE")
            continue
        name, _, value = line.rpartition(" ")
        assert name not in found, "a sample comes twice"
        found[name] = float(value)
    return found


def test_requests_are_counted_by_route(own: Api) -> None:
    """Nobody would see that requests fail, or are slow."""
    alice = own.user("alice")
    job_id = alice.run("true")
    alice.ended(job_id)
    alice.get("/jobs/unknown/status")
    alice.request("BREW", "/jobs")
    own.stranger().get("/jobs")
    own.stranger().get("/some/path")
    refused(own.stranger().post("/jobs/run", data=bytes(1 << 20)), 401, "unauthorized")
    told = numbers(alice)
    labels = {
        'method="POST",route="/jobs/run",status="201"': 1,
        'method="GET",route="/jobs/{job_id}/status",status="200"': 1,
        'method="GET",route="/jobs/{job_id}/status",status="404"': 1,
        'method="other",route="/jobs",status="405"': 1,
        'method="GET",route="other",status="401"': 2,
    }
    for each, count in labels.items():
        assert told[f"workerd_requests_total{{{each}}}"] == count
    assert told['workerd_refused_logins_total{status="401"}'] == 3
    assert told['workerd_request_seconds_count{route="/jobs/run"}'] == 1


def test_jobs_are_counted_by_state(own: Api) -> None:
    """Nobody would see that the server is full."""
    alice = own.user("alice")
    job_id = alice.run("sleep", "1000")
    assert numbers(alice)['workerd_jobs{state="running"}'] == 1
    alice.put(f"/jobs/{job_id}/kill")
    assert numbers(alice)['workerd_jobs{state="running"}'] == 0


def test_no_number_names_a_user_or_a_job(own: Api) -> None:
    """Everybody who may read the numbers would learn who runs what."""
    alice = own.user("alice")
    job_id = alice.run("true", name="secret")
    alice.get(f"/jobs/{job_id}?owner=alice")
    text = alice.get("/metrics").text
    assert "alice" not in text
    assert job_id not in text
    assert "secret" not in text


def test_a_histogram_counts_what_is_below() -> None:
    """Percentiles would be wrong."""
    seconds = prometheus.Histogram("seconds", "Time.", "route", (0.1, 1))
    for value in (0.05, 0.1, 0.5, 7):
        seconds.observe("/x", value)
    assert prometheus.text([seconds]).splitlines()[2:] == [
        'seconds_bucket{route="/x",le="0.1"} 2',
        'seconds_bucket{route="/x",le="1"} 3',
        'seconds_bucket{route="/x",le="+Inf"} 4',
        'seconds_sum{route="/x"} 7.65',
        'seconds_count{route="/x"} 4',
    ]


def test_odd_labels_are_escaped() -> None:
    """One odd name would make all numbers unreadable."""
    counter = prometheus.Counter("c", "Count.", ("name",))
    counter.add('a"b\\c\nd')
    lines: list[Any] = prometheus.text([counter]).splitlines()
    assert lines[2] == r'c{name="a\"b\\c\nd"} 1'


def test_a_counter_without_labels_begins_at_nothing() -> None:
    """An alarm on a counter that never counted would see no number at all."""
    assert prometheus.text([prometheus.Counter("c", "Count.")]).endswith("\nc 0\n")


def test_waiting_jobs_are_counted_by_gate(alice: User) -> None:
    """An operator would not know whether more slots would help the jobs that wait."""
    job_id = alice.run("true", hold=True)
    assert numbers(alice)['workerd_jobs_waiting{gate="hold"}'] == 1
    alice.patch(f"/jobs/{job_id}", json={"hold": False})
    alice.ended(job_id)
    assert numbers(alice)['workerd_jobs_waiting{gate="hold"}'] == 0
