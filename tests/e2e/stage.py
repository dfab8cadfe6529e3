"""
The operator on the sandbox, and a stage for each test: what tests of the whole are written with.

`Operator` is one controller and one bridge, as real processes with the rights of `manifests/`, and
one FireHydrant; all tests of a session share them.  `Stage` is what belongs to one test: a
namespace that is also the environment's name, its RollbackEnvironment, one healthy Deployment, and
words for what people do around an incident.  Witness of what our processes did is the API server's
audit log: `patches`, `writes`.

There are no short limits here: what is waited for comes at once or the test has failed.  And what
is waited for stays, so that a slow look does not miss it: where a moment matters it is made to
last, by `hold_patches`, or by a calm that ends when the test says so, by `end_calm`.
"""

import http.client
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from tests.e2e import shifted
from tests.e2e.admission import (
    AWAY,
    BY_US,
    CHANGES,
    FIELD_MANAGER,
    FOR_REAL,
    an_absent_webhook,
    is_away,
    webhook_path,
)
from tests.sandbox.api import Json, path_to
from tests.sandbox.audit import AuditRecord
from tests.sandbox.components import Component, base_environment
from tests.sandbox.firehydrant import Delivery, Entry, StandIn
from tests.sandbox.firehydrant_account import ChangeEvent
from tests.sandbox.firehydrant_runbook import Form
from tests.sandbox.processes import Proc
from tests.sandbox.sandbox import HOME_NAMESPACE, Sandbox
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import PATIENCE_SECONDS, wait_for
from tests.sandbox.workloads import APPS, a_deployment, images_of, revision_of

ROOT: Final = Path(__file__).parents[2]
API_VERSION: Final = "incidentrollback.dev/v1alpha1"
ROLLBACKS: Final = "incidentrollbacks"
ENVIRONMENTS: Final = "rollbackenvironments"

CONTROLLER_ACCOUNT: Final = "incident-rollback-controller"
BRIDGE_ACCOUNT: Final = "incident-rollback-bridge"
CONTROLLER_USER: Final = f"system:serviceaccount:{HOME_NAMESPACE}:{CONTROLLER_ACCOUNT}"
BRIDGE_USER: Final = f"system:serviceaccount:{HOME_NAMESPACE}:{BRIDGE_ACCOUNT}"
TARGET_ROLE: Final = "incident-rollback-target"
LEASE: Final = path_to("coordination.k8s.io/v1", "leases", HOME_NAMESPACE, CONTROLLER_ACCOUNT)
"""By which controllers agree who leads."""

FINAL: Final = frozenset({"Succeeded", "Failed", "Refused", "Previewed"})
QUICK: Final[Mapping[str, Any]] = {
    "stableSeconds": 1,
    "holdSeconds": 2,
    "cooldownSeconds": 0,
}
"""The policy of a stage, unless a test gives other values."""
SHOWN_LINES: Final = 40
NO_SHIFT: Final = timedelta(0)


class Ours(Component):
    """One of our processes; with a clock that is ahead when its environment says so."""

    @classmethod
    def of(cls, component: Component) -> Self:
        """Take over a component that was not started yet."""
        return cls(
            name=component.name,
            command=component.command,
            processes=component.processes,
            env=component.env,
            ops_port=component.ops_port,
            port=component.port,
        )

    def launch(self) -> Proc:
        if shifted.AHEAD not in self.env:
            return super().launch()
        argv = [sys.executable, shifted.__file__, self.command]
        return self.processes.start(self.name, argv, {**base_environment(), **self.env})

    @property
    def is_as_usual(self) -> bool:
        """It runs, and its clock is right."""
        return shifted.AHEAD not in self.env and self.proc.is_running()

    def begin(self, ahead: timedelta = NO_SHIFT) -> None:
        """Start it with a clock that is so far ahead, and wait until it is ready."""
        self.env.pop(shifted.AHEAD, None)
        if ahead:
            self.env[shifted.AHEAD] = str(ahead.total_seconds())
        self.start()

    def begin_again(self, ahead: timedelta = NO_SHIFT) -> None:
        """Stop it if it runs, and start it again."""
        self.stop()
        self.begin(ahead)


