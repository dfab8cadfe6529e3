"""
After the patch: slow, failing, scaled, overtaken, reverted; and what of the workload is left alone.

Whatever comes of it, there is one patch: nothing more is ever tried.
"""

import copy
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import CONTROLLER_USER, Stage, condition, keys_of, reason_of
from tests.sandbox.api import Json, path_to
from tests.sandbox.audit import AuditRecord
from tests.sandbox.simulation import BROKEN_IMAGE, READY_AFTER, WAITING
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import (
    APPS,
    GOOD_IMAGE,
    HURTING,
    RECREATE,
    a_deployment,
    revision_of,
)

NEWER_IMAGE: Final = "nginx:1.19.0"
MARKER: Final = "incidentrollback.dev/request"
REVISION: Final = "deployment.kubernetes.io/revision"
CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
ADMIN: Final = "sandbox"
"""What the people of these tests are called in managedFields."""
KUBECTL: Final = "kubectl"

NO_HOLD: Final = {"stableSeconds": 0, "holdSeconds": 0}
VERY_CALM: Final = {"stableSeconds": 600, "holdSeconds": 0}
"""Long enough to do something in it; `end_calm` ends it."""
LONG_HOLD: Final = {"stableSeconds": 0, "holdSeconds": 3600}
LOOKS: Final = 3
SHORT_DEADLINE: Final = 4
"""Long enough for a pod to say why it does not start."""
DEADLINE: Final = 10
SLOW_PODS: Final = 6
SLOW: Final = {READY_AFTER: "2s"}
"""A pod alone is well within `DEADLINE`, all of them one after the other are not."""


def deploy_with(stage: Stage, annotations: Json, image: str = NEWER_IMAGE) -> None:
    """Deploy another image whose pods behave as the annotations say; do not wait for them."""
    before = revision_of(stage.deployment())
    name = stage.deployment()["spec"]["template"]["spec"]["containers"][0]["name"]
    template = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": name, "image": image}]},
    }
    stage.sandbox.workloads.patch_template(stage.namespace, stage.name, template)
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, before + 1)


def touch(stage: Stage, name: str, value: str = "") -> None:
    """Change something that means nothing: the controller hears of it, and looks at once."""
    labels = {"metadata": {"labels": {"example.com/touched": f"{value}x"}}}
    stage.sandbox.api.patch(stage.path_of(name), labels)


def see_one_patch(stage: Stage) -> None:
    """See that all that was ever tried is one patch."""
    assert [record.code for record in stage.attempts()] == [200]


def progressing(deployment: Json) -> Json:
    """Return the condition Progressing."""
    found = condition(deployment["status"], "Progressing")
    assert found is not None
    return found


# --- It fails too


@pytest.fixture
def twice_bad(set_stage: SetStage) -> Stage:
    """Revision 1 is good, 2 cannot start, 3 is the bad release; Kubernetes gives up quickly."""
    stage = set_stage(
        a_deployment(replicas=1, progress_deadline_seconds=SHORT_DEADLINE), policy=NO_HOLD
    )
    deploy_with(stage, {WAITING: "CreateContainerConfigError"})
    stage.sandbox.workloads.wait_waiting(stage.namespace, stage.name, "CreateContainerConfigError")
    stage.break_it()
    return stage


@pytest.mark.scenario("V7", "V20")
def test_the_target_fails_too_and_nothing_more_is_tried(twice_bad: Stage) -> None:
    stage, incident = twice_bad, twice_bad.declare()
    name = stage.ask("ours", incident=incident, to_revision=2)
    status = stage.wait_phase(name, "Failed", "ProgressDeadlineExceeded")
    stage.wait_settled(name)
    ready, stalled = condition(status, "Ready"), condition(status, "Stalled")
    assert ready is not None
    assert stalled is not None
    assert "1 of 1 pod in CreateContainerConfigError" in ready["message"]
    (pod,) = stage.sandbox.workloads.pods(stage.namespace, stage.name, revision=4)
    look = f"kubectl describe pod {pod['metadata']['name']} -n {stage.namespace}"
    assert look in ready["message"]
    assert stage.images() == [NEWER_IMAGE]
    see_one_patch(stage)
    start, end = stage.notes(incident)
    assert start.startswith("Rolling ")
    assert "is not well after the rollback: Kubernetes gave up on the rollout" in end
    assert "1 of 1 pod in CreateContainerConfigError" in end
    again = f"kubectl irb rollback deploy/{stage.name} -n {stage.namespace} --to-revision 1"
    assert f"The next that can be trusted is revision 1 (1 pod of it still serves): {again}" in end
    assert "Nothing more is tried by itself" in end
    assert "To undo this: " in end
    assert [how for _, how in stage.changes(incident).values()] == ["suspect"]


