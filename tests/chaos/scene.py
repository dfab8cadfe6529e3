"""
The operator as it is deployed, two of each, and everything around it that can be broken.

Each process has a way of its own to the API server, and each controller one to FireHydrant: a proxy
that can be cut, and that remembers who asked for what.  Processes that end are started again.
"""

import http.client
import secrets
import signal
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.checker import Sleep
from tests.chaos.plan import BRIDGES, CONTROLLERS, WORKLOADS
from tests.sandbox.api import path_to
from tests.sandbox.build import say_on_stderr
from tests.sandbox.components import Component
from tests.sandbox.credentials import write_kubeconfig
from tests.sandbox.firehydrant import StandIn
from tests.sandbox.proxy import Proxy, Way
from tests.sandbox.sandbox import HOME_NAMESPACE, Sandbox
from tests.sandbox.workloads import a_deployment

ROOT: Final = Path(__file__).parents[2]
API_VERSION: Final = "incidentrollback.dev/v1alpha1"
ENVIRONMENT: Final = "chaos"
"""Also the namespace of its workloads."""
CONTROLLER_ACCOUNT: Final = "incident-rollback-controller"
BRIDGE_ACCOUNT: Final = "incident-rollback-bridge"
PODS: Final = 2
DEADLINE_SECONDS: Final = 20
"""Until Kubernetes gives up on a rollout; ten minutes would be waited for in the end."""
DOWN_SECONDS: Final = 0.7
"""For which a process that has ended stays away."""
POLICY: Final[Mapping[str, Any]] = {
    "maxAgeSeconds": 45,
    "stableSeconds": 1,
    "holdSeconds": 4,
    "cooldownSeconds": 0,
    "maxConcurrent": 3,
}


