"""The supervisor: one thread, one loop, that starts, signals, reaps and times out jobs.

It knows processes and job directories, has no database and no network, and must not die. It is
`python -m worker_core.supervisor`; engines talk to it through `worker_core.executors.local`.
"""