@pytest.mark.scenario("V13")
def test_a_crash_within_the_calm_is_a_failure(set_stage: SetStage) -> None:
    stage = set_stage(a_deployment(replicas=1), policy=VERY_CALM)
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_status(name, lambda found: bool(found.get("healthySince")), "healthy")
    stage.crash()
    status = stage.wait_phase(name, "Failed", "CrashedAfterReady")
    stage.wait_settled(name)
    ready = condition(status, "Ready")
    assert ready is not None
    # The pod says so first: the ReplicaSet may count it for a moment yet.
    said = r"it was healthy, then: [01] of 1 pod available, 1 of 1 pod in CrashLoopBackOff"
    assert re.search(said, ready["message"])
    assert stage.images() == [GOOD_IMAGE]
    see_one_patch(stage)
    assert "it was healthy, then: " in stage.notes(incident)[-1]


def test_a_crash_after_the_calm_is_told_once_and_the_success_stays(set_stage: SetStage) -> None:
    stage = set_stage(a_deployment(replicas=1), policy=LONG_HOLD)
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.crash()
    see_not_held(stage, name, "Crashed")
    *_, news = stage.notes(incident)
    assert "after the rollback: it was healthy, then: 0 of 1 pod available" in news
    assert "Nothing more is done." in news


def see_not_held(stage: Stage, name: str, reason: str) -> None:
    """See that what happened in the hold is told by a condition and one note, and nothing else."""
    touch(stage, name)
    status = stage.wait_settled(name)
    held = condition(status, "Held")
    assert held is not None
    assert (held["status"], held["reason"]) == ("False", reason)
    assert (status["phase"], reason_of(status)) == ("Succeeded", "RolledBack")
    assert keys_of(status) == ["start", "end", "change", "held"]
    see_one_patch(stage)


# --- It takes its time


@pytest.mark.scenario("V1", "V3", "V4", "V5")
def test_slow_pods_that_make_progress_are_waited_for(set_stage: SetStage) -> None:
    """One pod after the other, all together longer than Kubernetes would wait for one."""
    slow = a_deployment(
        replicas=SLOW_PODS,
        strategy=HURTING,
        template_annotations=SLOW,
        progress_deadline_seconds=DEADLINE,
    )
    stage = set_stage(slow, policy=NO_HOLD)
    deploy_with(stage, {READY_AFTER: None})
    stage.wait_complete()
    status = stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    took = seconds_between(status["patchedAt"], status["finishedAt"])
    assert took > DEADLINE
    assert progressing(stage.deployment())["reason"] == "NewReplicaSetAvailable"
    see_one_patch(stage)


def seconds_between(earlier: str, later: str) -> float:
    length = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    return length.total_seconds()


@pytest.mark.scenario("V6")
def test_that_kubernetes_gave_up_on_the_bad_release_is_not_held_against_the_good_one(
    set_stage: SetStage,
) -> None:
    """
    Its verdict stays until some count improves, whatever the template is by then.

    One good pod that is overwhelmed and one bad one: at first nothing improves by the patch.
    """
    stage = set_stage(
        a_deployment(replicas=1, progress_deadline_seconds=SHORT_DEADLINE), policy=NO_HOLD
    )
    stage.break_it()
    set_ready(stage, 1, is_ready=False)
    wait_for(lambda: has_given_up(stage.deployment()), "Kubernetes to give up on the bad release")
    name = stage.ask()
    stage.wait_patch()
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 3)
    wait_watched(stage, name)
    assert has_given_up(stage.deployment())
    set_ready(stage, 3, is_ready=True)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert stage.images() == [GOOD_IMAGE]
    see_one_patch(stage)


def has_given_up(deployment: Json) -> bool:
    return bool(progressing(deployment)["reason"] == "ProgressDeadlineExceeded")


def set_ready(stage: Stage, revision: int, *, is_ready: bool) -> None:
    """Have the only pod of a revision ready or not, as its probe would."""
    (pod,) = stage.sandbox.workloads.pods(stage.namespace, stage.name, revision)
    path = path_to("v1", "pods", stage.namespace, pod["metadata"]["name"], "status")
    ready = {"type": "Ready", "status": str(is_ready)}
    stage.sandbox.api.patch(path, {"status": {"conditions": [ready]}}, "strategic")


