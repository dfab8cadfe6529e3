"""A reconciler that does as scripted, for those who run one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from incident_rollback.controller.outbox import Outbox
from incident_rollback.controller.reconcile import Memory, Reconciler, Turn, Wake
from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase
from incident_rollback.domain.moves import Wait
from tests.builders import a_rollback, a_status
from tests.unit.controller.fast_time import elapsed

WAIT = Wait("Paused", "paused", "resume it")
LONG = 1000.0


def version(number: int, *, uid: str = "uid-1", settled: bool = False) -> IncidentRollback:
    status = a_status(Phase.SUCCEEDED if settled else Phase.PENDING, settled=settled)
    return a_rollback(uid=uid, name=f"name-of-{uid}", version=number, status=status)


async def a_moment() -> None:
    await asyncio.sleep(0)


@dataclass
class ScriptedReconciler:
    """Takes turns as scripted, the same one for ever at the end; notes what it was given."""

    script: list[Callable[[IncidentRollback], Turn]]
    given: list[IncidentRollback] = field(default_factory=list[IncidentRollback])
    at: list[float] = field(default_factory=list[float])
    memories: list[Memory] = field(default_factory=list[Memory])
    wakes: list[Wake] = field(default_factory=list[Wake])
    farewells: list[IncidentRollback] = field(default_factory=list[IncidentRollback])
    farewell_fails: Exception | None = None
    meanwhile: Callable[[], Awaitable[None]] = a_moment
    """What a turn waits for."""
    outbox: Outbox | None = None
    process: str = "process-0"

    def as_one(self) -> Reconciler:
        """For those who take nothing else: it has what they use of one."""
        return cast("Reconciler", self)

    async def turn(self, rollback: IncidentRollback, memory: Memory, wake: Wake) -> Turn:
        self.given.append(rollback)
        self.at.append(elapsed())
        self.memories.append(memory)
        self.wakes.append(wake)
        await self.meanwhile()
        step = self.script[0] if len(self.script) == 1 else self.script.pop(0)
        return step(rollback)

    async def farewell(self, rollback: IncidentRollback) -> None:
        self.farewells.append(rollback)
        if self.farewell_fails is not None:
            raise self.farewell_fails


def stays(pause: float = LONG) -> Callable[[IncidentRollback], Turn]:
    return lambda rollback: Turn(rollback, WAIT, pause)


def becomes(stored: IncidentRollback | None, pause: float = LONG) -> Callable[[Any], Turn]:
    return lambda _: Turn(stored, WAIT, pause)


def fails(error: Exception) -> Callable[[IncidentRollback], Turn]:
    def fail(_: IncidentRollback) -> Turn:
        raise error

    return fail
