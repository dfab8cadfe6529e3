"""
What is rolled back, and to what, when people were at work before us or beside us.

Every case ends with what the audit log says: one patch by us, or none.
"""

from typing import Final

from tests.e2e.conftest import SetStage
from tests.e2e.stage import Stage, names_in, reason_of
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, a_deployment, waiting_reasons

OLDER_IMAGE: Final = "nginx:1.17.0"


def good_and_better(set_stage: SetStage) -> Stage:
    """Set a stage with two good revisions: 1 is older, 2 is live."""
    stage = set_stage(a_deployment(image=OLDER_IMAGE))
    stage.deploy(GOOD_IMAGE)
    stage.wait_complete()
    return stage


def test_undone_by_hand_before_the_webhook_it_is_there_already(set_stage: SetStage) -> None:
    """A second step back would go to the older revision: one too far."""
    stage = good_and_better(set_stage)
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


def test_undone_by_hand_and_brought_back_it_is_rolled_back(set_stage: SetStage) -> None:
    stage = good_and_better(set_stage)
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


def test_a_second_incident_right_after_the_patch_changes_nothing(set_stage: SetStage) -> None:
    """It must not take the older revision, although that is the next one back."""
    stage = good_and_better(set_stage)
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
