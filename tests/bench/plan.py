"""How much a run measures; a quick look is for whoever works on it, and counts for nothing."""

from dataclasses import dataclass
from typing import Final, Self

FULL: Final = 100
"""Rollbacks one at a time; with fewer a run is a quick look."""
BATCH: Final = 10
"""So many workloads for each contestant are there at a time: a namespace as people have them."""


@dataclass(frozen=True)
class Plan:
    """So many of each."""

    n: int
    """Rollbacks one at a time, for ours and for each peer."""
    rulebook: int
    """Rollbacks by ansible-rulebook, which takes seconds for each."""
    after_quiet: int
    quiet_seconds: float
    bursts: int
    """How often 20 are asked for at once."""
    many: int
    """How many are asked for at once, once."""
    starts: int
    takeovers: int
    settled: int
    """How many resources that are settled are there at a start."""
    away_seconds: float
    """How long the API server is away."""

    @classmethod
    def of(cls, n: int) -> Self:
        """Return the plan of a run; less than FULL makes all of it shorter."""
        if n >= FULL:
            return cls(
                n=n,
                rulebook=5,
                after_quiet=3,
                quiet_seconds=20.0,
                bursts=4,
                many=200,
                starts=4,
                takeovers=3,
                settled=5000,
                away_seconds=20.0,
            )
        return cls(
            n=n,
            rulebook=2,
            after_quiet=1,
            quiet_seconds=20.0,
            bursts=1,
            many=50,
            starts=2,
            takeovers=1,
            settled=500,
            away_seconds=20.0,
        )

    @property
    def is_full(self) -> bool:
        return self.n >= FULL
