"""
What a flood leaves in the log: of lines that are alike one a second, and how many were left out.

Anybody can cause a line, without a signature and as fast as the network goes.  The metrics count
each request all the same.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

EVERY_SECONDS: Final = 1.0

Say = Callable[[int], None]
"""Writes a line, and with it how many like it were left out before it."""


@dataclass
class _Second:
    """What came of a kind since a line of it was written."""

    count: int = 0
    last: Say | None = None


@dataclass
class Floods:
    """
    Lets one line a second through of each kind, and forgets a kind that is quiet for a second.

    The first line of a kind is written at once.  Of those that come within a second after it the
    last one is written, at the end of that second: so what is counted is never left unsaid.
    Whoever uses it has few kinds.
    """

    every_seconds: float = EVERY_SECONDS
    _seconds: dict[str, _Second] = field(default_factory=dict[str, _Second])
    """By kind: what came since it was written last."""

    def tell(self, kind: str, say: Say) -> None:
        """Write a line now, or later, or leave it out.  To be called inside the loop."""
        if (second := self._seconds.get(kind)) is None:
            self._begin(kind)
            say(0)
        else:
            second.count += 1
            second.last = say

    def _begin(self, kind: str) -> None:
        self._seconds[kind] = _Second()
        asyncio.get_running_loop().call_later(self.every_seconds, self._end, kind)

    def _end(self, kind: str) -> None:
        """Write what came in a second, and begin the next one if there was something."""
        second = self._seconds.pop(kind)
        if second.last is not None:
            self._begin(kind)
            second.last(second.count - 1)
