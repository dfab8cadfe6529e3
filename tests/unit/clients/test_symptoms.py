"""The latest Warning Events and the nodes, over HTTP: a help, and in nobody's way."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from incident_rollback.clients.connection import Connection
from incident_rollback.clients.symptoms import read_nodes, read_warnings
from incident_rollback.domain.raw import Json
from incident_rollback.domain.surroundings import WarningEvent
from tests.fakes.apiserver import FakeApiServer, Fault, status

EVENTS = "/api/v1/namespaces/shop/events"
NODES = "/api/v1/nodes"
AT = datetime(2026, 11, 23, 2, 10, tzinfo=UTC)
PATIENCE = 60.0
"""Seconds in which even a busy machine answers."""
HURRY = 0.2
BACK_OFF = WarningEvent("BackOff", "Back-off restarting failed container", AT)


def an_event(of: str, **given: object) -> Json:
    return {
        "involvedObject": {"uid": of},
        "type": "Warning",
        "reason": BACK_OFF.reason,
        "message": BACK_OFF.message,
        "lastTimestamp": "2026-11-23T02:10:00Z",
        "source": {"component": "kubelet"},
        **given,
    }


def a_node(ready: str) -> Json:
    return {"status": {"conditions": [{"type": "Ready", "status": ready}]}}


async def test_each_object_has_its_own_latest_warning(
    server: FakeApiServer, connection: Connection
) -> None:
    server.put(f"{EVENTS}/a", an_event("p-1"))
    server.put(f"{EVENTS}/b", an_event("p-1", type="Normal", lastTimestamp="2026-11-23T02:12:00Z"))
    server.put(f"{EVENTS}/c", an_event("p-1", reason="Old", lastTimestamp="2026-11-23T02:00:00Z"))
    server.put(f"{EVENTS}/d", an_event("p-2", reason="FailedMount", message=""))
    server.put("/api/v1/namespaces/other/events/e", an_event("p-3"))
    found = await read_warnings(connection, "shop", ["p-1", "p-2", "p-3"], within=PATIENCE)
    assert found == {"p-1": BACK_OFF, "p-2": WarningEvent("FailedMount", "", AT), "p-3": None}


async def test_warnings_of_one_object_and_no_more_than_a_few_are_asked_for(
    server: FakeApiServer, connection: Connection
) -> None:
    await read_warnings(connection, "shop", ["p-1"])
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("GET", EVENTS)
    assert seen.query == {"fieldSelector": "involvedObject.uid=p-1,type=Warning", "limit": "20"}


async def test_nodes_are_ready_or_not(server: FakeApiServer, connection: Connection) -> None:
    for name, ready in (("n-1", "True"), ("n-2", "False"), ("n-3", "Unknown")):
        server.put(f"{NODES}/{name}", a_node(ready))
    found = await read_nodes(connection, ["n-1", "n-2", "n-3", "gone"], within=PATIENCE)
    assert found == {"n-1": True, "n-2": False, "n-3": False, "gone": None}


async def test_nothing_to_look_at_is_no_request(
    server: FakeApiServer, connection: Connection
) -> None:
    assert (await read_warnings(connection, "shop", ()), await read_nodes(connection, ())) == (
        {},
        {},
    )
    assert server.seen == []


DENIED = 'forbidden: User "eve" cannot list resource "events" in API group ""'
NO_ANSWERS = [
    pytest.param(Fault(403, status(403, DENIED)), id="D9 we may not look"),
    pytest.param(Fault(404, status(404, "not found")), id="there is no such thing"),
    pytest.param(Fault(429, status(429, "slow down")), id="we ask too often"),
    pytest.param(Fault(500, status(500, "etcd is away")), id="the server fails"),
    pytest.param(Fault(200, "<html>"), id="it answers in another language"),
    pytest.param(Fault(stall_seconds=HURRY * 5), id="it takes too long"),
]
Look = Callable[[Connection, float], Awaitable[object]]
LOOKS: list[tuple[Look, object]] = [
    (lambda c, within: read_warnings(c, "shop", ["p-1"], within=within), {"p-1": None}),
    (lambda c, within: read_nodes(c, ["n-1"], within=within), {"n-1": None}),
]


@pytest.mark.parametrize(("look", "unknown"), LOOKS, ids=["Events", "a node"])
@pytest.mark.parametrize("fault", NO_ANSWERS)
async def test_no_answer_is_unknown_and_no_error(
    server: FakeApiServer, connection: Connection, fault: Fault, look: Look, unknown: object
) -> None:
    server.put(f"{EVENTS}/a", an_event("p-1"))
    server.put(f"{NODES}/n-1", a_node("True"))
    server.faults = [fault]
    assert await look(connection, HURRY if fault.stall_seconds else PATIENCE) == unknown


async def test_a_connection_that_breaks_gets_no_more_time(
    server: FakeApiServer, connection: Connection
) -> None:
    server.faults = [Fault(stall_seconds=HURRY * 0.8, drops=True)] * 9
    assert await read_nodes(connection, ["n-1"], within=HURRY) == {"n-1": None}
    assert len(server.seen) <= 2


async def test_one_that_is_not_answered_takes_nothing_from_the_others(
    server: FakeApiServer, connection: Connection
) -> None:
    for name in ("n-1", "n-2"):
        server.put(f"{NODES}/{name}", a_node("True"))
    server.faults = [Fault(500, status(500, "etcd is away"))]
    found = await read_nodes(connection, ["n-1", "n-2"], within=PATIENCE)
    assert sorted(found.values(), key=str) == [None, True]
