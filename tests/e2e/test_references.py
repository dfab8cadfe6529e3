"""
What a revision needs beside its template is gone, has changed, or may not be looked at.

The pretended kubelet starts pods without any of it, so what is told of here comes from us alone.
"""

import base64
import secrets
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import CONTROLLER_USER, TARGET_ROLE, Stage, condition
from tests.sandbox.api import Json, path_to
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, OLDER_IMAGE, a_deployment

KEYS: Final = {"secretRef": {"name": "keys"}}
SETTINGS: Final = {"configMapRef": {"name": "settings"}}
GONE: Final = "it needs Secret keys, gone by now"


def in_need_of(*sources: Json, image: str = GOOD_IMAGE) -> Json:
    """Return a Deployment whose pods take all their env from these."""
    deployment = a_deployment(image=image)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["envFrom"] = list(sources)
    return deployment


def make(sandbox: Sandbox, namespace: str, plural: str, name: str, **content: str) -> None:
    key = "stringData" if plural == "secrets" else "data"
    sandbox.api.create(path_to("v1", plural, namespace), {"metadata": {"name": name}, key: content})


def prune(stage: Stage, plural: str, name: str) -> None:
    stage.sandbox.api.delete(path_to("v1", plural, stage.namespace, name))


def deploy_in_need_of(stage: Stage, source: Json, image: str = GOOD_IMAGE) -> None:
    """Deploy a release that needs this, and wait until it is healthy."""
    container = {"name": "app", "image": image, "envFrom": [source]}
    stage.sandbox.workloads.patch_template(
        stage.namespace, stage.name, {"spec": {"containers": [container]}}
    )
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 2)
    stage.wait_complete()


@pytest.mark.scenario("P7")
def test_the_newest_one_needs_a_secret_that_was_pruned_the_older_one_is_taken(
    set_stage: SetStage,
) -> None:
    """Three pods of it still serve; new ones would not start."""
    stage = set_stage(a_deployment(image=OLDER_IMAGE))
    make(stage.sandbox, stage.namespace, "secrets", "keys", password="hunter2")
    deploy_in_need_of(stage, KEYS)
    stage.break_it()
    prune(stage, "secrets", "keys")
    incident = stage.declare()
    status = stage.wait_phase(stage.ask(incident=incident), "Succeeded", "RolledBack")
    assert (status["from"]["revision"], status["to"]["revision"]) == (3, 1)
    found = {c["revision"]: (c["verdict"], c["why"]) for c in status["candidates"]}
    assert found[2] == ("PassedOver", GONE)
    assert found[1][0] == "Chosen"
    assert stage.images() == [OLDER_IMAGE]
    assert len(stage.patches()) == 1
    first = stage.wait_told(incident, "^Rolling ").text
    assert f"Passed over: revision 2 ({GONE})." in first


@pytest.mark.scenario("P7")
def test_nothing_is_left_that_could_start_and_what_is_gone_is_named(set_stage: SetStage) -> None:
    stage = set_stage(in_need_of(KEYS))
    stage.break_it()
    incident = stage.declare()
    stage.wait_phase(stage.ask(incident=incident), "Refused", "NothingToRollBackTo")
    note = stage.wait_told(incident, "Nothing was changed").text
    assert f"no revision that is left can be trusted (revision 1: {GONE})" in note
    assert "Next: bring back Secret keys and ask again, or name one yourself" in note
    assert stage.attempts() == []


@pytest.mark.scenario("P7")
def test_one_that_is_asked_for_by_number_and_cannot_start_waits_for_an_approval(
    set_stage: SetStage,
) -> None:
    stage = set_stage(in_need_of(SETTINGS))
    stage.break_it()
    to = {"revision": 1}
    status = stage.wait_phase(stage.request({"to": to}), "Refused", "ApprovalRequired")
    ready = condition(status, "Ready")
    assert ready is not None
    assert "revision 1 needs ConfigMap settings, gone by now" in ready["message"]
    assert stage.attempts() == []
    approved = stage.request({"to": to, "planDigest": status["plan"]["digest"]})
    status = stage.wait_phase(approved, "Succeeded", "RolledBack")
    assert "ConfigMap settings gone by now" in status["to"]["evidence"]
    assert len(stage.patches()) == 1


