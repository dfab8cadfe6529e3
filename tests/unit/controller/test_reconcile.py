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
from incident_rollback.crd.v1alpha1 import (
    TRACE_ANNOTATION,
    Annotations,
    IncidentRollback,
    Phase,
    Policy,
    TargetStatus,
)
from incident_rollback.domain.conditions import get
from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.domain.names import intent_of
from incident_rollback.domain.ownership import Owner, Tool
from incident_rollback.domain.surroundings import (
    Trial,
    WarningEvent,
)
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
from incident_rollback.telemetry.traces import Tracing
from tests.builders import (
    HOME,
    REF,
    UID,
    a_broken_pod,
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
    hash_of,
    image_of,
    outcome,
    timed_out,
    undone,
)
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.store import FakeStore
from tests.fakes.timeline import FakeTimeline
from tests.fakes.tracer import FakeTracer
from tests.unit.controller.crowd import Crowd
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
    def end(self) -> str:
        """Phase and reason, e.g. "Succeeded RolledBack"."""
        return f"{self.stored.status.phase} {self.reason}"

    def change(self, happens: Callable[[Workload], Workload]) -> None:
        """Have something happen to the workload."""
        self.cluster.put(happens(self.cluster.workloads[REF]))

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


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def traced(rollback: IncidentRollback) -> IncidentRollback:
    """Return a rollback as the bridge makes it."""
    annotations = Annotations.model_validate({TRACE_ANNOTATION: TRACE_ID})
    metadata = rollback.metadata.model_copy(update={"annotations": annotations})
    return rollback.model_copy(update={"metadata": metadata})


RESTORED = "Rolling checkout in"
BACK = "checkout in production"


@in_fast_time
async def test_the_story_that_must_always_work() -> None:
    world = World(traced(a_rollback()))
    await world.until_settled()
    assert world.turns[0] == "Claim 1"
    assert "Succeed RolledBack" in world.turns
    assert world.told == [RESTORED, BACK]
    assert list(world.timeline.relations.values()) == ["fixed"]
    (change,) = world.timeline.changes.values()
    assert change.labels["trace-id"] == TRACE_ID
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
    assert world.told == [RESTORED]
    assert [event.key for event in world.cluster.events] == [f"{UID[:8]}-start"]


@in_fast_time
async def test_of_two_claims_the_later_sees_the_earlier() -> None:
    """Each looks for the other once it is written itself, and sees all that was before that."""
    world = World()
    asked = world.stored.metadata.resource_version
    await world.turn()
    assert world.store.since[0] == asked
    assert world.store.since[-1] == world.stored.metadata.resource_version != asked


@in_fast_time
async def test_whether_the_patch_went_in_is_seen_before_the_start_is_told() -> None:
    world = World()
    world.cluster.lost = [UnavailableError("no answer")]
    with pytest.raises(UnavailableError):
        await world.turn()
    assert world.told == []
    await world.turn()
    assert world.told == [RESTORED]


@in_fast_time
async def test_after_the_patch_only_the_workload_is_looked_at() -> None:
    world = World()
    world.cluster.rolls_out = False
    await world.turn()
    world.cluster.calls.clear()
    world.store.calls.clear()
    await world.turn()
    assert (world.cluster.calls, world.store.calls) == (["read"], [])


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
    """Does something before a save, or before the mapping is read; each once."""

    before_save: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    before_environments: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    async def save(self, rollback: IncidentRollback) -> IncidentRollback | None:
        if self.before_save:
            self.before_save.pop(0)()
        return await super().save(rollback)

    async def list_environments(self, *, may_lag: bool = False) -> Any:
        self._look()
        return await super().list_environments(may_lag=may_lag)

    async def get_environment(self, name: str) -> Any:
        self._look()
        return await super().get_environment(name)

    def _look(self) -> None:
        if self.before_environments:
            self.before_environments.pop(0)()


