"""A clock that stands still until it is moved."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass
class FakeClock:
    """Implements ports.Clock.  Kinder than the real one: it never jumps by itself."""

    at: datetime = datetime(2026, 11, 23, 2, 14, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        """Move the clock; negative seconds turn it back."""
        self.at += timedelta(seconds=seconds)
