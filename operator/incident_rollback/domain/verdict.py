"""After the patch: how the rollout goes, how it ended, and what came after the end."""

from datetime import datetime, timedelta
from typing import Final

from incident_rollback.crd.v1alpha1 import Phase, RevisionStatus
from incident_rollback.domain.conditions import reason_of
from incident_rollback.domain.diagnosis import availability, by, how, look_command
from incident_rollback.domain.moves import Fail, Move, News, Refuse, Succeed, Wait, Watch
from incident_rollback.domain.observation import Observation, is_another, is_same
from incident_rollback.domain.ownership import how_to_pause, what_brings_back
from incident_rollback.domain.revision import Choice, choose_revision
from incident_rollback.domain.rollout import (
    Rollout,
    assess_rollout,
    broken_calm,
    has_crashed,
    is_healthy,
    verify_by,
)
from incident_rollback.domain.words import clock_time, join, span
from incident_rollback.domain.workload import Workload

BLIND_SECONDS: Final = 900
"""How long after the patch we may be unable to look before we say so."""


def judge_rollout(seen: Observation, workload: Workload, at: datetime) -> Move:
    """Say how the rollout of the restored template goes."""
    healthy_since = seen.rollback.status.healthy_since
    if healthy_since is not None:
        broken = broken_calm(workload, healthy_since)
        if any(has_crashed(pod, healthy_since) for pod in broken):
            return Fail(
                "CrashedAfterReady",
                f"it was healthy, then: {how(workload, seen.around)}",
                _what_next(seen, workload),
            )
        healthy_since = None if broken else healthy_since
    match assess_rollout(workload, since=at):
        case Rollout.COMPLETE:
            return _judge_calm(seen, workload, at, healthy_since or seen.now)
        case Rollout.UNPROVEN:
            return Succeed(
                "Unproven",
                "the template is restored; 0 replicas are wanted, so no pod can show that it works",
                f"scale it up: kubectl scale deploy/{workload.ref.name} -n "
                f"{workload.ref.namespace} --replicas N",
            )
        case Rollout.STALLED:
            return Fail(
                "ProgressDeadlineExceeded",
                f"Kubernetes gave up on the rollout: {how(workload, seen.around)}",
                _what_next(seen, workload),
            )
        case Rollout.PROGRESSING if seen.now > verify_by(workload, since=at):
            paused = f"{workload.ref} is paused; " if workload.is_paused else ""
            return Fail(
                "VerifyDeadlineExceeded",
                f"{paused}no progress for too long: {how(workload, seen.around)}",
                _what_next(seen, workload),
            )
        case Rollout.PROGRESSING:
            return Watch(how(workload), at, healthy_since, _pace(seen.now - at))


def _what_next(seen: Observation, workload: Workload) -> str:
    """Name the next revision that can be trusted, and its command; nothing is tried by itself."""
    choice = next_best(seen, workload)
    if choice is None:
        return look_command(workload)
    ref, number = workload.ref, choice.revision.number
    return (
        f"{look_command(workload)}. The next that can be trusted is revision {number} "
        f"({choice.why}): kubectl irb rollback deploy/{ref.name} -n {ref.namespace} "
        f"--to-revision {number}"
    )


def next_best(seen: Observation, workload: Workload) -> Choice | None:
    """Return the next revision that there is evidence for; None: there is none."""
    bound = seen.policy.max_revisions_back
    choice = choose_revision(workload, None, seen.began_at, seen.around, bound)
    return choice if isinstance(choice, Choice) and choice.is_proven else None


