"""
What shall go wrong, and for which requests: a script that tests write and the server plays.

It knows when a fault applies, not how it is carried out.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

Deed = Literal["fail", "stall", "commit_then_time_out", "commit_then_500"]


@dataclass
class Fault:
    """One thing to go wrong, for the next `times` requests that match; None is for ever."""

    deed: Deed
    match: re.Pattern[str]
    times: int | None
    status: int = 500
    seconds: float | None = None
    body: object = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def is_spent(self) -> bool:
        return self.times is not None and self.times <= 0


class Script:
    """Faults in the order they were asked for.  Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def take(self, line: str) -> Fault | None:
        """The fault for this request: the first that matches, and only that one."""
        for fault in self._faults:
            if fault.match.search(line) and not fault.is_spent:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    @property
    def pending(self) -> int:
        """Faults that were asked for and have not happened; those for ever do not count."""
        return sum(fault.times or 0 for fault in self._faults)
