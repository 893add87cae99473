"""JSON Schemas (2020-12) made from the types that the daemon reads and answers with."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import worker_core
from worker_core import spec

from worker_daemon import fields, problems

Schema = dict[str, Any]

_PLAIN: Mapping[type, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
_SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": spec.MAX_SECONDS}
_COUNT: Schema = {"minimum": 1, "maximum": spec.MAX_BYTES}
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_AMOUNT: Schema = {"minimum": 0.01, "maximum": 1e9}
_RATE: Schema = _COUNT | {"type": "integer"}
_KEY: Schema = {"minLength": 1, "pattern": "^[^=]+$"}

# What the types of the engine cannot say. The engine checks it; the tests compare.
_NARROWED: Mapping[type, Mapping[str, Schema]] = {
    worker_core.JobSpec: {
        "command": {"minLength": 1},
        "env": {"propertyNames": _KEY},
        "cwd": {"pattern": "^/"},
        "stdin": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"base64": {"type": "string", "pattern": _BASE64}},
                    "required": ["base64"],
                    "additionalProperties": False,
                },
            ]
        },
        "name": {"minLength": 1, "maxLength": spec.MAX_NAME},
        "labels": {
            "maxProperties": spec.MAX_LABELS,
            "propertyNames": _KEY | {"maxLength": spec.MAX_NAME},
            "additionalProperties": {"type": "string", "maxLength": spec.MAX_NAME},
        },
        "timeout": _SECONDS | {"exclusiveMinimum": 0},
        "stop_signal": fields.Signal().schema(),
        "stop_grace": _SECONDS,
        "output_limit": {"minimum": 0, "maximum": spec.MAX_BYTES},
    },
    worker_core.Limits: {
        "memory": _COUNT,
        "cpus": _AMOUNT,
        "pids": _COUNT,
        "cpu_time": _AMOUNT,
        "open_files": _COUNT,
        "file_size": _COUNT,
        "io": {
            "properties": {"read": _RATE, "write": _RATE},
            "additionalProperties": False,
            "minProperties": 1,
        },
    },
    worker_core.Isolation: {
        "writable": {"items": {"type": "string", "pattern": r"^/[^\u0000]*$"}},
    },
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
        return of_object(typing.cast("type", annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {"type": "string", "enum": [each.value for each in annotation]}
    return dict(_PLAIN[annotation])


def of_object(kind: type) -> Schema:
    """Return the schema of a dataclass that is read from a JSON object."""
    narrowed = _NARROWED.get(kind, {})
    hints = typing.get_type_hints(kind)
    properties = {}
    for each in dataclasses.fields(kind):
        given = narrowed.get(each.name, {})
        properties[each.name] = given if "anyOf" in given else of(hints[each.name]) | given
    return _request(properties, required=fields.required(kind))


def of_request(kind: type) -> Schema:
    """Return the schema of a request's body."""
    if kind is worker_core.JobSpec:
        job = of_object(kind)
        return {"anyOf": [job, _request({"job": job}, required=["job"])]}
    properties = {
        name: field.rule.schema() | {"description": field.doc}
        for name, field in fields.declared(kind).items()
    }
    return _request(properties, required=fields.required(kind))


def answers() -> dict[str, Schema]:
    """Return the schemas of everything that is answered, by name."""
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
    }
    job = status | {"owner": word, "pid": of(int | None), "spec": {"type": "object"}}
    jobs = {"type": "array", "items": {"$ref": "#/components/schemas/Job"}}
    output = {"output": word, "lossy": of(bool)}
    return {
        "Brief": _answer(brief),
        "Stopping": _answer(brief, reason=word),
        "Status": _answer(status),
        "Job": _answer(job),
        "Jobs": _answer({"jobs": jobs, "next_cursor": of(str | None)}),
        "Output": _answer(brief | output | dict.fromkeys(("size", "start", "next_offset"), size)),
        "Health": _answer({"status": word}),
        "Readiness": _answer({"status": word, "checks": of(dict[str, str])}),
        "Version": _answer({"name": word, "version": word, "core": word}),
        "Whoami": _answer({"user": word, "admin": of(bool)}),
        "Problem": _problem(),
    }


def _problem() -> Schema:
    word = of(str)
    told = dict.fromkeys(("type", "title", "detail", "request_id"), word)
    code = word | {"enum": sorted(problems.KINDS)}
    schema = _answer(told | {"status": of(int), "code": code})
    schema["properties"]["errors"] = of(list[worker_core.FieldError])
    return schema


def _request(properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    """Return the schema of an object that has these properties and no others.

    Null is the same as leaving out what may be left out.
    """
    either = {
        name: schema if name in required else _or_null(schema)
        for name, schema in properties.items()
    }
    schema = {"type": "object", "properties": either, "additionalProperties": False}
    return schema | ({"required": [*required]} if required else {})


def _answer(properties: Mapping[str, Schema], **optional: Schema) -> Schema:
    """Return the schema of an object to which later releases may add."""
    shown = dict(properties) | optional
    return {"type": "object", "properties": shown, "required": [*properties]}


def _or_null(schema: Schema) -> Schema:
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return schema | {"type": [kind, "null"]}
    if isinstance(kind, list) and "null" in kind:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}
