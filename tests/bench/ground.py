"""The ground of a run: a cluster, FireHydrant, our two processes, and broken Deployments."""

import json
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.bench.sender import Sent, Webhook
from tests.e2e.stage import (
    API_VERSION,
    BRIDGE_ACCOUNT,
    CONTROLLER_ACCOUNT,
    ENVIRONMENTS,
    ROLLBACKS,
    ROOT,
)
from tests.sandbox.api import Json, path_to
from tests.sandbox.components import Component
from tests.sandbox.errors import SandboxError
from tests.sandbox.firehydrant import StandIn, sign
from tests.sandbox.firehydrant_runbook import SIGNATURE_HEADER
from tests.sandbox.sandbox import HOME_NAMESPACE, Sandbox
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import PATIENCE_SECONDS, wait_for
from tests.sandbox.workloads import (
    APPS,
    CRIPPLING,
    GOOD_IMAGE,
    a_deployment,
    is_complete,
    is_observed,
    waiting_reasons,
)

NAMESPACE: Final = "bench"
"""Also the environment's name in FireHydrant."""
PODS: Final = 3
AT_ONCE: Final = {"stableSeconds": 0, "holdSeconds": 0}
"""No calm and no hold: a rollback is over when its pods are, and the next can begin."""
ADMINS: Final = 8
"""So many requests of an admin at once set the scene."""
LOOK_EVERY_SECONDS: Final = 0.1

HOME_ROLLBACKS: Final = path_to(API_VERSION, ROLLBACKS, HOME_NAMESPACE)
DEPLOYMENTS: Final = path_to(APPS, "deployments", NAMESPACE)
PODS_PATH: Final = path_to("v1", "pods", NAMESPACE)
EVENTS_PATH: Final = path_to("v1", "events", NAMESPACE)


