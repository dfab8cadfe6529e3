"""
The story that must always work, from the bad deploy to the last word on the timeline.

And the same webhook again: a second later, ten at once, within the minute, an hour later.
"""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from incident_rollback.controller.controller import STALE_SECONDS
from incident_rollback.crd.v1alpha1 import TRACE_ANNOTATION
from incident_rollback.domain.timeline import NOT_ROLLED_BACK
from tests.e2e.admission import FIELD_MANAGER
from tests.e2e.conftest import SetStage
from tests.e2e.stage import (
    BRIDGE_USER,
    CONTROLLER_USER,
    Stage,
    condition,
    is_ours,
    names_in,
    reason_of,
)
from tests.sandbox.api import Json
from tests.sandbox.audit import AuditRecord
from tests.sandbox.sandbox import BRIDGE, CONTROLLER, HOME_NAMESPACE
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.workloads import GOOD_IMAGE, a_deployment, is_pod_ready

SERVICE: Final = "sockshop-frontend"
CONTAINER: Final = "nginx-1"
STATUS_WRITES: Final = 4
"""The claim, the end, that it was told, the hold."""
SHARED_SECONDS: Final = 2.0
"""What may wait is written once in so long: one write more for a life of three seconds."""
AT_ONCE: Final = 10
HOUR: Final = timedelta(hours=1)


@pytest.fixture
def sockshop(set_stage: SetStage) -> Stage:
    return set_stage(a_deployment(SERVICE, container=CONTAINER))


@pytest.mark.scenario("S1", "S3", "V1")
def test_the_story(sockshop: Stage) -> None:
    """A bad deploy, its incident, Relay's step: the pods are back, and everybody was told."""
    stage = sockshop
    stage.break_it()
    incident = stage.declare(name="Frontend down")
    delivery = stage.step("relay", incident=incident)
    assert delivery.status == 202, delivery
    (name,) = names_in(delivery)
    assert delivery.response_headers["x-incident-rollback"] == f"asked for {name}"
    assert re.fullmatch(rf"{SERVICE}-[0-9a-f]{{16}}", name)

    ended = stage.wait_phase(name, "Succeeded", "RolledBack")
    settled = stage.wait_settled(name)

    stage.wait_complete()
    assert stage.images() == [GOOD_IMAGE]
    pods = stage.sandbox.workloads.pods(stage.namespace, stage.name, revision=3)
    assert [is_pod_ready(pod) for pod in pods] == [True] * 3
    see_the_patch(stage, name)
    see_the_writes(stage)
    see_the_status(stage, ended, settled)
    see_the_timeline(stage, incident, name)
    see_the_events(stage, name)
    see_the_trace(stage, incident, name)
    see_the_metrics(stage)


def see_the_patch(stage: Stage, name: str) -> None:
    """One, by the controller's account and under our name; the template and the marker, no more."""
    (patch,) = stage.patches()
    assert patch.field_manager == FIELD_MANAGER
    steps = {(step["op"], step["path"]): step.get("value") for step in patch.request_object}
    changing = {path: value for (op, path), value in steps.items() if op != "test"}
    assert set(changing) == {
        "/spec/template",
        "/metadata/annotations/incidentrollback.dev~1request",
    }
    (container,) = changing["/spec/template"]["spec"]["containers"]
    assert (container["name"], container["image"]) == (CONTAINER, GOOD_IMAGE)
    uid = stage.rollback(name)["metadata"]["uid"]
    assert changing["/metadata/annotations/incidentrollback.dev~1request"].startswith(f"{uid} ")
    guards = {path for op, path in steps if op == "test"}
    assert guards == {
        "/metadata/uid",
        "/metadata/generation",
        "/metadata/annotations/deployment.kubernetes.io~1revision",
    }
    managers = {entry["manager"] for entry in stage.deployment()["metadata"]["managedFields"]}
    assert FIELD_MANAGER in managers


def see_the_writes(stage: Stage) -> None:
    """All that is written over a life, in order; kopf, which could write a lot, writes nothing."""
    writes = stage.writes()
    told = [what_was_written(record) for record in writes]
    status = "controller update incidentrollbacks/status 200"
    assert [what for what in told if what != status] == [
        "bridge create incidentrollbacks 201",
        "controller patch deployments 200",
        "controller create events 201",  # on the workload: the start
        "controller create events 201",  # on the workload: the end
        "controller create events 201",  # on the resource: the end
    ]
    assert told[1:3] == [status, "controller patch deployments 200"]  # the claim comes first
    claim, *_, last = [record for record in writes if record.subresource == "status"]
    conditions = claim.request_object["status"]["conditions"]
    assert "Reported" not in [found["type"] for found in conditions]
    assert told[-1] == status  # settled
    life = (last.received_at - claim.received_at).total_seconds()
    assert told.count(status) <= STATUS_WRITES + life // SHARED_SECONDS
    see_nothing_else_was_written(stage)