@pytest.mark.scenario("P8")
def test_configuration_that_was_changed_after_the_target_was_live_is_said(
    sandbox: Sandbox, namespace: str, set_stage: SetStage
) -> None:
    make(sandbox, namespace, "configmaps", "settings", color="green")
    stage = set_stage(in_need_of(SETTINGS))
    stage.break_it()
    change_after_the_first_release(stage)
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    said = "ConfigMap settings changed when it was replaced or later, so it runs with what is there"
    first, *_, last = stage.notes(incident)
    assert said in first
    assert said in last


def change_after_the_first_release(stage: Stage) -> None:
    """Change the ConfigMap until that is a second after revision 1 began: times are whole."""
    workloads = stage.sandbox.workloads
    first, *_ = workloads.replica_sets(stage.namespace, stage.name)
    created = str(first["metadata"]["creationTimestamp"])
    path = path_to("v1", "configmaps", stage.namespace, "settings")

    def is_later() -> bool:
        changed = stage.sandbox.api.patch(path, {"data": {"color": secrets.token_hex(4)}})
        times = [str(entry["time"]) for entry in changed["metadata"]["managedFields"]]
        return max(times) > created

    wait_for(is_later, "a change of the ConfigMap that is later than revision 1")


@pytest.mark.scenario("P8")
def test_configuration_that_nobody_changed_is_not_mentioned(
    sandbox: Sandbox, namespace: str, set_stage: SetStage
) -> None:
    make(sandbox, namespace, "configmaps", "settings", color="green")
    stage = set_stage(in_need_of(SETTINGS))
    stage.break_it()
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert status["to"]["evidence"] == "3 pods of it still serve"


@pytest.mark.scenario("P9")
def test_the_same_images_are_said_before_and_after(stage: Stage) -> None:
    """Only the environment of the containers was broken; whether a tag moved nobody can tell."""
    container = {"name": "app", "env": [{"name": "MODE", "value": "broken"}]}
    annotations = {"simulate/waiting": "CreateContainerConfigError"}
    stage.sandbox.workloads.patch_template(
        stage.namespace,
        stage.name,
        {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}},
    )
    stage.sandbox.workloads.wait_waiting(stage.namespace, stage.name, "CreateContainerConfigError")
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    first, *_, last = stage.notes(incident)
    assert "Both name the same images" in first
    assert "Both name the same images" in last


def test_of_a_secret_nothing_but_metadata_is_ever_read(
    sandbox: Sandbox, namespace: str, set_stage: SetStage
) -> None:
    """The API server's audit log has each answer whole."""
    password = secrets.token_hex(16)
    make(sandbox, namespace, "secrets", "keys", password=password)
    make(sandbox, namespace, "configmaps", "settings", password=password)
    stage = set_stage(in_need_of(KEYS, SETTINGS))
    stage.break_it()
    stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    looked = [
        record
        for record in sandbox.settled_audit().records(stage.since)
        if record.user == CONTROLLER_USER and record.resource in ("secrets", "configmaps")
    ]
    assert {(r.verb, r.resource, r.name) for r in looked} == {
        ("get", "secrets", "keys"),
        ("get", "configmaps", "settings"),
    }
    assert {record.response_object["kind"] for record in looked} == {"PartialObjectMetadata"}
    told = " ".join(str(record.response_object) for record in looked)
    assert password not in told
    assert base64.b64encode(password.encode()).decode() not in told


def test_a_secret_that_may_not_be_looked_at_is_no_obstacle_and_is_said(
    sandbox: Sandbox, namespace: str, set_stage: SetStage
) -> None:
    make(sandbox, namespace, "secrets", "keys", password="hunter2")
    stage = set_stage(in_need_of(KEYS))
    stage.break_it()
    forbid_secrets(stage)
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert status["to"]["evidence"] == "3 pods of it still serve; could not look at Secret keys"


def forbid_secrets(stage: Stage) -> None:
    """Take the line out of the Role, as its comment offers."""
    path = path_to("rbac.authorization.k8s.io/v1", "roles", stage.namespace, TARGET_ROLE)
    role = stage.sandbox.api.get(path)
    role["rules"] = [rule for rule in role["rules"] if rule["resources"] != ["secrets"]]
    stage.sandbox.api.replace(path, role)
    attributes = {"namespace": stage.namespace, "verb": "get", "resource": "secrets"}
    review = {"spec": {"user": CONTROLLER_USER, "resourceAttributes": attributes}}
    reviews = path_to("authorization.k8s.io/v1", "subjectaccessreviews")
    wait_for(
        lambda: not stage.sandbox.api.create(reviews, review)["status"]["allowed"],
        "the right to look at Secrets to be gone",
    )