@dataclass
class Ground:
    """What both contestants stand on.  Deployments are named by what is measured with them."""

    sandbox: Sandbox
    firehydrant: StandIn
    secret: str
    controller: Component
    bridge: Component
    told: dict[str, str]
    """What every controller is told by its environment."""
    incidents: dict[str, str] = field(default_factory=dict[str, str])
    """The ids of incidents, by the Deployment that is hurt."""

    # Workloads

    def break_many(self, names: Sequence[str], *, pods: int = PODS) -> None:
        """Deploy a good release and a bad one over it, and wait until each is hurt."""
        self._each(
            names, lambda name: self.sandbox.workloads.deploy(self._good(name, pods), wait=False)
        )
        self._wait_each(names, "complete", self._complete)
        self._each(names, self._break)
        self._wait_each(names, "hurt", self._hurt)

    def clear(self) -> None:
        """
        Take all workloads and requests away, and wait until nothing of them is left.

        Events as well: the API server keeps them for an hour and reads through all of a namespace
        for each list, so that what comes later would be slower.
        """
        for path in (HOME_ROLLBACKS, DEPLOYMENTS):
            self.sandbox.api.delete(path)
        wait_for(
            lambda: not self.sandbox.api.list(PODS_PATH) and not self.rollbacks(),
            "the namespace to be empty",
            every_seconds=LOOK_EVERY_SECONDS,
        )
        self.sandbox.api.delete(EVENTS_PATH)

    def _good(self, name: str, pods: int) -> Json:
        return a_deployment(name, NAMESPACE, GOOD_IMAGE, replicas=pods, strategy=CRIPPLING)

    def _break(self, name: str) -> object:
        template = {"spec": {"containers": [{"name": "app", "image": BROKEN_IMAGE}]}}
        return self.sandbox.workloads.patch_template(NAMESPACE, name, template)

    def _each(self, names: Sequence[str], act: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(ADMINS) as pool:
            list(pool.map(act, names))

    def _wait_each(
        self,
        names: Sequence[str],
        what: str,
        those: Callable[[], set[str]],
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Wait until all are so; they are looked at together, for one at a time takes longer."""
        wait_for(
            lambda: set(names) <= those(),
            f"{len(names)} Deployments to be {what}",
            timeout_seconds=timeout_seconds,
            every_seconds=LOOK_EVERY_SECONDS,
            seen=lambda: f"not yet: {sorted(set(names) - those())}",
        )

    def _complete(self) -> set[str]:
        found = self.sandbox.api.list(DEPLOYMENTS)
        return {one["metadata"]["name"] for one in found if is_complete(one)}

    def _hurt(self) -> set[str]:
        """Return those that were taken up and have a pod that crash-loops."""
        pods = self.sandbox.api.list(PODS_PATH)
        crashing = {
            pod["metadata"]["labels"]["app"]
            for pod in pods
            if "CrashLoopBackOff" in waiting_reasons([pod])
        }
        found = self.sandbox.api.list(DEPLOYMENTS)
        return {
            one["metadata"]["name"]
            for one in found
            if is_observed(one) and one["metadata"]["name"] in crashing
        }

    # Requests

    def body(self, name: str) -> bytes:
        """Declare an incident that hurts a Deployment, and return Relay's body for it."""
        incident = self.firehydrant.declare(
            f"{name} is down", services=[name], environments=[NAMESPACE]
        )
        self.incidents[name] = incident
        return self.firehydrant.render_step("relay", incident_id=incident)

    def signature(self, body: bytes) -> str:
        return sign(body, self.secret)

    def webhook(self, body: bytes) -> Webhook:
        """Return what FireHydrant would post to our bridge."""
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: self.signature(body)}
        return Webhook(f"{self.bridge.url}/firehydrant", body, headers)

    def rollbacks(self) -> list[Json]:
        return self.sandbox.api.list(HOME_ROLLBACKS)

    def wait_settled(self, count: int) -> None:
        """Wait until so many rollbacks are there, and nothing is left to do or tell of any."""

        def unsettled() -> list[Json]:
            return [one for one in self.rollbacks() if not one.get("status", {}).get("settled")]

        wait_for(
            lambda: not unsettled() and len(self.rollbacks()) >= count,
            f"{count} rollbacks to be settled",
            every_seconds=LOOK_EVERY_SECONDS,
            seen=lambda: f"{[one['status'] for one in unsettled()][:2]}\n{self.last_words()}",
        )

    def wait_ended(self, count: int) -> None:
        """Wait until so many rollbacks have succeeded; what is told of them may follow."""

        def ended() -> int:
            found = [one.get("status", {}).get("phase") for one in self.rollbacks()]
            wrong = {"Failed", "Refused"} & set(found)
            if wrong:
                raise SandboxError(f"a rollback has {wrong}: {self.last_words()}")
            return found.count("Succeeded")

        wait_for(
            lambda: ended() >= count,
            f"{count} rollbacks to succeed",
            every_seconds=LOOK_EVERY_SECONDS,
            seen=lambda: f"{ended()} have\n{self.last_words()}",
        )

    def wait_good(self, names: Sequence[str], *, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until Deployments are back, whoever has seen to it."""
        self._wait_each(names, "back", self.back, timeout_seconds)

    def back(self) -> set[str]:
        """Return the Deployments that are back on the good release."""
        found = self.sandbox.api.list(DEPLOYMENTS)
        return {
            one["metadata"]["name"]
            for one in found
            if one["spec"]["template"]["spec"]["containers"][0]["image"] == GOOD_IMAGE
        }

    def first_note_at(self, name: str) -> float:
        """Return when the incident of a Deployment was first told, in seconds since 1970."""
        told = self.firehydrant.timeline(self.incidents[name])
        return min(one.at.timestamp() for one in told if one.kind == "note")

    # Processes

    def second_controller(self) -> Component:
        """Return a controller beside the first, that is yet to be started."""
        return self.sandbox.controller(
            service_account=CONTROLLER_ACCOUNT, name="controller-2", env=self.told
        )

    def begin_again(self) -> None:
        """Start both processes anew: what an earlier measure has left in them counts no more."""
        for component in (self.controller, self.bridge):
            component.stop()
        for component in (self.controller, self.bridge):
            component.start(wait_ready=False)
        for component in (self.controller, self.bridge):
            component.wait_ready()
        self.wait_led()

    def cpu_seconds(self) -> float:
        """Return the processor time that both have used so far."""
        return self.bridge.proc.cpu_seconds() + self.controller.proc.cpu_seconds()

    def wait_led(self) -> None:
        """Wait until a controller leads."""
        running = [one for one in self.sandbox.components if one.port is None and is_running(one)]
        wait_for(lambda: any(map(leads, running)), "a controller to lead", seen=self.last_words)

    def last_words(self) -> str:
        said = [f"{one.name} said\n{one.log_tail()}" for one in self.sandbox.components]
        return "\n".join(said)


def is_running(component: Component) -> bool:
    try:
        return component.proc.is_running()
    except SandboxError:  # It was never started.
        return False


def leads(component: Component) -> bool:
    """Say whether a controller calls itself the leader."""
    return "\nincident_rollback_leader 1.0" in component.metrics()


def rollback_of(sent: Sent) -> str:
    """Return the name of the rollback that a webhook was answered with."""
    if sent.status not in (200, 202):
        raise SandboxError(f"answered {sent.status}: {sent.body!r}")
    (row,) = json.loads(sent.body)["rollbacks"]
    return str(row["name"])


@contextmanager
def ground(sandbox: Sandbox) -> Generator[Ground]:
    """Install all of it, and start our two processes."""
    sandbox.install(ROOT / "crds", ROOT / "manifests/base")
    for account in (CONTROLLER_ACCOUNT, BRIDGE_ACCOUNT):
        sandbox.workloads.delete(HOME_NAMESPACE, account)  # Ours are real, and run out here.
    sandbox.workloads.create_namespace(NAMESPACE)
    role = str(ROOT / "manifests/target-namespace")
    sandbox.kubectl.run("apply", "-k", role, "-n", NAMESPACE)
    sandbox.api.apply(path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, NAMESPACE), mapping())
    key = sandbox.root / "firehydrant-api-key"
    key.write_text("fhb-benchmark", encoding="ascii")
    secret = secrets.token_hex(16)
    with StandIn() as firehydrant:
        told = {
            "INCIDENT_ROLLBACK_FIREHYDRANT_URL": firehydrant.url,
            "INCIDENT_ROLLBACK_FIREHYDRANT_API_KEY_FILE": str(key),
        }
        controller = sandbox.controller(service_account=CONTROLLER_ACCOUNT, env=told)
        bridge = sandbox.bridge(service_account=BRIDGE_ACCOUNT, secrets={"current": secret})
        made = Ground(sandbox, firehydrant, secret, controller, bridge, told)
        controller.start(wait_ready=False)
        bridge.start(wait_ready=False)
        controller.wait_ready()
        bridge.wait_ready()
        made.wait_led()
        yield made
        bridge.stop()
        controller.stop()


def mapping() -> dict[str, Any]:
    """Return the RollbackEnvironment of the benchmark."""
    return {
        "apiVersion": API_VERSION,
        "kind": "RollbackEnvironment",
        "metadata": {"name": NAMESPACE, "namespace": HOME_NAMESPACE},
        "spec": {"environments": [NAMESPACE], "namespace": NAMESPACE, "policy": AT_ONCE},
    }


def rest(seconds: float) -> None:
    """Leave the machine alone for a moment, so that one measure does not weigh on the next."""
    time.sleep(seconds)
