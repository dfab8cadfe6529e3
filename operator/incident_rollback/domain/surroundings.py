"""What stands around a workload and decides with it; read only when a decision rests on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

ReferenceKind: TypeAlias = Literal[
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "PriorityClass",
    "RuntimeClass",
]


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """Another object that a pod template needs; a class has no namespace, the rest the pod's."""

    kind: ReferenceKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Referent:
    """What was found behind a reference: never its content."""

    is_there: bool | None = True
    """None: we may not look, or got no answer."""
    changed_at: datetime | None = None
    """The newest managedFields time, else its creation; None: unknown."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the API server says to the very patch, without carrying it out (`dryRun=All`)."""

    outcome: Literal["Accepted", "Rejected", "Denied", "Unknown"]
    """
    Rejected: admission or validation refuses it, or would make another template of it.
    Denied: the account may not patch.  Unknown: it cannot be tried, which refuses nothing.
    """
    message: str = ""


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """The latest Warning Event about an object; best effort, short-lived."""

    reason: str
    message: str
    at: datetime | None = None
    is_of_kubernetes: bool = True
    """Anybody may post an Event with any reason; what another one says is no cause."""


@dataclass(frozen=True)
class Surroundings:
    """
    What was looked at in this turn, and what came of it.

    A key that is not there was not looked at; what could not be seen is there, and says so.
    """

    references: Mapping[Reference, Referent] = field(default_factory=dict[Reference, Referent])
    trials: Mapping[str, Trial] = field(default_factory=dict[str, Trial])
    """By the pod-template-hash of the revision to restore."""
    warnings: Mapping[str, WarningEvent | None] = field(
        default_factory=dict[str, WarningEvent | None]
    )
    """By the uid of the object; None: there is none that we may see."""
    nodes: Mapping[str, bool | None] = field(default_factory=dict[str, bool | None])
    """By name, whether a node is ready; None: unknown."""

    def is_accepted(self, pod_template_hash: str) -> bool:
        """Say whether the API server has taken the trial of this revision, guards and all."""
        trial = self.trials.get(pod_template_hash)
        return trial is not None and trial.outcome == "Accepted"

    def missing(self, references: frozenset[Reference]) -> tuple[Reference, ...]:
        """Return the references with nothing behind them, sorted."""
        return self._of(references, lambda referent: referent.is_there is False)

    def unseen(self, references: frozenset[Reference]) -> tuple[Reference, ...]:
        """Return the references that could not be looked behind, sorted."""
        return self._of(references, lambda referent: referent.is_there is None)

    def changed_after(
        self, references: frozenset[Reference], moment: datetime
    ) -> tuple[Reference, ...]:
        """Return the references whose objects were changed after a moment, sorted."""
        return self._of(
            references,
            lambda referent: referent.changed_at is not None and referent.changed_at > moment,
        )

    def _of(
        self, references: frozenset[Reference], is_one: Callable[[Referent], bool]
    ) -> tuple[Reference, ...]:
        found = ((r, self.references.get(r)) for r in references)
        return tuple(
            sorted(r for r, referent in found if referent is not None and is_one(referent))
        )
