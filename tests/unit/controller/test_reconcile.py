"""One turn after the other, against fakes; a process that dies takes its memory with it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import pytest

from incident_rollback.controller.limiter import Limiter
from incident_rollback.controller.outbox import Outbox
from incident_rollback.controller.reconcile import (
    QUICK_TRIES,
    Memory,
    Reconciler,
    Turn,
    Wake,
    is_worth_writing,
)
from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase, Policy
from incident_rollback.domain.conditions import get
from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.domain.names import intent_of
from incident_rollback.domain.ownership import Owner, Tool
from incident_rollback.domain.workload import Workload, WorkloadRef
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    RejectedError,
    StaleReadError,
    TimelineRefusedError,
    UnavailableError,
)
from incident_rollback.ports import Cluster, Store, TemplatePatch, Timeline
from tests.builders import (
    HOME,
    REF,
    UID,
    a_marker,
    a_pod,
    a_revision,
    a_rollback,
    a_status,
    a_workload,
    after,
    ago,
    an_environment,
    an_incident,
    an_update,
    claimed,
    frozen,
    outcome,
)
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.store import FakeStore
from tests.fakes.timeline import FakeTimeline
from tests.unit.controller.fast_time import elapsed, in_fast_time, let_run

INCIDENT = "incident-1"
KEY = (HOME, "checkout-3f9a1c27b0d4e6f8")
QUICK = Policy(stable_seconds=5, hold_seconds=20)


class KilledError(Exception):
    """The process ends here."""


class Fate:
    """Ends the process at one of its calls, before or after the effect; counts them."""

    def __init__(self, at: int = -1, *, is_after: bool = False) -> None:
        self.at, self.is_after, self.calls = at, is_after, 0

    def hang_over(self, target: object) -> Any:
        return _Doomed(target, self)

    async def call(self, method: Callable[..., Awaitable[object]], *args: Any, **more: Any) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if number == self.at and not self.is_after:
            raise KilledError
        answer = await method(*args, **more)
        if number == self.at:
            raise KilledError
        return answer


class _Doomed:
    """Passes every call on, unless fate is against it."""

    def __init__(self, target: object, fate: Fate) -> None:
        self._target, self._fate = target, fate

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        method = getattr(self._target, name)

        def call(*args: Any, **more: Any) -> Awaitable[object]:
            return self._fate.call(method, *args, **more)

        return call


class World:
    """A cluster with one bad deploy, our resources, an incident, and a process that takes turns."""

    def __init__(
        self, rollback: IncidentRollback | None = None, workload: Workload | None = None
    ) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(clock=self.clock, version=100)
        self.cluster = FakeCluster(clock=self.clock)
        self.timeline = FakeTimeline(self.clock.now)
        self.timeline.declare(INCIDENT)
        self.store.environments["production"] = an_environment(policy=QUICK)
        self.store.put(rollback or a_rollback())
        self.cluster.put(workload or a_workload())
        self.has_key = True
        self.turns: list[str] = []
        self.start()

    def start(self, fate: Fate | None = None, **given: Any) -> None:
        """Start a process: it remembers nothing."""
        fate = fate or Fate()
        self.memory = Memory()
        outbox = Outbox(self.timeline, limiter=Limiter(), now=self.clock.now)
        self.outbox = outbox if self.has_key else None
        self.reconciler = Reconciler(
            store=given.get("store") or cast("Store", fate.hang_over(self.store)),
            cluster=given.get("cluster") or cast("Cluster", fate.hang_over(self.cluster)),
            clock=self.clock,
            timeline=given.get("timeline", self.timeline if self.has_key else None),
            outbox=self.outbox,
            home=HOME,
            process=outbox.process_id,
        )

    async def stop(self) -> None:
        if self.outbox is not None:
            await self.outbox.close()

    @property
    def stored(self) -> IncidentRollback:
        (rollback,) = self.store.rollbacks.values()
        return rollback

    @property
    def reason(self) -> str:
        ready = get(self.stored.status.conditions, "Ready")
        return ready.reason if ready else ""

    @property
    def message(self) -> str:
        ready = get(self.stored.status.conditions, "Ready")
        return ready.message if ready else ""

    @property
    def told(self) -> list[str]:
        """The first words of what the incident reads."""
        return [" ".join(text.split()[:3]) for text in self.timeline.texts(INCIDENT)]

    async def turn(self, rollback: IncidentRollback | None = None) -> Turn:
        wake = Wake(asyncio.Event())
        taken = await self.reconciler.turn(rollback or self.stored, self.memory, wake)
        self.turns.append(outcome(taken.move))
        await let_run()
        return taken

    async def passes(self, seconds: float) -> None:
        """Let time pass, for the clock and for all that sleeps."""
        self.clock.advance(seconds)
        await asyncio.sleep(seconds)

    async def until_settled(self, limit: int = 60) -> None:
        """Take turns as the runner would, and let the time pass that is between them."""
        for _ in range(limit):
            if self.stored.status.settled:
                return
            try:
                taken = await self.turn()
            except ConflictError:
                continue
            await self.passes(max(0.1, taken.after))
        raise AssertionError(f"not settled after {self.turns}")


RESTORED = "Rolling checkout in"
BACK = "checkout in production"


@in_fast_time
async def test_the_story_that_must_always_work() -> None:
    world = World()
    await world.until_settled()
    assert world.turns[0] == "Claim 1"
    assert "Succeed RolledBack" in world.turns
    assert world.told == [RESTORED, BACK]
    assert list(world.timeline.relations.values()) == ["fixed"]
    (patch,) = world.cluster.restored
    marker = f"{UID} {intent_of(a_rollback())} 2026-11-23T02:14:00Z"
    assert patch == TemplatePatch(
        ref=REF,
        uid=a_workload().uid,
        generation=7,
        revision=2,
        template=a_revision(1).template,
        marker=marker,
    )
    assert [(e.kind, e.type, e.reason) for e in world.cluster.events] == [
        ("Deployment", "Normal", "RollbackStarted"),
        ("Deployment", "Normal", "RollbackSucceeded"),
        ("IncidentRollback", "Normal", "RollbackSucceeded"),
    ]
    assert world.store.calls.count("save") <= 5


@in_fast_time
async def test_claim_and_patch_are_one_turn() -> None:
    world = World()
    taken = await world.turn()
    assert (outcome(taken.move), taken.after) == ("Claim 1", 0.25)
    assert taken.rollback == world.stored
    assert world.stored.status.phase is Phase.ROLLING_BACK
    assert len(world.cluster.restored) == 1
    assert world.told == []  # The start is told once the patch has been seen.


@in_fast_time
async def test_the_start_is_told_when_the_patch_was_seen() -> None:
    world = World()
    await world.turn()
    await world.turn()
    assert world.told == [RESTORED]


async def calls_of_a_whole_life() -> int:
    world, fate = World(), Fate()
    world.start(fate)
    await world.until_settled()
    await world.stop()
    return fate.calls


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@in_fast_time
async def test_killed_at_any_call_it_is_patched_once_and_told_once(is_after: bool) -> None:
    """Each call to the API server, in turn, is the last one of a process; another takes over."""
    for at in range(await calls_of_a_whole_life()):
        world = World()
        world.start(Fate(at, is_after=is_after))
        with pytest.raises(KilledError):
            await world.until_settled()
        await world.stop()
        world.start()
        await world.until_settled()
        await world.stop()
        assert len(world.cluster.restored) == 1, at
        assert world.told == [RESTORED, BACK], at
        assert (world.stored.status.phase, world.reason) == (Phase.SUCCEEDED, "RolledBack"), at
        assert len(world.timeline.changes) == 1, at
        names = [(e.uid, e.key) for e in world.cluster.events]
        assert len(names) == len(set(names)), at


@dataclass
class HookedStore(FakeStore):
    """Does something before a save, or before the environments are listed; each once."""

    before_save: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    before_environments: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    async def save(self, rollback: IncidentRollback) -> IncidentRollback | None:
        if self.before_save:
            self.before_save.pop(0)()
        return await super().save(rollback)

    async def list_environments(self) -> Any:
        if self.before_environments:
            self.before_environments.pop(0)()
        return await super().list_environments()


@dataclass
class HookedCluster(FakeCluster):
    """Fails at the next patches, one error each, before anything happens."""

    refusing: list[Exception] = field(default_factory=list[Exception])

    async def restore_template(self, patch: TemplatePatch) -> datetime:
        if self.refusing:
            raise self.refusing.pop(0)
        return await super().restore_template(patch)


class HookedWorld(World):
    """A world in which things happen between two calls of a turn."""

    def __init__(
        self, *refusing: Exception, rollback: IncidentRollback | None = None, **more: Any
    ) -> None:
        super().__init__(rollback, **more)
        self.hooked = HookedStore(
            clock=self.clock,
            rollbacks=self.store.rollbacks,
            environments=self.store.environments,
            version=100,
        )
        self.store = self.hooked
        self.refusing = HookedCluster(
            clock=self.clock, workloads=self.cluster.workloads, refusing=list(refusing)
        )
        self.cluster = self.refusing
        self.start()


def suspend(world: World, *, on: bool = True) -> None:
    world.store.environments["production"] = an_environment(suspend=on, policy=QUICK)


@in_fast_time
async def test_suspended_between_claim_and_patch_nothing_is_patched() -> None:
    world = HookedWorld()
    world.hooked.before_environments = [lambda: None, lambda: suspend(world)]
    taken = await world.turn()
    assert world.cluster.restored == []
    assert (world.stored.status.phase, taken.after) == (Phase.ROLLING_BACK, 0.0)
    assert outcome((await world.turn()).move) == "Wait Suspended"
    assert "nothing was changed so far" in world.timeline.texts(INCIDENT)[-1]
    suspend(world, on=False)
    await world.until_settled()
    assert len(world.cluster.restored) == 1
    assert world.told[1:] == [RESTORED, BACK]


@in_fast_time
async def test_claimed_by_another_between_the_look_and_the_patch_it_waits_for_that_one() -> None:
    world = HookedWorld(rollback=a_rollback(to={"revision": 1}))
    other = a_rollback(name="other", uid="aaa", status=a_status(claimed_at=ago(seconds=1)))

    def claim() -> None:
        world.store.put(other)

    world.hooked.before_environments = [lambda: None, claim]
    taken = await world.turn()
    assert world.cluster.restored == []
    assert outcome((await world.turn(taken.rollback)).move) == "Wait Busy"


@in_fast_time
async def test_suspended_until_its_time_is_over_it_is_refused_and_no_start_is_told() -> None:
    world = HookedWorld()
    world.hooked.before_environments = [lambda: None, lambda: suspend(world)]
    await world.turn()
    world.clock.advance(901)
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "Suspended")
    assert world.cluster.restored == []
    assert RESTORED not in world.told


def scaled(world: World) -> Callable[[], None]:
    """Return what the HPA does between two calls: it writes the generation, not the template."""

    def scale() -> None:
        there = world.cluster.workloads[REF]
        world.cluster.put(
            replace(there, generation=there.generation + 1, observed_generation=99, wanted=4)
        )

    return scale


@in_fast_time
async def test_w3_a_bare_422_is_read_again_and_tried_again() -> None:
    world = HookedWorld()
    world.hooked.before_save = [scaled(world)]
    taken = await world.turn()
    assert world.cluster.restored == []
    assert taken.after < 0.3
    assert outcome((await world.turn()).move) == "Restore 1"
    assert [patch.generation for patch in world.cluster.restored] == [8]


@in_fast_time
async def test_w3_a_bare_422_and_another_template_stands() -> None:
    def deploy() -> None:
        world.cluster.put(
            a_workload(a_revision(3), a_revision(2), generation=8, observed_generation=8)
        )

    world = HookedWorld()
    world.hooked.before_save = [deploy]
    await world.turn()
    await world.turn()
    assert world.cluster.restored == []
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "ChangedSinceRequest")


@in_fast_time
async def test_bare_422s_are_bounded() -> None:
    world = HookedWorld(*[StaleReadError("bare 422")] * (QUICK_TRIES + 2))
    pauses = [(await world.turn()).after for _ in range(QUICK_TRIES + 2)]
    assert all(pause < 0.3 for pause in pauses[:QUICK_TRIES])
    assert pauses[QUICK_TRIES:] == [2.0, 2.0]


@in_fast_time
async def test_w9_a_policy_that_refuses_the_patch_is_a_refusal_of_ours() -> None:
    world = HookedWorld(RejectedError("admission: images from <dockerhub> @all are forbidden"))
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "Rejected")
    (event,) = world.cluster.events
    assert (event.kind, event.type) == ("IncidentRollback", "Warning")
    (text,) = world.timeline.texts(INCIDENT)
    assert "images from &lt;dockerhub&gt; @\u200ball are forbidden" in text
    assert [u.key for u in world.stored.status.updates] == ["end"]  # No start: it never began.


@in_fast_time
async def test_a_403_at_the_patch_is_waited_for() -> None:
    world = HookedWorld(*[ForbiddenError("may not patch deployments in production")] * 2)
    taken = await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.ROLLING_BACK, "PermissionMissing")
    assert taken.after == 2.0
    assert "nothing was changed so far" in world.timeline.texts(INCIDENT)[0]
    version = world.stored.metadata.resource_version
    await world.turn()
    assert world.stored.metadata.resource_version == version  # The same again is no write.
    await world.until_settled()
    assert world.reason == "RolledBack"


@in_fast_time
async def test_a_403_at_the_patch_is_refused_when_its_time_is_over() -> None:
    world = HookedWorld(ForbiddenError("may not patch"), rollback=a_rollback())
    world.hooked.before_save = [lambda: world.clock.advance(899)]
    await world.turn()
    world.clock.advance(2)
    await world.turn()
    assert world.stored.status.phase is Phase.REFUSED
    assert world.cluster.restored == []


@in_fast_time
async def test_w6_an_unknown_outcome_that_was_applied() -> None:
    world = World()
    world.cluster.lost = [UnavailableError("timed out")]
    with pytest.raises(UnavailableError):
        await world.turn()
    await world.until_settled()
    assert len(world.cluster.restored) == 1
    assert world.reason == "RolledBack"


@in_fast_time
async def test_w7_an_unknown_outcome_that_was_not_applied() -> None:
    world = HookedWorld(UnavailableError("timed out"))
    with pytest.raises(UnavailableError):
        await world.turn()
    assert world.cluster.restored == []
    await world.until_settled()
    assert len(world.cluster.restored) == 1


@in_fast_time
async def test_a_claim_that_could_not_be_stored_is_not_acted_upon() -> None:
    world = HookedWorld()

    def somebody_writes() -> None:
        there = world.stored
        metadata = there.metadata.model_copy(update={"resource_version": "50"})
        world.store.put(there.model_copy(update={"metadata": metadata}))

    world.hooked.before_save = [somebody_writes]
    with pytest.raises(ConflictError):
        await world.turn()
    assert world.cluster.restored == []


@in_fast_time
async def test_a_resource_that_is_gone_at_the_claim_is_not_acted_upon() -> None:
    world = HookedWorld()
    rollback = world.stored
    world.hooked.before_save = [world.store.rollbacks.clear]
    taken = await world.turn(rollback)
    assert taken.rollback is None
    assert world.cluster.restored == []


NOT_CURRENT = [
    pytest.param(None, None, id="deleted: that was the way to call it off"),
    pytest.param(claimed(), "made-again", id="deleted and made again"),
]


@pytest.mark.parametrize(("stored", "uid"), NOT_CURRENT)
@in_fast_time
async def test_a_claim_whose_resource_is_gone_is_not_patched(
    stored: IncidentRollback | None, uid: str | None
) -> None:
    world = World(claimed())
    old = world.stored
    world.store.rollbacks.clear()
    if stored is not None:
        again = stored.metadata.model_copy(update={"uid": uid})
        world.store.put(stored.model_copy(update={"metadata": again}))
    assert (await world.turn(old)).rollback is None
    assert world.cluster.restored == []


@in_fast_time
async def test_a_claim_that_another_process_has_ended_is_not_patched() -> None:
    world = World(claimed())
    old = world.stored
    metadata = old.metadata.model_copy(update={"resource_version": "9"})
    world.store.put(
        old.model_copy(update={"metadata": metadata, "status": a_status(Phase.REFUSED)})
    )
    with pytest.raises(ConflictError):
        await world.turn(old)
    assert world.cluster.restored == []


@in_fast_time
async def test_two_controllers_at_once_patch_once() -> None:
    """Both hold the same version; the second has not heard of what the first one wrote."""
    world = World()
    before = world.stored
    await world.turn()
    world.start()
    with pytest.raises(ConflictError):
        await world.turn(before)
    assert len(world.cluster.restored) == 1


# --- what FireHydrant knows ---

UNKNOWING = a_rollback(incident=an_incident(severity=None))


class SlowTimeline(FakeTimeline):
    """FireHydrant takes so many seconds to say anything."""

    seconds = 30.0

    async def read_incident(self, incident_id: str) -> IncidentFacts:
        await asyncio.sleep(self.seconds)
        return await super().read_incident(incident_id)


ASKED = [
    pytest.param(a_rollback(), 0, id="the request knows its severity"),
    pytest.param(UNKNOWING, 1, id="Relay's form has none"),
    pytest.param(a_rollback(requested_at=ago(seconds=61)), 1, id="an old request"),
    pytest.param(a_rollback(requested_at=ago(seconds=60)), 0, id="60 s are not old"),
    pytest.param(a_rollback(name="checkout-3f9a1c27b0d4e6f8-2"), 1, id="a later attempt"),
    pytest.param(a_rollback(incident=None), 0, id="no incident"),
]


@pytest.mark.parametrize(("rollback", "times"), ASKED)
@in_fast_time
async def test_drills_are_asked_for_where_the_request_cannot_know(
    rollback: IncidentRollback, times: int
) -> None:
    world = World(rollback)
    await world.turn()
    assert world.timeline.times("read_incident") == times
    assert len(world.cluster.restored) == 1


@in_fast_time
async def test_drills_are_previewed() -> None:
    world = World(UNKNOWING)
    world.timeline.declare(INCIDENT, "gameday")
    await world.until_settled()
    assert world.stored.status.phase is Phase.PREVIEWED
    assert world.cluster.restored == []
    assert world.told == ["Dry run, nothing"]


@in_fast_time
async def test_an_incident_that_is_closed_is_refused() -> None:
    world = World(UNKNOWING)
    world.timeline.resolve(INCIDENT)
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "IncidentClosed")


@in_fast_time
async def test_a_slow_firehydrant_costs_a_second_and_stops_nothing() -> None:
    world = World(UNKNOWING)
    world.start(timeline=cast("Timeline", SlowTimeline(world.clock.now)))
    began = elapsed()
    await world.turn()
    assert len(world.cluster.restored) == 1
    assert elapsed() - began < 1.1


@in_fast_time
async def test_a_firehydrant_that_does_not_know_stops_nothing() -> None:
    world = World(UNKNOWING)
    world.timeline.fail("read_incident", UnavailableError("502"))
    await world.turn()
    assert len(world.cluster.restored) == 1


@in_fast_time
async def test_facts_are_asked_for_once_while_it_waits() -> None:
    world = World(UNKNOWING)
    suspend(world)
    for _ in range(3):
        await world.turn()
        world.clock.advance(100)
    assert world.timeline.times("read_incident") == 1


AGAIN = [
    pytest.param(60, 1, id="60 s are fresh enough"),
    pytest.param(61, 2, id="older: asked again, right before the claim"),
]


@pytest.mark.parametrize(("seconds", "times"), AGAIN)
@in_fast_time
async def test_facts_are_asked_for_again_before_the_claim(seconds: int, times: int) -> None:
    world = World(UNKNOWING)
    suspend(world)
    await world.turn()
    suspend(world, on=False)
    world.clock.advance(seconds)
    await world.turn()
    assert world.timeline.times("read_incident") == times
    assert len(world.cluster.restored) == 1


@in_fast_time
async def test_an_incident_that_was_closed_while_it_waited_is_refused() -> None:
    world = World(UNKNOWING)
    suspend(world)
    await world.turn()
    suspend(world, on=False)
    world.timeline.resolve(INCIDENT)
    world.clock.advance(61)
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "IncidentClosed")
    assert world.cluster.restored == []


# --- where it looks ---


@in_fast_time
async def test_a_service_is_found_by_its_label() -> None:
    world = World(workload=replace(a_workload(), ref=WorkloadRef("production", "checkout-v2")))
    world.cluster.services["production", "checkout"] = ["checkout-v2"]
    await world.turn()
    assert [patch.ref.name for patch in world.cluster.restored] == ["checkout-v2"]


@in_fast_time
async def test_no_permission_to_look_is_waited_for_and_told_once() -> None:
    world = World()
    world.cluster.down = ForbiddenError("may not list deployments in production")
    await world.turn()
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.PENDING, "PermissionMissing")
    assert "may not list deployments in production" in world.message
    assert len(world.told) == 1


@in_fast_time
async def test_a_workload_whose_name_the_server_refuses_is_not_found() -> None:
    world = World()
    world.cluster.failing = [InvalidRequestError("<bad> name")]
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "WorkloadNotFound")
    assert "&lt;bad&gt; name" in world.message


@in_fast_time
async def test_others_of_the_same_incident_and_those_that_have_claimed_are_seen() -> None:
    world = World()
    other = a_rollback(name="another", uid="zzz", status=a_status(claimed_at=ago(seconds=5)))
    world.store.put(other)
    taken = await world.turn(world.store.rollbacks[KEY])
    assert outcome(taken.move) == "Wait Busy"


@in_fast_time
async def test_no_permission_after_the_patch_is_no_verdict() -> None:
    world = World(claimed(patched_at=ago(seconds=10)))
    world.cluster.down = ForbiddenError("may not get deployments")
    assert outcome((await world.turn()).move) == "Watch"
    world.clock.advance(900)
    assert outcome((await world.turn()).move) == "Fail NotVerified"
    assert "was restored" in world.timeline.texts(INCIDENT)[-1]


# --- who is told ---


@in_fast_time
async def test_without_a_key_all_else_works_and_reported_says_so() -> None:
    world = World()
    world.has_key = False
    world.start()
    await world.until_settled()
    assert world.reason == "RolledBack"
    reported = get(world.stored.status.conditions, "Reported")
    assert reported is not None
    assert (reported.status, reported.reason) == ("False", "NoKey")
    assert world.stored.status.updates == ()


ELSEWHERE = a_rollback(target_ref={"name": "checkout"}, namespace="production")


@in_fast_time
async def test_a_namespace_that_is_not_listed_reaches_no_incident() -> None:
    world = World(ELSEWHERE)
    await world.until_settled()
    assert world.reason == "RolledBack"
    assert world.timeline.calls == []
    reported = get(world.stored.status.conditions, "Reported")
    assert reported is not None
    assert reported.reason == "NotListed"


@in_fast_time
async def test_a_namespace_that_is_not_listed_reaches_no_incident_by_failing_or_deleting() -> None:
    world = World(ELSEWHERE)
    world.store.failing = [ForbiddenError("may not list environments")]
    await world.turn()
    assert world.reason == "PermissionMissing"
    await world.turn()
    await world.reconciler.farewell(world.stored)
    await let_run()
    assert world.cluster.restored
    assert world.timeline.entries == []


HEARD = [
    pytest.param(("production",), ["the end"], id="a listed one"),
    pytest.param((), [], id="one that is not listed"),
]


@pytest.mark.parametrize(("listed", "told"), HEARD)
@in_fast_time
async def test_a_namespace_is_heard_or_not_after_a_restart_too(
    listed: tuple[str, ...], told: list[str]
) -> None:
    """What ended in another process has its end still to tell."""
    status = a_status(Phase.REFUSED, updates=(an_update("end"),), finished_at=ago(seconds=5))
    world = World(ELSEWHERE.model_copy(update={"status": status}))
    world.store.environments["production"] = an_environment(incidents_from=listed)
    await world.until_settled()
    assert world.told == told


@in_fast_time
async def test_after_a_restart_the_policy_of_the_environment_counts() -> None:
    world = World()
    await world.turn()
    await world.turn()
    world.memory.written_at -= 2
    await world.turn()
    await world.stop()
    world.start()
    await world.passes(QUICK.stable_seconds + 1)
    assert outcome((await world.turn()).move) == "Succeed RolledBack"


@in_fast_time
async def test_acknowledgements_share_a_write_and_are_not_lost() -> None:
    world = World()
    await world.turn()
    await world.turn()
    version = world.stored.metadata.resource_version
    await world.turn()
    assert world.told == [RESTORED]
    assert world.stored.metadata.resource_version == version  # Within two seconds: not yet.
    world.memory.written_at -= 2
    await world.turn()
    (start,) = world.stored.status.updates
    assert (start.delivered_at, start.external_id) == (world.clock.now(), "note-1")
    assert world.stored.status.patched_at == after(seconds=0)


@in_fast_time
async def test_the_key_that_was_refused_is_reported() -> None:
    world = World()
    suspend(world)
    world.timeline.fail("post_note", TimelineRefusedError("KeyRefused", "the key was refused"))
    await world.turn()
    await world.turn()
    reported = get(world.stored.status.conditions, "Reported")
    assert reported is not None
    assert (reported.status, reported.reason) == ("False", "KeyRefused")


@in_fast_time
async def test_events_are_best_effort() -> None:
    world = World(a_rollback(service={"name": "", "environment": "production"}))
    world.cluster.down = ForbiddenError("may not create events")
    await world.until_settled()
    assert world.reason == "ServiceMissing"


# --- farewell ---


@in_fast_time
async def test_a_resource_deleted_after_its_patch_says_goodbye_once() -> None:
    world = World()
    world.cluster.rolls_out = False
    await world.turn()
    rollback = world.stored
    world.store.rollbacks.clear()
    await world.reconciler.farewell(rollback)
    await let_run()
    assert world.told[-1] == "The IncidentRollback of"
    assert world.cluster.events[-1].reason == "RollbackUnwatched"


QUIETLY_GONE = [
    pytest.param(a_rollback(), id="not claimed"),
    pytest.param(claimed(), id="claimed, and not patched"),
    pytest.param(claimed(Phase.SUCCEEDED, patched_at=ago(seconds=9)), id="ended"),
]


@pytest.mark.parametrize("rollback", QUIETLY_GONE)
@in_fast_time
async def test_a_resource_that_changed_nothing_goes_quietly(rollback: IncidentRollback) -> None:
    world = World(rollback)
    await world.reconciler.farewell(rollback)
    await let_run()
    assert (world.told, world.cluster.events) == ([], [])


# --- after the end ---


@in_fast_time
async def test_what_is_reverted_during_the_hold_is_told() -> None:
    world = World()
    while world.stored.status.phase is not Phase.SUCCEEDED:
        world.clock.advance((await world.turn()).after)
    there = world.cluster.workloads[REF]
    world.cluster.put(replace(there, template=a_revision(2).template, template_writer="argocd"))
    await world.until_settled()
    held = get(world.stored.status.conditions, "Held")
    assert held is not None
    assert (held.status, held.reason) == ("False", "Reverted")
    assert world.stored.status.phase is Phase.SUCCEEDED
    assert "was brought back by argocd" in world.timeline.texts(INCIDENT)[-1]


@in_fast_time
async def test_the_end_tells_what_the_application_says_and_watching_does_not_ask() -> None:
    owner = Owner(Tool.ARGO_CD, "shop", "", "annotation tracking-id", "possible")
    world = World(workload=a_workload(managed_by=(owner,)))
    listed = {"group": "apps", "kind": REF.kind, "namespace": REF.namespace, "name": REF.name}
    world.cluster.applications["argocd", "shop"] = {
        "metadata": {"name": "shop", "namespace": "argocd"},
        "spec": {"syncPolicy": {"automated": {}}},
        "status": {"resources": [listed]},
    }
    await world.until_settled()
    assert "its self-heal is off" in world.timeline.texts(INCIDENT)[-1]
    assert "argocd/shop" in world.timeline.texts(INCIDENT)[-1]
    claim, *_, end = [i for i, call in enumerate(world.cluster.calls) if call == "application"]
    assert world.cluster.calls[claim:end].count("read") > 2


@in_fast_time
async def test_a_settled_turn_reads_nothing() -> None:
    world = World(claimed(Phase.REFUSED, updates=(an_update("end"),)))
    await world.turn()
    assert "read" not in world.cluster.calls


# --- what is worth a status write ---


def ended(*keys: str, told: tuple[str, ...] = (), reported: str = "") -> Any:
    updates = tuple(
        an_update(key, delivered_at=after(seconds=1) if key in told else None) for key in keys
    )
    trouble = {"type": "Reported", "status": reported, "reason": "Unreachable"}
    status = a_status(Phase.SUCCEEDED, updates=updates)
    return type(status).model_validate(
        {**status.model_dump(), "conditions": [trouble] if reported else []}
    )


BEFORE = a_status(patched_at=None)
WATCHED = a_status(patched_at=ago(seconds=1))
NEWS = [
    pytest.param(BEFORE, BEFORE, 999, False, id="nothing new"),
    pytest.param(a_status(Phase.PENDING), BEFORE, 0, True, id="a claim"),
    pytest.param(BEFORE, a_status(Phase.SUCCEEDED), 0, True, id="an end"),
    pytest.param(BEFORE, WATCHED, 1.9, False, id="that the patch is in may share a write"),
    pytest.param(BEFORE, WATCHED, 2, True, id="but not for long"),
    pytest.param(
        WATCHED,
        WATCHED.model_copy(update={"updates": (an_update("waiting-Paused"),)}),
        0,
        True,
        id="something to tell",
    ),
    pytest.param(
        a_status(updates=(an_update("start"),)),
        a_status(updates=(an_update("start", delivered_at=after(seconds=1)),)),
        1.9,
        False,
        id="that it was told may share a write",
    ),
    pytest.param(
        a_status(updates=(an_update("start"),)),
        a_status(updates=(an_update("start", gave_up="no"),)),
        0,
        True,
        id="that it was given up",
    ),
    pytest.param(
        WATCHED,
        WATCHED.model_copy(update={"healthy_since": after(seconds=1)}),
        1.9,
        False,
        id="that it is healthy may share a write",
    ),
    pytest.param(
        ended("end", "change"),
        ended("end", "change", told=("end",)),
        1.9,
        False,
        id="that one of two ends was told may share a write",
    ),
    pytest.param(
        ended("end", "change"),
        ended("end", "change", told=("end", "change")),
        0,
        True,
        id="that all was told",
    ),
    pytest.param(
        ended("end"), ended("end", reported="False"), 0, True, id="that it cannot be told"
    ),
]


@pytest.mark.parametrize(("before", "later", "age", "is_news"), NEWS)
def test_what_is_worth_writing(before: Any, later: Any, age: float, is_news: bool) -> None:
    assert is_worth_writing(before, later, age) is is_news


def ready_says(message: str, reason: str = "RollingBack") -> Any:
    condition = {"type": "Ready", "status": "Unknown", "reason": reason, "message": message}
    return type(BEFORE).model_validate({**BEFORE.model_dump(), "conditions": [condition]})


MESSAGES = [
    pytest.param(ready_says("1 of 3"), ready_says("2 of 3"), 14.9, False, id="a count of pods"),
    pytest.param(ready_says("1 of 3"), ready_says("2 of 3"), 15, True, id="a count, each 15 s"),
    pytest.param(ready_says("x"), ready_says("x", "Suspended"), 0, True, id="another reason"),
]


@pytest.mark.parametrize(("before", "later", "age", "is_news"), MESSAGES)
def test_a_message_alone_is_written_seldom(
    before: Any, later: Any, age: float, is_news: bool
) -> None:
    assert is_worth_writing(before, later, age) is is_news


@in_fast_time
async def test_a_marker_that_is_only_on_a_replica_set_is_enough() -> None:
    """A process died after the patch, and somebody wiped the marker from the workload."""
    ours = a_marker(of=claimed())
    world = World(
        claimed(),
        a_workload(
            a_revision(3, history=(1,), marker=ours),
            a_revision(2),
            health="healthy",
            pods=(a_pod(1),) * 3,
        ),
    )
    assert outcome((await world.turn()).move) == "Watch"
    assert world.cluster.restored == []


def test_the_claim_of_the_builders_is_of_the_bad_deploy() -> None:
    assert claimed().status.from_ == frozen(2)
