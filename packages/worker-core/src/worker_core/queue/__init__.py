"""Which queued job starts next. Nothing here does I/O.

job_queue.py      the whole rule, made of the others
turns.py          which owner is next
lines.py          which job of one owner is next
gates.py          the reasons why a job waits, as sentences
claims.py         which owners wait for units of pools, and in which order
resources.py      the pools, and which job has which units
dependencies.py   jobs that wait for other jobs
arrays.py  retries.py  timers.py  waiting.py
"""
