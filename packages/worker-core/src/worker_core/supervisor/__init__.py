"""The supervisor: one thread with one loop, which starts, signals, reaps and times out jobs.

It knows processes and job directories. It has no database and no network, and must not die. It runs
as `python -m worker_core.supervisor`; engines use it through `worker_core.executors.local`.

Where to find things:

    requests, events      server.py  requests.py  events.py  queries.py  supervisor.py
    the life of a job     job_table.py  running_job.py  outcome.py  exit_recorder.py
    start                 starts.py  start_queue.py  start_limit.py  start_message.py  slots.py
                          launchers.py  launcher.py  launch.py  noted_launch.py  announcer.py
    between fork and exec fork_exec.py  namespaces.py  hidden_paths.py  identity.py  exec_errors.py
    end                   kill_requests.py  killer.py  turns.py  timeout.py  sweeper.py  orphans.py
    which processes       tree.py  cgroup.py
    output                output_cap.py
    after a crash         recover.py  exit_status.py  start_log.py  keeper.py  bag.py
    this process          __main__.py  options.py  detach.py  upgrade.py  loop.py  reaper.py  oom.py
    root's supervisor     rundir.py  fsuid.py  identity.py  (THREATS.md)
"""
