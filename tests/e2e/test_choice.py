"""
What is rolled back, and to what, when people were at work before us or beside us.

Every case ends with what the audit log says: one patch by us, or none.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import Stage, names_in, reason_of
from tests.sandbox.api import path_to
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, OLDER_IMAGE, RECREATE, a_deployment, waiting_reasons

FINALIZER: Final = "example.com/not-yet"


def test_undone_by_hand_before_the_webhook_it_is_there_already(good_and_better: Stage) -> None:
    """A second step back would go to the older revision: one too far."""
    stage = good_and_better
    stage.break_it()
    stage.undo()
    stage.wait_complete()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    status = stage.wait_phase(name, "Succeeded", "AlreadyThere")
    stage.wait_settled(name)
    assert stage.attempts() == []
    assert stage.images() == [GOOD_IMAGE]
    assert not {"claimedAt", "patchedAt"} & set(status)
    (note,) = stage.notes(incident)
    assert f"is on {GOOD_IMAGE} (revision 4) already: somebody rolled it back" in note
    assert "Nothing was changed" in note
    assert stage.changes(incident) == {}


@pytest.mark.scenario("S2")
def test_undone_by_hand_and_brought_back_it_is_rolled_back(good_and_better: Stage) -> None:
    stage = good_and_better
    stage.break_it()
    stage.undo()
    stage.wait_complete()
    stage.undo()
    stage.wait_broken()
    assert stage.images() == [BROKEN_IMAGE]
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert (status["from"]["revision"], status["to"]["revision"]) == (5, 4)
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


@pytest.mark.scenario("S2")
def test_good_bad_bad_goes_back_to_the_good_one(stage: Stage) -> None:
    stage.break_it()
    workloads = stage.sandbox.workloads
    workloads.set_template_annotation(stage.namespace, stage.name, "release", "hotfix")
    workloads.wait_revision(stage.namespace, stage.name, 3)
    wait_for(
        lambda: waiting_reasons(workloads.pods(stage.namespace, stage.name, revision=3)),
        "the hotfix to crash-loop as well",
    )
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert (status["from"]["revision"], status["to"]["revision"]) == (3, 1)
    verdicts = {found["revision"]: found["verdict"] for found in status["candidates"]}
    assert verdicts == {2: "PassedOver", 1: "Chosen"}
    assert all(found["why"] for found in status["candidates"])
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


@pytest.mark.scenario("P2")
def test_until_the_bad_release_has_its_replica_set_nothing_is_judged(set_stage: SetStage) -> None:
    """
    With Recreate it is made once the old pods are gone, and the good revision is the highest.

    `kubectl rollout undo` would go to the one before that.
    """
    stage = set_stage(a_deployment(image=OLDER_IMAGE, strategy=RECREATE, replicas=1))
    stage.deploy(GOOD_IMAGE)
    stage.wait_complete()
    (pod,) = stage.sandbox.workloads.pods(stage.namespace, stage.name, revision=2)
    with still_there(stage, pod["metadata"]["name"]):
        stage.sandbox.workloads.set_image(stage.namespace, stage.name, BROKEN_IMAGE)
        name = stage.ask("ours", to_revision=2)
        stage.wait_phase(name, "Pending", "NotObserved")
        assert stage.attempts() == []
    status = stage.wait_phase(name, "Succeeded", "RolledBack")
    assert (status["from"]["revision"], status["to"]["revision"]) == (3, 2)
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


@contextmanager
def still_there(stage: Stage, pod: str) -> Generator[None]:
    """Have a pod not go away, whoever deletes it, for as long as the block."""
    path = path_to("v1", "pods", stage.namespace, pod)
    stage.sandbox.api.patch(path, {"metadata": {"finalizers": [FINALIZER]}})
    try:
        yield
    finally:
        stage.sandbox.api.patch(path, {"metadata": {"finalizers": None}})


@pytest.mark.scenario("S2", "S3", "S4", "S5")
def test_good_bad_back_bad_restart_only_bad_goes_back_to_the_good_one_and_says_why_not_the_others(
    stage: Stage,
) -> None:
    """
    Revision 3 is the good one again, and 2 was rolled back from; 5 is 4, only restarted.

    `kubectl rollout undo` would go to 5.
    """
    stage.break_it()
    stage.undo()
    stage.wait_complete()
    release(stage, "hotfix", 4)
    stage.sandbox.workloads.restart(stage.namespace, stage.name)
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 5)
    release(stage, "hotfix of the hotfix", 6)
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert (status["from"]["revision"], status["to"]["revision"]) == (6, 3)
    found = {(c["revision"], c["verdict"]): c["why"] for c in status["candidates"]}
    assert found == {
        (5, "PassedOver"): "no pod of it serves",
        (3, "Chosen"): "3 pods of it still serve",
        (2, "PassedOver"): "somebody rolled back from it",
    }
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


def release(stage: Stage, name: str, revision: int) -> None:
    """Deploy a bad release of this name, and wait until a pod of it crash-loops."""
    workloads = stage.sandbox.workloads
    container = {"name": "app", "image": BROKEN_IMAGE}
    template = {"metadata": {"annotations": {"release": name}}, "spec": {"containers": [container]}}
    workloads.patch_template(stage.namespace, stage.name, template)
    workloads.wait_revision(stage.namespace, stage.name, revision)
    wait_for(
        lambda: waiting_reasons(workloads.pods(stage.namespace, stage.name, revision)),
        f"{name} to crash-loop",
    )


@pytest.mark.scenario("S13")
def test_all_that_is_left_was_rolled_back_from_and_nothing_is_tried(stage: Stage) -> None:
    """The good one is on a node that is lost; a step back would bring the bad one."""
    stage.break_it()
    stage.undo()
    stage.wait_complete()
    for pod in stage.sandbox.workloads.pods(stage.namespace, stage.name, revision=3):
        lose(stage, pod["metadata"]["name"])
    wait_for(
        lambda: not stage.deployment()["status"].get("availableReplicas"), "no pod to be available"
    )
    incident = stage.declare()
    status = stage.wait_phase(stage.ask(incident=incident), "Refused", "AlreadyRolledBack")
    assert status["candidates"] == []
    assert stage.images() == [GOOD_IMAGE]
    assert stage.attempts() == []
    note = stage.wait_told(incident, "Nothing was changed").text
    assert "was rolled back to " in note
    assert "3 of 3 pods in NodeLost" in note
    assert "a further step back is yours to choose: kubectl irb rollback" in note


def lose(stage: Stage, pod: str) -> None:
    """Have a pod be on a node that nobody hears of any more."""
    lost = {"reason": "NodeLost", "conditions": [{"type": "Ready", "status": "False"}]}
    path = path_to("v1", "pods", stage.namespace, pod, "status")
    stage.sandbox.api.patch(path, {"status": lost}, "strategic")


def test_a_second_incident_right_after_the_patch_changes_nothing(good_and_better: Stage) -> None:
    """It must not take the older revision, although that is the next one back."""
    stage = good_and_better
    stage.break_it()
    first = stage.ask()
    stage.wait_patch()
    incident = stage.declare(name="Checkout is slow")
    second = stage.ask(incident=incident)
    assert second != first
    stage.wait_phase(first, "Succeeded", "RolledBack")
    stage.wait_phase(second, "Succeeded", "AlreadyThere")
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1
    assert "already" in stage.wait_told(incident, r"already: ").text


def test_two_services_on_one_workload_are_one_patch(set_stage: SetStage) -> None:
    """Two pairs of one incident, at once: one acts, the other finds it done."""
    services = ["Checkout API", "Payments"]
    workload = {"name": "checkout"}
    stage = set_stage(services=[{"name": name, "workload": workload} for name in services])
    stage.break_it()
    incident = stage.declare(services=services)
    delivery = stage.step("ours", incident=incident)
    assert delivery.status == 202, delivery
    names = names_in(delivery)
    assert [name.rpartition("-")[0] for name in names] == ["checkout-api", "payments"]
    for name in names:
        stage.wait_phase(name, "Succeeded")
    reasons = sorted(reason_of(stage.status(name)) for name in names)
    assert reasons == ["AlreadyThere", "RolledBack"]
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1
