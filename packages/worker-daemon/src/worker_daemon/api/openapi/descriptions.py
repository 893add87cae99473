"""What the members of the API's objects mean, for readers of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping

import worker_core

OF_TYPE: Mapping[type, str] = {
    worker_core.JobSpec: "A job: one command with its arguments, never a shell line.",
    worker_core.Limits: "What a job may use. Without a value the server's default holds.",
    worker_core.Isolation: "What a job may not see or touch. All of it is off by default.",
    worker_core.Usage: "What a job has used, up to now or until its end.",
    worker_core.FieldError: "A member or parameter that is wrong.",
}

OF_MEMBER: Mapping[type, Mapping[str, str]] = {
    worker_core.JobSpec: {
        "command": "The program: a path, or a name that is looked up in PATH.",
        "args": "Its arguments, each passed on as it is.",
        "env": "Environment variables, added to the few that every job has.",
        "cwd": "The working directory, absolute; by default the home of the job's Unix account.",
        "stdin": "Standard input: a text, or bytes in base64; by default it is empty.",
        "name": "A name to find the job by; it need not be unique.",
        "labels": "Labels to find the job by.",
        "timeout": "Seconds from the start after which the job is stopped as timed_out.",
        "stop_signal": "The signal that asks the job to end.",
        "stop_grace": "Seconds between that signal and SIGKILL.",
        "separate_stderr": "Keep standard error apart from standard output, as stream=stderr.",
        "limits": "What the job may use.",
        "isolation": "What the job may not see or touch.",
        "output_limit": "Bytes of each stream that are kept, the newest; 0 keeps all.",
    },
    worker_core.Limits: {
        "memory": "Bytes of memory of all processes; over it the job ends as out_of_memory.",
        "cpus": "Processors' worth of time, as in 1.5.",
        "pids": "Processes and threads at a time.",
        "io": "Bytes a second that are read from and written to the disk of the working directory.",
        "cpu_time": "Seconds of CPU time of each process.",
        "open_files": "Open files of each process.",
        "file_size": "Bytes of each file that is written, the output included.",
        "best_effort": "Run the job even if the server cannot enforce one of the limits.",
    },
    worker_core.Isolation: {
        "private_network": "No network but a loopback interface of its own.",
        "private_tmp": "An empty /tmp and /var/tmp of its own.",
        "read_only": "No writing but in the working directory and below `writable`. The server's "
        "own files can be neither read nor changed, wherever they are.",
        "writable": "Absolute paths below which a job that is `read_only` may write.",
        "pid_namespace": "No processes are visible but the job's own.",
    },
    worker_core.Usage: {
        "wall_seconds": "Seconds that the job has run.",
        "user_seconds": "Seconds of CPU time in programs.",
        "system_seconds": "Seconds of CPU time in the kernel.",
        "max_rss_bytes": "The most memory that it had at a time; null where that is not known.",
        "read_bytes": "Bytes read from disks; null where they are not counted.",
        "written_bytes": "Bytes written to disks; null where they are not counted.",
        "max_processes": "The most processes and threads at a time; null where not counted.",
    },
    worker_core.FieldError: {
        "field": "Its name; empty for the whole body.",
        "message": "What is wrong with it.",
    },
}

OF_ANSWER: Mapping[str, str] = {
    "Brief": "Which job, and its state.",
    "Stopping": "Which job, and its state. `reason` says why an end cannot be recorded yet.",
    "Status": "The state and the outcome of a job.",
    "Job": "The whole record of a job.",
    "StoredJobSpec": "A job object as it was accepted, with all defaults. Of stdin only the size is"
    " shown.",
    "Jobs": "A page of jobs, newest first.",
    "Output": "Output of a job as text.",
    "Event": "What a message on the event stream holds.",
    "WrappedJobSpec": "A job as the only member of an object.",
    "Health": "Whether the server answers.",
    "Readiness": "Whether jobs can be run.",
    "Version": "Which release this is.",
    "Whoami": "Who the caller is.",
    "Problem": "Why a request was refused (RFC 9457). Programs may rely on `code`.",
}

OF_ANSWER_MEMBER: Mapping[str, str] = {
    "id": "The id of the job, a UUID.",
    "status": "Its state.",
    "exit_code": "The exit code; null while the job runs, and when a signal ended it.",
    "signal": "The number of the signal that ended the job, or null.",
    "reason": "Why the job ended so, as a sentence for people, or null.",
    "killed_by": "The user who ended the job, or null.",
    "created_at": "When the job was accepted.",
    "started_at": "When the job started, or null.",
    "ended_at": "When the job ended, or null.",
    "duration": "Seconds that the job has run up to now, measured; null before its start.",
    "usage": "What the job has used, or null.",
    "owner": "The user whose job it is.",
    "pid": "The process id of the command, or null.",
    "run_as": "The Unix account of the job; null is that of the server.",
    "enforced": "For each limit what enforces it: cgroup, rlimit, or null for nothing.",
    "spec": "The job object as it was accepted.",
    "stdin_size": "How many bytes it has.",
    "jobs": "The jobs of this page.",
    "next_cursor": "The parameter `cursor` of the next page; null on the last one.",
    "output": "The text. Bytes that are not UTF-8 are replaced.",
    "lossy": "Whether bytes were replaced.",
    "size": "Bytes of the whole output up to now.",
    "start": "The offset of the first byte that is still kept.",
    "next_offset": "The offset at which the next request should begin.",
    "checks": "What was looked at; `ok` is right, everything else a sentence.",
    "name": "The name of the program.",
    "version": "Its version.",
    "core": "The version of worker-core.",
    "user": "The name of the user.",
    "admin": "Whether the user may see and end the jobs of others.",
    "event": "The name of the event: `end` for the last one of a job, else `status`. Without one"
    " for `unnamed=true`.",
    "data": "How the job is now.",
    "type": "Always about:blank.",
    "title": "The meaning of `code`.",
    "detail": "What is wrong and what to do, as a sentence for people.",
    "request_id": "The id of the request in the server's log.",
    "code": "The kind of problem.",
    "errors": "The members or parameters that are wrong.",
    "job": "The job.",
}
