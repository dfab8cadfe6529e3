"""What a rollback would change and what not, and the digest that stands for all that decides."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from incident_rollback.crd.v1alpha1 import MAX_PLAN_LINES, MAX_TEXT, PlanStatus
from incident_rollback.domain.changes import changes_between
from incident_rollback.domain.history import History
from incident_rollback.domain.moves import Doubt
from incident_rollback.domain.raw import Json, as_list, as_map
from incident_rollback.domain.words import quote, span
from incident_rollback.domain.workload import Revision, Workload

NEVER: Final = ("replicas", "strategy", "HorizontalPodAutoscaler")
"""What is beside the pod template, and so stays as it is."""
_CONFIGURATION: Final = {
    "azureFile": "Secret",
    "configMap": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "configMapRef": "ConfigMap",
    "imagePullSecrets": "Secret",
    "nodePublishSecretRef": "Secret",
    "secret": "Secret",
    "secretKeyRef": "Secret",
    "secretRef": "Secret",
}
"""The fields of a pod's spec that name a ConfigMap or a Secret."""


def plan_of(workload: Workload, to: Revision, doubts: Sequence[Doubt] = ()) -> PlanStatus:
    """
    Return the plan: what changes, what stays, what runs now, and a digest over all that decides.

    An approval covers what speaks against it, by the codes of the doubts: one that has come or
    gone since is another plan.  Instants, ages and counts are not in the digest.
    """
    return PlanStatus(
        digest=_digest(workload, to, [doubt.code for doubt in doubts]),
        changes=_bounded(changes_between(workload.template, to.template)),
        warnings=tuple(doubt.text[:MAX_TEXT] for doubt in doubts),
        not_rolled_back=_bounded([*NEVER, *_configuration(to.template)]),
        deployed_at=History.of(workload).became_current_at(workload),
        written_by=quote(workload.template_writer)[:MAX_TEXT],
    )


def in_short(items: Sequence[str], separator: str, limit: int) -> str:
    """
    Join as many items as fit into `limit` characters, then say how many more there are.

    The first is always there, cut if it must be; "" of none.
    """
    kept = [item if len(item) <= limit else f"{item[: limit - 1]}…" for item in items[:1]]
    for item in items[1:]:
        if len(separator.join([*kept, item])) > limit:
            return separator.join([*kept, f"and {len(items) - len(kept)} more"])
        kept.append(item)
    return separator.join(kept)


def origin_words(plan: PlanStatus, asked_at: datetime | None) -> str:
    """
    Say how old the running revision is and who wrote it; "" when neither is known.

    E.g. "deployed 2026-11-23 02:04 UTC (10 min before this was asked for), last written by helm".
    """
    parts: list[str] = []
    if (at := plan.deployed_at) is not None:
        age = ""
        if asked_at is not None and asked_at > at:
            age = f" ({span(asked_at - at)} before this was asked for)"
        parts.append(f"deployed {at:%Y-%m-%d %H:%M} UTC{age}")
    if plan.written_by:
        parts.append(f"last written by {plan.written_by}")
    return ", ".join(parts)


def _digest(workload: Workload, to: Revision, warnings: Sequence[str]) -> str:
    """Return sha256 over the one spelling of its parts: every process writes the same."""
    decides = {
        "namespace": workload.ref.namespace,
        "name": workload.ref.name,
        "uid": workload.uid,
        "from": workload.key,
        "to": to.key,
        "warnings": sorted(set(warnings)),
    }
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _bounded(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) > MAX_PLAN_LINES:
        kept = MAX_PLAN_LINES - 1
        lines = [*lines[:kept], f"and {len(lines) - kept} more"]
    return tuple(line[:MAX_TEXT] for line in lines)


def _configuration(template: Json) -> list[str]:
    """Name the ConfigMaps and Secrets that a template uses: they stay as they are by now."""
    return sorted({f"{kind} {quote(name)}" for kind, name in _references(template.get("spec"))})


def _references(spec: object) -> Iterator[tuple[str, str]]:
    """
    Find them wherever they are named: in env, in volumes of every kind, for pulling images.

    Also those that a pod can start without: they are not rolled back either.
    """
    left: list[tuple[str, object]] = [("", spec)]
    while left:
        field, value = left.pop()
        left += ((field, item) for item in as_list(value))
        found = as_map(value)
        left += found.items()
        name = found.get("secretName") or found.get("name")
        if field in _CONFIGURATION and isinstance(name, str):
            yield _CONFIGURATION[field], name
