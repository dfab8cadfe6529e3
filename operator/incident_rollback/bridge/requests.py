"""A request becomes the rollbacks to create, their names, and the answer about them."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias

from incident_rollback.bridge.payload import Malformed, Request
from incident_rollback.crd.v1alpha1 import (
    API_VERSION,
    FINAL_PHASES,
    TRACE_ANNOTATION,
    Aim,
    IncidentRef,
    IncidentRollback,
    IncidentRollbackSpec,
    Phase,
    ServiceRef,
)
from incident_rollback.domain.conditions import reason_of
from incident_rollback.domain.incident import Incident, is_drill
from incident_rollback.domain.names import dns_label
from incident_rollback.domain.trace import Trace

MAX_PAIRS: Final = 10
MAX_ATTEMPTS: Final = 5
MAX_SERVICE_IN_NAME: Final = 30
QUIET_SECONDS: Final = 60
"""How long after a success the same request is a repeat, and not a new wish."""
REQUESTED_BY: Final = "FireHydrant runbook"


@dataclass(frozen=True, slots=True)
class Wish:
    """One rollback to ask for: what makes it this one and no other."""

    incident_id: str
    service: str
    """The name as sent; compared as a DNS label."""
    environment: str
    dry_run: bool = False
    to_revision: int | None = None
    plan_digest: str | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What two equal wishes share, however their names are written."""
        return (
            self.incident_id,
            dns_label(self.service),
            dns_label(self.environment),
            self.dry_run,
            self.to_revision,
            self.plan_digest,
        )


@dataclass(frozen=True, slots=True)
class Reuse:
    """Already asked for: answer with how this one stands."""

    rollback: IncidentRollback


@dataclass(frozen=True, slots=True)
class Make:
    """Create the attempt of this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Stop:
    """All attempts are used up; the last one shows how it went."""

    rollback: IncidentRollback


Step: TypeAlias = Reuse | Make | Stop


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one wish led to."""

    rollback: IncidentRollback
    is_new: bool = False
    is_used_up: bool = False


def wishes_for(request: Request) -> tuple[Wish, ...] | Malformed:
    """
    Return a wish for every pair of service and environment, as they were sent and in order.

    Names with the same DNS label are one.  A drill (severity GAMEDAY) is a dry run.
    """
    incident = request.incident
    services = _distinct(incident.services)
    environments = _distinct(incident.environments)
    if len(services) * len(environments) > MAX_PAIRS:
        return Malformed(
            422,
            f"{len(services)} services x {len(environments)} environments are more than "
            f"{MAX_PAIRS} pairs, nothing was done: leave those that are hurt in the incident",
        )
    return tuple(
        Wish(
            incident_id=incident.id,
            service=service,
            environment=environment,
            dry_run=request.dry_run or is_drill(incident.severity),
            to_revision=request.to_revision,
        )
        for service in services
        for environment in environments
    )


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(dns_label(name), name)
    return tuple(first.values()) or ("",)


def rollback_name(wish: Wish, attempt: int = 1) -> str:
    """
    Return the name of a wish's resource, a DNS label: the same wish, the same name.

    The preview of a rollback and its approval have names of their own, so that neither stands in
    the way of the other.
    """
    identity = json.dumps(wish.identity, separators=(",", ":"))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    service = dns_label(wish.service, MAX_SERVICE_IN_NAME)
    parts = [service, digest, str(attempt) if attempt > 1 else ""]
    return "-".join(part for part in parts if part)


