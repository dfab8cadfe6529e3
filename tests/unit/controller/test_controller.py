"""The watch is played by hand; the safety list is real, and its minutes take no time."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, cast

import pytest

from incident_rollback.controller.controller import Controller
from incident_rollback.controller.election import OnChange
from incident_rollback.controller.environments import EnvironmentCheck
from incident_rollback.controller.limiter import Limiter
from incident_rollback.controller.outbox import Outbox
from incident_rollback.controller.reconcile import Turn
from incident_rollback.controller.runner import Runner
from incident_rollback.controller.watch import Heard, Watch
from incident_rollback.crd.v1alpha1 import IncidentRollback
from incident_rollback.domain.lease import Standing
from incident_rollback.domain.raw import Json
from incident_rollback.errors import UnavailableError
from incident_rollback.telemetry.metrics import ControllerMetrics
from tests.builders import an_environment
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.store import FakeStore
from tests.fakes.timeline import FakeTimeline
from tests.unit.controller.fast_time import elapsed, in_fast_time, let_run
from tests.unit.controller.scripted import ScriptedReconciler, stays, version

ROUND = 65.0
"""Long enough for one safety list and what follows it, in seconds."""


def raw(rollback: IncidentRollback) -> Json:
    return rollback.model_dump(mode="json", by_alias=True, exclude_none=True)


class HandWatch:
    """Starts when the resources can be listed, and says what it is told to."""

    def __init__(self, heard: Heard) -> None:
        self.heard, self.is_alive, self.restarts = heard, False, 0
        self.began_at = 0.0

    async def run(self, is_listable: Callable[[], Awaitable[bool]]) -> None:
        while not await is_listable():  # noqa: ASYNC110  # as the real one does
            await asyncio.sleep(1)
        self.is_alive, self.began_at = True, elapsed()
        await asyncio.Event().wait()

    @property
    def age_seconds(self) -> float:
        return elapsed() - self.began_at

    def restart(self) -> None:
        self.restarts += 1

    def tells(self, rollback: IncidentRollback, kind: str = "MODIFIED") -> None:
        self.heard(kind, raw(rollback))


@dataclass
class PlayedLeadership:
    """Stands as it is told to, and says so at once."""

    at: Standing = Standing.LEADS
    transitions: int = 0
    said: list[str] = field(default_factory=list[str])
    on_change: OnChange | None = None

    def standing(self) -> Standing:
        return self.at

    async def run(self, on_change: OnChange) -> None:
        self.on_change = on_change
        await on_change(self.at)
        await asyncio.Event().wait()

    async def becomes(self, standing: Standing) -> None:
        self.at = standing
        assert self.on_change is not None
        await self.on_change(standing)
        await let_run()

    async def release(self) -> None:
        self.said.append("released")


def not_reported(_: IncidentRollback, __: Turn, ___: float) -> None:
    pass


class Stage:
    def __init__(self) -> None:
        self.store = FakeStore()
        self.reconciler = ScriptedReconciler([stays()])
        self.metrics = ControllerMetrics()
        self.watches: list[HandWatch] = []
        self.leadership = PlayedLeadership()
        runner = self.runner = Runner(
            self.reconciler.as_one(),
            self.store,
            not_reported,
            is_on_duty=lambda: self.leadership.standing().takes_turns,
        )
        self.cluster = FakeCluster()
        self.controller = Controller(
            self.store,
            runner,
            EnvironmentCheck(self.store, self.cluster, FakeClock()),
            self.metrics,
            leadership=self.leadership,
            make_outbox=self.make_outbox,
            make_watch=self._make_watch,
            monotonic=elapsed,
        )

    def make_outbox(self) -> Outbox:
        now = FakeClock().now
        return Outbox(FakeTimeline(now), limiter=Limiter(), now=now)

    def _make_watch(self, heard: Heard) -> Watch:
        self.watches.append(HandWatch(heard))
        return cast("Watch", self.watches[-1])

    @property
    def watch(self) -> HandWatch:
        (watch,) = self.watches
        return watch

    @property
    def turns(self) -> list[str]:
        return [one.metadata.uid for one in self.reconciler.given]

    def value(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"incident_rollback_{name}") or 0.0


@asynccontextmanager
async def running(*there: IncidentRollback, stage: Stage | None = None) -> AsyncGenerator[Stage]:
    """Run a controller over what is there at the start."""
    stage = stage or Stage()
    for rollback in there:
        stage.store.put(rollback)
    task = asyncio.create_task(stage.controller.run())
    await let_run()
    try:
        yield stage
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stage.runner.close()


@in_fast_time
async def test_what_is_there_at_the_start_needs_no_watch() -> None:
    async with running(version(1)) as stage:
        assert stage.turns == ["uid-1"]
        assert stage.runner.known() == {"uid-1"}


@in_fast_time
async def test_what_the_watch_tells_gets_a_turn() -> None:
    async with running() as stage:
        stage.watch.tells(version(1), "ADDED")
        await let_run()
        assert stage.turns == ["uid-1"]
        assert stage.runner.known() == {"uid-1"}


@in_fast_time
async def test_the_safety_list_offers_what_is_missing_and_restarts_the_watch() -> None:
    async with running() as stage:
        stage.store.put(version(3))
        await asyncio.sleep(ROUND)
        assert stage.turns == ["uid-1"]
        assert stage.watch.restarts >= 1
        assert stage.value("watch_missed_total") >= 1


@in_fast_time
async def test_the_safety_list_restarts_the_watch_when_it_misses_a_version() -> None:
    async with running(version(3)) as stage:
        stage.watch.tells(version(3))
        stage.store.put(version(4))
        await asyncio.sleep(ROUND)
        assert stage.watch.restarts >= 1


@in_fast_time
async def test_a_watch_that_tells_everything_is_left_alone() -> None:
    async with running(version(3)) as stage:
        stage.watch.tells(version(3), "ADDED")
        await asyncio.sleep(3 * ROUND)
        assert stage.watch.restarts == 0
        assert stage.turns == ["uid-1"]


class LatecomerStore(FakeStore):
    """Something is made, and told by the watch, while the list is on its way."""

    late: Callable[[], None] | None = None

    async def list_rollbacks(
        self, *, namespace: str | None = None, fields: str = "", since: str = ""
    ) -> Any:
        listed = await super().list_rollbacks(namespace=namespace, fields=fields, since=since)
        if self.late is not None:
            self.late()
        return listed


@in_fast_time
async def test_what_came_during_the_list_is_no_miss_of_the_watch() -> None:
    async with running() as stage:
        late = LatecomerStore()
        stage.controller.store = late

        def comes() -> None:
            late.late = None
            late.put(version(5))
            stage.runner.store = late
            stage.watch.tells(version(5), "ADDED")

        late.late = comes
        await asyncio.sleep(3 * ROUND)
        assert stage.watch.restarts == 0
        assert stage.turns == ["uid-1"]


@in_fast_time
async def test_the_safety_list_forgets_what_vanished_after_a_look() -> None:
    async with running(version(1)) as stage:
        stage.store.rollbacks.clear()
        await asyncio.sleep(ROUND)
        assert "get" in stage.store.calls
        assert stage.runner.known() == frozenset()
        assert len(stage.reconciler.farewells) == 1


@in_fast_time
async def test_the_safety_list_forgets_what_was_made_again_under_its_name() -> None:
    async with running(version(1)) as stage:
        again = version(2, uid="uid-2")
        name = again.metadata.model_copy(update={"name": "name-of-uid-1"})
        stage.store.put(again.model_copy(update={"metadata": name}))
        await asyncio.sleep(ROUND)
        assert stage.runner.known() == {"uid-2"}


@in_fast_time
async def test_what_is_not_on_the_list_but_there_is_taken_in() -> None:
    """Somebody else settled it: it left the selection, and is no deletion."""
    async with running(version(1)) as stage:
        stage.store.put(version(2, settled=True))
        await asyncio.sleep(ROUND)
        assert stage.runner.known() == frozenset()
        assert stage.reconciler.farewells == []


@in_fast_time
async def test_deleted_and_settled_is_not_a_deletion() -> None:
    """The watch selects what is not settled: leaving the selection reads as DELETED."""
    async with running(version(1)) as stage:
        stage.watch.tells(version(2, settled=True), "DELETED")
        await let_run()
        assert stage.runner.known() == frozenset()
        assert stage.reconciler.farewells == []


@in_fast_time
async def test_deleted_is_a_deletion() -> None:
    async with running(version(1)) as stage:
        stage.watch.tells(version(1), "DELETED")
        await let_run()
        assert stage.runner.known() == frozenset()
        assert len(stage.reconciler.farewells) == 1


@in_fast_time
async def test_what_cannot_be_read_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as stage:
        stage.watch.heard("ADDED", {"metadata": {"name": "x"}, "spec": {"pairs": "many"}})
        stage.watch.tells(version(1))
        await let_run()
        assert stage.turns == ["uid-1"]
        assert "an IncidentRollback cannot be read" in caplog.text


@in_fast_time
async def test_an_api_server_that_is_away_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with running(version(1)) as stage:
        stage.store.down = UnavailableError("no answer")
        await asyncio.sleep(2 * ROUND)
        assert stage.runner.known() == {"uid-1"}
        stage.store.down = None
        stage.store.put(version(1, uid="uid-2"))
        await asyncio.sleep(ROUND)
        assert stage.runner.known() == {"uid-1", "uid-2"}


@in_fast_time
async def test_an_api_server_that_stays_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with running() as stage:
        for _ in range(2):
            stage.store.down = UnavailableError("no answer")
            await asyncio.sleep(20 * ROUND)
            stage.store.down = None
            await asyncio.sleep(ROUND)
    assert caplog.text.count("cannot be listed: no answer") == 2


class NoGetStore(FakeStore):
    """Lists, and cannot be asked for one."""

    async def get(self, namespace: str, name: str) -> IncidentRollback | None:
        raise UnavailableError(f"no answer about {namespace}/{name}")


@in_fast_time
async def test_an_api_server_that_goes_away_between_list_and_look_ends_nothing() -> None:
    async with running(version(1)) as stage:
        stage.controller.store = NoGetStore()
        await asyncio.sleep(ROUND)
        assert stage.runner.known() == {"uid-1"}


@in_fast_time
async def test_the_environments_are_checked_from_the_start() -> None:
    async with running() as stage:
        stage.store.environments["production"] = an_environment()
        await asyncio.sleep(15)
        (environment,) = stage.store.environments.values()
        assert [c.reason for c in environment.status.conditions] == ["Ready"]


@in_fast_time
async def test_how_old_the_list_and_the_watch_are_is_known() -> None:
    stage = Stage()
    assert (stage.controller.list_age(), stage.controller.watch_age()) == (inf, 0)
    async with running(stage=stage):
        assert stage.controller.list_age() < 1
        stage.store.down = UnavailableError("no answer")
        await asyncio.sleep(100)
        assert 100 <= stage.controller.list_age() < 101
        assert 100 <= stage.controller.watch_age() < 101


# --- several controllers ---


@asynccontextmanager
async def standing_by(*there: IncidentRollback) -> AsyncGenerator[Stage]:
    """Run a controller that does not lead yet, and has a key of FireHydrant's."""
    stage = Stage()
    stage.leadership.at = Standing.STANDS_BY
    outbox = stage.reconciler.outbox = stage.make_outbox()
    stage.reconciler.process = outbox.process_id
    async with running(*there, stage=stage):
        yield stage


