"""Conditions: upsert one, drop one, and read one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from incident_rollback.crd.v1alpha1 import MAX_TEXT, Condition

Conditions = tuple[Condition, ...]


def upsert(
    conditions: Conditions,
    kind: str,
    status: Literal["True", "False", "Unknown"],
    reason: str,
    message: str,
    *,
    now: datetime,
    generation: int,
) -> Conditions:
    """Set one condition; its transition time moves only when its status does."""
    before = get(conditions, kind)
    moved = before is None or before.status != status
    condition = Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:MAX_TEXT],
        last_transition_time=now if moved or before is None else before.last_transition_time,
        observed_generation=generation,
    )
    if before is None:
        return (*conditions, condition)
    return tuple(condition if c.type == kind else c for c in conditions)


def drop(conditions: Conditions, *kinds: str) -> Conditions:
    """Remove conditions: those that are only there while they are true."""
    return tuple(c for c in conditions if c.type not in kinds)


def get(conditions: Sequence[Condition], kind: str) -> Condition | None:
    """Return the condition of a type, or None."""
    return next((c for c in conditions if c.type == kind), None)


def reason_of(conditions: Sequence[Condition]) -> str:
    """Return the reason of Ready; "" before the first turn."""
    ready = get(conditions, "Ready")
    return ready.reason if ready else ""
