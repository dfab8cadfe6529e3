"""
The rules before the patch: what must be waited for, what is refused, what is there already.

Each is one small function of the observation: a move, or None when it has nothing to say.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeAlias

from incident_rollback.crd.v1alpha1 import Phase
from incident_rollback.domain.diagnosis import availability, by, how, look_command
from incident_rollback.domain.history import History
from incident_rollback.domain.moves import Fail, Move, Refuse, Succeed, Wait
from incident_rollback.domain.names import intent_of
from incident_rollback.domain.observation import Observation, is_same, markers
from incident_rollback.domain.ownership import certain_to_revert, how_to_pause, what_brings_back
from incident_rollback.domain.revision import find_revision
from incident_rollback.domain.rollout import is_failing, is_healthy
from incident_rollback.domain.words import clock_time, join, quote
from incident_rollback.domain.workload import Workload

Rule: TypeAlias = Callable[[Observation, Workload], Move | None]
RECENT: Final = timedelta(hours=24)


def already_requested(seen: Observation, workload: Workload) -> Move | None:
    """A resource that was deleted and made again, or restored without its status."""
    intent, phase = intent_of(seen.rollback), seen.rollback.status.phase
    for marker in markers(workload):
        is_ours = marker.uid == seen.rollback.metadata.uid and phase is not Phase.PENDING
        if marker.intent == intent and not is_ours:
            return Refuse(
                "AlreadyRequested",
                f"the same request already changed {workload.ref} at {clock_time(marker.at)}",
                "to roll back again, make an IncidentRollback with another name",
            )
    return None


def called_off(seen: Observation, _: Workload) -> Move | None:
    """The resource itself is on its way out: somebody calls it off."""
    if seen.rollback.metadata.deletion_timestamp is None:
        return None
    return Refuse(
        "Deleting",
        "this IncidentRollback is being deleted",
        "make another one, if it is still needed",
    )


def hindered(seen: Observation, _: Workload) -> Move | None:
    """The mapping does not lead here any more."""
    return seen.hindrance


def deleting(_: Observation, workload: Workload) -> Move | None:
    """What is on its way out is left alone."""
    if not workload.is_deleting:
        return None
    return Refuse("Deleting", f"{workload.ref} is being deleted", "deploy it again from its source")


def owned_by_controller(_: Observation, workload: Workload) -> Move | None:
    """A parent object rewrites the template."""
    if not workload.owner:
        return None
    return Refuse(
        "OwnedByController",
        f"{workload.ref} belongs to {quote(workload.owner)}, which would write it back",
        f"roll back {quote(workload.owner)} instead",
    )


def opted_out(_: Observation, workload: Workload) -> Move | None:
    """Its owners said never."""
    if workload.opted_out is None:
        return None
    why = f": {quote(workload.opted_out)}" if workload.opted_out else ""
    return Refuse(
        "OptedOut",
        f"{workload.ref} says incidentrollback.dev/rollback: never{why}",
        "ask its owners, or take the annotation away",
    )


def being_rolled_back(_: Observation, workload: Workload) -> Move | None:
    """Kubernetes' own, old way to roll back is about to act."""
    if not workload.has_legacy_rollback:
        return None
    return Wait(
        "Busy",
        f"{workload.ref} has the annotation deprecated.deployment.rollback.to, on which "
        "Kubernetes itself is about to act",
        "wait, or take the annotation away",
    )


def suspended(seen: Observation, _: Workload) -> Move | None:
    """The red switch of the environment."""
    by_whom = seen.place.suspended_by if seen.place else ""
    if not by_whom:
        return None
    namespace, _slash, name = by_whom.rpartition("/")
    return Wait(
        "Suspended",
        f"RollbackEnvironment {name} is suspended",
        f"set its spec.suspend to false: kubectl edit rbenv {name} -n {namespace}",
    )


def paused(_: Observation, workload: Workload) -> Move | None:
    """A paused Deployment takes the template and moves no pods."""
    if not workload.is_paused:
        return None
    ref = workload.ref
    return Wait(
        "Paused",
        f"{ref} is paused",
        f"resume it: kubectl rollout resume deploy/{ref.name} -n {ref.namespace}",
    )


def not_observed(_: Observation, workload: Workload) -> Move | None:
    """Before the newest ReplicaSet is there, the highest revision is not the live one."""
    if workload.is_observed:
        return None
    return Wait(
        "NotObserved",
        f"Kubernetes has not taken up the newest change of {workload.ref} yet",
        "wait for it; with strategy Recreate, for the old pods to go",
        after=0.3,
    )


