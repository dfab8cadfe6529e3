"""
The API server's objects become a Workload, and a wanted template becomes a JSON patch.

Pure, and over raw JSON: what is not understood is left alone, never dropped.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from incident_rollback.crd.v1alpha1 import (
    FIELD_MANAGER,
    MARKER_ANNOTATION,
    OPT_OUT_ANNOTATION,
    OPT_OUT_REASON_ANNOTATION,
)
from incident_rollback.domain.messages import are_kubernetes, own_words, safe
from incident_rollback.domain.ownership import find_owners
from incident_rollback.domain.raw import Json, child, children, number, text
from incident_rollback.domain.surroundings import WarningEvent
from incident_rollback.domain.template import HASH_LABEL, without_hash_label
from incident_rollback.domain.workload import (
    Logs,
    Marker,
    Pod,
    Progress,
    Revision,
    Workload,
    WorkloadRef,
)
from incident_rollback.ports import TemplatePatch

REVISION_ANNOTATION: Final = "deployment.kubernetes.io/revision"
HISTORY_ANNOTATION: Final = "deployment.kubernetes.io/revision-history"
LEGACY_ROLLBACK_ANNOTATION: Final = "deprecated.deployment.rollback.to"
NO_DEADLINE: Final = 2**31 - 1
"""progressDeadlineSeconds that Kubernetes takes for "none"."""
MAX_REASON: Final = 128
"""Of an Event; the API server takes no more."""
MAX_HISTORY: Final = 2000
"""Kubernetes keeps no more of revision-history, in characters; the newest numbers are last."""
MAX_DIGITS: Final = 15
"""Of a revision number: more do not fit into the status."""
YEARS: Final = range(2000, 2200)
"""An instant outside is nobody's, and would break reckoning with it."""

STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons of a container that nothing is known to be wrong with."""
UNTOLD_ENDS: Final = frozenset({"", "Error", "Completed"})
"""Reasons of an end that say less than CrashLoopBackOff."""
FINAL_PHASES: Final = frozenset({"Failed", "Succeeded"})
"""Of pods: a ReplicaSet counts such a pod no more, and makes another one."""
ECHOES: Final = frozenset({"Error: ErrImagePull", "Error: ImagePullBackOff"})
"""Messages of Events that only repeat what the pod says already."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_workload(
    deployment: Mapping[str, Any],
    replica_sets: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
) -> Workload:
    """
    Return the snapshot of a Deployment, of the ReplicaSets it owns, and of their pods.

    What matches the selector but has another controller is not its own.
    """
    metadata, spec = child(deployment, "metadata"), child(deployment, "spec")
    status, annotations = child(deployment, "status"), child(metadata, "annotations")
    owned = [rs for rs in replica_sets if _controller(rs).get("uid") == metadata.get("uid")]
    uids = {text(child(rs, "metadata"), "uid") for rs in owned}
    owner = _controller(deployment)
    written_at, writer = _template_writer(metadata)
    deadline = number(spec, "progressDeadlineSeconds")
    return Workload(
        ref=WorkloadRef(text(metadata, "namespace"), text(metadata, "name")),
        uid=text(metadata, "uid"),
        generation=number(metadata, "generation"),
        observed_generation=number(status, "observedGeneration"),
        template=child(spec, "template"),
        created_at=_instant(metadata, "creationTimestamp") or _EPOCH,
        number=revision_number(annotations),
        wanted=1 if spec.get("replicas") is None else number(spec, "replicas"),
        replicas=number(status, "replicas"),
        updated=number(status, "updatedReplicas"),
        ready=number(status, "readyReplicas"),
        available=number(status, "availableReplicas"),
        is_paused=bool(spec.get("paused")),
        is_deleting=bool(metadata.get("deletionTimestamp")),
        owner=f"{text(owner, 'kind')}/{text(owner, 'name')}" if owner else "",
        managed_by=find_owners(dict(deployment)),
        opted_out=_opted_out(annotations),
        has_legacy_rollback=LEGACY_ROLLBACK_ANNOTATION in annotations,
        marker=read_marker(text(annotations, MARKER_ANNOTATION)),
        template_written_at=written_at,
        template_writer=writer,
        our_write_at=our_write_at(deployment),
        progress=_progress(status),
        progress_deadline_seconds=None if deadline in {0, NO_DEADLINE} else deadline,
        failure=_failure(status),
        strategy=text(child(spec, "strategy"), "type") or "RollingUpdate",
        revisions=_sorted_revisions(map(_to_revision, owned)),
        pods=tuple(_to_pod(pod) for pod in pods if _controller(pod).get("uid") in uids),
    )


