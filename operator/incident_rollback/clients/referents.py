"""
What is behind the references of a pod template: is it there, and when was it changed.

Asked for is metadata alone, for no ConfigMap's and no Secret's content has any business here.
"""

import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

from incident_rollback.clients.connection import Answer, Connection, resource_path
from incident_rollback.clients.glance import read_each
from incident_rollback.clients.translate import changed_at
from incident_rollback.domain.raw import child
from incident_rollback.domain.surroundings import Reference, ReferenceKind, Referent

METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Without another type beside it: a server that cannot do this answers 406, not the object."""
LOOK_SECONDS: Final = 1.0
"""For all of them together: a rollback does not wait for a server that is slow."""
UNKNOWN: Final = Referent(is_there=None)

_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
"""What all of these are named by; any other name could be another path."""
_CORE: Final[Mapping[ReferenceKind, str]] = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
    "PersistentVolumeClaim": "persistentvolumeclaims",
}


async def read_referents(
    connection: Connection, namespace: str, references: Collection[Reference]
) -> Mapping[Reference, Referent]:
    """
    Look behind each reference at once, for a second; raise nothing.

    What may not be looked at, or did not answer in time, is unknown.
    """
    read = partial(_read, connection, namespace)
    return await read_each(read, references, within=LOOK_SECONDS, unknown=UNKNOWN)


async def _read(connection: Connection, namespace: str, reference: Reference) -> Referent:
    if not _NAME.fullmatch(reference.name):
        return UNKNOWN
    *collection, plural = _collection(namespace, reference.kind)
    path = resource_path(*collection, plural, reference.name)
    answer = await connection.call("GET", path, accept=METADATA_ONLY)
    if answer.status == 404 and _is_about(answer, plural, reference.name):
        return Referent(is_there=False)
    if answer.status >= 400:
        return UNKNOWN
    metadata = child(answer.json, "metadata")
    if reference.kind == "PersistentVolumeClaim" and metadata.get("deletionTimestamp"):
        return Referent(is_there=False)  # On its way out: no new pod is scheduled with it.
    return Referent(changed_at=changed_at(metadata))


def _collection(namespace: str, kind: ReferenceKind) -> tuple[str, ...]:
    """Return the path of all of a kind, in parts."""
    match kind:
        case "PriorityClass":
            return "apis", "scheduling.k8s.io", "v1", "priorityclasses"
        case "RuntimeClass":
            return "apis", "node.k8s.io", "v1", "runtimeclasses"
        case _:
            return "api", "v1", "namespaces", namespace, _CORE[kind]


def _is_about(answer: Answer, plural: str, name: str) -> bool:
    """
    Tell an object that is not there from a kind or a path that is not: that one is not named.

    The `kind` of these details is the name in the path.  Source: apimachinery pkg/api/errors.
    """
    details = child(answer.json, "details")
    return (details.get("kind"), details.get("name")) == (plural, name)