def busy(seen: Observation, workload: Workload) -> Move | None:
    """Another resource has claimed this workload; the earlier claim goes first."""
    mine = (seen.rollback.status.claimed_at or seen.now, seen.rollback.metadata.uid)
    for other in seen.others:
        target, claimed = other.status.target, other.status.claimed_at
        is_open = other.status.phase is Phase.ROLLING_BACK and claimed is not None
        if not is_open or target is None or target.uid != workload.uid:
            continue
        if (
            other.metadata.uid != seen.rollback.metadata.uid
            and claimed is not None
            and (seen.rollback.status.claimed_at is None or (claimed, other.metadata.uid) < mine)
        ):
            return Wait(
                "Busy",
                f"{other.metadata.name} is rolling {workload.ref} back",
                f"wait for it: kubectl get irb {other.metadata.name} -n {other.metadata.namespace}",
            )
    return None


def cooling_down(seen: Observation, workload: Workload) -> Move | None:
    """It was rolled back a moment ago: a loop must not tear at it."""
    if seen.is_explicit:
        return None
    length = timedelta(seconds=seen.policy.cooldown_seconds)
    last = max((m.at for m in markers(workload)), default=None)
    if last is None or seen.now >= last + length:
        return None
    return Wait(
        "CoolingDown",
        f"{workload.ref} was rolled back at {clock_time(last)}, and is left alone until "
        f"{clock_time(last + length)}",
        "wait, or name the revision yourself: "
        f"kubectl irb rollback deploy/{workload.ref.name} -n {workload.ref.namespace} "
        "--to-revision N",
        after=min(15.0, (last + length - seen.now).total_seconds()),
    )


def explicit_is_live(seen: Observation, workload: Workload) -> Move | None:
    """It runs what was asked for."""
    aim = seen.rollback.spec.to
    wanted = find_revision(workload, aim) if aim else None
    if wanted is None or wanted.key != workload.key:
        return None
    if is_healthy(workload):
        return _already_there(workload, "it runs what was asked for")
    return Refuse(
        "NothingToRollBackTo",
        f"{workload.ref} runs revision {wanted.number} already, and is not healthy",
        "name another revision: "
        f"kubectl rollout history deploy/{workload.ref.name} -n {workload.ref.namespace}",
    )


def rolled_back_and_healthy(seen: Observation, workload: Workload) -> Move | None:
    """Somebody was faster, and it helped."""
    if seen.is_explicit or not is_healthy(workload) or not _was_rolled_back(workload):
        return None
    return _already_there(workload, f"somebody rolled it back{by(workload)}")


def rolled_back_and_not_healthy(seen: Observation, workload: Workload) -> Move | None:
    """Somebody was faster, and it did not help: a further step is theirs."""
    if seen.is_explicit or not _was_rolled_back(workload):
        return None
    if not is_failing(workload):
        return Wait(
            "Busy",
            f"{workload.ref} was rolled back to {join(workload.images)}{by(workload)}, and that "
            f"rollout is not over: {availability(workload)}",
            "wait for it",
        )
    return Refuse(
        "AlreadyRolledBack",
        f"{workload.ref} was rolled back to {join(workload.images)}{by(workload)}, and is not "
        f"healthy: {how(workload, seen.around)} ({look_command(workload)})",
        "a further step back is yours to choose: "
        f"kubectl irb rollback deploy/{workload.ref.name} -n {workload.ref.namespace} "
        "--to-revision N",
    )


def _already_there(workload: Workload, why: str) -> Succeed:
    live = workload.live
    number = live.number if live else workload.number
    unproven = "" if workload.wanted else "; 0 replicas are wanted, so it is unproven"
    return Succeed(
        "AlreadyThere",
        f"{workload.ref} is on {join(workload.images)} (revision {number}) already: {why}; "
        f"{availability(workload)}{unproven}. Nothing was changed",
        "look elsewhere for the cause, or revert the deploy at its source",
    )


def incident_closed(seen: Observation, _: Workload) -> Move | None:
    """Nobody is hurt any more."""
    if seen.facts is None or seen.facts.is_active:
        return None
    return Refuse(
        "IncidentClosed",
        "FireHydrant says that the incident is not active any more",
        "if it is still needed: kubectl irb rollback …",
    )


def drill(seen: Observation, _: Workload) -> Move | None:
    """A claim was made before FireHydrant said that the incident is a drill."""
    if not seen.is_dry_run:
        return None
    return Refuse(
        "NotAllowed",
        "FireHydrant says that the incident is a drill (GAMEDAY), and nothing real may be touched",
        "for a rollback without an incident: kubectl irb rollback …",
    )


