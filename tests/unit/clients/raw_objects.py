"""Objects as the API server sends them: a Deployment, its ReplicaSets and their pods."""

from typing import Any

from incident_rollback.domain.raw import Json

UID = "11111111-2222-3333-4444-555555555555"
LABELS = {"app": "frontend"}
REVISION = "deployment.kubernetes.io/revision"


def a_template(image: str = "nginx:1.18.0", **metadata: Any) -> Json:
    """Return a pod template with a field that no typed model knows."""
    return {
        "metadata": {"creationTimestamp": None, "labels": LABELS, **metadata},
        "spec": {
            "containers": [{"name": "nginx-1", "image": image, "fieldOfTheFuture": {"deep": 1}}]
        },
    }


def a_deployment(
    *,
    metadata: Json | None = None,
    spec: Json | None = None,
    status: Json | None = None,
    annotations: Json | None = None,
) -> Json:
    """Return a healthy Deployment of 3 pods at revision 2."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "frontend",
            "namespace": "shop",
            "uid": UID,
            "generation": 4,
            "creationTimestamp": "2026-11-20T08:00:00Z",
            "annotations": {REVISION: "2", **(annotations or {})},
            **(metadata or {}),
        },
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": LABELS},
            "template": a_template("nginx:latest"),
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate"},
            **(spec or {}),
        },
        "status": {
            "observedGeneration": 4,
            "replicas": 3,
            "updatedReplicas": 3,
            "readyReplicas": 3,
            "availableReplicas": 3,
            **(status or {}),
        },
    }


def a_replica_set(
    number: str | None = "1",
    image: str = "nginx:1.18.0",
    *,
    pod_hash: str = "6d4b",
    owner: str = UID,
    created: str = "2026-11-20T08:00:01Z",
    annotations: Json | None = None,
    status: Json | None = None,
) -> Json:
    """Return a ReplicaSet of the Deployment, whose template carries the hash label."""
    numbered = {REVISION: number} if number is not None else {}
    return {
        "metadata": {
            "name": f"frontend-{pod_hash}",
            "namespace": "shop",
            "uid": f"rs-{pod_hash}",
            "labels": {**LABELS, "pod-template-hash": pod_hash},
            "creationTimestamp": created,
            "annotations": {**numbered, **(annotations or {})},
            "ownerReferences": [
                {"controller": True, "kind": "Deployment", "name": "frontend", "uid": owner}
            ],
            "managedFields": [{"manager": "kube-controller-manager"}],
        },
        "spec": {
            "replicas": 3,
            "template": a_template(image, labels={**LABELS, "pod-template-hash": pod_hash}),
        },
        "status": {"replicas": 3, "availableReplicas": 2, **(status or {})},
    }


def a_pod(
    *,
    pod_hash: str = "6d4b",
    number: int = 0,
    metadata: Json | None = None,
    status: Json | None = None,
) -> Json:
    """Return a pod of a ReplicaSet, running and ready."""
    return {
        "metadata": {
            "name": f"frontend-{pod_hash}-{number}",
            "namespace": "shop",
            "labels": {**LABELS, "pod-template-hash": pod_hash},
            "ownerReferences": [
                {"controller": True, "kind": "ReplicaSet", "uid": f"rs-{pod_hash}"}
            ],
            **(metadata or {}),
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "lastTransitionTime": "2026-11-23T02:16:40Z",
                },
                {"type": "PodScheduled", "status": "True"},
            ],
            "containerStatuses": [a_container()],
            **(status or {}),
        },
    }


def a_container(name: str = "nginx-1", **given: Any) -> Json:
    """Return the status of a container that runs and is ready."""
    return {
        "name": name,
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-23T02:16:38Z"}},
        **given,
    }


def waiting(reason: str, message: str = "") -> Json:
    """Return the state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


def ended(reason: str, code: int, at: str = "2026-11-23T02:15:00Z", message: str = "") -> Json:
    """Return the state of a container that has ended."""
    return {
        "terminated": {"reason": reason, "exitCode": code, "finishedAt": at, "message": message}
    }
