"""
Counts requests as FireHydrant does: for the whole account, over every limit at once.

Documented are the sizes, the status and the headers.  That the window slides, and that a refused
request does not count, is assumed; both are kind to a client that obeys `Retry-After`.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limit:
    """So many requests in any span of so many seconds."""

    requests: int
    seconds: float


DOCUMENTED: Final = (Limit(50, 10.0), Limit(300, 60.0))


@dataclass(frozen=True)
class Refusal:
    """What a refused request is told: the size of the pool, and whole seconds to wait."""

    limit: int
    retry_after: int


class RateLimiter:
    """Remembers when requests were let in.  Not thread-safe: its owner holds a lock."""

    def __init__(
        self, limits: tuple[Limit, ...], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._admitted: deque[float] = deque()

    def admit(self) -> Refusal | None:
        """Let one request in and say nothing, or say why not."""
        now = self._clock()
        self._forget_before(now - max((limit.seconds for limit in self.limits), default=0.0))
        for limit in self.limits:
            recent = [at for at in self._admitted if at > now - limit.seconds]
            if len(recent) >= limit.requests:
                wait = free_at(recent, limit, now) - now
                return Refusal(limit.requests, max(1, math.ceil(wait)))
        self._admitted.append(now)
        return None

    def _forget_before(self, instant: float) -> None:
        while self._admitted and self._admitted[0] <= instant:
            self._admitted.popleft()


def free_at(recent: list[float], limit: Limit, now: float) -> float:
    """When the request that is in the way leaves the window; a limit of none never frees."""
    return (recent[-limit.requests] if limit.requests else now) + limit.seconds