def selector_of(deployment: Mapping[str, Any]) -> str:
    """Return spec.selector, labels and expressions, as the text of a label selector."""
    selector = child(deployment, "spec", "selector")
    labels = [f"{key}={value}" for key, value in child(selector, "matchLabels").items()]
    return ",".join(
        labels + [_requirement(rule) for rule in children(selector, "matchExpressions")]
    )


def revision_number(annotations: Mapping[str, Any]) -> int:
    """Return the number in an object's annotations; 0 when it is missing or garbage."""
    return _natural(text(annotations, REVISION_ANNOTATION))


def marker_text(uid: str, intent: str, at: datetime) -> str:
    """Return the value of our annotation: who patched, what for, and when."""
    return f"{uid} {intent} {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def read_marker(value: str) -> Marker | None:
    """Return the marker that an annotation holds; None when it is none of ours."""
    match value.split():
        case [uid, intent, time]:
            at = _parse_instant(time)
            return Marker(uid, intent, at) if at is not None else None
        case _:
            return None


def our_write_at(deployment: Mapping[str, Any]) -> datetime | None:
    """Return the server's time of our latest patch; None when we are not in managedFields."""
    times = (
        _instant(entry, "time")
        for entry in _entries(child(deployment, "metadata"))
        if _is_ours(entry)
    )
    return max(filter(None, times), default=None)


def changed_at(metadata: Mapping[str, Any]) -> datetime | None:
    """
    Return when what an object holds was last written, as far as its metadata tell; None: unknown.

    The newest managedFields time, else its creation.  Writes of the status do not count, nor
    do those of a manager that owns nothing but metadata; one that owns more and writes an
    annotation counts.  What was only taken away leaves no trace.
    """
    times = (
        _instant(entry, "time")
        for entry in _entries(dict(metadata))
        if child(entry, "fieldsV1").keys() != {"f:metadata"}
    )
    return max(filter(None, times), default=None) or _instant(metadata, "creationTimestamp")


def template_patch(patch: TemplatePatch) -> list[Json]:
    """
    Return the JSON patch of a guarded restore: the template and our marker, nothing else.

    Only plain ASCII is tested, for the server compares raw bytes of JSON.  That the revision
    annotation is tested first also guarantees the map that our own is added to.
    """
    metadata = "/metadata/annotations/"
    return [
        {"op": "test", "path": "/metadata/uid", "value": patch.uid},
        {"op": "test", "path": "/metadata/generation", "value": patch.generation},
        {
            "op": "test",
            "path": metadata + _pointer(REVISION_ANNOTATION),
            "value": str(patch.revision),
        },
        {"op": "replace", "path": "/spec/template", "value": without_hash_label(patch.template)},
        {"op": "add", "path": metadata + _pointer(MARKER_ANNOTATION), "value": patch.marker},
    ]


def _to_revision(replica_set: Mapping[str, Any]) -> Revision:
    metadata, spec = child(replica_set, "metadata"), child(replica_set, "spec")
    status, annotations = child(replica_set, "status"), child(metadata, "annotations")
    history = map(_natural, text(annotations, HISTORY_ANNOTATION)[-MAX_HISTORY:].split(","))
    return Revision(
        number=revision_number(annotations),
        replica_set=text(metadata, "name"),
        uid=text(metadata, "uid"),
        pod_template_hash=text(child(metadata, "labels"), HASH_LABEL),
        template=without_hash_label(child(spec, "template")),
        created_at=_instant(metadata, "creationTimestamp") or _EPOCH,
        history=tuple(sorted(filter(None, history))),
        desired=number(spec, "replicas"),
        replicas=number(status, "replicas"),
        available=number(status, "availableReplicas"),
        marker=read_marker(text(annotations, MARKER_ANNOTATION)),
        failure=_failure(status),
    )


def _sorted_revisions(revisions: Iterable[Revision]) -> tuple[Revision, ...]:
    """
    Sort by number, newest first; of equal numbers the oldest ReplicaSet first, then by name.

    The oldest of equal ReplicaSets is the one that the Deployment controller uses.
    """
    return tuple(sorted(revisions, key=lambda r: (-r.number, r.created_at, r.replica_set)))


def latest_warning(events: Iterable[Mapping[str, Any]]) -> WarningEvent | None:
    """
    Return the newest of the Warning Events about one object; None: there is none.

    One that only repeats that an image was not pulled gives way to one that says why, and
    one that is not Kubernetes' own to any that is: nothing but its reason is told.
    Source for the instants: each writer of Events fills in others of them.
    """
    warnings = [event for event in events if text(event, "type") == "Warning"]
    if not warnings:
        return None
    newest = max(
        warnings,
        key=lambda e: (
            are_kubernetes(_authors(e)),
            text(e, "message") not in ECHOES,
            _happened_at(e) or _EPOCH,
        ),
    )
    reason, is_ours = text(newest, "reason")[:MAX_REASON], are_kubernetes(_authors(newest))
    message = own_words(reason, text(newest, "message")) if is_ours else ""
    return WarningEvent(reason, message, _happened_at(newest), is_of_kubernetes=is_ours)