def wait_watched(stage: Stage, name: str) -> None:
    """
    Wait until the controller has looked at the workload, and judged what it saw.

    The first of these looks may be of a turn that had begun before; the second is not, and when
    the third is there that turn is over.
    """
    for number in range(LOOKS):
        since = stage.sandbox.audit.mark()
        touch(stage, name, str(number))
        stage.sandbox.audit.wait_for(
            lambda record: is_look(record, stage), f"a look at {stage.name}", since=since
        )


def is_look(record: AuditRecord, stage: Stage) -> bool:
    """Say whether the controller has read the stage's Deployment."""
    what = (record.verb, record.resource, record.namespace, record.name)
    is_it = what == ("get", "deployments", stage.namespace, stage.name)
    return is_it and record.user == CONTROLLER_USER


@pytest.mark.scenario("S11", "V11")
def test_without_replicas_it_is_restored_and_unproven(stage: Stage) -> None:
    stage.break_it()
    stage.sandbox.workloads.scale(stage.namespace, stage.name, 0)
    stage.wait_complete()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    status = stage.wait_phase(name, "Succeeded", "Unproven")
    stage.wait_settled(name)
    ready = condition(status, "Ready")
    assert ready is not None
    assert "0 replicas are wanted" in ready["message"]
    assert f"kubectl scale deploy/{stage.name} -n {stage.namespace}" in ready["message"]
    assert stage.images() == [GOOD_IMAGE]
    assert stage.deployment()["spec"]["replicas"] == 0
    see_one_patch(stage)
    assert "unproven" in stage.notes(incident)[0]
    assert [how for _, how in stage.changes(incident).values()] == ["suspect"]


# --- Others are at work beside it


@pytest.mark.scenario("V10")
def test_paused_midway_it_is_waited_for_until_somebody_resumes_it(set_stage: SetStage) -> None:
    """The good pod is not ready at first, so that the rollout cannot end before it is paused."""
    stage = set_stage(a_deployment(replicas=1), policy=NO_HOLD)
    stage.break_it()
    set_ready(stage, 1, is_ready=False)
    name = stage.ask()
    stage.wait_patch()
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 3)
    stage.sandbox.workloads.pause(stage.namespace, stage.name)
    set_ready(stage, 3, is_ready=True)
    wait_watched(stage, name)
    status = stage.status(name)
    assert (status["phase"], reason_of(status)) == ("RollingBack", "RollingBack")
    stage.sandbox.workloads.resume(stage.namespace, stage.name)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_complete()
    assert stage.images() == [GOOD_IMAGE]
    see_one_patch(stage)


@pytest.mark.scenario("W3", "W13")
def test_scaled_between_claim_and_patch_it_is_patched_by_the_new_generation(stage: Stage) -> None:
    stage.break_it()
    stage.hold_patches()
    name = stage.ask()
    stage.wait_held(name)
    scale(stage, 5)
    generation = stage.deployment()["metadata"]["generation"]
    stage.let_patches()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    refused, *_, patch = stage.attempts()
    assert generation_of(refused) < generation_of(patch) == generation
    assert patch.is_success
    assert len(stage.patches()) == 1
    assert stage.deployment()["spec"]["replicas"] == 5


def generation_of(patch: AuditRecord) -> int:
    """Return the generation that a patch is guarded by."""
    (found,) = [op["value"] for op in patch.request_object if op["path"] == "/metadata/generation"]
    return int(found)


MADE_AGAIN: Final = [
    pytest.param(True, [], id="W4 between claim and patch"),
    pytest.param(False, [200], id="V21 after the patch"),
]


@pytest.mark.parametrize(("is_held", "codes"), MADE_AGAIN)
def test_deleted_and_made_again_it_is_another_workload(
    set_stage: SetStage, is_held: bool, codes: list[int]
) -> None:
    stage = set_stage(policy=VERY_CALM)
    stage.break_it()
    if is_held:
        stage.hold_patches()
    name = stage.ask()
    if is_held:
        stage.wait_held(name)
    else:
        stage.wait_patch()
    # Nobody looks while its ReplicaSets go one by one.
    stage.operator.kill_controller()
    stage.sandbox.workloads.delete(stage.namespace, stage.name)
    made = stage.sandbox.workloads.deploy(a_deployment(namespace=stage.namespace))
    stage.let_patches()
    stage.operator.start_controller()
    status = stage.wait_phase(name, "Failed", "WorkloadGone")
    assert status["target"]["uid"] != made["metadata"]["uid"]
    now = stage.deployment()
    assert now["spec"] == made["spec"]
    assert MARKER not in now["metadata"]["annotations"]
    assert [record.code for record in stage.patches()] == codes