@dataclass
class Inhabitant:
    """One of our processes: it may be killed, stopped, frozen and cut off."""

    component: Component
    to_api: Proxy
    to_firehydrant: Proxy | None = None
    lives: int = 0
    sleeps: list[Sleep] = field(default_factory=list[Sleep])
    _down_since: float | None = None
    _frozen_since: float | None = None

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def alias(self) -> str:
        """The name of this life of it."""
        return f"{self.name}/{self.lives}"

    @property
    def ways(self) -> list[Proxy]:
        return [way for way in (self.to_api, self.to_firehydrant) if way is not None]

    def start(self) -> None:
        self.lives += 1
        for proxy in self.ways:
            proxy.client = self.alias
        self._down_since = None
        self.component.start(wait_ready=False)

    def kill(self) -> None:
        self.component.proc.kill(signal.SIGKILL)
        self.component.proc.wait()

    def stop(self) -> None:
        """Tell it to stop, and go on; it may take a moment."""
        self.component.proc.kill(signal.SIGTERM)

    def freeze(self) -> None:
        if self._frozen_since is None:
            self._frozen_since = time.monotonic()
            self.component.proc.kill(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._frozen_since is not None:
            self.sleeps.append(Sleep(self.alias, self._frozen_since, time.monotonic()))
            self._frozen_since = None
            self.component.proc.kill(signal.SIGCONT)

    def set_free(self) -> None:
        """Nothing stands in its way any more, and nobody waits for it."""
        self.clear_traps()
        for proxy in self.ways:
            proxy.take(Way.THROUGH)

    def clear_traps(self) -> None:
        for proxy in self.ways:
            proxy.clear_trap()

    def is_ready(self) -> bool:
        with suppress(OSError):
            return self.component.ask_ops("/readyz")[0] == http.client.OK
        return False

    def look_after(self) -> None:
        """Start it again when it has been down for a while, as kubelet does."""
        if self.component.proc.is_running():
            return
        now = time.monotonic()
        if self._down_since is None:
            self.thaw()  # Only its name is free for the next one now.
            self._down_since = now
        elif now - self._down_since >= DOWN_SECONDS:
            self.start()


@dataclass
class Scene:
    """All that there is."""

    sandbox: Sandbox
    firehydrant: StandIn
    secret: str
    inhabitants: dict[str, Inhabitant]
    lags: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """From when on, by the monotonic clock, FireHydrant's lists lag by how many seconds."""

    @property
    def controllers(self) -> list[Inhabitant]:
        return [self.inhabitants[name] for name in CONTROLLERS]

    def webhook_url(self, number: int) -> str:
        return f"{self.inhabitants[BRIDGES[number]].component.url}/firehydrant"

    def lag(self, seconds: float) -> None:
        """Let FireHydrant's lists lag."""
        self.lags.append((time.monotonic(), seconds))
        self.firehydrant.show_events_late(seconds)

    def lag_at(self, instant: float) -> float:
        """Return by how much they lagged then, in seconds."""
        return next((lag for since, lag in reversed(self.lags) if since <= instant), 0.0)


@contextmanager
def a_scene(say: Any = say_on_stderr) -> Generator[Scene]:
    """Set everything up, and take it away in the end."""
    with ExitStack() as closing:
        sandbox = closing.enter_context(Sandbox(say))
        firehydrant = closing.enter_context(StandIn())
        _install(sandbox)
        secret = secrets.token_hex(16)
        scene = Scene(sandbox, firehydrant, secret, {})
        for name in CONTROLLERS:
            scene.inhabitants[name] = _controller(closing, scene, name)
        for name in BRIDGES:
            scene.inhabitants[name] = _bridge(closing, scene, name)
        for one in scene.inhabitants.values():
            one.start()
        for one in scene.inhabitants.values():
            one.component.wait_ready()
        yield scene


def _install(sandbox: Sandbox) -> None:
    sandbox.install(ROOT / "crds", ROOT / "manifests/base")
    for account in (CONTROLLER_ACCOUNT, BRIDGE_ACCOUNT):
        sandbox.workloads.scale(HOME_NAMESPACE, account, 0)  # Ours are real, and run out here.
    sandbox.workloads.create_namespace(ENVIRONMENT)
    target = ROOT / "manifests/target-namespace"
    sandbox.kubectl.run("apply", "-k", str(target), "-n", ENVIRONMENT)
    environment = {
        "apiVersion": API_VERSION,
        "kind": "RollbackEnvironment",
        "metadata": {"name": ENVIRONMENT, "namespace": HOME_NAMESPACE},
        "spec": {
            "environments": [ENVIRONMENT],
            "policy": POLICY,
            "services": [
                {"name": "basket", "workload": {"namespace": ENVIRONMENT, "name": "cart"}}
            ],
        },
    }
    path = path_to(API_VERSION, "rollbackenvironments", HOME_NAMESPACE, ENVIRONMENT)
    sandbox.api.apply(path, environment)
    for name in WORKLOADS:
        body = a_deployment(
            name, ENVIRONMENT, replicas=PODS, progress_deadline_seconds=DEADLINE_SECONDS
        )
        sandbox.workloads.deploy(body, wait=False)
    for name in WORKLOADS:
        sandbox.workloads.wait_complete(ENVIRONMENT, name)


def _controller(closing: ExitStack, scene: Scene, name: str) -> Inhabitant:
    sandbox = scene.sandbox
    key = sandbox.root / "firehydrant-api-key"
    key.write_text("fhb-chaos", encoding="ascii")
    to_firehydrant = closing.enter_context(
        Proxy(scene.firehydrant.url.removesuffix("/v1"), remembers=True)
    )
    component = sandbox.controller(
        service_account=CONTROLLER_ACCOUNT,
        name=name,
        env={
            "INCIDENT_ROLLBACK_FIREHYDRANT_URL": f"{to_firehydrant.url}/v1",
            "INCIDENT_ROLLBACK_FIREHYDRANT_API_KEY_FILE": str(key),
        },
    )
    to_api = _way_to_the_api_server(closing, sandbox, component, CONTROLLER_ACCOUNT)
    return Inhabitant(component, to_api, to_firehydrant)


def _bridge(closing: ExitStack, scene: Scene, name: str) -> Inhabitant:
    component = scene.sandbox.bridge(
        service_account=BRIDGE_ACCOUNT, secrets={"current": scene.secret}, name=name
    )
    to_api = _way_to_the_api_server(closing, scene.sandbox, component, BRIDGE_ACCOUNT)
    return Inhabitant(component, to_api)


def _way_to_the_api_server(
    closing: ExitStack, sandbox: Sandbox, component: Component, account: str
) -> Proxy:
    """Return a proxy, and tell the process to go through it."""
    control_plane = sandbox.control_plane
    proxy = closing.enter_context(Proxy(control_plane.server, ca=control_plane.ca))
    kubeconfig = write_kubeconfig(
        sandbox.processes.path(f"{component.name}.kubeconfig"),
        server=proxy.url,
        ca=control_plane.ca,
        token=control_plane.token(HOME_NAMESPACE, account),
        namespace=HOME_NAMESPACE,
    )
    component.env["KUBECONFIG"] = str(kubeconfig)
    return proxy