@dataclass(frozen=True)
class Operator:
    """The two processes, their cluster and their FireHydrant."""

    sandbox: Sandbox
    firehydrant: StandIn
    controller: Ours
    bridge: Ours
    secret: str

    @property
    def webhook_url(self) -> str:
        return f"{self.bridge.url}/firehydrant"

    def kill_controller(self) -> None:
        """
        Kill it without warning, and wait for its end.

        The Lease goes with it: that the next one may have to wait for the end of a dead one's is
        looked at where there are two, and would only slow the others down.
        """
        self.controller.kill()
        self.sandbox.api.delete(LEASE)

    def start_controller(self, ahead: timedelta = NO_SHIFT) -> None:
        """Start it, with a clock that is so far ahead, and wait until it is ready."""
        self.controller.begin(ahead)

    def shift(self, ahead: timedelta) -> None:
        """Restart both with clocks that are so far ahead."""
        for process in (self.controller, self.bridge):
            process.begin_again(ahead)

    def as_usual(self) -> None:
        """Restart what a test has killed or shifted, and take back what it did to FireHydrant."""
        for process in (self.controller, self.bridge):
            if not process.is_as_usual:
                process.begin_again()
        self.firehydrant.clear_faults()

    def log(self, lines: int = SHOWN_LINES) -> str:
        """Return what the controller said last."""
        return self.controller.log_tail(lines)


