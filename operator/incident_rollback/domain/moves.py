"""
Decisions as values: the next move of one rollback.

`message` says what is so, `fix` what a person can do about it or which command is next.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from incident_rollback.crd.v1alpha1 import (
    Candidate,
    PlanStatus,
    RevisionStatus,
    TargetStatus,
)
from incident_rollback.domain.workload import Revision


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing was changed; something that a person or time can mend is in the way."""

    reason: str
    message: str
    fix: str
    after: float = 2.0
    """Seconds until the next look; a wake may come earlier."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason to ask a person before anything is done."""

    code: str
    """CamelCase; part of the plan's digest, so an approval covers it."""
    text: str
    """The evidence, for people."""


@dataclass(frozen=True, slots=True)
class Aim:
    """The workload, where it stands, where it shall go, and why there."""

    target: TargetStatus
    from_: RevisionStatus
    to: RevisionStatus
    candidates: tuple[Candidate, ...]
    plan: PlanStatus
    revision: Revision
    """The revision behind `to`, template included."""
    doubts: tuple[Doubt, ...] = ()
    """Why a person should approve the plan first; empty: nothing speaks against it."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing was changed, and nothing will be."""

    reason: str
    message: str
    fix: str
    aim: Aim | None = None
    """What waits for somebody's approval; it is its plan that the next request approves."""
    candidates: tuple[Candidate, ...] = ()
    """Why none of the revisions that were looked at was taken."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Freeze from and to; the patch follows in the same turn."""

    aim: Aim


@dataclass(frozen=True, slots=True)
class Preview:
    """A dry run: tell the plan, change nothing."""

    aim: Aim


@dataclass(frozen=True, slots=True)
class Restore:
    """The claim is stored and the patch is not in: patch."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class Watch:
    """The patch is in; not over yet."""

    message: str
    patched_at: datetime
    healthy_since: datetime | None = None
    after: float = 1.0


@dataclass(frozen=True, slots=True)
class Succeed:
    """Healthy, or nothing had to be done."""

    reason: str
    message: str
    fix: str
    healthy_since: datetime | None = None
    is_proven: bool = False
    """`from` was seen failing and `to` was seen healthy."""
    warning: str = ""
    """What will bring the old revision back; "" when nothing is known to."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Something was changed, and it is not healthy, or nobody could tell."""

    reason: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class News:
    """What happened to the workload after the end."""

    reason: str
    message: str
    fix: str = ""
    stands: bool = False
    """Whether the result still stands."""
    is_told: bool = True
    """Whether the incident hears of it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The end is stored; still watching, or waiting until everything is told."""

    news: News | None = None
    is_over: bool = False
    """The workload need not be watched any longer."""
    after: float = field(default=15.0)


Move: TypeAlias = Wait | Refuse | Claim | Preview | Restore | Watch | Succeed | Fail | Hold
