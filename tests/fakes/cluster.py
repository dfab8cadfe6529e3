"""The workloads of a cluster in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from incident_rollback.clients.translate import read_marker
from incident_rollback.crd.v1alpha1 import FIELD_MANAGER
from incident_rollback.domain.raw import Json
from incident_rollback.domain.surroundings import (
    Reference,
    Referent,
    Trial,
    WarningEvent,
)
from incident_rollback.domain.template import images_of, without_hash_label
from incident_rollback.domain.workload import Pod, Progress, Revision, Workload, WorkloadRef
from incident_rollback.errors import StaleReadError
from incident_rollback.ports import Clock, ClusterEvent, TemplatePatch
from tests.fakes.clock import FakeClock


@dataclass
class FakeCluster:
    """
    Implements ports.Cluster, and remembers what was asked of it.

    A patch is guarded by uid, generation and revision, as by the API server.  Kinder than the
    real one: no admission, no permissions but for `may`, no lag between a write and a read,
    and while `rolls_out` is true the Deployment controller and the kubelets are done, and all
    pods ready, before the patch returns.  Set it to False, and `put` what they have got to.

    `failing` holds errors for the next calls, one each; `down` fails every call while it is
    set.  A call that fails changes nothing, except the patches listed in `lost`: they happen,
    and then the answer is lost.
    """

    clock: Clock = field(default_factory=FakeClock)
    workloads: dict[WorkloadRef, Workload] = field(default_factory=dict[WorkloadRef, Workload])
    services: dict[tuple[str, str], list[str]] = field(
        default_factory=dict[tuple[str, str], list[str]]
    )
    """Names of the workloads that carry a service's label, by namespace and service."""
    denied: set[tuple[str, str, str]] = field(default_factory=set[tuple[str, str, str]])
    """What `may` says no to: namespace, verb, resource."""
    applications: dict[tuple[str, str], Json] = field(default_factory=dict[tuple[str, str], Json])
    """Argo CD Applications, by namespace and name."""
    trials: dict[tuple[str, ...], Trial | Exception] = field(
        default_factory=dict[tuple[str, ...], "Trial | Exception"]
    )
    """What comes of trying a template, by its images; Accepted when none is given."""
    referents: dict[Reference, Referent] = field(default_factory=dict[Reference, Referent])
    """What is behind a reference; there and never changed when none is given."""
    warnings: dict[str, WarningEvent] = field(default_factory=dict[str, WarningEvent])
    """The latest Warning Events, by the uid of the object."""
    nodes: dict[str, bool] = field(default_factory=dict[str, bool])
    """Whether nodes are ready, by name; unknown when none is given."""
    rolls_out: bool = True
    restored: list[TemplatePatch] = field(default_factory=list[TemplatePatch])
    """Every patch that happened."""
    events: list[ClusterEvent] = field(default_factory=list[ClusterEvent])
    calls: list[str] = field(default_factory=list[str])
    failing: list[Exception] = field(default_factory=list[Exception])
    down: Exception | None = None
    lost: list[Exception] = field(default_factory=list[Exception])
    """For the next patches, one each: raised after the patch."""

    def put(self, workload: Workload, *, service: str = "") -> Workload:
        """Arrange or replace a workload as it is, without any check."""
        self.workloads[workload.ref] = workload
        if service:
            self.services.setdefault((workload.ref.namespace, service), []).append(
                workload.ref.name
            )
        return workload

    async def labelled_workloads(self, namespace: str, service: str) -> Sequence[WorkloadRef]:
        self._called("labelled")
        names = self.services.get((namespace, service), [])
        return [WorkloadRef(namespace, name) for name in sorted(names)]

    async def read_workload(
        self, ref: WorkloadRef, *, at_a_glance: bool = False
    ) -> Workload | None:
        del at_a_glance  # Nothing here is ever torn.
        self._called("read")
        return self.workloads.get(ref)

    async def is_still(self, workload: Workload) -> bool:
        self._called("still")
        now = self.workloads.get(workload.ref)
        return now is not None and (now.uid, now.generation) == (workload.uid, workload.generation)

    async def read_application(self, namespace: str, name: str) -> Json | None:
        self._called("application")
        return self.applications.get((namespace, name))

    async def restore_template(self, patch: TemplatePatch) -> datetime:
        self._called("restore")
        live = self._as_judged(patch)
        at = self.clock.now().replace(microsecond=0)
        self.restored.append(patch)
        written = restored(live, patch, at)
        self.put(rolled_out(written, at) if self.rolls_out else written)
        if self.lost:
            raise self.lost.pop(0)
        return at

    async def try_template(self, patch: TemplatePatch) -> Trial:
        self._called("try")
        try:
            self._as_judged(patch)
        except StaleReadError as error:
            return Trial("Unknown", str(error))
        trial = self.trials.get(images_of(patch.template), Trial("Accepted"))
        if isinstance(trial, Exception):
            raise trial
        return trial

    def _as_judged(self, patch: TemplatePatch) -> Workload:
        """Return the workload that a patch is for.  Raises StaleReadError when a guard fails."""
        live = self.workloads.get(patch.ref)
        if live is None:
            raise StaleReadError(f"{patch.ref} is gone")
        guards = (patch.uid, patch.generation, patch.revision)
        if (live.uid, live.generation, live.number) != guards:
            raise StaleReadError(f"{patch.ref} was changed meanwhile")
        return live

    async def read_referents(
        self, namespace: str, references: Collection[Reference]
    ) -> Mapping[Reference, Referent]:
        del namespace
        if references:
            self._called("referents")
        return {r: self.referents.get(r, Referent()) for r in references}

    async def read_warnings(
        self, namespace: str, uids: Collection[str]
    ) -> Mapping[str, WarningEvent | None]:
        del namespace
        if uids:
            self._called("warnings")
        return {uid: self.warnings.get(uid) for uid in uids}

    async def read_nodes(self, names: Collection[str]) -> Mapping[str, bool | None]:
        if names:
            self._called("nodes")
        return {name: self.nodes.get(name) for name in names}

    async def post_event(self, event: ClusterEvent) -> None:
        self._called("event")
        if (event.uid, event.key) not in {(there.uid, there.key) for there in self.events}:
            self.events.append(event)

    async def may(self, namespace: str, verb: str, resource: str) -> bool:
        self._called("may")
        return (namespace, verb, resource) not in self.denied

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.down is not None:
            raise self.down
        if self.failing:
            raise self.failing.pop(0)


