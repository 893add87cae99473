"""BOUNDS.md: its tables are complete, and each row names a test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.api import User

TESTS = Path(__file__).parents[1]
FILE = TESTS.parent / "packages/worker-daemon/BOUNDS.md"
ROW = re.compile(r"^\|(.*)\|$")
TEST = re.compile(r"`(?:(core)/)?(test_\w+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of each row, without the headers."""
    found = [ROW.match(line) for line in FILE.read_text("utf-8").splitlines()]
    cells = [[cell.strip() for cell in row[1].split("|")] for row in found if row]
    return [row for row in cells if row[-1] not in ("test", "---")]


def in_the_document(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each request, and each with each of its parameters and fields."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in ("get", "post", "put", "patch", "delete"):
                request = f"`{method.upper()} {path}`"
                yield request, ""
                for each in operation.get("parameters", ()):
                    yield request, f"`{each['name']}`"
                for name in fields(document, operation):
                    yield request, f"`{name}`"


def fields(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """Return the names of the members of a request's body."""
    if "requestBody" not in operation:
        return []
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    while "properties" not in schema:
        if "anyOf" in schema:
            schema = schema["anyOf"][0]
        else:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return [*schema["properties"]]


def test_each_endpoint_and_parameter_has_a_row(alice: User) -> None:
    """A new parameter would have no bound, or an undocumented one."""
    wanted = list(in_the_document(alice.get("/openapi.json").json()))
    listed = [(row[0], row[1]) for row in rows() if len(row) == 5]
    assert sorted(listed) == sorted(wanted)


@pytest.mark.parametrize("row", rows(), ids=lambda row: " ".join(row[:2])[:60])
def test_each_row_names_a_test_that_there_is(row: list[str]) -> None:
    """A promised bound would not be tested."""
    named = TEST.search(row[-1])
    assert named, f"{row} names no test"
    file = TESTS / (named[1] or "daemon") / named[2]
    tree = ast.parse(file.read_text("utf-8"))
    assert named[3] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