@pytest.mark.scenario("V12", "W13")
def test_scaled_in_the_rollout_and_in_the_calm_it_succeeds_and_replicas_are_theirs(
    set_stage: SetStage,
) -> None:
    slow = a_deployment(strategy=RECREATE, template_annotations={READY_AFTER: "1s"})
    stage = set_stage(slow, policy=VERY_CALM)
    stage.break_it(wait=False)
    stage.wait_broken(pods=3)
    name = stage.ask()
    patch = stage.wait_patch()
    scale(stage, 5)
    assert stage.status(name)["phase"] == "RollingBack"
    stage.wait_complete()
    stage.wait_status(name, lambda found: bool(found.get("healthySince")), "healthy")
    scale(stage, 4)
    stage.wait_complete()
    wait_watched(stage, name)
    assert stage.status(name)["phase"] == "RollingBack"
    stage.end_calm(**NO_HOLD)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert stage.deployment()["spec"]["replicas"] == 4
    assert not [step for step in patch.request_object if "replicas" in step["path"]]
    see_one_patch(stage)


def scale(stage: Stage, replicas: int) -> None:
    stage.sandbox.workloads.scale(stage.namespace, stage.name, replicas)


@pytest.mark.scenario("V14")
def test_a_deploy_after_the_patch_stands(set_stage: SetStage) -> None:
    stage = set_stage(policy=VERY_CALM)
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_patch()
    stage.wait_complete()
    stage.deploy(NEWER_IMAGE)
    status = stage.wait_phase(name, "Failed", "Superseded")
    stage.wait_settled(name)
    ready = condition(status, "Ready")
    assert ready is not None
    assert f"{NEWER_IMAGE} was deployed over it by {ADMIN}; that stands" in ready["message"]
    stage.wait_complete()
    assert stage.images() == [NEWER_IMAGE]
    see_one_patch(stage)
    assert f"{NEWER_IMAGE} was deployed over it by {ADMIN}" in stage.notes(incident)[-1]


@pytest.mark.scenario("W3")
def test_a_deploy_between_claim_and_patch_stands(stage: Stage) -> None:
    stage.break_it()
    stage.hold_patches()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_held(name)
    stage.deploy(NEWER_IMAGE)
    stage.wait_complete()
    stage.let_patches()
    status = stage.wait_phase(name, "Refused", "ChangedSinceRequest")
    stage.wait_settled(name)
    ready = condition(status, "Ready")
    assert ready is not None
    assert f"{NEWER_IMAGE} came to " in ready["message"]
    assert f"by {ADMIN}" in ready["message"]
    assert stage.images() == [NEWER_IMAGE]
    assert stage.patches() == []
    assert MARKER not in stage.deployment()["metadata"]["annotations"]
    assert "Nothing was changed." in stage.notes(incident)[-1]


def test_a_restart_after_the_patch_is_no_deploy(set_stage: SetStage) -> None:
    stage = set_stage(policy=VERY_CALM)
    stage.break_it()
    name = stage.ask()
    stage.wait_patch()
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 3)
    stage.sandbox.workloads.restart(stage.namespace, stage.name)
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 4)
    stage.wait_complete()
    wait_watched(stage, name)
    assert stage.status(name)["phase"] == "RollingBack"
    stage.end_calm(**NO_HOLD)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    template = stage.deployment()["spec"]["template"]
    assert RESTARTED_AT in template["metadata"]["annotations"]
    assert stage.images() == [GOOD_IMAGE]
    see_one_patch(stage)


@pytest.mark.scenario("V15")
def test_reverted_before_the_success_it_is_a_failure(set_stage: SetStage) -> None:
    stage = set_stage(policy=VERY_CALM)
    stage.break_it()
    name = stage.ask()
    stage.wait_patch()
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 3)
    undo_a_second_later(stage)
    status = stage.wait_phase(name, "Failed", "Reverted")
    ready = condition(status, "Ready")
    assert ready is not None
    said = f"the bad revision 2 ({BROKEN_IMAGE}) was brought back by {KUBECTL}"
    assert said in ready["message"]
    assert stage.images() == [BROKEN_IMAGE]
    see_one_patch(stage)


