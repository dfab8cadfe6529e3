"""What an incident is to us: who is hurt, how badly, and since when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

DRILL: Final = "GAMEDAY"


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as a webhook told it.  Texts are people's and are never trusted."""

    id: str
    services: tuple[str, ...] = ()
    """Names as sent, in order, without duplicates; one empty name when none is impacted."""
    environments: tuple[str, ...] = ()
    number: int | None = None
    name: str | None = None
    url: str | None = None
    severity: str | None = None
    """None where the form does not say it."""
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """What FireHydrant says of an incident now."""

    severity: str
    """Upper case as FireHydrant has it; "" when it has none."""
    is_active: bool
    asked_at: datetime

    @property
    def is_drill(self) -> bool:
        """FireHydrant's own test of a runbook: nothing real may be touched."""
        return is_drill(self.severity)


def is_drill(severity: str | None) -> bool:
    """Say whether a severity is that of FireHydrant's own test of a runbook."""
    return (severity or "").strip().upper() == DRILL
