"""Using another account's rights on files, and root's rights for everything else.

Root's supervisor may serve an engine without privileges, which owns the state directory. There the
supervisor opens files with the engine's rights (setfsuid(2)), so that an engine that was taken over
gains nothing by planting links, and what the supervisor creates belongs to the engine. It uses its
own rights only for files of its own: control groups and its run directory.
"""

from __future__ import annotations

import pwd
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from worker_core.linux import libc, procfs

_AS_EVER = nullcontext()
engine: pwd.struct_passwd | None = None
"""The account whose rights are used; None if we use our own."""
_uids_of_jobs: frozenset[int] | None = None


def give_up(account: pwd.struct_passwd) -> None:
    """Use an account's rights on files from now on."""
    global engine  # noqa: PLW0603  # it belongs to the process, as the rights do
    engine = account
    _use(account.pw_uid, account.pw_gid)


def end_only(uids: Collection[int] | None) -> None:
    """Accept the mark of a job only on processes of these accounts; None: on any process.

    Every user can see the marks of all jobs, and marks are computed from ids, which the engine
    chooses: it could choose an id with the mark of another supervisor's job.
    """
    global _uids_of_jobs  # noqa: PLW0603  # it belongs to the process, as the rights do
    _uids_of_jobs = None if uids is None else frozenset(uids)


def may_end(pid: int) -> bool:
    """Return whether a process with the mark of a job can belong to that job, by its account."""
    return _uids_of_jobs is None or procfs.user(pid) in _uids_of_jobs


def own() -> AbstractContextManager[None]:
    """Use our own rights on files in this block."""
    return _AS_EVER if engine is None else _own(engine)


@contextmanager
def _own(engine: pwd.struct_passwd) -> Iterator[None]:
    _use(0, 0)
    try:
        yield
    finally:
        _use(engine.pw_uid, engine.pw_gid)


def _use(uid: int, gid: int) -> None:
    # The group is set first: with the rights of another user it could not be set any more.
    libc.set_file_group(gid)
    libc.set_file_user(uid)