@dataclass
class HookedCluster(FakeCluster):
    """Fails at the next patches, one error each, before anything happens; may show torn ones."""

    refusing: list[Exception] = field(default_factory=list[Exception])
    torn: list[Workload] = field(default_factory=list[Workload])
    """What is read at a glance, once each."""
    hidden: set[WorkloadRef] = field(default_factory=set[WorkloadRef])
    """What we may not read."""
    before_trial: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    async def try_template(self, patch: TemplatePatch) -> Trial:
        if self.before_trial:
            self.before_trial.pop(0)()
        return await super().try_template(patch)

    async def read_workload(
        self, ref: WorkloadRef, *, at_a_glance: bool = False
    ) -> Workload | None:
        if at_a_glance and self.torn:
            return self.torn.pop(0)
        if ref in self.hidden:
            raise ForbiddenError(f"may not get {ref}")
        return await super().read_workload(ref)

    async def is_still(self, workload: Workload) -> bool:
        if workload.ref in self.hidden:
            raise ForbiddenError(f"may not get {workload.ref}")
        return await super().is_still(workload)

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
    world.hooked.before_environments = [lambda: None, lambda: None, lambda: suspend(world)]
    taken = await world.turn()
    assert world.cluster.restored == []
    assert (world.stored.status.phase, taken.after) == (Phase.ROLLING_BACK, 0.0)
    assert outcome((await world.turn()).move) == "Wait Suspended"
    assert "nothing was changed so far" in world.timeline.texts(INCIDENT)[-1]
    suspend(world, on=False)
    await world.until_settled()
    assert len(world.cluster.restored) == 1
    assert world.told[1:] == [RESTORED, BACK]


MAPPED_OTHERWISE = [
    pytest.param({"namespace": "elsewhere"}, "Wait WorkloadNotFound", id="to another namespace"),
    pytest.param(
        {"policy": Policy(approval="Required")},
        "Refuse ApprovalRequired",
        id="under another policy",
    ),
    pytest.param({"suspend": True}, "Wait Suspended", id="with the red switch on"),
]


@pytest.mark.parametrize(("spec", "move"), MAPPED_OTHERWISE)
@in_fast_time
async def test_nothing_is_claimed_on_a_mapping_that_lags(spec: dict[str, Any], move: str) -> None:
    world = HookedWorld()
    world.hooked.lagging = dict(world.hooked.environments)
    world.hooked.environments["production"] = an_environment(**spec)
    taken = await world.turn()
    assert (outcome(taken.move), world.cluster.restored) == (move, [])


@pytest.mark.parametrize(("spec", "move"), MAPPED_OTHERWISE)
@in_fast_time
async def test_nothing_is_claimed_on_a_mapping_that_changed_during_the_trial(
    spec: dict[str, Any], move: str
) -> None:
    world = HookedWorld()
    changed = an_environment(**spec)
    world.refusing.before_trial = [
        lambda: world.hooked.environments.update({"production": changed})
    ]
    taken = await world.turn()
    assert (outcome(taken.move), world.cluster.restored) == (move, [])


@in_fast_time
async def test_who_may_speak_to_an_incident_never_rests_on_a_mapping_that_lags() -> None:
    world = HookedWorld(rollback=a_rollback(namespace="production"))
    world.hooked.lagging = dict(world.hooked.environments)
    world.hooked.environments["production"] = an_environment(
        policy=QUICK, incidents_from=("production",)
    )
    await world.until_settled()
    assert world.told == [RESTORED, BACK]


@in_fast_time
async def test_nothing_is_refused_on_a_mapping_that_lags() -> None:
    world = HookedWorld()
    world.hooked.lagging = {}
    assert outcome((await world.turn()).move) == "Claim 1"
    assert len(world.cluster.restored) == 1


TORN = [
    pytest.param(a_workload(), undone(), "Succeed AlreadyThere", id="no claim"),
    pytest.param(undone(generation=6), a_workload(), "Claim 1", id="no success"),
    pytest.param(a_workload(), None, "Wait WorkloadNotFound", id="no claim on what is gone"),
]


@pytest.mark.parametrize(("torn", "real", "move"), TORN)
@in_fast_time
async def test_on_what_was_changed_while_it_was_read_rests(
    torn: Workload, real: Workload | None, move: str
) -> None:
    world = HookedWorld()
    world.refusing.torn = [torn]
    world.cluster.workloads.clear()
    if real is not None:
        world.cluster.put(real)
    assert outcome((await world.turn()).move) == move
    assert len(world.cluster.restored) == move.startswith("Claim")


