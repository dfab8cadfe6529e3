import logging
from datetime import datetime
from math import inf
from typing import Any

import pytest

from incident_rollback.controller.controller import Controller
from incident_rollback.controller.environments import EnvironmentCheck
from incident_rollback.controller.limiter import Limiter
from incident_rollback.controller.outbox import Outbox
from incident_rollback.controller.reconcile import Turn
from incident_rollback.controller.report import TurnReport, age_of_oldest, reverter_of, show
from incident_rollback.controller.runner import Runner
from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase
from incident_rollback.domain.moves import Wait
from incident_rollback.telemetry.metrics import REVERTERS, ControllerMetrics
from tests.builders import NOW, a_condition, a_rollback, after, ago, an_update, claimed
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.store import FakeStore
from tests.fakes.timeline import FakeTimeline
from tests.unit.controller.fast_time import in_fast_time
from tests.unit.controller.scripted import ScriptedReconciler, stays

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


def test_the_last_success_is_known() -> None:
    report = Report()
    report.take(claimed(), Turn(ready(Phase.FAILED, "NotVerified", finished_at=NOW), WAIT, 1), 0)
    assert report.value("incident_rollback_last_success_timestamp_seconds") == 0
    report.take(claimed(), Turn(DONE, WAIT, 1), 0)
    value = report.value("incident_rollback_last_success_timestamp_seconds")
    assert value == after(seconds=31).timestamp()


def held(reason: str, ready_reason: str = "RolledBack") -> IncidentRollback:
    conditions = (a_condition("Ready", "True", ready_reason), a_condition("Held", "False", reason))
    return claimed(Phase.SUCCEEDED, conditions=conditions)


REVERTED = ready(Phase.FAILED, "Reverted")
REVERSALS = [
    pytest.param(claimed(), REVERTED, 1, id="before the end"),
    pytest.param(DONE, held("Reverted"), 1, id="after the end"),
    pytest.param(REVERTED, held("Reverted", "Reverted"), 0, id="no news after the end"),
    pytest.param(held("Reverted"), held("Reverted"), 0, id="known already"),
    pytest.param(DONE, held("Superseded"), 0, id="something else was deployed"),
    pytest.param(claimed(), DONE, 0, id="it stayed"),
]


@pytest.mark.parametrize(("before", "stored", "count"), REVERSALS)
def test_what_is_brought_back_is_counted_once(
    before: IncidentRollback, stored: IncidentRollback, count: int
) -> None:
    report = Report()
    report.take(before, Turn(stored, WAIT, 1.0, "kustomize-controller"), 0.01)
    assert report.value("incident_rollback_reverted_total", manager="flux") == count


MANAGERS = [
    ("argocd-controller", "argocd"),
    ("argocd-application-controller", "argocd"),
    ("kustomize-controller", "flux"),
    ("helm-controller", "flux"),
    ("flux-client-side-apply", "flux"),
    ("helm", "helm"),
    ("Helm", "helm"),
    ("kubectl-client-side-apply", "kubectl"),
    ("kubectl-rollout", "kubectl"),
    ("my-operator", "other"),
    ("", "other"),
]


@pytest.mark.parametrize(("manager", "word"), MANAGERS)
def test_who_brings_it_back_is_one_of_few(manager: str, word: str) -> None:
    assert reverter_of(manager) == word
    assert word in REVERTERS


AGES = [
    pytest.param([], 0, id="none"),
    pytest.param([None], 0, id="none with a time"),
    pytest.param([ago(seconds=3), ago(seconds=8), None], 8, id="the oldest"),
    pytest.param([after(seconds=3)], 0, id="one of the future"),
]


@pytest.mark.parametrize(("instants", "age"), AGES)
def test_the_age_of_the_oldest(instants: list[datetime | None], age: float) -> None:
    assert age_of_oldest(instants, NOW) == age


@in_fast_time
async def test_what_nobody_would_tell_in_time_is_asked_for() -> None:
    report, clock, timeline = Report(), FakeClock(), FakeTimeline(lambda: NOW)
    timeline.declare("incident-1")
    outbox = Outbox(timeline, limiter=Limiter(), now=clock.now)
    reconciler = ScriptedReconciler([stays()], outbox=outbox)
    runner = Runner(reconciler.as_one(), FakeStore(), report.take)
    check = EnvironmentCheck(FakeStore(), FakeCluster(), clock)
    show(report.metrics, Controller(FakeStore(), runner, check, report.metrics), clock)

    check.found["False"] = 2
    runner.offer(a_rollback(uid="uid-1", created=ago(seconds=40)))
    runner.offer(a_rollback(uid="uid-2", status=DONE.status, created=ago(days=1)))
    outbox.submit(
        "uid-1", "incident-1", [an_update(decided_at=ago(seconds=7))], wake=lambda: None
    )  # fmt: skip

    assert report.value("incident_rollback_in_progress") == 2
    assert report.value("incident_rollback_oldest_unfinished_seconds") == 40
    assert report.value("incident_rollback_environments", ready="False") == 2
    assert report.value("incident_rollback_environments", ready="True") == 0
    assert report.value("incident_rollback_ready") == 0
    assert report.value("incident_rollback_leader") == 1
    assert report.value("incident_rollback_list_age_seconds") == inf
    assert report.value("incident_rollback_watch_age_seconds") == 0
    assert report.value("incident_rollback_updates_pending") == 1
    assert report.value("incident_rollback_updates_oldest_pending_seconds") == 7

    reconciler.outbox = None
    assert report.value("incident_rollback_updates_pending") == 0
    assert report.value("incident_rollback_updates_oldest_pending_seconds") == 0
    await runner.close()
    await outbox.close()