def manifest_for(
    wish: Wish,
    incident: Incident,
    *,
    namespace: str,
    pairs: int,
    at: datetime,
    attempt: int = 1,
    trace: Trace | None = None,
) -> dict[str, Any]:
    """Return the IncidentRollback to create; `at` is when the request was received."""
    annotations = {"annotations": {TRACE_ANNOTATION: str(trace)}} if trace is not None else {}
    spec = IncidentRollbackSpec(
        service=ServiceRef(name=wish.service, environment=wish.environment),
        to=Aim(revision=wish.to_revision) if wish.to_revision is not None else None,
        dry_run=wish.dry_run,
        pairs=pairs,
        plan_digest=wish.plan_digest,
        requested_at=at.replace(microsecond=0),
        requested_by=REQUESTED_BY,
        incident=IncidentRef(
            id=wish.incident_id,
            number=incident.number,
            name=incident.name,
            url=incident.url,
            severity=incident.severity,
            started_at=incident.started_at,
        ),
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentRollback",
        "metadata": {"name": rollback_name(wish, attempt), "namespace": namespace, **annotations},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def is_for(wish: Wish, rollback: IncidentRollback) -> bool:
    """Say whether a resource asks for the same; when it was asked for and texts do not count."""
    spec = rollback.spec
    if spec.service is None or (spec.to is not None and spec.to.revision is None):
        return False
    asked = Wish(
        incident_id=spec.incident.id if spec.incident else "",
        service=spec.service.name,
        environment=spec.service.environment,
        dry_run=spec.dry_run,
        to_revision=spec.to.revision if spec.to else None,
        plan_digest=spec.plan_digest,
    )
    return asked.identity == wish.identity


def next_attempt(wish: Wish, attempts: Sequence[IncidentRollback], now: datetime) -> Step:
    """
    Say what a wish means beside the attempts that are there, first to last.

    A repeat while the latest is open, or within a minute of its success, means that one.  What
    only has the name of an attempt is somebody else's: its number is taken, and that is all.
    """
    ours = [attempt for attempt in attempts if is_for(wish, attempt)]
    if ours and (_is_open(ours[-1]) or _is_fresh_success(ours[-1], now)):
        return Reuse(ours[-1])
    if len(attempts) < MAX_ATTEMPTS:
        return Make(len(attempts) + 1)
    return Stop((ours or attempts)[-1])


def _is_open(rollback: IncidentRollback) -> bool:
    return rollback.status.phase not in FINAL_PHASES


def _is_fresh_success(rollback: IncidentRollback, now: datetime) -> bool:
    status = rollback.status
    if status.phase is not Phase.SUCCEEDED or status.finished_at is None:
        return False
    return (now - status.finished_at).total_seconds() < QUIET_SECONDS


def approved(wish: Wish, shown: Sequence[IncidentRollback | None]) -> Wish | None:
    """
    Return the wish for the plan that was shown last, or None when none was shown.

    `shown` are the latest request itself, the latest preview of it, and approvals of their plans.
    The one that ended last wins: an old plan must not hide the one that came because of it.
    """
    plans = [one.status for one in shown if one is not None and one.status.plan is not None]
    if not plans:
        return None
    last = max(
        plans, key=lambda status: status.finished_at.timestamp() if status.finished_at else 0
    )
    return replace(wish, plan_digest=last.plan.digest if last.plan else None)


def rows_for(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return the answer's `rollbacks`."""
    return [
        {
            "namespace": outcome.rollback.metadata.namespace,
            "name": outcome.rollback.metadata.name,
            "created": outcome.is_new,
            "phase": str(outcome.rollback.status.phase),
            "reason": reason_of(outcome.rollback.status.conditions),
        }
        for outcome in outcomes
    ]


def message_for(outcomes: Sequence[Outcome]) -> str:
    """Return the answer's `message`: what was done, how the rest stands, what to do next."""
    new = [one.rollback.metadata.name for one in outcomes if one.is_new]
    used_up = [one.rollback for one in outcomes if one.is_used_up]
    known = [one.rollback for one in outcomes if not one.is_new and not one.is_used_up]
    sentences: list[str] = []
    if new:
        sentences.append(f"asked for {', '.join(new)}")
    if used_up:
        names = ", ".join(one.metadata.name for one in used_up)
        sentences.append(f"{MAX_ATTEMPTS} attempts were made already, use kubectl now: {names}")
    if known:
        sentences.append(f"already asked for: {', '.join(map(_standing, known))}")
    return "; ".join(sentences)


def _standing(rollback: IncidentRollback) -> str:
    reason = reason_of(rollback.status.conditions)
    phase = rollback.status.phase
    return f"{rollback.metadata.name} is {phase}" + (f" ({reason})" if reason else "")