def restored(workload: Workload, patch: TemplatePatch, at: datetime) -> Workload:
    """Return what the API server stores: the counts still tell of the template before."""
    return replace(
        workload,
        template=without_hash_label(patch.template),
        generation=workload.generation + 1,
        marker=read_marker(patch.marker),
        template_written_at=at,
        template_writer=FIELD_MANAGER,
        our_write_at=at,
    )


def rolled_out(workload: Workload, at: datetime) -> Workload:
    """Return what the Deployment controller makes of it when every pod becomes ready."""
    current = _current(workload, at)
    emptied = [
        replace(revision, desired=0, replicas=0, available=0)
        for revision in workload.revisions
        if revision.uid != current.uid
    ]
    wanted = workload.wanted
    return replace(
        workload,
        observed_generation=workload.generation,
        number=current.number,
        replicas=wanted,
        updated=wanted,
        ready=wanted,
        available=wanted,
        failure="",
        progress=Progress("True", "NewReplicaSetAvailable", "has successfully progressed", at),
        revisions=(current, *emptied),
        pods=tuple(_pod(current, index, at) for index in range(wanted)),
    )


def _current(workload: Workload, at: datetime) -> Revision:
    """Return the ReplicaSet of the live template, a new one if need be, with its new number."""
    newest = max((revision.number for revision in workload.revisions), default=0)
    found = workload.live or Revision(
        number=0,
        replica_set=f"{workload.ref.name}-{workload.key[:10]}",
        uid=workload.key[:36],
        pod_template_hash=workload.key[:10],
        template=workload.template,
        created_at=at,
    )
    history = found.history
    number = found.number
    if number < newest or number == 0:
        history, number = found.numbers, newest + 1
    return replace(
        found,
        number=number,
        history=history,
        marker=workload.marker or found.marker,
        desired=workload.wanted,
        replicas=workload.wanted,
        available=workload.wanted,
        failure="",
    )


def _pod(revision: Revision, index: int, at: datetime) -> Pod:
    return Pod(
        name=f"{revision.replica_set}-{index}",
        pod_template_hash=revision.pod_template_hash,
        is_ready=True,
        ready_since=at,
        started_at=at,
    )