@in_fast_time
async def test_no_verdict_rests_on_what_was_changed_while_it_was_read() -> None:
    world = HookedWorld()
    world.cluster.rolls_out = False
    await world.turn()
    ours = a_marker(of=world.stored)
    world.cluster.put(undone(health="starting", marker=ours))
    await world.turn()
    world.refusing.torn = [a_workload(marker=ours)]  # As if the bad one had been brought back.
    assert outcome((await world.turn()).move) == "Watch"


@in_fast_time
async def test_nothing_that_came_in_the_hold_rests_on_what_was_changed_while_it_was_read() -> None:
    world = HookedWorld()
    while world.stored.status.phase is not Phase.SUCCEEDED:
        await world.turn()
        await world.passes(1)
    world.refusing.torn = [a_workload(marker=a_marker(of=world.stored))]
    await world.turn()
    assert get(world.stored.status.conditions, "Held") is None
    assert world.refusing.torn == []


@in_fast_time
async def test_not_allowed_to_look_again_is_told() -> None:
    world = HookedWorld()
    world.refusing.torn = [undone()]
    world.refusing.hidden = {REF}
    assert outcome((await world.turn()).move) == "Wait PermissionMissing"


@in_fast_time
async def test_what_another_process_has_stored_of_the_patch_stands() -> None:
    world = World()
    world.cluster.rolls_out = False
    await world.turn()
    status = world.stored.status.model_copy(update={"patched_at": after(seconds=3)})
    world.store.put(world.stored.model_copy(update={"status": status}))
    world.memory.written_at = float("-inf")  # Whatever may wait a moment has waited.
    await world.turn()
    assert world.stored.status.patched_at == after(seconds=3)


OTHER = WorkloadRef(REF.namespace, "frontend")
LABELLED = [
    pytest.param(a_workload(), False, id="one of the service's name"),
    pytest.param(None, False, id="none of the service's name"),
    pytest.param(a_workload(), True, id="one of the service's name that we may not read"),
]


@pytest.mark.parametrize(("namesake", "is_hidden"), LABELLED)
@in_fast_time
async def test_the_labelled_one_is_taken_and_not(
    namesake: Workload | None, is_hidden: bool
) -> None:
    world = HookedWorld()
    world.refusing.hidden = {REF} if is_hidden else set()
    world.cluster.workloads.clear()
    if namesake is not None:
        world.cluster.put(namesake)
    world.cluster.put(replace(a_workload(), ref=OTHER, uid="labelled"), service=REF.name)
    await world.turn()
    assert [patch.ref for patch in world.cluster.restored] == [OTHER]


@in_fast_time
async def test_unmapped_between_claim_and_patch_nothing_is_patched() -> None:
    world = HookedWorld()
    world.hooked.before_environments = [lambda: None, lambda: None, world.hooked.environments.clear]
    await world.turn()
    assert world.cluster.restored == []
    assert outcome((await world.turn()).move) == "Wait EnvironmentNotMapped"


@in_fast_time
async def test_may_not_read_the_mapping_again_nothing_is_patched_and_it_is_told() -> None:
    world = HookedWorld()

    def deny() -> None:
        raise ForbiddenError("may not get rollbackenvironments")

    world.hooked.before_environments = [lambda: None, lambda: None, deny]
    await world.turn()
    assert world.cluster.restored == []
    assert world.reason == "PermissionMissing"


@in_fast_time
async def test_claimed_by_another_between_the_look_and_the_patch_it_waits_for_that_one() -> None:
    world = HookedWorld(rollback=a_rollback(to={"revision": 1}))
    other = a_rollback(name="other", uid="aaa", status=a_status(claimed_at=ago(seconds=1)))

    def claim() -> None:
        world.store.put(other)

    world.hooked.before_environments = [lambda: None, lambda: None, claim]
    taken = await world.turn()
    assert world.cluster.restored == []
    assert outcome((await world.turn(taken.rollback)).move) == "Wait Busy"


