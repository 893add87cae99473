"""The public names of worker_core."""

import ast
import inspect

import pytest
import worker_core


def test_every_public_name_can_be_imported():
    """A program would fail at an import that the documentation shows."""
    for name in worker_core.__all__:
        assert getattr(worker_core, name) is not None
    assert set(worker_core.__all__) <= set(dir(worker_core))
    with pytest.raises(AttributeError, match="no attribute 'Engin'"):
        _ = worker_core.Engin


def test_type_checkers_see_the_same_names():
    """A type checker would refuse a name that works, or accept one that does not exist."""
    imports = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(worker_core)))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("worker_core.")
    ]
    seen = {
        each.name: str(node.module).removeprefix("worker_core.")
        for node in imports
        for each in node.names
    }
    assert seen == worker_core._MODULES
