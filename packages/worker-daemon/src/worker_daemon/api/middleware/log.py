"""The access log: one line for each request, with the request id that the answer has, too.

It never contains queries, headers, bodies, or user names whose login was not verified.
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
_log = logging.getLogger("worker_daemon.access")


class AccessLog:
    """Gives each request its id, and writes its line when the answer is made.

    For an answer that is made while it is sent, such as a followed output, the line is written at
    the end.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Give the request its id. This must run before anything that may refuse the request."""
        # It must be unique, but need not be secret: uuid4() would make a system call.
        req.context.request_id = str(uuid.UUID(int=_random.getrandbits(128), version=4))
        req.context.begun = time.perf_counter()
        req.context.user = None
        req.context.job_id = None
        resp.set_header("X-Request-Id", req.context.request_id)
        resp.set_headers(problems.ALWAYS)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Write the line, now or when the stream of the answer ends."""
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
