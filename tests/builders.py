"""
What tests start from: one bad deploy of `checkout`, its request, and the eye that sees both.

Revision 2 is live and none of its 3 pods starts; 3 pods of revision 1 still serve, as they have
for days.  A test names only what differs.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from incident_rollback.crd.v1alpha1 import (
    Condition,
    IncidentRef,
    IncidentRollback,
    IncidentRollbackSpec,
    IncidentRollbackStatus,
    Metadata,
    Phase,
    Policy,
    RevisionStatus,
    RollbackEnvironment,
    RollbackEnvironmentSpec,
    ServiceRef,
    TargetStatus,
    Update,
)
from incident_rollback.domain.environment import Place
from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.domain.moves import (
    Claim,
    Fail,
    Hold,
    Move,
    Preview,
    Refuse,
    Restore,
    Succeed,
    Wait,
    Watch,
)
from incident_rollback.domain.names import intent_of
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.raw import Json
from incident_rollback.domain.workload import (
    Marker,
    Pod,
    Progress,
    Revision,
    Workload,
    WorkloadRef,
)

NOW = datetime(2026, 11, 23, 2, 14, tzinfo=UTC)
HOME = "incident-rollback"
REF = WorkloadRef("production", "checkout")
UID = "5d0c9a60-rollback"
WORKLOAD_UID = "77aa1f2e-workload"
WANTED = 3

Health = Literal["failing", "healthy", "starting"]


def ago(**span: float) -> datetime:
    """Return an instant before NOW, e.g. `ago(minutes=10)`."""
    return NOW - timedelta(**span)


def after(**span: float) -> datetime:
    """Return an instant after NOW."""
    return NOW + timedelta(**span)


def a_template(image: str, *, restarted: str = "", **container: Any) -> Json:
    annotations = {"kubectl.kubernetes.io/restartedAt": restarted} if restarted else {}
    return {
        "metadata": {"labels": {"app": "checkout"}, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": image, **container}]},
    }


def image_of(number: int) -> str:
    return f"checkout:1.{number}"


def hash_of(number: int) -> str:
    return f"hash-{number}"


def a_revision(number: int, *, like: int = 0, restarted: str = "", **changes: Any) -> Revision:
    """
    Return a revision; its template, hash and age follow from the number it was made with.

    One is made a day; the newest one, 2, ten minutes ago.  `like` gives it the image of another.
    """
    first = min((*changes.get("history", ()), number))
    made = Revision(
        number=number,
        replica_set=f"checkout-{hash_of(first)}",
        uid=f"uid-of-{hash_of(first)}",
        pod_template_hash=hash_of(first),
        template=a_template(image_of(like or first), restarted=restarted),
        created_at=ago(minutes=10) - timedelta(days=max(0, 2 - first)),
    )
    return replace(made, **changes)


def a_pod(of: int = 2, **changes: Any) -> Pod:
    """Return a ready pod of a revision, by the number that the revision was made with."""
    pod = Pod(
        name=f"checkout-{hash_of(of)}-x",
        pod_template_hash=hash_of(of),
        is_ready=True,
        created_at=ago(minutes=9),
        ready_since=ago(minutes=9),
        started_at=ago(minutes=9),
    )
    return replace(pod, **changes)


def a_broken_pod(of: int = 2, reason: str = "ImagePullBackOff", **changes: Any) -> Pod:
    return a_pod(of, is_ready=False, ready_since=None, reason=reason, **changes)


def a_workload(*revisions: Revision, health: Health = "failing", **changes: Any) -> Workload:
    """
    Return a workload on the first of the revisions; by default revision 2 over revision 1.

    `health` is that of the live revision.  Its counts and pods can be changed like all else.
    """
    wanted = changes.get("wanted", WANTED)
    given = revisions or (a_revision(2), a_revision(1, available=WANTED))
    is_well = health == "healthy"
    live = replace(given[0], desired=wanted, available=wanted if is_well else given[0].available)
    counts = wanted if is_well else 0
    made = Workload(
        ref=REF,
        uid=WORKLOAD_UID,
        generation=7,
        observed_generation=7,
        template=live.template,
        created_at=ago(days=100),
        number=live.number,
        wanted=wanted,
        replicas=wanted,
        updated=wanted,
        ready=counts,
        available=counts,
        template_written_at=live.created_at,
        template_writer="kubectl-set",
        revisions=(live, *given[1:]),
        pods=tuple(_pod(live, health) for _ in range(wanted)),
    )
    return replace(made, **changes)


def _pod(live: Revision, health: Health) -> Pod:
    pod = a_pod(pod_template_hash=live.pod_template_hash, created_at=live.created_at)
    if health == "healthy":
        return pod
    reason = "ImagePullBackOff" if health == "failing" else ""
    return replace(pod, is_ready=False, ready_since=None, reason=reason)


def undone(*, health: Health = "healthy", **changes: Any) -> Workload:
    """Return the workload after somebody, or we, went from revision 2 back to revision 1."""
    known = {"template_written_at": ago(minutes=2), "generation": 8, "observed_generation": 8}
    back = a_revision(3, history=(1,))
    return a_workload(back, a_revision(2), health=health, **{**known, **changes})


def timed_out(at: datetime) -> Progress:
    """Return Kubernetes' verdict that a rollout has failed."""
    return Progress("False", "ProgressDeadlineExceeded", "has timed out progressing", at)


def progressed(at: datetime) -> Progress:
    return Progress("True", "ReplicaSetUpdated", "is progressing", at)


