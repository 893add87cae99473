"""worker-cli: the `worker` command, and the client library that it is built on.

    from worker_cli import Client

    with Client("https://localhost:8443", user="ann", password="…", cacert="ca.pem") as client:
        job = client.run("make", "-j8")
        for chunk in job.follow():
            ...
        print(job.wait().status)

All public names are listed in `__all__`. Each is imported on first use, so that importing the
package is quick and a command loads only what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker_cli.client import Client as Client
    from worker_cli.errors import AmbiguousId as AmbiguousId
    from worker_cli.errors import ClientError as ClientError
    from worker_cli.errors import ConnectionLost as ConnectionLost
    from worker_cli.errors import JobNotFinished as JobNotFinished
    from worker_cli.errors import JobNotFound as JobNotFound
    from worker_cli.errors import JobNotRunning as JobNotRunning
    from worker_cli.errors import NotLoggedIn as NotLoggedIn
    from worker_cli.errors import RequestRefused as RequestRefused
    from worker_cli.errors import ServerUnavailable as ServerUnavailable
    from worker_cli.errors import SettingsError as SettingsError
    from worker_cli.errors import Unreachable as Unreachable
    from worker_cli.errors import Untrusted as Untrusted
    from worker_cli.handle import JobHandle as JobHandle
    from worker_cli.job import JobRecord as JobRecord
    from worker_cli.job import JobStatus as JobStatus
    from worker_cli.job import Usage as Usage
    from worker_cli.output import Output as Output

__version__ = "0.2.0"

_MODULES = {
    "AmbiguousId": "errors",
    "Client": "client",
    "ClientError": "errors",
    "ConnectionLost": "errors",
    "JobHandle": "handle",
    "JobNotFinished": "errors",
    "JobNotFound": "errors",
    "JobNotRunning": "errors",
    "JobRecord": "job",
    "JobStatus": "job",
    "NotLoggedIn": "errors",
    "Output": "output",
    "RequestRefused": "errors",
    "ServerUnavailable": "errors",
    "SettingsError": "errors",
    "Unreachable": "errors",
    "Untrusted": "errors",
    "Usage": "job",
}

_RENAMED = {
    "Absent": "ServerUnavailable",
    "Dropped": "ConnectionLost",
    "Refused": "RequestRefused",
}
"""Names of release 0.1.0; they work until release 0.3.0."""

__all__ = [*_MODULES]  # noqa: PLE0604  # the keys are strings


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name in _RENAMED:
        import warnings

        old, name = name, _RENAMED[name]
        warnings.warn(
            f"worker_cli.{old} is now called worker_cli.{name}; "
            "the old name will be removed in release 0.3.0",
            DeprecationWarning,
            stacklevel=2,
        )
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