@pytest.mark.scenario("V15")
def test_reverted_in_the_hold_it_is_told_once_and_the_success_stays(set_stage: SetStage) -> None:
    stage = set_stage(policy=LONG_HOLD)
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_complete()
    undo_a_second_later(stage)
    see_not_held(stage, name, "Reverted")
    *_, news = stage.notes(incident)
    assert f"the bad revision ({BROKEN_IMAGE}) was brought back by {KUBECTL}" in news
    assert "Nothing more is done." in news
    assert stage.images() == [BROKEN_IMAGE]


def undo_a_second_later(stage: Stage) -> None:
    """Times of writers have whole seconds: within one nobody could say which was the last."""
    began = datetime.now(UTC)
    wait_for(
        lambda: datetime.now(UTC) > began + timedelta(seconds=1), "the clock to show another second"
    )
    stage.undo()


# --- What is left alone


STRANGE: Final = "a < b && c > \"d\" \\ 'e' ✓ ärger 日本語 \u2028 {{ $x }}"


def a_strange_deployment() -> Json:
    """Foreign annotations, strings that want escaping, fields that are newer than most models."""
    body = a_deployment(
        annotations={"example.com/owner": STRANGE, CHANGE_CAUSE: "release 1", "empty": ""},
        labels={"example.com/tier": "front"},
        template_annotations={"example.com/note": STRANGE, "empty": ""},
        env={"GREETING": STRANGE, "EMPTY": ""},
    )
    spec = body["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    container["args"] = ["--filter", STRANGE, ""]
    container["restartPolicy"] = "Always"
    container["restartPolicyRules"] = [
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    ]
    spec["hostnameOverride"] = "front.example.com"
    spec["resources"] = {"requests": {"cpu": "0.10", "memory": "1Gi"}}
    return body


@pytest.mark.scenario("W1", "W2", "W13", "W14")
def test_the_template_comes_back_as_it_was_and_all_else_is_left_alone(
    set_stage: SetStage,
) -> None:
    stage = set_stage(a_strange_deployment(), policy=NO_HOLD)
    good = stage.deployment()
    pod = good["spec"]["template"]["spec"]
    assert pod["hostnameOverride"] == "front.example.com"  # The API server knows it, and keeps it.
    assert pod["containers"][0]["restartPolicyRules"]
    stage.sandbox.workloads.annotate(
        stage.namespace, stage.name, {CHANGE_CAUSE: "release 2", "example.com/ticket": "OPS-7"}
    )
    break_everything(stage)
    bad = stage.deployment()
    stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    stage.wait_complete()
    now = stage.deployment()
    assert now["spec"]["template"] == good["spec"]["template"]
    assert now["spec"]["template"] == kept_template(stage)
    assert now["spec"] == {**bad["spec"], "template": good["spec"]["template"]}
    assert now["metadata"]["labels"] == bad["metadata"]["labels"]
    annotations = dict(now["metadata"]["annotations"])
    assert annotations.pop(MARKER)
    assert annotations == {**bad["metadata"]["annotations"], REVISION: "3"}
    assert annotations[CHANGE_CAUSE] == "release 2"
    see_one_patch(stage)


def break_everything(stage: Stage) -> None:
    """Deploy a bad release that also changes or drops all that is strange about the good one."""
    template = copy.deepcopy(stage.deployment()["spec"]["template"])
    template["metadata"].pop("annotations")
    for field in ("hostnameOverride", "resources"):
        template["spec"].pop(field)
    (container,) = template["spec"]["containers"]
    for field in ("args", "env", "restartPolicy", "restartPolicyRules"):
        container.pop(field)
    container["image"] = BROKEN_IMAGE
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    stage.sandbox.api.patch(
        path, [{"op": "replace", "path": "/spec/template", "value": template}], "json"
    )
    stage.wait_broken()


def kept_template(stage: Stage) -> Json:
    """Return the template that the restored revision's ReplicaSet keeps."""
    *_, live = stage.sandbox.workloads.replica_sets(stage.namespace, stage.name)
    template: Json = copy.deepcopy(live["spec"]["template"])
    template["metadata"]["labels"].pop("pod-template-hash")
    return template
