"""One line and a few numbers for each turn, and numbers of the controller as it stands."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from incident_rollback.controller.controller import Controller
from incident_rollback.controller.reconcile import Turn
from incident_rollback.crd.v1alpha1 import (
    FINAL_PHASES,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
    Update,
)
from incident_rollback.domain.conditions import get, reason_of
from incident_rollback.domain.lease import Standing
from incident_rollback.ports import Clock
from incident_rollback.telemetry.metrics import OTHER, ControllerMetrics

REVERTERS: Final = (
    ("argocd", re.compile(r"argocd-")),
    ("flux", re.compile(r"kustomize-controller|helm-controller|flux-")),
    ("helm", re.compile(r"[Hh]elm")),
    ("kubectl", re.compile(r"kubectl")),
)
"""How the field managers begin that may bring a revision back; the first one counts."""

_log = logging.getLogger("incident_rollback.turn")


@dataclass
class TurnReport:
    """Logs and counts turns.  A turn that changed nothing is logged at debug."""

    metrics: ControllerMetrics
    clock: Clock

    def __call__(self, before: IncidentRollback, turn: Turn, seconds: float) -> None:
        """Take note of one turn."""
        after = turn.rollback or before
        self.metrics.turns.labels(after.status.phase).inc()
        self.metrics.turn_seconds.observe(seconds)
        if after.status.phase in FINAL_PHASES and before.status.phase not in FINAL_PHASES:
            self._count_end(after)
        if is_reverted(after.status) and not is_reverted(before.status):
            self.metrics.reverted.labels(reverter_of(turn.writer)).inc()
        is_news = after.status.phase is not before.status.phase or reason_of(
            after.status.conditions
        ) != reason_of(before.status.conditions)
        _log.log(
            logging.INFO if is_news else logging.DEBUG,
            "%s",
            type(turn.move).__name__.lower(),
            extra=_fields(before, after, seconds),
        )

    def _count_end(self, rollback: IncidentRollback) -> None:
        status = rollback.status
        self.metrics.executions.labels(status.phase, reason_of(status.conditions)).inc()
        asked = rollback.spec.requested_at or rollback.metadata.creation_timestamp
        if asked is not None and status.finished_at is not None:
            self.metrics.duration.observe(max(0.0, (status.finished_at - asked).total_seconds()))
        if status.phase is Phase.SUCCEEDED and status.finished_at is not None:
            self.metrics.last_success.set(status.finished_at.timestamp())


def show(metrics: ControllerMetrics, controller: Controller, clock: Clock) -> None:
    """Let the metrics ask for what grows older without an event, or ends by the clock."""
    runner, leadership = controller.runner, controller.leadership

    def oldest_unfinished() -> float:
        created = (one.metadata.creation_timestamp for one in runner.unfinished())
        return age_of_oldest(created, clock.now())

    def environments(standing: str) -> float:
        return controller.check.found[standing] if leadership.standing().takes_turns else 0

    def pending() -> Sequence[Update]:
        outbox = runner.reconciler.outbox  # Another one after each term.
        return outbox.pending() if outbox is not None else ()

    metrics.show_readiness(controller.why_not_ready)
    metrics.in_progress.set_function(lambda: len(runner.known()))
    metrics.show_leadership(
        lambda: leadership.standing() is Standing.LEADS, lambda: leadership.transitions
    )
    metrics.show_work(oldest_unfinished=oldest_unfinished, environments=environments)
    metrics.show_watch(list_age=controller.list_age, watch_age=controller.watch_age)
    metrics.show_outbox(
        pending=lambda: len(pending()),
        oldest=lambda: age_of_oldest((one.decided_at for one in pending()), clock.now()),
    )


def age_of_oldest(instants: Iterable[datetime | None], now: datetime) -> float:
    """Return how old the oldest is, in seconds; 0 when there is none, or none is in the past."""
    return max((0.0, *((now - at).total_seconds() for at in instants if at is not None)))


def is_reverted(status: IncidentRollbackStatus) -> bool:
    """Say whether the bad revision was brought back, before the end or after it."""
    held = get(status.conditions, "Held")
    return "Reverted" in (reason_of(status.conditions), held.reason if held else "")


def reverter_of(manager: str) -> str:
    """Return who a field manager is, as one of few words."""
    return next((word for word, begins in REVERTERS if begins.match(manager)), OTHER)


def _fields(
    before: IncidentRollback, after: IncidentRollback, seconds: float
) -> dict[str, str | float]:
    incident, target = after.spec.incident, after.status.target
    return {
        "rollback": f"{after.metadata.namespace}/{after.metadata.name}",
        "incident": incident.id if incident else "",
        "workload": f"{target.namespace}/{target.name}" if target else "",
        "phase_before": before.status.phase,
        "phase": after.status.phase,
        "reason": reason_of(after.status.conditions),
        "seconds": round(seconds, 4),
    }
