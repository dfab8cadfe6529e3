"""
What the cluster would say to the patch is asked before anything is claimed.

The policies are the API server's own (ValidatingAdmissionPolicy, MutatingAdmissionPolicy); each is
for one namespace.
"""

from contextlib import AbstractContextManager
from typing import Final

import pytest

from tests.e2e.admission import (
    BY_US,
    CHANGES,
    DRY_RUN,
    FIELD_MANAGER,
    a_policy,
    an_absent_webhook,
    here,
    in_force,
    is_away,
    webhook_path,
)
from tests.e2e.conftest import SetStage
from tests.e2e.stage import Stage, condition
from tests.sandbox.api import ApiError, Json, path_to
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import APPS, GOOD_IMAGE, a_deployment, images_of, revision_of

BETTER_IMAGE: Final = "nginx:1.20.0"


def a_policy_against(stage: Stage, image: str) -> AbstractContextManager[None]:
    """Forbid an image in the stage's Deployments, as soon as the API server obeys."""
    expression = f"object.spec.template.spec.containers.all(c, c.image != '{image}')"
    spec = {
        "matchConstraints": {
            "resourceRules": [CHANGES],
            "namespaceSelector": here(stage.namespace),
        },
        "validations": [{"expression": expression, "message": f"{image} is not signed"}],
    }
    return in_force(
        stage.sandbox.api,
        a_policy("validating", stage.namespace, spec, {"validationActions": ["Deny"]}),
        lambda: is_refused(stage, image),
        f"the API server to refuse {image}",
    )


def is_refused(stage: Stage, image: str) -> bool:
    body = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    try:
        stage.sandbox.api.patch(path, body, "json", dryRun="All")
    except ApiError as error:
        return "is not signed" in str(error)
    return False


@pytest.mark.scenario("P10")
def test_what_a_policy_refuses_is_refused_before_anything_is_claimed(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    with a_policy_against(stage, GOOD_IMAGE):
        name = stage.ask(incident=incident)
        status = stage.wait_phase(name, "Refused", "Rejected")
        stage.wait_settled(name)
    assert not {"claimedAt", "patchedAt"} & status.keys()
    assert stage.images() == [BROKEN_IMAGE]
    assert stage.attempts() == []
    (note,) = stage.notes(incident)
    assert f"{GOOD_IMAGE} is not signed" in note
    assert "Nothing was changed." in note


@pytest.mark.scenario("P10")
def test_what_was_asked_for_by_name_is_refused_by_the_policys_words(stage: Stage) -> None:
    stage.break_it()
    with a_policy_against(stage, GOOD_IMAGE):
        name = stage.ask("ours", to_revision=1)
        status = stage.wait_phase(name, "Refused", "Rejected")
    ready = condition(status, "Ready")
    assert ready is not None
    assert "revision 1: " in ready["message"]
    assert f"{GOOD_IMAGE} is not signed" in ready["message"]
    assert stage.attempts() == []


@pytest.mark.scenario("P10")
def test_a_policy_refuses_the_best_and_the_next_that_serves_is_taken(set_stage: SetStage) -> None:
    """
    Three revisions at once: 1 serves with two pods, 2 with one, and 3 is the bad one.

    A pod of revision 2 wants a port of the node, and there is one node: the second cannot start.
    """
    gently = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    stage = set_stage(a_deployment(strategy=gently))
    deploy(stage, {"image": BETTER_IMAGE, "ports": [{"containerPort": 80, "hostPort": 80}]})
    wait_for(lambda: serving(stage) == {1: 2, 2: 1}, "one pod of revision 2 to serve")
    deploy(stage, {"image": BROKEN_IMAGE})
    stage.wait_broken()
    assert serving(stage) == {1: 2, 2: 1, 3: 0}
    incident = stage.declare()
    with a_policy_against(stage, BETTER_IMAGE):
        name = stage.ask(incident=incident)
        status = stage.wait_phase(name, "Succeeded", "RolledBack")
        stage.wait_settled(name)
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.attempts()) == 1
    found = {c["revision"]: (c["verdict"], c["why"]) for c in status["candidates"]}
    assert found[1] == ("Chosen", "2 pods of it still serve")
    assert found[2][0] == "PassedOver"
    assert f"{BETTER_IMAGE} is not signed" in found[2][1]
    assert f"{BETTER_IMAGE} is not signed" in stage.notes(incident)[0]


