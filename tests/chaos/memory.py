"""
The world in memory, and whole controllers in it that may die at any of their effects.

A controller is made of the real parts: elector, runner, turns, outbox.  Only what they reach out to
is a fake, and waiting takes no time.  What dies takes its memory with it; the world stays.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Final, cast

from incident_rollback.controller.controller import Controller
from incident_rollback.controller.election import Elector
from incident_rollback.controller.environments import EnvironmentCheck
from incident_rollback.controller.limiter import Limiter
from incident_rollback.controller.outbox import Outbox
from incident_rollback.controller.reconcile import Memory, Reconciler, Turn, Wake
from incident_rollback.controller.runner import Runner
from incident_rollback.controller.watch import Heard, Watch
from incident_rollback.crd.v1alpha1 import IncidentRollback, Policy, Update
from incident_rollback.domain.conditions import reason_of
from incident_rollback.domain.lease import Standing
from incident_rollback.domain.names import intent_of
from incident_rollback.domain.template import images_of
from incident_rollback.domain.workload import Workload
from incident_rollback.errors import ForbiddenError
from incident_rollback.ports import Cluster, Leases, Store, TemplatePatch, Timeline
from incident_rollback.telemetry.metrics import ControllerMetrics
from tests.builders import HOME, REF, a_rollback, an_environment
from tests.chaos import checker
from tests.chaos.fate import Death, Fate, by_method, of_event, of_lease, of_status
from tests.fakes.cluster import FakeCluster
from tests.fakes.leases import FakeLeases
from tests.fakes.store import FakeStore
from tests.fakes.timeline import FakeTimeline
from tests.unit.controller.crowd import LoopClock
from tests.unit.controller.fast_time import elapsed

INCIDENT: Final = "incident-1"
QUICK: Final = Policy(stable_seconds=5, hold_seconds=20)
LONG_SECONDS: Final = 900.0
"""Longer than any story takes, with two looks of a minute for each of its updates."""
LOOK_SECONDS: Final = 1.0


@dataclass
class WatchedStore(FakeStore):
    """Tells everybody who watches of each write, and remembers them in order."""

    heard: list[Heard] = field(default_factory=list[Heard])
    journal: list[checker.Step | checker.Patch] = field(
        default_factory=list[checker.Step | checker.Patch]
    )

    async def save(self, rollback: IncidentRollback) -> IncidentRollback | None:
        before = self.version
        saved = await super().save(rollback)
        if saved is not None and self.version > before:
            step = checker.Step(len(self.journal), saved.metadata.uid, saved.status.phase)
            self.journal.append(step)
            for heard in self.heard:
                asyncio.get_running_loop().call_soon(heard, "MODIFIED", raw(saved))
        return saved


@dataclass
class WitnessedCluster(FakeCluster):
    """Puts each patch into the journal, in the order of all writes; or forbids it."""

    forbids: bool = False
    journal: list[checker.Step | checker.Patch] = field(
        default_factory=list[checker.Step | checker.Patch]
    )

    async def restore_template(self, patch: TemplatePatch) -> datetime:
        if self.forbids:
            raise ForbiddenError("may not patch deployments")
        before = self.workloads.get(patch.ref)
        at = await super().restore_template(patch)
        uid, intent, _ = patch.marker.split()
        after = self.workloads[patch.ref]
        self.journal.append(
            checker.Patch(
                len(self.journal),
                uid,
                intent,
                f"{patch.ref.namespace}/{patch.ref.name}",
                images_of(patch.template),
                is_effective=before is None or before.key != after.key,
            )
        )
        return at


@dataclass(frozen=True)
class Outcome:
    """What has come of a story: the same, wherever somebody died in it."""

    end: str
    """Phase and reason."""
    patches: int
    told: tuple[str, ...]
    """The keys of what the incident was told, but for progress, which the end may overtake."""
    events: frozenset[tuple[str, str, str]]
    """Kind of the object, key and reason of each Kubernetes Event."""
    live: tuple[str, ...]
    """The images of the workload's template."""


class LoopedWatch:
    """Hears what the store tells, for as long as it runs."""

    def __init__(self, store: WatchedStore, heard: Heard) -> None:
        self._store, self._heard = store, heard
        self.is_alive, self.age_seconds = False, 0.0

    async def run(self, is_listable: Callable[[], Awaitable[bool]]) -> None:
        self.is_alive = await is_listable()
        self._store.heard.append(self._heard)
        for rollback in self._store.rollbacks.values():
            self._heard("LISTED", raw(rollback))
        await asyncio.Event().wait()

    def restart(self) -> None:
        raise AssertionError("nothing is missed here")


