"""Say in daylight whether a rollback would work tonight: the status of each RollbackEnvironment."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Literal

from incident_rollback.crd.v1alpha1 import RollbackEnvironment
from incident_rollback.domain.conditions import upsert
from incident_rollback.domain.environment import WILDCARD, labels_of
from incident_rollback.errors import RollbackError
from incident_rollback.ports import Clock, Cluster, Store

NEEDED: Final = (
    ("get", "deployments"),
    ("list", "deployments"),
    ("patch", "deployments"),
    ("list", "replicasets"),
    ("list", "pods"),
    ("create", "events"),
)
"""What a rollback does in a namespace; the Role in manifests/target-namespace grants just this."""

ASK_AGAIN_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one environment."""

    status: Literal["True", "False", "Unknown"]
    """Of the condition Ready."""
    reason: str
    message: str


@dataclass
class EnvironmentCheck:
    """Looks at every environment and writes down what it finds, when that is news."""

    store: Store
    cluster: Cluster
    clock: Clock
    monotonic: Callable[[], float] = monotonic
    _asked: dict[str, tuple[int, float, Finding]] = field(
        default_factory=dict[str, tuple[int, float, Finding]]
    )
    """By uid: the generation that was asked about, when (monotonic, s), and the answer."""
    found: Counter[str] = field(default_factory=Counter[str])
    """How many environments have which status of Ready, as of the last look."""

    async def run_once(self) -> None:
        """Look at all of them.  Raises TransientError when the API server does not answer."""
        environments = await self.store.list_environments()
        found = Counter[str]()
        for environment in environments:
            finding = claimed_twice(environment, environments) or await self._permitted(environment)
            found[finding.status] += 1
            await self._write(environment, finding)
        self.found = found
        present = {environment.metadata.uid for environment in environments}
        self._asked = {uid: asked for uid, asked in self._asked.items() if uid in present}

    async def _permitted(self, environment: RollbackEnvironment) -> Finding:
        """Ask again when the object has changed, and once a minute."""
        uid, generation = environment.metadata.uid, environment.metadata.generation
        asked = self._asked.get(uid)
        if asked and asked[0] == generation and self.monotonic() - asked[1] < ASK_AGAIN_SECONDS:
            return asked[2]
        finding = await self._ask(environment)
        self._asked[uid] = (generation, self.monotonic(), finding)
        return finding

    async def _ask(self, environment: RollbackEnvironment) -> Finding:
        missing: list[str] = []
        for namespace in namespaces_of(environment):
            lacks = [
                f"{verb} {what}"
                for verb, what in NEEDED
                if not await self.cluster.may(namespace, verb, what)
            ]
            if lacks:
                missing.append(f"in {namespace}: {', '.join(lacks)}")
        if missing:
            return Finding(
                status="False",
                reason="PermissionMissing",
                message=f"the operator may not act ({'; '.join(missing)[:700]}), or the namespace "
                "does not exist. Next: kubectl apply -k manifests/target-namespace -n NAMESPACE",
            )
        return _ready(environment)

    async def _write(self, environment: RollbackEnvironment, finding: Finding) -> None:
        generation = environment.metadata.generation
        conditions = upsert(
            environment.status.conditions,
            "Ready",
            finding.status,
            finding.reason,
            finding.message,
            now=self.clock.now(),
            generation=generation,
        )
        status = environment.status.model_copy(
            update={"conditions": conditions, "observed_generation": generation}
        )
        if status == environment.status:
            return
        try:
            await self.store.save_environment(environment.model_copy(update={"status": status}))
        except RollbackError as error:
            _log.warning(
                "the status of RollbackEnvironment %s was not written: %s",
                environment.metadata.name,
                error,
            )


def claimed_twice(
    environment: RollbackEnvironment, among: Sequence[RollbackEnvironment]
) -> Finding | None:
    """Say which other objects claim an environment of this one; None: nobody does."""
    for other in among:
        if other.metadata.name == environment.metadata.name:
            continue
        shared = labels_of(environment) & labels_of(other)
        if WILDCARD in environment.spec.environments and WILDCARD in other.spec.environments:
            shared.add(WILDCARD)
        if shared:
            return Finding(
                status="False",
                reason="EnvironmentAmbiguous",
                message=f"RollbackEnvironment {other.metadata.name} claims "
                f"{', '.join(sorted(shared))[:500]} too: nobody acts there. "
                "Next: take it from one of the two",
            )
    return None


def namespaces_of(environment: RollbackEnvironment) -> Sequence[str]:
    """Return the namespaces whose workloads this may lead to, as far as they are named."""
    spec = environment.spec
    base = {spec.namespace} if spec.namespace else labels_of(environment)
    mapped = {entry.workload.namespace for entry in spec.services}
    return sorted(name for name in base | mapped if name)


def _ready(environment: RollbackEnvironment) -> Finding:
    """Say what the permissions allow; what is only known when it is asked for is not promised."""
    spec = environment.spec
    if spec.suspend:
        fix = f"kubectl edit rbenv {environment.metadata.name} -n {environment.metadata.namespace}"
        return Finding("False", "Suspended", f"spec.suspend is true. Next: set it to false: {fix}")
    namespaces = ", ".join(namespaces_of(environment))[:700]
    if WILDCARD not in spec.environments or spec.namespace:
        return Finding("True", "Ready", f"may act in {namespaces}.")
    may = f"may act in {namespaces}; " if namespaces else ""
    return Finding(
        "Unknown",
        "LookedAtWhenAsked",
        f'{may}"*" leads to a namespace of each environment\'s name, which is looked at when a '
        "rollback is asked for. Next: name the environments that matter, to see them here",
    )
