"""Deploying, breaking and undoing: what the people around an incident do, as functions."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox.api import Api, ApiError, Json, path_to
from tests.sandbox.errors import SandboxError
from tests.sandbox.kubectl import Kubectl
from tests.sandbox.processes import Completed
from tests.sandbox.waiting import PATIENCE_SECONDS, wait_for

APPS = "apps/v1"
REVISION = "deployment.kubernetes.io/revision"
GOOD_IMAGE = "nginx:1.18.0"
OLDER_IMAGE = "nginx:1.17.0"
KUSTOMIZATION = "kustomization.yaml"

SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
"""A bad release never takes a good pod away."""
HURTING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
"""A bad release costs one pod, and is stuck there."""
CRIPPLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}
"""A bad release costs two pods, and is stuck there."""
RECREATE = {"type": "Recreate"}
"""A bad release takes everything down."""


def a_deployment(
    name: str = "checkout",
    namespace: str = "default",
    image: str = GOOD_IMAGE,
    *,
    replicas: int = 3,
    container: str = "app",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    template_annotations: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    strategy: Json | None = None,
    progress_deadline_seconds: int | None = None,
    revision_history_limit: int | None = None,
    min_ready_seconds: int | None = None,
    paused: bool | None = None,
) -> Json:
    """Return a Deployment of one container; None leaves a field to the API server's default."""
    selector = {"app": name}
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    container_spec: Json = {"name": container, "image": image, "env": variables}
    spec: Json = {
        "replicas": replicas,
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": selector, "annotations": dict(template_annotations or {})},
            "spec": {"containers": [container_spec]},
        },
    }
    optional = {
        "strategy": strategy,
        "progressDeadlineSeconds": progress_deadline_seconds,
        "revisionHistoryLimit": revision_history_limit,
        "minReadySeconds": min_ready_seconds,
        "paused": paused,
    }
    spec.update({key: value for key, value in optional.items() if value is not None})
    metadata: Json = {
        "name": name,
        "namespace": namespace,
        "labels": dict(labels or {}),
        "annotations": dict(annotations or {}),
    }
    return {"apiVersion": APPS, "kind": "Deployment", "metadata": metadata, "spec": spec}


def is_complete(deployment: Json) -> bool:
    """Say whether all wanted pods run the current template and are available, and no other is."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    counts = ("updatedReplicas", "replicas", "availableReplicas")
    return is_observed(deployment) and all(status.get(count, 0) == wanted for count in counts)


def is_observed(deployment: Json) -> bool:
    """Say whether Kubernetes has taken up the newest change: revision and counts are of it."""
    observed: int = deployment.get("status", {}).get("observedGeneration", -1)
    return bool(observed >= deployment["metadata"]["generation"])


def images_of(deployment: Json) -> list[str]:
    """Return the images of the template, in the order of its containers."""
    return [
        container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]
    ]


def revision_of(found: Json) -> int:
    """Return the revision of a Deployment or ReplicaSet; 0 before it has one."""
    return int(found["metadata"].get("annotations", {}).get(REVISION, 0))


def restarts_of(pod: Json) -> int:
    """Return how often the containers of a pod have restarted, together."""
    return sum(container["restartCount"] for container in container_statuses(pod))


def container_statuses(pod: Json) -> list[Json]:
    """Return what is known of a pod's containers; empty before it was started."""
    statuses: list[Json] = pod.get("status", {}).get("containerStatuses", [])
    return statuses


def waiting_reasons(pods: Iterable[Json]) -> list[str]:
    """Return why containers wait, one word each: ImagePullBackOff and the like."""
    states = [status["state"] for pod in pods for status in container_statuses(pod)]
    return [state["waiting"]["reason"] for state in states if "waiting" in state]


def is_pod_ready(pod: Json) -> bool:
    conditions: list[Json] = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@dataclass(frozen=True)