@in_fast_time
async def test_who_stands_by_watches_and_is_ready() -> None:
    async with standing_by(version(1)) as stage:
        stage.watch.tells(version(1, uid="uid-2"), "ADDED")
        await asyncio.sleep(15)
        assert stage.controller.why_not_ready() == ""
        assert stage.runner.known() == {"uid-1", "uid-2"}
        assert stage.turns == []


@in_fast_time
async def test_who_stands_by_looks_at_no_environments() -> None:
    async with standing_by() as stage:
        await asyncio.sleep(60)
        assert "list environments" not in stage.store.calls
        await stage.leadership.becomes(Standing.LEADS)
        assert "list environments" in stage.store.calls


DUTIES = [
    pytest.param(Standing.LEADS, id="who leads"),
    pytest.param(Standing.CUT_OFF, id="who is cut off"),
]


@pytest.mark.parametrize("standing", DUTIES)
@in_fast_time
async def test_turns_begin_for(standing: Standing) -> None:
    async with standing_by(version(1), version(1, uid="uid-2")) as stage:
        await stage.leadership.becomes(standing)
        assert sorted(stage.turns) == ["uid-1", "uid-2"]


@in_fast_time
async def test_what_is_decided_while_standing_by_is_told_under_the_same_name() -> None:
    async with standing_by() as stage:
        before = stage.reconciler.process
        for standing in (Standing.CUT_OFF, Standing.STANDS_BY, Standing.LEADS):
            await stage.leadership.becomes(standing)
        assert stage.reconciler.process == before