def repeated(seen: Observation, workload: Workload) -> Move | None:
    """An attempt after the first must not undo a fix that came since."""
    incident = seen.rollback.spec.incident
    if seen.is_explicit or incident is None:
        return None
    earlier = [
        other.status
        for other in seen.others
        if other.spec.incident is not None
        and other.spec.incident.id == incident.id
        and other.metadata.uid != seen.rollback.metadata.uid
        and other.status.target is not None
        and other.status.target.uid == workload.uid
        and other.status.patched_at is not None
    ]
    if not earlier or any(is_same(workload, status.from_) for status in earlier):
        return None
    return None if is_failing(workload) else _changed(workload, "this incident's last rollback")


def changed_since(seen: Observation, workload: Workload) -> Move | None:
    """Somebody is already at work; unknown times and ties are not "after"."""
    if seen.is_explicit:
        return None
    current_at = History.of(workload).became_current_at(workload)
    created = seen.rollback.metadata.creation_timestamp
    if current_at is None:
        return None
    if created is not None and current_at > created:
        return _changed(workload, "it was asked for")
    if current_at > seen.began_at and not is_failing(workload):
        return _changed(workload, "the incident began")
    return None


def reconciled_from_source(seen: Observation, workload: Workload) -> Move | None:
    """An owner would bring the bad revision back within the time that it is watched."""
    owner = certain_to_revert(workload.managed_by)
    if owner is None or seen.policy.git_ops == "Proceed":
        return None
    return Refuse(
        "ReconciledFromSource",
        f"{workload.ref} is kept by its source: {what_brings_back(owner)}",
        f"revert the commit; or pause it and ask again: {how_to_pause(owner, workload.ref)}",
    )


def not_recently_changed(seen: Observation, workload: Workload) -> Move | None:
    """Many pairs: whoever was not deployed lately is hurt, not the cause."""
    if seen.rollback.spec.pairs <= 1 or seen.is_explicit:
        return None
    current_at = History.of(workload).became_current_at(workload)
    if current_at is not None and current_at >= seen.began_at - RECENT:
        return None
    age = (
        f"has run what it runs since {current_at:%Y-%m-%d %H:%M} UTC"
        if current_at
        else "is not known to have changed lately"
    )
    return Refuse(
        "NotRecentlyChanged",
        f"the incident names {seen.rollback.spec.pairs} pairs of service and environment, and "
        f"{workload.ref} {age}: it is left alone",
        f"if it is: kubectl irb rollback deploy/{workload.ref.name} -n {workload.ref.namespace}",
    )


def _changed(workload: Workload, since: str) -> Refuse:
    live = workload.live
    ref = workload.ref
    return Refuse(
        "ChangedSinceRequest",
        f"{join(workload.images)} came to {ref} after {since}{by(workload)}, so somebody is at "
        f"work on it (revision {live.number if live else workload.number}; "
        f"{availability(workload)})",
        "to roll back all the same: "
        f"kubectl irb rollback deploy/{ref.name} -n {ref.namespace} --to-revision N",
    )


def undone_by_hand(seen: Observation, workload: Workload) -> Move | None:
    """Between claim and patch somebody restored the very revision."""
    if not workload.is_observed or not is_same(workload, seen.rollback.status.to):
        return None
    if is_healthy(workload):
        return _already_there(workload, f"somebody was faster{by(workload)}")
    return rolled_back_and_not_healthy(seen, workload) or Wait(
        "Busy", f"{workload.ref} is on its way there{by(workload)}", "wait for it"
    )


def left_from(seen: Observation, workload: Workload) -> Move | None:
    """Between claim and patch something else was deployed: it stands."""
    if is_same(workload, seen.rollback.status.from_):
        return None
    return _changed(workload, "the rollback was decided")


def not_found(seen: Observation) -> Wait:
    """Say where a workload was looked for."""
    place = seen.place
    name = quote(place.name) if place else "?"
    where = f"{place.namespace}/{name}" if place else name
    return Wait(
        "WorkloadNotFound",
        f"there is no Deployment {where}, and none of its namespace is labelled "
        f"incidentrollback.dev/service: {name}",
        "deploy it, label it, or add the service to a RollbackEnvironment",
    )


def gone_before(seen: Observation) -> Fail:
    """The claimed workload is gone; whether the patch had gone in cannot be told any more."""
    target = seen.rollback.status.target
    name = f"{target.namespace}/{target.name}" if target else "the workload"
    return Fail(
        "WorkloadGone",
        f"{name} was deleted, or deleted and made again, while it was being rolled back",
        "deploy it from its source",
    )


def _was_rolled_back(workload: Workload) -> bool:
    return History.of(workload).was_rolled_back_to(workload.key)
