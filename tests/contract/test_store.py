"""One suite for ports.Store: against the fake, and against the real client over HTTP."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import pytest

from incident_rollback.clients.connection import Connection
from incident_rollback.clients.store import KubernetesStore
from incident_rollback.crd.v1alpha1 import (
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
    RollbackEnvironment,
    RollbackEnvironmentStatus,
)
from incident_rollback.domain.raw import Json
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    RollbackError,
    ThrottledError,
    UnavailableError,
)
from incident_rollback.ports import Store
from tests.fakes.apiserver import FakeApiServer, Fault, status
from tests.fakes.store import FakeStore

HOME = "incident-rollback"
ALL = "/apis/incidentrollback.dev/v1alpha1"
ROLLBACKS = f"{ALL}/namespaces/{HOME}/incidentrollbacks"
ENVIRONMENTS = f"{ALL}/namespaces/{HOME}/rollbackenvironments"


def a_manifest(name: str = "frontend-3f9a") -> Json:
    return {
        "apiVersion": "incidentrollback.dev/v1alpha1",
        "kind": "IncidentRollback",
        "metadata": {"name": name, "labels": {"from": "the-bridge"}},
        "spec": {
            "service": {"name": "Frontend Ü", "environment": "production"},
            "requestedAt": "2026-11-23T02:14:00Z",
            "incident": {"id": "i-1"},
        },
    }


def an_environment(name: str = "default") -> Json:
    return {
        "apiVersion": "incidentrollback.dev/v1alpha1",
        "kind": "RollbackEnvironment",
        "metadata": {"name": name, "namespace": HOME, "uid": f"uid-{name}", "generation": 1},
        "spec": {"environments": ["*"]},
    }


class World(Protocol):
    """A store, and how to arrange it."""

    @property
    def store(self) -> Store: ...

    def put_environment(self, raw: Json) -> None: ...

    def replace(self, rollback: IncidentRollback, uid: str) -> None: ...


@dataclass
class InMemory:
    store: FakeStore

    def put_environment(self, raw: Json) -> None:
        environment = RollbackEnvironment.model_validate(raw)
        self.store.environments[environment.metadata.name] = environment

    def replace(self, rollback: IncidentRollback, uid: str) -> None:
        metadata = rollback.metadata.model_copy(update={"uid": uid, "resource_version": "99"})
        self.store.put(rollback.model_copy(update={"metadata": metadata}))


@dataclass
class OverHttp:
    store: KubernetesStore
    server: FakeApiServer

    def put_environment(self, raw: Json) -> None:
        self.server.put(f"{ENVIRONMENTS}/{raw['metadata']['name']}", raw)

    def replace(self, rollback: IncidentRollback, uid: str) -> None:
        path = f"{ROLLBACKS}/{rollback.metadata.name}"
        raw = self.server.objects[path]
        self.server.put(path, {**raw, "metadata": {**raw["metadata"], "uid": uid}})


@pytest.fixture
def real(server: FakeApiServer, connection: Connection) -> OverHttp:
    return OverHttp(KubernetesStore(connection, HOME), server)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, real: OverHttp) -> World:
    return real if request.param == "real" else InMemory(FakeStore(home=HOME))


def with_phase(rollback: IncidentRollback, phase: Phase) -> IncidentRollback:
    return rollback.model_copy(update={"status": IncidentRollbackStatus(phase=phase)})


async def test_a_new_resource_is_created_in_the_home_namespace(world: World) -> None:
    rollback, is_new = await world.store.create(a_manifest())
    assert is_new
    assert (rollback.metadata.namespace, rollback.metadata.name) == (HOME, "frontend-3f9a")
    assert rollback.metadata.uid
    assert rollback.metadata.creation_timestamp is not None
    assert rollback.spec.requested_at == datetime(2026, 11, 23, 2, 14, tzinfo=UTC)
    assert rollback.status.phase is Phase.PENDING


async def test_the_same_name_again_is_the_resource_that_is_there(world: World) -> None:
    first, _ = await world.store.create(a_manifest())
    again, is_new = await world.store.create({**a_manifest(), "spec": {"dryRun": True}})
    assert not is_new
    assert again == first


async def test_what_is_not_there_is_none(world: World) -> None:
    assert await world.store.get(HOME, "nothing") is None


async def test_what_is_there_is_read_as_it_was_written(world: World) -> None:
    rollback, _ = await world.store.create(a_manifest())
    assert await world.store.get(HOME, rollback.metadata.name) == rollback
    assert await world.store.get("elsewhere", rollback.metadata.name) is None


async def test_a_status_is_stored_under_a_new_version(world: World) -> None:
    rollback, _ = await world.store.create(a_manifest())
    saved = await world.store.save(with_phase(rollback, Phase.REFUSED))
    assert saved is not None
    assert saved.status.phase is Phase.REFUSED
    assert saved.metadata.resource_version != rollback.metadata.resource_version
    assert saved.metadata.generation == rollback.metadata.generation
    assert await world.store.get(HOME, rollback.metadata.name) == saved


async def test_a_status_alone_is_written(world: World) -> None:
    rollback, _ = await world.store.create(a_manifest())
    changed = rollback.model_copy(
        update={"spec": rollback.spec.model_copy(update={"dry_run": True})}
    )
    saved = await world.store.save(with_phase(changed, Phase.REFUSED))
    assert saved is not None
    assert saved.spec == rollback.spec


async def test_a_save_over_a_newer_version_is_a_conflict(world: World) -> None:
    rollback, _ = await world.store.create(a_manifest())
    await world.store.save(with_phase(rollback, Phase.ROLLING_BACK))
    with pytest.raises(ConflictError):
        await world.store.save(with_phase(rollback, Phase.REFUSED))


async def test_a_save_of_what_is_gone_is_none(world: World) -> None:
    rollback, _ = await world.store.create(a_manifest())
    metadata = rollback.metadata.model_copy(update={"name": "gone"})
    assert await world.store.save(rollback.model_copy(update={"metadata": metadata})) is None


async def test_a_save_of_one_that_was_made_again_is_none(world: World) -> None:
    rollback, _ = await world.store.create(a_manifest())
    world.replace(rollback, "another-uid")
    assert await world.store.save(with_phase(rollback, Phase.REFUSED)) is None


async def test_lists_by_namespace_and_by_field(world: World) -> None:
    first, _ = await world.store.create(a_manifest("a"))
    await world.store.create(a_manifest("b"))
    await world.store.save(with_phase(first, Phase.REFUSED))

    async def names(namespace: str | None = None, fields: str = "") -> list[str]:
        found = await world.store.list_rollbacks(namespace=namespace, fields=fields)
        return [rollback.metadata.name for rollback in found]

    assert await names() == ["a", "b"]
    assert await names(HOME) == ["a", "b"]
    assert await names("elsewhere") == []
    assert await names(fields="status.phase=Refused") == ["a"]


async def test_environments_are_listed_and_their_status_is_written(world: World) -> None:
    world.put_environment(an_environment())
    (environment,) = await world.store.list_environments()
    looked_at = RollbackEnvironmentStatus(observed_generation=1)
    await world.store.save_environment(environment.model_copy(update={"status": looked_at}))
    (environment,) = await world.store.list_environments()
    assert environment.status == looked_at
    assert await world.store.get_environment("default") == environment
    assert await world.store.get_environment("another") is None


async def test_the_status_of_an_environment_that_is_gone_is_dropped(world: World) -> None:
    await world.store.save_environment(RollbackEnvironment.model_validate(an_environment()))
    assert await world.store.list_environments() == []


# What only the real client has to tell apart.

CREATE_REFUSALS = [
    pytest.param(Fault(422, status(422, "spec is invalid: exactly one")), InvalidRequestError,
                 "exactly one", id="the schema's 422"),
    pytest.param(Fault(400, status(400, "unknown field")), InvalidRequestError, "unknown field",
                 id="400"),
    pytest.param(Fault(403, status(403, 'admission webhook "p" denied the request: no')),
                 InvalidRequestError, "denied", id="admission's 403"),
    pytest.param(Fault(403, status(403, 'User "eve" cannot create resource "x"')), ForbiddenError,
                 "eve", id="RBAC's 403"),
    pytest.param(Fault(404, status(404, 'namespaces "incident-rollback" not found')),
                 UnavailableError, "not found", id="no such namespace"),
    pytest.param(Fault(429, status(429, "slow down")), ThrottledError, "slow down", id="429"),
    pytest.param(Fault(503, "<html>"), UnavailableError, "503", id="503"),
    pytest.param(Fault(drops=True, happens=True), UnavailableError, "reached", id="cut off"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "expected", "words"), CREATE_REFUSALS)
async def test_refusals_of_a_create(
    real: OverHttp, fault: Fault, expected: type[RollbackError], words: str
) -> None:
    real.server.faults = [fault]
    with pytest.raises(expected, match=words) as raised:
        await real.store.create(a_manifest())
    assert isinstance(raised.value, expected)


async def test_a_create_whose_answer_was_lost_may_be_made_again(real: OverHttp) -> None:
    real.server.faults = [Fault(drops=True, happens=True)]
    with pytest.raises(UnavailableError):
        await real.store.create(a_manifest())
    _, is_new = await real.store.create(a_manifest())
    assert not is_new


async def test_one_that_was_there_and_is_gone_again(real: OverHttp) -> None:
    real.server.faults = [Fault(409, status(409, "already exists", reason="AlreadyExists"))]
    with pytest.raises(UnavailableError, match="gone again"):
        await real.store.create(a_manifest())


async def test_a_status_that_the_schema_refuses(real: OverHttp) -> None:
    rollback, _ = await real.store.create(a_manifest())
    real.server.faults = [Fault(422, status(422, "status.phase: too long"))]
    with pytest.raises(InvalidRequestError, match="too long"):
        await real.store.save(rollback)


async def test_the_status_on_the_wire(real: OverHttp) -> None:
    rollback, _ = await real.store.create(a_manifest())
    await real.store.save(with_phase(rollback, Phase.REFUSED))
    seen = real.server.seen[-1]
    assert (seen.method, seen.path) == ("PUT", f"{ROLLBACKS}/frontend-3f9a/status")
    assert seen.query == {"fieldManager": "incident-rollback"}
    assert seen.body["metadata"]["resourceVersion"] == rollback.metadata.resource_version
    assert seen.body["metadata"]["uid"] == rollback.metadata.uid
    assert seen.body["spec"]["service"] == {"name": "Frontend Ü", "environment": "production"}
    assert seen.body["status"]["observedGeneration"] == -1
    assert "from" not in seen.body["status"]


async def test_labels_survive_a_status_write(real: OverHttp) -> None:
    rollback, _ = await real.store.create(a_manifest())
    await real.store.save(with_phase(rollback, Phase.REFUSED))
    stored = real.server.objects[f"{ROLLBACKS}/frontend-3f9a"]
    assert stored["metadata"]["labels"] == {"from": "the-bridge"}


async def test_lists_come_in_pages_with_their_selector(real: OverHttp) -> None:
    for name in "abc":
        await real.store.create(a_manifest(name))
    real.server.seen.clear()
    real.server.page = 2
    found = await real.store.list_rollbacks(fields="spec.incident.id=i-1")
    assert len(found) == 3
    assert [seen.path for seen in real.server.seen] == [f"{ALL}/incidentrollbacks"] * 2
    assert {seen.query["fieldSelector"] for seen in real.server.seen} == {"spec.incident.id=i-1"}


async def test_a_list_that_need_not_be_the_newest_says_how_old_it_may_be(real: OverHttp) -> None:
    for name in "abc":
        await real.store.create(a_manifest(name))
    real.server.seen.clear()
    real.server.page = 2
    assert len(await real.store.list_rollbacks(since="7")) == 3
    await real.store.list_environments(may_lag=True)
    await real.store.list_environments()
    asked = [
        (seen.query.get("resourceVersion"), seen.query.get("resourceVersionMatch"))
        for seen in real.server.seen
    ]
    assert asked == [("7", "NotOlderThan"), (None, None), ("0", None), (None, None)]


async def test_who_lists_the_same_version_has_the_same_object(real: OverHttp) -> None:
    """So that fifty who list each other do not hold 2,500."""
    await real.store.create(a_manifest("a"))
    (first,) = await real.store.list_rollbacks()
    (again,) = await real.store.list_rollbacks(namespace=HOME)
    assert again is first
    await real.store.save(with_phase(first, Phase.REFUSED))
    (newer,) = await real.store.list_rollbacks()
    assert newer.status.phase is Phase.REFUSED
    assert first.status.phase is Phase.PENDING


async def test_one_that_cannot_be_read_does_not_hide_the_others(
    real: OverHttp, caplog: pytest.LogCaptureFixture
) -> None:
    await real.store.create(a_manifest("good"))
    broken = {**a_manifest("broken"), "kind": "IncidentRollback", "spec": {"pairs": "many"}}
    real.server.put(f"{ROLLBACKS}/broken", broken)
    with caplog.at_level(logging.WARNING):
        found = await real.store.list_rollbacks()
    assert [rollback.metadata.name for rollback in found] == ["good"]
    assert "broken cannot be read" in caplog.text


async def test_one_that_cannot_be_read_is_not_taken_for_gone(real: OverHttp) -> None:
    real.server.put(f"{ROLLBACKS}/broken", {**a_manifest("broken"), "spec": {"pairs": "many"}})
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        await real.store.get(HOME, "broken")


async def test_without_the_crd_a_list_says_so(real: OverHttp) -> None:
    real.server.faults = [Fault(404, "404 page not found")]
    with pytest.raises(UnavailableError, match="cannot list"):
        await real.store.list_rollbacks()


async def test_an_environment_somebody_else_wrote_is_left_for_the_next_round(
    real: OverHttp,
) -> None:
    real.put_environment(an_environment())
    (environment,) = await real.store.list_environments()
    real.put_environment(an_environment())
    await real.store.save_environment(environment)