class InLoopTime(Reconciler):
    """Takes the age of its last write by the loop's time, in which minutes take no time."""

    _of: Memory | None = None
    _ahead = 0.0

    async def turn(self, rollback: IncidentRollback, memory: Memory, wake: Wake) -> Turn:
        ahead = elapsed() - monotonic()
        if memory is self._of:
            memory.written_at -= ahead - self._ahead
        self._of, self._ahead = memory, ahead
        return await super().turn(rollback, memory, wake)


class Process:
    """One controller, with a fate."""

    def __init__(self, world: "World", name: str, fate: Fate) -> None:
        self.fate = fate
        self._world, self._limiter = world, Limiter(monotonic=elapsed)
        store = cast("Store", fate.over(world.store, of_status(world.store)))
        cluster = cast("Cluster", fate.over(world.cluster, of_event))
        leases = cast("Leases", fate.over(world.leases, of_lease(world.leases)))
        self._timeline = cast("Timeline", fate.over(world.timeline, by_method))
        self.elector = Elector(
            leases, name, now=world.clock.now, monotonic=elapsed, between=lambda _, high: high
        )
        outbox = self._make_outbox()
        reconciler = InLoopTime(
            store=store,
            cluster=cluster,
            clock=world.clock,
            timeline=self._timeline,
            outbox=outbox,
            home=HOME,
            process=outbox.process_id,
        )
        runner = Runner(reconciler, store, _unseen, lambda: self.elector.standing().takes_turns)
        self.controller = Controller(
            store,
            runner,
            EnvironmentCheck(store, cluster, world.clock),
            ControllerMetrics(),
            leadership=self.elector,
            make_outbox=self._make_outbox,
            make_watch=lambda heard: cast("Watch", LoopedWatch(world.store, heard)),
            monotonic=elapsed,
        )
        self._life = asyncio.create_task(self.controller.run())

    def _make_outbox(self) -> Outbox:
        return Outbox(
            self._timeline,
            limiter=self._limiter,
            now=self._world.clock.now,
            may_tell=lambda: self.elector.standing() is Standing.LEADS,
            is_sole=True,
        )

    @property
    def effects(self) -> list[str]:
        """What it has done, the last one if it lived to do it."""
        return self.fate.effects

    @property
    def is_dead(self) -> bool:
        return self.fate.has_struck.is_set()

    @property
    def leads(self) -> bool:
        return self.elector.standing() is Standing.LEADS

    async def stop(self) -> None:
        """End it as SIGTERM does; it may die on the way."""
        await self.bury()
        closing = asyncio.create_task(self.controller.close())
        dying = asyncio.create_task(self.fate.has_struck.wait())
        await asyncio.wait({closing, dying}, return_when=asyncio.FIRST_COMPLETED)
        for task in (closing, dying):
            task.cancel()
        await asyncio.gather(closing, dying, return_exceptions=True)

    async def bury(self) -> None:
        """Have nothing of it begin any more; what it was about to do never returns."""
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)


@dataclass(frozen=True)
class Story:
    """What is asked for, of which workload, what happens around it, and how it ends."""

    end: str
    """Phase and reason."""
    workload: Workload
    asked: IncidentRollback = field(default_factory=a_rollback)
    rolls_out: bool = True
    """All pods are ready with the patch; otherwise it is for what happens to say."""
    forbids: bool = False
    """Nobody may patch, until what happens allows it."""
    happens: Callable[["World"], Awaitable[None]] | None = None


