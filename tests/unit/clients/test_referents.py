"""What is behind the references of a template, over HTTP."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio.client import Configuration

from incident_rollback.clients.clock import ApiClock
from incident_rollback.clients.connection import Answer, Connection
from incident_rollback.clients.glance import AT_ONCE
from incident_rollback.clients.referents import UNKNOWN, read_referents
from incident_rollback.domain.raw import Json
from incident_rollback.domain.surroundings import Reference, Referent
from tests.fakes.apiserver import FakeApiServer, Fault, status

AN_HOUR_AGO = datetime(2026, 11, 23, 1, 14, tzinfo=UTC)
SETTINGS = Reference("ConfigMap", "settings")
TOKEN = Reference("Secret", "token")
CLAIM = Reference("PersistentVolumeClaim", "data")
PATHS = {
    SETTINGS: "/api/v1/namespaces/shop/configmaps/settings",
    TOKEN: "/api/v1/namespaces/shop/secrets/token",
    CLAIM: "/api/v1/namespaces/shop/persistentvolumeclaims/data",
    Reference("ServiceAccount", "web"): "/api/v1/namespaces/shop/serviceaccounts/web",
    Reference("PriorityClass", "high"): "/apis/scheduling.k8s.io/v1/priorityclasses/high",
    Reference("RuntimeClass", "gvisor"): "/apis/node.k8s.io/v1/runtimeclasses/gvisor",
}


def an_object(**metadata: Any) -> Json:
    return {
        "metadata": {"creationTimestamp": "2026-11-23T01:14:00Z", **metadata},
        "data": {"password": "aHVudGVyMg=="},
    }


async def behind(connection: Connection, reference: Reference) -> Referent:
    found = await read_referents(connection, "shop", [reference])
    assert found.keys() == {reference}
    return found[reference]


async def test_each_kind_is_looked_for_where_it_is(
    server: FakeApiServer, connection: Connection
) -> None:
    for path in PATHS.values():
        server.put(path, an_object())
    found = await read_referents(connection, "shop", PATHS)
    assert found == dict.fromkeys(PATHS, Referent(is_there=True, changed_at=AN_HOUR_AGO))
    assert sorted(seen.path for seen in server.seen) == sorted(PATHS.values())


async def test_metadata_alone_is_asked_for_and_nothing_else_is_accepted(
    server: FakeApiServer, connection: Connection
) -> None:
    """Were `application/json` accepted too, a Secret's content would be an answer."""
    await read_referents(connection, "shop", PATHS)
    assert {(seen.method, seen.headers["accept"]) for seen in server.seen} == {
        ("GET", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
    }


async def test_nothing_to_look_at_is_no_request(
    server: FakeApiServer, connection: Connection
) -> None:
    assert await read_referents(connection, "shop", ()) == {}
    assert server.seen == []


DENIED = (
    'secrets "token" is forbidden: User "eve" cannot get resource "secrets" in API group "" in '
    'the namespace "shop"'
)


def not_found(**details: str) -> Fault:
    return Fault(404, status(404, "not found", reason="NotFound", details=details))


ANSWERS = [
    pytest.param(not_found(name="token", kind="secrets"), False, id="it is not there"),
    pytest.param(not_found(), None, id="a 404 that names nothing: the kind is not served"),
    pytest.param(not_found(name="shop", kind="namespaces"), None, id="a 404 of its namespace"),
    pytest.param(not_found(name="other", kind="secrets"), None, id="a 404 of another object"),
    pytest.param(Fault(404, "404 page not found"), None, id="a 404 of something in between"),
    pytest.param(Fault(403, status(403, DENIED)), None, id="it may not be looked at"),
    pytest.param(Fault(401, status(401, "Unauthorized")), None, id="nobody knows us"),
    pytest.param(Fault(406, status(406, "no such form")), None, id="metadata are not to be had"),
    pytest.param(Fault(429, status(429, "slow down")), None, id="too many requests"),
    pytest.param(Fault(500, status(500, "no leader")), None, id="the server fails"),
    pytest.param(Fault(400, status(400, "bad")), None, id="the server does not understand"),
    pytest.param(Fault(200, "<html>"), None, id="an answer that is no JSON"),
]


@pytest.mark.parametrize(("fault", "is_there"), ANSWERS)
async def test_only_its_own_404_says_that_it_is_not_there(
    server: FakeApiServer, connection: Connection, fault: Fault, is_there: bool | None
) -> None:
    server.faults = [fault, fault]  # A 401 is followed by one more try.
    assert await behind(connection, TOKEN) == Referent(is_there=is_there)


async def test_a_server_that_is_gone_leaves_all_unknown(
    server: FakeApiServer, connection: Connection
) -> None:
    server.faults = [Fault(drops=True)] * 20 * len(PATHS)
    assert set((await read_referents(connection, "shop", PATHS)).values()) == {UNKNOWN}


class Silent(Connection):
    """Has no answer about Secrets, for ever."""

    async def call(self, method: str, path: str, **how: Any) -> Answer:
        if "/secrets/" in path:
            await asyncio.Event().wait()
        return await super().call(method, path, **how)


async def test_one_that_does_not_answer_is_unknown_and_the_others_are_not(
    server: FakeApiServer,
) -> None:
    server.put(PATHS[SETTINGS], an_object())
    connection = Silent(Configuration(host=server.host), ApiClock())
    async with asyncio.timeout(60):
        found = await read_referents(connection, "shop", [SETTINGS, TOKEN])
    await connection.close()
    assert found == {SETTINGS: Referent(changed_at=AN_HOUR_AGO), TOKEN: UNKNOWN}


NAMES = ["../secrets/token", "a/b", "UPPER", "a b", "", ".", "..", "a" * 300, "-a", "a?x=1"]


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_no_name_is_never_a_path(
    server: FakeApiServer, connection: Connection, name: str
) -> None:
    assert await behind(connection, Reference("ConfigMap", name)) == UNKNOWN
    assert server.seen == []


CLAIMS = [
    pytest.param(CLAIM, False, id="a claim on its way out takes no new pod"),
    pytest.param(SETTINGS, True, id="a ConfigMap on its way out is there until it is gone"),
]


@pytest.mark.parametrize(("reference", "is_there"), CLAIMS)
async def test_what_is_being_deleted(
    server: FakeApiServer, connection: Connection, reference: Reference, is_there: bool
) -> None:
    server.put(PATHS[reference], an_object(deletionTimestamp="2026-11-23T02:00:00Z"))
    assert (await behind(connection, reference)).is_there is is_there


async def test_it_leaves_connections_for_others(
    server: FakeApiServer, connection: Connection
) -> None:
    many = [Reference("ConfigMap", f"c{number}") for number in range(3 * AT_ONCE)]
    server.faults = [Fault(404, stall_seconds=0.01)] * len(many)
    await read_referents(connection, "shop", many)
    assert len(server.seen) == len(many)
    assert len({seen.port for seen in server.seen}) <= AT_ONCE
