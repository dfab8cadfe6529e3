"""The mapping: FireHydrant's names become a namespace, a policy and a workload."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from incident_rollback.crd.v1alpha1 import (
    IncidentRollback,
    Policy,
    RollbackEnvironment,
    ServiceRef,
    WorkloadMapping,
)
from incident_rollback.domain.moves import Refuse, Wait
from incident_rollback.domain.names import dns_label
from incident_rollback.domain.workload import WorkloadRef

WILDCARD: Final = "*"
DEFAULT_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request points, and under which policy."""

    environment: str
    """The environment as a DNS label; "" for a targetRef."""
    namespace: str
    name: str
    """The workload's name; for a service without an entry its DNS label."""
    is_exact: bool
    """The name was given by an entry or a targetRef: no label is looked for."""
    policy: Policy = DEFAULT_POLICY
    mapped_by: str = ""
    """The name of the RollbackEnvironment; "" for a targetRef that none speaks of."""
    suspended_by: str = ""
    """`namespace/name` of the RollbackEnvironment whose red switch is on; "" when none is."""


def find_place(
    rollback: IncidentRollback, environments: Sequence[RollbackEnvironment], home: str
) -> Place | Wait | Refuse:
    """
    Find where a request points.

    A service is honoured in the home namespace, or where it resolves to the resource's own
    namespace: whoever may write a resource in one namespace must not move another.
    """
    service = rollback.spec.service
    if service is None:
        return _place_of_target(rollback, environments)
    place = _place_of_service(service, environments)
    own = rollback.metadata.namespace
    if isinstance(place, Place) and own not in (home, place.namespace):
        return Refuse(
            "NotAllowed",
            f"a resource in namespace {own} may not move a workload of {place.namespace}",
            f"make the resource in {home} or in {place.namespace}",
        )
    return place


def find_workload(place: Place, labelled: Sequence[WorkloadRef]) -> WorkloadRef | Refuse:
    """Pick the workload: the entry's, else the one that is labelled, else the one of that name."""
    if place.is_exact or not labelled:
        return WorkloadRef(place.namespace, place.name)
    if len(labelled) > 1:
        names = ", ".join(sorted(ref.name for ref in labelled))
        return Refuse(
            "WorkloadAmbiguous",
            f"several Deployments of {place.namespace} are labelled for {place.name}: {names}",
            "take the label incidentrollback.dev/service from all but one of them",
        )
    return labelled[0]


def owners_of(environment: str, among: Iterable[RollbackEnvironment]) -> list[RollbackEnvironment]:
    """Return the objects that claim an environment (a DNS label): by name, else by "*"."""
    objects = list(among)
    named = [o for o in objects if environment in labels_of(o)]
    return named or [o for o in objects if WILDCARD in o.spec.environments]


def labels_of(environment: RollbackEnvironment) -> set[str]:
    """Return the DNS labels of the environments that an object names, without "*"."""
    return {dns_label(name) for name in environment.spec.environments if name != WILDCARD}


def hears_incidents(namespace: str, environments: Iterable[RollbackEnvironment], home: str) -> bool:
    """Say whether a resource of this namespace may speak to its incident."""
    return namespace == home or any(namespace in e.spec.incidents_from for e in environments)


def _place_of_service(
    service: ServiceRef, environments: Sequence[RollbackEnvironment]
) -> Place | Wait | Refuse:
    name, environment = dns_label(service.name), dns_label(service.environment)
    if not name:
        return Refuse(
            "ServiceMissing",
            "the incident names no service, or one without a letter or digit",
            "add the impacted service to the incident and run the step again",
        )
    if not environment:
        return Refuse(
            "EnvironmentNotMapped",
            "the incident names no environment, or one without a letter or digit",
            "add the impacted environment to the incident and run the step again",
        )
    owner = _only_owner(environment, owners_of(environment, environments))
    if isinstance(owner, Wait):
        return owner
    namespace = owner.spec.namespace or environment
    entry = _entry_for(name, owner)
    return Place(
        environment=environment,
        namespace=(entry.namespace if entry else None) or namespace,
        name=entry.name if entry else name,
        is_exact=entry is not None,
        policy=owner.spec.policy,
        mapped_by=owner.metadata.name,
        suspended_by=_switch(owner),
    )


def _place_of_target(
    rollback: IncidentRollback, environments: Sequence[RollbackEnvironment]
) -> Place | Wait | Refuse:
    target = rollback.spec.target_ref
    if target is None:
        return Refuse("NotAllowed", "neither service nor targetRef is given", "give one of them")
    namespace = rollback.metadata.namespace
    named = [
        e
        for e in environments
        if _maps_to(e, namespace) or _has_entry_for(e, namespace, target.name)
    ]
    mapping = named or [e for e in environments if _is_wild(e)]
    if not mapping:
        return Place("", namespace, target.name, is_exact=True)
    owner = _only_owner(namespace, mapping)
    if isinstance(owner, Wait):
        return owner
    return Place(
        environment="",
        namespace=namespace,
        name=target.name,
        is_exact=True,
        policy=owner.spec.policy,
        mapped_by=owner.metadata.name,
        suspended_by=_switch(owner),
    )


def _only_owner(
    environment: str, owners: Sequence[RollbackEnvironment]
) -> RollbackEnvironment | Wait:
    if not owners:
        return Wait(
            "EnvironmentNotMapped",
            f"no RollbackEnvironment names the environment {environment}",
            f"add {environment} to the environments of one: kubectl get rbenv -A",
        )
    if len(owners) > 1:
        names = ", ".join(sorted(o.metadata.name for o in owners))
        return Wait(
            "EnvironmentAmbiguous",
            f"several RollbackEnvironments claim {environment}: {names}",
            f"take {environment} from all but one of them",
        )
    return owners[0]


def _maps_to(environment: RollbackEnvironment, namespace: str) -> bool:
    if environment.spec.namespace is not None:
        return environment.spec.namespace == namespace
    return namespace in labels_of(environment)


def _has_entry_for(environment: RollbackEnvironment, namespace: str, name: str) -> bool:
    """Say whether one of its services is this very workload, in whatever namespace that is."""
    return any(
        entry.workload.name == name and entry.workload.namespace == namespace
        for entry in environment.spec.services
    )


def _is_wild(environment: RollbackEnvironment) -> bool:
    return WILDCARD in environment.spec.environments and environment.spec.namespace is None


def _switch(environment: RollbackEnvironment) -> str:
    metadata = environment.metadata
    return f"{metadata.namespace}/{metadata.name}" if environment.spec.suspend else ""


def _entry_for(service: str, environment: RollbackEnvironment) -> WorkloadMapping | None:
    """Return the entry of a service (a DNS label); the first one when it is named twice."""
    return next(
        (s.workload for s in environment.spec.services if dns_label(s.name) == service), None
    )