def see_nothing_else_was_written(stage: Stage) -> None:
    """Beside that, only looking at the environments, and leading; nothing bears kopf's name."""
    mine = {record.audit_id for record in stage.writes()}
    every = [
        record
        for record in stage.sandbox.settled_audit().records(stage.since)
        if is_ours(record) and record.is_write and record.is_success and record.audit_id not in mine
    ]
    assert {(record.verb, record.resource, record.subresource) for record in every} <= {
        ("update", "rollbackenvironments", "status"),
        ("create", "selfsubjectaccessreviews", ""),
        ("update", "leases", ""),
    }
    for name in stage.requests:
        metadata = stage.rollback(name)["metadata"]
        assert not {"finalizers", "labels"} & set(metadata)
        assert set(metadata["annotations"]) == {TRACE_ANNOTATION}


def what_was_written(record: AuditRecord) -> str:
    who = {BRIDGE_USER: "bridge", CONTROLLER_USER: "controller"}[record.user]
    what = "/".join(part for part in (record.resource, record.subresource) if part)
    return f"{who} {record.verb} {what} {record.code}"


def see_the_status(stage: Stage, ended: Json, settled: Json) -> None:
    """What was on, what it went back to, why that, and how it stands."""
    assert ended["target"] == {
        "environment": stage.namespace,
        "cluster": "inCluster",
        "namespace": stage.namespace,
        "kind": "Deployment",
        "name": SERVICE,
        "uid": stage.deployment()["metadata"]["uid"],
        "managedBy": [],
    }
    assert shown(ended["from"]) == (2, [BROKEN_IMAGE])
    lead, _, shown_by = ended["from"]["evidence"].partition(", e.g. pod ")
    assert lead == "1 of 1 pod in CrashLoopBackOff (exit code 1)"
    assert shown_by.endswith(f" -n {stage.namespace} --previous)")
    assert shown(ended["to"]) == (1, [GOOD_IMAGE])
    assert ended["to"]["evidence"] == "3 pods of it still serve"
    assert ended["candidates"] == [
        {"revision": 1, "verdict": "Chosen", "why": "3 pods of it still serve"}
    ]
    change = f"container {CONTAINER}: image {BROKEN_IMAGE} -> {GOOD_IMAGE}"
    assert ended["plan"]["changes"] == [change]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", ended["plan"]["digest"])
    assert "claimedAt" in ended
    assert ended["patchedAt"] <= ended["finishedAt"]
    assert settled["observedGeneration"] == 1
    kinds = {found["type"]: (found["status"], found["reason"]) for found in settled["conditions"]}
    assert kinds == {
        "Ready": ("True", "RolledBack"),
        "Reported": ("True", "Told"),
        "Held": ("True", "Held"),
    }
    ready = condition(settled, "Ready")
    assert ready is not None
    assert ready["message"].startswith("3 of 3 pods available since ")
    assert "Next: revert the deploy at its source" in ready["message"]
    told = {update["key"]: update for update in settled["updates"]}
    assert list(told) == ["start", "end", "change"]
    assert all(update["externalID"] and update["deliveredAt"] for update in told.values())


def shown(revision: Json) -> tuple[int, list[str]]:
    return revision["revision"], revision["images"]


def see_the_timeline(stage: Stage, incident: str, name: str) -> None:
    """Start and end, in order, each with what to do next; a change event that fixed it."""
    start, end = stage.notes(incident)
    where = f"{SERVICE} in {stage.namespace}"
    assert start.startswith(f"Rolling {where} back to {GOOD_IMAGE} (revision 1; ")
    assert f"It is on {BROKEN_IMAGE} (revision 2): 1 of 1 pod in CrashLoopBackOff" in start
    assert end.startswith(f"{where} is back on {GOOD_IMAGE} (revision 1; 3 pods of it still serve)")
    assert "3 of 3 pods healthy since" in end
    assert f"It was {BROKEN_IMAGE} (revision 2): 1 of 1 pod in CrashLoopBackOff" in end
    assert NOT_ROLLED_BACK in end
    undo = f"kubectl irb rollback deploy/{SERVICE} -n {stage.namespace} --to-revision 2"
    assert f"To undo this: {undo}" in end
    for note in (start, end):
        last = note.splitlines()[-1]
        assert last.startswith("Next: ")
        assert last.endswith(f"({name})")
    kinds = [entry.kind for entry in stage.timeline(incident)]
    assert kinds == ["note", "note", "relation"]
    ((change, how),) = stage.changes(incident).values()
    assert how == "fixed"
    assert change.summary == f"Rolled back {stage.namespace}/{SERVICE} to {GOOD_IMAGE}"
    assert change.external_id == stage.rollback(name)["metadata"]["uid"]


def see_the_events(stage: Stage, name: str) -> None:
    """`kubectl describe` tells it too: of the workload, and of the resource."""
    about = [(event["type"], event["reason"]) for event in stage.events(SERVICE)]
    assert about == [("Normal", "RollbackStarted"), ("Normal", "RollbackSucceeded")]
    started = stage.events(SERVICE)[0]
    assert GOOD_IMAGE in started["message"]
    assert f"{HOME_NAMESPACE}/{name}" in started["message"]
    (ended,) = stage.events(name)
    assert (ended["type"], ended["reason"]) == ("Normal", "RollbackSucceeded")
    assert ended["message"].startswith("RolledBack: 3 of 3 pods available")