AFTER = [
    pytest.param(Standing.STANDS_BY, id="another leads"),
    pytest.param(Standing.CUT_OFF, id="the Lease is out of reach"),
]


@pytest.mark.parametrize("after", AFTER)
@in_fast_time
async def test_a_term_that_ends_takes_its_name_and_its_outbox_with_it(after: Standing) -> None:
    async with standing_by() as stage:
        await stage.leadership.becomes(Standing.LEADS)
        ended, name = stage.reconciler.outbox, stage.reconciler.process
        await stage.leadership.becomes(after)
        assert ended is not None
        assert ended.is_closed
        outbox = stage.reconciler.outbox
        assert outbox is not None
        assert outbox is not ended
        assert outbox.process_id == stage.reconciler.process != name
        assert not outbox.is_closed


@in_fast_time
async def test_without_a_key_a_term_ends_all_the_same() -> None:
    async with standing_by(version(1)) as stage:
        stage.reconciler.outbox = stage.controller.make_outbox = None
        for standing in (Standing.LEADS, Standing.STANDS_BY, Standing.LEADS):
            await stage.leadership.becomes(standing)
        assert stage.reconciler.outbox is None
        assert stage.turns == ["uid-1", "uid-1"]


@in_fast_time
async def test_closed_it_lets_another_lead_when_nothing_is_under_way_any_more() -> None:
    async with standing_by(version(1)) as stage:
        await stage.leadership.becomes(Standing.LEADS)
        outbox = stage.reconciler.outbox
        assert outbox is not None

        async def release() -> None:
            stage.leadership.said.append(f"turns over {stage.runner.is_closed}")
            stage.leadership.said.append(f"telling over {outbox.is_closed}")

        stage.leadership.release = release  # type: ignore[method-assign]
        await stage.controller.close()
        assert stage.leadership.said == ["turns over True", "telling over True"]