@in_fast_time
async def test_suspended_until_its_time_is_over_it_is_refused_and_no_start_is_told() -> None:
    world = HookedWorld()
    world.hooked.before_environments = [lambda: None, lambda: None, lambda: suspend(world)]
    await world.turn()
    world.clock.advance(901)
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "Suspended")
    assert world.cluster.restored == []
    assert RESTORED not in world.told


def scaled(there: Workload) -> Workload:
    """What the HPA does: it moves the generation, and not the template."""
    return replace(there, generation=there.generation + 1, observed_generation=99, wanted=4)


def deployed(there: Workload) -> Workload:
    """A newer release comes, by somebody's hand."""
    newer = a_revision(9, created_at=after(seconds=1))
    return replace(
        scaled(there),
        template=newer.template,
        number=newer.number,
        revisions=(newer, *there.revisions),
    )


def made_again(there: Workload) -> Workload:
    return replace(there, uid="made-again")


def churned(there: Workload) -> Workload:
    """Its status is written, as it is all the time while pods crash."""
    return replace(there, ready=1, available=1)


SINCE_IT_WAS_READ = [
    pytest.param(
        scaled,
        [8],
        "Succeeded RolledBack",
        id="W3 scaled: the same template, by the new generation",
    ),
    pytest.param(
        deployed, [], "Refused ChangedSinceRequest", id="W3 deployed: another template stands"
    ),
    pytest.param(made_again, [], "Failed WorkloadGone", id="W4 deleted and made again"),
    pytest.param(
        churned, [7], "Succeeded RolledBack", id="W5 only its status was written: no obstacle"
    ),
]


@pytest.mark.parametrize(("happens", "generations", "end"), SINCE_IT_WAS_READ)
@in_fast_time
async def test_what_happens_between_the_look_and_the_patch(
    happens: Callable[[Workload], Workload], generations: list[int], end: str
) -> None:
    world = HookedWorld()
    world.hooked.before_save = [lambda: world.change(happens)]
    await world.until_settled()
    assert [patch.generation for patch in world.cluster.restored] == generations
    assert world.end == end


@in_fast_time
async def test_a_bare_422_is_read_again_at_once() -> None:
    world = HookedWorld()
    world.hooked.before_save = [lambda: world.change(scaled)]
    taken = await world.turn()
    assert world.cluster.restored == []
    assert taken.after < 0.3
    assert outcome((await world.turn()).move) == "Restore 1"


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
async def test_p10_what_a_trial_refuses_is_refused_before_anything_is_claimed() -> None:
    world = World()
    world.cluster.trials[(image_of(1),)] = Trial("Rejected", "policy 'signed' denied request")
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "Rejected")
    assert world.stored.status.claimed_at is None
    assert world.cluster.calls.count("restore") == 0


@in_fast_time
async def test_p10_the_next_that_can_be_trusted_is_tried_and_taken() -> None:
    older = a_revision(1, created_at=ago(days=9))
    best = a_revision(2, available=3, created_at=ago(days=2))
    world = World(workload=a_workload(a_revision(3), best, older))
    world.cluster.trials[(image_of(2),)] = Trial("Rejected", "policy 'signed' denied request")
    await world.turn()
    assert world.cluster.calls.count("try") == 2
    (patch,) = world.cluster.restored
    assert patch.template == older.template


CRASHED = a_broken_pod(
    reason="CrashLoopBackOff", exit_code=1, name="checkout-7d9-x", uid="p-1", container="app",
    logs="Previous",
)  # fmt: skip
BACK_OFF = WarningEvent("BackOff", "Back-off restarting failed container", ago(seconds=50))
SHOWN = (
    "1 of 1 pod in CrashLoopBackOff (exit code 1), e.g. pod checkout-7d9-x, container app{event} "
    "(kubectl logs checkout-7d9-x -c app -n production --previous)"
)


@in_fast_time
async def test_how_it_fails_is_noted_before_that_is_gone_and_told_with_the_start() -> None:
    world = World(workload=a_workload(pods=(CRASHED,)))
    world.cluster.warnings["p-1"] = BACK_OFF
    await world.until_settled()
    event = "; last event BackOff at 02:13:10: 'Back-off restarting failed container'"
    assert world.stored.status.from_ is not None
    assert world.stored.status.from_.evidence == SHOWN.format(event=event)
    start, end = world.timeline.texts(INCIDENT)
    assert SHOWN.format(event=event) in start
    assert "1 of 1 pod in CrashLoopBackOff (exit code 1). Not rolled back" in end
    assert world.cluster.calls.count("warnings") == 1
    assert "nodes" not in world.cluster.calls


