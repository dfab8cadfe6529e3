"""One suite for ports.Leases: against the fake, and against the real client over HTTP."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock
from pydantic import ValidationError

from incident_rollback.clients.connection import Connection
from incident_rollback.clients.lease import KubernetesLeases
from incident_rollback.domain.lease import LEASE_SECONDS, Lease
from incident_rollback.domain.raw import Json
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    RollbackError,
    ThrottledError,
    UnavailableError,
)
from incident_rollback.ports import Leases
from tests.fakes.apiserver import FakeApiServer, Fault, status
from tests.fakes.leases import FakeLeases

HOME = "incident-rollback"
ALL = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases"
PATH = f"{ALL}/incident-rollback-controller"
NOON = datetime(2026, 11, 23, 12, 0, 0, 123_456, tzinfo=UTC)
MINE = Lease("controller-a_1f", 10, NOON, NOON, 3)


class World(Protocol):
    """The Lease, and how to arrange what others do to it."""

    @property
    def leases(self) -> Leases: ...

    def delete(self) -> None: ...


@dataclass
class InMemory:
    leases: FakeLeases

    def delete(self) -> None:
        self.leases.lease = None


@dataclass
class OverHttp:
    leases: KubernetesLeases
    server: FakeApiServer

    def delete(self) -> None:
        del self.server.objects[PATH]


@pytest.fixture
def real(server: FakeApiServer, connection: Connection) -> OverHttp:
    return OverHttp(KubernetesLeases(connection, HOME), server)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, real: OverHttp) -> World:
    return real if request.param == "real" else InMemory(FakeLeases())


# --- why it is not the library's ---


async def test_the_lock_of_the_library_still_cannot_make_a_lease(server: FakeApiServer) -> None:
    """The day this fails its election is worth another look: docs/adr/0007."""
    noon = str(NOON.replace(tzinfo=None))  # It writes a Z behind it.
    record = LeaderElectionRecord("me", "10", noon, noon)
    async with ApiClient(Configuration(host=server.host)) as client:
        with pytest.raises(ValidationError, match="pretty"):
            await LeaseLock("controller", HOME, "me", client).create("controller", HOME, record)
    assert server.objects == {}


# --- what every Lease does ---


async def test_there_is_none_at_first(world: World) -> None:
    assert await world.leases.read() is None


async def test_what_is_written_is_read(world: World) -> None:
    stored = await world.leases.write(MINE)
    assert stored.version
    assert stored == replace(MINE, version=stored.version)
    assert await world.leases.read() == stored


async def test_each_write_is_over_the_version_before(world: World) -> None:
    first = await world.leases.write(MINE)
    renewed = replace(first, renewed_at=NOON + timedelta(seconds=2), transitions=4)
    second = await world.leases.write(renewed)
    assert second.version != first.version
    assert await world.leases.read() == replace(renewed, version=second.version)


async def test_a_released_one_has_no_holder(world: World) -> None:
    first = await world.leases.write(MINE)
    await world.leases.write(replace(first, holder=""))
    read = await world.leases.read()
    assert read is not None
    assert read.holder == ""


async def test_of_two_who_make_it_one_is_too_late(world: World) -> None:
    await world.leases.write(MINE)
    with pytest.raises(ConflictError):
        await world.leases.write(replace(MINE, holder="b"))


async def test_of_two_who_write_it_one_is_too_late(world: World) -> None:
    first = await world.leases.write(MINE)
    await world.leases.write(replace(first, holder="b"))
    with pytest.raises(ConflictError):
        await world.leases.write(replace(first, holder="c"))


async def test_one_that_is_gone_is_not_written(world: World) -> None:
    first = await world.leases.write(MINE)
    world.delete()
    with pytest.raises(ConflictError):
        await world.leases.write(first)
    assert await world.leases.read() is None


# --- what only the real one does ---


async def test_on_the_wire_it_is_a_lease_as_others_write_them(
    real: OverHttp, server: FakeApiServer
) -> None:
    first = await real.leases.write(MINE)
    await real.leases.write(first)
    made, written = server.seen
    assert (made.method, made.path) == ("POST", ALL)
    assert (written.method, written.path) == ("PUT", PATH)
    assert {one.query["fieldManager"] for one in server.seen} == {"incident-rollback"}
    assert made.body["apiVersion"] == "coordination.k8s.io/v1"
    assert made.body["spec"] == {
        "holderIdentity": "controller-a_1f",
        "leaseDurationSeconds": 10,
        "acquireTime": "2026-11-23T12:00:00.123456Z",
        "renewTime": "2026-11-23T12:00:00.123456Z",
        "leaseTransitions": 3,
    }
    assert "resourceVersion" not in made.body["metadata"]
    assert written.body["metadata"]["resourceVersion"] == first.version


async def test_let_go_of_it_names_nobody(real: OverHttp, server: FakeApiServer) -> None:
    await real.leases.write(replace(MINE, holder=""))
    assert server.objects[PATH]["spec"]["holderIdentity"] is None


SPARE = [
    pytest.param({}, Lease("", LEASE_SECONDS), id="an empty one is released, and of our length"),
    pytest.param(
        {"holderIdentity": None, "renewTime": None, "leaseTransitions": None},
        Lease("", LEASE_SECONDS),
        id="null is absent",
    ),
    pytest.param(
        {"holderIdentity": "b", "renewTime": "2026-11-23T12:00:00.123456Z", "strategy": "x"},
        Lease("b", LEASE_SECONDS, None, NOON),
        id="what we do not know is left out",
    ),
]


@pytest.mark.parametrize(("spec", "lease"), SPARE)
async def test_a_lease_that_somebody_else_made_is_read(
    real: OverHttp, server: FakeApiServer, spec: Json, lease: Lease
) -> None:
    server.put(PATH, {"metadata": {"name": "x"}, "spec": spec})
    assert await real.leases.read() == replace(lease, version="1")


DENIED = status(403, 'User "x" cannot get resource "leases" in API group "coordination.k8s.io"')
ANSWERS = [
    pytest.param(403, DENIED, ForbiddenError, id="403 by RBAC"),
    pytest.param(429, "", ThrottledError, id="429"),
    pytest.param(500, "", UnavailableError, id="500"),
    pytest.param(422, status(422, "no"), InvalidRequestError, id="422"),
]


@pytest.mark.parametrize(("code", "body", "error"), ANSWERS)
async def test_errors_are_those_of_the_tree(
    real: OverHttp,
    server: FakeApiServer,
    code: int,
    body: Json | str,
    error: type[RollbackError],
) -> None:
    server.faults = [Fault(code, body), Fault(code, body)]
    with pytest.raises(error):
        await real.leases.read()
    with pytest.raises(error):
        await real.leases.write(MINE)


async def test_without_a_namespace_to_make_it_in_it_is_no_lost_race(
    real: OverHttp, server: FakeApiServer
) -> None:
    server.faults = [Fault(404, status(404, 'namespaces "incident-rollback" not found'))]
    with pytest.raises(UnavailableError, match="not found"):
        await real.leases.write(MINE)
