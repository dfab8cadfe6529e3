"""The API server's time, learnt from the Date header of every answer."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

DRIFT: Final = 0.001
"""How far two clocks may part in a second: NTP slews either by at most 500 ppm."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ApiClock:
    """
    Now, as the API server would say it.

    The local clock is read once and carried on by the monotonic one, so a step of it changes
    nothing.  A Date header has whole seconds: while the request was under way the server's time
    was once in [date, date + 1 s), which bounds the offset between the two clocks from below
    and above.  The bounds are intersected, widened by the drift that is possible since; the
    offset stays as it is while it lies between them, else it becomes their middle.  Bounds that
    exclude each other mean that a clock was stepped or stood still: the newest ones win.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monotonic = monotonic
        self._zero = self._seen = monotonic()
        self._start = wall()
        self._offset = 0.0
        self._low, self._high = -math.inf, math.inf

    def now(self) -> datetime:
        """Return now, by the API server's clock; by ours, until it has been heard."""
        return self._local(self.monotonic()) + timedelta(seconds=self._offset)

    def saw(self, date: datetime, sent: float, received: float) -> None:
        """Learn from the Date header of an answer; `sent` and `received` are monotonic."""
        low = (date - self._local(received)).total_seconds()
        high = (date - self._local(sent)).total_seconds() + 1
        drift = DRIFT * max(0.0, received - self._seen)
        self._low, self._high = max(low, self._low - drift), min(high, self._high + drift)
        self._seen = max(self._seen, received)
        if self._low > self._high:
            self._low, self._high = low, high
        if not self._low <= self._offset <= self._high:
            self._offset = (self._low + self._high) / 2

    def _local(self, at: float) -> datetime:
        return self._start + timedelta(seconds=at - self._zero)
