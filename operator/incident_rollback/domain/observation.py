"""What a decision rests on, and the trace that our own write leaves behind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from incident_rollback.crd.v1alpha1 import IncidentRollback, Policy, RevisionStatus
from incident_rollback.domain.environment import DEFAULT_POLICY, Place
from incident_rollback.domain.incident import IncidentFacts, is_drill
from incident_rollback.domain.moves import Refuse, Wait
from incident_rollback.domain.surroundings import Surroundings
from incident_rollback.domain.workload import Marker, Workload

LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Observation:
    """Everything a decision rests on, read in one turn."""

    rollback: IncidentRollback
    now: datetime
    place: Place | None = None
    hindrance: Wait | Refuse | None = None
    """Why there is no workload to look at: the mapping, a missing permission."""
    denied: Wait | None = None
    """What the API server said to our last try to patch, when it was no; it may say yes now."""
    workload: Workload | None = None
    others: Sequence[IncidentRollback] = ()
    """
    Other resources: those that have claimed and not ended, those of the same incident and, where
    the policy bounds an hour, those of the environment that may have changed something.
    """
    facts: IncidentFacts | None = None
    """What FireHydrant says of the incident; None: not asked, or it did not say."""
    around: Surroundings = field(default_factory=Surroundings)
    """What the first decision of this turn made us look at."""

    @property
    def policy(self) -> Policy:
        """The policy of the environment; the defaults when it is not mapped any more."""
        return self.place.policy if self.place else DEFAULT_POLICY

    @property
    def asked_at(self) -> datetime:
        """From when its age counts: the earlier of requestedAt and creation."""
        created = self.rollback.metadata.creation_timestamp or self.now
        return min(created, self.rollback.spec.requested_at or created)

    @property
    def acts_until(self) -> datetime:
        """The end of its time: after this nothing is changed any more."""
        return self.asked_at + timedelta(seconds=self.policy.max_age_seconds)

    @property
    def began_at(self) -> datetime:
        """When the incident began; without one, when it was asked for."""
        incident = self.rollback.spec.incident
        given = (incident and incident.started_at) or self.asked_at
        return max(given, LONG_AGO)  # Somebody's zero time must not break reckoning with it.

    @property
    def written_at(self) -> datetime | None:
        """When our patch went in; None when it has left no trace."""
        if not is_written(self.rollback, self.workload):
            return None
        return patched_at(self.rollback, self.workload)

    @property
    def is_dry_run(self) -> bool:
        """Asked for as one, or FireHydrant's drill."""
        incident = self.rollback.spec.incident
        named = incident is not None and is_drill(incident.severity)
        return (
            self.rollback.spec.dry_run or named or (self.facts is not None and self.facts.is_drill)
        )

    @property
    def is_explicit(self) -> bool:
        """Somebody named the revision, or approved the plan."""
        return self.rollback.spec.to is not None or self.rollback.spec.plan_digest is not None


def is_written(rollback: IncidentRollback, workload: Workload | None) -> bool:
    """
    Say whether our patch is in, by its trace.

    Our marker is on the workload or on a ReplicaSet that it owns (`kubectl rollout undo` wipes
    it from the workload only), or the ReplicaSet of `from` has another number than was frozen:
    then it was left and came back.  Numbers of another workload of that name tell nothing.
    """
    status = rollback.status
    if status.patched_at is not None:
        return True
    if workload is None or status.from_ is None:
        return False
    if any(marker.uid == rollback.metadata.uid for marker in markers(workload)):
        return True
    if is_another(rollback, workload):
        return False
    origin = workload.revision(status.from_.pod_template_hash)
    return origin is not None and origin.number != status.from_.revision


def markers(workload: Workload) -> Sequence[Marker]:
    """Return the markers on the workload and on its ReplicaSets."""
    found = [workload.marker, *(revision.marker for revision in workload.revisions)]
    return [marker for marker in found if marker is not None]


def patched_at(rollback: IncidentRollback, workload: Workload | None) -> datetime | None:
    """Say when our patch went in: as recorded, else by the marker, else at the claim."""
    if rollback.status.patched_at is not None or workload is None:
        return rollback.status.patched_at or rollback.status.claimed_at
    ours = [m.at for m in markers(workload) if m.uid == rollback.metadata.uid]
    return max(ours, default=rollback.status.claimed_at)


def is_same(workload: Workload, frozen: RevisionStatus | None) -> bool:
    """Say whether the live template functionally equals a frozen revision."""
    revision = workload.revision(frozen.pod_template_hash) if frozen else None
    return revision is not None and revision.key == workload.key


def is_another(rollback: IncidentRollback, workload: Workload) -> bool:
    """Say whether a workload is not the claimed one: same name, other uid."""
    target = rollback.status.target
    return target is not None and target.uid != workload.uid
