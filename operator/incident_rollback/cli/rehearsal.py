"""
A rehearsal: the controller's own turn for a request that nobody made, and nothing is written.

What it reads is real; what it would write stays here.  So a preview and a dry run cannot differ.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn, TypeAlias

from incident_rollback.crd.v1alpha1 import (
    FINAL_PHASES,
    Candidate,
    IncidentRollback,
    IncidentRollbackSpec,
    ManagedBy,
    Metadata,
    RollbackEnvironment,
)
from incident_rollback.domain.environment import Place
from incident_rollback.domain.moves import Refuse
from incident_rollback.domain.raw import Json
from incident_rollback.domain.revision import choose_revision
from incident_rollback.domain.surroundings import (
    Reference,
    Referent,
    Trial,
    WarningEvent,
)
from incident_rollback.domain.workload import Workload, WorkloadRef
from incident_rollback.errors import ForbiddenError, IllegalTransitionError
from incident_rollback.ports import Clock, Cluster, ClusterEvent, Store, TemplatePatch

TRIES: Final = 20
"""How often a turn is repeated while Kubernetes takes up a change: a few seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one turn."""

    rollback: IncidentRollback
    place: Place | None
    after: float
    """Seconds until the next one."""


TakeTurn: TypeAlias = Callable[[Store, Cluster, Clock, str, IncidentRollback], Awaitable[Outcome]]
"""Takes a turn on what it is given; the text is the home namespace."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a rollback would do now."""

    rollback: IncidentRollback
    """The request, with the status that it would have as a dry run."""
    workload: Workload | None
    """As it was read; None: it was not, or it is not there."""
    needs_approval: bool
    now: datetime

    @property
    def owners(self) -> Sequence[ManagedBy]:
        """Who keeps the workload as it is written elsewhere."""
        if self.rollback.status.target is not None:
            return self.rollback.status.target.managed_by
        return [
            ManagedBy(
                tool=owner.tool.value,
                name=owner.name,
                namespace=owner.namespace,
                evidence=owner.evidence,
                reverts=owner.reverts,
            )
            for owner in (self.workload.managed_by if self.workload else ())
        ]

    @property
    def candidates(self) -> Sequence[Candidate]:
        """The revisions with their verdicts, also where something else stands in the way."""
        if self.rollback.status.candidates or self.workload is None or not self.workload.live:
            return self.rollback.status.candidates
        choice = choose_revision(self.workload, self.rollback.spec.to, self.now)
        return () if isinstance(choice, Refuse) else choice.candidates


async def rehearse(
    take_turn: TakeTurn,
    store: Store,
    cluster: Cluster,
    clock: Clock,
    home: str,
    *,
    namespace: str,
    spec: Mapping[str, Any],
    longest_pause_seconds: float = 0.5,
) -> Rehearsal:
    """
    Take turns for a dry run of a spec until it has ended.

    Raises ForbiddenError when whoever asks may not look: that says nothing of the operator.
    """
    lookout = _Lookout()
    rollback = _request(namespace, spec, clock.now())
    reading, looking = _ReadOnlyStore(store, lookout), _ReadOnlyCluster(cluster, lookout)
    outcome = await take_turn(reading, looking, clock, home, rollback)
    for _ in range(TRIES):
        if outcome.rollback.status.phase in FINAL_PHASES or lookout.denied is not None:
            break
        await asyncio.sleep(min(outcome.after, longest_pause_seconds))
        outcome = await take_turn(reading, looking, clock, home, rollback)
    if lookout.denied is not None:
        raise lookout.denied
    place, plan = outcome.place, outcome.rollback.status.plan
    return Rehearsal(
        rollback=outcome.rollback,
        workload=lookout.workload,
        needs_approval=(place is not None and place.policy.approval == "Required")
        or (plan is not None and bool(plan.warnings)),
        now=clock.now(),
    )


def _request(namespace: str, spec: Mapping[str, Any], now: datetime) -> IncidentRollback:
    """Return a dry run that was made now, in the whole seconds of the API server."""
    asked = IncidentRollbackSpec.model_validate({**spec, "dryRun": True})
    mark = secrets.token_hex(8)
    return IncidentRollback(
        metadata=Metadata(
            name=f"preview-{mark}",
            namespace=namespace,
            uid=f"preview-{mark}",
            generation=1,
            creation_timestamp=now.replace(microsecond=0),
        ),
        spec=asked,
    )


