"""The OpenAPI 3.1 document, made from the routes and the types of their parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import falcon

import worker_daemon
from worker_daemon import problems
from worker_daemon.api import params, resource
from worker_daemon.api.openapi import schemas
from worker_daemon.auth import middleware

_METHODS = ("get", "head", "post", "put", "patch", "delete")

_JOB_ID = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "description": "The whole id of a job, as in the answer of POST /jobs/run.",
    "schema": {"type": "string"},
}
# Answers that are not JSON: their media types and schemas.
_OTHER_CONTENT: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "Bytes": {
        "application/octet-stream": {
            "type": "string",
            "format": "binary",
            "description": "The bytes that the job has written.",
        },
        "text/plain": {"type": "string", "description": "The same bytes."},
    },
    "Events": {
        "text/event-stream": {
            "type": "string",
            "description": "Server-sent events. A message about a job is an Event: it has the"
            " fields `id`, `event` and, as JSON, `data`. Other messages only keep the connection"
            " open.",
            "contentSchema": schemas.ref("Event"),
        }
    },
    "Metrics": {"text/plain": {"type": "string", "description": "Metrics for Prometheus."}},
    "Document": {falcon.MEDIA_JSON: {"type": "object", "description": "OpenAPI 3.1."}},
}
_TAGS = {
    "jobs": "The jobs of the caller: run, inspect, follow and kill them.",
    "server": "The server itself.",
}


def document(resources: Mapping[str, resource.Resource]) -> dict[str, Any]:
    """Return the document for resources by their path."""
    paths = {path: _path(path, resource) for path, resource in resources.items()}
    paths["/jobs/run"]["post"]["responses"]["201"]["links"] = _links(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "workerd",
            "version": worker_daemon.__version__,
            "description": "Run commands on this server, and read their output. Sizes are bytes and"
            " durations are seconds, as numbers.",
            "contact": {"name": "the administrator of this server"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server that this document comes from."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"basic": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The name and password of a user of this server.",
                }
            },
        },
    }


def _links(paths: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return links to the operations on a new job."""
    ids = [
        paths[path][method]["operationId"]
        for path in paths
        for method in _METHODS
        if "{job_id}" in path and method in paths[path]
    ]
    parameters = {"job_id": "$response.body#/id"}
    return {each: {"operationId": each, "parameters": parameters} for each in ids}


def _path(path: str, resource: resource.Resource) -> dict[str, Any]:
    described = {
        method: _operation(path, method, getattr(resource, f"on_{method}"))
        for method in _METHODS
        if hasattr(resource, f"on_{method}")
    }
    return described | ({"parameters": [_JOB_ID]} if "{job_id}" in path else {})


def _operation(path: str, method: str, responder: Any) -> dict[str, Any]:
    operation: resource.Operation = responder.operation
    public = path in middleware.PUBLIC
    bare = " The answer has no body." if method == "head" else ""
    described: dict[str, Any] = {
        "operationId": "_".join([method, *re.findall(r"\w+", path)]),
        "summary": operation.summary,
        # Without docstrings (python -OO) there is only the summary.
        "description": inspect.cleandoc(responder.__doc__ or operation.summary) + bare,
        "tags": ["jobs" if path.startswith(("/jobs", "/events")) else "server"],
        "responses": _responses(path, operation, public=public, bare=method == "head"),
    }
    if parameters := _parameters(path, operation):
        described["parameters"] = parameters
    if operation.body is not None:
        content = {falcon.MEDIA_JSON: {"schema": schemas.of_request(operation.body)}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described | ({"security": []} if public else {})


def _parameters(path: str, operation: resource.Operation) -> list[dict[str, Any]]:
    query = operation.query or resource.implied_query(re.findall(r"{(\w+)}", path))
    found = [
        _parameter(name, "query", field, query) for name, field in params.declared(query).items()
    ]
    if operation.headers is not None:
        found += [
            _parameter(name, "header", field, operation.headers)
            for name, field in params.declared(operation.headers).items()
        ]
    return found


def _parameter(name: str, place: str, field: params.Field, of: type) -> dict[str, Any]:
    schema = field.rule.schema()
    if field.many:
        schema = {"type": "array", "items": schema}
    elif (default := getattr(of, name, None)) is not None:
        schema["default"] = default
    return {
        "name": params.header_name(name) if place == "header" else name,
        "in": place,
        "required": name in params.required(of),
        "description": field.doc,
        "schema": schema,
    }


def _responses(
    path: str, operation: resource.Operation, *, public: bool, bare: bool
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {"description": operation.summary, **_content(names)}
        for status, names in operation.answers.items()
    }
    codes = {*operation.problems, "malformed_request", "invalid_request"}
    if not public:
        codes |= {"unauthorized", "too_many_logins", "users_unavailable"}
    if "{job_id}" in path:
        codes.add("job_not_found")
    if operation.body is not None:
        codes |= {"body_too_large", "unsupported_media_type"}
    for code in sorted(codes):
        kind = problems.KINDS[code]
        content = {"application/problem+json": {"schema": schemas.ref("Problem")}}
        answer = responses.setdefault(str(kind.status), {"description": "", "content": content})
        answer["description"] = ", ".join(filter(None, (answer["description"], f"`{code}`")))
    for answer in responses.values() if bare else ():
        answer.pop("content", None)
    return dict(sorted(responses.items()))


def _content(names: tuple[str, ...]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name in names:
        media = _OTHER_CONTENT.get(name, {falcon.MEDIA_JSON: schemas.ref(name)})
        content |= {each: {"schema": schema} for each, schema in media.items()}
    return {"content": content} if content else {}
