"""
How often FireHydrant is called: two windows, a pause, and who goes first.

It knows nothing of what is called; a request that did not wait here is charged afterwards.
"""

import asyncio
import bisect
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Final

Window = tuple[int, float]
"""So many requests in any span of so many seconds."""
HALF: Final[tuple[Window, ...]] = ((25, 10.0), (150, 60.0))
"""Half of the account's limit: the other half is for people and their other tools."""
LEAST_WAIT: Final = 0.001
"""Seconds; a rounding error must not become a busy loop."""


class Rank(IntEnum):
    """Who goes first when not all can."""

    NOTE = 0
    CHANGE = 1
    PROGRESS = 2


@dataclass(order=True)
class Ticket:
    """A place in the line: by rank, then by arrival."""

    rank: Rank
    number: int
    is_first: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Limiter:
    """Lets requests through, the most urgent first, and never more than the windows allow."""

    def __init__(
        self,
        windows: tuple[Window, ...] = HALF,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._windows = windows
        self._monotonic = monotonic
        self._sleep = sleep
        self._spent: deque[float] = deque()
        self._line: list[Ticket] = []
        self._numbers = count()
        self._paused_until = 0.0

    async def take(self, rank: Rank) -> None:
        """Wait for a turn, and count one request."""
        ticket = Ticket(rank, next(self._numbers))
        bisect.insort(self._line, ticket)
        try:
            await self._stand_in_line(ticket)
            self.charge()
        finally:
            self._line.remove(ticket)
            if self._line:
                self._line[0].is_first.set()

    def charge(self) -> None:
        """Count a request that is made without waiting for a turn."""
        now = self._monotonic()
        self._spent.append(now)
        longest = max(span for _, span in self._windows)
        while self._spent[0] + longest <= now:
            self._spent.popleft()

    def pause(self, seconds: float) -> None:
        """Let nothing through for so long: FireHydrant limits the account, not one caller."""
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)

    async def _stand_in_line(self, ticket: Ticket) -> None:
        """Return when the ticket is first and there is room; one that sleeps may be overtaken."""
        while True:
            if self._line[0] is not ticket:
                ticket.is_first.clear()
                await ticket.is_first.wait()
            elif (wait := self._wait_seconds()) > 0:
                await self._sleep(max(wait, LEAST_WAIT))
            else:
                return

    def _wait_seconds(self) -> float:
        """Seconds until there is room in every window; zero or less: now."""
        free_at = [self._paused_until]
        for size, span in self._windows:
            if len(self._spent) >= size:
                free_at.append(self._spent[-size] + span)
        return max(free_at) - self._monotonic()
