"""
A Kubernetes control plane in a temporary directory: etcd, API server, controllers, scheduler, kwok.

Pods are simulated by kwok; everything else is the real thing.  Each part has a user of its own, so
that the audit log tells them apart.
"""

import secrets
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.sandbox.api import Api, path_to
from tests.sandbox.audit import AuditLog
from tests.sandbox.build import Programs
from tests.sandbox.credentials import (
    Mounted,
    service_account_token,
    write_kubeconfig,
    write_mounted,
    write_secret,
)
from tests.sandbox.errors import SandboxError
from tests.sandbox.ports import LOOPBACK, free_port, is_listening
from tests.sandbox.processes import Proc, Processes
from tests.sandbox.waiting import wait_for

HERE = Path(__file__).parent
NODE = "node-0"

ADMIN: Final = "admin"
CONTROLLERS: Final = "system:kube-controller-manager"
SCHEDULER: Final = "system:kube-scheduler"
KWOK: Final = "kwok"
USERS = (ADMIN, CONTROLLERS, SCHEDULER, KWOK)

CLIENTS = ("kube-controller-manager", "kube-scheduler", "kwok")

FAST = ("--kube-api-qps=500", "--kube-api-burst=1000")
"""Without it the controllers throttle themselves: 55 Deployments take 13.8 s instead of 3.0 s."""


