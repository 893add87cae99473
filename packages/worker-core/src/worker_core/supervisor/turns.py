"""Limits the part of the supervisor's time that the signals and kills of one owner take.

To signal a job of thousands of processes takes a tenth of a second. A client does not wait for it,
and could ask for it all the time. So each owner has a rest after each action:

    after a kill        as long as the action took, minus a time that every kill may take
    after a signal, or  nine times as long as the action took, because a client can repeat these
    a repeated kill     without end

A request that arrives during the rest waits. Kills are done before signals, the most urgent kill
first, so that signals cannot delay a kill. If the same signal to the same job is requested again,
only one of them waits, as in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from worker_core.supervisor.loop import Loop

OFTEN = 9.0  # the rest after an action that can be repeated without end, as a multiple of its time
ONCE = 1.0  # the same after an action that a job can have only once
_FREE = 0.005  # seconds: what a kill of a small job takes at most, as its start did
_BURST = 0.2  # seconds of rest that an owner may owe before signals wait
_KILL_BURST = 0.02  # the same for kills
_MOST_OWNERS = 1000  # that are remembered although they do not rest


@dataclass(frozen=True)
class _Action:
    """Requests that wait for their turn."""

    call: Callable[[], object]
    rest: float
    due: float


@dataclass
class _Owner:
    """One owner's rest, and the requests that wait for its end."""

    rest: float = 0.0  # monotonic time at which it ends
    armed: bool = False  # whether a timer waits for that time
    kills: dict[Hashable, _Action] = field(default_factory=dict)
    signals: dict[Hashable, _Action] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        return bool(self.kills or self.signals)

    def take_next(self) -> _Action:
        """Remove the most urgent kill, or the oldest signal."""
        if self.kills:
            return self.kills.pop(min(self.kills, key=lambda what: self.kills[what].due))
        return self.signals.pop(next(iter(self.signals)))


class Turns:
    """The turns of all owners."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._owners: dict[str, _Owner] = {}

    def signal(self, name: str, what: Hashable, call: Callable[[], None]) -> None:
        """Do something that sends a signal, at once or after the owner's rest.

        Of several calls that wait for the same `what`, one is made.
        """
        owner = self._owner(name)
        action = _Action(call, OFTEN, 0.0)
        if self._is_free(owner, _BURST):
            self._do(owner, action)
        else:
            self._queue(owner, owner.signals, what, action)

    def kill(
        self,
        name: str,
        what: Hashable,
        call: Callable[[], None],
        *,
        due: float,
        rest: float = ONCE,
    ) -> None:
        """Do something that ends a job, at once or after the owner's rest.

        Of several calls that wait for the same `what`, the one with the smallest `due` is made.
        """
        owner = self._owner(name)
        action = _Action(call, rest, due)
        if self._is_free(owner, _KILL_BURST):
            self._do(owner, action)
        else:
            self._queue(owner, owner.kills, what, action)

    def go_on(self, name: str, call: Callable[[], object], *, rest: float) -> None:
        """Do the next part of an action, after one part was done."""
        owner = self._owner(name)
        self._queue(owner, owner.kills, object(), _Action(call, rest, 0.0))

    def _owner(self, name: str) -> _Owner:
        if len(self._owners) > _MOST_OWNERS:
            now = self._loop.clock.monotonic()
            self._owners = {k: v for k, v in self._owners.items() if v.waits or v.rest > now}
        return self._owners.setdefault(name, _Owner())

    def _is_free(self, owner: _Owner, burst: float) -> bool:
        return not owner.waits and owner.rest <= self._loop.clock.monotonic() + burst

    def _queue(
        self, owner: _Owner, queue: dict[Hashable, _Action], what: Hashable, action: _Action
    ) -> None:
        if what not in queue or action.due < queue[what].due:
            queue[what] = action
        self._arm(owner)

    def _arm(self, owner: _Owner) -> None:
        if owner.waits and not owner.armed:
            owner.armed = True
            self._loop.call_at(owner.rest, lambda: self._next(owner))

    def _next(self, owner: _Owner) -> None:
        owner.armed = False
        if owner.rest <= self._loop.clock.monotonic():
            action = owner.take_next()
            self._loop.attempt(lambda: self._do(owner, action))
        self._arm(owner)

    def _do(self, owner: _Owner, action: _Action) -> None:
        began = self._loop.clock.monotonic()
        try:
            action.call()
        finally:
            now = self._loop.clock.monotonic()
            free = _FREE if action.rest == ONCE else 0.0
            rest = action.rest * max(now - began - free, 0.0)
            owner.rest = max(owner.rest, now) + rest
