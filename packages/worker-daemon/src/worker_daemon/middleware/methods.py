"""Methods that a resource does not have, known to HTTP or not, are all refused alike."""

from __future__ import annotations

import functools

import falcon

from worker_daemon import problems


class Methods:
    """Answers 405 with what is allowed."""

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Refuse before the resource is asked."""
        allowed = _allowed(type(resource))
        if req.method not in allowed and req.method != "OPTIONS":
            raise problems.Problem(
                "method_not_allowed",
                f"{req.method} does nothing here; use {', '.join(allowed)}",
                headers={"Allow": ", ".join(allowed)},
            )


@functools.cache
def _allowed(kind: type) -> list[str]:
    return sorted(name[3:].upper() for name in dir(kind) if name.startswith("on_"))