@dataclass
class ControlPlane:
    """One control plane; the constructor only chooses names and ports, `start` starts it."""

    programs: Programs
    processes: Processes
    api_port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    _tokens: dict[str, str] = field(
        default_factory=lambda: {user: secrets.token_hex(16) for user in USERS}
    )
    _parts: dict[str, Proc] = field(default_factory=dict[str, Proc])

    @property
    def root(self) -> Path:
        return self.processes.root

    @property
    def server(self) -> str:
        """The API server's address.  By number: its certificate is not for `localhost`."""
        return f"https://{LOOPBACK}:{self.api_port}"

    @property
    def ca(self) -> Path:
        """The certificate authority's file; the API server writes it at its first start."""
        return self.root / "certs" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.root / "admin.kubeconfig"

    @property
    def audit(self) -> AuditLog:
        return AuditLog(self.root / "audit.log")

    @property
    def parts(self) -> dict[str, Proc]:
        """The running parts by name: etcd, kube-apiserver, kube-controller-manager, …."""
        return dict(self._parts)

    def admin(self) -> Api:
        """Return a new client with all rights; the caller closes it."""
        return Api(self.server, self.ca, self._tokens[ADMIN])

    def start(self) -> None:
        """Start everything and return when a pod could be scheduled; takes about 4 seconds."""
        self._start_etcd()
        self._write_users()
        self._start_api_server()
        self._write_kubeconfig("admin", ADMIN)
        self._start_clients()
        with self.admin() as admin:
            self._create_node(admin)

    def start_api_server(self) -> None:
        """
        Start the API server again: same port, same certificate, same audit log.

        The controllers, the scheduler and kwok are started anew.  Left alone they would be back
        only after their back-off, up to half a minute, and tests would mostly wait for that.
        """
        self._start_api_server()
        for name in CLIENTS:
            self._parts[name].kill()
            self._parts[name].wait()
        with self.admin() as admin:
            # Each kwok has a name of its own, and would wait 40 s for the other's lease to end.
            admin.delete(path_to("coordination.k8s.io/v1", "leases", "kube-node-lease", NODE))
        self._start_clients()

    def _start_api_server(self) -> None:
        self._start("kube-apiserver", *self._api_server_flags())
        wait_for(self._has_ca, "the API server's certificate", seen=self._said("kube-apiserver"))
        self._wait_until_ready()

    def _has_ca(self) -> bool:
        """The file is there before all of it is written."""
        return self.ca.exists() and "END CERTIFICATE" in self.ca.read_text(encoding="ascii")

    def stop_api_server(self) -> None:
        """Kill the API server alone, and return when its port is closed."""
        proc = self._parts["kube-apiserver"]
        proc.kill(signal.SIGKILL)
        proc.wait()
        wait_for(lambda: not is_listening(self.api_port), "the API server's port to close")

    def freeze_api_server(self) -> None:
        """Have the API server accept connections and answer nothing, until it is thawed."""
        self._parts["kube-apiserver"].freeze()

    def thaw_api_server(self) -> None:
        self._parts["kube-apiserver"].kill(signal.SIGCONT)
        self._wait_until_ready()

    def token(self, namespace: str, service_account: str) -> str:
        """Return a fresh token of a ServiceAccount, good for a day."""
        with self.admin() as admin:
            return service_account_token(admin, namespace, service_account)

    def token_kubeconfig(self, namespace: str, service_account: str) -> Path:
        """Return a kubeconfig with the rights of a ServiceAccount, which must exist."""
        return write_kubeconfig(
            self.processes.path(f"{namespace}-{service_account}.kubeconfig"),
            server=self.server,
            ca=self.ca,
            token=self.token(namespace, service_account),
            namespace=namespace,
        )

    def mounted(self, namespace: str, service_account: str) -> Mounted:
        """Return what a pod with this ServiceAccount would find mounted."""
        return write_mounted(
            self.processes.path(f"{namespace}-{service_account}.mounted").with_suffix(".d"),
            server=self.server,
            ca=self.ca,
            token=self.token(namespace, service_account),
            namespace=namespace,
        )

    def _start_etcd(self) -> None:
        client, peer = (f"http://{LOOPBACK}:{port}" for port in (self.etcd_port, free_port()))
        self._start(
            "etcd",
            *("--name=sandbox", f"--data-dir={self.root / 'etcd'}"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            f"--initial-cluster=sandbox={peer}",
            "--unsafe-no-fsync",  # What a crash of the machine would lose is thrown away anyway.
            "--log-level=warn",
        )
        # The API server looks once a second; it is cheaper to have etcd there when it first does.
        wait_for(lambda: is_listening(self.etcd_port), "etcd", seen=self._said("etcd"))

    def _write_users(self) -> None:
        rows = [f'{token},{user},{user},"system:masters"\n' for user, token in self._tokens.items()]
        write_secret(self.root / "users.csv", "".join(rows))

    def _api_server_flags(self) -> list[str]:
        # The API server makes its own serving key before it reads the ServiceAccounts' key, so one
        # can be the other.  Making an RSA key ourselves would need a library or a program more.
        key = self.root / "certs" / "apiserver.key"
        return [
            f"--etcd-servers=http://{LOOPBACK}:{self.etcd_port}",
            *(f"--bind-address={LOOPBACK}", f"--secure-port={self.api_port}"),
            f"--cert-dir={self.ca.parent}",
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
            f"--token-auth-file={self.root / 'users.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            f"--audit-policy-file={HERE / 'audit-policy.yaml'}",
            *(f"--audit-log-path={self.audit.path}", "--audit-log-maxsize=100000"),
        ]

    def _start_clients(self) -> None:
        controllers = self._write_kubeconfig("controllers", CONTROLLERS)
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={controllers}",
            f"--service-account-private-key-file={self.ca.with_suffix('.key')}",
            f"--root-ca-file={self.ca}",
            "--use-service-account-credentials=true",
            *("--leader-elect=false", "--secure-port=0"),
            # The node's lease alone keeps it ready; kwok does not renew its status.
            "--node-monitor-grace-period=1h",
            *FAST,
        )
        scheduler = self._write_kubeconfig("scheduler", SCHEDULER)
        self._start(
            "kube-scheduler",
            f"--kubeconfig={scheduler}",
            *("--leader-elect=false", "--secure-port=0"),
            *FAST,
        )
        self._start(
            "kwok",
            f"--kubeconfig={self._write_kubeconfig('kwok', KWOK)}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
            f"--config={HERE / 'stages.yaml'}",
        )

    def _create_node(self, admin: Api) -> None:
        """Create the one node, and wait until pods can be scheduled on it."""
        nodes = path_to("v1", "nodes")
        annotations = {"kwok.x-k8s.io/node": "fake"}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": NODE,
                "annotations": annotations,
                "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"},
            },
        }
        admin.create(nodes, node)

        def is_ready() -> bool:
            found = admin.get(f"{nodes}/{NODE}")
            conditions = found["status"].get("conditions", [])
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            return ready and not found["spec"].get("taints")

        wait_for(is_ready, "the node to be ready", seen=self._said("kwok"))

    def _wait_until_ready(self) -> None:
        def is_ready() -> bool:
            if not self._parts["kube-apiserver"].is_running():
                raise SandboxError(f"the API server ended:\n{self._said('kube-apiserver')()}")
            return admin.is_ready()

        with self.admin() as admin:
            wait_for(is_ready, "the API server", seen=self._said("kube-apiserver"))

    def _write_kubeconfig(self, name: str, user: str) -> Path:
        path = self.root / f"{name}.kubeconfig"
        return write_kubeconfig(path, server=self.server, ca=self.ca, token=self._tokens[user])

    def _start(self, name: str, *flags: str) -> None:
        self._parts[name] = self.processes.start(
            name,
            [str(self.programs.path(name)), *flags],
            # HOME: kwok and kubectl would read, and keep, files in the real one.
            {"HOME": str(self.root)},
            graceful=False,
        )

    def _said(self, name: str) -> Callable[[], str]:
        """Return how to read the end of a part's log, for when that is needed."""
        return lambda: f"the log of {name}:\n{self._parts[name].log_tail()}"
