"""
Killed at any line, restarted at once or much later: never a second patch, never a lost rollback.

And what comes back from the dead beside it: resources that are made again, or lose their status.
"""

from datetime import timedelta
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import API_VERSION, ROLLBACKS, Stage, condition, keys_of
from tests.sandbox.api import path_to
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.workloads import GOOD_IMAGE

VERY_CALM: Final = {"stableSeconds": 600}
"""Long enough to be killed in, again and again; `end_calm` ends it."""
KILLS: Final = 3
SIX_HOURS: Final = timedelta(hours=6)


def claimed(stage: Stage, incident: str) -> str:
    """Break it and ask; return the name when the claim is stored and the patch is held up."""
    stage.break_it()
    stage.hold_patches()
    name = stage.ask(incident=incident)
    stage.wait_held(name)
    assert stage.patches() == []
    assert stage.images() == [BROKEN_IMAGE]
    return name


def patched(stage: Stage, incident: str) -> str:
    """Break it, ask, and kill the controller as soon as its patch is in; return the name."""
    stage.break_it()
    name = stage.ask(incident=incident)
    stage.wait_patch()
    stage.operator.kill_controller()
    assert stage.status(name)["phase"] == "RollingBack"
    return name


# --- Killed: at which write does not matter, see test_crash.py; here, for how long and what then


@pytest.mark.scenario("W6")
def test_killed_after_the_patch_it_is_watched_on_and_not_patched_again(
    set_stage: SetStage,
) -> None:
    """Killed again and again, in fact."""
    stage = set_stage(policy=VERY_CALM)
    name = patched(stage, stage.declare())
    for _ in range(KILLS - 1):
        stage.operator.start_controller()
        stage.operator.kill_controller()
        assert stage.status(name)["phase"] == "RollingBack"
    stage.end_calm()
    status = stage.wait_phase(name, "Succeeded", "RolledBack")
    assert (status["from"]["revision"], status["to"]["revision"]) == (2, 1)
    assert keys_of(status) == ["start", "end", "change"]
    assert len(stage.patches()) == 1
    assert stage.images() == [GOOD_IMAGE]


def test_killed_after_a_note_it_is_not_told_again(set_stage: SetStage) -> None:
    """That a note was taken is recorded a moment later: whoever follows looks before it posts."""
    stage = set_stage(policy=VERY_CALM)
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_told(incident, r"^Rolling checkout")
    stage.operator.kill_controller()
    stage.end_calm()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    start, end = stage.notes(incident)
    assert start.startswith("Rolling checkout")
    assert "is back on" in end
    assert len(stage.changes(incident)) == 1
    assert len(stage.patches()) == 1


def test_killed_after_the_patch_and_reverted_by_somebody_that_stands(
    set_stage: SetStage,
) -> None:
    """`kubectl rollout undo` wipes our marker from the Deployment; its ReplicaSet remembers."""
    stage = set_stage(policy=VERY_CALM)
    name = patched(stage, stage.declare())
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 3)
    stage.undo()
    assert stage.images() == [BROKEN_IMAGE]
    stage.operator.start_controller()
    status = stage.wait_phase(name, "Failed", "Reverted")
    (end,) = [update["text"] for update in status["updates"] if update["key"] == "end"]
    assert f"revision 2 ({BROKEN_IMAGE}) was brought back" in end
    stage.wait_status(name, lambda found: condition(found, "Held") is not None, "held")
    assert len(stage.patches()) == 1
    assert stage.images() == [BROKEN_IMAGE]


def test_killed_between_claim_and_patch_six_hours_later_it_is_too_late(stage: Stage) -> None:
    incident = stage.declare()
    name = claimed(stage, incident)
    stage.operator.kill_controller()
    stage.let_patches()
    generation = stage.deployment()["metadata"]["generation"]
    stage.operator.start_controller(ahead=SIX_HOURS)
    status = stage.wait_phase(name, "Refused", "Expired")
    stage.wait_settled(name)
    assert stage.patches() == []
    assert stage.images() == [BROKEN_IMAGE]
    assert stage.deployment()["metadata"]["generation"] == generation
    assert "patchedAt" not in status
    last = stage.notes(incident)[-1]
    assert "Nothing was changed" in last
    assert "run the step again" in last


# --- Back from the dead


@pytest.fixture(params=["left as it was", "the bad release is back"])
def done(stage: Stage, request: pytest.FixtureRequest) -> tuple[Stage, str]:
    """A settled rollback, by the name of its resource, with what happened to the workload since."""
    stage.break_it()
    name = stage.ask()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    stage.wait_complete()
    if request.param == "the bad release is back":
        stage.break_it()
    return stage, name


def test_deleted_and_made_again_it_was_requested_already(done: tuple[Stage, str]) -> None:
    stage, name = done
    images, old = stage.images(), stage.rollback(name)
    stage.delete_request(name)
    body = {
        **{key: old[key] for key in ("apiVersion", "kind", "spec")},
        "metadata": {"name": name, "namespace": HOME_NAMESPACE},
    }
    new = stage.sandbox.api.create(path_to(API_VERSION, ROLLBACKS, HOME_NAMESPACE), body)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    status = stage.wait_phase(name, "Refused", "AlreadyRequested")
    stage.wait_settled(name)
    assert "claimedAt" not in status
    assert len(stage.patches()) == 1
    assert stage.images() == images


def test_restored_without_its_status_it_was_requested_already(done: tuple[Stage, str]) -> None:
    """The same object, with its uid: our own trace on the workload is what is left."""
    stage, name = done
    images, old = stage.images(), stage.rollback(name)
    stage.sandbox.api.replace(stage.path_of(name, "status"), {**old, "status": {}})
    status = stage.wait_phase(name, "Refused", "AlreadyRequested")
    stage.wait_settled(name)
    assert "claimedAt" not in status
    assert len(stage.patches()) == 1
    assert stage.images() == images


def test_deleted_in_mid_rollout_it_says_goodbye(set_stage: SetStage) -> None:
    """Nobody watches over the workload any more: the incident and the workload say so."""
    stage = set_stage(policy=VERY_CALM)
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_patch()
    stage.wait_told(incident, r"^Rolling checkout")
    stage.delete_request(name)
    note = stage.wait_told(incident, "was deleted after the template was restored").text
    assert "--to-revision 2" in note
    assert note.endswith(f"({name})")
    event = stage.wait_event(stage.name, "RollbackUnwatched")
    assert event["type"] == "Warning"
    assert event["involvedObject"]["uid"] == stage.deployment()["metadata"]["uid"]
    assert len(stage.patches()) == 1
    assert stage.images() == [GOOD_IMAGE]
