"""What the demo says of what it reads: JSON and records in, a line or two of plain words out."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, cast

from tests.sandbox.api import Json
from tests.sandbox.audit import AuditRecord
from tests.sandbox.firehydrant import Entry
from tests.sandbox.workloads import images_of, is_pod_ready, revision_of, waiting_reasons

UNKNOWN: Final[Json] = {}


def describe_deployment(deployment: Json, pods: Iterable[Json]) -> str:
    """Say which image a Deployment asks for, and how the pods are that there are."""
    counts = Counter(f"{images_in(pod)} {state_of(pod)}" for pod in pods)
    seen = ", ".join(f"{count} of {what}" for what, count in sorted(counts.items())) or "none"
    name = f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"
    revision = revision_of(deployment)
    images = " + ".join(images_of(deployment))
    return f"Deployment {name} asks for {images} (revision {revision}); pods: {seen}"


def images_in(pod: Json) -> str:
    """Return the images of a pod."""
    return " + ".join(container["image"] for container in pod["spec"]["containers"])


def state_of(pod: Json) -> str:
    """Say in a word how a pod is."""
    if "deletionTimestamp" in pod["metadata"]:
        return "going"
    if is_pod_ready(pod):
        return "ready"
    return " ".join(sorted(set(waiting_reasons([pod])))) or "starting"


def describe_rollback(rollback: Json) -> str:
    """Say how an IncidentRollback stands."""
    status = rollback.get("status", {})
    ready = ready_of(rollback)
    # Before the first turn there is neither; while it rolls back both are the same word.
    phase = " ".join(dict.fromkeys((status.get("phase", "Pending"), ready.get("reason", ""))))
    phase = phase.rstrip()
    settled = ", settled" if status.get("settled") else ""
    words = f": {ready['message']}" if ready.get("message") else ""
    return f"IncidentRollback {rollback['metadata']['name']} is {phase}{settled}{words}"


def ready_of(found: Json) -> Json:
    """Return the condition Ready; empty before there is one."""
    conditions: list[Json] = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == "Ready"), UNKNOWN)


def describe_write(record: AuditRecord) -> str:
    """Say who wrote what, as the API server noted it."""
    body: object = record.request_object
    steps = cast("list[Json]", body) if isinstance(body, list) else []  # else not a JSON patch
    paths = "".join(f"\n{step['op']} {step['path']}" for step in steps)
    return (
        f"audit log: {record.user} {record.verb} {record.resource} "
        f"{record.namespace}/{record.name}, {record.code}{paths}"
    )


def describe_entry(entry: Entry) -> str:
    """Say what was written on the incident, and by whom."""
    kind = entry.kind.replace("_", " ")
    return f"incident, {kind} by {entry.author}:\n{entry.text}"
