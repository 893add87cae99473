"""The body of PATCH /jobs/{job_id}: what a waiting job waits for."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from worker_core.model.waiting import queueing

from worker_daemon.api import params


class _Time:
    """A time in RFC 3339, read as Unix seconds."""

    def from_text(self, text: str) -> float:
        """Read a time."""
        return queueing.moment(text)

    def from_json(self, value: object) -> float:
        """Read a time."""
        return queueing.moment(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values."""
        return queueing.Moment().schema()


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateBody:
    """What is changed; anything else stays as it is."""

    priority: Annotated[
        int | None,
        params.Field(
            params.Whole(queueing.LEAST_PRIORITY, queueing.MOST_PRIORITY),
            "Of its owner's waiting jobs the one with the highest priority starts first.",
        ),
    ] = None
    hold: Annotated[
        bool | None,
        params.Field(params.Flag(), "Whether the job waits until it is released with `false`."),
    ] = None
    start_after: Annotated[
        float | None,
        params.Field(
            _Time(), "The time before which the job does not start; one that has passed is none."
        ),
    ] = None

    def changes(self) -> dict[str, Any]:
        """Return what is to be changed."""
        return {name: each for name, each in vars(self).items() if each is not None}
