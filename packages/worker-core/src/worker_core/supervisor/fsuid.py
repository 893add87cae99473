"""Working with another account's rights on files, while being root for everything else.

A supervisor of root may serve an engine without privileges, which owns the state directory. What
the supervisor opens there it opens with the engine's own rights (setfsuid(2)), so that an engine
that was taken over gains nothing by planting links; what it creates belongs to the engine. With
its own rights it works only where the files are its own: control groups.
"""

from __future__ import annotations

import pwd
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from worker_core.linux import libc, procfs

_AS_EVER = nullcontext()
engine: pwd.struct_passwd | None = None
"""Whose rights are used; None if they are our own."""
_ours: frozenset[int] | None = None


def give_up(account: pwd.struct_passwd) -> None:
    """Use an account's rights on files from now on."""
    global engine  # noqa: PLW0603  # it belongs to the process, as the rights do
    engine = account
    _use(account.pw_uid, account.pw_gid)


def end_only(uids: Collection[int] | None) -> None:
    """Let a mark make no process a job's that runs as somebody else than these; None: as anybody.

    Every user can see the marks of all jobs, and an engine chooses the ids of its own, from which
    they are made: it could choose one with the mark of a job of another supervisor.
    """
    global _ours  # noqa: PLW0603  # it belongs to the process, as the rights do
    _ours = None if uids is None else frozenset(uids)


def may_end(pid: int) -> bool:
    """Return whether a process that carries the mark of a job may be one of that job's."""
    return _ours is None or procfs.user(pid) in _ours


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
    # The group first: without the user's rights it could not be changed any more.
    libc.set_file_group(gid)
    libc.set_file_user(uid)
