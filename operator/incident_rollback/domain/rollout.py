"""How far a rollout has come, judged from one snapshot against the time of our write."""

from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final

from incident_rollback.domain.workload import Pod, Revision, Workload

DEFAULT_DEADLINE_SECONDS: Final = 600
LONGEST_DEADLINE_SECONDS: Final = 3600
GRACE_SECONDS: Final = 30
REPLACED_IN: Final = timedelta(seconds=10)
"""How long it may take until a pod that has ended is replaced."""
LONG_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Rollout(Enum):
    """The verdict on a rollout."""

    PROGRESSING = auto()
    COMPLETE = auto()
    UNPROVEN = auto()
    """No pods are wanted, so none can show that the template works."""
    STALLED = auto()
    """Kubernetes' own verdict, after progressDeadlineSeconds."""


def assess_rollout(workload: Workload, *, since: datetime | None = None) -> Rollout:
    """
    Say how far a rollout has come, from one snapshot.

    Counts are pods.  A condition that is not newer than `since` speaks of another rollout: the
    verdict ProgressDeadlineExceeded outlives the template it was spoken about.  Completion is
    judged first, for a finished rollout wins over an old verdict.
    Source: kubectl rollout_status.go, and KK progress.go for the stale condition.
    """
    live = workload.live
    if live is None or not workload.is_observed or workload.is_paused:
        return Rollout.PROGRESSING
    if _has_all_pods(workload, live):
        return Rollout.COMPLETE if workload.wanted else Rollout.UNPROVEN
    progress = workload.progress
    if progress is not None and progress.reason == "ProgressDeadlineExceeded":
        is_fresh = since is None or progress.updated_at > since
        return Rollout.STALLED if is_fresh else Rollout.PROGRESSING
    return Rollout.PROGRESSING


def verify_by(workload: Workload, *, since: datetime) -> datetime:
    """
    Return when to give up on a rollout that began at `since`.

    progressDeadlineSeconds (else 600 s, one hour at most) and 30 s of grace, from the last
    progress.  Pods that crash make no progress by becoming ready in between: then it counts
    from the beginning.
    """
    given = workload.progress_deadline_seconds or DEFAULT_DEADLINE_SECONDS
    seconds = min(given, LONGEST_DEADLINE_SECONDS) + GRACE_SECONDS
    return _last_progress(workload, since) + timedelta(seconds=seconds)


def failing_pods(workload: Workload, revision: Revision) -> tuple[Pod, ...]:
    """
    Return the pods of a revision that are not ready and say why.

    A pod that ended as a whole, evicted for example, and was replaced counts until what came
    after it is well: such a pod may lie around for weeks.
    """
    pods = workload.pods_of(revision)
    failing = tuple(pod for pod in pods if not pod.is_ready and pod.reason)
    return failing + _ended_pods(workload, revision)


def _ended_pods(workload: Workload, revision: Revision) -> tuple[Pod, ...]:
    """Return those that what is not ready now has replaced; all of them when nothing has."""
    pods = workload.pods_of(revision)
    made = [pod.created_at for pod in pods if not pod.is_ready and pod.created_at is not None]
    if not revision.desired or (pods and not made):
        return ()
    since = min(made, default=LONG_BEFORE)
    ended = workload.ended_pods_of(revision)
    return tuple(pod for pod in ended if pod.finished_at and pod.finished_at >= since - REPLACED_IN)


def is_healthy(workload: Workload) -> bool:
    """All wanted pods of the live template are available; true of none wanted."""
    return assess_rollout(workload) in (Rollout.COMPLETE, Rollout.UNPROVEN)


def is_failing(workload: Workload) -> bool:
    """
    The live template fails by its own pods now, or Kubernetes gave up on it.

    Kubernetes' verdict on the template before outlives an undo: it does not count.
    """
    live = workload.live
    if live is None or is_healthy(workload):
        return False
    verdict = assess_rollout(workload, since=workload.template_written_at)
    return bool(failing_pods(workload, live)) or verdict is Rollout.STALLED


def broken_calm(workload: Workload, healthy_since: datetime) -> tuple[Pod, ...]:
    """
    Return the live pods that were there when it became healthy and are not well since.

    Pods that came later (scaling) do not disturb the calm.
    """
    live = workload.live
    if live is None:
        return ()
    ended = (pod for pod in workload.ended_pods_of(live) if _ended_after(pod, healthy_since))
    return tuple(
        pod
        for pod in (*workload.pods_of(live), *ended)
        if (pod.created_at is None or pod.created_at <= healthy_since)
        and (
            not pod.is_ready
            or _crashed_after(pod, healthy_since)
            # It went away, and came back between two looks.
            or (pod.ready_since is not None and pod.ready_since > healthy_since)
        )
    )


def has_crashed(pod: Pod, healthy_since: datetime) -> bool:
    """
    Say whether a pod that is not ready fails since it was healthy.

    A pod that crashed while it started, became ready, and is not ready for a moment has not.
    Ends have whole seconds: one in the second of `healthy_since` counts.
    """
    if pod.is_ready:
        return False
    if pod.crashed_at is None:
        return bool(pod.reason)
    return pod.crashed_at >= healthy_since.replace(microsecond=0)


def _has_all_pods(workload: Workload, live: Revision) -> bool:
    return (
        workload.updated >= workload.wanted
        and workload.replicas <= workload.updated
        and workload.available >= workload.updated
        and live.available >= workload.wanted
    )


def _last_progress(workload: Workload, since: datetime) -> datetime:
    live = workload.live
    pods = workload.pods_of(live) if live else ()
    if any(_crashed_after(pod, since) for pod in pods):
        return since
    known = [pod.ready_since for pod in pods]
    if workload.progress is not None and workload.progress.status == "True":
        known.append(workload.progress.updated_at)
    return max([since, *(at for at in known if at is not None)])


def _ended_after(pod: Pod, moment: datetime) -> bool:
    return pod.finished_at is not None and pod.finished_at > moment


def _crashed_after(pod: Pod, moment: datetime) -> bool:
    return pod.crashed_at is not None and pod.crashed_at > moment
