"""
Who may lead: the Lease as it is stored, and what follows from how long it was not renewed.

No two clocks are compared.  Whoever waits measures by its own monotonic clock for how long it has
seen the same version; whoever leads counts from the moment before its last renewal was sent.  So
the one has let go before the other may take it, however long a request was under way.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from incident_rollback.domain.words import clock_time, quote, span

LEASE_NAME: Final = "incident-rollback-controller"
LEASE_SECONDS: Final = 10
"""What we write into it: not renewed for so long, it is anybody's."""
TRUST_SECONDS: Final = 8.0
"""How long we rely on a renewal.  Less than the Lease: what is begun in time takes a moment."""
LONGEST_LEASE_SECONDS: Final = 60.0
"""A Lease of longer is taken for one of this: a stranger's slip must not silence us for a day."""
CUT_OFF_SECONDS: Final = 10.0
"""Nobody can say for so long who leads: then it is better to act than to wait."""
CUT_OFF_TRIES: Final = 3
"""So many tries must have failed: one who slept for an hour has not been cut off."""
UNSEEN_AFTER: Final = timedelta(minutes=1)
"""A Lease that is older is worth a word to whoever asks for a rollback."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease of coordination.k8s.io/v1, as far as it concerns us; instants are aware UTC."""

    holder: str = ""
    """Empty: nobody's, it was released."""
    seconds: int = LEASE_SECONDS
    """How long it is good for without being renewed."""
    acquired_at: datetime | None = None
    renewed_at: datetime | None = None
    transitions: int = 0
    """How often it has changed hands."""
    version: str = ""
    """The resourceVersion it was read with; empty: it is not stored yet."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was read last, and since when it reads like that."""

    lease: Lease | None
    """None: there is no such Lease."""
    since: float
    """Monotonic, in seconds: when the first answer with this version had come."""


class Standing(StrEnum):
    """What a process may do: only who leads tells, and who stands by takes no turns."""

    LEADS = "leads"
    STANDS_BY = "stands by"
    CUT_OFF = "cut off"
    """Nobody can say who leads: turns go on, for they are safe without; telling waits."""

    @property
    def takes_turns(self) -> bool:
        """Whether it takes the turns of every rollback."""
        return self is not Standing.STANDS_BY


def look_again(before: Sight | None, lease: Lease | None, now: float) -> Sight:
    """Return what is seen now; `now` is monotonic and from after the answer."""
    if before is not None and before.lease == lease:
        return before
    return Sight(lease, now)


def is_takeable(sight: Sight, me: str, now: float) -> bool:
    """
    Say whether `me` may try to write itself into the Lease.

    What is there in our own name is ours: the answer to our write was lost.
    """
    lease = sight.lease
    if lease is None or lease.holder in {"", me}:
        return True
    return now - sight.since >= min(lease.seconds, LONGEST_LEASE_SECONDS)


def held_by(me: str, lease: Lease | None, now: datetime) -> Lease:
    """Return the Lease to write when `me` takes it or renews it; it keeps its version."""
    if lease is None:
        return Lease(me, acquired_at=now, renewed_at=now)
    if lease.holder == me:
        return replace(lease, seconds=LEASE_SECONDS, renewed_at=now)
    return Lease(
        me,
        acquired_at=now,
        renewed_at=now,
        transitions=lease.transitions + 1,
        version=lease.version,
    )


def released(lease: Lease, now: datetime) -> Lease:
    """Return the Lease to write when its holder lets go."""
    return replace(lease, holder="", renewed_at=now)


def standing_of(now: float, *, leads_until: float, answered_at: float, failures: int) -> Standing:
    """
    Say how a process stands, `now` and the other instants being monotonic, in seconds.

    `answered_at` is when the last try was begun that told who leads; `failures` is how many have
    failed since.
    """
    if now < leads_until:
        return Standing.LEADS
    if failures >= CUT_OFF_TRIES and now - answered_at >= CUT_OFF_SECONDS:
        return Standing.CUT_OFF
    return Standing.STANDS_BY


def absence_of(lease: Lease | None, now: datetime, home: str) -> str:
    """
    Say that no controller has been seen for over a minute; "" when one was, or nobody can tell.

    No Lease tells nothing: the controller may run without, or not be let near it.
    """
    if lease is None or lease.renewed_at is None or now - lease.renewed_at <= UNSEEN_AFTER:
        return ""
    unseen = span(now - lease.renewed_at)
    return (
        f"no controller has been seen for {unseen}: kubectl get pods -n {home}; the request is kept"
    )


def attendance_of(lease: Lease | None, now: datetime, home: str) -> tuple[bool, str]:
    """
    Say whether a controller is there, and which one leads, or since when none was seen.

    For whoever looks by day, and wants to know rather than to be told in passing.
    """
    look = f"kubectl get pods -n {home}"
    if lease is None or lease.renewed_at is None:
        return False, f"no controller has ever led here: {look}"
    age = now - lease.renewed_at
    if age > UNSEEN_AFTER:
        at = f"{lease.renewed_at:%Y-%m-%d} {clock_time(lease.renewed_at)} UTC"
        return False, f"no controller has been seen since {at} ({span(age)}): {look}"
    if not lease.holder:
        return False, f"no controller leads since the last one let go {span(age)} ago: {look}"
    return True, f"leads: {quote(lease.holder)}"
