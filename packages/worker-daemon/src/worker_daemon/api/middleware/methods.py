"""Methods that a resource does not have, known to HTTP or not, are all refused alike."""

from __future__ import annotations

import falcon

from worker_daemon import problems


class Methods:
    """Answers 405 with what is allowed."""

    def __init__(self) -> None:
        self._allowed: dict[type, list[str]] = {}

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Refuse before the resource is asked."""
        kind = type(resource)
        if kind not in self._allowed:
            methods = (name[3:].upper() for name in dir(kind) if name.startswith("on_"))
            self._allowed[kind] = sorted(methods)
        allowed = self._allowed[kind]
        if req.method not in allowed and req.method != "OPTIONS":
            raise problems.Problem(
                "method_not_allowed",
                f"{req.method} does nothing here; use {', '.join(allowed)}",
                headers={"Allow": ", ".join(allowed)},
            )