class Workloads:
    """What an admin does, on one cluster.  Deployments are named by namespace and name."""

    api: Api
    kubectl: Kubectl

    # Namespaces and files

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a namespace and wait until pods can be made in it; one that exists is fine."""
        body: Json = {"metadata": {"name": name, "labels": dict(labels or {})}}
        try:
            self.api.create(path_to("v1", "namespaces"), body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        # Until its controller has made this, pods are refused.
        account = path_to("v1", "serviceaccounts", name, "default")
        wait_for(lambda: self.api.find(account), f"the default ServiceAccount of {name}")

    def delete_namespace(self, name: str) -> None:
        """Have a namespace deleted; that goes on after this returns."""
        self.api.delete(path_to("v1", "namespaces", None, name))

    def apply(self, *sources: Path | str) -> Completed:
        """
        Apply files, directories, kustomizations and literal YAML, server-side, all in one go.

        What needs a CRD of the same source may come before it: that is tried again once the CRDs
        are established.  Raises SandboxError with kubectl's words.
        """
        completed = None
        for source in sources:
            completed = self._apply(source, check=False)
            if completed.returncode != 0 and "no matches for kind" in completed.stderr:
                self.wait_for_crds()
                completed = self._apply(source, check=True)
            completed.check()
        if completed is None:
            raise SandboxError("nothing to apply")
        self.wait_for_crds()
        return completed

    def _apply(self, source: Path | str, *, check: bool) -> Completed:
        command = ("apply", "--server-side", "--force-conflicts", "--field-manager=sandbox")
        if isinstance(source, str):
            return self.kubectl.run(*command, "-f", "-", stdin=source, check=check)
        flag = "-k" if (source / KUSTOMIZATION).exists() else "-f"
        return self.kubectl.run(*command, flag, str(source), check=check)

    def wait_for_crds(self) -> None:
        """Wait until every CustomResourceDefinition is served, and known to `kubectl explain`."""
        crds = path_to("apiextensions.k8s.io/v1", "customresourcedefinitions")

        def unserved() -> list[str]:
            found = self.api.list(crds)
            return [crd["metadata"]["name"] for crd in found if not self._is_served(crd)]

        wait_for(lambda: not unserved(), "the CRDs to be served", seen=unserved)

    def _is_served(self, crd: Json) -> bool:
        conditions: list[Json] = crd.get("status", {}).get("conditions") or []
        if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            return False
        group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
        versions = [version["name"] for version in crd["spec"]["versions"] if version["served"]]
        documents = [self.api.find(f"/openapi/v3/apis/{group}/{version}") for version in versions]
        # The document of a group is there before its latest kind is in it.
        return all(document is not None and kind in kinds_of(document) for document in documents)

    # Looking

    def deployment(self, namespace: str, name: str) -> Json:
        return self.api.get(path_to(APPS, "deployments", namespace, name))

    def replica_sets(self, namespace: str, name: str) -> list[Json]:
        """Return the ReplicaSets that a Deployment owns, lowest revision first."""
        uid = self.deployment(namespace, name)["metadata"]["uid"]
        found = self.api.list(path_to(APPS, "replicasets", namespace))
        return sorted((item for item in found if uid in owners_of(item)), key=revision_of)

    def pods(self, namespace: str, name: str, revision: int | None = None) -> list[Json]:
        """Return the pods of a Deployment, or of one revision of it."""
        owners = {
            replica_set["metadata"]["uid"]
            for replica_set in self.replica_sets(namespace, name)
            if revision is None or revision_of(replica_set) == revision
        }
        found = self.api.list(path_to("v1", "pods", namespace))
        return [pod for pod in found if owners & owners_of(pod)]

    def events(self, namespace: str, name: str | None = None) -> list[Json]:
        """Return the Events of a namespace, or those about objects of one name."""
        query = {"fieldSelector": f"involvedObject.name={name}"} if name else {}
        return self.api.list(path_to("v1", "events", namespace), **query)

    # Waiting

    def wait_complete(
        self, namespace: str, name: str, *, timeout_seconds: float = PATIENCE_SECONDS
    ) -> Json:
        """Wait until the rollout is complete and has its revision; return the Deployment."""
        last: list[Json] = []

        def complete() -> Json | None:
            last[:] = [self.deployment(namespace, name)]
            return last[0] if is_complete(last[0]) and revision_of(last[0]) else None

        return wait_for(
            complete,
            f"Deployment {namespace}/{name} to be complete",
            timeout_seconds=timeout_seconds,
            seen=lambda: last[0].get("status"),
        )

    def wait_waiting(
        self,
        namespace: str,
        name: str,
        reason: str,
        *,
        pods: int = 1,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> list[Json]:
        """
        Wait until so many containers of the newest revision wait with a reason; return its pods.

        What is left of earlier ones does not count, nor does a pod that is on its way out.
        """

        def newest() -> list[Json]:
            deployment = self.deployment(namespace, name)
            if not is_observed(deployment):
                return []
            found = self.pods(namespace, name, revision_of(deployment))
            return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

        def hurting() -> list[Json]:
            found = newest()
            return found if waiting_reasons(found).count(reason) >= pods else []

        return wait_for(
            hurting,
            f"{pods} containers of {namespace}/{name} to wait with {reason}",
            timeout_seconds=timeout_seconds,
            seen=lambda: waiting_reasons(newest()),
        )

    def wait_revision(
        self, namespace: str, name: str, revision: int, *, timeout_seconds: float = PATIENCE_SECONDS
    ) -> Json:
        """Wait until the controller has written this revision on the Deployment; return that."""

        def numbered() -> Json | None:
            found = self.deployment(namespace, name)
            return found if revision_of(found) == revision else None

        return wait_for(
            numbered,
            f"{namespace}/{name} to be at revision {revision}",
            timeout_seconds=timeout_seconds,
            seen=lambda: revision_of(self.deployment(namespace, name)),
        )

    # Changing

    def deploy(self, deployment: Json, *, wait: bool = True) -> Json:
        """Create a Deployment and, unless told otherwise, wait until it is complete."""
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        created = self.api.create(
            path_to(APPS, "deployments", namespace), copy.deepcopy(deployment)
        )
        return self.wait_complete(namespace, name) if wait else created

    def patch(self, namespace: str, name: str, body: Json) -> Json:
        """Change a Deployment by a strategic merge patch."""
        return self.api.patch(path_to(APPS, "deployments", namespace, name), body, "strategic")

    def set_image(
        self, namespace: str, name: str, image: str, container: str | None = None
    ) -> Json:
        """Deploy another image in one container, the first unless named."""
        template = self.deployment(namespace, name)["spec"]["template"]
        chosen = container or template["spec"]["containers"][0]["name"]
        return self.patch_template(
            namespace, name, {"spec": {"containers": [{"name": chosen, "image": image}]}}
        )

    def set_template_annotation(
        self, namespace: str, name: str, key: str, value: str | None
    ) -> Json:
        """Deploy with another annotation on the pods, or without it."""
        return self.patch_template(namespace, name, {"metadata": {"annotations": {key: value}}})

    def patch_template(self, namespace: str, name: str, template: Json) -> Json:
        return self.patch(namespace, name, {"spec": {"template": template}})

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str | None]) -> Json:
        """Set annotations of the Deployment itself; None removes one."""
        return self.patch(namespace, name, {"metadata": {"annotations": dict(annotations)}})

    def label(self, namespace: str, name: str, labels: Mapping[str, str | None]) -> Json:
        """Set labels of the Deployment itself; None removes one."""
        return self.patch(namespace, name, {"metadata": {"labels": dict(labels)}})

    def scale(self, namespace: str, name: str, replicas: int) -> Json:
        path = path_to(APPS, "deployments", namespace, name, "scale")
        return self.api.patch(path, {"spec": {"replicas": replicas}})

    def pause(self, namespace: str, name: str) -> Json:
        return self.patch(namespace, name, {"spec": {"paused": True}})

    def resume(self, namespace: str, name: str) -> Json:
        return self.patch(namespace, name, {"spec": {"paused": None}})

    def restart(self, namespace: str, name: str) -> Completed:
        """Restart all pods, as `kubectl rollout restart` does: by a stamp in the template."""
        return self.kubectl.run("rollout", "restart", f"deployment/{name}", "-n", namespace)

    def undo(self, namespace: str, name: str, to_revision: int = 0) -> Completed:
        """Run `kubectl rollout undo`; 0 is the revision before."""
        flags = ("-n", namespace, f"--to-revision={to_revision}")
        return self.kubectl.run("rollout", "undo", f"deployment/{name}", *flags)

    def delete(self, namespace: str, name: str) -> None:
        """Delete a Deployment; its pods go after this returns."""
        self.api.delete(path_to(APPS, "deployments", namespace, name))


def owners_of(found: Json) -> set[str]:
    """Return the uids of an object's owners."""
    references: list[dict[str, Any]] = found["metadata"].get("ownerReferences", [])
    return {reference["uid"] for reference in references}


def kinds_of(openapi: Json) -> set[str]:
    """Return the kinds that an OpenAPI document of the API server describes."""
    schemas: dict[str, Json] = openapi.get("components", {}).get("schemas", {})
    key = "x-kubernetes-group-version-kind"
    return {named["kind"] for schema in schemas.values() for named in schema.get(key, [])}