def deploy(stage: Stage, container: dict[str, object]) -> None:
    """Deploy a container in place of the one that is there."""
    before = revision_of(stage.deployment())
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    whole = [{"name": "app", **container}]
    template = {"spec": {"template": {"spec": {"containers": whole}}}}
    stage.sandbox.api.patch(path, template, "merge")
    wait_for(lambda: revision_of(stage.deployment()) != before, "a new revision")


def serving(stage: Stage) -> dict[int, int]:
    """Return how many pods of each revision are available."""
    found = stage.sandbox.workloads.replica_sets(stage.namespace, stage.name)
    return {revision_of(rs): rs["status"].get("availableReplicas", 0) for rs in found}


# --- No answer, and another one


@pytest.mark.scenario("P11")
def test_a_webhook_that_cannot_answer_a_dry_run_refuses_nothing(stage: Stage) -> None:
    """It is said that the patch could not be tried; for real the webhook is not in the way."""
    stage.break_it()
    with no_dry_runs(stage):
        status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    evidence = status["to"]["evidence"]
    assert evidence.startswith("3 pods of it still serve; not tried: ")
    assert "dry-runs.example.com" in evidence
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


def no_dry_runs(stage: Stage) -> AbstractContextManager[None]:
    """Have a webhook that is asked about dry runs alone, and is away."""
    webhook = an_absent_webhook("dry-runs", stage.namespace, CHANGES, DRY_RUN)
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    return in_force(
        stage.sandbox.api,
        {webhook_path(webhook["metadata"]["name"]): webhook},
        lambda: is_away(lambda: stage.sandbox.api.patch(path, {}, dryRun="All")),
        "the API server to ask the webhook",
    )


@pytest.mark.scenario("P12")
def test_what_would_change_nothing_is_refused_before_anything_is_claimed(stage: Stage) -> None:
    """Admission keeps the image that runs, whatever the patch says."""
    stage.break_it()
    incident = stage.declare()
    with the_image_kept(stage):
        name = stage.ask(incident=incident)
        status = stage.wait_phase(name, "Refused", "Rejected")
        stage.wait_settled(name)
    assert not {"claimedAt", "patchedAt"} & status.keys()
    assert stage.images() == [BROKEN_IMAGE]
    assert stage.attempts() == []
    (note,) = stage.notes(incident)
    assert "admission would make another template of it" in note
    assert "Nothing was changed." in note


def the_image_kept(stage: Stage) -> AbstractContextManager[None]:
    """Have the operator's writes changed on their way: the image stays what it was."""
    kept = (
        '[JSONPatch{op: "replace", path: "/spec/template/spec/containers/0/image", '
        "value: oldObject.spec.template.spec.containers[0].image}]"
    )
    spec: Json = {
        "matchConstraints": {
            "resourceRules": [CHANGES],
            "namespaceSelector": here(stage.namespace),
        },
        "matchConditions": [BY_US],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": kept}}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
    }
    return in_force(
        stage.sandbox.api,
        a_policy("mutating", stage.namespace, spec),
        lambda: is_kept(stage),
        "the API server to keep the image",
    )


def is_kept(stage: Stage) -> bool:
    body = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "other:1"}]
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    answer = stage.sandbox.api.patch(path, body, "json", dryRun="All", fieldManager=FIELD_MANAGER)
    return images_of(answer) == [BROKEN_IMAGE]