class World:
    """A cluster with one bad deploy, a request, an incident, and a Lease."""

    first: Process
    """Who is there from the beginning."""

    def __init__(self, story: Story) -> None:
        self.clock = LoopClock(elapsed())
        self.journal: list[checker.Step | checker.Patch] = []
        self.store = WatchedStore(clock=self.clock, version=100, journal=self.journal)
        self.cluster = WitnessedCluster(
            clock=self.clock,
            rolls_out=story.rolls_out,
            journal=self.journal,
            forbids=story.forbids,
        )
        self.timeline = FakeTimeline(self.clock.now)
        self.leases = FakeLeases()
        self.timeline.declare(INCIDENT)
        self.store.environments["production"] = an_environment(policy=QUICK)
        self.store.put(story.asked)
        self.cluster.put(story.workload)
        if story.happens is not None:
            self._nature = asyncio.ensure_future(story.happens(self))

    @property
    def stored(self) -> IncidentRollback:
        (rollback,) = self.store.rollbacks.values()
        return rollback

    def change(self, happens: Callable[[Workload], Workload]) -> None:
        """Have something happen to the workload."""
        self.cluster.put(happens(self.cluster.workloads[REF]))

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so.  Fails when it takes longer than anything may take."""
        began = elapsed()
        while not is_so():
            assert elapsed() - began < LONG_SECONDS, self.stored.status
            await asyncio.sleep(LOOK_SECONDS)

    def outcome(self) -> Outcome:
        """Return what has come of it all."""
        status = self.stored.status
        return Outcome(
            end=f"{status.phase} {reason_of(status.conditions)}",
            patches=len(self.cluster.restored),
            told=tuple(u.key for u in status.updates if u.delivered_at and u.kind != "Message"),
            events=frozenset((e.kind, e.key, e.reason) for e in self.cluster.events),
            live=self.cluster.workloads[REF].images,
        )

    def record(self) -> checker.Record:
        """Return what the fakes have seen, for the checker."""
        return checker.Record(
            rollbacks=[rollback_of(self.stored)],
            steps=[one for one in self.journal if isinstance(one, checker.Step)],
            patches=[one for one in self.journal if isinstance(one, checker.Patch)],
            copies=list(self._copies()),
            related=frozenset(
                (incident, self.timeline.changes[change].external_id)
                for incident, change in self.timeline.relations
            ),
            answers=[checker.Answer(202, (self.stored.metadata.name,))],
        )

    def _copies(self) -> Iterator[checker.Copy]:
        """
        Go through what FireHydrant has, in its order.

        Who posted it is left open: what was told twice in here is excused by nothing.
        """
        for at, one in enumerate(self.timeline.entries):
            kind: checker.Kind = "Note" if one.kind == "note" else "Message"
            yield checker.Copy(one.incident_id, kind, one.text, "", at, at)
        for at, change in enumerate(self.timeline.changes.values()):
            yield checker.Copy(checker.CATALOG, "ChangeEvent", change.external_id, "", at, at)


async def live(story: Story, death: Death | None = None, *, has_standby: bool = False) -> World:
    """
    Play a story with a controller that dies as fate will have it, and with one that goes on.

    That one stands by from the beginning, or is started when the first is dead.  Both are stopped
    in the end as people stop them.
    """
    world = World(story)
    world.first = first = Process(world, "first", Fate(death))
    standby = None
    if has_standby:
        await world.until(lambda: first.leads or first.is_dead)
        standby = Process(world, "second", Fate())
    await world.until(lambda: world.stored.status.settled or first.is_dead)
    if not first.is_dead:
        await first.stop()
    if first.is_dead:
        await first.bury()
        standby = standby or Process(world, "second", Fate())
    if standby is not None:
        await world.until(lambda: world.stored.status.settled and standby.leads)
        await standby.stop()
    return world


def rollback_of(rollback: IncidentRollback) -> checker.Rollback:
    """Return a resource as the checker knows it."""
    metadata, status = rollback.metadata, rollback.status
    target, incident = status.target, rollback.spec.incident
    return checker.Rollback(
        name=metadata.name,
        uid=metadata.uid,
        intent=intent_of(rollback),
        incident=incident.id if incident is not None else "",
        phase=status.phase,
        reason=reason_of(status.conditions),
        is_settled=status.settled,
        workload=f"{target.namespace}/{target.name}" if target is not None else "",
        images=status.to.images if status.to is not None else (),
        updates=tuple(telling_of(update) for update in status.updates),
    )


def telling_of(update: Update) -> checker.Telling:
    is_delivered = update.delivered_at is not None
    return checker.Telling(update.key, update.kind, update.text, update.gave_up, is_delivered)


def _unseen(_: IncidentRollback, __: Turn, ___: float) -> None:
    pass


def raw(rollback: IncidentRollback) -> dict[str, Any]:
    return rollback.model_dump(mode="json", by_alias=True, exclude_none=True)
