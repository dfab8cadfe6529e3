"""
What shows why pods are not well, beside the pods: the latest Warning Events, and their nodes.

A help for people, and best effort: what may not be read, or is not answered at once, is unknown.
"""

from collections.abc import Collection, Mapping
from typing import Final

from incident_rollback.clients.connection import Connection, resource_path
from incident_rollback.clients.glance import read_each
from incident_rollback.clients.translate import is_node_ready, latest_warning
from incident_rollback.domain.raw import children
from incident_rollback.domain.surroundings import WarningEvent

LOOK_SECONDS: Final = 0.5
"""A rollback waits no longer for any of this."""
MAX_EVENTS: Final = 20
"""About one object; the API server counts repeated ones up in one Event."""


async def read_warnings(
    connection: Connection, namespace: str, uids: Collection[str], *, within: float = LOOK_SECONDS
) -> Mapping[str, WarningEvent | None]:
    """Return the latest Warning Event about each object, within so many seconds; raise nothing."""

    async def read(uid: str) -> WarningEvent | None:
        answer = await connection.call(
            "GET",
            resource_path("api", "v1", "namespaces", namespace, "events"),
            query={
                "fieldSelector": f"involvedObject.uid={uid},type=Warning",
                "limit": str(MAX_EVENTS),
            },
            timeout=within,
        )
        return latest_warning(children(answer.json, "items")) if answer.status < 400 else None

    return await read_each(read, uids, within=within, unknown=None)


async def read_nodes(
    connection: Connection, names: Collection[str], *, within: float = LOOK_SECONDS
) -> Mapping[str, bool | None]:
    """Say of each node whether it is ready, within so many seconds; raise nothing."""

    async def read(name: str) -> bool | None:
        path = resource_path("api", "v1", "nodes", name)
        answer = await connection.call("GET", path, timeout=within)
        return is_node_ready(answer.json) if answer.status < 400 else None

    return await read_each(read, names, within=within, unknown=None)
