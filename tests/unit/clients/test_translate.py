import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from incident_rollback.clients.translate import (
    changed_at,
    is_node_ready,
    latest_warning,
    marker_text,
    our_write_at,
    read_marker,
    revision_number,
    selector_of,
    template_patch,
    to_workload,
)
from incident_rollback.crd.v1alpha1 import FIELD_MANAGER, MARKER_ANNOTATION
from incident_rollback.domain.messages import MAX_MESSAGE
from incident_rollback.domain.raw import Json
from incident_rollback.domain.workload import Marker, Pod, Progress, Workload, WorkloadRef
from incident_rollback.ports import TemplatePatch
from tests.unit.clients.raw_objects import (
    UID,
    a_container,
    a_deployment,
    a_pod,
    a_replica_set,
    a_template,
    ended,
    waiting,
)

REF = WorkloadRef("shop", "frontend")
NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
MARKER = "0f0f 3f9a1c27b0d4e6f8 2026-11-23T12:00:00Z"


def a_workload(*replica_sets: Json, **deployment: Any) -> Workload:
    return to_workload(a_deployment(**deployment), replica_sets, [])


def the_pod(**status: Any) -> Pod:
    return to_workload(a_deployment(), [a_replica_set()], [a_pod(status=status)]).pods[0]


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": "2026-11-23T12:00:00Z",
    }


def entry(
    manager: str, time: str, *, template: bool = True, subresource: str | None = None
) -> Json:
    fields: Json = {"f:template": {}} if template else {"f:replicas": {}}
    more = {"subresource": subresource} if subresource else {}
    return {"manager": manager, "time": time, "fieldsV1": {"f:spec": fields}, **more}


DEPLOYMENT_RULES = [
    pytest.param({}, "ref", REF, id="the name comes from the metadata"),
    pytest.param({}, "number", 2, id="the revision number is an integer"),
    pytest.param({"annotations": {"deployment.kubernetes.io/revision": "x"}}, "number", 0,
                 id="a garbage number is 0"),
    pytest.param({}, "wanted", 3, id="wanted is spec.replicas"),
    pytest.param({"spec": {"replicas": None}}, "wanted", 1, id="no spec.replicas means 1"),
    pytest.param({"spec": {"replicas": 0}}, "wanted", 0, id="0 replicas stay 0"),
    pytest.param({"status": {"observedGeneration": None}}, "observed_generation", 0,
                 id="never observed is 0"),
    pytest.param({"status": {"availableReplicas": None}}, "available", 0,
                 id="a count that is not filled in is 0"),
    pytest.param({}, "progress_deadline_seconds", 600, id="the deadline is in seconds"),
    pytest.param({"spec": {"progressDeadlineSeconds": 2147483647}}, "progress_deadline_seconds",
                 None, id="the largest deadline means none"),
    pytest.param({"spec": {"paused": True}}, "is_paused", True, id="paused"),
    pytest.param({"metadata": {"deletionTimestamp": "2026-11-23T12:00:00Z"}}, "is_deleting", True,
                 id="a deletionTimestamp means deleting"),
    pytest.param({"spec": {"strategy": {}}}, "strategy", "RollingUpdate",
                 id="the default strategy is RollingUpdate"),
    pytest.param({}, "owner", "", id="no owner"),
    pytest.param(
        {"metadata": {"ownerReferences": [{"kind": "Rollout", "name": "r", "controller": True}]}},
        "owner", "Rollout/r", id="the controller is the owner"),
    pytest.param({"metadata": {"ownerReferences": [{"kind": "App", "name": "a"}]}}, "owner", "",
                 id="an owner that is no controller does not count"),
    pytest.param({}, "opted_out", None, id="without the annotation it has not opted out"),
    pytest.param({"annotations": {"incidentrollback.dev/rollback": "never"}}, "opted_out", "",
                 id="opted out without a reason"),
    pytest.param(
        {"annotations": {"incidentrollback.dev/rollback": "Never ",
                         "incidentrollback.dev/reason": "ledger"}},
        "opted_out", "ledger", id="a slip in never still opts out, and the reason is kept"),
    pytest.param({"annotations": {"incidentrollback.dev/rollback": "ok"}}, "opted_out", None,
                 id="another value is no opt-out"),
    pytest.param({"annotations": {"deprecated.deployment.rollback.to": "1"}},
                 "has_legacy_rollback", True, id="the legacy rollback annotation is seen"),
    pytest.param({"annotations": {MARKER_ANNOTATION: MARKER}}, "marker",
                 Marker("0f0f", "3f9a1c27b0d4e6f8", NOON), id="our marker is read"),
    pytest.param(
        {"status": {"conditions": [condition("Progressing", "False", "Late", "gave up")]}},
        "progress", Progress("False", "Late", "gave up", NOON), id="the condition Progressing"),
    pytest.param({"status": {"conditions": [condition("ReplicaFailure", "True", message="quota")]}},
                 "failure", "quota", id="ReplicaFailure while it is true"),
    pytest.param({"status": {"conditions": [condition("ReplicaFailure", "False", message="old")]}},
                 "failure", "", id="no ReplicaFailure once it is over"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "field", "expected"), DEPLOYMENT_RULES)
