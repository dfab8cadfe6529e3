"""An aside of the bridge's answers: soon, or not at all."""

import asyncio
from datetime import timedelta

import pytest

from incident_rollback.bridge.presence import KEEP_SECONDS, LOOK_SECONDS, Presence
from incident_rollback.domain.lease import Lease
from incident_rollback.errors import ForbiddenError, RollbackError, UnavailableError
from tests.builders import HOME, NOW
from tests.fakes.clock import FakeClock
from tests.fakes.leases import FakeLeases
from tests.unit.controller.fast_time import elapsed, in_fast_time

UNSEEN = (
    "no controller has been seen for 3 min: kubectl get pods -n incident-rollback; "
    "the request is kept"
)


class Desk:
    """A Lease that was renewed three minutes ago, and one who looks at it."""

    def __init__(self) -> None:
        self.leases, self.clock = FakeLeases(), FakeClock()
        self.renew(NOW - timedelta(minutes=3))
        self.presence = Presence(self.leases, self.clock, HOME, monotonic=elapsed)

    def renew(self, at: object = NOW) -> None:
        self.leases.put(Lease("a", 10, NOW, at, 0))  # type: ignore[arg-type]

    @property
    def looks(self) -> int:
        return len(self.leases.calls)


@in_fast_time
async def test_a_controller_that_is_missed_is_said() -> None:
    assert await Desk().presence.absence() == UNSEEN


@in_fast_time
async def test_a_controller_that_is_there_is_not() -> None:
    desk = Desk()
    desk.renew()
    assert await desk.presence.absence() == ""


@in_fast_time
async def test_without_a_lease_nothing_is_said() -> None:
    desk = Desk()
    desk.leases.lease = None
    assert await desk.presence.absence() == ""


@in_fast_time
async def test_many_at_once_cost_one_look() -> None:
    desk = Desk()
    desk.leases.on_the_way = lambda: asyncio.sleep(0.01)
    said = await asyncio.gather(*(desk.presence.absence() for _ in range(20)))
    assert (set(said), desk.looks) == ({UNSEEN}, 1)


@in_fast_time
async def test_what_was_found_is_repeated_for_some_seconds() -> None:
    desk = Desk()
    await desk.presence.absence()
    desk.renew()
    await asyncio.sleep(KEEP_SECONDS - 1)
    assert (await desk.presence.absence(), desk.looks) == (UNSEEN, 1)
    await asyncio.sleep(1)
    assert (await desk.presence.absence(), desk.looks) == ("", 2)


UNKNOWN = [
    pytest.param(UnavailableError("no answer"), id="no answer"),
    pytest.param(ForbiddenError("may not get leases"), id="not allowed"),
]


@pytest.mark.parametrize("error", UNKNOWN)
@in_fast_time
async def test_what_cannot_be_known_is_not_said_and_not_asked_again_at_once(
    error: RollbackError,
) -> None:
    desk = Desk()
    desk.leases.down = error
    assert (await desk.presence.absence(), desk.looks) == ("", 1)
    assert (await desk.presence.absence(), desk.looks) == ("", 1)
    desk.leases.down = None
    await asyncio.sleep(KEEP_SECONDS)
    assert await desk.presence.absence() == UNSEEN


@in_fast_time
async def test_nobody_waits_for_a_look_that_takes_long() -> None:
    desk = Desk()
    desk.leases.on_the_way = lambda: asyncio.sleep(60)
    began = elapsed()
    said = await asyncio.gather(*(desk.presence.absence() for _ in range(20)))
    assert set(said) == {""}
    assert elapsed() - began == pytest.approx(LOOK_SECONDS, abs=0.05)


@in_fast_time
async def test_what_was_found_before_is_not_repeated_when_it_cannot_be_known_any_more() -> None:
    desk = Desk()
    await desk.presence.absence()
    await asyncio.sleep(KEEP_SECONDS)
    desk.leases.down = UnavailableError("no answer")
    assert await desk.presence.absence() == ""
