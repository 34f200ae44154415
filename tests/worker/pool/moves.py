"""What can happen in the life of a book: drawn by hypothesis or by plain dice, from the same tables."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

F = TypeVar("F", bound=Callable[..., Any])


class Refused(Exception):
    retryable = False


class Busy(Exception):
    retry_after = 3.0


# Small sizes and short times, so that limits are met often; not so short that nothing could stay warm.
LIMITS: dict[str, list[Any]] = {
    "max_leased": [None, 1, 2],
    "max_waiting": [0, 1, 2, 3],
    "max_idle": [math.inf, 20.0],
    "max_unused": [math.inf, 15.0],
    "max_lifetime": [math.inf, 40.0],
    "max_lease": [math.inf, 10.0],
    "grace": [0.0, 3.0],
    "jitter": [0.0, 0.2],
    "check_every": [1.0, 4.0],
    "openers": [1, 2],
    "opens_per_second": [math.inf, 1.0],
    "spread": [0.0, 2.0],
    "backoff_first": [0.5],
    "backoff_max": [4.0],
}

# What a rule may be told, by the name of its argument. What goes well goes well mostly, else nothing would last.
CHOICES: dict[str, list[Any]] = {
    "sizes": [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (2, 2), (2, 2), (2, 3), (2, 3)],  # smallest and largest
    "seed": list(range(20)),
    "used": list(range(4)),
    "which": list(range(12)),
    "fresh": [False, False, True],
    "name": ["one job", "another"],
    "healthy": [True, True, True, False],
    "keep": [True, True, True, False],
    "fate": [*["patience"] * 4, "deadline", "interrupt"],
    "lost": [*[False] * 9, True],
    "error": [*[None] * 6, OSError(), Refused(), Busy()],
    "late": [-0.5, 0.0, 0.3],
    "seconds": [0.01, 0.3, 1.0, 6.0, 16.0],
    "act": [*["nothing"] * 12, *["resize"] * 4, "fork", "close"],
}


MOVES: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {}
"""The rules by name: when each can be, and what it is told."""


def some(*names: str) -> dict[str, Any]:
    return {name: st.sampled_from(CHOICES[name]) for name in names}


def move(*names: str, when: Callable[[Any], Any] = lambda life: True) -> Callable[[F], F]:
    def register(function: F) -> F:
        MOVES[function.__name__] = (when, names)
        ruled: F = precondition(when)(rule(**some(*names))(function))
        return ruled

    return register