def test_deployment(given: Json, field: str, expected: object) -> None:
    assert getattr(a_workload(**given), field) == expected


def test_every_field_of_a_deployment_has_its_own_place() -> None:
    deployment = a_deployment(
        metadata={
            "generation": 9,
            "annotations": {
                "deployment.kubernetes.io/revision": "2",
                "meta.helm.sh/release-name": "web",
                "meta.helm.sh/release-namespace": "shop",
            },
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "managedFields": [entry(FIELD_MANAGER, "2026-11-23T12:00:00Z")],
        },
        spec={"replicas": 6, "strategy": {"type": "Recreate"}, "progressDeadlineSeconds": 1},
        status={
            "observedGeneration": 8,
            "replicas": 5,
            "updatedReplicas": 4,
            "readyReplicas": 3,
            "availableReplicas": 2,
        },
    )
    found = to_workload(deployment, [], [])
    assert (found.uid, found.generation, found.observed_generation) == (UID, 9, 8)
    assert (found.wanted, found.replicas, found.updated) == (6, 5, 4)
    assert (found.ready, found.available, found.progress_deadline_seconds) == (3, 2, 1)
    assert found.created_at == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert (found.strategy, found.our_write_at) == ("Recreate", NOON)
    assert [owner.name for owner in found.managed_by] == ["web"]


def test_the_live_template_is_kept_as_it_came() -> None:
    assert a_workload().template == a_template("nginx:latest")