@in_fast_time
async def test_d9_without_an_event_the_rest_is_said() -> None:
    world = World(workload=a_workload(pods=(CRASHED,)))
    await world.turn()
    assert world.stored.status.from_ is not None
    assert world.stored.status.from_.evidence == SHOWN.format(event="")
    assert world.cluster.calls.count("warnings") == 1
    assert len(world.cluster.restored) == 1


@in_fast_time
async def test_what_comes_from_around_asks_first_and_changes_nothing() -> None:
    silent = a_pod(is_ready=False, ready_since=None, uid="p-1", node="n-1")
    world = World(workload=a_workload(a_revision(2), a_revision(1), pods=(silent, silent)))
    world.cluster.nodes["n-1"] = False
    await world.until_settled()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "ApprovalRequired")
    assert "nodes are not ready (n-1)" in world.message
    assert "unlikely to help" in world.timeline.texts(INCIDENT)[-1]
    assert (world.cluster.restored, world.cluster.calls.count("nodes")) == ([], 1)


@in_fast_time
async def test_what_did_not_help_is_shown_by_a_pod_of_what_was_restored() -> None:
    world = World()
    world.cluster.rolls_out = False
    await world.turn()
    world.cluster.put(
        undone(
            pods=(replace(CRASHED, pod_template_hash=hash_of(1)),),
            health="starting",
            progress=timed_out(after(seconds=9)),
            marker=a_marker(of=world.stored),
        )
    )
    world.cluster.warnings["p-1"] = BACK_OFF
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.FAILED, "ProgressDeadlineExceeded")
    told = world.timeline.texts(INCIDENT)[-1]
    assert "e.g. pod checkout-7d9-x, container app; last event BackOff at 02:13:10" in told
    assert "Next: look at it: kubectl logs checkout-7d9-x -c app -n production --previous" in told


@in_fast_time
async def test_a_trial_that_is_forbidden_is_waited_for_and_claims_nothing() -> None:
    world = World()
    world.cluster.trials[(image_of(1),)] = ForbiddenError("may not patch deployments")
    taken = await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.PENDING, "PermissionMissing")
    assert taken.after == 2.0
    world.cluster.trials.clear()
    await world.until_settled()
    assert world.reason == "RolledBack"


@in_fast_time
async def test_a_trial_that_is_forbidden_is_the_reason_when_its_time_is_over() -> None:
    world = World()
    world.cluster.trials[(image_of(1),)] = ForbiddenError("may not patch deployments")
    await world.turn()
    world.clock.advance(901)
    await world.turn()
    assert (world.stored.status.phase, world.reason) == (Phase.REFUSED, "PermissionMissing")


@in_fast_time
async def test_a_trial_is_made_once_for_a_claim_and_never_after_it() -> None:
    world = World()
    await world.until_settled()
    assert world.cluster.calls.count("try") == 1
    assert world.cluster.calls.index("try") < world.cluster.calls.index("restore")


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


TIMED_OUT = UnavailableError("timed out")


def went_in() -> World:
    world = World()
    world.cluster.lost = [TIMED_OUT]
    return world


def did_not_go_in() -> World:
    return HookedWorld(TIMED_OUT)


LOST_ANSWERS = [
    pytest.param(went_in, None, 1, "Succeeded RolledBack", id="W6 it went in: watched, not again"),
    pytest.param(
        went_in, deployed, 1, "Failed Superseded", id="W6 it went in, and was deployed over"
    ),
    pytest.param(did_not_go_in, None, 1, "Succeeded RolledBack", id="W7 it did not: once, then"),
    pytest.param(
        did_not_go_in, scaled, 1, "Succeeded RolledBack", id="W7 it did not, and was scaled"
    ),
    pytest.param(
        did_not_go_in,
        deployed,
        0,
        "Refused ChangedSinceRequest",
        id="W7 it did not, and what was deployed meanwhile stands",
    ),
]