def see_the_trace(stage: Stage, incident: str, name: str) -> None:
    """One id from the request at the bridge to the last word, on every line about it."""
    trace_id = stage.rollback(name)["metadata"]["annotations"][TRACE_ANNOTATION]
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id)
    ((change, _),) = stage.changes(incident).values()
    assert change.labels["trace-id"] == trace_id
    said = {
        process.name: [
            line for line in process.log_text().splitlines() if f"trace_id={trace_id}" in line
        ]
        for process in (stage.operator.bridge, stage.operator.controller)
    }
    (answered,) = said[BRIDGE]
    assert "answered 202" in answered
    told = " ".join(said[CONTROLLER])
    assert " claim " in told
    assert f"incident {incident} was told 'end'" in told


def see_the_metrics(stage: Stage) -> None:
    """What happened is counted, and nothing is waited for that nobody told the metrics about."""
    bridge = series_of(stage.operator.bridge.metrics())
    assert bridge["ready", ""] == 1
    assert bridge["webhook_requests_total", "202 Created"] >= 1
    assert sum(value for (name, _), value in bridge.items() if "secret_used_total" in name) >= 1
    assert bridge["api_requests_total", "201 POST"] >= 1
    controller = series_of(stage.operator.controller.metrics())
    assert (controller["ready", ""], controller["leader", ""]) == (1, 1)
    assert controller["executions_total", "Succeeded RolledBack"] >= 1
    assert controller["last_success_timestamp_seconds", ""] > 0
    assert controller["api_requests_total", "200 PATCH"] >= 1
    assert controller["updates_told_total", "Note"] >= 2
    assert controller["firehydrant_requests_total", "201"] >= 2
    assert controller["updates_pending", ""] == 0
    assert controller["oldest_unfinished_seconds", ""] == 0
    assert ("environments", "True") in controller
    assert controller["watch_age_seconds", ""] > 0
    assert controller["list_age_seconds", ""] < STALE_SECONDS


def series_of(page: str) -> dict[tuple[str, str], float]:
    """Return values by a series' name without our prefix, and by its labels' values, in order."""
    return {
        (sample.name.removeprefix("incident_rollback_"), labels_of(sample)): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def labels_of(sample: Sample) -> str:
    return " ".join(value for _, value in sorted(sample.labels.items()))


# --- The same webhook again


def test_the_same_webhook_twice_is_one_request(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    first, second = stage.step(incident=incident), stage.step(incident=incident)
    assert (first.status, second.status) == (202, 200)
    assert names_in(first) == names_in(second)
    assert [row["created"] for row in second.json["rollbacks"]] == [False]
    (name,) = names_in(first)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert requests_made(stage) == [name]
    assert len(stage.patches()) == 1


@pytest.mark.scenario("W8")
def test_ten_at_once_are_one_request_and_one_patch(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        begun = [threads.submit(stage.step, incident=incident) for _ in range(AT_ONCE)]
        deliveries = [one.result() for one in begun]
    assert Counter(delivery.status for delivery in deliveries) == {202: 1, 200: AT_ONCE - 1}
    (name,) = {name for delivery in deliveries for name in names_in(delivery)}
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    assert requests_made(stage) == [name]
    assert len(stage.patches()) == 1
    assert len(stage.notes(incident)) == 2


def test_within_a_minute_of_success_it_is_answered_with_how_it_stands(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    again = stage.step(incident=incident)
    assert again.status == 200
    assert again.json["rollbacks"] == [
        {
            "namespace": HOME_NAMESPACE,
            "name": name,
            "created": False,
            "phase": "Succeeded",
            "reason": "RolledBack",
        }
    ]
    assert "Succeeded (RolledBack)" in again.response_headers["x-incident-rollback"]
    assert requests_made(stage) == [name]
    assert len(stage.patches()) == 1


def test_an_hour_later_it_is_a_second_attempt_that_changes_nothing(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_settled(name)
    before = stage.deployment()["metadata"]["generation"]
    stage.operator.shift(HOUR)
    again = stage.ask(incident=incident)
    assert again == f"{name}-2"
    status = stage.wait_phase(again, "Succeeded", "AlreadyThere")
    stage.wait_settled(again)
    assert "patchedAt" not in status
    assert len(stage.patches()) == 1
    assert stage.deployment()["metadata"]["generation"] == before
    assert "Nothing was changed" in stage.notes(incident)[-1]
    assert reason_of(stage.status(name)) == "RolledBack"


def requests_made(stage: Stage) -> list[str]:
    """Return the names of the IncidentRollbacks that were created for the stage."""
    created = [r for r in stage.writes() if r.user == BRIDGE_USER and r.is_success]
    return [record.name for record in created]