@dataclass
class Stage:
    """One test's namespace, environment and Deployment, and what is done with them."""

    operator: Operator
    namespace: str
    """Also the environment's name in FireHydrant, and the name of the RollbackEnvironment."""
    name: str
    """Of the Deployment, and of the service in FireHydrant."""
    since: int
    """Where the audit log ended when the stage began."""
    seen_violations: int
    requests: dict[str, str] = field(default_factory=dict[str, str])
    """The namespaces of the IncidentRollbacks that the stage knows of, by their names."""

    # Setting and clearing

    @classmethod
    def begin(
        cls,
        operator: Operator,
        namespace: str,
        deployment: Json | None = None,
        *,
        policy: Mapping[str, Any] | None = None,
        **environment: Any,
    ) -> "Stage":
        """
        Let the operator into an empty namespace, map it, and deploy; return when that is healthy.

        `deployment` is put into the namespace; without one it is `checkout`, 3 pods of
        nginx:1.18.0.  `policy` overrides values of `QUICK`, `environment` fields of the
        RollbackEnvironment's spec, as on the wire.
        """
        body = deployment or a_deployment()
        body["metadata"]["namespace"] = namespace
        stage = cls(
            operator=operator,
            namespace=namespace,
            name=body["metadata"]["name"],
            since=operator.sandbox.audit.mark(),
            seen_violations=len(operator.firehydrant.violations),
        )
        stage.let_in()
        stage.map(policy=policy, **environment)
        operator.sandbox.workloads.deploy(body)
        return stage

    def let_in(self) -> None:
        """Give the operator its rights in the namespace, as an admin does."""
        target = ROOT / "manifests/target-namespace"
        self.sandbox.kubectl.run("apply", "-k", str(target), "-n", self.namespace)
        self.wait_allowed("patch", "deployments", allowed=True)

    def map(self, *, policy: Mapping[str, Any] | None = None, **spec: Any) -> None:
        """Write the RollbackEnvironment anew; fields of its spec are given as on the wire."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "RollbackEnvironment",
            "metadata": {"name": self.namespace, "namespace": HOME_NAMESPACE},
            "spec": {
                "environments": [self.namespace],
                "policy": {**QUICK, **(policy or {})},
                **spec,
            },
        }
        self.sandbox.api.apply(self._environment_path, body)

    def clear(self) -> None:
        """Take everything away, and restore what the next stage relies on."""
        self.sandbox.api.delete(self._hold_path)
        self.operator.as_usual()
        for name, namespace in self._known().items():
            self.sandbox.api.delete(path_to(API_VERSION, ROLLBACKS, namespace, name))
        self.sandbox.api.delete(self._environment_path)
        violations = self.operator.firehydrant.violations[self.seen_violations :]
        assert violations == ()

    # What people do

    def break_it(self, *, wait: bool = True) -> None:
        """Deploy the bad release and, unless told otherwise, wait until a pod of it crash-loops."""
        self.deploy(BROKEN_IMAGE)
        if wait:
            self.wait_broken()

    def deploy(self, image: str) -> None:
        """Deploy another image; `wait_complete` or `wait_broken` follow as it is good or bad."""
        before = revision_of(self.deployment())
        self.sandbox.workloads.set_image(self.namespace, self.name, image)
        wait_for(
            lambda: revision_of(self.deployment()) != before,
            f"{self.namespace}/{self.name} to have a new revision",
        )

    def undo(self, to_revision: int = 0) -> None:
        """Run `kubectl rollout undo`, and wait until Kubernetes has taken it up."""
        before = revision_of(self.deployment())
        self.sandbox.workloads.undo(self.namespace, self.name, to_revision)
        wait_for(
            lambda: revision_of(self.deployment()) != before,
            f"{self.namespace}/{self.name} to be undone",
        )

    def wait_broken(self, pods: int = 1) -> None:
        """Wait until so many pods crash-loop."""
        workloads = self.sandbox.workloads
        workloads.wait_waiting(self.namespace, self.name, "CrashLoopBackOff", pods=pods)

    def wait_complete(self) -> Json:
        """Wait until all pods are available and new; return the Deployment."""
        return self.sandbox.workloads.wait_complete(self.namespace, self.name)

    def crash(self) -> None:
        """Have the pods of the live revision crash-loop from now on, as a kubelet would say it."""
        live = revision_of(self.deployment())
        for pod in self.sandbox.workloads.pods(self.namespace, self.name, live):
            path = path_to("v1", "pods", self.namespace, pod["metadata"]["name"], "status")
            self.sandbox.api.patch(path, {"status": crashed_now(pod)}, "strategic")

    def declare(self, **how: Any) -> str:
        """Declare an incident of this service and environment; return its id.  See `StandIn`."""
        given: dict[str, Any] = {"services": [self.name], "environments": [self.namespace], **how}
        return self.operator.firehydrant.declare(**given)

    def step(self, form: Form = "relay", *, incident: str | None = None, **how: Any) -> Delivery:
        """Run the runbook step of an incident, of a new one unless named.  See `StandIn`."""
        delivery = self.operator.firehydrant.run_step(
            self.operator.webhook_url,
            form,
            incident_id=incident or self.declare(),
            secret=self.operator.secret,
            **how,
        )
        if delivery.status in (http.client.OK, http.client.ACCEPTED):
            for row in delivery.json.get("rollbacks", []):
                self.requests[row["name"]] = row["namespace"]
        return delivery

    def ask(self, form: Form = "relay", *, incident: str | None = None, **how: Any) -> str:
        """Run the step, see that it asked for one rollback, and return that one's name."""
        delivery = self.step(form, incident=incident, **how)
        assert delivery.status == http.client.ACCEPTED, delivery
        (name,) = names_in(delivery)
        return name

    def request(
        self, spec: Mapping[str, Any] | None = None, *, name: str = "", namespace: str = ""
    ) -> str:
        """
        Make an IncidentRollback, as an admin with kubectl does; return its name.

        Without `service` in `spec` it is about the Deployment itself, and beside it; with one it is
        in the home namespace.
        """
        given = dict(spec or {})
        where = namespace or (HOME_NAMESPACE if "service" in given else self.namespace)
        if "service" not in given:
            target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name}
            given.setdefault("targetRef", target)
        called = name or f"by-hand-{secrets.token_hex(3)}"
        self.requests[called] = where
        body = {
            "apiVersion": API_VERSION,
            "kind": "IncidentRollback",
            "metadata": {"name": called, "namespace": where},
            "spec": given,
        }
        self.sandbox.api.create(path_to(API_VERSION, ROLLBACKS, where), body)
        return called

    def delete_request(self, name: str) -> None:
        """Delete an IncidentRollback."""
        self.sandbox.api.delete(self.path_of(name))

    def hold_patches(self) -> None:
        """
        Hold the operator's patches up: what it claims is stored, and nothing is changed.

        An admission webhook is asked for them, and is away; the operator tries again and again,
        and acts as soon as `let_patches` takes the webhook back.  Dry runs pass, and so does what
        others write.
        """
        webhook = an_absent_webhook("hold", self.namespace, CHANGES, BY_US, FOR_REAL)
        self.sandbox.api.apply(self._hold_path, webhook)
        wait_for(self._is_held, f"patches of {self.namespace}/{self.name} to be held up")

    def let_patches(self) -> None:
        """Let them through again."""
        self.sandbox.api.delete(self._hold_path)
        wait_for(
            lambda: not self._is_held(), f"patches of {self.namespace}/{self.name} to be let in"
        )

    def end_calm(self, **policy: Any) -> None:
        """
        Have the calm after a rollout end now, however long it was to be, by another policy.

        A policy is read with the claim, and once by each process that goes on: another one does.
        """
        self.map(policy=policy)
        self.operator.controller.begin_again()

    def forbid_patches(self) -> None:
        """Take the right to patch Deployments away, which is given namespace by namespace."""
        self._grant(["get", "list"])
        self.wait_allowed("patch", "deployments", allowed=False)

    def allow_patches(self) -> None:
        """Give the right back."""
        self._grant(["get", "list", "patch"])
        self.wait_allowed("patch", "deployments", allowed=True)

    # Waiting

    def wait_phase(self, name: str, phase: str, reason: str | None = None) -> Json:
        """
        Wait until a rollback is in a phase, with this reason of Ready if one is named.

        Returns the status.  Fails at once when it has ended otherwise, for no end is ever left.
        """

        def is_there(status: Json) -> bool:
            is_it = status.get("phase") == phase and reason in (None, reason_of(status))
            if status.get("phase") in FINAL and not is_it:
                raise AssertionError(
                    f"{name} was to be {phase} {reason or ''}, and ended otherwise: "
                    f"{self._seen(name)}"
                )
            return is_it

        return self.wait_status(name, is_there, f"{phase} {reason or ''}".strip())

    def wait_held(self, name: str) -> None:
        """Wait until a rollback has claimed and a patch of it was held up; see `hold_patches`."""
        self.wait_phase(name, "RollingBack")
        uid = self.rollback(name)["metadata"]["uid"]
        self.sandbox.audit.wait_for(
            lambda record: (
                self._is_patch(record)
                and record.code == AWAY
                and uid in str(record.request_object)  # The marker names it.
            ),
            f"a patch of {name} to be held up; the controller said\n{self.operator.log()}",
            since=self.since,
        )

    def wait_settled(self, name: str) -> Json:
        """Wait until nothing is left to do for a rollback; return the status."""
        return self.wait_status(name, lambda status: bool(status.get("settled")), "settled")

    def wait_status(self, name: str, is_it: Callable[[Json], bool], what: str) -> Json:
        """Wait until `is_it` accepts the status of a rollback, and return that."""

        def accepted() -> Json | None:
            status = self.status(name)
            return status if is_it(status) else None

        return wait_for(accepted, f"{name} to be {what}", seen=lambda: self._seen(name))

    def wait_patch(self) -> AuditRecord:
        """Return the first patch that went in, as soon as the witness has seen it."""
        return self.sandbox.audit.wait_for(
            lambda record: record.is_success and self._is_patch(record),
            f"a patch of {self.namespace}/{self.name}; the controller said\n{self.operator.log()}",
            since=self.since,
        )

    def wait_told(self, incident: str, pattern: str) -> Entry:
        """Wait for an entry of the incident's timeline whose text matches."""
        return self.operator.firehydrant.wait_for(incident, pattern, PATIENCE_SECONDS)

    def wait_event(self, about: str, reason: str) -> Json:
        """Wait for a Kubernetes Event about an object of this name, by its reason."""

        def found() -> Json | None:
            return next((e for e in self.events(about) if e["reason"] == reason), None)

        return wait_for(
            found,
            f"an Event {reason} about {about}",
            seen=lambda: [e["reason"] for e in self.events(about)],
        )

    def wait_allowed(self, verb: str, resource: str, *, allowed: bool, group: str = "apps") -> None:
        """Wait until the API server lets the controller do something here, or does not."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": CONTROLLER_USER,
                "resourceAttributes": {
                    "namespace": self.namespace,
                    "verb": verb,
                    "group": group,
                    "resource": resource,
                },
            },
        }
        path = path_to("authorization.k8s.io/v1", "subjectaccessreviews")
        wait_for(
            lambda: self.sandbox.api.create(path, review)["status"]["allowed"] is allowed,
            f"the right to {verb} {resource} in {self.namespace} to be {allowed}",
        )

    # Looking

    @property
    def sandbox(self) -> Sandbox:
        return self.operator.sandbox

    def path_of(self, name: str, subresource: str | None = None) -> str:
        """Return the path of an IncidentRollback."""
        namespace = self.requests.get(name, HOME_NAMESPACE)
        return path_to(API_VERSION, ROLLBACKS, namespace, name, subresource)

    def rollback(self, name: str) -> Json:
        return self.sandbox.api.get(self.path_of(name))

    def status(self, name: str) -> Json:
        status: Json = self.rollback(name).get("status", {})
        return status

    def deployment(self) -> Json:
        return self.sandbox.workloads.deployment(self.namespace, self.name)

    def images(self) -> list[str]:
        """Return the images of the Deployment's template."""
        return images_of(self.deployment())

    def events(self, about: str) -> list[Json]:
        """Return our Events about an object of this name, here or at home, in order."""
        namespace = self.requests.get(about, self.namespace)
        found = self.sandbox.workloads.events(namespace, about)
        ours = [e for e in found if e.get("reportingComponent") == "incident-rollback"]
        return sorted(ours, key=lambda e: int(e["metadata"]["resourceVersion"]))

    def patches(self) -> list[AuditRecord]:
        """Return the controller's patches of the Deployment that went in, since the beginning."""
        return [record for record in self.attempts() if record.is_success]

    def attempts(self) -> list[AuditRecord]:
        """Return the controller's patches of the Deployment, those that were refused as well."""
        records = self.sandbox.settled_audit().records(self.since)
        return [record for record in records if self._is_patch(record)]

    def writes(self) -> list[AuditRecord]:
        """
        Return every write of our two accounts that has to do with this stage, refused or not.

        That is: in its namespace, or of its IncidentRollbacks and of Events about them.  The
        status of the RollbackEnvironment, which is written when it is looked at, is left out.
        They come in the order in which they were asked for: what is answered at the same time is
        logged in any order.
        """
        known = self._known()
        records = self.sandbox.settled_audit().records(self.since)
        ours = [r for r in records if r.is_write and is_ours(r) and self._concerns(r, known)]
        return sorted(ours, key=lambda record: record.received_at)

    def timeline(self, incident: str) -> tuple[Entry, ...]:
        """Return what is on the incident, oldest first."""
        return self.operator.firehydrant.timeline(incident)

    def notes(self, incident: str) -> list[str]:
        """Return the texts of the notes on the incident, oldest first."""
        return [entry.text for entry in self.timeline(incident) if entry.kind == "note"]

    def changes(self, incident: str) -> dict[str, tuple[ChangeEvent, str]]:
        """Return the change events that are related to the incident, and how, by their ids."""
        related = self.operator.firehydrant.relations(incident)
        every = {event.id: event for event in self.operator.firehydrant.change_events}
        return {key: (every[key], how) for key, how in related.items()}

    @property
    def _environment_path(self) -> str:
        return path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, self.namespace)

    @property
    def _hold_path(self) -> str:
        return webhook_path(f"hold-{self.namespace}")

    def _is_held(self) -> bool:
        """Say whether a patch under the operator's name would be held up; this one is empty."""
        path = path_to(APPS, "deployments", self.namespace, self.name)
        return is_away(lambda: self.sandbox.api.patch(path, {}, fieldManager=FIELD_MANAGER))

    def _grant(self, verbs: list[str]) -> None:
        path = path_to("rbac.authorization.k8s.io/v1", "roles", self.namespace, TARGET_ROLE)
        role = self.sandbox.api.get(path)
        (rule,) = (rule for rule in role["rules"] if rule["resources"] == ["deployments"])
        rule["verbs"] = verbs
        self.sandbox.api.replace(path, role)

    def _known(self) -> dict[str, str]:
        """Return the namespaces of all of the stage's IncidentRollbacks, by their names."""
        for namespace in (HOME_NAMESPACE, self.namespace):
            for found in self.sandbox.api.list(path_to(API_VERSION, ROLLBACKS, namespace)):
                service = found["spec"].get("service", {})
                if namespace == self.namespace or service.get("environment") == self.namespace:
                    self.requests[found["metadata"]["name"]] = namespace
        return self.requests

    def _is_patch(self, record: AuditRecord) -> bool:
        return (
            record.user == CONTROLLER_USER
            and (record.verb, record.resource) == ("patch", "deployments")
            and not record.is_dry_run
            and (record.namespace, record.name) == (self.namespace, self.name)
        )

    def _concerns(self, record: AuditRecord, known: Mapping[str, str]) -> bool:
        if record.namespace == self.namespace:
            return True
        if record.namespace != HOME_NAMESPACE:
            return False
        if record.resource == "events":
            return record.name.rpartition(".")[0] in known
        return record.resource == ROLLBACKS and record.name in known

    def _seen(self, name: str) -> str:
        return f"{self.status(name)}\nthe controller said\n{self.operator.log()}"


