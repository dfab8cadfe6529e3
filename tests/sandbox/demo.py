"""
The demo: a bad deploy, its incident and the rollback, played on the sandbox in about a minute.

Results are printed as they are read back: from the API server, from its audit log, and from the
stand-in FireHydrant.  As soon as one is not what it should be, the demo says so and fails.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from incident_rollback.domain.names import dns_label
from tests.sandbox.api import Json, path_to
from tests.sandbox.audit import AuditRecord
from tests.sandbox.build import HERE
from tests.sandbox.components import Component
from tests.sandbox.demo_words import (
    describe_deployment,
    describe_entry,
    describe_rollback,
    describe_write,
    ready_of,
)
from tests.sandbox.errors import SandboxError
from tests.sandbox.firehydrant import Delivery, StandIn
from tests.sandbox.sandbox import HOME_NAMESPACE, Sandbox
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import (
    CRIPPLING,
    GOOD_IMAGE,
    a_deployment,
    images_of,
    is_complete,
    waiting_reasons,
)

ROOT: Final = HERE.parents[1]
SERVICE: Final = "sockshop-frontend"
ENVIRONMENT: Final = "production"
CONTAINER: Final = "nginx-1"
PODS: Final = 3
QUICK: Final = {"stableSeconds": 5, "holdSeconds": 5}
"""A policy for people who watch; the shipped one is 30 s of calm and ten minutes of hold."""

PATIENCE_SECONDS: Final = 90.0
QUIET_SECONDS: Final = 3.0
"""How long nothing must happen after a repeated webhook."""
LOOK_EVERY_SECONDS: Final = 0.2
INDENT: Final = " " * 11
ROLLBACKS: Final = path_to("incidentrollback.dev/v1alpha1", "incidentrollbacks", HOME_NAMESPACE)
ENVIRONMENTS: Final = path_to(
    "incidentrollback.dev/v1alpha1", "rollbackenvironments", HOME_NAMESPACE
)


class DemoError(Exception):
    """The story went another way; the message says which."""


def expect(is_so: bool, otherwise: str) -> None:
    """Raise DemoError with the words unless it is so."""
    if not is_so:
        raise DemoError(otherwise)


@dataclass
class Narrator:
    """Prints, with the seconds since the beginning; news only when they are new."""

    began: float = field(default_factory=time.monotonic)
    last: dict[str, str] = field(default_factory=dict[str, str])

    def chapter(self, title: str) -> None:
        """Begin with what the demo does next."""
        self._write(f"\n=== {title}\n")

    def tell(self, text: str) -> None:
        """Print what was seen."""
        first, *more = text.splitlines() or [""]
        lines = [f"{time.monotonic() - self.began:7.1f} s  {first}"]
        lines += [f"{INDENT}{line}".rstrip() for line in more]
        self._write("\n".join(lines) + "\n")

    def news(self, topic: str, text: str) -> None:
        """Print what was seen of a topic, unless that is what was seen of it before."""
        if text and self.last.get(topic) != text:
            self.last[topic] = text
            self.tell(text)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


@dataclass(frozen=True)
class Names:
    """What FireHydrant calls the service and the environment, and what the cluster does."""

    service: str
    environment: str

    @property
    def deployment(self) -> str:
        return dns_label(self.service)

    @property
    def namespace(self) -> str:
        return dns_label(self.environment)

    def mapping(self) -> Json:
        """Return the RollbackEnvironment that an admin would write for these names."""
        spec: Json = {
            "environments": [self.environment],
            "namespace": self.namespace,
            "policy": QUICK,
        }
        if self.service != self.deployment:
            workload = {"kind": "Deployment", "name": self.deployment}
            spec["services"] = [{"name": self.service, "workload": workload}]
        return {
            "apiVersion": "incidentrollback.dev/v1alpha1",
            "kind": "RollbackEnvironment",
            "metadata": {"name": "demo", "namespace": HOME_NAMESPACE},
            "spec": spec,
        }


def read_names(service: str, environment: str) -> Names:
    """Return the names to play with.  Raises DemoError for those that nothing can be made of."""
    names = Names(service or SERVICE, environment or ENVIRONMENT)
    expect(bool(names.deployment), f"SERVICE={names.service!r} has no letter or digit")
    expect(bool(names.namespace), f"ENVIRONMENT={names.environment!r} has no letter or digit")
    expect(
        names.namespace != HOME_NAMESPACE,
        f"ENVIRONMENT={names.environment!r} is the operator's own namespace; take another",
    )
    return names


@dataclass
class Story:
    """The play: each chapter does one thing, and tells what is to be seen of it."""

    sandbox: Sandbox
    firehydrant: StandIn
    names: Names
    narrator: Narrator = field(default_factory=Narrator)
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    mark: int = 0
    """Where the audit log stood when the good release was in."""
    told: set[str] = field(default_factory=set[str])
    """What of the audit log and of the timeline was printed."""

    def play(self) -> None:
        """Play all of it.  Raises DemoError or SandboxError."""
        bridge = self.install()
        self.deploy()
        self.break_it()
        incident = self.declare()
        first = self.run_step(bridge, incident)
        self.watch(incident)
        self.repeat(first, incident)
        self.show_what_is_left(incident)

    # The chapters

    def install(self) -> Component:
        """Install the operator and let it into the namespace; return the bridge."""
        say, sandbox = self.narrator, self.sandbox
        say.chapter("Install the operator and let it into the namespace")
        version = sandbox.api.get("/version")["gitVersion"]
        say.tell(f"a Kubernetes API server answers: {version}")
        sandbox.workloads.create_namespace(self.names.namespace)
        sandbox.install(ROOT / "crds", ROOT / "manifests" / "base")
        # Images are not run here: the two processes run beside the cluster, see below.
        for name in ("incident-rollback-controller", "incident-rollback-bridge"):
            sandbox.workloads.delete(HOME_NAMESPACE, name)
        role = str(ROOT / "manifests" / "target-namespace")
        self.kubectl("apply", "-k", role, "-n", self.names.namespace)
        sandbox.install(json.dumps(self.names.mapping()))
        bridge = self._start_both()
        self._wait_mapped()
        self.kubectl("get", "rbenv", "-n", HOME_NAMESPACE)
        return bridge

    def deploy(self) -> None:
        """Deploy the release that works."""
        self.narrator.chapter(f"Deploy {GOOD_IMAGE}")
        name, namespace = self.names.deployment, self.names.namespace
        self.sandbox.workloads.deploy(
            a_deployment(
                name, namespace, GOOD_IMAGE, replicas=PODS, container=CONTAINER, strategy=CRIPPLING
            )
        )
        self.look()
        self.kubectl("get", "pods", "-n", namespace)
        self.mark = self.sandbox.settled_audit().mark()

    def break_it(self) -> None:
        """Deploy the release that does not."""
        self.narrator.chapter(f"Deploy {BROKEN_IMAGE} over it")
        where = (f"deployment/{self.names.deployment}", "-n", self.names.namespace)
        self.kubectl("set", "image", *where, f"{CONTAINER}={BROKEN_IMAGE}")
        self.look_until(
            lambda: self._crashing() >= PODS - 1, f"{PODS - 1} pods of {BROKEN_IMAGE} to crash"
        )

    def declare(self) -> str:
        """Declare the incident; return its id."""
        self.narrator.chapter("Declare the incident")
        service, environment = self.names.service, self.names.environment
        incident_id = self.firehydrant.declare(
            f"{service} is down", services=[service], environments=[environment]
        )
        seen = self.firehydrant.incident(incident_id)
        hurt = ", ".join(one["name"] for one in seen["services"] + seen["environments"])
        self.narrator.tell(
            f"FireHydrant (the stand-in): incident {seen['number']}, {seen['severity']}, "
            f"{seen['name']!r}; hurt: {hurt}"
        )
        return incident_id

    def run_step(self, bridge: Component, incident_id: str) -> Delivery:
        """Run the runbook step with Relay's template."""
        self.narrator.chapter("Run the runbook step: Send a Webhook, with Relay's template")
        url = f"{bridge.url}/firehydrant"
        delivery = self.firehydrant.run_step(
            url, "relay", incident_id=incident_id, secret=self.secret
        )
        self.narrator.tell(f"posted to {url}, signed:\n{delivery.body.decode()}")
        self._tell_answer(delivery)
        expect(delivery.status == 202, "the bridge was to answer 202")
        return delivery

    def watch(self, incident_id: str) -> None:
        """Watch until the rollback is settled."""
        self.narrator.chapter("Watch")
        self.look_until(
            lambda: all(one["status"].get("settled", False) for one in self._rollbacks()),
            "the rollback to be settled",
            incident_id,
        )
        (rollback,) = self._rollbacks()
        status = rollback["status"]
        expect(status["phase"] == "Succeeded", f"it was to succeed: {describe_rollback(rollback)}")
        self._expect_healed()
        self._expect_told(incident_id)

    def repeat(self, first: Delivery, incident_id: str) -> None:
        """Send the very same bytes once more."""
        self.narrator.chapter("Send the same webhook again")
        before = self._deployment()["metadata"]["generation"]
        again = self.firehydrant.post_raw(first.url, first.body, first.headers)
        self._tell_answer(again)
        expect(again.status == 200, "the bridge was to answer 200")
        give_up_at = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < give_up_at:
            self.look(incident_id)
            time.sleep(LOOK_EVERY_SECONDS)
        after = self._deployment()["metadata"]["generation"]
        count = len(self._rollbacks())
        writes = [record for record in self._writes() if "serviceaccount" in record.user]
        self.narrator.tell(
            f"{QUIET_SECONDS:g} s later: generation of the Deployment {before} -> {after}, "
            f"IncidentRollbacks {count}, writes of the operator to the Deployment {len(writes)}"
        )
        expect(after == before, "the Deployment was not to change")
        expect(count == 1, "there was to be one IncidentRollback")
        expect(len(writes) == 1, "there was to be one patch by the operator")
        self._expect_healed()

    def show_what_is_left(self, incident_id: str) -> None:
        """Show the incident and the cluster at the end."""
        self.narrator.chapter("What the incident says")
        self.narrator.tell("its timeline:\n" + self.firehydrant.render_timeline(incident_id))
        self.narrator.chapter("What the cluster says")
        self.kubectl("get", "deployments,pods", "-n", self.names.namespace)
        self.kubectl("get", "irb", "-n", HOME_NAMESPACE)
        violations = self.firehydrant.violations
        expect(not violations, f"FireHydrant's API was used against its description: {violations}")

    # Looking

    def look(self, incident_id: str | None = None) -> None:
        """Print what is new in the cluster and on the incident."""
        for record in self._writes():
            self._once(record.audit_id, describe_write(record))
        for rollback in self._rollbacks():
            self.narrator.news(rollback["metadata"]["uid"], describe_rollback(rollback))
        namespace, name = self.names.namespace, self.names.deployment
        pods = self.sandbox.workloads.pods(namespace, name)
        self.narrator.news(name, describe_deployment(self._deployment(), pods))
        if incident_id is not None:
            for entry in self.firehydrant.timeline(incident_id):
                self._once(f"{entry.event_id} {len(entry.edits)}", describe_entry(entry))

    def look_until(
        self, is_so: Callable[[], bool], what: str, incident_id: str | None = None
    ) -> None:
        """Look until it is so.  Raises DemoError when that takes too long."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            is_over = is_so()  # Before the look: what made it so is printed.
            self.look(incident_id)
            if is_over:
                return
            expect(time.monotonic() < give_up_at, f"waited {PATIENCE_SECONDS:g} s for {what}")
            time.sleep(LOOK_EVERY_SECONDS)

    def kubectl(self, *args: str) -> None:
        """Run kubectl, and print the command and what it says."""
        completed = self.sandbox.kubectl.run(*args)
        command = " ".join(args).replace(f"{ROOT}/", "")
        self.narrator.tell(f"$ kubectl {command}\n{completed.stdout.rstrip()}")

    def _once(self, key: str, text: str) -> None:
        if key not in self.told:
            self.told.add(key)
            self.narrator.tell(text)

    def _deployment(self) -> Json:
        return self.sandbox.workloads.deployment(self.names.namespace, self.names.deployment)

    def _rollbacks(self) -> Sequence[Json]:
        return self.sandbox.api.list(ROLLBACKS)

    def _writes(self) -> Sequence[AuditRecord]:
        """Return who wrote the Deployment since the good release; its status does not count."""
        if not self.mark:
            return []
        return self.sandbox.audit.where(
            since=self.mark,
            resource="deployments",
            subresource="",
            namespace=self.names.namespace,
            name=self.names.deployment,
            writes=True,
        )

    def _crashing(self) -> int:
        pods = self.sandbox.workloads.pods(self.names.namespace, self.names.deployment)
        return waiting_reasons(pods).count("CrashLoopBackOff")

    # Starting and judging

    def _start_both(self) -> Component:
        key = self.sandbox.root / "firehydrant-api-key"
        key.write_text("fhb-demo\n", encoding="ascii")
        told = {
            "INCIDENT_ROLLBACK_FIREHYDRANT_URL": self.firehydrant.url,
            "INCIDENT_ROLLBACK_FIREHYDRANT_API_KEY_FILE": str(key),
        }
        controller = self.sandbox.controller(
            service_account="incident-rollback-controller", env=told
        )
        bridge = self.sandbox.bridge(
            service_account="incident-rollback-bridge", secrets={"current": self.secret}
        )
        for component in (controller, bridge):
            component.start(wait_ready=False)
        for component in (controller, bridge):
            component.wait_ready()
            answer = component.ask_ops("/readyz")
            pid = component.proc.pid
            self.narrator.tell(f"the {component.name}, process {pid}, says /readyz {answer[0]}")
        return bridge

    def _wait_mapped(self) -> None:
        def is_ready() -> bool:
            """A "*" says nothing of a namespace before it is asked for, and so is Unknown."""
            found = self.sandbox.api.list(ENVIRONMENTS)
            said = [ready_of(one).get("status") for one in found]
            return "True" in said and all(status in ("True", "Unknown") for status in said)

        wait_for(is_ready, "the RollbackEnvironment of the service to be ready")

    def _tell_answer(self, delivery: Delivery) -> None:
        expect(delivery.status is not None, f"the bridge did not answer: {delivery.error}")
        header = delivery.response_headers.get("x-incident-rollback", "")
        self.narrator.tell(
            f"answered {delivery.status} after {delivery.seconds * 1000:.0f} ms, "
            f"X-Incident-Rollback: {header}\n{delivery.response_body}"
        )

    def _expect_healed(self) -> None:
        deployment = self._deployment()
        expect(images_of(deployment) == [GOOD_IMAGE], f"its image was to be {GOOD_IMAGE}")
        expect(is_complete(deployment), f"{PODS} pods were to be available")

    def _expect_told(self, incident_id: str) -> None:
        notes = [one.text for one in self.firehydrant.timeline(incident_id) if one.kind == "note"]
        expect(len(notes) == 2, f"there were to be two notes, a start and an end: {notes}")
        expect(GOOD_IMAGE in notes[-1], f"the last note was to name {GOOD_IMAGE}")


# The command


def main() -> int:
    """Play it; 0 when all was as it should be."""
    story: Story | None = None
    try:
        names = read_names(os.environ.get("SERVICE", ""), os.environ.get("ENVIRONMENT", ""))
        narrator = Narrator()
        with Sandbox() as sandbox, StandIn() as firehydrant:
            story = Story(sandbox, firehydrant, names, narrator)
            return play(story)
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: stopped; nothing is left running\n")
        return 130
    except (DemoError, SandboxError) as error:
        sys.stderr.write(f"\ndemo: {error}\n")
        return 1


def play(story: Story) -> int:
    """Play a story; when it goes wrong, show what our processes said last."""
    try:
        story.play()
    except (DemoError, SandboxError):
        for component in story.sandbox.components:
            sys.stderr.write(f"\nlast words of the {component.name}:\n{component.log_tail()}\n")
        raise
    story.narrator.tell("all of this was as it should be; everything that ran here ends now")
    return 0


if __name__ == "__main__":
    sys.exit(main())
