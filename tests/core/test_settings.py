"""EngineSettings: renamed settings."""

import dataclasses

import pytest
from worker_core import EngineSettings

RENAMED = {
    "max_running_of_owner": "max_running_per_owner",
    "max_queued_of_owner": "max_queued_per_owner",
    "keep_bytes_of_owner": "keep_bytes_per_owner",
}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_works_under_its_old_name_with_a_warning(old, new):
    """A program written for 0.1 would not start, or would run without its limits."""
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated; use {new}") as warned:
        settings = EngineSettings(max_running=3, **{old: 7})
    assert warned[0].filename == __file__
    assert settings == EngineSettings(max_running=3, **{new: 7})
    with pytest.warns(DeprecationWarning, match=f"use {new}"):
        assert getattr(settings, old) == 7


def test_the_new_names_work_without_a_warning():
    """Every program would see warnings that it cannot avoid."""
    settings = EngineSettings(max_running_per_owner=2)
    assert dataclasses.replace(settings, max_queued_per_owner=1).max_running_per_owner == 2


def test_an_unknown_setting_is_refused():
    """A misspelt limit would silently be no limit."""
    with pytest.raises(TypeError, match="max_runing"):
        EngineSettings(max_runing=1)
    with pytest.raises(AttributeError, match="max_runing"):
        _ = EngineSettings().max_runing
