"""Counters and times of all requests, for /metrics."""

from __future__ import annotations

import time

import falcon

from worker_daemon.api import prometheus

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Measure:
    """Counts answers by method, route and status, and measures the time until each was made.

    Routes are counted by their templates, and methods that HTTP does not have as "other": otherwise
    clients could create counters without end.
    """

    def __init__(self) -> None:
        self.requests = prometheus.Counter(
            "workerd_requests_total", "Requests answered.", ("method", "route", "status")
        )
        self.seconds = prometheus.Histogram(
            "workerd_request_seconds",
            "Time until an answer was made; of a stream, until it began.",
            "route",
            _SECONDS,
        )
        self.refused_logins = prometheus.Counter(
            "workerd_refused_logins_total", "Requests without a valid login.", ("status",)
        )
        self.all = (self.requests, self.seconds, self.refused_logins)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Count the answer to a request."""
        route = req.uri_template or "other"
        self.count(req.method, route, str(resp.status_code))
        self.seconds.observe(route, time.perf_counter() - req.context.begun)

    def count(self, method: str, route: str, status: str) -> None:
        """Count an answer."""
        method = method if method in falcon.HTTP_METHODS else "other"
        self.requests.add(method, route, status)
        if status in ("401", "429"):
            self.refused_logins.add(status)