def _judge_calm(
    seen: Observation, workload: Workload, at: datetime, healthy_since: datetime
) -> Move:
    left = healthy_since + timedelta(seconds=seen.policy.stable_seconds) - seen.now
    if left > timedelta(0):
        after = min(2.0, max(0.05, left.total_seconds()))
        return Watch(
            f"{availability(workload)}; watching that it stays so", at, healthy_since, after
        )
    origin = seen.rollback.status.from_
    return Succeed(
        "RolledBack",
        f"{availability(workload)} since {clock_time(healthy_since)}",
        "revert the deploy at its source, or the next one brings "
        f"revision {origin.revision if origin else '?'} back",
        healthy_since=healthy_since,
        is_proven=origin is not None and origin.failing,
        warning=what_brings_back(workload.managed_by[0]) if workload.managed_by else "",
    )


def overtaken(workload: Workload, origin: RevisionStatus | None) -> Fail:
    """The live template is not the one that was restored."""
    if is_same(workload, origin):
        number = origin.revision if origin else "?"
        return Fail(
            "Reverted",
            f"the bad revision {number} ({join(workload.images)}) was brought back"
            f"{by(workload)}; nothing more is done",
            stop_it(workload),
        )
    return Fail(
        "Superseded",
        f"{join(workload.images)} was deployed over it{by(workload)}; that stands: "
        f"{availability(workload)}",
        "ask whoever deployed it",
    )


def stop_it(workload: Workload) -> str:
    """Say how to keep the bad revision from coming back."""
    if not workload.managed_by:
        return "stop what brings it back, or revert the deploy at its source"
    return (
        f"revert the commit at its source, or: {how_to_pause(workload.managed_by[0], workload.ref)}"
    )


def blind(seen: Observation, hindrance: Wait | Refuse, at: datetime) -> Move:
    """We may not look: go on trying for a while, then say that nobody could tell."""
    if seen.now - at < timedelta(seconds=BLIND_SECONDS):
        return Watch(f"cannot look: {hindrance.message}", at, None, after=5.0)
    return Fail(
        "NotVerified",
        f"template restored; I could not see whether it is healthy: {hindrance.message}",
        hindrance.fix,
    )


def news_of(seen: Observation, workload: Workload) -> News | None:
    """Say what happened to the workload since the end; None: it is as it was."""
    status = seen.rollback.status
    if not is_another(seen.rollback, workload) and is_same(workload, status.to):
        return _news_of_health(seen, workload)
    if not is_same(workload, status.from_):
        message = f"{join(workload.images)} was deployed over it{by(workload)}"
        return News("Superseded", message, is_told=False)
    return News(
        "Reverted",
        f"the bad revision ({join(workload.images)}) was brought back{by(workload)}",
        stop_it(workload),
        is_told=reason_of(status.conditions) != "Reverted",
    )


def held(seen: Observation, workload: Workload | None) -> News:
    """Say how it stands at the end of the hold."""
    if workload is None:
        return News("NotVerified", "could not look at the end of the hold", is_told=False)
    if seen.rollback.status.phase is Phase.FAILED or not is_healthy(workload):
        return News("NotHealthy", how(workload), look_command(workload), is_told=False)
    length = span(timedelta(seconds=seen.policy.hold_seconds))
    message = f"it stayed for {length}: {availability(workload)}"
    return News("Held", message, stands=True, is_told=False)


def _news_of_health(seen: Observation, workload: Workload) -> News | None:
    status = seen.rollback.status
    if status.phase is Phase.FAILED:
        if assess_rollout(workload) is not Rollout.COMPLETE:
            return None
        message = f"healthy after all: {availability(workload)}"
        return News("HealthyAfterAll", message, "revert the deploy at its source", stands=True)
    since = status.healthy_since or status.finished_at
    broken = broken_calm(workload, since) if since else ()
    if since and not is_healthy(workload) and any(has_crashed(pod, since) for pod in broken):
        message = f"it was healthy, then: {how(workload, seen.around)}"
        return News("Crashed", message, look_command(workload))
    return None


def _pace(since_patch: timedelta) -> float:
    """Poll quickly at first: most rollouts take seconds."""
    seconds = since_patch.total_seconds()
    if seconds < 5:
        return 0.25
    return 1.0 if seconds < 30 else 2.0
