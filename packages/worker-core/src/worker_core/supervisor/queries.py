"""Answers the questions of engines about the state of jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker_core.supervisor import recover
from worker_core.supervisor.job_table import JobTable
from worker_core.supervisor.loop import Loop
from worker_core.supervisor.server import Connection

log = logging.getLogger(__name__)

_SLICE = 16  # jobs that are looked up before others have their turn
_MOST_TEXT = 32 << 20  # characters of reasons in one answer


@dataclass
class _Query:
    """One question, and the part of the answer that is known so far."""

    ids: list[str]
    token: int
    connection: Connection
    jobs: dict[str, Any] = field(default_factory=dict)
    characters: int = 0  # of the reasons in `jobs`


class Queries:
    """Looks up jobs for engines."""

    def __init__(
        self, loop: Loop, table: JobTable, report: Callable[[], Mapping[str, Any]]
    ) -> None:
        """`report` returns what else an answer says: see `wire`."""
        self._loop = loop
        self._table = table
        self._report = report

    def answer(self, ids: list[str], token: int, connection: Connection) -> None:
        """Send what is known of some jobs, now or after a few turns of the loop.

        Jobs that end meanwhile wait to be reaped, so only some are looked up in one turn. The
        connection is not read until the answer is sent.
        """
        self._look_up(_Query(ids, token, connection))

    def _look_up(self, query: _Query) -> None:
        for job_id in query.ids[:_SLICE]:  # again from the first one, if a shortage interrupts this
            query.jobs[job_id] = recover.known(self._table, job_id)
        ends = [query.jobs[job_id].get("exit", {}) for job_id in query.ids[:_SLICE]]
        query.characters += sum(len(end.get("reason") or "") for end in ends)
        del query.ids[:_SLICE]
        if query.characters > _MOST_TEXT:
            log.error("an engine asks for too long an answer; closing its connection")
            query.connection.close()
        elif query.ids and query.connection.is_open:
            query.connection.pause()
            self._loop.call_later(0, lambda: self._look_up(query))
        else:
            self._send(query)

    def _send(self, query: _Query) -> None:
        query.connection.resume()
        for job_id, known in query.jobs.items():
            if "running" in known and job_id not in self._table.jobs:  # it has ended since
                query.jobs[job_id] = recover.known(self._table, job_id)
        answer = {"event": "known", "token": query.token, "jobs": query.jobs}
        query.connection.send(answer | dict(self._report()))