# --- ready ---


@in_fast_time
async def test_not_ready_before_the_first_list() -> None:
    stage = Stage()
    assert stage.controller.why_not_ready() == ("the IncidentRollbacks could not be listed yet")


@in_fast_time
async def test_not_ready_while_the_watch_is_not_running() -> None:
    async with running() as stage:
        assert stage.controller.why_not_ready() == ""
        stage.watch.is_alive = False
        assert stage.controller.why_not_ready() == "the watch is not running"


@in_fast_time
async def test_not_ready_while_a_watch_that_missed_something_has_told_nothing_since() -> None:
    async with running() as stage:
        stage.store.put(version(3))
        await asyncio.sleep(ROUND)
        why = "the watch has missed something, and told nothing since it was started again"
        assert stage.controller.why_not_ready() == why
        stage.watch.tells(version(3), "LISTED")
        assert stage.controller.why_not_ready() == ""


@in_fast_time
async def test_ready_again_once_a_list_shows_nothing_that_the_watch_has_not_told() -> None:
    """What it had missed is over by now: there may be nothing left for it to tell."""
    async with running() as stage:
        stage.store.put(version(3))
        await asyncio.sleep(ROUND)
        assert stage.controller.why_not_ready() != ""
        stage.store.put(version(4, settled=True))
        await asyncio.sleep(ROUND)
        assert stage.controller.why_not_ready() == ""


@in_fast_time
async def test_ready_again_as_soon_as_the_api_server_is_back() -> None:
    async with running() as stage:
        stage.store.down = UnavailableError("no answer")
        await asyncio.sleep(200)
        assert stage.controller.why_not_ready() != ""
        stage.store.down = None
        await asyncio.sleep(5)
        assert stage.controller.why_not_ready() == ""


@in_fast_time
async def test_not_ready_without_a_list_for_long() -> None:
    async with running() as stage:
        stage.store.down = UnavailableError("no answer")
        await asyncio.sleep(89)
        assert stage.controller.why_not_ready() == ""
        await asyncio.sleep(60)
        assert stage.controller.why_not_ready() == "no list of the IncidentRollbacks for 90 s"
