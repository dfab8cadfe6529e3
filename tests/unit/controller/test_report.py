import logging
from typing import Any

import pytest

from incident_rollback.controller.reconcile import Turn
from incident_rollback.controller.report import TurnReport
from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase
from incident_rollback.domain.moves import Wait
from incident_rollback.telemetry.metrics import ControllerMetrics
from tests.builders import a_condition, a_rollback, after, claimed
from tests.fakes.clock import FakeClock

WAIT = Wait("Paused", "paused", "resume it")


def ready(phase: Phase, reason: str, **status: Any) -> IncidentRollback:
    conditions = (a_condition("Ready", "True", reason),)
    return claimed(phase, conditions=conditions, **status)


DONE = ready(Phase.SUCCEEDED, "RolledBack", finished_at=after(seconds=31))


class Report:
    def __init__(self) -> None:
        self.metrics = ControllerMetrics()
        self.take = TurnReport(self.metrics, FakeClock())

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


LEVELS = [
    pytest.param(a_rollback(), claimed(), logging.INFO, id="another phase"),
    pytest.param(
        ready(Phase.PENDING, "Paused"), ready(Phase.PENDING, "Busy"), logging.INFO, id="a reason"
    ),
    pytest.param(claimed(), claimed(), logging.DEBUG, id="nothing new"),
    pytest.param(claimed(), None, logging.DEBUG, id="gone"),
]


@pytest.mark.parametrize(("before", "stored", "level"), LEVELS)
def test_one_line_a_turn(
    before: IncidentRollback,
    stored: IncidentRollback | None,
    level: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "incident_rollback.turn")
    Report().take(before, Turn(stored, WAIT, 1.0), 0.0123456)
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (level, "wait")


def test_a_line_has_incident_workload_phases_reason_and_duration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "incident_rollback.turn")
    Report().take(claimed(), Turn(DONE, WAIT, 1.0), 0.0123456)
    fields = vars(caplog.records[0])
    assert {key: fields[key] for key in FIELDS} == FIELDS


FIELDS = {
    "rollback": "incident-rollback/checkout-3f9a1c27b0d4e6f8",
    "incident": "incident-1",
    "workload": "production/checkout",
    "phase_before": "RollingBack",
    "phase": "Succeeded",
    "reason": "RolledBack",
    "seconds": 0.0123,
}


def test_an_end_is_counted_once() -> None:
    report = Report()
    for before in (claimed(), DONE):
        report.take(before, Turn(DONE, WAIT, 1.0), 0.01)
    labels = {"phase": "Succeeded", "reason": "RolledBack"}
    assert report.value("incident_rollback_executions_total", **labels) == 1
    assert report.value("incident_rollback_duration_seconds_sum") == 31
    assert report.value("incident_rollback_turns_total", phase="Succeeded") == 2
    assert report.value("incident_rollback_turn_duration_seconds_count") == 2


def test_a_duration_is_never_negative() -> None:
    report = Report()
    early = ready(Phase.REFUSED, "Expired", finished_at=after(seconds=-5))
    report.take(a_rollback(), Turn(early, WAIT, 1.0), 0.01)
    assert report.value("incident_rollback_duration_seconds_sum") == 0
