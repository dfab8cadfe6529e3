"""
Many rollbacks at once, and processes that take turns for all of them, each call at its own pace.

Nothing is in step here: a call takes as long as chance will have it, the clocks of the processes
differ, and a turn that failed is repeated.  What is asked is how many are under way together.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from incident_rollback.controller.reconcile import Memory, Reconciler, Wake
from incident_rollback.crd.v1alpha1 import FINAL_PHASES, IncidentRollback, Phase, Policy
from incident_rollback.domain.workload import WorkloadRef
from incident_rollback.errors import ConflictError
from incident_rollback.ports import Cluster, Store, TemplatePatch
from tests.builders import HOME, NOW, a_rollback, a_workload, an_environment
from tests.fakes.cluster import FakeCluster
from tests.fakes.store import FakeStore
from tests.unit.controller.fast_time import elapsed


@dataclass(frozen=True)
class LoopClock:
    """Runs with the loop, from NOW on; `ahead` in seconds."""

    began: float
    ahead: float = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=elapsed() - self.began + self.ahead)


@dataclass
class CountingCluster(FakeCluster):
    """Notes at each patch how many are under way, from their patch to their stored end."""

    store: FakeStore = field(default_factory=FakeStore)
    most: int = 0

    async def restore_template(self, patch: TemplatePatch) -> datetime:
        at = await super().restore_template(patch)
        changed = {patch.marker.split()[0] for patch in self.restored}
        open_ = [r for r in self.store.rollbacks.values() if r.status.phase is Phase.ROLLING_BACK]
        self.most = max(self.most, sum(r.metadata.uid in changed for r in open_))
        return at


class Slow:
    """Passes every call on, late, and its answer too: each time by up to `seconds`."""

    def __init__(self, target: object, chance: random.Random, seconds: float) -> None:
        self._target, self._chance, self._seconds = target, chance, seconds

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        method = getattr(self._target, name)

        async def call(*args: Any, **more: Any) -> object:
            await asyncio.sleep(self._chance.uniform(0, self._seconds))
            answer: object = await method(*args, **more)
            await asyncio.sleep(self._chance.uniform(0, self._seconds))
            return answer

        return call


class Crowd:
    """So many bad deploys in one environment, and a rollback of each, all asked for together."""

    def __init__(self, size: int, policy: Policy, *, seed: int = 1, seconds: float = 0.1) -> None:
        self.chance, self.seconds = random.Random(seed), seconds  # noqa: S311  # chance, no secret
        self.began = elapsed()
        clock = LoopClock(self.began)
        self.store = FakeStore(clock=clock)
        self.cluster = CountingCluster(clock=clock, store=self.store)
        self.store.environments["production"] = an_environment(policy=policy)
        for number in range(size):
            name = f"shop-{number}"
            service = {"name": name, "environment": "production"}
            uid = f"uid-{number}"
            self.store.put(a_rollback(name=name, uid=uid, service=service, incident=None))
            ref = WorkloadRef("production", name)
            self.cluster.put(replace(a_workload(), ref=ref, uid=f"workload-{number}"))

    async def live(self, *ahead: float) -> None:
        """Have a process for each clock, so many seconds ahead, until every rollback has ended."""
        names = [name for _, name in self.store.rollbacks]
        processes = [self._process(seconds) for seconds in ahead]
        await asyncio.gather(*(self._life(p, name) for p in processes for name in names))

    def ended(self, phase: Phase, reason: str = "") -> list[str]:
        """Return the names of those that have ended so."""
        return [
            r.metadata.name
            for r in self.store.rollbacks.values()
            if r.status.phase is phase and reason in {"", reason_of(r)}
        ]

    def _process(self, ahead: float) -> Reconciler:
        return Reconciler(
            store=cast("Store", Slow(self.store, self.chance, self.seconds)),
            cluster=cast("Cluster", Slow(self.cluster, self.chance, self.seconds)),
            clock=LoopClock(self.began, ahead),
            timeline=None,
            outbox=None,
            home=HOME,
            process=f"process-{ahead}",
        )

    async def _life(self, process: Reconciler, name: str) -> None:
        """Take turns as the runner would."""
        memory, wake = Memory(), Wake(asyncio.Event())
        rollback = self.store.rollbacks[HOME, name]
        while rollback.status.phase not in FINAL_PHASES:
            try:
                taken = await process.turn(rollback, memory, wake)
            except ConflictError:
                rollback = self.store.rollbacks[HOME, name]
                continue
            rollback = taken.rollback or rollback
            await asyncio.sleep(max(0.05, taken.after))


def reason_of(rollback: IncidentRollback) -> str:
    return next((c.reason for c in rollback.status.conditions if c.type == "Ready"), "")
