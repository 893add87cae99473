"""The names that programs import from `worker_cli`."""

from __future__ import annotations

import pytest
import worker_cli


def test_public_names() -> None:
    """A name in the documentation could not be imported."""
    assert {"Client", "JobHandle", "ClientError", "RequestRefused"} <= set(worker_cli.__all__)
    for name in worker_cli.__all__:
        assert getattr(worker_cli, name).__module__.startswith("worker_cli.")
    assert set(worker_cli.__all__) <= set(dir(worker_cli))
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = worker_cli.Clint


@pytest.mark.parametrize(
    ("old", "new"),
    [("Absent", "ServerUnavailable"), ("Dropped", "ConnectionLost"), ("Refused", "RequestRefused")],
)
def test_names_of_the_previous_release_still_work(old: str, new: str) -> None:
    """A program that was written for release 0.1.0 would stop with an AttributeError."""
    with pytest.warns(DeprecationWarning, match=f"{old} is now called worker_cli.{new};") as caught:
        error = getattr(worker_cli, old)
    assert error is getattr(worker_cli, new)
    assert caught[0].filename == __file__
