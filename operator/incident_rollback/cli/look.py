"""Looking: at rollbacks, at one of them, at the revisions of a workload, at what would be done."""

from collections.abc import Callable
from datetime import UTC, datetime

from incident_rollback.cli.ask import answer_for, target_spec
from incident_rollback.cli.follow import exit_of
from incident_rollback.cli.page import Answer
from incident_rollback.cli.rehearsal import TakeTurn, rehearse
from incident_rollback.cli.session import own_namespace, session
from incident_rollback.cli.show import (
    as_data,
    describe_page,
    full_name,
    history_data,
    history_page,
    preview_page,
    rollbacks_page,
)
from incident_rollback.crd.v1alpha1 import IncidentRollback
from incident_rollback.domain.workload import WorkloadRef
from incident_rollback.errors import InvalidRequestError
from incident_rollback.ports import Store

BEGINNING = datetime.min.replace(tzinfo=UTC)


async def list_rollbacks(namespace: str | None, *, is_everywhere: bool) -> Answer:
    """Return the rollbacks of a namespace or of all, the oldest first."""
    where = None if is_everywhere else namespace or own_namespace()
    async with session() as opened:
        found = await opened.store().list_rollbacks(namespace=where)
        now = opened.clock.now()
    rollbacks = sorted(found, key=lambda r: r.metadata.creation_timestamp or BEGINNING)
    return Answer(
        rollbacks_page(rollbacks, now),
        [as_data(rollback) for rollback in rollbacks],
        tuple(map(full_name, rollbacks)),
    )


async def describe(name: str, namespace: str) -> Answer:
    """Return the whole life of a rollback."""
    async with session() as opened:
        rollback = await _existing(opened.store(), name, namespace)
    return Answer(describe_page(rollback), as_data(rollback), (full_name(rollback),))


async def wait(
    name: str, namespace: str, say: Callable[[str], None], *, timeout_seconds: float
) -> Answer:
    """Wait for the end of a rollback."""
    async with session() as opened:
        store = opened.store()
        rollback = await _existing(store, name, namespace)
        return await answer_for(
            store, opened.clock, rollback, say, is_followed=True, timeout_seconds=timeout_seconds
        )


async def history(workload: str, namespace: str) -> Answer:
    """Return the revisions of a workload."""
    ref = WorkloadRef(namespace, workload)
    async with session() as opened:
        found = await opened.cluster.read_workload(ref)
        now = opened.clock.now()
    if found is None:
        raise InvalidRequestError(f"there is no {ref}")
    names = tuple(f"replicaset.apps/{revision.replica_set}" for revision in found.revisions)
    return Answer(history_page(found, now), history_data(found, now), names)


async def preview(
    take_turn: TakeTurn, workload: str, namespace: str, to_revision: int | None
) -> Answer:
    """Return what a rollback of a workload would do now."""
    async with session() as opened:
        seen = await rehearse(
            take_turn,
            opened.store(),
            opened.cluster,
            opened.clock,
            opened.home,
            namespace=namespace,
            spec=target_spec(workload, to_revision),
        )
    page = preview_page(
        seen.rollback,
        seen.workload,
        seen.owners,
        seen.candidates,
        needs_approval=seen.needs_approval,
    )
    data = {
        "workload": {"namespace": namespace, "kind": "Deployment", "name": workload},
        "needsApproval": seen.needs_approval,
        "owners": [one.model_dump(mode="json", by_alias=True) for one in seen.owners],
        "candidates": [one.model_dump(mode="json", by_alias=True) for one in seen.candidates],
        "status": as_data(seen.rollback)["status"],
    }
    return Answer(page, data, (f"deployment.apps/{workload}",), exit_of(seen.rollback))


async def _existing(store: Store, name: str, namespace: str) -> IncidentRollback:
    found = await store.get(namespace, name)
    if found is None:
        raise InvalidRequestError(f"there is no IncidentRollback {name} in {namespace}")
    return found