def _authors(event: Mapping[str, Any]) -> frozenset[str]:
    """Return who an Event says that wrote it; each writer fills in others of these."""
    names = (
        text(child(event, "source"), "component"),
        text(event, "reportingComponent"),
        text(event, "reportingController"),
    )
    return frozenset(filter(None, names))


def is_node_ready(node: Mapping[str, Any]) -> bool | None:
    """Say whether a node is ready; None: nobody knows yet.  Unknown is a kubelet that is silent."""
    ready = _condition(child(node, "status"), "Ready")
    return ready.get("status") == "True" if ready else None


def _happened_at(event: Mapping[str, Any]) -> datetime | None:
    times = (
        _instant(child(event, "series"), "lastObservedTime"),
        _instant(event, "lastTimestamp"),
        _instant(event, "eventTime"),
        _instant(child(event, "metadata"), "creationTimestamp"),
    )
    return next(filter(None, times), None)


def _to_pod(pod: Mapping[str, Any]) -> Pod:
    metadata, spec, status = child(pod, "metadata"), child(pod, "spec"), child(pod, "status")
    ready = _condition(status, "Ready")
    is_ready = ready.get("status") == "True"
    init, main = children(status, "initContainerStatuses"), children(status, "containerStatuses")
    starts = (_instant(child(c, "state", "running"), "startedAt") for c in main)
    is_finished = text(status, "phase") in FINAL_PHASES
    return Pod(
        name=text(metadata, "name"),
        pod_template_hash=text(child(metadata, "labels"), HASH_LABEL),
        is_ready=is_ready,
        is_deleting=bool(metadata.get("deletionTimestamp")),
        uid=text(metadata, "uid"),
        node=text(spec, "nodeName"),
        created_at=_instant(metadata, "creationTimestamp"),
        ready_since=_instant(ready, "lastTransitionTime") if is_ready else None,
        started_at=max(filter(None, starts), default=None),
        restarts=sum(number(container, "restartCount") for container in init + main),
        not_ready="" if is_ready else text(ready, "reason")[:MAX_REASON],
        crashed_at=max(filter(None, map(_crashed_at, init + main)), default=None),
        finished_at=_finished_at(metadata, status, init + main) if is_finished else None,
        **_trouble(spec, status, init, main),
    )


def _trouble(spec: Json, status: Json, init: Sequence[Json], main: Sequence[Json]) -> Json:
    """
    Return what is wrong with a pod: the pod itself, its place, then its worst container.

    A container that waits is worse than one that has ended, and that worse than one that runs
    again after a failed end; of equals the first counts, init containers before the others.
    """
    scheduled = _condition(status, "PodScheduled")
    if text(status, "reason"):
        return _told(text(status, "reason"), message=text(status, "message"))
    disrupted = _condition(status, "DisruptionTarget")
    if disrupted.get("status") == "True":
        return _told(text(disrupted, "reason"), message=text(disrupted, "message"))
    if scheduled.get("status") == "False" and scheduled.get("reason") != "SchedulingGated":
        return _told(text(scheduled, "reason"), message=text(scheduled, "message"))
    running_on = _running_on(spec)
    for look in (_waiting, _ended, _restarted):
        for container in [*init, *main]:
            ends_well = container in init and text(container, "name") not in running_on
            if trouble := look(container, ends_well=ends_well):
                return {**trouble, **_named(container)}
    return _named(next(filter(_is_unready, [*init, *main]), Json()))


def _running_on(spec: Json) -> frozenset[str]:
    """Return the init containers that are to run as long as the pod does: sidecars."""
    return frozenset(
        text(container, "name")
        for container in children(spec, "initContainers")
        if container.get("restartPolicy") == "Always"
    )


def _named(container: Json) -> Json:
    return {"container": text(container, "name"), "logs": _logs(container)}


def _logs(container: Json) -> Logs:
    """Whoever waits or runs again has left the logs that say why; whoever never ran has none."""
    if child(container, "state", "terminated"):
        return "Current"
    if child(container, "lastState", "terminated"):
        return "Previous"
    return "Current" if child(container, "state", "running") else "None"


def _is_unready(container: Json) -> bool:
    return not container.get("ready") and bool(child(container, "state", "running"))


