"""The application: the route table, and what every request passes through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import falcon
import worker_core

from worker_daemon import access, config, followers, problems
from worker_daemon.middleware import authentication, log, methods
from worker_daemon.resources import base, jobs, kill, output, run, signal, status, system

ROUTES: dict[str, Callable[[base.Room], base.Resource]] = {
    "/jobs": jobs.Jobs,
    "/jobs/run": run.Run,
    "/jobs/{job_id}": jobs.Job,
    "/jobs/{job_id}/status": status.Status,
    "/jobs/{job_id}/out": output.Output,
    "/jobs/{job_id}/kill": kill.Kill,
    "/jobs/{job_id}/signal": signal.Signal,
    "/whoami": system.Whoami,
    "/version": system.Version,
    "/healthz": system.Healthz,
    "/readyz": system.Readyz,
}


class App(falcon.App[falcon.Request, falcon.Response]):
    """falcon's application, with a way to send the head of an answer before its body."""

    def __call__(self, env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""

        def start(*args: Any) -> Any:
            env[followers.WRITE] = start_response(*args)
            return env[followers.WRITE]

        if env["REQUEST_METHOD"] == "WEBSOCKET":
            # falcon's own name for something else, refused before the caller is known.
            env["REQUEST_METHOD"] = "UNKNOWN"
        return super().__call__(env, start)


def create_app(
    engine: worker_core.Engine,
    verifier: authentication.Verifier,
    settings: config.Config,
    *,
    draining: threading.Event | None = None,
) -> App:
    """Return the WSGI application. Once `draining` is set, followers end and no new ones begin."""
    room = base.Room(
        engine=engine,
        access=access.Access(engine, settings.admins),
        followers=followers.Followers(settings.max_followers, draining or threading.Event()),
        max_body=settings.max_body,
    )
    app = App(
        middleware=[log.AccessLog(), authentication.Authentication(verifier), methods.Methods()]
    )
    app.add_error_handler(Exception, problems.answer)
    app.add_error_handler(falcon.HTTPError, problems.answer)
    for path, resource in ROUTES.items():
        app.add_route(path, resource(room))
    return app
