"""
Several controllers and one Lease, in a loop in which waiting takes no time.

The elector is the real one; the Lease is in memory, and can be away, slow, or lose an answer.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from incident_rollback.controller.election import Alone, Elector
from incident_rollback.domain.lease import Lease, Standing
from incident_rollback.errors import ForbiddenError, RollbackError, UnavailableError
from tests.builders import NOW
from tests.fakes.clock import FakeClock
from tests.fakes.leases import FakeLeases
from tests.unit.controller.fast_time import elapsed, in_fast_time, let_run

AWAY = UnavailableError("no answer")
TAKEOVER = 1.0
"""Longer than it takes to see that nobody leads, in seconds."""
A_WHILE = 60.0


def on_average(low: float, high: float) -> float:
    return (low + high) / 2


@dataclass
class Controller:
    """One elector, what it said, and a way to kill, freeze and wake it."""

    leases: FakeLeases
    name: str
    told: list[tuple[float, Standing]] = field(default_factory=list[tuple[float, Standing]])
    _gate: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.elector = Elector(
            self.leases,
            self.name,
            now=self.clock.now,
            monotonic=elapsed,
            sleep=self._sleep,
            between=on_average,
        )
        self._gate.set()

    def start(self) -> None:
        self.task = asyncio.create_task(self.elector.run(self._hear))

    async def kill(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def stop(self) -> None:
        """End it as SIGTERM does."""
        await self.kill()
        await self.elector.release()

    def freeze(self) -> None:
        self._gate.clear()

    def wake(self) -> None:
        self._gate.set()

    @property
    def standing(self) -> Standing:
        return self.elector.standing()

    @property
    def leads(self) -> bool:
        return self.standing is Standing.LEADS

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._gate.wait()

    async def _hear(self, standing: Standing) -> None:
        self.told.append((elapsed(), standing))


@asynccontextmanager
async def started(
    *names: str, leases: FakeLeases | None = None
) -> AsyncGenerator[list[Controller]]:
    """Start controllers one after the other, each as soon as the one before has looked."""
    shared = leases or FakeLeases()
    controllers = [Controller(shared, name) for name in names]
    for controller in controllers:
        controller.start()
        await let_run()
    try:
        yield controllers
    finally:
        for controller in controllers:
            controller.wake()
            await controller.kill()


async def until(is_it: Callable[[], bool], within: float) -> float:
    """Wait until it is so; return how long that took.  Fails when it takes longer."""
    began = elapsed()
    while not is_it():
        assert elapsed() - began < within
        await asyncio.sleep(0.01)
    return elapsed() - began


# --- holding it ---


@in_fast_time
async def test_the_first_one_leads_at_once_and_keeps_on() -> None:
    async with started("a") as (a,):
        assert a.leads
        assert a.leases.calls == ["read", "write"]
        await asyncio.sleep(A_WHILE)
        assert a.leads
        assert [standing for _, standing in a.told] == [Standing.LEADS]


@in_fast_time
async def test_who_leads_costs_thirty_writes_a_minute_and_reads_nothing() -> None:
    async with started("a") as (a,):
        a.leases.calls.clear()
        await asyncio.sleep(60)
        assert set(a.leases.calls) == {"write"}
        assert len(a.leases.calls) == pytest.approx(30, abs=1)


@in_fast_time
async def test_who_stands_by_only_looks() -> None:
    async with started("a", "b") as (a, b):
        await asyncio.sleep(A_WHILE)
        assert (a.leads, b.standing) == (True, Standing.STANDS_BY)
        assert b.told == []
        a.leases.calls.clear()
        await a.kill()
        await asyncio.sleep(5)
        assert set(a.leases.calls) == {"read"}


@in_fast_time
async def test_of_many_at_once_one_leads() -> None:
    async with started(*"abcde") as controllers:
        for _ in range(20):
            await asyncio.sleep(3)
            assert sum(one.leads for one in controllers) == 1


@in_fast_time
async def test_each_change_of_hands_is_counted() -> None:
    leases = FakeLeases(Lease("old", 10, NOW, NOW, 6, "0"))
    leases.put(Lease("old", 10, NOW, NOW, 6))
    async with started("a", leases=leases) as (a,):
        assert a.elector.transitions == 6
        await asyncio.sleep(A_WHILE)
        assert (a.leads, a.elector.transitions) == (True, 7)
        assert leases.lease is not None
        assert leases.lease.transitions == 7


@pytest.mark.parametrize("seconds", [-18_000, 18_000], ids=["back", "ahead"])
@in_fast_time
async def test_a_clock_that_jumps_changes_nothing(seconds: float) -> None:
    """What counts is for how long it was seen unchanged, by a clock that cannot jump."""
    async with started("a", "b") as (a, b):
        for one in (a, b, a):
            one.clock.advance(seconds)
            await asyncio.sleep(A_WHILE)
            assert (a.leads, b.standing) == (True, Standing.STANDS_BY)
        assert [standing for _, standing in a.told + b.told] == [Standing.LEADS]


# --- letting go of it ---


@in_fast_time
async def test_stopped_it_lets_go_and_another_leads_at_once() -> None:
    async with started("a", "b") as (a, b):
        await a.stop()
        assert not a.leads
        assert a.leases.lease is not None
        assert a.leases.lease.holder == ""
        await until(lambda: b.leads, TAKEOVER)


@in_fast_time
async def test_stopped_in_the_middle_of_a_renewal_it_lets_go_all_the_same() -> None:
    async with started("a") as (a,):
        a.leases.lost = [AWAY]
        await asyncio.sleep(2.5)
        await a.stop()
        assert a.leases.lease is not None
        assert a.leases.lease.holder == ""


@in_fast_time
async def test_stopped_while_it_stands_by_it_writes_nothing() -> None:
    async with started("a", "b") as (a, b):
        a.leases.calls.clear()
        await b.stop()
        assert a.leases.calls == []
        assert a.leads


@in_fast_time
async def test_what_another_has_taken_is_not_let_go_of() -> None:
    async with started("a") as (a,):
        taken = a.leases.put(Lease("b", 10, NOW, NOW, 1))
        await a.stop()
        assert a.leases.lease == taken


@in_fast_time
async def test_what_another_took_while_an_answer_was_lost_is_not_let_go_of() -> None:
    async with started("a") as (a,):
        a.leases.lost = [AWAY]
        await until(lambda: not a.leases.lost, 3)
        taken = a.leases.put(Lease("b", 10, NOW, NOW, 1))
        a.leases.calls.clear()
        await a.stop()
        assert a.leases.calls == ["read"]
        assert a.leases.lease == taken


@in_fast_time
async def test_letting_go_does_not_wait_for_an_api_server_that_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started("a") as (a,):
        a.leases.on_the_way = asyncio.Event().wait  # type: ignore[assignment]
        began = elapsed()
        await a.stop()
        assert elapsed() - began < 1
        assert "the next one waits for its end" in caplog.text


# --- losing it ---


@in_fast_time
async def test_killed_another_leads_when_the_lease_is_over_and_not_before() -> None:
    async with started("a", "b") as (a, b):
        await asyncio.sleep(A_WHILE)
        await a.kill()
        renewed = elapsed()
        took = await until(lambda: b.leads, 12)
        assert took > 7
        assert elapsed() - renewed < 10 + TAKEOVER
        assert [standing for _, standing in b.told] == [Standing.LEADS]


@in_fast_time
async def test_frozen_it_does_not_lead_when_it_wakes() -> None:
    async with started("a", "b") as (a, b):
        a.freeze()
        await until(lambda: b.leads, 12)
        a.wake()
        assert a.standing is Standing.STANDS_BY
        await asyncio.sleep(A_WHILE)
        assert (a.standing, b.leads) == (Standing.STANDS_BY, True)
        assert [standing for _, standing in a.told] == [Standing.LEADS, Standing.STANDS_BY]


@in_fast_time
async def test_who_leads_stops_believing_it_before_another_can_lead() -> None:
    """Whatever happens to its renewals: here they are under way for ever."""
    async with started("a", "b") as (a, b):
        began = elapsed()

        async def hangs_for_a() -> None:
            if asyncio.current_task() is a.task:
                await asyncio.Event().wait()

        a.leases.on_the_way = hangs_for_a
        while not b.leads:
            await asyncio.sleep(0.01)
            assert not (a.leads and b.leads)
            assert elapsed() - began < 15
        assert not a.leads


@in_fast_time
async def test_a_renewal_counts_from_before_it_was_sent() -> None:
    async with started("a") as (a,):
        began = elapsed()

        async def slow() -> None:
            a.leases.on_the_way = never_again
            await asyncio.sleep(1.9)

        async def never_again() -> None:
            a.leases.down = AWAY

        a.leases.on_the_way = slow  # The renewal after two seconds is answered after four.
        await until(lambda: not a.leads, 11)
        assert elapsed() - began == pytest.approx(2 + 8, abs=0.2)


@in_fast_time
async def test_what_another_has_taken_is_lost_at_the_next_renewal() -> None:
    async with started("a") as (a,):
        a.leases.put(Lease("b", 10, NOW, NOW, 1))
        await until(lambda: not a.leads, 4)
        assert [standing for _, standing in a.told] == [Standing.LEADS, Standing.STANDS_BY]
        await until(lambda: a.leads, 12)  # Nobody renews it.


STILL_OURS = [
    pytest.param({"seconds": 15}, id="edited by somebody"),
    pytest.param({"holder": ""}, id="its holder was wiped"),
]


@pytest.mark.parametrize("edit", STILL_OURS)
@in_fast_time
async def test_a_lost_race_is_no_loss(edit: dict[str, Any]) -> None:
    async with started("a") as (a,):
        assert a.leases.lease is not None
        a.leases.put(replace(a.leases.lease, **edit))
        await asyncio.sleep(A_WHILE)
        assert [standing for _, standing in a.told] == [Standing.LEADS]


@in_fast_time
async def test_who_has_won_a_race_is_seen_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async with started("a") as (a,):
        a.leases.put(Lease("b", 10, NOW, NOW, 1))
        a.leases.calls.clear()
        await until(lambda: bool(a.leases.calls), 3)
        await let_run()
        assert a.leases.calls == ["write", "read"]
        assert not a.leads
        assert caplog.messages == ["this controller stands by: b leads"]


@in_fast_time
async def test_deleted_it_is_made_again() -> None:
    async with started("a") as (a,):
        a.leases.lease = None
        await asyncio.sleep(A_WHILE)
        assert [standing for _, standing in a.told] == [Standing.LEADS]
        assert a.leases.lease is not None


@in_fast_time
async def test_an_answer_that_is_lost_costs_nothing() -> None:
    async with started("a") as (a,):
        a.leases.lost = [AWAY]
        await asyncio.sleep(A_WHILE)
        assert [standing for _, standing in a.told] == [Standing.LEADS]


@in_fast_time
async def test_a_first_write_whose_answer_is_lost_is_ours() -> None:
    async with started("a", leases=FakeLeases(lost=[AWAY])) as (a,):
        assert not a.leads
        await until(lambda: a.leads, TAKEOVER)
        assert a.elector.transitions == 0


@in_fast_time
async def test_two_failures_in_a_row_cost_nothing() -> None:
    async with started("a") as (a,):
        a.leases.failing = [AWAY, AWAY]
        await asyncio.sleep(A_WHILE)
        assert [standing for _, standing in a.told] == [Standing.LEADS]


# --- out of reach ---

UNREACHABLE = [
    pytest.param(AWAY, id="the API server is away"),
    pytest.param(ForbiddenError("may not get leases"), id="the right was taken away"),
]


@pytest.mark.parametrize("error", UNREACHABLE)
@in_fast_time
async def test_out_of_reach_for_ten_seconds_turns_go_on(
    error: RollbackError, caplog: pytest.LogCaptureFixture
) -> None:
    async with started("a", "b") as both:
        await asyncio.sleep(A_WHILE)
        began = elapsed()
        both[0].leases.down = error
        a, b = both
        await until(lambda: {a.standing, b.standing} == {Standing.CUT_OFF}, 14)
        assert elapsed() - began > 7  # The last answer was up to two seconds before.
        await asyncio.sleep(A_WHILE)
        assert {one.standing for one in both} == {Standing.CUT_OFF}
        assert f"turns go on, notes wait until the Lease is in reach: {error}" in caplog.text
        both[0].leases.down = None
        await asyncio.sleep(12)
        assert {one.standing for one in both} == {Standing.LEADS, Standing.STANDS_BY}


class ReadOnlyLeases(FakeLeases):
    """They may be looked at."""

    async def write(self, lease: Lease) -> Lease:
        raise ForbiddenError(f"may not update the Lease of {lease.holder}")


@in_fast_time
async def test_a_lease_that_may_be_read_and_not_written_is_out_of_reach() -> None:
    async with started("a", leases=ReadOnlyLeases()) as (a,):
        await until(lambda: a.standing is Standing.CUT_OFF, 14)


@in_fast_time
async def test_an_api_server_that_hangs_is_out_of_reach() -> None:
    leases = FakeLeases()

    async def hang() -> None:
        await asyncio.Event().wait()

    leases.on_the_way = hang
    async with started("a", leases=leases) as (a,):
        await until(lambda: a.standing is Standing.CUT_OFF, 14)


@in_fast_time
async def test_asleep_for_an_hour_it_is_not_cut_off_whatever_failed_before() -> None:
    async with started("a", "b") as (a, b):
        a.leases.failing = [AWAY] * 8
        await asyncio.sleep(A_WHILE)
        b.freeze()
        await asyncio.sleep(3600)
        assert b.standing is Standing.STANDS_BY


@in_fast_time
async def test_another_that_leads_is_an_answer() -> None:
    async with started("a", "b") as (_, b):
        await asyncio.sleep(A_WHILE)
        assert b.standing is Standing.STANDS_BY


@in_fast_time
async def test_an_outage_that_ends_before_the_lease_does_changes_nothing() -> None:
    async with started("a", "b") as (a, b):
        a.leases.down = AWAY
        await asyncio.sleep(4)
        a.leases.down = None
        await asyncio.sleep(A_WHILE)
        assert [standing for _, standing in a.told] == [Standing.LEADS]
        assert b.told == []


# --- what is said ---


@in_fast_time
async def test_each_change_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with started("a") as (a,):
        a.leases.put(Lease("b <b>", 10, NOW, NOW, 1))
        await asyncio.sleep(A_WHILE)
        said = [record.message for record in caplog.records]
        assert said == [
            "this controller leads now, as a",
            "this controller stands by: b &lt;b&gt; leads",
            "this controller leads now, as a",
        ]


@in_fast_time
async def test_who_is_alone_leads_without_a_lease() -> None:
    told: list[Standing] = []

    async def hear(standing: Standing) -> None:
        told.append(standing)

    alone = Alone()
    running = asyncio.create_task(alone.run(hear))
    await let_run()
    assert (told, alone.standing(), alone.transitions) == ([Standing.LEADS], Standing.LEADS, 0)
    assert not running.done()
    running.cancel()
    await alone.release()
    await asyncio.gather(running, return_exceptions=True)
