"""
The caps of an environment: how many rollbacks at once, and how many within an hour.

A mistaken step that names every service must not move all of them together.  There is no lock.  A
claim is stored before its process looks for the others, so of any two claims at least one sees the
other; and every claim counts for everybody, but for one whose own status says that it waits.  Such
a claim says that it goes on, and looks again, before it goes.  So whoever looks last has seen all
that are under way: twenty claims of the same instant keep to the cap, in whatever order they come.

Which of those that wait for the cap goes first is settled by the time of the claim.  That is only
about whose turn it is: a clock that is wrong lets nobody through.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase
from incident_rollback.domain.conditions import reason_of
from incident_rollback.domain.environment import Place
from incident_rollback.domain.moves import Wait
from incident_rollback.domain.observation import LONG_AGO, Observation
from incident_rollback.domain.words import clock_time, quote

HOUR: Final = timedelta(hours=1)
IN_TURN: Final = frozenset({"TooManyAtOnce", "TooManyThisHour"})
"""Reasons of a claim that waits for a cap; the earlier claim goes first."""
WAITING: Final = IN_TURN | {
    "Busy",
    "EnvironmentAmbiguous",
    "EnvironmentNotMapped",
    "NotObserved",
    "Paused",
    "Suspended",
}
"""
Reasons of a claim whose workload was looked at, with no trace of a patch, and that waits.

`PermissionMissing` is none of them: who may not look does not know whether the patch is in.
"""
FRESH: Final = timedelta(seconds=2)
"""
A claim of a moment ago counts whatever it says: where two controllers overlap for a while, one
may have said that it waits when the other was about to patch; that one's next turn mends it.
"""
SHOWN: Final = 3
SOON_SECONDS: Final = 1.0
POLL_SECONDS: Final = 5.0
"""Many may wait for one cap, and what they wait for takes a while."""
LONGEST_POLL_SECONDS: Final = 15.0


def over_the_cap(seen: Observation) -> Wait | None:
    """
    Say why no further rollback may go in this environment now; None: this one may.

    Nobody is excepted, not whoever names the revision or approves the plan either: the caps are
    the brake of those who own the environment.  The first claim always goes.
    """
    place = seen.place
    if place is None or not _has_cap(seen):
        return None
    beside = [
        other
        for other in seen.others
        if other.metadata.uid != seen.rollback.metadata.uid and _is_beside(other, place)
    ]
    ahead = [other for other in beside if _is_ahead(other, seen)]
    return _at_once(seen, place, ahead) or _within_the_hour(seen, place, beside, ahead)


def must_say_that_it_goes(seen: Observation) -> bool:
    """Say whether the status tells others not to count this claim, so that it must not go yet."""
    return _has_cap(seen) and _is_waiting(seen.rollback)


def _has_cap(seen: Observation) -> bool:
    return seen.policy.max_concurrent is not None or seen.policy.max_per_hour is not None


def _at_once(seen: Observation, place: Place, ahead: Sequence[IncidentRollback]) -> Wait | None:
    cap = seen.policy.max_concurrent
    if cap is None or len(ahead) < cap:
        return None
    return Wait(
        "TooManyAtOnce",
        f"{_named(place)} has {_counted(ahead)} before this one, and its policy allows {cap} at "
        "once (maxConcurrent)",
        "wait for them: kubectl get irb -A; or raise maxConcurrent: kubectl get rbenv -A",
        after=_pause(seen.rollback, ahead),
    )


def _within_the_hour(
    seen: Observation,
    place: Place,
    beside: Sequence[IncidentRollback],
    ahead: Sequence[IncidentRollback],
) -> Wait | None:
    """Count the patches of the last hour, and those that are about to be made."""
    cap = seen.policy.max_per_hour
    if cap is None:
        return None
    coming = [other for other in ahead if other.status.patched_at is None]
    made = [other for other in beside if _patched_at(other) + HOUR > seen.now]
    counted = [*coming, *sorted(made, key=_patched_at, reverse=True)]
    if len(counted) < cap:
        return None
    leaves_at = counted[cap - 1].status.patched_at  # When this one does not count any more.
    again = f"; there is room again at {clock_time(leaves_at + HOUR)}" if leaves_at else ""
    left = (leaves_at + HOUR - seen.now).total_seconds() if leaves_at else LONGEST_POLL_SECONDS
    return Wait(
        "TooManyThisHour",
        f"{_named(place)} has {_counted(counted)} within an hour, and its policy allows {cap} "
        f"(maxPerHour){again}",
        "wait, or raise maxPerHour: kubectl get rbenv -A",
        after=_pause(seen.rollback, coming) if coming else min(LONGEST_POLL_SECONDS, left),
    )


def _patched_at(rollback: IncidentRollback) -> datetime:
    return rollback.status.patched_at or LONG_AGO


def _is_beside(other: IncidentRollback, place: Place) -> bool:
    """Say whether it is of the same environment; of a targetRef only the namespace tells that."""
    target = other.status.target
    if target is None:
        return False
    if target.environment and place.environment:
        return target.environment == place.environment
    return target.namespace == place.namespace


def _is_ahead(other: IncidentRollback, seen: Observation) -> bool:
    """Say whether another claim is under way or may be, or waits for the cap since earlier."""
    status = other.status
    if status.phase is not Phase.ROLLING_BACK:
        return False
    is_fresh = status.claimed_at is None or seen.now < status.claimed_at + FRESH
    if is_fresh or not _is_waiting(other):
        return True
    return reason_of(status.conditions) in IN_TURN and _is_earlier(other, seen.rollback)


def _is_waiting(rollback: IncidentRollback) -> bool:
    status = rollback.status
    return (
        status.phase is Phase.ROLLING_BACK
        and status.patched_at is None
        and reason_of(status.conditions) in WAITING
    )


def _is_earlier(other: IncidentRollback, mine: IncidentRollback) -> bool:
    """Say whether another claim was made before ours; who has claimed nothing comes last."""
    theirs, ours = other.status.claimed_at, mine.status.claimed_at
    if theirs is None or ours is None:
        return theirs is not None
    return (theirs, other.metadata.uid) < (ours, mine.metadata.uid)


def _pause(mine: IncidentRollback, ahead: Sequence[IncidentRollback]) -> float:
    """Look again soon where a later claim stands in the way: it is about to say that it waits."""
    is_moment = any(
        other.status.patched_at is None and not _is_earlier(other, mine) for other in ahead
    )
    return SOON_SECONDS if is_moment else POLL_SECONDS


def _named(place: Place) -> str:
    return place.environment or f"namespace {place.namespace}"


def _counted(rollbacks: Sequence[IncidentRollback]) -> str:
    """Say how many there are, and which, e.g. "4 rollbacks (a, b, c and 1 more)"."""
    count = len(rollbacks)
    names = ", ".join(sorted(r.metadata.name for r in rollbacks)[:SHOWN])
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    return f"{count} rollback{'s' if count > 1 else ''} ({quote(names)}{more})"
