"""The options that say when a job starts."""

import time
from datetime import UTC, datetime

import pytest
from worker_cli.commands import queue_options, run


@pytest.fixture
def zone(monkeypatch):
    """Set the local time zone."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2027-03-28T01:30", "2027-03-28T00:30"),
        ("2027-03-28T02:30", "2027-03-28T01:30"),  # skipped: the clock shows 03:30 then
        ("2027-03-28T03:30", "2027-03-28T01:30"),
        ("2027-10-31T02:30", "2027-10-31T00:30"),  # shown twice: the first
        ("2027-10-31T03:30", "2027-10-31T02:30"),
        ("2027-06-01T08:00+05:30", "2027-06-01T02:30"),
    ],
)
def test_a_job_never_starts_before_the_local_clock_shows_its_time(zone, text, utc):
    """A job for 02:30 would start an hour early when daylight saving begins."""
    zone("Europe/Berlin")
    assert queue_options.AT.parse(text) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@pytest.mark.parametrize("name", ["America/Los_Angeles", "Pacific/Kiritimati"])
@pytest.mark.parametrize("text", ["0001-01-01T00:00", "9999-12-31T23:59", "9999-12-31T23:59+00:00"])
def test_a_time_at_the_end_of_the_calendar_is_read_or_refused(zone, name, text):
    """A traceback would be printed."""
    zone(name)
    why = ""
    try:
        queue_options.AT.parse(text).astimezone()
    except ValueError as error:
        why = str(error)
    assert why in ("", "must be a time from the year 1970 to the year 9999")


def test_a_fault_of_the_server_names_the_option():
    """A person would read `--after 0].job`."""

    class Given:
        def has(self, option):
            return option is queue_options.AFTER

    assert run._options_of("after[0].job", Given()) == "--after"
    assert run._options_of("lock", Given()) == "--lock (set by the server)"
