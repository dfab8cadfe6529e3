"""
What the incident reads of pods that are not well, for each way in which a pod can be unwell.

Most of it the pretended kubelet plays; what it cannot play is said for it, in a pod's status.  In
all of this a rollback helps, and there is one patch.
"""

from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import Stage
from tests.sandbox.api import Json, path_to
from tests.sandbox.simulation import TERMINATED, WAITING
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, a_deployment, waiting_reasons

NEWER_IMAGE: Final = "nginx:1.19.0"
INIT: Final = "migrate"
BEFORE: Final = "2026-01-01T00:00:00Z"
ALL_BESIDE: Final = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
"""The new pods come all at once, beside the old ones."""


def release(stage: Stage, annotations: Json | None = None, **spec: object) -> None:
    """Deploy another image, whose pods behave as the annotations say."""
    container = {"name": "app", "image": NEWER_IMAGE}
    template = {
        "metadata": {"annotations": annotations or {}},
        "spec": {"containers": [container], **spec},
    }
    stage.sandbox.workloads.patch_template(stage.namespace, stage.name, template)
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 2)


def new_pods(stage: Stage) -> list[Json]:
    return stage.sandbox.workloads.pods(stage.namespace, stage.name, revision=2)


def new_pod(stage: Stage) -> Json:
    """Return the one pod of the release, once it is there."""
    return wait_for(lambda: new_pods(stage), "a pod of the release")[0]


def wait_until_waiting(stage: Stage, reason: str, pods: int = 1) -> None:
    stage.sandbox.workloads.wait_waiting(stage.namespace, stage.name, reason, pods=pods)


def evidence(stage: Stage) -> str:
    """Have it rolled back, and return what was seen of the release; the incident reads the same."""
    incident = stage.declare()
    status = stage.wait_phase(stage.ask(incident=incident), "Succeeded", "RolledBack")
    said: str = status["from"]["evidence"]
    assert f"(revision 2): {said}" in stage.wait_told(incident, "^Rolling ").text
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1
    return said


def say(stage: Stage, pod: Json, status: Json) -> None:
    """Write a part of a pod's status, as its kubelet would."""
    path = path_to("v1", "pods", stage.namespace, pod["metadata"]["name"], "status")
    stage.sandbox.api.patch(path, {"status": status}, "strategic")


# --- Init containers


def ended(code: int) -> Json:
    reason = "Error" if code else "Completed"
    return {"exitCode": code, "reason": reason, "startedAt": BEFORE, "finishedAt": BEFORE}


LOOPING: Final = {
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": ended(3)},
    "restartCount": 4,
}
GONE: Final = {"state": {"terminated": ended(0)}, "restartCount": 0}
INIT_CONTAINERS: Final = [
    pytest.param({}, LOOPING, "CrashLoopBackOff (exit code 3)", " --previous", id="D2 it loops"),
    pytest.param(
        {"restartPolicy": "Always"},
        GONE,
        "Completed (exit code 0)",
        "",
        id="D2 it is to keep running, and ends",
    ),
]


@pytest.mark.parametrize(("how", "status", "says", "flag"), INIT_CONTAINERS)
def test_an_init_container_is_named_and_not_the_one_that_waits_for_it(
    stage: Stage, how: Json, status: Json, says: str, flag: str
) -> None:
    init = {"name": INIT, "image": "migrate:1", **how}
    release(stage, {WAITING: "PodInitializing"}, initContainers=[init])
    wait_until_waiting(stage, "PodInitializing")
    pod = new_pod(stage)
    named = {"name": INIT, "image": "migrate:1", "imageID": "", "ready": False, **status}
    say(stage, pod, {"initContainerStatuses": [named]})
    name = pod["metadata"]["name"]
    assert evidence(stage) == (
        f"1 of 1 pod in {says}, e.g. pod {name}, container {INIT} "
        f"(kubectl logs {name} -c {INIT} -n {stage.namespace}{flag})"
    )


# --- The container itself


@pytest.mark.scenario("D3")
def test_what_was_killed_for_its_memory_says_so_and_not_that_it_loops(stage: Stage) -> None:
    release(stage, {TERMINATED: "OOMKilled"})
    wait_until_waiting(stage, "CrashLoopBackOff")
    name = new_pod(stage)["metadata"]["name"]
    assert evidence(stage) == (
        f"1 of 1 pod in OOMKilled (exit code 137), e.g. pod {name}, container app "
        f"(kubectl logs {name} -c app -n {stage.namespace} --previous)"
    )


@pytest.mark.scenario("D8")
def test_reasons_that_alternate_count_as_one(set_stage: SetStage) -> None:
    """A pull that fails, and one that is yet to be tried again."""
    stage = set_stage(a_deployment(replicas=2, strategy=ALL_BESIDE))
    release(stage, {WAITING: "ErrImagePull"})
    wait_until_waiting(stage, "ErrImagePull", pods=2)
    pod, other = new_pods(stage)
    (status,) = pod["status"]["containerStatuses"]
    status["state"]["waiting"]["reason"] = "ImagePullBackOff"
    say(stage, pod, {"containerStatuses": [status]})
    assert sorted(waiting_reasons(new_pods(stage))) == ["ErrImagePull", "ImagePullBackOff"]
    lead, _, shown = evidence(stage).partition(", e.g. pod ")
    assert lead == "2 of 2 pods in ImagePullBackOff"
    assert shown.startswith((pod["metadata"]["name"], other["metadata"]["name"]))


@pytest.mark.scenario("D10")
def test_a_reason_that_nobody_knows_is_repeated_and_its_message_is_not(stage: Stage) -> None:
    """Its words may be anybody's: the pretended kubelet says `simulated`."""
    release(stage, {WAITING: "FluxCapacitorMissing"})
    wait_until_waiting(stage, "FluxCapacitorMissing")
    name = new_pod(stage)["metadata"]["name"]
    assert evidence(stage) == (
        f"1 of 1 pod in FluxCapacitorMissing, e.g. pod {name}, container app "
        f"(kubectl describe pod {name} -n {stage.namespace})"
    )


# --- No place to run


def wait_unscheduled(stage: Stage, reason: str) -> Json:
    """Wait until the scheduler has said why the pod has no node; return the pod."""

    def says() -> str:
        conditions: list[Json] = new_pod(stage)["status"].get("conditions", [])
        return next((c["reason"] for c in conditions if c["type"] == "PodScheduled"), "")

    wait_for(lambda: says() == reason, f"the scheduler to say {reason}", seen=says)
    return new_pod(stage)


@pytest.mark.scenario("D4")
def test_what_no_node_has_room_for_is_said_in_the_schedulers_words(stage: Stage) -> None:
    release(stage, resources={"requests": {"cpu": "1000"}})
    pod = wait_unscheduled(stage, "Unschedulable")
    name = pod["metadata"]["name"]
    said = evidence(stage)
    # The scheduler's Event may stand between.
    shown = f"1 of 1 pod in Unschedulable, e.g. pod {name}: '0/1 nodes are available: "
    assert said.startswith(shown)
    assert "Insufficient cpu" in said
    assert said.endswith(f" (kubectl describe pod {name} -n {stage.namespace})")


@pytest.mark.scenario("D4")
def test_a_pod_that_is_gated_waits_on_purpose(stage: Stage) -> None:
    """Nothing is known to be wrong with it, so nothing is shown."""
    release(stage, schedulingGates=[{"name": "example.com/not-yet"}])
    wait_unscheduled(stage, "SchedulingGated")
    assert evidence(stage) == "0 of 1 pod ready"
