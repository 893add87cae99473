"""The signals and repeated kills of each owner take a bounded part of the supervisor's time.

To signal a job of thousands of processes takes a tenth of a second, and who asks for that gets an
answer at once. So after each signal its owner rests nine times as long as it took. What is asked
for meanwhile waits, and the same signal to the same job waits once, as in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from worker_core.supervisor.loop import Loop

_REST = 9  # times as long as it took
_BURST = 0.2  # seconds of rest that may be owed before anything waits
_MOST_OWNERS = 1000  # of whom it is known until when they rest, before it is forgotten


@dataclass
class _Owner:
    """One owner: until when there is a rest (monotonic time), and what waits for its end."""

    rest: float = 0.0
    waiting: dict[Hashable, tuple[float, Callable[[], None]]] = field(default_factory=dict)


class Turns:
    """The turns of all owners."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._owners: dict[str, _Owner] = {}

    def take(self, name: str, what: Hashable, action: Callable[[], None], due: float = 0.0) -> None:
        """Do something for an owner, at once or after a rest.

        Of several actions for the same `what` that wait, the one with the smallest `due` is done.
        """
        owner = self._owners.setdefault(name, _Owner())
        if not owner.waiting and owner.rest <= self._loop.clock.monotonic() + _BURST:
            self._do(owner, action)
            self._forget()
            return
        if not owner.waiting:
            self._loop.call_at(owner.rest, lambda: self._next(owner))
        if what not in owner.waiting or due < owner.waiting[what][0]:
            owner.waiting[what] = due, action

    def _next(self, owner: _Owner) -> None:
        first = next(iter(owner.waiting))
        _, action = owner.waiting.pop(first)
        self._loop.attempt(lambda: self._do(owner, action))
        if owner.waiting:
            self._loop.call_at(owner.rest, lambda: self._next(owner))

    def _do(self, owner: _Owner, action: Callable[[], None]) -> None:
        began = self._loop.clock.monotonic()
        try:
            action()
        finally:
            now = self._loop.clock.monotonic()
            owner.rest = max(owner.rest, began) + _REST * (now - began)

    def _forget(self) -> None:
        if len(self._owners) > _MOST_OWNERS:
            now = self._loop.clock.monotonic()
            resting = {k: v for k, v in self._owners.items() if v.waiting or v.rest > now}
            self._owners = resting
