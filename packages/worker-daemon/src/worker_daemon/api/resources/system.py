"""The server itself: /healthz, /readyz, /version, /whoami, /openapi.json."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import falcon
import worker_core

import worker_daemon
from worker_daemon import problems
from worker_daemon.api import resource
from worker_daemon.api.openapi import document


class Healthz(resource.Resource):
    """Liveness; needs no login."""

    @resource.operation("Return whether the server answers", {200: ("Health",)})
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer 200, whatever else is wrong."""
        resource.answer(resp, {"status": "ok"})

    on_head = on_get


class Readyz(resource.Resource):
    """Readiness: whether jobs can be run."""

    @resource.operation(
        "Return whether jobs can be run", {200: ("Readiness",)}, problems=("not_ready", "draining")
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer 200 if store, supervisor and disk work, else 503 with what does not."""
        if self.services.draining.is_set():
            raise problems.draining()
        checks = self.engine.health()
        faults = {part: fault for part, fault in checks.items() if fault != "ok"}
        if faults:
            detail = "; ".join(f"{part}: {fault}" for part, fault in faults.items())
            raise problems.Problem("not_ready", detail)
        resource.answer(resp, {"status": "ok", "checks": checks})

    on_head = on_get


class Version(resource.Resource):
    """The release of the server."""

    @resource.operation("Return the version of the server", {200: ("Version",)})
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the versions of workerd and of worker-core."""
        versions = {"version": worker_daemon.__version__, "core": worker_core.__version__}
        resource.answer(resp, {"name": "workerd", **versions})

    on_head = on_get


class Whoami(resource.Resource):
    """The caller."""

    @resource.operation("Return the name of the caller", {200: ("Whoami",)})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the name of the user, and whether the user is an administrator."""
        user = req.context.user
        resource.answer(resp, {"user": user, "admin": self.services.access.is_admin(user)})

    on_head = on_get


class OpenApi(resource.Resource):
    """The OpenAPI document."""

    def __init__(
        self, services: resource.Services, resources: Mapping[str, resource.Resource]
    ) -> None:
        super().__init__(services)
        self._resources = resources

    @resource.operation("Describe this API (OpenAPI 3.1)", {200: ("Document",)})
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the document."""
        resource.answer(resp, self._document)

    on_head = on_get

    @functools.cached_property
    def _document(self) -> dict[str, Any]:
        return document.document(self._resources)
