"""worker-core: run, watch and end Linux processes.

from worker_core import Engine, JobSpec

with Engine() as engine:
    job = engine.submit(JobSpec("echo", ["hi"]), owner="me")
    engine.wait(job.id)
    print(engine.read_output(job.id))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_core.enforcement import without_controller as without_controller
    from worker_core.engine.engine import Engine as Engine
    from worker_core.engine.engine_records import Page as Page
    from worker_core.engine.lifecycle import Statistics as Statistics
    from worker_core.engine.rebuild import UNKNOWN_OWNER as UNKNOWN_OWNER
    from worker_core.engine.rebuild import Rebuilt as Rebuilt
    from worker_core.engine.rebuild import rebuild_records as rebuild_records
    from worker_core.linux.descriptor_store import DescriptorStore as DescriptorStore
    from worker_core.linux.procfs import proc_fault as proc_fault
    from worker_core.model.errors import EngineClosed as EngineClosed
    from worker_core.model.errors import ExecutorUnavailable as ExecutorUnavailable
    from worker_core.model.errors import FieldError as FieldError
    from worker_core.model.errors import IdempotencyKeyReused as IdempotencyKeyReused
    from worker_core.model.errors import InvalidRequest as InvalidRequest
    from worker_core.model.errors import InvalidSpec as InvalidSpec
    from worker_core.model.errors import JobNeeded as JobNeeded
    from worker_core.model.errors import JobNotFinished as JobNotFinished
    from worker_core.model.errors import JobNotFound as JobNotFound
    from worker_core.model.errors import JobNotRunning as JobNotRunning
    from worker_core.model.errors import JobNotWaiting as JobNotWaiting
    from worker_core.model.errors import QueueFull as QueueFull
    from worker_core.model.errors import StateDirInUse as StateDirInUse
    from worker_core.model.errors import StoreUnavailable as StoreUnavailable
    from worker_core.model.errors import StreamNotSeparate as StreamNotSeparate
    from worker_core.model.errors import WorkerError as WorkerError
    from worker_core.model.job import Job as Job
    from worker_core.model.kill import KillRequest as KillRequest
    from worker_core.model.limits import Isolation as Isolation
    from worker_core.model.limits import Limits as Limits
    from worker_core.model.spec import JobSpec as JobSpec
    from worker_core.model.state import State as State
    from worker_core.model.usage import Usage as Usage
    from worker_core.model.waiting.after import After as After
    from worker_core.model.waiting.after import When as When
    from worker_core.model.waiting.waits import UNCHANGED as UNCHANGED
    from worker_core.notify import Cancellation as Cancellation
    from worker_core.output.spool import OutputInfo as OutputInfo
    from worker_core.queue.gates import Gate as Gate
    from worker_core.settings import EngineSettings as EngineSettings

__version__ = "0.2.0"

_PUBLIC = {
    "enforcement": ("without_controller",),
    "engine.engine": ("Engine",),
    "engine.engine_records": ("Page",),
    "engine.lifecycle": ("Statistics",),
    "linux.descriptor_store": ("DescriptorStore",),
    "linux.procfs": ("proc_fault",),
    "model.waiting.after": (
        "After",
        "When",
    ),
    "model.errors": (
        "EngineClosed",
        "ExecutorUnavailable",
        "FieldError",
        "IdempotencyKeyReused",
        "InvalidRequest",
        "InvalidSpec",
        "JobNeeded",
        "JobNotFinished",
        "JobNotFound",
        "JobNotRunning",
        "JobNotWaiting",
        "QueueFull",
        "StateDirInUse",
        "StoreUnavailable",
        "StreamNotSeparate",
        "WorkerError",
    ),
    "model.job": ("Job",),
    "model.kill": ("KillRequest",),
    "model.limits": (
        "Isolation",
        "Limits",
    ),
    "model.spec": ("JobSpec",),
    "model.state": ("State",),
    "model.usage": ("Usage",),
    "model.waiting.waits": ("UNCHANGED",),
    "notify": ("Cancellation",),
    "output.spool": ("OutputInfo",),
    "queue.gates": ("Gate",),
    "engine.rebuild": (
        "Rebuilt",
        "UNKNOWN_OWNER",
        "rebuild_records",
    ),
    "settings": ("EngineSettings",),
}
"""Module -> the public names that it defines. Each is imported on first use: the supervisor is a
process of this package too, and stays small without the engine and SQLite."""

_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [*_MODULES]  # noqa: PLE0604  # the keys are strings


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
