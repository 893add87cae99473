"""The access log: one line for each request, with the id that its answer carries.

Never in it: queries, headers, bodies, and the names of those who are not logged in.
"""

from __future__ import annotations

import logging
import random
import time
import uuid

import falcon

from worker_daemon import problems
from worker_daemon.api import long_requests

_random = random.Random()  # noqa: S311
_log = logging.getLogger("worker_daemon.api.access")


class AccessLog:
    """Gives each request its id, and writes its line when the answer is made.

    The line of an answer that is made while it is sent (a followed output) comes at its end.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin: this must come before everything that may refuse."""
        # Distinct, but no secret: one of uuid4 asks the kernel for it.
        req.context.request_id = str(uuid.UUID(int=_random.getrandbits(128), version=4))
        req.context.begun = time.perf_counter()
        req.context.user = None
        req.context.job_id = None
        resp.set_header("X-Request-Id", req.context.request_id)
        resp.set_headers(problems.ALWAYS)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Write the line, now or when the answer's stream ends."""
        if isinstance(resp.stream, long_requests.Stream):
            resp.stream.ending.callback(self._write, req, resp)
        else:
            self._write(req, resp)

    def _write(self, req: falcon.Request, resp: falcon.Response) -> None:
        _log.info(
            "request",
            extra={
                "request_id": req.context.request_id,
                "address": req.remote_addr,
                "user": req.context.user,
                "method": req.method,
                "path": req.path,
                "status": resp.status_code,
                "seconds": round(time.perf_counter() - req.context.begun, 6),
                "job": req.context.job_id,
            },
        )
