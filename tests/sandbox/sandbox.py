"""Everything together: a control plane, an admin, and our own processes with their real rights."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.sandbox.api import Api
from tests.sandbox.audit import AuditLog
from tests.sandbox.build import Say, programs, say_on_stderr
from tests.sandbox.components import Component
from tests.sandbox.controlplane import ControlPlane
from tests.sandbox.kubectl import Kubectl
from tests.sandbox.ports import LOOPBACK, free_port
from tests.sandbox.processes import Processes
from tests.sandbox.workloads import Workloads

HOME_NAMESPACE = "incident-rollback"
CONTROLLER = "controller"
BRIDGE = "bridge"


class Sandbox:
    """
    A Kubernetes control plane for as long as a `with` block.

    When the block ends, or this process in any way, every process is ended and every file removed
    within five seconds.  Raises ToolMissingError or SandboxError on entry.
    """

    processes: Processes
    control_plane: ControlPlane
    api: Api
    """A client with all rights."""
    kubectl: Kubectl
    """kubectl with all rights; see `kubectl_as` for others."""
    workloads: Workloads

    def __init__(self, say: Say = say_on_stderr) -> None:
        self._say = say
        self._cleanup = ExitStack()
        self._components: list[Component] = []

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            self.processes = cleanup.enter_context(Processes())
            built = programs(self.processes, self._say)
            self.control_plane = ControlPlane(built, self.processes)
            self.control_plane.start()
            self.api = cleanup.enter_context(self.control_plane.admin())
            self.kubectl = Kubectl(built, self.processes, self.control_plane.kubeconfig)
            self.workloads = Workloads(self.api, self.kubectl)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    @property
    def root(self) -> Path:
        """The temporary directory; whatever is put there is removed at the end."""
        return self.processes.root

    @property
    def audit(self) -> AuditLog:
        return self.control_plane.audit

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.control_plane.kubeconfig

    @property
    def components(self) -> tuple[Component, ...]:
        """Every process of ours so far, in order."""
        return tuple(self._components)

    def settled_audit(self) -> AuditLog:
        """Return the audit log once it holds all that was answered so far: what to count in."""
        self.audit.settle(self.api)
        return self.audit

    def kubectl_as(self, namespace: str, service_account: str) -> Kubectl:
        """Return kubectl with the rights of a ServiceAccount."""
        return self.kubectl.as_user(self.control_plane.token_kubeconfig(namespace, service_account))

    def install(self, *sources: Path | str) -> None:
        """Apply manifests: kustomizations, directories, files or literal YAML."""
        self.workloads.apply(*sources)

    def controller(
        self,
        *,
        service_account: str,
        namespace: str = HOME_NAMESPACE,
        name: str = CONTROLLER,
        env: Mapping[str, str] | None = None,
    ) -> Component:
        """Return a controller that is yet to be started, with the rights of a ServiceAccount."""
        return self._component(name, CONTROLLER, namespace, service_account, env)

    def bridge(
        self,
        *,
        service_account: str,
        secrets: Mapping[str, str],
        namespace: str = HOME_NAMESPACE,
        name: str = BRIDGE,
        env: Mapping[str, str] | None = None,
    ) -> Component:
        """Return a bridge that is yet to be started; `secrets` by file name, as mounted."""
        port = free_port()
        directory = Path(tempfile.mkdtemp(prefix=f"{name}-secrets-", dir=self.root))
        for file_name, secret in secrets.items():
            (directory / file_name).write_text(secret, encoding="utf-8")
        told = {
            "INCIDENT_ROLLBACK_BRIDGE_HOST": LOOPBACK,
            "INCIDENT_ROLLBACK_BRIDGE_PORT": str(port),
            "INCIDENT_ROLLBACK_HMAC_SECRETS_DIR": str(directory),
        }
        component = self._component(
            name, BRIDGE, namespace, service_account, {**told, **(env or {})}
        )
        component.port = port
        return component

    def _component(
        self,
        name: str,
        command: str,
        namespace: str,
        service_account: str,
        env: Mapping[str, str] | None,
    ) -> Component:
        ops_port = free_port()
        kubeconfig = self.control_plane.token_kubeconfig(namespace, service_account)
        told = {
            "KUBECONFIG": str(kubeconfig),
            "HOME": str(self.root),
            "INCIDENT_ROLLBACK_NAMESPACE": namespace,
            "INCIDENT_ROLLBACK_OPS_HOST": LOOPBACK,
            "INCIDENT_ROLLBACK_OPS_PORT": str(ops_port),
        }
        component = Component(name, command, self.processes, {**told, **(env or {})}, ops_port)
        self._components.append(component)
        return component
