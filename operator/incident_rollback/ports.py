"""What we need from outside, as Protocols.  Errors are those of the error tree."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from incident_rollback.crd.v1alpha1 import IncidentRollback, RollbackEnvironment
from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.domain.lease import Lease
from incident_rollback.domain.raw import Json
from incident_rollback.domain.surroundings import (
    Reference,
    Referent,
    Trial,
    WarningEvent,
)
from incident_rollback.domain.workload import Workload, WorkloadRef


class Clock(Protocol):
    """The API server's time, for every judgement; aware UTC."""

    def now(self) -> datetime:
        """Return now, by the API server's clock."""
        ...


class Store(Protocol):
    """Our own resources.  Raises UnavailableError, ThrottledError, ForbiddenError."""

    async def create(self, manifest: Mapping[str, Any]) -> tuple[IncidentRollback, bool]:
        """
        Create a resource in the home namespace; return it and whether it is new.

        "Already exists" is success: the one that is there is read and returned.
        Raises InvalidRequestError with the server's message when the object is refused.
        """
        ...

    async def get(self, namespace: str, name: str) -> IncidentRollback | None:
        """Return the resource, or None when there is none."""
        ...

    async def save(self, rollback: IncidentRollback) -> IncidentRollback | None:
        """
        Write the status with metadata.resourceVersion; return it as stored, None when gone.

        Raises ConflictError when somebody wrote it since it was read.
        """
        ...

    async def list_rollbacks(
        self, *, namespace: str | None = None, fields: str = "", since: str = ""
    ) -> Sequence[IncidentRollback]:
        """
        Return the resources of one or all namespaces that match a field selector.

        `since` is a resourceVersion: what was written up to it is seen, later writes perhaps;
        "": all that was written up to now, which takes the API server up to 100 ms longer.
        """
        ...

    async def list_environments(self, *, may_lag: bool = False) -> Sequence[RollbackEnvironment]:
        """Return the RollbackEnvironments of the home namespace; at once if they may lag a bit."""
        ...

    async def get_environment(self, name: str) -> RollbackEnvironment | None:
        """Return a RollbackEnvironment as it is now, or None when there is none."""
        ...

    async def save_environment(self, environment: RollbackEnvironment) -> None:
        """Write the status of an environment; a conflict is left for the next round."""
        ...


class Leases(Protocol):
    """
    The one Lease that controllers lead by.

    Raises UnavailableError, ThrottledError, ForbiddenError, RejectedError, InvalidRequestError.
    """

    async def read(self) -> Lease | None:
        """Return the Lease, or None when there is none."""
        ...

    async def write(self, lease: Lease) -> Lease:
        """
        Write it over the version that it has, or create it when it has none; return it as stored.

        Raises ConflictError when somebody was quicker: it was written, made or deleted since.
        """
        ...


@dataclass(frozen=True, slots=True)
class TemplatePatch:
    """One guarded restore: what was judged, and what shall be."""

    ref: WorkloadRef
    uid: str
    generation: int
    revision: int
    """The Deployment's own revision annotation when it was judged."""
    template: Json
    """The wanted template; the label pod-template-hash is dropped on the way."""
    marker: str
    """The value of the annotation incidentrollback.dev/request."""


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """A Kubernetes Event, once per `key` and object."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    key: str
    """Makes its name, so that a repeated post is no second Event: lower case, [a-z0-9-]."""
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    """Cut at 1,024 characters."""


class Cluster(Protocol):
    """
    The workloads of one cluster.  Raises UnavailableError, ThrottledError, and
    ForbiddenError, whose message names the account's missing permission and the namespace.
    """

    async def labelled_workloads(self, namespace: str, service: str) -> Sequence[WorkloadRef]:
        """Return the Deployments labelled `incidentrollback.dev/service: <service>`, by name."""
        ...

    async def read_workload(
        self, ref: WorkloadRef, *, at_a_glance: bool = False
    ) -> Workload | None:
        """
        Return one snapshot of the Deployment, its ReplicaSets and pods; None: not there.

        At a glance its parts may belong to different moments, unless `is_still` says otherwise
        afterwards, or a guarded patch that rests on it is taken.
        """
        ...

    async def is_still(self, workload: Workload) -> bool:
        """Say whether nobody has changed the Deployment's spec since it was read."""
        ...

    async def read_application(self, namespace: str, name: str) -> Json | None:
        """Return an Argo CD Application; None: it is not there, or we may not look at it."""
        ...

    async def restore_template(self, patch: TemplatePatch) -> datetime:
        """
        Restore a template, guarded by uid, generation and revision; return the server's time.

        Raises StaleReadError on a bare 422 (the guard failed; nothing was changed),
        RejectedError on a 422 with causes or an admission refusal (also a 403 by admission),
        ForbiddenError on a 403 by RBAC, UnavailableError when the outcome is unknown.
        """
        ...

    async def try_template(self, patch: TemplatePatch) -> Trial:
        """
        Ask the API server what it would say to a restore, and change nothing (`dryRun=All`).

        Raises ForbiddenError on a 403 by RBAC.  No answer in time is the outcome Unknown.
        """
        ...

    async def read_referents(
        self, namespace: str, references: Collection[Reference]
    ) -> Mapping[Reference, Referent]:
        """Say of each reference what is behind it; nothing of their content is read.  No error."""
        ...

    async def read_warnings(
        self, namespace: str, uids: Collection[str]
    ) -> Mapping[str, WarningEvent | None]:
        """Return the latest Warning Event about each object; None: none that we see.  No error."""
        ...

    async def read_nodes(self, names: Collection[str]) -> Mapping[str, bool | None]:
        """Say of each node whether it is ready; None: we may not look, or got no answer."""
        ...

    async def post_event(self, event: ClusterEvent) -> None:
        """Post an Event; one that is there already is success."""
        ...

    async def may(self, namespace: str, verb: str, resource: str) -> bool:
        """Ask by SelfSubjectAccessReview whether we may `verb` apps or core `resource` there."""
        ...


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """What FireHydrant's catalogue of changes is told about a rollback."""

    external_id: str
    """Unique to the rollback; also its label `rollback-uid`, by which it is found again."""
    summary: str
    description: str
    labels: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime


class Timeline(Protocol):
    """
    FireHydrant's API.  Raises UnavailableError (5xx, connection, time-out: a write may have
    happened), ThrottledError (nothing happened), and TimelineRefusedError with its reason.
    """

    async def read_incident(self, incident_id: str) -> IncidentFacts:
        """Say what FireHydrant knows of the incident."""
        ...

    async def find(self, incident_id: str, text: str) -> str | None:
        """Return the id of the note or message with exactly this text; None: none is listed."""
        ...

    async def post_note(self, incident_id: str, text: str) -> str:
        """Post a note; return its id."""
        ...

    async def post_message(self, incident_id: str, text: str) -> str:
        """Post a generic chat message; return its id."""
        ...

    async def edit_message(self, incident_id: str, message_id: str, text: str) -> None:
        """Change the text of a generic chat message."""
        ...

    async def find_change(self, external_id: str) -> str | None:
        """Return the id of the change event with this external id; None: none is listed."""
        ...

    async def post_change(self, change: ChangeEvent) -> str:
        """Post a change event; return its id."""
        ...

    async def relate_change(
        self, incident_id: str, change_id: str, relation: Literal["fixed", "suspect"], why: str
    ) -> None:
        """Relate a change event to the incident, or change the relation that is there."""
        ...
