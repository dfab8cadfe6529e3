"""
Why pods are not well, as the incident reads it, and when a rollback is unlikely to help.

The pretended kubelet writes no Events, so what a real one would say of a pod is said for it.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from tests.e2e.admission import an_absent_webhook, in_force, is_away, rule, webhook_path
from tests.e2e.conftest import SetStage
from tests.e2e.stage import CONTROLLER_USER, TARGET_ROLE, Stage
from tests.sandbox import simulation
from tests.sandbox.api import Json, path_to
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, RECREATE, a_deployment, waiting_reasons

NEWER_IMAGE: Final = "nginx:1.19.0"
BACK_OFF: Final = "Back-off restarting failed container app in pod"
UNLIKELY: Final = "so a rollback is unlikely to help"


def bad_pod(stage: Stage, revision: int = 2) -> Json:
    """Return the one pod of the bad revision, which crash-loops."""
    (pod,) = stage.sandbox.workloads.pods(stage.namespace, stage.name, revision)
    return pod


def warn(stage: Stage, pod: Json, reason: str, message: str, ago: timedelta = timedelta(0)) -> None:
    """Write an Event about a pod, as its kubelet would."""
    metadata = pod["metadata"]
    body = {
        "metadata": {"generateName": f"{metadata['name']}.", "namespace": stage.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": stage.namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": "kubelet"},
        "lastTimestamp": f"{datetime.now(UTC) - ago:%Y-%m-%dT%H:%M:%SZ}",
        "count": 7,
    }
    stage.sandbox.api.create(path_to("v1", "events", stage.namespace), body)


def logs_of(stage: Stage, pod: Json) -> str:
    name = pod["metadata"]["name"]
    return f"(kubectl logs {name} -c app -n {stage.namespace} --previous)"


def without_events(stage: Stage) -> None:
    """Take the right to list Events away."""
    path = path_to("rbac.authorization.k8s.io/v1", "roles", stage.namespace, TARGET_ROLE)
    role = stage.sandbox.api.get(path)
    role["rules"] = [
        rule
        for rule in role["rules"]
        if (rule["resources"], rule["verbs"]) != (["events"], ["list"])
    ]
    stage.sandbox.api.replace(path, role)
    stage.wait_allowed("list", "events", allowed=False, group="")


def asks_first(stage: Stage, *says: str) -> str:
    """
    Ask, and see that a person is asked first: told why, with the plan, and nothing changed.

    Returns the note.
    """
    before, incident = stage.deployment(), stage.declare()
    name = stage.ask(incident=incident)
    status = stage.wait_phase(name, "Refused", "ApprovalRequired")
    stage.wait_settled(name)
    (note,) = stage.notes(incident)
    for words in (*says, UNLIKELY, "Nothing was changed."):
        assert words in note
    assert f"planDigest: {status['plan']['digest']}" in note
    assert stage.attempts() == []
    assert stage.deployment()["spec"] == before["spec"]
    return note


@pytest.mark.scenario("D1")
def test_the_notes_show_a_pod_its_last_event_and_the_command_for_its_logs(stage: Stage) -> None:
    stage.break_it()
    pod = bad_pod(stage)
    warn(stage, pod, "Scheduled", "an older one", ago=timedelta(minutes=1))
    warn(stage, pod, "BackOff", f"{BACK_OFF} https://ci:hunter2@host/?sig=hunter2")
    incident = stage.declare()
    name = stage.ask(incident=incident)
    status = stage.wait_phase(name, "Succeeded", "RolledBack")
    lead, shown = (
        "1 of 1 pod in CrashLoopBackOff (exit code 1)",
        f", e.g. pod {pod['metadata']['name']}, container app; last event BackOff at ",
    )
    evidence = status["from"]["evidence"]
    assert evidence.startswith(f"{lead}{shown}")
    assert evidence.endswith(f": '{BACK_OFF} https://host/' {logs_of(stage, pod)}")
    start, end = stage.wait_told(incident, "^Rolling ").text, stage.wait_told(incident, "back on")
    assert f"(revision 2): {evidence}." in start
    assert f"(revision 2): {lead}. Not rolled back" in end.text
    assert len(stage.patches()) == 1


@pytest.mark.scenario("D9")
def test_without_the_right_to_list_events_the_rest_is_said_and_done(stage: Stage) -> None:
    without_events(stage)
    stage.break_it()
    pod = bad_pod(stage)
    warn(stage, pod, "BackOff", BACK_OFF)
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert status["from"]["evidence"] == (
        f"1 of 1 pod in CrashLoopBackOff (exit code 1), e.g. pod {pod['metadata']['name']}, "
        f"container app {logs_of(stage, pod)}"
    )
    refused = [
        record
        for record in stage.sandbox.settled_audit().records(stage.since)
        if (record.user, record.verb, record.resource) == (CONTROLLER_USER, "list", "events")
        and record.namespace == stage.namespace
    ]
    assert {record.code for record in refused} == {403}


@pytest.mark.scenario("V13")
def test_what_crashes_after_the_rollback_is_shown_by_a_pod_of_what_was_restored(
    set_stage: SetStage,
) -> None:
    """The old pods are ready for less than the calm: it did not help, and that is said."""
    stage = set_stage(a_deployment(strategy=RECREATE), policy={"stableSeconds": 600})
    stage.deploy(NEWER_IMAGE)
    stage.wait_complete()
    incident = stage.declare()
    name = stage.ask("ours", incident=incident, to_revision=1)
    stage.wait_status(name, lambda found: bool(found.get("healthySince")), "healthy")
    stage.crash()
    stage.wait_phase(name, "Failed", "CrashedAfterReady")
    told = stage.wait_told(incident, "is not well after the rollback").text
    pods = {
        pod["metadata"]["name"]
        for pod in stage.sandbox.workloads.pods(stage.namespace, stage.name)
        if "deletionTimestamp" not in pod["metadata"]
    }
    (shown,) = [pod for pod in pods if f"e.g. pod {pod}, container app" in told]
    assert f"Next: look at it: kubectl logs {shown} -c app -n {stage.namespace} --previous" in told


@pytest.mark.scenario("D5")
def test_where_a_quota_lets_no_pod_in_a_person_is_asked_first(set_stage: SetStage) -> None:
    stage = set_stage(a_deployment(strategy=RECREATE))
    quotas = path_to("v1", "resourcequotas", stage.namespace)
    body = {"metadata": {"name": "compute"}, "spec": {"hard": {"pods": "0"}}}
    stage.sandbox.api.create(quotas, body)
    wait_for(
        lambda: stage.sandbox.api.get(f"{quotas}/compute").get("status", {}).get("hard"),
        "the quota to be counted",
    )
    stage.deploy(NEWER_IMAGE)
    wait_unmade(stage, "exceeded quota")
    replica_set = new_replica_set(stage)["metadata"]["name"]
    note = asks_first(
        stage,
        "a quota lets no more pods in (",
        "exceeded quota: compute, requested: pods=1",
        "and revision 1 needs new pods as well",
        f": its pods cannot be made (kubectl describe rs/{replica_set} -n {stage.namespace})",
    )
    # Kubernetes has tried again since, maybe, with a pod of another name: that is no other reason.
    assert note.count("exceeded quota") == 1


@pytest.mark.scenario("D6")
def test_where_a_webhook_is_away_that_pods_have_to_pass_a_person_is_asked_first(
    set_stage: SetStage,
) -> None:
    stage = set_stage(a_deployment(strategy=RECREATE))
    webhook = an_absent_webhook("pods", stage.namespace, rule("CREATE", "pods"))
    with in_force(
        stage.sandbox.api,
        {webhook_path(webhook["metadata"]["name"]): webhook},
        lambda: is_no_pod_let_in(stage),
        "the API server to ask the webhook",
    ):
        stage.deploy(NEWER_IMAGE)
        wait_unmade(stage, "failed calling webhook")
        asks_first(
            stage,
            "an admission webhook does not answer (",
            "pods.example.com",
            ": its pods cannot be made (kubectl describe rs/",
        )


@pytest.mark.scenario("D7")
def test_where_pods_of_both_revisions_crash_a_person_is_asked_first(set_stage: SetStage) -> None:
    stage = set_stage()
    stage.crash()
    stage.wait_broken(pods=3)
    stage.deploy(simulation.BROKEN_IMAGE)
    workloads = stage.sandbox.workloads
    wait_for(
        lambda: waiting_reasons(workloads.pods(stage.namespace, stage.name, revision=2)),
        "the new pod to crash-loop as well",
    )
    asks_first(
        stage,
        "pods of revision 1 are in CrashLoopBackOff as well",
        f"e.g. pod {bad_pod(stage)['metadata']['name']}, container app",
    )
    assert GOOD_IMAGE not in stage.images()


def is_no_pod_let_in(stage: Stage) -> bool:
    """Say whether the API server fails to make a pod; a dry run asks the webhook as well."""
    pod = {
        "metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "app", "image": GOOD_IMAGE}]},
    }
    path = path_to("v1", "pods", stage.namespace)
    return is_away(lambda: stage.sandbox.api.create(path, pod, dryRun="All"))


def new_replica_set(stage: Stage) -> Json:
    return stage.sandbox.workloads.replica_sets(stage.namespace, stage.name)[-1]


def wait_unmade(stage: Stage, why: str) -> None:
    """Wait until the newest ReplicaSet says that it can make no pod, and why."""

    def says() -> str:
        conditions: list[Json] = new_replica_set(stage)["status"].get("conditions", [])
        return " ".join(c["message"] for c in conditions if c["type"] == "ReplicaFailure")

    wait_for(lambda: why in says(), f"no pod to be made: {why}", seen=says)
