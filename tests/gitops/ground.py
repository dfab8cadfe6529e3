"""What a GitOps tool stands on: its CRDs, and an account of its own for the audit log to tell."""

from pathlib import Path

from tests.sandbox.api import Json, path_to
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.waiting import wait_for

CRDS = path_to("apiextensions.k8s.io/v1", "customresourcedefinitions")


def install_crds(sandbox: Sandbox, directory: Path) -> None:
    """Apply a directory of CRDs, and wait until all are served."""
    sandbox.kubectl.run("apply", "--server-side", "-f", str(directory))

    def unserved() -> list[str]:
        found = sandbox.api.list(CRDS)
        return [crd["metadata"]["name"] for crd in found if not is_established(crd)]

    wait_for(lambda: not unserved(), "the CRDs to be served", seen=unserved)


def is_established(crd: Json) -> bool:
    """Say whether objects of it can be made."""
    # Right after its creation it has conditions, and they are null.
    conditions: list[Json] = crd.get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def make_deployer(sandbox: Sandbox, namespace: str, name: str) -> None:
    """Make a namespace, and a ServiceAccount in it that may do everything."""
    sandbox.workloads.create_namespace(namespace)
    kubectl = sandbox.kubectl
    kubectl.run("create", "serviceaccount", name, "-n", namespace)
    account = f"--serviceaccount={namespace}:{name}"
    kubectl.run("create", "clusterrolebinding", name, "--clusterrole=cluster-admin", account)
