"""The OpenAPI document: whole enough for generators and linters (`tox -e clients` runs them)."""

from collections.abc import Iterator
from typing import Any

import pytest
from support.api import User

Document = dict[str, Any]


@pytest.fixture
def document(alice: User) -> Document:
    """The document."""
    told: Document = alice.get("/openapi.json").json()
    return told


def schemas(node: Any, path: str = "") -> Iterator[tuple[str, Document]]:
    """Yield each object below a node, with the path to it."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    elif isinstance(node, dict):
        yield path, node
    else:
        return
    for name, below in node.items():
        yield from schemas(below, f"{path}/{name}")


def test_the_job_object_has_one_name(document: Document) -> None:
    """Generated clients would have the same type twice, under names that say nothing."""
    body = document["paths"]["/jobs/run"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["anyOf"] == [
        {"$ref": "#/components/schemas/JobSpec"},
        {"$ref": "#/components/schemas/WrappedJobSpec"},
    ]
    objects = [
        path
        for path, node in schemas(document)
        if "command" in node.get("properties", {}) and "args" in node["properties"]
    ]
    # The second one is that of records, which shows of stdin only its size.
    assert objects == ["/components/schemas/JobSpec", "/components/schemas/StoredJobSpec"]


def test_every_reference_leads_somewhere_and_every_component_is_used(document: Document) -> None:
    """Generators would stop at a name that is not there."""
    used = {node["$ref"] for _, node in schemas(document) if "$ref" in node}
    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert used == there


def test_everything_is_described(document: Document) -> None:
    """A user who reads the document would have to guess what is meant."""
    assert document["servers"][0]["url"] == "/"
    tags = {tag["name"] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            assert len(operation["description"]) > 20, (method, path)
            assert set(operation["tags"]) <= tags
            assert operation["tags"]
            for parameter in operation.get("parameters", []):
                assert parameter["description"]
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for member, one in schema["properties"].items():
            assert one["description"], (name, member)


def test_no_number_has_two_least_values(document: Document) -> None:
    """Generators take one of them, which may be the one that the server refuses."""
    for path, node in schemas(document):
        assert not {"minimum", "exclusiveMinimum"} <= node.keys(), path


def test_every_answer_has_a_schema(document: Document) -> None:
    """A generated client would drop output and events, for want of a type."""
    for path, node in schemas(document["paths"]):
        for media, content in node.get("content", {}).items():
            assert content["schema"], (path, media)


def test_records_are_as_described(alice: User, document: Document) -> None:
    """Members of a record would be missing in the document."""
    job_id = alice.run("true")
    alice.ended(job_id)
    known = document["components"]["schemas"]
    record = alice.get(f"/jobs/{job_id}").json()
    assert record.keys() == known["Job"]["properties"].keys()
    assert record["usage"].keys() == known["Usage"]["properties"].keys()
    assert record["spec"].keys() == known["StoredJobSpec"]["properties"].keys()
    status = alice.get(f"/jobs/{job_id}/status").json()
    assert status.keys() == known["Status"]["properties"].keys()
