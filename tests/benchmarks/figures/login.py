"""Whether a stranger can find out who has an account, by the clock or by the answer.

Wrong passwords of users that there are and of users that there are not, over HTTPS, in a random
order. Each few come from another loopback address, for workerd slows down whoever fails often.
"""

from __future__ import annotations

import itertools
import random
import re
import time

from benchmarks.bench import Bench
from benchmarks.client import Connection, basic
from benchmarks.rows import Row, Target
from benchmarks.service import Service

_COST = 8  # of bcrypt: 15 ms, so that a difference elsewhere would show
_OF_ADDRESS = 8  # attempts; the first ten failures of an address are free
_OF_USER = 10  # attempts; the first twenty failures of a name are free


class _Users(Service):
    cost = _COST


def measure(bench: Bench) -> list[Row]:
    """Measure how often a known name takes longer than an unknown one; 0.5 is a coin."""
    count = bench.pick(400, 120)
    known = [f"user{number}" for number in range(count // _OF_USER)]
    kinds = ["known", "unknown"] * count
    random.shuffle(kinds)
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    answers: dict[str, set[str]] = {"known": set(), "unknown": set()}
    names = {
        "known": itertools.cycle(known),
        "unknown": (f"name{number}" for number in itertools.count()),
    }
    with _Users(bench.directory / "service", start=False) as service:
        service.write_users(dict.fromkeys([service.user, *known], "right"))
        service.start()
        for number in range(0, len(kinds), _OF_ADDRESS):
            address = number // _OF_ADDRESS
            connection = service.connect(f"127.1.{address // 250}.{1 + address % 250}")
            for kind in kinds[number : number + _OF_ADDRESS]:
                taken, answer = _refused(connection, next(names[kind]))
                times[kind].append(taken)
                answers[kind].add(answer)
            connection.close()
    if answers["known"] != answers["unknown"] or len(answers["known"]) != 1:
        raise RuntimeError(f"the answers tell them apart: {answers}")
    return [_row(times["known"], times["unknown"])]


def _row(known: list[float], unknown: list[float]) -> Row:
    told_apart = abs(_probability_of_being_greater(known, unknown) - 0.5)
    # The standard error of that under the null hypothesis (Mann and Whitney's U).
    some, others = len(known), len(unknown)
    error = ((some + others + 1) / (12 * some * others)) ** 0.5
    what = "P(a known name takes longer): distance from 1/2, in standard errors"
    return Row(what, "", [told_apart / error], target=Target(most=4.0))


def _refused(connection: Connection, user: str) -> tuple[float, str]:
    """Return how long the refusal took, and the answer but for its id and time."""
    connection.login = basic(user, "wrong")
    begun = time.perf_counter()
    connection.send("GET", "/whoami")
    status, head, body = connection.receive()
    taken = time.perf_counter() - begun
    if status != 401:
        raise RuntimeError(f"not refused but answered: {status} {body!r}")
    request_id = re.search(r"^X-Request-Id: (\S+)", head, re.M | re.I)
    assert request_id is not None, head
    answer = head + body.decode()
    return taken, re.sub(r"(?m)^Date: .*$", "", answer.replace(request_id[1], "ID"))


def _probability_of_being_greater(some: list[float], others: list[float]) -> float:
    greater = sum((a > b) + (a == b) / 2 for a in some for b in others)
    return greater / (len(some) * len(others))