def is_ours(record: AuditRecord) -> bool:
    """Say whether one of our two accounts asked for something."""
    return record.user in (CONTROLLER_USER, BRIDGE_USER)


def names_in(delivery: Delivery) -> list[str]:
    """Return the names of the rollbacks that a step was answered with."""
    return [row["name"] for row in delivery.json["rollbacks"]]


def crashed_now(pod: Json) -> Json:
    """Return what the status of a pod says when its one container, which ran, has crashed."""
    (container,) = pod["status"]["containerStatuses"]
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    end = {
        "exitCode": 1,
        "reason": "Error",
        "startedAt": container["state"]["running"]["startedAt"],
        "finishedAt": now,
    }
    crashed = {
        **container,
        "ready": False,
        "started": False,
        "restartCount": container["restartCount"] + 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": end},
    }
    why = {"status": "False", "reason": "ContainersNotReady", "lastTransitionTime": now}
    conditions = [{"type": kind, **why} for kind in ("Ready", "ContainersReady")]
    return {"containerStatuses": [crashed], "conditions": conditions}


def condition(status: Json, kind: str) -> Json | None:
    """Return one condition of a status."""
    conditions: Iterable[Json] = status.get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), None)


def reason_of(status: Json) -> str:
    """Return the reason of Ready; "" before the first turn."""
    ready = condition(status, "Ready")
    return ready["reason"] if ready else ""


def keys_of(status: Json) -> list[str]:
    """Return the keys of the updates, in order; without progress, which a slow rollout has."""
    updates: Iterable[Json] = status.get("updates", [])
    return [update["key"] for update in updates if update["key"] != "progress"]
