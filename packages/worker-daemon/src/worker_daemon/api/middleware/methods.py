"""Answer 405 for every unsupported method, including unknown ones."""

from __future__ import annotations

import falcon

from worker_daemon import problems


class Methods:
    """Answers 405 and names the allowed methods."""

    def __init__(self) -> None:
        self._allowed: dict[type, list[str]] = {}

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Refuse the method before the resource is called."""
        kind = type(resource)
        if kind not in self._allowed:
            methods = (name[3:].upper() for name in dir(kind) if name.startswith("on_"))
            self._allowed[kind] = sorted(methods)
        allowed = self._allowed[kind]
        if req.method not in allowed and req.method != "OPTIONS":
            raise problems.Problem(
                "method_not_allowed",
                f"{req.method} is not allowed on this resource; allowed: {', '.join(allowed)}",
                headers={"Allow": ", ".join(allowed)},
            )
