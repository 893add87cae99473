"""The application: the routes, and the middleware that every request passes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import falcon
import worker_core

from worker_daemon import problems
from worker_daemon.api import access, budget, long_requests, resource
from worker_daemon.api.middleware import log, measure, methods
from worker_daemon.api.resources import (
    events,
    jobs,
    kill,
    metrics,
    output,
    run,
    signal,
    status,
    system,
)
from worker_daemon.auth import middleware
from worker_daemon.settings import config, run_as

# While it is handled, a body takes up to ten times its length in memory, a record three times.
# A longer body is handled alone: each thread that reads one slows all other requests down.
_BODIES = 2 << 20  # bytes
_RECORDS = 32 << 20  # bytes
_LONG_ANSWERS = 32
_SEARCHES = 16

ROUTES: dict[str, Callable[[resource.Services], resource.Resource]] = {
    "/jobs": jobs.Jobs,
    "/jobs/run": run.Run,
    "/jobs/{job_id}": jobs.Job,
    "/jobs/{job_id}/status": status.Status,
    "/jobs/{job_id}/out": output.Output,
    "/jobs/{job_id}/kill": kill.Kill,
    "/jobs/{job_id}/signal": signal.Signal,
    "/events": events.Events,
    "/whoami": system.Whoami,
    "/version": system.Version,
    "/healthz": system.Healthz,
    "/readyz": system.Readyz,
    "/metrics": metrics.Metrics,
}


class App(falcon.App[falcon.Request, falcon.Response]):
    """falcon's application, which can also send the head of an answer before its body.

    The server calls `may_send_body` before it receives a long body.
    """

    may_send_body: Callable[[str, str | None, str], str]

    def __call__(self, env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""

        def start(*args: Any) -> Any:
            env[long_requests.WRITE] = start_response(*args)
            return env[long_requests.WRITE]

        if env["REQUEST_METHOD"] == "WEBSOCKET":
            # falcon uses this name for WebSockets, and would refuse it before the login is checked.
            env["REQUEST_METHOD"] = "UNKNOWN"
        return super().__call__(env, start)


def create_app(
    engine: worker_core.Engine,
    verifier: middleware.PasswordVerifier,
    settings: config.Config,
    *,
    draining: threading.Event | None = None,
    downloads: int = 1024,
) -> App:
    """Return the WSGI application.

    Once `draining` is set, long requests end and no new one begins. At most `downloads`
    outputs are sent at the same time.
    """
    draining = draining or threading.Event()
    measured = measure.Measure()
    services = resource.Services(
        engine=engine,
        access=access.Access(engine, settings.admins),
        downloads=long_requests.LongRequests(
            downloads, draining, code="too_many_downloads", what="too many downloads"
        ),
        draining=draining,
        metrics=measured.all,
        max_body=settings.max_body,
        limits=settings.limits,
        output_limit=settings.output_limit,
        run_as=functools.partial(run_as.of, settings),
        bodies=budget.Budget(_BODIES),
        records=budget.Budget(_RECORDS),
        searches=long_requests.LongRequests(_SEARCHES, draining),
        long_answers=long_requests.LongRequests(_LONG_ANSWERS, draining),
        long_requests=long_requests.LongRequests(settings.max_long_requests, draining),
    )
    authenticated = middleware.Authentication(verifier)

    def may_send_body(method: str, header: str | None, address: str) -> str:
        try:
            return authenticated.login(header, address)[0]
        except problems.Problem as problem:
            measured.count(method, "other", str(problem.kind.status))
            raise

    app = App(middleware=[log.AccessLog(), measured, authenticated, methods.Methods()])
    app.may_send_body = may_send_body
    app.add_error_handler(Exception, problems.answer)
    app.add_error_handler(falcon.HTTPError, problems.answer)
    for path, each in _resources(services).items():
        app.add_route(path, each)
    return app


def _resources(services: resource.Services) -> dict[str, resource.Resource]:
    made = {path: make(services) for path, make in ROUTES.items()}
    made["/openapi.json"] = system.OpenApi(services, made)
    return made
