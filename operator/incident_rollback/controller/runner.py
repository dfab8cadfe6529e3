"""
One task for each unsettled rollback: wake, take a turn, wait.

The runner keeps the newest version of each resource that it has heard of, from the watch, from
the safety list and from the answers to its own writes.  What is not newer wakes nobody.

Of several controllers one is on duty and takes all turns.  The others stand by, and take up what
nobody has looked at for a second: whoever is on duty may be dead, and the Lease not know it yet.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Final

from incident_rollback.controller.reconcile import Memory, Reconciler, Turn, Wake
from incident_rollback.crd.v1alpha1 import FINAL_PHASES, IncidentRollback
from incident_rollback.domain.trace import trace_of
from incident_rollback.errors import ConflictError, RollbackError, ThrottledError, TransientError
from incident_rollback.ports import Store
from incident_rollback.telemetry.traces import follow, span

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 2.0
STUCK_PAUSE_SECONDS: Final = 15.0
"""After a fault that no retry is known to mend."""
RESULTS_SECONDS: Final = 0.25
"""For so long what the outbox has told waits for more of it, to share a turn and a write."""
UNCLAIMED_SECONDS: Final = (1.0, 1.25)
"""How long whoever stands by leaves a new resource to others; several must not come at once."""

Observe = Callable[[IncidentRollback, Turn, float], None]
"""Is told of each turn and of its length in seconds."""

_log = logging.getLogger(__name__)


@dataclass
class _Life:
    """What the runner has on one resource."""

    latest: IncidentRollback
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    memory: Memory = field(default_factory=Memory)
    taken: int = 0
    """The version that the last turn took in, or wrote."""
    failures: int = 0
    conflicts: int = 0
    is_deleted: bool = False
    is_roused: bool = False
    """Who is on duty has changed since the last turn."""
    is_taken_up: bool = False
    """We are not on duty, and take turns all the same: nobody else did."""
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.wake = Wake(self.nudge)
        self.left_until = _now() + random.uniform(*UNCLAIMED_SECONDS)  # noqa: S311  # spreads

    def take_in(self, rollback: IncidentRollback) -> None:
        """Go on from what is stored, unless something newer came in."""
        self.taken = max(self.taken, version_of(rollback))
        if version_of(rollback) > version_of(self.latest):
            self.latest = rollback

    def take_up(self) -> bool:
        """
        Say whether to take turns without being on duty, and go on with it.

        Until somebody else writes it: then whoever is on duty is at work.  A version that comes
        after a failed turn may well be our own write, whose answer was lost.
        """
        if self.is_taken_up:
            self.is_taken_up = version_of(self.latest) <= self.taken or self.failures > 0
        elif _is_untouched(self.latest) and _now() >= self.left_until:
            self.is_taken_up = True
            _log.warning("nobody has taken it up, so we do", extra=_labels(self.latest))
        return self.is_taken_up

    async def stand_by(self) -> None:
        """Wait for news of it or of who is on duty, or until it was left for too long."""
        self.memory = Memory()  # What others see and write meanwhile is not in it.
        left = self.left_until - _now() if _is_untouched(self.latest) else None
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self.nudge.wait()


def _always() -> bool:
    return True


@dataclass
class Runner:
    """Runs the tasks.  All methods are for the loop that it lives in."""

    reconciler: Reconciler
    store: Store
    observe: Observe
    is_on_duty: Callable[[], bool] = _always
    """Whether this process takes all turns; it calls `rouse` when that changes."""
    _lives: dict[str, _Life] = field(default_factory=dict[str, _Life])
    _farewells: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    is_closed: bool = False

    def offer(self, rollback: IncidentRollback) -> bool:
        """Take in a version of a resource; say whether it was news."""
        uid = rollback.metadata.uid
        life = self._lives.get(uid)
        if self.is_closed or (life is None and rollback.status.settled):
            return False
        if life is None:
            life = self._lives[uid] = _Life(rollback)
            life.task = asyncio.create_task(self._run(life), name=f"rollback {uid}")
            return True
        if version_of(rollback) <= version_of(life.latest):
            return False
        life.latest = rollback
        life.nudge.set()
        return True

    def remove(self, uid: str) -> None:
        """A resource is gone: end its task, and say goodbye where its patch is in."""
        life = self._lives.pop(uid, None)
        if life is None:
            return
        life.is_deleted = True
        life.nudge.set()
        if life.task is not None:
            life.task.cancel()
        if self.is_on_duty() or life.is_taken_up:
            self._part_from(life)

    def rouse(self) -> None:
        """Who is on duty has changed: let each task see whether it has a turn now."""
        for life in self._lives.values():
            life.is_roused = True
            life.nudge.set()

    def _part_from(self, life: _Life) -> None:
        if not self.is_closed:
            task = asyncio.create_task(
                self._say_goodbye(life), name=f"goodbye {life.latest.metadata.uid}"
            )
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)

    def known(self) -> frozenset[str]:
        """Return the uids of the resources that have a task."""
        return frozenset(self._lives)

    def names(self) -> Iterable[tuple[str, str, str]]:
        """Return uid, namespace and name of the resources that have a task."""
        return [
            (uid, life.latest.metadata.namespace, life.latest.metadata.name)
            for uid, life in self._lives.items()
        ]

    def unfinished(self) -> Iterable[IncidentRollback]:
        """Return the newest versions of those that have a task and no final phase."""
        latest = (life.latest for life in self._lives.values())
        return [rollback for rollback in latest if rollback.status.phase not in FINAL_PHASES]

    async def close(self) -> None:
        """End every task at once: each may be killed at any line."""
        self.is_closed = True
        tasks = [life.task for life in self._lives.values() if life.task is not None]
        for task in (*tasks, *self._farewells):
            task.cancel()
        await asyncio.gather(*tasks, *self._farewells, return_exceptions=True)
        self._lives.clear()

    async def _run(self, life: _Life) -> None:
        """Take turns until the rollback is settled or gone; a failing turn is repeated, later."""
        follow(trace_of(life.latest))
        while not life.latest.status.settled and not life.is_deleted:
            life.nudge.clear()  # Before the turn: what comes during it is not lost.
            life.is_roused = False
            if not self._is_ours(life):
                await life.stand_by()
                continue
            life.wake.has_results = False
            life.taken = version_of(life.latest)
            pause = await self._turn(life)
            if pause is None:  # A write was told before the watch was: it is gone.
                self._part_from(life)
                break
            await self._wait(life, pause)
        self._lives.pop(life.latest.metadata.uid, None)

    def _is_ours(self, life: _Life) -> bool:
        """Say whether to take the next turn of it."""
        if self.is_on_duty():
            life.is_taken_up = False
            return True
        return life.take_up()

    async def _turn(self, life: _Life) -> float | None:
        """Take one turn; return the pause after it in seconds, None when the resource is gone."""
        before = life.latest
        try:
            return await self._take(life)
        except TransientError as error:
            return self._later(life, error)
        except RollbackError as error:
            _log.error("a turn failed: %s", error, extra=_labels(before))
            return STUCK_PAUSE_SECONDS
        except Exception:  # noqa: BLE001  # the outermost edge: one rollback must not end the others
            _log.exception("a turn failed unexpectedly", extra=_labels(before))
            return STUCK_PAUSE_SECONDS

    async def _take(self, life: _Life) -> float | None:
        before, began = life.latest, perf_counter()
        try:
            with span("turn", **_labels(before)) as made:
                turn = await self.reconciler.turn(before, life.memory, life.wake)
                after = turn.rollback or before
                made.note(move=type(turn.move).__name__, phase=after.status.phase)
        except ConflictError:
            return await self._read_again(life)
        life.failures = life.conflicts = 0
        self.observe(before, turn, perf_counter() - began)
        if turn.rollback is None:
            return None
        life.take_in(turn.rollback)
        return turn.after

    async def _read_again(self, life: _Life) -> float | None:
        """Somebody wrote it since: go on from what is stored now."""
        metadata = life.latest.metadata
        found = await self.store.get(metadata.namespace, metadata.name)
        if found is None or found.metadata.uid != metadata.uid:
            return None
        # Whatever its version: after a restored backup of etcd they go on from a lower one.
        life.latest, life.taken = found, version_of(found)
        life.conflicts += 1
        life.is_taken_up &= life.failures > 0  # Else it was not our own write.
        pause = min(LONGEST_PAUSE_SECONDS, 0.05 * float(2 ** min(life.conflicts, 8)))
        return pause * random.uniform(0.0, 1.0)  # noqa: S311  # spreads two controllers

    def _later(self, life: _Life, error: TransientError) -> float:
        life.failures += 1
        asked = error.retry_after if isinstance(error, ThrottledError) else 0.0
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2 ** min(life.failures, 8)))
        _log.warning(
            "a turn is repeated: %s", error, extra={**_labels(life.latest), "tries": life.failures}
        )
        return max(asked, pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads the load

    async def _wait(self, life: _Life, pause: float) -> None:
        """Wait until the pause is over or something newer came in; results shorten it."""
        until = monotonic() + pause
        while (left := until - monotonic()) > 0:
            if version_of(life.latest) > life.taken or life.is_roused or life.is_deleted:
                return
            if life.wake.has_results:
                life.wake.has_results = False
                until = min(until, monotonic() + RESULTS_SECONDS)
                continue
            try:
                async with asyncio.timeout(left):
                    await life.nudge.wait()
            except TimeoutError:
                return
            life.nudge.clear()

    async def _say_goodbye(self, life: _Life) -> None:
        follow(trace_of(life.latest))
        if life.task is not None and life.is_deleted:  # Its patch may be under way.
            await asyncio.gather(life.task, return_exceptions=True)
        try:
            await self.reconciler.farewell(life.latest)
        except RollbackError as error:
            _log.warning("a last word failed: %s", error, extra=_labels(life.latest))


def _now() -> float:
    """Return the time of the loop, which is monotonic, in seconds."""
    return asyncio.get_running_loop().time()


def _is_untouched(rollback: IncidentRollback) -> bool:
    """Say whether no controller has ever written it."""
    return rollback.status.observed_generation < 0


def version_of(rollback: IncidentRollback) -> int:
    """Return the resourceVersion as the integer that it is on every supported server."""
    version = rollback.metadata.resource_version
    return int(version) if version.isdigit() else 0


def _labels(rollback: IncidentRollback) -> dict[str, str]:
    incident = rollback.spec.incident
    return {
        "rollback": f"{rollback.metadata.namespace}/{rollback.metadata.name}",
        "incident": incident.id if incident else "",
    }
