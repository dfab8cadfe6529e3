"""
The budgets of docs/design.md §7, each as a limit and a figure that is made of samples.

Pure.  A figure of samples that are not there is None: not measured, which is not kept either.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.samples import Samples

Figure = Callable[[Samples], float | None]
"""Makes a number of samples; None where there are none."""


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def p50(name: str) -> Figure:
    return lambda samples: statistics.median(samples.of(name)) if samples.of(name) else None


def p95(name: str) -> Figure:
    return lambda samples: quantile(samples.of(name), 0.95) if samples.of(name) else None


def most(name: str) -> Figure:
    return lambda samples: max(samples.of(name), default=None)


def least(name: str) -> Figure:
    return lambda samples: min(samples.of(name), default=None)


def difference(one: Figure, other: Figure) -> Figure:
    """Return one minus the other."""

    def made(samples: Samples) -> float | None:
        a, b = one(samples), other(samples)
        return None if a is None or b is None else a - b

    return made


def ratio(one: Figure, other: Figure) -> Figure:
    """Return one over the other."""

    def made(samples: Samples) -> float | None:
        a, b = one(samples), other(samples)
        return None if a is None or not b else a / b

    return made


@dataclass(frozen=True)
class Budget:
    """One promise, and the figure that it is held against."""

    text: str
    limit: float
    unit: str
    figure: Figure
    may_equal: bool = False
    """The promise is "at most", not "less than"."""
    digits: int = 0
    """Of the figure, as shown; it is judged as measured."""
    at_least: bool = False
    """The promise is "at least", and both sides of a range are two budgets."""

    @property
    def bound(self) -> str:
        """The limit as the design has it: `< 25 ms`."""
        sign = "≥" if self.at_least else "≤" if self.may_equal else "<"
        return f"{sign} {self.limit:g} {self.unit}".rstrip()

    def is_kept_by(self, figure: float | None) -> bool:
        if figure is None:
            return False
        if self.at_least:
            return figure >= self.limit
        return figure <= self.limit if self.may_equal else figure < self.limit


POST_TO_PATCH: Final = p50("ours: POST to patch, ms")
ANSWERS: Final = ("ours: answers, 20 at once, ms", "ours: answers, 20 repeats at once, ms")


def slowest_answer(samples: Samples) -> float | None:
    """Return the longest of all answers with twenty at once."""
    return max((value for name in ANSWERS for value in samples.of(name)), default=None)


BUDGETS: Final = (
    Budget("webhook → resource created, p95", 25, "ms", p95("ours: POST to created, ms"), digits=1),
    Budget("resource created → patch, p50", 50, "ms", p50("ours: created to patch, ms"), digits=1),
    Budget("resource created → patch, p95", 100, "ms", p95("ours: created to patch, ms"), digits=1),
    Budget(
        "POST → patch, p50, over that of `kubectl rollout undo` from exec to patch",
        0.6,
        "",
        ratio(POST_TO_PATCH, p50("kubectl: exec to patch, ms")),
        may_equal=True,
        digits=2,
    ),
    Budget(
        "POST → patch after 20 s of quiet, more than usual",
        10,
        "ms",
        difference(p50("ours: POST to patch after quiet, ms"), POST_TO_PATCH),
        may_equal=True,
        digits=1,
    ),
    Budget("answers, 20 at once, longest", 200, "ms", slowest_answer, may_equal=True),
    Budget(
        "patches of 20 deliveries of one incident, at most",
        1,
        "",
        most("ours: patches of 20 deliveries of one incident"),
        may_equal=True,
    ),
    Budget(
        "patches of 20 deliveries of one incident, at least",
        1,
        "",
        least("ours: patches of 20 deliveries of one incident"),
        at_least=True,
    ),
    Budget(
        "20 incidents on 20 workloads, all patched, longest",
        1500,
        "ms",
        most("ours: 20 on 20, all patched, ms"),
    ),
    Budget(
        "… over 20 `kubectl rollout undo`, all through, p50",
        1,
        "",
        ratio(p50("ours: 20 on 20, all patched, ms"), p50("kubectl: 20 at once, all through, ms")),
        digits=2,
    ),
    Budget(
        "bridge, memory after 50 at once",
        80,
        "MB",
        most("bridge: memory after 50 at once, MB"),
        digits=1,
    ),
    Budget(
        "controller, memory after 50 at once",
        100,
        "MB",
        most("controller: memory after 50 at once, MB"),
        digits=1,
    ),
    Budget("bridge, exec → ready, p50", 1000, "ms", p50("bridge: exec to ready, ms")),
    Budget("controller, exec → ready, p50", 1000, "ms", p50("controller: exec to ready, ms")),
    Budget("bridge, SIGTERM → gone, longest", 500, "ms", most("bridge: SIGTERM to gone, ms")),
    Budget(
        "controller, SIGTERM → gone, longest", 500, "ms", most("controller: SIGTERM to gone, ms")
    ),
    Budget(
        "SIGTERM of the leader → patch of a new request, longest",
        1000,
        "ms",
        most("controller: SIGTERM to the next patch, ms"),
    ),
    Budget(
        "SIGKILL of the leader → patch of a new request, longest",
        2000,
        "ms",
        most("controller: SIGKILL to the next patch, ms"),
    ),
    Budget("one rollback: status writes, p95", 5, "", p95("ours: status writes"), may_equal=True),
    Budget(
        "one rollback: requests to the API server without polling, p50",
        20,
        "",
        p50("ours: requests to the API server"),
        may_equal=True,
    ),
    Budget(
        "one rollback: requests to FireHydrant, p95",
        5,
        "",
        p95("ours: requests to FireHydrant"),
        may_equal=True,
    ),
    Budget("one rollback: CPU", 50, "ms", p50("ours: CPU for a rollback, ms"), may_equal=True),
    Budget(
        "5,000 settled resources: memory of the controller",
        10,
        "MB",
        difference(
            p50("controller: memory with old, MB"), p50("controller: memory without old, MB")
        ),
        digits=1,
    ),
    Budget(
        "5,000 settled resources: exec → ready",
        200,
        "ms",
        difference(
            p50("controller: exec to ready with old, ms"),
            p50("controller: exec to ready without old, ms"),
        ),
    ),
    Budget(
        "API server back after 20 s → the next rollback is patched",
        3000,
        "ms",
        most("ours: API server back to the next patch, ms"),
    ),
)
