"""worker-core: run, watch and end Linux processes.

from worker_core import Engine, JobSpec

with Engine() as engine:
    job = engine.submit(JobSpec("echo", ["hi"]), owner="me")
    engine.wait(job.id)
    print(engine.read_output(job.id))
"""

from worker_core.bounds import Isolation, Limits
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
from worker_core.settings import EngineSettings
from worker_core.spec import JobSpec
from worker_core.spool import OutputInfo
from worker_core.state import State

__version__ = "0.1.0"

__all__ = [
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
    "State",
    "StateDirInUse",
    "StoreUnavailable",
    "StreamNotSeparate",
    "Usage",
    "WorkerError",
]