@pytest.mark.parametrize(("arrange", "happens", "patches", "end"), LOST_ANSWERS)
@in_fast_time
async def test_when_the_answer_to_the_patch_is_lost(
    arrange: Callable[[], World],
    happens: Callable[[Workload], Workload] | None,
    patches: int,
    end: str,
) -> None:
    world = arrange()
    with pytest.raises(UnavailableError):
        await world.turn()
    if happens is not None:
        world.change(happens)
    await world.until_settled()
    assert len(world.cluster.restored) == patches
    assert world.end == end


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


async def by_one_process(world: World, before: IncidentRollback) -> None:
    await world.turn(before)
    with pytest.raises(ConflictError):
        await world.turn(before)


async def by_another_one_later(world: World, before: IncidentRollback) -> None:
    await world.turn(before)
    world.start()
    with pytest.raises(ConflictError):
        await world.turn(before)


async def by_two_at_once(world: World, before: IncidentRollback) -> None:
    first = world.reconciler
    world.start()
    turns = (one.turn(before, Memory(), Wake(asyncio.Event())) for one in (first, world.reconciler))
    ends = await asyncio.gather(*turns, return_exceptions=True)
    assert [type(end) for end in ends].count(ConflictError) == 1


TWICE = [
    pytest.param(by_one_process, id="W8 by one process"),
    pytest.param(by_another_one_later, id="W8 by another process that has not heard of it"),
    pytest.param(by_two_at_once, id="W8 by two processes at once"),
]


@pytest.mark.parametrize("handle", TWICE)
@in_fast_time
async def test_a_version_that_is_handled_twice_is_patched_for_once(
    handle: Callable[[World, IncidentRollback], Awaitable[None]],
) -> None:
    world = World()
    await handle(world, world.stored)
    await world.until_settled()
    assert len(world.cluster.restored) == 1
    assert world.end == "Succeeded RolledBack"


# --- the caps of an environment ---

ONE = Policy(stable_seconds=5, hold_seconds=20, max_concurrent=1)
ONE_AN_HOUR = Policy(stable_seconds=5, hold_seconds=20, max_per_hour=1)


def cap(world: World, policy: Policy) -> None:
    world.store.environments["production"] = an_environment(policy=policy)


def beside(phase: Phase = Phase.ROLLING_BACK, **changes: Any) -> IncidentRollback:
    """Return a rollback of another workload of the environment, patched a minute ago."""
    target = {"environment": "production", "namespace": "production", "name": "cart", "uid": "cart"}
    target |= changes.pop("target", {})
    known = {"claimed_at": ago(minutes=1), "patched_at": ago(minutes=1), **changes}
    status = a_status(phase, **known, target=TargetStatus.model_validate(target))
    return a_rollback(name="cart", uid="zzz", incident=None, status=status)


@in_fast_time
async def test_capped_it_waits_for_its_turn_is_told_once_and_goes_by_itself() -> None:
    world = HookedWorld()
    cap(world, ONE)
    world.store.put(beside())
    mine = world.store.rollbacks[KEY]
    assert outcome((await world.turn(mine)).move) == "Wait TooManyAtOnce"
    assert world.told == []  # It may be over in a moment.
    for _ in range(3):
        world.clock.advance(10)
        taken = await world.turn(world.store.rollbacks[KEY])
        assert outcome(taken.move) == "Wait TooManyAtOnce"
    assert len(world.told) == 1
    assert "production has 1 rollback (cart) before this one" in world.timeline.texts(INCIDENT)[0]
    world.store.put(beside(Phase.SUCCEEDED))
    assert outcome((await world.turn(world.store.rollbacks[KEY])).move) == "Claim 1"
    assert len(world.cluster.restored) == 1


