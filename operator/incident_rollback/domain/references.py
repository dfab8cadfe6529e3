"""
The other objects that a pod template needs: without one of them its pods do not start.

Not told: keys inside a ConfigMap or Secret, classes of storage, claims of devices, and what
admission adds to a pod, such as the pull Secrets of its ServiceAccount.
"""

from collections.abc import Iterator
from typing import Final

from incident_rollback.domain.raw import Json, as_list, as_map
from incident_rollback.domain.surroundings import Reference, ReferenceKind

CONFIGURATION: Final = frozenset({"ConfigMap", "Secret"})
MAX_NAME: Final = 253
"""Nothing in Kubernetes has a longer name."""
ALWAYS_THERE: Final = "default"
"""The ServiceAccount that every namespace has: Kubernetes makes it again when it is deleted."""
BUILT_IN: Final = "system-"
"""How the names of Kubernetes' own PriorityClasses begin; no other one's may."""


def references_of(template: Json) -> frozenset[Reference]:
    """
    Return what a template cannot do without; an optional ConfigMap or Secret is not in it.

    A missing pull Secret stops no pod by itself, but the pull where the registry asks for it.
    What has another shape than Kubernetes' refers to nothing; this raises nothing.
    """
    spec = _spec(template)
    return frozenset((*_of_pod(spec), *_of_volumes(spec), *_of_containers(spec)))


def configuration_of(template: Json) -> frozenset[Reference]:
    """Return the ConfigMaps and Secrets among them whose content the containers see."""
    spec = _spec(template)
    seen = (*_of_volumes(spec), *_of_containers(spec))
    return frozenset(reference for reference in seen if reference.kind in CONFIGURATION)


def _of_pod(spec: Json) -> Iterator[Reference]:
    """Yield what only Kubernetes sees: accounts, classes, and Secrets that open something."""
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account != ALWAYS_THERE:
        yield from _named("ServiceAccount", account)
    if not str(spec.get("priorityClassName")).startswith(BUILT_IN):
        yield from _named("PriorityClass", spec.get("priorityClassName"))
    yield from _named("RuntimeClass", spec.get("runtimeClassName"))
    for secret in _maps(spec.get("imagePullSecrets")):
        yield from _named("Secret", secret.get("name"))
    for volume in _maps(spec.get("volumes")):
        yield from _needed("Secret", as_map(volume.get("csi")).get("nodePublishSecretRef"))


def _of_volumes(spec: Json) -> Iterator[Reference]:
    for volume in _maps(spec.get("volumes")):
        yield from _needed("ConfigMap", volume.get("configMap"))
        yield from _needed("Secret", volume.get("secret"), "secretName")
        claim = as_map(volume.get("persistentVolumeClaim"))
        yield from _named("PersistentVolumeClaim", claim.get("claimName"))
        for source in _maps(as_map(volume.get("projected")).get("sources")):
            yield from _needed("ConfigMap", source.get("configMap"))
            yield from _needed("Secret", source.get("secret"))


def _of_containers(spec: Json) -> Iterator[Reference]:
    for container in (*_maps(spec.get("initContainers")), *_maps(spec.get("containers"))):
        for variable in _maps(container.get("env")):
            source = as_map(variable.get("valueFrom"))
            yield from _needed("ConfigMap", source.get("configMapKeyRef"))
            yield from _needed("Secret", source.get("secretKeyRef"))
        for source in _maps(container.get("envFrom")):
            yield from _needed("ConfigMap", source.get("configMapRef"))
            yield from _needed("Secret", source.get("secretRef"))


def _needed(kind: ReferenceKind, holder: object, key: str = "name") -> Iterator[Reference]:
    """Yield what a part of the template names, unless it may be missing."""
    given = as_map(holder)
    if given.get("optional") is not True:
        yield from _named(kind, given.get(key))


def _named(kind: ReferenceKind, name: object) -> Iterator[Reference]:
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME:
        yield Reference(kind, name)


def _spec(template: Json) -> Json:
    return as_map(as_map(template).get("spec"))


def _maps(value: object) -> list[Json]:
    return list(map(as_map, as_list(value)))
