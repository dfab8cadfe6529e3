"""
Histories that mislead: many releases, broken numbers, strangers and doubles among the ReplicaSets.

Each could be taken for what to go back to, and that would be a wrong or a needless rollback.
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import Stage
from tests.sandbox.api import Json, path_to
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import (
    APPS,
    GOOD_IMAGE,
    OLDER_IMAGE,
    REVISION,
    a_deployment,
    revision_of,
)

STRANGE_IMAGE: Final = "nginx:1.16.0"
HASH_LABEL: Final = "pod-template-hash"
FINALIZER: Final = "example.com/not-yet"
NO_PODS: Final = 0


def see_chosen(status: Json, verdicts: Mapping[int, str]) -> None:
    """See which revisions were candidates, and what became of each."""
    assert {c["revision"]: c["verdict"] for c in status["candidates"]} == verdicts
    (chosen,) = [number for number, verdict in verdicts.items() if verdict == "Chosen"]
    assert status["to"]["revision"] == chosen


def replica_set_of(stage: Stage, revision: int) -> Json:
    """Return the one ReplicaSet of the Deployment that has this number."""
    found = stage.sandbox.workloads.replica_sets(stage.namespace, stage.name)
    (one,) = [replica_set for replica_set in found if revision_of(replica_set) == revision]
    return one


def hash_of(replica_set: Json) -> str:
    found: str = replica_set["metadata"]["labels"][HASH_LABEL]
    return found


def path_of(stage: Stage, replica_set: str | None = None) -> str:
    return path_to(APPS, "replicasets", stage.namespace, replica_set)


# --- Numbers


@pytest.mark.scenario("S6")
def test_of_eleven_releases_the_tenth_is_gone_back_to_and_not_the_ninth(
    set_stage: SetStage,
) -> None:
    """Without pods nothing but the numbers speaks for one of them; as words, 9 is above 10."""
    stage = set_stage(a_deployment(image="nginx:1.0.1", replicas=NO_PODS))
    for release in range(2, 12):
        stage.deploy(f"nginx:1.0.{release}")
    stage.wait_complete()
    status = stage.wait_phase(stage.ask(), "Succeeded", "Unproven")
    assert status["from"]["revision"] == 11
    see_chosen(status, {10: "Chosen", **dict.fromkeys(range(1, 10), "PassedOver")})
    assert stage.images() == ["nginx:1.0.10"]
    assert len(stage.patches()) == 1


NUMBERS: Final = [
    pytest.param(None, id="S7 the number is missing"),
    pytest.param("two", id="S7 the number is garbage"),
]


@pytest.mark.parametrize("number", NUMBERS)
def test_what_has_no_number_is_no_candidate(set_stage: SetStage, number: str | None) -> None:
    """Although its pods serve: nobody can tell when it was live."""
    stage = set_stage(a_deployment(image=OLDER_IMAGE))
    stage.deploy(GOOD_IMAGE)
    stage.wait_complete()
    stage.break_it()
    name = replica_set_of(stage, 2)["metadata"]["name"]
    stage.sandbox.api.patch(path_of(stage, name), {"metadata": {"annotations": {REVISION: number}}})
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert status["from"]["revision"] == 3
    see_chosen(status, {1: "Chosen"})
    assert stage.images() == [OLDER_IMAGE]
    assert len(stage.patches()) == 1


# --- Whose ReplicaSets they are


@pytest.mark.scenario("S8")
def test_orphans_and_what_belongs_to_others_are_no_candidates(stage: Stage) -> None:
    """They match the selector, have higher numbers, and a pod of one of them serves."""
    stage.break_it()
    make_an_orphan(stage, "orphan", number=7)
    make_a_foreign_one(stage, "foreign", number=8)
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    see_chosen(status, {1: "Chosen"})
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


def make_an_orphan(stage: Stage, name: str, *, number: int) -> None:
    """
    Make a ReplicaSet without an owner that matches the Deployment's selector.

    The Deployment would adopt it, but for what is being deleted: so it is, and only then matches.
    """
    body = a_replica_set(stage, name, number=number)
    body["metadata"].update(labels={}, finalizers=[FINALIZER])
    stage.sandbox.api.create(path_of(stage), body)
    stage.sandbox.api.delete(path_of(stage, name))
    labels = {"metadata": {"labels": {"app": stage.name}}}
    orphan = stage.sandbox.api.patch(path_of(stage, name), labels)
    assert "ownerReferences" not in orphan["metadata"]


def make_a_foreign_one(stage: Stage, name: str, *, number: int) -> None:
    """Make a ReplicaSet that matches the selector and has another owner; wait for its pod."""
    path = path_to("v1", "configmaps", stage.namespace)
    owner = stage.sandbox.api.create(path, {"metadata": {"name": "the-owner"}})
    body = a_replica_set(stage, name, number=number, replicas=1)
    body["metadata"]["ownerReferences"] = [owned_by("v1", "ConfigMap", owner)]
    stage.sandbox.api.create(path_of(stage), body)
    wait_for(
        lambda: stage.sandbox.api.get(path_of(stage, name))["status"].get("availableReplicas"),
        f"a pod of {name} to serve",
    )


def a_replica_set(stage: Stage, name: str, *, number: int, replicas: int = NO_PODS) -> Json:
    """Return a ReplicaSet that could be one of the Deployment's, but for an owner."""
    labels = {"app": stage.name, HASH_LABEL: name}
    return {
        "metadata": {"name": name, "labels": labels, "annotations": {REVISION: str(number)}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": STRANGE_IMAGE}]},
            },
        },
    }


