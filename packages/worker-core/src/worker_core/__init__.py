"""worker-core: run, watch and end Linux processes.

from worker_core import Engine, JobSpec

with Engine() as engine:
    job = engine.submit(JobSpec("echo", ["hi"]), owner="me")
    engine.wait(job.id)
    print(engine.read_output(job.id))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_core.enforcement import without_controller
    from worker_core.engine import Engine, Page
    from worker_core.lifecycle import Statistics
    from worker_core.linux.descriptor_store import DescriptorStore
    from worker_core.linux.procfs import proc_fault
    from worker_core.model.errors import (
        EngineClosed,
        ExecutorUnavailable,
        FieldError,
        IdempotencyKeyReused,
        InvalidRequest,
        InvalidSpec,
        JobNotFinished,
        JobNotFound,
        JobNotRunning,
        JobNotWaiting,
        QueueFull,
        StateDirInUse,
        StoreUnavailable,
        StreamNotSeparate,
        WorkerError,
    )
    from worker_core.model.job import Job
    from worker_core.model.limits import Isolation, Limits
    from worker_core.model.spec import JobSpec
    from worker_core.model.state import State
    from worker_core.model.usage import Usage
    from worker_core.model.waits import UNCHANGED
    from worker_core.output.spool import OutputInfo
    from worker_core.queue.gates import Gate
    from worker_core.rebuild import UNKNOWN_OWNER, Rebuilt, rebuild_records
    from worker_core.settings import EngineSettings

__version__ = "0.2.0"

# Name -> the module that has it. Imported when first used: the supervisor is a process of this
# package too, and stays small without the engine and SQLite.
_MODULES = {
    "DescriptorStore": "linux.descriptor_store",
    "Engine": "engine",
    "EngineClosed": "model.errors",
    "EngineSettings": "settings",
    "ExecutorUnavailable": "model.errors",
    "FieldError": "model.errors",
    "Gate": "queue.gates",
    "IdempotencyKeyReused": "model.errors",
    "InvalidRequest": "model.errors",
    "InvalidSpec": "model.errors",
    "Isolation": "model.limits",
    "Job": "model.job",
    "JobNotFinished": "model.errors",
    "JobNotFound": "model.errors",
    "JobNotRunning": "model.errors",
    "JobNotWaiting": "model.errors",
    "JobSpec": "model.spec",
    "Limits": "model.limits",
    "OutputInfo": "output.spool",
    "Page": "engine",
    "QueueFull": "model.errors",
    "Rebuilt": "rebuild",
    "State": "model.state",
    "StateDirInUse": "model.errors",
    "Statistics": "lifecycle",
    "StoreUnavailable": "model.errors",
    "StreamNotSeparate": "model.errors",
    "UNCHANGED": "model.waits",
    "UNKNOWN_OWNER": "rebuild",
    "Usage": "model.usage",
    "WorkerError": "model.errors",
    "proc_fault": "linux.procfs",
    "rebuild_records": "rebuild",
    "without_controller": "enforcement",
}

__all__ = [
    "UNCHANGED",
    "UNKNOWN_OWNER",
    "DescriptorStore",
    "Engine",
    "EngineClosed",
    "EngineSettings",
    "ExecutorUnavailable",
    "FieldError",
    "Gate",
    "IdempotencyKeyReused",
    "InvalidRequest",
    "InvalidSpec",
    "Isolation",
    "Job",
    "JobNotFinished",
    "JobNotFound",
    "JobNotRunning",
    "JobNotWaiting",
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
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