def a_rollback(
    *,
    name: str = "checkout-3f9a1c27b0d4e6f8",
    namespace: str = HOME,
    uid: str = UID,
    version: int = 1,
    created: datetime | None = NOW,
    status: IncidentRollbackStatus | None = None,
    **spec: Any,
) -> IncidentRollback:
    """Return a request for `checkout` in `production`, not yet looked at."""
    asked: dict[str, Any] = {"incident": an_incident(), **spec}
    if "target_ref" not in asked:
        asked.setdefault("service", ServiceRef(name="checkout", environment="production"))
    return IncidentRollback(
        metadata=Metadata(
            name=name,
            namespace=namespace,
            uid=uid,
            resource_version=str(version),
            generation=1,
            creation_timestamp=created,
        ),
        spec=IncidentRollbackSpec.model_validate(asked),
        status=status or IncidentRollbackStatus(),
    )


def an_incident(**changes: Any) -> IncidentRef:
    """Return the incident; it began five minutes after the bad deploy."""
    return IncidentRef.model_validate(
        {"id": "incident-1", "severity": "SEV1", "started_at": ago(minutes=5), **changes}
    )


def frozen(number: int, *, made_as: int = 0, **changes: Any) -> RevisionStatus:
    """Return a revision as a claim freezes it."""
    made = RevisionStatus(
        revision=number,
        pod_template_hash=hash_of(made_as or number),
        images=(image_of(made_as or number),),
        evidence="3 of 3 pods in ImagePullBackOff" if number == 2 else "3 pods of it still serve",
        failing=number == 2,
    )
    return made.model_copy(update=changes)


def a_status(phase: Phase = Phase.ROLLING_BACK, **changes: Any) -> IncidentRollbackStatus:
    """Return the status after the claim: from revision 2 to revision 1."""
    target = TargetStatus(
        environment="production", namespace=REF.namespace, name=REF.name, uid=WORKLOAD_UID
    )
    made = IncidentRollbackStatus(
        observed_generation=1, phase=phase, target=target, to=frozen(1), claimed_at=NOW
    )
    return made.model_copy(update={"from_": frozen(2), **changes})


def claimed(phase: Phase = Phase.ROLLING_BACK, **changes: Any) -> IncidentRollback:
    """Return the request after its claim; the changes are of its status."""
    return a_rollback(status=a_status(phase, **changes), version=2)


def a_condition(kind: str, status: Literal["True", "False", "Unknown"], reason: str) -> Condition:
    return Condition(type=kind, status=status, reason=reason, last_transition_time=NOW)


def an_update(key: str = "start", kind: str = "Note", **changes: Any) -> Update:
    return Update.model_validate(
        {"key": key, "kind": kind, "text": f"the {key}", "decided_at": NOW, **changes}
    )


def a_marker(at: datetime = NOW, *, of: IncidentRollback | None = None, uid: str = "") -> Marker:
    """Return the trace of a patch: by another request, or by the one that is given."""
    if of is None:
        return Marker(uid or "another-rollback", "0" * 16, at)
    return Marker(uid or of.metadata.uid, intent_of(of), at)


def a_place(**changes: Any) -> Place:
    place = Place("production", "production", "checkout", is_exact=False, mapped_by="production")
    return replace(place, **changes)


def an_environment(name: str = "production", *, uid: str = "", **spec: Any) -> RollbackEnvironment:
    return RollbackEnvironment(
        metadata=Metadata(name=name, namespace=HOME, uid=uid or f"uid-of-{name}", generation=1),
        spec=RollbackEnvironmentSpec.model_validate({"environments": (name,), **spec}),
    )


def some_facts(severity: str = "SEV1", *, is_active: bool = True) -> IncidentFacts:
    return IncidentFacts(severity, is_active, NOW)


def an_observation(
    rollback: IncidentRollback | None = None,
    workload: Workload | None = None,
    *,
    policy: Policy | None = None,
    others: Sequence[IncidentRollback] = (),
    **changes: Any,
) -> Observation:
    """Return what a turn sees; a hindrance, when one is given, stands for the workload."""
    is_hidden = changes.get("hindrance") is not None
    seen = Observation(
        rollback=rollback or a_rollback(),
        now=NOW,
        place=a_place(policy=policy or Policy()),
        workload=workload or (None if is_hidden else a_workload()),
        others=others,
    )
    return replace(seen, **changes)


def outcome(move: Move) -> str:
    """
    Say a move in two words: "Wait Busy", "Claim 1" (the revision), "Watch", "Hold over".

    Fails where people would hear of it in words that nobody can use.
    """
    match move:
        case Wait() | Refuse() | Succeed() | Fail():
            assert are_usable(move.message, move.fix), move
            return f"{type(move).__name__} {move.reason}"
        case Claim() | Preview():
            return f"{type(move).__name__} {move.aim.to.revision}"
        case Restore():
            return f"Restore {move.revision.number}"
        case Watch():
            assert are_usable(move.message), move
            return "Watch"
        case Hold():
            assert move.news is None or are_usable(move.news.message), move
            news = f" {move.news.reason}" if move.news else ""
            return f"Hold{news}{' over' if move.is_over else ''}"


def are_usable(*texts: str) -> bool:
    """Say whether texts say something, nothing in them is None, and commands can be pasted."""
    return all(
        text
        and "None" not in re.findall(r"\w+", text)
        and not re.search("kubectl", re.sub(r"\bkubectl[ -][a-z]", "", text), re.IGNORECASE)
        for text in texts
    )
