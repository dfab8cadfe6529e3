"""A Deployment, its revisions and its pods: one snapshot, read in one go."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal, TypeAlias

from incident_rollback.domain.ownership import Owner
from incident_rollback.domain.raw import Json
from incident_rollback.domain.template import images_of, template_key

Logs: TypeAlias = Literal["None", "Current", "Previous"]
"""Which logs say why: there are none, those of the latest run, or those of the run before."""


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    """The name of a workload."""

    namespace: str
    name: str
    kind: str = "Deployment"

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Marker:
    """
    The trace of one of our patches: annotation `incidentrollback.dev/request`.

    On the wire `<uid> <intent> <time>`; one that does not parse is not ours.
    """

    uid: str
    intent: str
    at: datetime


@dataclass(frozen=True)
class Pod:
    """
    One pod of the workload, and what is wrong with it.

    `reason` is the worst container's waiting or terminated reason, or why the pod is not
    scheduled, verbatim; empty while nothing is known to be wrong.
    """

    name: str
    pod_template_hash: str
    is_ready: bool
    is_deleting: bool = False
    uid: str = ""
    node: str = ""
    """The name of the node that it is on; empty until it has one."""
    created_at: datetime | None = None
    ready_since: datetime | None = None
    """Transition of the condition Ready, when it is true."""
    started_at: datetime | None = None
    """The latest start of one of its running containers."""
    restarts: int = 0
    """Sum over its containers."""
    reason: str = ""
    container: str = ""
    """Where it is wrong or, while nothing is known to be, the first that runs and is not ready."""
    exit_code: int | None = None
    message: str = ""
    """What Kubernetes says to the reason, without secrets; empty where it may be a log."""
    logs: Logs = "None"
    """Of that container."""
    not_ready: str = ""
    """Kubernetes' reason of Ready=False, e.g. ReadinessGatesNotReady; it may still be starting."""
    crashed_at: datetime | None = None
    """The latest end of a container with an error."""
    finished_at: datetime | None = None
    """When it ended as a whole, evicted for example: the ReplicaSet has replaced it since."""


@dataclass(frozen=True)
class Revision:
    """One past pod template: a ReplicaSet that the Deployment owns."""

    number: int
    """The annotation deployment.kubernetes.io/revision; 0 when missing or garbage."""
    replica_set: str
    uid: str
    pod_template_hash: str
    template: Json
    created_at: datetime
    history: tuple[int, ...] = ()
    """The numbers it had before, from revision-history, ascending."""
    desired: int = 0
    replicas: int = 0
    available: int = 0
    marker: Marker | None = None
    failure: str = ""
    """The message of its condition ReplicaFailure, when true."""

    @cached_property
    def key(self) -> str:
        """Equal for functionally equal revisions."""
        return template_key(self.template)

    @property
    def images(self) -> tuple[str, ...]:
        """The images of its containers."""
        return images_of(self.template)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Every number it is known to have had, ascending, without garbage."""
        return tuple(sorted({n for n in (*self.history, self.number) if n > 0}))


@dataclass(frozen=True, slots=True)
class Progress:
    """The Deployment's condition Progressing."""

    status: str
    reason: str
    message: str
    updated_at: datetime
    """lastUpdateTime: rewritten at each progress; not when status and reason stay the same."""


@dataclass(frozen=True)
class Workload:
    """
    A Deployment as the API server had it at one moment, with its ReplicaSets and pods.

    Counts are pods.  Instants are the API server's.
    """

    ref: WorkloadRef
    uid: str
    generation: int
    observed_generation: int
    template: Json
    created_at: datetime
    number: int = 0
    """The Deployment's own copy of the revision number; may lag behind the ReplicaSet's."""
    wanted: int = 1
    """spec.replicas."""
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    is_paused: bool = False
    is_deleting: bool = False
    owner: str = ""
    """`kind/name` of the controller ownerReference; empty: none."""
    managed_by: tuple[Owner, ...] = ()
    """Who keeps it as it is written elsewhere; who is certain to revert first."""
    opted_out: str | None = None
    """The reason of the annotation `…/rollback: never` (may be ""); None: it has not opted out."""
    has_legacy_rollback: bool = False
    """The annotation deprecated.deployment.rollback.to is there: its controller is about to act."""
    marker: Marker | None = None
    template_written_at: datetime | None = None
    """managedFields time of the newest entry that owns f:template; None: unknown."""
    template_writer: str = ""
    """The manager of that entry; empty: unknown."""
    our_write_at: datetime | None = None
    """managedFields time of our own entry; None: there is none."""
    progress: Progress | None = None
    progress_deadline_seconds: int | None = None
    """None: disabled (2147483647) or absent."""
    failure: str = ""
    """The message of the condition ReplicaFailure, when true."""
    strategy: str = "RollingUpdate"
    revisions: tuple[Revision, ...] = ()
    """The owned ReplicaSets, newest number first."""
    pods: tuple[Pod, ...] = field(default=(), repr=False)

    @cached_property
    def key(self) -> str:
        """Equal to the key of a revision whose template functionally equals the live one."""
        return template_key(self.template)

    @property
    def images(self) -> tuple[str, ...]:
        """The images of its containers."""
        return images_of(self.template)

    @cached_property
    def is_observed(self) -> bool:
        """The counts and revisions describe the live template."""
        return self.observed_generation >= self.generation and self.live is not None

    @cached_property
    def live(self) -> Revision | None:
        """
        The revision whose template is the live one; None: its ReplicaSet is not there yet.

        Of functionally equal ones the newest number, for a restart makes a new ReplicaSet.
        """
        return next((r for r in self.revisions if r.key == self.key), None)

    def revision(self, pod_template_hash: str) -> Revision | None:
        """Return the revision with this hash, or None when it has been pruned."""
        return next((r for r in self.revisions if r.pod_template_hash == pod_template_hash), None)

    def pods_of(self, revision: Revision) -> tuple[Pod, ...]:
        """Return the pods of a revision that are there: not on their way out, and not ended."""
        return tuple(
            pod
            for pod in self.pods
            if pod.pod_template_hash == revision.pod_template_hash
            and not pod.is_deleting
            and pod.finished_at is None
        )

    def ended_pods_of(self, revision: Revision) -> tuple[Pod, ...]:
        """Return the pods of a revision that have ended as a whole and were replaced since."""
        return tuple(
            pod
            for pod in self.pods
            if pod.pod_template_hash == revision.pod_template_hash and pod.finished_at is not None
        )
