"""worker-core: run, watch and end Linux processes.

from worker_core import Engine, JobSpec

with Engine() as engine:
    job = engine.submit(JobSpec("echo", ["hi"]), owner="me")
    engine.wait(job.id)
    print(engine.read_output(job.id))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_core.bounds import Isolation, Limits
    from worker_core.descriptor_store import DescriptorStore
    from worker_core.engine import Engine, Page
    from worker_core.errors import (
        EngineClosed,
        ExecutorUnavailable,
        FieldError,
        IdempotencyKeyReused,
        InvalidRequest,
        InvalidSpec,
        JobNotFinished,
        JobNotFound,
        JobNotRunning,
        QueueFull,
        StateDirInUse,
        StoreUnavailable,
        StreamNotSeparate,
        WorkerError,
    )
    from worker_core.job import Job, Usage
    from worker_core.lifecycle import Statistics
    from worker_core.limits import without_controller
    from worker_core.procfs import proc_fault
    from worker_core.rebuild import UNKNOWN_OWNER, Rebuilt, rebuild_records
    from worker_core.settings import EngineSettings
    from worker_core.spec import JobSpec
    from worker_core.spool import OutputInfo
    from worker_core.state import State

__version__ = "0.2.0"

# Name -> the module that has it. Imported when first used: the supervisor is a process of this
# package too, and stays small without the engine and SQLite.
_ROOMS = {
    "DescriptorStore": "descriptor_store",
    "Engine": "engine",
    "EngineClosed": "errors",
    "EngineSettings": "settings",
    "ExecutorUnavailable": "errors",
    "FieldError": "errors",
    "IdempotencyKeyReused": "errors",
    "InvalidRequest": "errors",
    "InvalidSpec": "errors",
    "Isolation": "bounds",
    "Job": "job",
    "JobNotFinished": "errors",
    "JobNotFound": "errors",
    "JobNotRunning": "errors",
    "JobSpec": "spec",
    "Limits": "bounds",
    "OutputInfo": "spool",
    "Page": "engine",
    "QueueFull": "errors",
    "Rebuilt": "rebuild",
    "State": "state",
    "StateDirInUse": "errors",
    "Statistics": "lifecycle",
    "StoreUnavailable": "errors",
    "StreamNotSeparate": "errors",
    "UNKNOWN_OWNER": "rebuild",
    "Usage": "job",
    "WorkerError": "errors",
    "proc_fault": "procfs",
    "rebuild_records": "rebuild",
    "without_controller": "limits",
}

__all__ = [
    "UNKNOWN_OWNER",
    "DescriptorStore",
    "Engine",
    "EngineClosed",
    "EngineSettings",
    "ExecutorUnavailable",
    "FieldError",
    "IdempotencyKeyReused",
    "InvalidRequest",
    "InvalidSpec",
    "Isolation",
    "Job",
    "JobNotFinished",
    "JobNotFound",
    "JobNotRunning",
    "JobSpec",
    "Limits",
    "OutputInfo",
    "Page",
    "QueueFull",
    "Rebuilt",
    "State",
    "StateDirInUse",
    "Statistics",
    "StoreUnavailable",
    "StreamNotSeparate",
    "Usage",
    "WorkerError",
    "proc_fault",
    "rebuild_records",
    "without_controller",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = found
    return found