def _waiting(container: Json, *, ends_well: bool) -> Json:
    del ends_well
    waiting = child(container, "state", "waiting")
    reason = text(waiting, "reason")
    if not reason or reason in STARTING:
        return {}
    last = child(container, "lastState", "terminated")
    told = _told(reason, message=text(waiting, "message"), exit_code=last.get("exitCode"))
    if reason == "CrashLoopBackOff" and text(last, "reason") not in UNTOLD_ENDS:
        # OOMKilled says why; that it loops, the message says.
        return {**told, "reason": text(last, "reason")}
    return told


def _ended(container: Json, *, ends_well: bool) -> Json:
    end = child(container, "state", "terminated")
    if not end or (ends_well and number(end, "exitCode") == 0):
        return {}
    return _end(end)


def _restarted(container: Json, *, ends_well: bool) -> Json:
    del ends_well
    end = child(container, "lastState", "terminated")
    if container.get("ready") or number(end, "exitCode") == 0:
        return {}
    return _end(end)


def _end(end: Json) -> Json:
    return _told(
        text(end, "reason") or "Error", message=text(end, "message"), exit_code=end.get("exitCode")
    )


def _told(reason: str, *, message: str, exit_code: int | None = None) -> Json:
    return {"reason": reason, "message": own_words(reason, message), "exit_code": exit_code}


def _finished_at(metadata: Json, status: Json, containers: Sequence[Json]) -> datetime:
    """Say when a pod ended as a whole; one that was never started, when it was made."""
    ends = [
        _instant(child(container, "state", "terminated"), "finishedAt") for container in containers
    ]
    known = [*ends, _instant(_condition(status, "Ready"), "lastTransitionTime")]
    known.append(_instant(metadata, "creationTimestamp"))
    return max(filter(None, known), default=_EPOCH)


def _crashed_at(container: Json) -> datetime | None:
    ends = (child(container, state, "terminated") for state in ("state", "lastState"))
    times = (_instant(end, "finishedAt") for end in ends if number(end, "exitCode") != 0)
    return max(filter(None, times), default=None)


def _entries(metadata: Json) -> list[Json]:
    """Return the entries of managedFields that are no status writes."""
    return [e for e in children(metadata, "managedFields") if not e.get("subresource")]


def _is_ours(entry: Json) -> bool:
    return entry.get("manager") == FIELD_MANAGER


def _template_writer(metadata: Json) -> tuple[datetime | None, str]:
    """
    Return when the template was last written and by whom, as far as managedFields tell.

    Our own entry counts even when it owns nothing of the template: a restore that only takes
    fields away adds none.  Within one second the other writer is named, not we; of several
    others nobody can say who was last, so all of them are.
    """
    writes = [
        ((at, not _is_ours(entry)), text(entry, "manager"))
        for entry in _entries(metadata)
        if _is_ours(entry) or "f:template" in child(entry, "fieldsV1", "f:spec")
        if (at := _instant(entry, "time")) is not None
    ]
    if not writes:
        return None, ""
    last = max(when for when, _ in writes)
    return last[0], " or ".join(sorted({manager for when, manager in writes if when == last}))


def _progress(status: Json) -> Progress | None:
    found = _condition(status, "Progressing")
    updated_at = _instant(found, "lastUpdateTime")
    if updated_at is None:
        return None
    return Progress(
        status=text(found, "status"),
        reason=text(found, "reason"),
        message=text(found, "message"),
        updated_at=updated_at,
    )


def _failure(status: Json) -> str:
    """Return why pods cannot be made; that some cannot be deleted is another thing."""
    found = _condition(status, "ReplicaFailure")
    is_it = found.get("status") == "True" and found.get("reason") != "FailedDelete"
    return safe(text(found, "message")) if is_it else ""


def _opted_out(annotations: Json) -> str | None:
    if text(annotations, OPT_OUT_ANNOTATION).strip().lower() != "never":
        return None
    return text(annotations, OPT_OUT_REASON_ANNOTATION)


def _controller(of: Mapping[str, Any]) -> Json:
    owners = children(child(of, "metadata"), "ownerReferences")
    return next((owner for owner in owners if owner.get("controller")), Json())


def _condition(status: Json, kind: str) -> Json:
    return next((c for c in children(status, "conditions") if c.get("type") == kind), Json())


def _requirement(rule: Json) -> str:
    key, values = text(rule, "key"), ",".join(rule.get("values") or ())
    match rule.get("operator"):
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "DoesNotExist":
            return f"!{key}"
        case _:
            return key


def _natural(digits: str) -> int:
    digits = digits.strip()
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS
    return int(digits) if is_number else 0


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _instant(of: Mapping[str, Any], key: str) -> datetime | None:
    return _parse_instant(text(of, key))


def _parse_instant(value: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo and at.year in YEARS else None
