"""The OpenAPI document against the server: thousands of requests that it allows, or does not.

Every answer must be one that the document tells of, none may be a server error, what the document
allows must be accepted, what it does not must be refused, and nothing may work without a login.
EXAMPLES in the environment says how many requests are made up for each operation.
"""

import base64
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from worker_core import Engine, EngineSettings, JobNotFound, JobNotRunning, JobSpec
from worker_core.model.spec import MAX_SECONDS
from worker_core.model.waiting import after
from worker_daemon.api import app
from worker_daemon.api.resources import status
from worker_daemon.auth import verifier
from worker_daemon.settings import config

LOGIN = f"Basic {base64.b64encode(b'root:x').decode()}"
EXAMPLES = int(os.environ.get("EXAMPLES", "15"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,  # the same requests in every run: what fails here fails for everybody
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
CONFIG = {
    "checks": {
        # 416: an offset or a range past the end, which depends on the job.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", 401, 404, 409, 416],
        },
    },
}


class Later:
    """Stands for the engine while the tests are collected: it is made when they run."""

    engine: Engine

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(self.engine, name)(*args, **kwargs)

        return call


LATER = Later()


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    """The engine for all requests."""
    with Engine(settings=EngineSettings(max_running=16)) as LATER.engine:
        yield


def verify(user: str, password: bytes, _address: str) -> verifier.Verdict:
    """Accept one administrator, who may name every owner."""
    return verifier.Verdict(accepted=(user, password) == ("root", b"x"))


document = schemathesis.openapi.from_wsgi(
    "/openapi.json",
    app.create_app(
        LATER,  # type: ignore[arg-type]
        SimpleNamespace(verify=verify),
        config.Config(admins=frozenset({"root"})),
    ),
    headers={"Authorization": LOGIN},
    config=schemathesis.Config.from_dict(CONFIG),
).exclude(path="/events", method="GET")  # it has no end


_count = itertools.count()


@document.auth()
class Login:
    """Adds a login, except to requests that must be refused."""

    def get(self, case: Any, context: Any) -> str:
        """Return the header."""
        return LOGIN

    def set(self, case: Any, data: str, context: Any) -> None:
        """Add it."""
        case.headers = {**(case.headers or {}), "Authorization": data}


def harmless(case: Any) -> None:
    """Remove values that do harm, take long, or depend on more than a schema can say."""
    body = case.body if isinstance(case.body, dict) else {}
    job = body["job"] if isinstance(body.get("job"), dict) else body
    if isinstance(job.get("command"), str) and job["command"]:
        job["command"] = "echo"
    with contextlib.suppress(KeyError, ValueError):
        if not [*after.all_problems(after.from_list(job.get("after")))]:
            job["after"] = []  # whether there is such a job is not in the schema
    timeout = job.get("timeout")
    if isinstance(timeout, float) and 0 < timeout <= MAX_SECONDS:
        job["timeout"] = MAX_SECONDS  # whether a short one comes before the end is luck
    limits, isolation = job.get("limits"), job.get("isolation")
    if isinstance(limits, dict) and isinstance(limits.get("best_effort"), bool | None):
        limits["best_effort"] = True
    if isinstance(isolation, dict) and isolation.get("writable"):
        isolation["read_only"] = True
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and 0 < len(key) < 200:  # each of these jobs is another one
        case.headers["Idempotency-Key"] = f"{key}{next(_count)}"
    query = case.query or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if 0 < float(query["wait"]) <= status.LONGEST_WAIT:
            query["wait"] = 0.05
    query.pop("cursor", None)
    if "offset" in query:
        query.pop("tail", None)


@contextlib.contextmanager
def with_a_job(case: Any) -> Iterator[None]:
    """Let every other made-up id be that of a job that there is, for as long as the block takes."""
    if "job_id" not in (case.path_parameters or {}) or next(_count) % 2:
        yield
        return
    ends = "follow" in (case.query or {}) or next(_count) % 3 == 0
    spec = JobSpec("echo", ["hi"]) if ends else JobSpec("sleep", ["1000"])
    case.path_parameters["job_id"] = LATER.engine.submit(spec, owner="root").id
    case.query = {k: v for k, v in (case.query or {}).items() if k != "owner"}
    try:
        yield
    finally:
        with contextlib.suppress(JobNotRunning, JobNotFound):
            LATER.engine.kill(case.path_parameters["job_id"], now=True, wait=0)


@document.parametrize()
@SETTINGS
def test_every_operation_is_as_told(case: Any) -> None:
    """A program made from the document would meet answers that it does not know."""
    harmless(case)
    with with_a_job(case):
        case.call_and_validate()


def test_jobs_are_as_told_through_their_life() -> None:
    """What is true of single requests would not be of run, status, out, kill and remove."""

    class Life(document.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: Any) -> None:
            harmless(case)

        def after_call(self, response: Any, case: Any) -> None:
            # All jobs have ended: so the same requests get the same answers every time.
            if response.status_code == 201:
                LATER.engine.wait(response.json()["id"], 30)

    run_state_machine_as_test(Life, settings=settings(SETTINGS, stateful_step_count=12))
