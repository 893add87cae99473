"""Descriptions of the objects of the API and their members, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping

import worker_core

OF_TYPE: Mapping[type, str] = {
    worker_core.JobSpec: "A job: one command with its arguments. It is not a shell command line.",
    worker_core.Limits: "What a job may use. A missing value means the default of the server.",
    worker_core.Isolation: "What a job cannot see or change. All of it is off by default.",
    worker_core.Usage: "What a job has used so far, or in all if it has ended.",
    worker_core.FieldError: "An invalid member or parameter.",
}

OF_MEMBER: Mapping[type, Mapping[str, str]] = {
    worker_core.JobSpec: {
        "command": "The program: a path, or a name to look up in PATH.",
        "args": "The arguments. Each is passed on unchanged.",
        "env": "Environment variables, in addition to the few that every job has.",
        "cwd": "The working directory, absolute; by default the home of the job's Unix account.",
        "stdin": "Standard input: a text, or bytes in base64. By default it is empty.",
        "name": "A name by which to find the job. It need not be unique.",
        "labels": "Labels by which to find the job.",
        "timeout": "Seconds after its start at which the job is stopped; it ends as timed_out.",
        "stop_signal": "The signal that asks the job to end when it is killed or timed out.",
        "stop_grace": "Seconds between the stop signal and SIGKILL.",
        "separate_stderr": "Keep standard error separate from standard output, as stream=stderr.",
        "limits": "What the job may use.",
        "isolation": "What the job cannot see or change.",
        "output_limit": "Bytes of each stream that are kept: the newest. 0 keeps all.",
        "priority": "Of its owner's waiting jobs the one with the highest priority starts first.",
        "hold": "Wait until the job is released, with PATCH /jobs/{job_id}.",
        "start_after": "The time before which the job does not start.",
        "lock": "Of your jobs with this lock, one runs at a time.",
        "after": "Other jobs of yours that must reach a state before this job starts. If one of "
        "them can no longer reach it, this job ends as skipped. `failure` means that the other job "
        "was started and did not complete.",
    },
    worker_core.Limits: {
        "memory": "Bytes of memory of all processes. A job that needs more ends as out_of_memory.",
        "cpus": "Processors' worth of time, as in 1.5.",
        "pids": "Processes and threads at the same time.",
        "io": "Bytes per second read from and written to the disk of the working directory.",
        "cpu_time": "Seconds of CPU time of each process.",
        "open_files": "Open files of each process.",
        "file_size": "Bytes of each file that the job writes, including its output.",
        "best_effort": "Run the job even if the server cannot enforce one of its limits.",
    },
    worker_core.Isolation: {
        "private_network": "No network, only a loopback interface of its own.",
        "private_tmp": "An empty /tmp and /var/tmp of its own.",
        "read_only": "No file system is writable but the working directory and `writable`. The "
        "server's own files can be neither read nor changed, wherever they are.",
        "writable": "Absolute paths below which a `read_only` job may write.",
        "pid_namespace": "Only the job's own processes are visible.",
    },
    worker_core.Usage: {
        "wall_seconds": "Seconds for which the job has run.",
        "user_seconds": "Seconds of CPU time in programs.",
        "system_seconds": "Seconds of CPU time in the kernel.",
        "max_rss_bytes": "The peak of memory, in bytes; null if not known.",
        "read_bytes": "Bytes read from disks; null if not counted.",
        "written_bytes": "Bytes written to disks; null if not counted.",
        "max_processes": "The most processes and threads at the same time; null if not counted.",
    },
    worker_core.FieldError: {
        "field": "Its name; empty for the whole body or query.",
        "message": "What is wrong with it, as a sentence for people.",
    },
}

OF_ANSWER: Mapping[str, str] = {
    "Brief": "A job and its state.",
    "Stopping": "A job and its state. `reason` says why its end cannot be recorded yet.",
    "Status": "The state and the outcome of a job.",
    "Job": "The whole record of a job.",
    "StoredJobSpec": "The job object as it was accepted, with all defaults, and the size of stdin.",
    "Jobs": "A page of jobs, newest first.",
    "Output": "The output of a job as text.",
    "Event": "A message of the event stream.",
    "Gate": "Something that keeps a job from starting. Some gates have more members.",
    "WrappedJobSpec": "The job object as the only member of another object.",
    "Health": "Whether the server answers.",
    "Readiness": "Whether jobs can be run.",
    "Version": "The release of the server.",
    "Whoami": "The caller.",
    "Problem": "Why a request was refused (RFC 9457). Programs may rely on `code`.",
}

OF_ANSWER_MEMBER: Mapping[str, str] = {
    "id": "The id of the job, a UUID.",
    "status": "Its state.",
    "exit_code": "The exit code; null before the end, and if a signal ended the job.",
    "signal": "The number of the signal that ended the job, or null.",
    "reason": "Why the job has this state, as a sentence for people, or null.",
    "killed_by": "The user who killed the job, or null.",
    "created_at": "When the job was accepted.",
    "started_at": "When the job started, or null.",
    "ended_at": "When the job ended, or null.",
    "duration": "Measured seconds for which the job has run so far; null before its start.",
    "usage": "What the job has used, or null.",
    "waiting": "Everything that keeps a waiting job from starting; `reason` is the first of it.",
    "gate": "What kind of thing it is.",
    "text": "A sentence for people.",
    "priority": "Its priority now.",
    "hold": "Whether it waits until it is released.",
    "start_after": "The time before which it does not start, or null.",
    "owner": "The user who owns the job.",
    "pid": "The process id of the command, or null.",
    "run_as": "The Unix account of the job; null for that of the server.",
    "enforced": "What enforces each limit: cgroup, rlimit, or null for nothing.",
    "spec": "The job object as it was accepted.",
    "stdin_size": "Its bytes.",
    "jobs": "The jobs of this page.",
    "next_cursor": "The value of the parameter `cursor` for the next page; null on the last page.",
    "output": "The text. Bytes that are not UTF-8 are replaced by U+FFFD.",
    "lossy": "Whether bytes were replaced.",
    "size": "Bytes of the whole output so far.",
    "start": "The offset of the first byte that is kept.",
    "next_offset": "The `offset` for the next request.",
    "checks": "What was checked: `ok`, or a sentence about the fault.",
    "name": "The name of the program.",
    "version": "Its version.",
    "core": "The version of worker-core.",
    "user": "The name of the user.",
    "admin": "Whether the user may see and kill the jobs of others.",
    "event": "The name of the event: `end` for the last one of a job, else `status`. Missing if"
    " `unnamed=true`.",
    "data": "The state and outcome of the job.",
    "type": "Always about:blank.",
    "title": "The meaning of `code`.",
    "detail": "What is wrong and how to fix it, as a sentence for people.",
    "request_id": "The id of the request in the server's log.",
    "code": "The kind of problem.",
    "errors": "The invalid members or parameters.",
    "job": "The job.",
}
