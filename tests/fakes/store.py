"""Our own resources in memory."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from incident_rollback.crd.v1alpha1 import IncidentRollback, RollbackEnvironment
from incident_rollback.domain.raw import child
from incident_rollback.errors import ConflictError
from incident_rollback.ports import Clock
from tests.fakes.clock import FakeClock

Key = tuple[str, str]


@dataclass
class FakeStore:
    """
    Implements ports.Store: names are unique, and a status is written by resourceVersion.

    Kinder than the real one: no admission, no quota, no lag between a write and a read, no
    permissions, and of the schema only what the models check.  `failing` holds errors for the
    next calls, one each; `down` fails every call while it is set.  A call that fails changes
    nothing, except the writes listed in `lost`: they happen, and then the answer is lost.
    """

    home: str = "incident-rollback"
    clock: Clock = field(default_factory=FakeClock)
    rollbacks: dict[Key, IncidentRollback] = field(default_factory=dict[Key, IncidentRollback])
    environments: dict[str, RollbackEnvironment] = field(
        default_factory=dict[str, RollbackEnvironment]
    )
    lagging: dict[str, RollbackEnvironment] | None = None
    """What a list of environments shows that may lag; None: as they are."""
    manifests: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """Every manifest that became a resource, as it came."""
    calls: list[str] = field(default_factory=list[str])
    since: list[str] = field(default_factory=list[str])
    """For each list of rollbacks, what it had to have seen."""
    failing: list[Exception] = field(default_factory=list[Exception])
    down: Exception | None = None
    lost: list[Exception] = field(default_factory=list[Exception])
    """For the next creates and saves, one each: raised after the write."""
    version: int = 0

    async def create(self, manifest: Mapping[str, Any]) -> tuple[IncidentRollback, bool]:
        self._called("create")
        wanted = IncidentRollback.model_validate(manifest)
        key = (self.home, wanted.metadata.name)
        if key in self.rollbacks:
            return self.rollbacks[key], False
        metadata = wanted.metadata.model_copy(
            update={
                "namespace": self.home,
                "uid": str(uuid.uuid4()),
                "resource_version": self._next_version(),
                "generation": 1,
                "creation_timestamp": self.clock.now().replace(microsecond=0),
            }
        )
        self.manifests.append(manifest)
        created = self.put(IncidentRollback(metadata=metadata, spec=wanted.spec))
        self._maybe_lose()
        return created, True

    def put(self, rollback: IncidentRollback) -> IncidentRollback:
        """Arrange or replace a resource as it is, without any check."""
        self.rollbacks[rollback.metadata.namespace, rollback.metadata.name] = rollback
        return rollback

    async def get(self, namespace: str, name: str) -> IncidentRollback | None:
        self._called("get")
        return self.rollbacks.get((namespace, name))

    async def save(self, rollback: IncidentRollback) -> IncidentRollback | None:
        self._called("save")
        there = self.rollbacks.get((rollback.metadata.namespace, rollback.metadata.name))
        if there is None or there.metadata.uid != rollback.metadata.uid:
            return None
        if there.metadata.resource_version != rollback.metadata.resource_version:
            raise ConflictError(f"{rollback.metadata.name} was written since it was read")
        if there.status == rollback.status:
            return there
        metadata = there.metadata.model_copy(update={"resource_version": self._next_version()})
        saved = there.model_copy(update={"metadata": metadata, "status": rollback.status})
        self.put(saved)
        self._maybe_lose()
        return saved

    async def list_rollbacks(
        self, *, namespace: str | None = None, fields: str = "", since: str = ""
    ) -> Sequence[IncidentRollback]:
        self.since.append(since)  # Nothing lags here.
        self._called("list")
        return [
            rollback
            for (home, _), rollback in sorted(self.rollbacks.items(), key=lambda item: item[0])
            if namespace in {None, home} and is_selected(rollback, fields)
        ]

    async def list_environments(self, *, may_lag: bool = False) -> Sequence[RollbackEnvironment]:
        self._called("list environments")
        seen = self.lagging if may_lag and self.lagging is not None else self.environments
        return [seen[name] for name in sorted(seen)]

    async def get_environment(self, name: str) -> RollbackEnvironment | None:
        self._called("get environment")
        return self.environments.get(name)

    async def save_environment(self, environment: RollbackEnvironment) -> None:
        self._called("save environment")
        there = self.environments.get(environment.metadata.name)
        if there is not None:
            stored = there.model_copy(update={"status": environment.status})
            self.environments[environment.metadata.name] = stored

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.down is not None:
            raise self.down
        if self.failing:
            raise self.failing.pop(0)

    def _maybe_lose(self) -> None:
        if self.lost:
            raise self.lost.pop(0)

    def _next_version(self) -> str:
        self.version += 1
        return str(self.version)


def is_selected(rollback: IncidentRollback, fields: str) -> bool:
    """Say whether a resource matches a field selector such as `status.settled=false`."""
    raw = rollback.model_dump(mode="json", by_alias=True, exclude_none=True)
    for term in filter(None, fields.split(",")):
        path, is_not, wanted = _parsed(term)
        *parents, leaf = path.removeprefix(".").split(".")
        found = child(raw, *parents).get(leaf, "")
        text = str(found).lower() if isinstance(found, bool) else str(found)
        if (text == wanted) is is_not:
            return False
    return True


def _parsed(term: str) -> tuple[str, bool, str]:
    """Return path, whether it must differ, and value of one term of a field selector."""
    for operator in ("!=", "==", "="):
        path, found, wanted = term.partition(operator)
        if found:
            return path, operator == "!=", wanted
    raise ValueError(f"not a field selector: {term}")
