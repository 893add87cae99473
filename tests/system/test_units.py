"""Sizes and durations mean the same to `worker run` and in the settings of workerd."""

from __future__ import annotations

import pytest
from worker_cli import parsing
from worker_daemon.settings import units

SIZES = {
    "0": 0,
    "4096": 4096,
    "64k": 64 << 10,
    "64K": 64 << 10,
    "64kB": 64 << 10,
    "64KiB": 64 << 10,
    "10M": 10 << 20,
    "10mib": 10 << 20,
    "2G": 2 << 30,
    "1.5G": 3 << 29,
    "0.5MiB": 1 << 19,
    "1T": 1 << 40,
    "7B": 7,
    "4194304T": 1 << 62,
}
DURATIONS = {
    "0": 0.0,
    "90": 90.0,
    "1.5": 1.5,
    "500ms": 0.5,
    "90s": 90.0,
    "10m": 600.0,
    "1h30m": 5400.0,
    "1.5h": 5400.0,
    "2d": 172800.0,
    "2w": 1209600.0,
    "1w2d3h4m5s6ms": 788645.006,
    "36500d": 3153600000.0,
}
NEITHER = ["", "x", "-1", "1e3", "1.", ".5", "1,5", "1 parsec", "1 m 5", "5 5", "٣", "inf", "nan"]


@pytest.mark.parametrize(("text", "value"), SIZES.items())
def test_a_size_means_the_same_as_an_option_and_as_a_setting(text: str, value: int) -> None:
    """`memory = "2G"` would be refused, or mean something else than `--memory 2G`."""
    assert parsing.size(text) == value
    assert units.size(text) == value


@pytest.mark.parametrize(("text", "value"), DURATIONS.items())
def test_a_duration_means_the_same_as_an_option_and_as_a_setting(text: str, value: float) -> None:
    """`timeout = "1h30m"` would be refused, or mean something else than `--timeout 1h30m`."""
    assert parsing.duration(text) == pytest.approx(value)
    assert units.duration(text) == pytest.approx(value)


@pytest.mark.parametrize("text", [*NEITHER, "10s", "1h", "4194305T", "9" * 400])
def test_what_is_not_a_size_is_not_one_in_either_place(text: str) -> None:
    """A mistake would be found in one place only."""
    for read in (parsing.size, units.size):
        with pytest.raises(ValueError, match="must be"):
            read(text)


@pytest.mark.parametrize("text", [*NEITHER, "10k", "1h30", "36501d", "9" * 400])
def test_what_is_not_a_duration_is_not_one_in_either_place(text: str) -> None:
    """A mistake would be found in one place only."""
    for read in (parsing.duration, units.duration):
        with pytest.raises(ValueError, match="must be"):
            read(text)


@pytest.mark.parametrize("value", [*SIZES.values(), 1000, 1536, 65 << 20])
def test_the_client_reads_the_sizes_that_the_server_writes(value: int) -> None:
    """A maximum could not be copied from an error message into an option."""
    assert parsing.size(units.size_text(value)) == value


@pytest.mark.parametrize("value", [*DURATIONS.values(), 0.25, 75.0])
def test_the_client_reads_the_durations_that_the_server_writes(value: float) -> None:
    """A maximum could not be copied from an error message into an option."""
    assert parsing.duration(units.duration_text(value)) == value
