"""
What to do next.  A reader who knows this page and the phase table knows the operator.

The order of the rules is part of the safety rules; each list says why.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from incident_rollback.crd.v1alpha1 import FINAL_PHASES, Phase
from incident_rollback.domain import preflight
from incident_rollback.domain.aim import choose, restore
from incident_rollback.domain.caps import over_the_cap
from incident_rollback.domain.moves import (
    Claim,
    Fail,
    Hold,
    Move,
    Preview,
    Refuse,
    Restore,
    Wait,
    Watch,
)
from incident_rollback.domain.observation import (
    Observation,
    is_another,
    is_same,
    is_written,
    patched_at,
)
from incident_rollback.domain.preflight import Rule
from incident_rollback.domain.verdict import blind, held, judge_rollout, news_of, overtaken
from incident_rollback.domain.words import span
from incident_rollback.domain.workload import Workload

UNOBSERVED_SECONDS: Final = 30
"""How long after the patch an unobserved template is no news: its ReplicaSet may be made anew."""

NEW_RULES: Final[Sequence[Rule]] = (
    preflight.already_requested,  # before any other answer
    preflight.called_off,
    preflight.deleting,
    preflight.owned_by_controller,
    preflight.opted_out,
    preflight.being_rolled_back,
    preflight.paused,  # nothing below can be judged while it is paused or unobserved
    preflight.not_observed,
    preflight.explicit_is_live,
    preflight.rolled_back_and_healthy,  # before what is waited for: there is nothing to wait for
    preflight.reconciled_from_source,
    preflight.suspended,
    preflight.busy,
    preflight.cooling_down,
    preflight.rolled_back_and_not_healthy,
    preflight.incident_closed,
    preflight.repeated,
    preflight.changed_since,
    preflight.not_recently_changed,
)

CLAIMED_RULES: Final[Sequence[Rule]] = (
    preflight.already_requested,
    preflight.undone_by_hand,
    preflight.called_off,
    preflight.hindered,
    preflight.deleting,
    preflight.owned_by_controller,
    preflight.opted_out,
    preflight.reconciled_from_source,
    preflight.being_rolled_back,
    preflight.suspended,
    preflight.paused,
    preflight.not_observed,
    preflight.busy,
    preflight.incident_closed,
    preflight.drill,
    preflight.left_from,
)


def decide(seen: Observation) -> Move:
    """Return the next move of a rollback."""
    phase = seen.rollback.status.phase
    if phase in FINAL_PHASES:
        return decide_ended(seen)
    if phase is Phase.PENDING:
        return in_time(seen, decide_new(seen))
    if is_written(seen.rollback, seen.workload):
        return decide_patched(seen)
    return in_time(seen, decide_claimed(seen))


def decide_new(seen: Observation) -> Move:
    """
    Judge a request that nothing was done for yet.

    A restored or re-created resource is told apart before any other answer.  What is already
    there comes before what must be waited for, and before the rules on repeats.
    """
    if seen.workload is None:
        return seen.hindrance or preflight.not_found(seen)
    move = _first(seen, seen.workload, NEW_RULES) or choose(seen, seen.workload)
    return _in_turn(seen, move)


def decide_claimed(seen: Observation) -> Move:
    """
    Judge a claim whose patch is not in: the aim is frozen, the permission never is.

    Undone by hand meanwhile is a success of somebody else; any other change stands.
    """
    if seen.workload is None and seen.hindrance is not None:
        return _cannot_tell(seen, seen.hindrance)
    if seen.workload is None or is_another(seen.rollback, seen.workload):
        return preflight.gone_before(seen)
    move = _first(seen, seen.workload, CLAIMED_RULES) or restore(seen, seen.workload)
    return _in_turn(seen, move)


def decide_patched(seen: Observation) -> Move:
    """
    Judge a rollback whose patch is in: never patch again.

    A finished rollout wins over a passed deadline: a controller that was down for an hour
    must not fail a rollback that has long since worked.
    """
    workload, status = seen.workload, seen.rollback.status
    at = patched_at(seen.rollback, workload) or seen.now
    if workload is None and seen.hindrance is not None:
        return blind(seen, seen.hindrance, at)
    if workload is None or is_another(seen.rollback, workload):
        return Fail("WorkloadGone", "the workload was deleted", "deploy it from its source")
    if not is_same(workload, status.to):
        is_new = seen.now - at < timedelta(seconds=UNOBSERVED_SECONDS)
        if not workload.is_observed and is_new:
            return Watch("Kubernetes has not taken up the newest change yet", at)
        return overtaken(workload, status.from_)
    return judge_rollout(seen, workload, at)


def decide_ended(seen: Observation) -> Move:
    """Watch over a workload that was changed, until the hold is over; the phase stays."""
    status, workload = seen.rollback.status, seen.workload
    if status.patched_at is None or status.finished_at is None:
        return Hold(is_over=True)
    if any(c.type == "Held" for c in status.conditions):
        return Hold(is_over=True)
    until = status.finished_at + timedelta(seconds=seen.policy.hold_seconds)
    news = news_of(seen, workload) if workload is not None else None
    if news is not None:
        return Hold(news, is_over=True)
    if seen.now >= until:
        return Hold(held(seen, workload), is_over=True)
    return Hold(after=max(0.2, min(15.0, (until - seen.now).total_seconds())))


def _first(seen: Observation, workload: Workload, rules: Sequence[Rule]) -> Move | None:
    return next((move for rule in rules if (move := rule(seen, workload)) is not None), None)


def _in_turn(seen: Observation, move: Move) -> Move:
    """
    Keep to the caps of the environment, as the last thing before anything is changed.

    A refusal is told at once, however many are under way, and a preview changes nothing.
    """
    return (over_the_cap(seen) or move) if isinstance(move, (Claim, Restore)) else move


def in_time(seen: Observation, move: Move) -> Move:
    """Waiting ends, and acting is refused, when the request is older than maxAgeSeconds."""
    if seen.now < seen.acts_until:
        return _without_waiting(move) if seen.is_dry_run else move
    has_waited = seen.rollback.status.observed_generation >= 0
    if isinstance(move, Restore) and seen.denied is not None:
        move = seen.denied  # This is what it has waited for.
    if isinstance(move, Wait) and has_waited:
        return Refuse(move.reason, f"{move.message}; its time is over", move.fix)
    if isinstance(move, (Wait, Claim, Preview, Restore)):
        age = span(seen.now - seen.asked_at)
        limit = span(timedelta(seconds=seen.policy.max_age_seconds))
        return Refuse(
            "Expired",
            f"it was asked for {age} ago, and a request counts for {limit}",
            "run the step again, or make a new IncidentRollback",
            # What it has waited for may only show in a closer look, and is the better reason.
            move.aim if isinstance(move, Claim) and has_waited else None,
        )
    return move


def _cannot_tell(seen: Observation, hindrance: Wait | Refuse) -> Move:
    """After a claim, nobody may say that nothing was changed without having looked."""
    if seen.now < seen.acts_until:
        return (
            hindrance
            if isinstance(hindrance, Wait)
            else Wait(hindrance.reason, hindrance.message, hindrance.fix)
        )
    return Fail(
        "NotVerified",
        f"I could not see whether anything was changed: {hindrance.message}",
        hindrance.fix,
    )


def _without_waiting(move: Move) -> Move:
    """A preview answers now; only what is over in a moment is waited for."""
    if isinstance(move, Wait) and move.reason not in ("NotObserved", "ClusterUnreachable"):
        return Refuse(move.reason, f"a rollback would wait: {move.message}", move.fix)
    return move
