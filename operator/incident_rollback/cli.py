"""What people ask for from a shell: it makes resources, and changes no workload itself."""

import os
import secrets
from pathlib import Path

from incident_rollback.clients.clock import ApiClock
from incident_rollback.clients.connection import connect
from incident_rollback.clients.store import KubernetesStore
from incident_rollback.crd.v1alpha1 import API_VERSION
from incident_rollback.domain.raw import Json
from incident_rollback.errors import InvalidRequestError

KINDS = ("deploy", "deployment", "deployments", "deployment.apps")


async def ask_for_rollback(
    workload: str, namespace: str, to_revision: int | None, *, dry_run: bool
) -> str:
    """
    Make an IncidentRollback for a workload; return its name.

    Raises InvalidRequestError for a workload that is none, and what the API server says.
    """
    kind, _, name = workload.partition("/")
    if kind.lower() not in KINDS or not name:
        raise InvalidRequestError(f"{workload!r} is not of the form deploy/NAME")
    kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    connection = await connect(ApiClock(), environ={**os.environ, "KUBECONFIG": kubeconfig})
    try:
        store = KubernetesStore(connection, namespace)
        made, _ = await store.create(_manifest(name, namespace, to_revision, dry_run=dry_run))
    finally:
        await connection.close()
    return made.metadata.name


def _manifest(name: str, namespace: str, to_revision: int | None, *, dry_run: bool) -> Json:
    spec: Json = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "dryRun": dry_run,
        "requestedBy": "kubectl irb rollback",
    }
    if to_revision is not None:
        spec["to"] = {"revision": to_revision}
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentRollback",
        "metadata": {
            "name": f"{name[:50].rstrip('-.')}-{secrets.token_hex(4)}",
            "namespace": namespace,
        },
        "spec": spec,
    }