@in_fast_time
async def test_capped_it_looks_for_other_claims_right_before_the_patch() -> None:
    """A claim of the same instant was stored first; ours says so when it goes after all."""
    world = HookedWorld()
    cap(world, ONE)
    world.hooked.before_environments = [lambda: None, lambda: None, put(world, beside())]
    taken = await world.turn()
    assert world.cluster.restored == []
    assert (world.store.rollbacks[KEY].status.phase, taken.after) == (Phase.ROLLING_BACK, 0.0)
    world.clock.advance(10)
    assert outcome((await world.turn(world.store.rollbacks[KEY])).move) == "Wait TooManyAtOnce"
    assert "nothing was changed so far" in world.timeline.texts(INCIDENT)[-1]
    assert ready_of(world.store.rollbacks[KEY]) == "TooManyAtOnce"
    world.store.put(beside(Phase.SUCCEEDED))
    said: list[str] = []
    world.hooked.before_environments = [
        lambda: None,
        lambda: said.append(ready_of(world.store.rollbacks[KEY])),
    ]
    assert outcome((await world.turn(world.store.rollbacks[KEY])).move) == "Restore 1"
    assert said == ["RollingBack"]  # Before it looks for the others, who count on what it says.
    assert len(world.cluster.restored) == 1


def put(world: World, rollback: IncidentRollback) -> Callable[[], None]:
    """Return what another process does: it stores a rollback."""

    def happens() -> None:
        world.store.put(rollback)

    return happens


def ready_of(rollback: IncidentRollback) -> str:
    ready = get(rollback.status.conditions, "Ready")
    return ready.reason if ready else ""


@in_fast_time
async def test_the_cap_is_read_again_right_before_the_patch() -> None:
    world = HookedWorld()
    world.store.put(beside())
    world.hooked.before_environments = [lambda: None, lambda: None, lambda: cap(world, ONE)]
    await world.turn(world.store.rollbacks[KEY])
    assert world.cluster.restored == []
    cap(world, QUICK)
    await world.turn(world.store.rollbacks[KEY])
    assert len(world.cluster.restored) == 1


THIS_HOUR = [
    pytest.param(beside(Phase.SUCCEEDED), "Wait TooManyThisHour", id="one that succeeded"),
    pytest.param(beside(Phase.FAILED), "Wait TooManyThisHour", id="one that failed"),
    pytest.param(beside(), "Wait TooManyThisHour", id="one that is under way"),
    pytest.param(beside(Phase.SUCCEEDED, patched_at=ago(minutes=61)), "Claim 1", id="an old one"),
    pytest.param(
        beside(Phase.SUCCEEDED, target={"environment": "staging"}), "Claim 1", id="of staging"
    ),
    pytest.param(
        beside(Phase.SUCCEEDED, target={"environment": ""}),
        "Wait TooManyThisHour",
        id="a targetRef of the namespace",
    ),
    pytest.param(
        beside(Phase.SUCCEEDED, target={"environment": "", "namespace": "shop"}),
        "Claim 1",
        id="a targetRef of another namespace",
    ),
    pytest.param(beside(Phase.REFUSED, patched_at=None), "Claim 1", id="one that was refused"),
]


@pytest.mark.parametrize(("other", "move"), THIS_HOUR)
@in_fast_time
async def test_what_ended_within_the_hour_is_found(other: IncidentRollback, move: str) -> None:
    world = World()
    cap(world, ONE_AN_HOUR)
    world.store.put(other)
    taken = await world.turn(world.store.rollbacks[KEY])
    assert outcome(taken.move) == move
    assert len(world.cluster.restored) == (move == "Claim 1")


@in_fast_time
async def test_for_a_target_ref_what_ended_in_its_namespace_is_found() -> None:
    world = World(a_rollback(target_ref={"name": "checkout"}, namespace="production"))
    cap(world, ONE_AN_HOUR)
    key = ("production", KEY[1])
    world.store.put(beside(Phase.SUCCEEDED, target={"environment": "production"}))
    assert outcome((await world.turn(world.store.rollbacks[key])).move) == "Wait TooManyThisHour"
    world.store.put(beside(Phase.SUCCEEDED, target={"namespace": "shop"}))
    assert outcome((await world.turn(world.store.rollbacks[key])).move) == "Claim 1"


@in_fast_time
async def test_one_that_ends_between_the_look_and_the_patch_counts_for_the_hour() -> None:
    world = HookedWorld()
    cap(world, ONE_AN_HOUR)
    world.hooked.before_environments = [
        lambda: None,
        lambda: None,
        put(world, beside(Phase.SUCCEEDED)),
    ]
    await world.turn()
    assert world.cluster.restored == []


