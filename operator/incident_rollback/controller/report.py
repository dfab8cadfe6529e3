"""One line and a few numbers for each turn."""

import logging
from dataclasses import dataclass

from incident_rollback.controller.reconcile import Turn
from incident_rollback.crd.v1alpha1 import FINAL_PHASES, IncidentRollback
from incident_rollback.domain.conditions import reason_of
from incident_rollback.ports import Clock
from incident_rollback.telemetry.metrics import ControllerMetrics

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