def owned_by(api_version: str, kind: str, owner: Json) -> Json:
    metadata = owner["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }


# --- Equal templates


@pytest.mark.scenario("S9")
def test_of_equal_templates_the_one_whose_pods_serve_counts(stage: Stage) -> None:
    """Its double has a higher number, and no pods."""
    stage.break_it()
    stage.sandbox.workloads.set_template_annotation(
        stage.namespace, stage.name, "release", "hotfix"
    )
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 3)
    good = replica_set_of(stage, 1)
    make_a_double(stage, good, "double", number=2)
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    see_chosen(status, {2: "PassedOver", 1: "Chosen"})
    assert status["to"]["podTemplateHash"] == hash_of(good)
    see_taken_up(stage, good)


@pytest.mark.scenario("S9")
def test_of_equal_templates_without_pods_the_oldest_counts_as_it_does_for_kubernetes(
    set_stage: SetStage,
) -> None:
    """Its double, made a second later, comes first by name."""
    stage = set_stage(a_deployment(replicas=NO_PODS))
    good = replica_set_of(stage, 1)
    stage.deploy(BROKEN_IMAGE)
    wait_for_a_second_after(good["metadata"]["creationTimestamp"])
    make_a_double(stage, good, "a-double", number=1)
    status = stage.wait_phase(stage.ask(), "Succeeded", "Unproven")
    see_chosen(status, {1: "Chosen"})
    assert status["to"]["podTemplateHash"] == hash_of(good)
    see_taken_up(stage, good)


def make_a_double(stage: Stage, of: Json, name: str, *, number: int) -> None:
    """Give the Deployment another ReplicaSet with the template of one that it has."""
    body = a_replica_set(stage, name, number=number)
    template = copy.deepcopy(of["spec"]["template"])
    template["metadata"]["labels"][HASH_LABEL] = name
    body["spec"]["template"] = template
    body["metadata"]["ownerReferences"] = [owned_by(APPS, "Deployment", stage.deployment())]
    stage.sandbox.api.create(path_of(stage), body)


def wait_for_a_second_after(moment: str) -> None:
    """Times of creation have whole seconds: within one nobody could say which is the oldest."""
    later = datetime.fromisoformat(moment) + timedelta(seconds=1)
    wait_for(lambda: datetime.now(UTC) > later, "the clock to show another second")


def see_taken_up(stage: Stage, replica_set: Json) -> None:
    """See that by one patch of ours this ReplicaSet, and not its double, is live again."""
    stage.wait_complete()
    live = replica_set_of(stage, revision_of(stage.deployment()))
    assert live["metadata"]["uid"] == replica_set["metadata"]["uid"]
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


# --- Null, empty and absent


@pytest.mark.scenario("S10")
def test_what_differs_by_an_empty_field_alone_is_nothing_to_go_back_to(stage: Stage) -> None:
    """
    Kubernetes makes a revision of it, for an empty object is something there.

    `kubectl rollout undo` would replace all pods by ones that are the same.
    """
    write_fields(stage, {"securityContext": {}})
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 2)
    stage.wait_complete()
    stage.crash()
    stage.wait_broken(pods=3)
    status = stage.wait_phase(stage.ask(), "Refused", "NothingToRollBackTo")
    assert status.get("candidates", []) == []
    assert stage.attempts() == []


@pytest.mark.scenario("S10")
def test_a_release_with_nulls_and_empty_fields_is_the_one_before_it(stage: Stage) -> None:
    """Two revisions of one release: the newer one is gone back to, and the other is not named."""
    write_fields(stage, {"securityContext": {}, "env": [], "envFrom": None, "lifecycle": None})
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 2)
    stage.wait_complete()
    stage.break_it()
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert status["from"]["revision"] == 3
    see_chosen(status, {2: "Chosen"})
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


def write_fields(stage: Stage, fields: Mapping[str, Any]) -> None:
    """Deploy the same container with more fields, to the letter."""
    template = copy.deepcopy(stage.deployment()["spec"]["template"])
    (container,) = template["spec"]["containers"]
    container.update(fields)
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    step = {"op": "replace", "path": "/spec/template", "value": template}
    stage.sandbox.api.patch(path, [step], "json")