LISTS = [
    pytest.param(QUICK, 3, id="no cap: nobody pays for it"),
    pytest.param(ONE, 3, id="at once: what has claimed is listed anyway"),
    pytest.param(ONE_AN_HOUR, 7, id="the hour: what has ended as well, for each look"),
]


@pytest.mark.parametrize(("policy", "times"), LISTS)
@in_fast_time
async def test_what_ended_is_listed_only_where_an_hour_is_bounded(
    policy: Policy, times: int
) -> None:
    world = World()
    cap(world, policy)
    await world.turn()
    assert len(world.cluster.restored) == 1
    assert world.store.calls.count("list") == times


CROWDS = [
    pytest.param((0.0,), 0.01, id="one process"),
    pytest.param((0.0,), 1.5, id="one process, on a slow API server"),
    pytest.param((0.0, 0.0), 0.02, id="two processes at once"),
    pytest.param((0.0, -3.0), 0.1, id="two processes whose clocks differ"),
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("ahead", "seconds"), CROWDS)
@in_fast_time
async def test_asked_for_all_at_once_no_more_than_allowed_are_under_way_and_all_go(
    ahead: tuple[float, ...], seconds: float, seed: int
) -> None:
    policy = Policy(max_concurrent=2, stable_seconds=3, hold_seconds=0, max_age_seconds=3600)
    crowd = Crowd(6, policy, seed=seed, seconds=seconds)
    await crowd.live(*ahead)
    assert len(crowd.ended(Phase.SUCCEEDED, "RolledBack")) == len(crowd.cluster.restored) == 6
    assert crowd.cluster.most <= 2


@pytest.mark.parametrize("seed", range(5))
@in_fast_time
async def test_asked_for_all_at_once_no_more_than_allowed_go_within_the_hour(seed: int) -> None:
    policy = Policy(max_per_hour=2, stable_seconds=3, hold_seconds=0, max_age_seconds=60)
    crowd = Crowd(6, policy, seed=seed)
    await crowd.live(0.0)
    assert len(crowd.ended(Phase.SUCCEEDED, "RolledBack")) == len(crowd.cluster.restored) == 2
    assert len(crowd.ended(Phase.REFUSED, "TooManyThisHour")) == 4


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
    world.store.failing = [ForbiddenError("may not list environments")] * 4
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
async def test_a_turn_says_who_wrote_the_template_last() -> None:
    world = World()
    assert (await world.turn()).writer == "kubectl-set"
    settled = claimed(Phase.FAILED, settled=True)
    assert (await World(settled).turn(settled)).writer == ""


@in_fast_time
async def test_the_patch_is_a_span_within_its_turn() -> None:
    Tracing.tracer = tracer = FakeTracer()
    world = HookedWorld(StaleReadError("bare 422"))
    await world.turn()
    await world.turn()
    Tracing.tracer = None
    stale, patched = tracer.named("patch")
    assert (stale.error, patched.error) == ("StaleReadError", "")


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


def ended(*keys: str, told: tuple[str, ...] = (), reported: str = "", held: str = "") -> Any:
    updates = tuple(
        an_update(key, delivered_at=after(seconds=1) if key in told else None) for key in keys
    )
    said = {"Reported": (reported, "Unreachable"), "Held": (held, "Held")}
    conditions = [
        {"type": kind, "status": status, "reason": reason}
        for kind, (status, reason) in said.items()
        if status
    ]
    status = a_status(Phase.SUCCEEDED, updates=updates)
    return type(status).model_validate({**status.model_dump(), "conditions": conditions})


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
    pytest.param(
        ended("end"), ended("end", held="True"), 1.9, False, id="that it has held may share a write"
    ),
    pytest.param(
        ended("end"), ended("end", held="True"), 2, True, id="that it has held, after a moment"
    ),
    pytest.param(
        ended("end", told=("end",)),
        ended("end", told=("end",), held="True"),
        0,
        True,
        id="that it has held, where all was told",
    ),
    pytest.param(ended("end"), ended("end", held="False"), 0, True, id="that it has not held"),
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
