"""JSON Schemas (2020-12), made from the types of requests and answers."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import worker_core
from worker_core.model import limits, rules, spec

from worker_daemon import problems
from worker_daemon.api import params
from worker_daemon.api.openapi import descriptions

Schema = dict[str, Any]

_PLAIN: Mapping[type, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
# The rules by which the engine checks the fields of each type.
_RULES: Mapping[type, Mapping[str, rules.Rule]] = {
    worker_core.JobSpec: spec.RULES,
    **limits.RULES_OF,
}


def of(annotation: Any) -> Schema:
    """Return the schema of a type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (kind,) = (each for each in arguments if each is not types.NoneType)
        return _or_null(of(kind))
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": of(arguments[1])}
    if origin is not None and issubclass(origin, Sequence):
        return {"type": "array", "items": of(arguments[0])}
    if dataclasses.is_dataclass(annotation):
        return ref(typing.cast("type", annotation).__name__)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {"type": "string", "enum": [each.value for each in annotation]}
    return dict(_PLAIN[annotation])


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def of_object(kind: type) -> Schema:
    """Return the schema of a part of the job object."""
    properties = {name: rule.schema() for name, rule in _RULES[kind].items()}
    docs = descriptions.OF_MEMBER[kind]
    schema = _request(properties, required=params.required(kind), docs=docs)
    return schema | {"description": descriptions.OF_TYPE[kind]}


def of_request(kind: type) -> Schema:
    """Return the schema of a request's body."""
    if kind is worker_core.JobSpec:
        return {"anyOf": [ref("JobSpec"), ref("WrappedJobSpec")]}
    declared = params.declared(kind)
    properties = {name: field.rule.schema() for name, field in declared.items()}
    docs = {name: field.doc for name, field in declared.items()}
    return _request(properties, required=params.required(kind), docs=docs)


def components() -> dict[str, Schema]:
    """Return all schemas by name."""
    found = {
        kind.__name__: of_object(kind)
        for kind in (worker_core.JobSpec, worker_core.Limits, worker_core.Isolation)
    }
    wrapped = {"job": ref("JobSpec")}
    found["WrappedJobSpec"] = _request(wrapped, ["job"], descriptions.OF_ANSWER_MEMBER)
    for kind in (worker_core.Usage, worker_core.FieldError):
        answer = _answer(_members(kind), descriptions.OF_MEMBER[kind])
        found[kind.__name__] = answer | {"description": descriptions.OF_TYPE[kind]}
    found |= _answers()
    return {
        name: {"description": descriptions.OF_ANSWER[name]} | schema
        if name in descriptions.OF_ANSWER
        else schema
        for name, schema in found.items()
    }


def _answers() -> dict[str, Schema]:
    """Return the schemas of all answers by name."""
    word = of(str)
    size = {"type": "integer", "minimum": 0}
    brief = {"id": word | {"format": "uuid"}, "status": of(worker_core.State)}
    status = brief | {
        "exit_code": of(int | None),
        "signal": of(int | None),
        "reason": of(str | None),
        "killed_by": of(str | None),
        "created_at": word | {"format": "date-time"},
        "started_at": of(str | None) | {"format": "date-time"},
        "ended_at": of(str | None) | {"format": "date-time"},
        "duration": of(float | None),
        "usage": of(worker_core.Usage | None),
        "waiting": {"type": "array", "items": ref("Gate")},
    }
    enforced = {"type": "object", "additionalProperties": of(str | None)}
    job = status | {
        "owner": word,
        "run_as": of(str | None),
        "pid": of(int | None),
        "spec": ref("StoredJobSpec"),
        "enforced": enforced,
        "priority": of(int),
        "hold": of(bool),
        "start_after": of(str | None) | {"format": "date-time"},
    }
    jobs = {"type": "array", "items": ref("Job")}
    output = {"output": word, "lossy": of(bool)}
    event: dict[str, Schema] = {
        "id": size,
        "event": {"type": "string", "enum": ["status", "end"]},
        "data": ref("Status"),
    }
    return {
        "Brief": _answer(brief),
        "Stopping": _answer(brief | {"reason": word}, optional="reason"),
        "Status": _answer(status),
        "Gate": _answer({"gate": of(worker_core.Gate), "text": word}),
        "Job": _answer(job),
        "StoredJobSpec": _stored_spec(),
        "Jobs": _answer({"jobs": jobs, "next_cursor": of(str | None)}),
        "Output": _answer(brief | output | dict.fromkeys(("size", "start", "next_offset"), size)),
        "Event": _answer(event, optional="event"),
        "Health": _answer({"status": word}),
        "Readiness": _answer({"status": word, "checks": of(dict[str, str])}),
        "Version": _answer({"name": word, "version": word, "core": word}),
        "Whoami": _answer({"user": word, "admin": of(bool)}),
        "Problem": _problem(),
    }


def _members(kind: type, *, but: str = "") -> dict[str, Schema]:
    hints = typing.get_type_hints(kind)
    return {
        each.name: of(hints[each.name]) for each in dataclasses.fields(kind) if each.name != but
    }


def _stored_spec() -> Schema:
    """Return the schema of the job object in a record, which has only the size of stdin."""
    members = _members(worker_core.JobSpec, but="stdin")
    size = of(int) | {"description": descriptions.OF_ANSWER_MEMBER["stdin_size"]}
    members["after"] = spec.RULES["after"].schema()
    members["start_after"] = of(str | None) | {"format": "date-time"}
    members["stdin"] = _or_null({"type": "object", "properties": {"size": size}})
    return _answer(members, descriptions.OF_MEMBER[worker_core.JobSpec])


def _problem() -> Schema:
    word = of(str)
    texts = dict.fromkeys(("type", "title", "detail", "request_id"), word)
    code = word | {"enum": sorted(problems.KINDS)}
    schema = _answer(texts | {"status": of(int), "code": code})
    errors = of(list[worker_core.FieldError])
    schema["properties"]["errors"] = _described(errors, descriptions.OF_ANSWER_MEMBER["errors"])
    return schema


def _request(
    properties: Mapping[str, Schema], required: Sequence[str], docs: Mapping[str, str]
) -> Schema:
    """Return the schema of a request's object, which may have no other properties.

    An optional property may also be null, which means the same as a missing one.
    """
    either = {
        name: _described(schema if name in required else _or_null(schema), docs[name])
        for name, schema in properties.items()
    }
    schema = {"type": "object", "properties": either, "additionalProperties": False}
    return schema | ({"required": [*required]} if required else {})


def _answer(
    properties: Mapping[str, Schema],
    docs: Mapping[str, str] = descriptions.OF_ANSWER_MEMBER,
    *,
    optional: str = "",
) -> Schema:
    """Return the schema of an answer. Later releases may add properties to it."""
    described = {name: _described(schema, docs[name]) for name, schema in properties.items()}
    required = [name for name in properties if name != optional]
    return {"type": "object", "properties": described, "required": required}


def _described(schema: Schema, text: str) -> Schema:
    """Return the schema with a description."""
    return schema | {"description": text}


def _or_null(schema: Schema) -> Schema:
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return schema | {"type": [kind, "null"]}
    if isinstance(kind, list) and "null" in kind:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}