@dataclass
class _Lookout:
    """What was seen on the way."""

    workload: Workload | None = None
    denied: ForbiddenError | None = None

    async def on(self, reading: Awaitable[Any]) -> Any:  # noqa: ANN401  # whatever is read
        """Wait for a reading, and keep a refusal."""
        try:
            return await reading
        except ForbiddenError as error:
            self.denied = error
            raise


@dataclass(frozen=True, slots=True)
class _ReadOnlyStore:
    """Reads our resources; what is saved is handed back, and forgotten."""

    store: Store
    lookout: _Lookout

    async def create(self, manifest: Mapping[str, Any]) -> tuple[IncidentRollback, bool]:
        _never(f"create {manifest.get('kind')}")

    async def get(self, namespace: str, name: str) -> IncidentRollback | None:
        found: IncidentRollback | None = await self.lookout.on(self.store.get(namespace, name))
        return found

    async def save(self, rollback: IncidentRollback) -> IncidentRollback | None:
        return rollback

    async def list_rollbacks(
        self, *, namespace: str | None = None, fields: str = "", since: str = ""
    ) -> Sequence[IncidentRollback]:
        found: Sequence[IncidentRollback] = await self.lookout.on(
            self.store.list_rollbacks(namespace=namespace, fields=fields, since=since)
        )
        return found

    async def list_environments(self, *, may_lag: bool = False) -> Sequence[RollbackEnvironment]:
        del may_lag  # Nobody is in such a hurry here.
        found: Sequence[RollbackEnvironment] = await self.lookout.on(self.store.list_environments())
        return found

    async def get_environment(self, name: str) -> RollbackEnvironment | None:
        found: RollbackEnvironment | None = await self.lookout.on(self.store.get_environment(name))
        return found

    async def save_environment(self, environment: RollbackEnvironment) -> None:
        _never(f"write {environment.metadata.name}")


@dataclass(frozen=True, slots=True)
class _ReadOnlyCluster:
    """Reads workloads; Events are dropped, and a patch is a bug."""

    cluster: Cluster
    lookout: _Lookout

    async def labelled_workloads(self, namespace: str, service: str) -> Sequence[WorkloadRef]:
        found: Sequence[WorkloadRef] = await self.lookout.on(
            self.cluster.labelled_workloads(namespace, service)
        )
        return found

    async def read_workload(
        self, ref: WorkloadRef, *, at_a_glance: bool = False
    ) -> Workload | None:
        del at_a_glance  # Nobody is in such a hurry here.
        self.lookout.workload = await self.lookout.on(self.cluster.read_workload(ref))
        return self.lookout.workload

    async def is_still(self, workload: Workload) -> bool:
        return await self.cluster.is_still(workload)

    async def read_application(self, namespace: str, name: str) -> Json | None:
        return await self.cluster.read_application(namespace, name)

    async def try_template(self, patch: TemplatePatch) -> Trial:
        return await self.cluster.try_template(patch)

    async def read_referents(
        self, namespace: str, references: Collection[Reference]
    ) -> Mapping[Reference, Referent]:
        return await self.cluster.read_referents(namespace, references)

    async def read_warnings(
        self, namespace: str, uids: Collection[str]
    ) -> Mapping[str, WarningEvent | None]:
        return await self.cluster.read_warnings(namespace, uids)

    async def read_nodes(self, names: Collection[str]) -> Mapping[str, bool | None]:
        return await self.cluster.read_nodes(names)

    async def restore_template(self, patch: TemplatePatch) -> datetime:
        _never(f"patch {patch.ref}")

    async def post_event(self, event: ClusterEvent) -> None:
        del event

    async def may(self, namespace: str, verb: str, resource: str) -> bool:
        return await self.cluster.may(namespace, verb, resource)


def _never(what: str) -> NoReturn:
    raise IllegalTransitionError(f"a rehearsal was about to {what}: that is a bug")
