"""A known user with a wrong password and an unknown one cannot be told apart by the clock.

Run with `pytest tests/benchmarks/test_login_timing.py`.
"""

import itertools
import random
import time

import bcrypt
from worker_daemon import users

COST = 8  # 15 ms: small enough that a difference elsewhere would show
ROUNDS = 250


def test_refusals_of_known_and_unknown_names_take_equally_long(tmp_path):
    """Whoever measures could find out who has an account, and guess only their passwords."""
    file = tmp_path / "users"
    file.touch(mode=0o600)
    known = [f"user{n}" for n in range(20)]
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(COST)).decode()
    file.write_text("".join(f"{name}:{hashed}\n" for name in known))
    hours = itertools.count(step=3600)  # so that nobody is slowed down for failing
    verifier = users.Users(file, clock=lambda: float(next(hours)))

    def measure(name):
        begun = time.perf_counter()
        assert not verifier.verify(name, b"wrong", "192.0.2.1").accepted
        return time.perf_counter() - begun

    times = {"known": [], "unknown": []}
    for n in range(ROUNDS):
        kinds = ["known", "unknown"]
        random.shuffle(kinds)
        for kind in kinds:
            name = known[n % len(known)] if kind == "known" else f"name{n}"
            times[kind].append(measure(name))
    told_apart = _probability_of_being_greater(times["known"], times["unknown"])
    print(f"P(known takes longer than unknown) = {told_apart:.3f}; 0.5 is a coin")
    # The standard error is 0.026; four of them are left to chance.
    assert abs(told_apart - 0.5) < 0.105


def _probability_of_being_greater(some, others):
    """Return how often one of `some` is greater than one of `others` (Mann and Whitney's U)."""
    greater = sum((a > b) + (a == b) / 2 for a in some for b in others)
    return greater / (len(some) * len(others))