WRITER_RULES = [
    pytest.param([], (None, ""), id="no managedFields: unknown"),
    pytest.param([entry("kubectl", "2026-11-23T10:00:00Z")], (10, "kubectl"),
                 id="the owner of the template wrote it"),
    pytest.param([entry("kubectl", "2026-11-23T10:00:00Z"), entry("argo", "2026-11-23T11:00:00Z")],
                 (11, "argo"), id="the newest owner wrote it"),
    pytest.param([entry("kubectl", "2026-11-23T10:00:00Z"),
                  entry("hpa", "2026-11-23T11:00:00Z", template=False)],
                 (10, "kubectl"), id="who writes only replicas does not count"),
    pytest.param([entry("kubectl", "2026-11-23T10:00:00Z"),
                  entry("kcm", "2026-11-23T11:00:00Z", subresource="status")],
                 (10, "kubectl"), id="who writes the status does not count"),
    pytest.param([entry("kubectl", "2026-11-23T10:00:00Z"),
                  entry(FIELD_MANAGER, "2026-11-23T11:00:00Z", template=False)],
                 (11, FIELD_MANAGER), id="our own write counts though it only took fields away"),
    pytest.param([entry("argo", "2026-11-23T11:00:00Z"),
                  entry(FIELD_MANAGER, "2026-11-23T11:00:00Z")],
                 (11, "argo"), id="within one second the other one is named"),
    pytest.param([{"manager": "x", "fieldsV1": None}, entry("argo", "")], (None, ""),
                 id="an entry without a time says nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "expected"), WRITER_RULES)
def test_who_wrote_the_template(entries: list[Json], expected: tuple[int | None, str]) -> None:
    workload = a_workload(metadata={"managedFields": entries})
    hour = workload.template_written_at.hour if workload.template_written_at else None
    assert (hour, workload.template_writer) == expected


def test_our_write_is_our_own_entry() -> None:
    entries = [entry("argo", "2026-11-23T13:00:00Z"), entry(FIELD_MANAGER, "2026-11-23T12:00:00Z")]
    assert our_write_at(a_deployment(metadata={"managedFields": entries})) == NOON
    assert our_write_at(a_deployment()) is None


def test_a_replica_set_becomes_a_revision() -> None:
    raw = a_replica_set(
        "7",
        annotations={
            "deployment.kubernetes.io/revision-history": "3,1,x",
            MARKER_ANNOTATION: MARKER,
        },
        status={"conditions": [condition("ReplicaFailure", "True", message="quota")]},
    )
    (revision,) = a_workload(raw).revisions
    assert (revision.number, revision.history, revision.numbers) == (7, (1, 3), (1, 3, 7))
    assert (revision.replica_set, revision.uid) == ("frontend-6d4b", "rs-6d4b")
    assert (revision.desired, revision.replicas, revision.available) == (3, 3, 2)
    assert revision.marker == Marker("0f0f", "3f9a1c27b0d4e6f8", NOON)
    assert revision.failure == "quota"


def test_the_hash_label_is_dropped_from_a_revision_and_nothing_else() -> None:
    (revision,) = a_workload(a_replica_set()).revisions
    assert revision.pod_template_hash == "6d4b"
    assert revision.template == a_template()


NUMBERS = [
    pytest.param("9", 9, id="a number"),
    pytest.param("10", 10, id="two digits"),
    pytest.param(None, 0, id="missing"),
    pytest.param("", 0, id="empty"),
    pytest.param("-3", 0, id="negative"),
    pytest.param("1.5", 0, id="a fraction"),
    pytest.param("²", 0, id="a digit that is none"),
    pytest.param("9" * 5000, 0, id="too long to be one"),
]


@pytest.mark.parametrize(("annotation", "expected"), NUMBERS)
def test_revision_numbers(annotation: str | None, expected: int) -> None:
    assert a_workload(a_replica_set(annotation)).revisions[0].number == expected


def test_the_newest_number_comes_first_as_a_number() -> None:
    workload = a_workload(*(a_replica_set(n, pod_hash=n) for n in ("9", "10", "8")))
    assert [revision.number for revision in workload.revisions] == [10, 9, 8]


def test_of_equal_numbers_the_oldest_replica_set_comes_first_then_the_name() -> None:
    workload = a_workload(
        a_replica_set(None, pod_hash="c", created="2026-11-22T00:00:00Z"),
        a_replica_set(None, pod_hash="b", created="2026-11-21T00:00:00Z"),
        a_replica_set(None, pod_hash="a", created="2026-11-22T00:00:00Z"),
    )
    assert [revision.pod_template_hash for revision in workload.revisions] == ["b", "a", "c"]


def test_of_equal_templates_the_newest_number_is_live() -> None:
    restart = {"kubectl.kubernetes.io/restartedAt": "2026-11-22T00:00:00Z"}
    restarted = a_replica_set("3", "nginx:latest", pod_hash="new")
    restarted["spec"]["template"]["metadata"]["annotations"] = restart
    live = a_workload(a_replica_set("2", "nginx:latest", pod_hash="old"), restarted).live
    assert live is not None
    assert live.pod_template_hash == "new"


def test_what_has_another_controller_is_not_ours() -> None:
    workload = to_workload(
        a_deployment(),
        [a_replica_set(), a_replica_set(pod_hash="alien", owner="somebody-else")],
        [a_pod(), a_pod(pod_hash="alien"), {"metadata": {"name": "loose"}}],
    )
    assert [revision.pod_template_hash for revision in workload.revisions] == ["6d4b"]
    assert [pod.name for pod in workload.pods] == ["frontend-6d4b-0"]


def test_a_healthy_pod() -> None:
    pod = the_pod()
    assert pod == Pod(
        name="frontend-6d4b-0",
        pod_template_hash="6d4b",
        is_ready=True,
        ready_since=datetime(2026, 11, 23, 2, 16, 40, tzinfo=UTC),
        started_at=datetime(2026, 11, 23, 2, 16, 38, tzinfo=UTC),
    )


def test_a_pod_without_a_status_is_not_ready_and_nothing_is_known_to_be_wrong() -> None:
    raw: Json = {**a_pod(), "status": {}}
    (pod,) = to_workload(a_deployment(), [a_replica_set()], [raw]).pods
    assert (pod.is_ready, pod.reason, pod.ready_since, pod.started_at) == (False, "", None, None)


NOT_READY = [
    pytest.param("True", {}, (True, False, True, ""), id="ready: since when, and no reason"),
    pytest.param("False", {}, (False, False, False, "Late"), id="not ready: why, and no since"),
    pytest.param(
        "True", {"deletionTimestamp": "2026-11-23T12:00:00Z"}, (True, True, True, ""), id="deleting"
    ),
]


@pytest.mark.parametrize(("ready", "metadata", "expected"), NOT_READY)
def test_whether_a_pod_is_ready_and_stays(
    ready: str, metadata: Json, expected: tuple[bool, bool, bool, str]
) -> None:
    told = {**condition("Ready", ready, "Late"), "lastTransitionTime": "2026-11-23T12:00:00Z"}
    raw = a_pod(metadata=metadata, status={"conditions": [told]})
    (pod,) = to_workload(a_deployment(), [a_replica_set()], [raw]).pods
    found = (pod.is_ready, pod.is_deleting, pod.ready_since is not None, pod.not_ready)
    assert found == expected


def test_an_end_without_a_reason_is_an_error_and_counts_as_a_crash() -> None:
    end = {"terminated": {"exitCode": 3, "finishedAt": "2026-11-23T12:00:00Z"}}
    pod = the_pod(containerStatuses=[a_container(ready=False, state=end)])
    assert (pod.reason, pod.exit_code, pod.crashed_at) == ("Error", 3, NOON)


def test_a_pod_that_ended_at_nobody_knows_when_has_ended() -> None:
    raw: Json = {**a_pod(), "status": {"phase": "Failed"}}
    (pod,) = to_workload(a_deployment(), [a_replica_set()], [raw]).pods
    assert pod.finished_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_revision_number_has_fifteen_digits_at_most() -> None:
    assert revision_number({"deployment.kubernetes.io/revision": "9" * 15}) == int("9" * 15)


TROUBLE_RULES: list[Any] = [
    pytest.param({"containerStatuses": [a_container(state=waiting("ImagePullBackOff", "no"))]},
                 ("ImagePullBackOff", "nginx-1", None, "no"), id="a waiting container says why"),
    pytest.param({"containerStatuses": [a_container(state=waiting("NovelReason", "hunter2"))]},
                 ("NovelReason", "nginx-1", None, ""),
                 id="D10 an unknown reason is verbatim, and its message is anybody's"),
    pytest.param({"containerStatuses": [a_container(state=waiting("ContainerCreating"))]},
                 ("", "", None, ""), id="being created is no trouble"),
    pytest.param({"containerStatuses": [a_container(state=waiting("PodInitializing"))],
                  "initContainerStatuses": [a_container("init", state=waiting("ErrImagePull"))]},
                 ("ErrImagePull", "init", None, ""), id="D2 the init container is why others wait"),
    pytest.param({"containerStatuses": [a_container("a", state=ended("Error", 1)),
                                        a_container("b", state=waiting("ErrImagePull"))]},
                 ("ErrImagePull", "b", None, ""), id="waiting is worse than ended"),
    pytest.param({"containerStatuses": [a_container("a", state=waiting("CreateContainerError")),
                                        a_container("b", state=waiting("ErrImagePull"))]},
                 ("CreateContainerError", "a", None, ""), id="of equals the first counts"),
    pytest.param({"containerStatuses": [a_container(
                     state=waiting("CrashLoopBackOff", "back-off 10s"),
                     lastState=ended("Error", 1))]},
                 ("CrashLoopBackOff", "nginx-1", 1, "back-off 10s"),
                 id="a crash loop has the exit code of the last end"),
    pytest.param({"containerStatuses": [a_container(
                     state=waiting("CrashLoopBackOff", "back-off 10s"),
                     lastState=ended("OOMKilled", 137))]},
                 ("OOMKilled", "nginx-1", 137, "back-off 10s"),
                 id="D3 a crash loop by OOM says OOMKilled"),
    pytest.param({"containerStatuses": [a_container(state=ended("OOMKilled", 137))]},
                 ("OOMKilled", "nginx-1", 137, ""), id="an ended container"),
    pytest.param({"containerStatuses": [a_container(state=ended("Completed", 0))]},
                 ("Completed", "nginx-1", 0, ""), id="a container that just ends is in trouble"),
    pytest.param({"initContainerStatuses": [a_container("init", state=ended("Completed", 0))]},
                 ("", "", None, ""), id="D2 an init container that ends well is not"),
    pytest.param({"initContainerStatuses": [a_container("init", state=ended("Error", 2))]},
                 ("Error", "init", 2, ""), id="D2 an init container that ends badly is"),
    pytest.param({"containerStatuses": [a_container(ready=False, lastState=ended("Error", 3))]},
                 ("Error", "nginx-1", 3, ""), id="running again after a crash, but not ready"),
    pytest.param({"containerStatuses": [a_container(lastState=ended("Error", 3))]},
                 ("", "", None, ""), id="ready again after a crash"),
    pytest.param({"containerStatuses": [a_container("a"), a_container("b", ready=False)]},
                 ("", "b", None, ""), id="running and not ready: nothing is known, but where"),
    pytest.param({"containerStatuses": [a_container(
                     state=ended("Error", 1, message="password=hunter2"))]},
                 ("Error", "nginx-1", 1, ""), id="the end of a log is never shown"),
    pytest.param({"containerStatuses": [a_container(
                     state=ended("StartError", 128, message="exec: not found"))]},
                 ("StartError", "nginx-1", 128, "exec: not found"), id="the runtime's words are"),
    pytest.param({"conditions": [{"type": "PodScheduled", "status": "False",
                                  "reason": "Unschedulable", "message": "0/3 nodes"}]},
                 ("Unschedulable", "", None, "0/3 nodes"), id="D4 no node has room"),
    pytest.param({"conditions": [{"type": "PodScheduled", "status": "False",
                                  "reason": "SchedulingGated"}]},
                 ("", "", None, ""), id="D4 a gate is meant to wait"),
    pytest.param({"conditions": [{"type": "PodScheduled", "status": "False",
                                  "reason": "SchedulerError", "message": "no such plugin"}]},
                 ("SchedulerError", "", None, "no such plugin"), id="D4 the scheduler fails"),
    pytest.param({"conditions": [{"type": "DisruptionTarget", "status": "True",
                                  "reason": "DeletionByTaintManager", "message": "taint"}]},
                 ("DeletionByTaintManager", "", None, "taint"), id="it is taken off its node"),
    pytest.param({"conditions": [{"type": "DisruptionTarget", "status": "False",
                                  "reason": "DeletionByTaintManager"}]},
                 ("", "", None, ""), id="it was to be, and is not any more"),
    pytest.param({"reason": "Evicted", "message": "disk pressure",
                  "containerStatuses": [a_container(state=ended("Error", 137))]},
                 ("Evicted", "", None, "disk pressure"), id="the pod's own reason comes first"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "expected"), TROUBLE_RULES)
def test_what_is_wrong_with_a_pod(status: Json, expected: tuple[str, str, int | None, str]) -> None:
    pod = the_pod(**status)
    assert (pod.reason, pod.container, pod.exit_code, pod.message) == expected


def test_messages_are_cut_and_have_no_credentials() -> None:
    message = "https://user:hunter2@registry " + "x" * MAX_MESSAGE
    pod = the_pod(containerStatuses=[a_container(state=waiting("ErrImagePull", message))])
    assert pod.message.startswith("https://registry xx")
    assert len(pod.message) == MAX_MESSAGE
    failed = condition("ReplicaFailure", "True", message=message)
    (revision,) = a_workload(a_replica_set(status={"conditions": [failed]})).revisions
    assert "hunter2" not in revision.failure


SIDECARS = [
    pytest.param("Always", ended("Completed", 0), "Completed",
                 id="D2 a sidecar that ends is in trouble, whatever it says"),
    pytest.param(None, ended("Completed", 0), "", id="D2 one that is to end is not"),
    pytest.param("Always", ended("Error", 1), "Error", id="D2 a sidecar that ends badly"),
    pytest.param("Always", waiting("CrashLoopBackOff"), "CrashLoopBackOff",
                 id="D2 a sidecar that crashes"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "state", "reason"), SIDECARS)
def test_init_containers_that_keep_running(policy: str | None, state: Json, reason: str) -> None:
    status = {"initContainerStatuses": [a_container("proxy", state=state, ready=False)]}
    raw = a_pod(status=status)
    raw["spec"] = {"initContainers": [{"name": "proxy", "restartPolicy": policy}]}
    (pod,) = to_workload(a_deployment(), [a_replica_set()], [raw]).pods
    assert pod.reason == reason


LOGS = [
    pytest.param(a_container(state=waiting("ErrImagePull")), "None", id="it never ran"),
    pytest.param(a_container(state=ended("Error", 1)), "Current", id="it has just ended"),
    pytest.param(a_container(state=ended("Error", 1), lastState=ended("Error", 1)), "Current",
                 id="it has just ended again"),
    pytest.param(a_container(state=waiting("CrashLoopBackOff"), lastState=ended("Error", 1)),
                 "Previous", id="it waits to be started again"),
    pytest.param(a_container(ready=False, lastState=ended("Error", 1)), "Previous",
                 id="it runs again, and says why in the run before"),
    pytest.param(a_container(ready=False), "Current", id="it runs, and is not ready"),
    pytest.param(a_container(), "None", id="nothing is wrong, and nobody asks"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "logs"), LOGS)
def test_which_logs_say_why(container: Json, logs: str) -> None:
    assert the_pod(containerStatuses=[container]).logs == logs


def test_where_a_pod_is_and_why_it_is_not_ready() -> None:
    ready = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}
    raw = a_pod(metadata={"uid": "p-1"}, status={"conditions": [ready]})
    raw["spec"] = {"nodeName": "n-1"}
    (pod,) = to_workload(a_deployment(), [a_replica_set()], [raw]).pods
    assert (pod.uid, pod.node, pod.not_ready) == ("p-1", "n-1", "ReadinessGatesNotReady")
    assert (pod.is_ready, pod.reason) == (False, "")


ENDS = [
    pytest.param({"phase": "Running"}, None, id="it is there"),
    pytest.param({"phase": "Failed", "conditions": []}, "02:10:00", id="never started: when made"),
    pytest.param({"phase": "Failed"}, "02:16:40", id="when it was not ready any more"),
    pytest.param({"phase": "Failed", "containerStatuses": [
        a_container(state=ended("Error", 137, "2026-11-23T02:20:00Z"))]}, "02:20:00",
                 id="when the last container ended"),
    pytest.param({"phase": "Succeeded", "conditions": []}, "02:10:00", id="it ended well"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "at"), ENDS)
def test_when_a_pod_ended_as_a_whole(status: Json, at: str | None) -> None:
    raw = a_pod(metadata={"creationTimestamp": "2026-11-23T02:10:00Z"}, status=status)
    (pod,) = to_workload(a_deployment(), [a_replica_set()], [raw]).pods
    assert (f"{pod.finished_at:%H:%M:%S}" if pod.finished_at else None) == at


def test_pods_that_cannot_be_deleted_are_no_pods_that_cannot_be_made() -> None:
    stuck = condition("ReplicaFailure", "True", "FailedDelete", "no")
    (revision,) = a_workload(a_replica_set(status={"conditions": [stuck]})).revisions
    assert revision.failure == ""


def an_event(reason: str, message: str = "", **given: Any) -> Json:
    """Return a Warning of the kubelet's."""
    written = {"source": {"component": "kubelet"}, **given}
    return {"type": "Warning", "reason": reason, "message": message, **written}


EARLY, LATE = "2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z"
NEWEST: list[Any] = [
    pytest.param([], None, id="D9 there is none"),
    pytest.param([an_event("A", lastTimestamp=LATE), an_event("B", lastTimestamp=EARLY)], "A",
                 id="the newest one, wherever it stands"),
    pytest.param([an_event("A", lastTimestamp=EARLY),
                  an_event("B", lastTimestamp=None, eventTime=LATE)], "B", id="eventTime"),
    pytest.param([an_event("A", lastTimestamp=EARLY),
                  an_event("B", eventTime=EARLY, series={"lastObservedTime": LATE})], "B",
                 id="a series has its own time, and that comes first"),
    pytest.param([an_event("A"), an_event("B", metadata={"creationTimestamp": EARLY})], "B",
                 id="when it was made"),
    pytest.param([an_event("A"), {**an_event("B", lastTimestamp=LATE), "type": "Normal"}], "A",
                 id="a normal one is no warning"),
    pytest.param([an_event("Failed", "Failed to pull image", lastTimestamp=EARLY),
                  an_event("Echo", "Error: ImagePullBackOff", lastTimestamp=LATE)], "Failed",
                 id="one that says why, before one that only repeats the reason"),
    pytest.param([an_event("Failed", "Error: ErrImagePull")], "Failed",
                 id="one that repeats the reason when there is no other"),
    pytest.param([an_event("A", lastTimestamp=EARLY),
                  an_event("Failed", lastTimestamp=LATE, source={"component": "my-operator"})], "A",
                 id="Kubernetes' own before anybody's"),
    pytest.param([an_event("Failed", source={"component": "my-operator"})], "Failed",
                 id="anybody's when there is no other"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "reason"), NEWEST)
def test_the_latest_warning(events: list[Json], reason: str | None) -> None:
    warning = latest_warning(events)
    assert (warning.reason if warning else None) == reason


def test_a_warning_has_its_time_and_nothing_that_nobody_may_read() -> None:
    said = 'Get "http://10.0.0.7/?key=hunter2": connection refused'
    probe = an_event("Unhealthy", f"Readiness probe failed: {said}", lastTimestamp=LATE)
    warning = latest_warning([probe])
    assert warning is not None
    assert f"{warning.at:%H:%M}" == "02:10"
    assert warning.message == "Readiness probe failed: connection refused"
    hostile = latest_warning([an_event("R" * 500, "hunter2")])
    assert hostile is not None
    assert (len(hostile.reason), hostile.message, hostile.at) == (128, "", None)


AUTHORS = [
    pytest.param({"source": {"component": "kubelet"}, "reportingComponent": "kubelet"}, True,
                 id="the kubelet, by both names"),
    pytest.param({"source": {}, "reportingComponent": "default-scheduler"}, True,
                 id="the scheduler, by the newer name"),
    pytest.param({"source": {}, "reportingController": "taint-eviction-controller"}, True,
                 id="a controller, by the name of the newer API"),
    pytest.param({"source": {"component": "my-operator"}}, False, id="D10 anybody"),
    pytest.param({"source": {"component": "job-scheduler"}}, False, id="D10 another scheduler"),
    pytest.param({"source": {"component": "kubelet"}, "reportingComponent": "my-operator"}, False,
                 id="D10 anybody who takes one of the names"),
    pytest.param({"source": {}, "reportingComponent": ""}, False, id="D10 nobody says who"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "is_own"), AUTHORS)
def test_only_what_kubernetes_itself_says_is_repeated(written: Json, is_own: bool) -> None:
    for reason, says in (("Failed", "no row of alice"), ("Unhealthy", "Liveness probe failed")):
        warning = latest_warning([an_event(reason, says, **written)])
        assert warning is not None
        assert (warning.reason, warning.message) == (reason, says if is_own else "")
        assert warning.is_of_kubernetes is is_own


READINESS = [("True", True), ("False", False), ("Unknown", False), (None, None)]


@pytest.mark.parametrize(("status", "is_ready"), READINESS)
def test_whether_a_node_is_ready(status: str | None, is_ready: bool | None) -> None:
    conditions = [{"type": "MemoryPressure", "status": "True"}]
    if status is not None:
        conditions.append({"type": "Ready", "status": status})
    assert is_node_ready({"status": {"conditions": conditions}}) is is_ready


def test_restarts_and_crashes_are_counted_over_all_containers() -> None:
    pod = the_pod(
        initContainerStatuses=[
            a_container("init", restartCount=2, lastState=ended("Error", 1, "2026-11-23T11:00:00Z"))
        ],
        containerStatuses=[
            a_container("a", restartCount=1, lastState=ended("Error", 1, "2026-11-23T12:00:00Z")),
            a_container("b", restartCount=4, lastState=ended("Done", 0, "2026-11-23T13:00:00Z")),
        ],
    )
    assert pod.restarts == 7
    assert pod.crashed_at == NOON


MARKERS = [
    pytest.param(MARKER, Marker("0f0f", "3f9a1c27b0d4e6f8", NOON), id="uid, intent and time"),
    pytest.param("", None, id="empty"),
    pytest.param("0f0f 3f9a", None, id="too few words"),
    pytest.param(f"{MARKER} more", None, id="too many words"),
    pytest.param("0f0f 3f9a yesterday", None, id="no time"),
    pytest.param("0f0f 3f9a 2026-11-23T12:00:00", None, id="a time without a zone"),
]


@pytest.mark.parametrize(("value", "expected"), MARKERS)
def test_read_marker(value: str, expected: Marker | None) -> None:
    assert read_marker(value) == expected


def test_a_marker_reads_as_it_was_written_in_utc_and_whole_seconds() -> None:
    at = datetime(2026, 11, 23, 14, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert marker_text("0f0f", "3f9a1c27b0d4e6f8", at) == MARKER


SELECTORS: list[Any] = [
    pytest.param({"matchLabels": {"app": "a", "tier": "web"}}, "app=a,tier=web", id="labels"),
    pytest.param({"matchExpressions": [{"key": "k", "operator": "In", "values": ["a", "b"]}]},
                 "k in (a,b)", id="In"),
    pytest.param({"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["a"]}]},
                 "k notin (a)", id="NotIn"),
    pytest.param({"matchExpressions": [{"key": "k", "operator": "Exists"}]}, "k", id="Exists"),
    pytest.param({"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}, "!k",
                 id="DoesNotExist"),
    pytest.param({"matchLabels": {"app": "a"},
                  "matchExpressions": [{"key": "k", "operator": "Exists"}]},
                 "app=a,k", id="both, all of which must hold"),
]  # fmt: skip


@pytest.mark.parametrize(("selector", "expected"), SELECTORS)
def test_selectors(selector: Json, expected: str) -> None:
    assert selector_of({"spec": {"selector": selector}}) == expected


def a_patch(template: Json) -> TemplatePatch:
    return TemplatePatch(
        ref=REF, uid=UID, generation=4, revision=2, template=template, marker=MARKER
    )


HASHED: Json = {"metadata": {"labels": {"app": "frontend", "pod-template-hash": "6d4b"}}}
THE_PATCH = [
    pytest.param(
        0,
        '{"op": "test", "path": "/metadata/uid", "value": "11111111-2222-3333-4444-555555555555"}',
        id="W1 first guard: the very object",
    ),
    pytest.param(
        1,
        '{"op": "test", "path": "/metadata/generation", "value": 4}',
        id="W1 second guard: nothing has changed since",
    ),
    pytest.param(
        2,
        '{"op": "test", "path": "/metadata/annotations/deployment.kubernetes.io~1revision",'
        ' "value": "2"}',
        id="W1 third guard: the revision is the one that was judged",
    ),
    pytest.param(
        3,
        '{"op": "replace", "path": "/spec/template",'
        ' "value": {"metadata": {"labels": {"app": "frontend"}}}}',
        id="W1 the template as a whole, without the hash label",
    ),
    pytest.param(
        4,
        '{"op": "add", "path": "/metadata/annotations/incidentrollback.dev~1request",'
        ' "value": "0f0f 3f9a1c27b0d4e6f8 2026-11-23T12:00:00Z"}',
        id="W1 our annotation, and no other",
    ),
]


@pytest.mark.parametrize(("number", "op"), THE_PATCH)
def test_the_patch_byte_for_byte(number: int, op: str) -> None:
    ops = template_patch(a_patch(HASHED))
    assert json.dumps(ops[number]) == op
    assert len(ops) == len(THE_PATCH)


STRANGE = "a < b && c > d ✓ ärger “日本語” \u2028 {{ $x }}"
WRITTEN_AS_THEY_ARE = [
    pytest.param({"spec": {"fieldOfTheFuture": {"deep": [1]}}}, id="W1 a field nobody knows yet"),
    pytest.param({"spec": {"nodeName": None, "volumes": []}}, id="W1 null and empty"),
    pytest.param({"$patch": "replace", "spec": {}}, id="W11 $patch is a key like any other"),
    pytest.param(
        {"spec": {"$setElementOrder/containers": [{"name": "a"}]}},
        id="W11 so are all directives of a strategic merge",
    ),
    pytest.param({"metadata": {"annotations": {"note": STRANGE}}}, id="W14 what JSON escapes"),
    pytest.param({"metadata": {"annotations": {STRANGE: ""}}}, id="W14 in a key, too"),
]


@pytest.mark.parametrize("template", WRITTEN_AS_THEY_ARE)
def test_a_template_is_written_as_it_was_kept_and_never_tested(template: Json) -> None:
    metadata = {"labels": {"app": "frontend"}, **template.get("metadata", {})}
    kept = {**template, "metadata": metadata}
    ops = json.loads(json.dumps(template_patch(a_patch(kept))))
    (written,) = [op["value"] for op in ops if op["path"] == "/spec/template"]
    assert written == kept
    assert all(str(op["value"]).isascii() for op in ops if op["op"] == "test")


NEVER_WRITTEN = [
    pytest.param("/spec/replicas", id="W13 replicas"),
    pytest.param("/spec", id="W13 nor the spec as a whole"),
    pytest.param("/metadata/annotations", id="W2 the map of annotations as a whole"),
    pytest.param(
        "/metadata/annotations/kubernetes.io~1change-cause",
        id="W2 change-cause: it is copied to later releases",
    ),
    pytest.param("/metadata/labels", id="labels of the Deployment"),
]


@pytest.mark.parametrize("path", NEVER_WRITTEN)
def test_never_written(path: str) -> None:
    assert path not in [op["path"] for op in template_patch(a_patch(a_template()))]


def test_the_patch_leaves_the_template_it_was_given_alone() -> None:
    template = a_replica_set()["spec"]["template"]
    template_patch(a_patch(template))
    assert template["metadata"]["labels"]["pod-template-hash"] == "6d4b"


def test_no_more_of_revision_history_is_read_than_kubernetes_keeps() -> None:
    history = ",".join(str(number) for number in range(1, 40_000))
    annotations = {"deployment.kubernetes.io/revision-history": history}
    raw = a_replica_set()
    raw["metadata"]["annotations"].update(annotations)
    workload = to_workload(a_deployment(), [raw], [])
    numbers = workload.revisions[0].history
    assert len(numbers) < 1000
    assert numbers[-1] == 39_999


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_marker_of_no_time_is_nobodys(at: str) -> None:
    assert read_marker(f"uid intent {at}") is None


def test_a_number_that_no_status_can_hold_is_garbage() -> None:
    assert revision_number({"deployment.kubernetes.io/revision": "1" * 16}) == 0


CREATED = "2026-11-23T08:00:00Z"


def wrote(time: str, *fields: str, **more: str) -> Json:
    return {"time": time, "fieldsV1": {field: {} for field in fields}, **more}


CHANGED = [
    pytest.param([], 8, id="no entry: when it was created"),
    pytest.param([wrote("2026-11-23T09:00:00Z", "f:data")], 9, id="when its content was written"),
    pytest.param(
        [wrote("2026-11-23T10:00:00Z", "f:data"), wrote("2026-11-23T09:00:00Z", "f:data")],
        10,
        id="the newest of several",
    ),
    pytest.param(
        [wrote("2026-11-23T10:00:00Z", "f:status", subresource="status")],
        8,
        id="a write of its status is none",
    ),
    pytest.param(
        [wrote("2026-11-23T10:00:00Z", "f:metadata")], 8, id="whoever owns only labels wrote none"
    ),
    pytest.param(
        [wrote("2026-11-23T10:00:00Z", "f:metadata", "f:data")],
        10,
        id="whoever owns content may have written that or an annotation",
    ),
    pytest.param([wrote("yesterday", "f:data"), {}], 8, id="an entry without an instant is none"),
]


@pytest.mark.parametrize(("entries", "hour"), CHANGED)
def test_when_the_content_of_an_object_was_changed(entries: list[Json], hour: int) -> None:
    metadata = {"creationTimestamp": CREATED, "managedFields": entries}
    assert changed_at(metadata) == datetime(2026, 11, 23, hour, tzinfo=UTC)


def test_when_something_was_changed_that_tells_nothing_is_unknown() -> None:
    assert changed_at({}) is None
