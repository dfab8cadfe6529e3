"""
The controller as a whole: the watch, the safety list, the tasks, and whether it is ready.

Several may run at once: all watch and are ready, and the one that leads takes the turns and tells.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Final

from pydantic import ValidationError

from incident_rollback.controller.election import Alone, Leadership
from incident_rollback.controller.environments import EnvironmentCheck
from incident_rollback.controller.outbox import Outbox
from incident_rollback.controller.runner import Runner, version_of
from incident_rollback.controller.watch import UNSETTLED, Heard, Watch
from incident_rollback.crd.v1alpha1 import IncidentRollback
from incident_rollback.domain.lease import Standing
from incident_rollback.domain.raw import Json
from incident_rollback.errors import RollbackError
from incident_rollback.ports import Store
from incident_rollback.telemetry.metrics import ControllerMetrics

LIST_SECONDS: Final = (30.0, 60.0)
AGAIN_SECONDS: Final = (2.0, 4.0)
"""After a list that failed: that all is well again must not be found out a minute late."""
CHECK_SECONDS: Final = (8.0, 12.0)
SETTLE_SECONDS: Final = 2.0
"""How long the watch may be behind the list before it counts as stale."""
STALE_SECONDS: Final = 90.0
"""Without one good list for so long, the process is not ready."""

_log = logging.getLogger(__name__)


@dataclass
class Controller:
    """Feeds the runner from the watch and from the safety list, and begins and ends terms."""

    store: Store
    runner: Runner
    check: EnvironmentCheck
    metrics: ControllerMetrics
    leadership: Leadership = field(default_factory=Alone)
    make_outbox: Callable[[], Outbox] | None = None
    """Makes the outbox of another term; None: nothing is told."""
    make_watch: Callable[[Heard], Watch] = Watch
    monotonic: Callable[[], float] = monotonic
    _heard: dict[str, int] = field(default_factory=dict[str, int])
    """By uid: the newest resourceVersion that the watch has told."""
    _is_stale: bool = False
    """The watch has missed something, and told nothing since."""
    _listed_at: float | None = None
    _why_not_listed: str = ""
    """What was said of the last list; "" of one that was good."""
    _watch: Watch | None = None
    _is_leading: bool = False
    _on_duty: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run until cancelled."""
        self._watch = self.make_watch(self.hear)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.leadership.run(self._stand))
            group.create_task(self._watch.run(self._is_listable))
            group.create_task(self._list_for_ever())
            group.create_task(self._check_for_ever())

    async def close(self) -> None:
        """End every turn, then every telling, and only then let another lead."""
        await self.runner.close()
        if (outbox := self.runner.reconciler.outbox) is not None:
            await outbox.close()
        await self.leadership.release()

    def hear(self, kind: str, raw: Json) -> None:
        """Take in an event of the watch.  Leaving the selection reads as DELETED, too."""
        self._is_stale = False
        rollback = _parse(raw)
        if rollback is None:
            return
        uid = rollback.metadata.uid
        self._heard[uid] = version_of(rollback)  # Of a deletion, too: it may be on a list.
        if kind == "DELETED" and not rollback.status.settled:
            self.runner.remove(uid)
            return
        self.runner.offer(rollback)

    def why_not_ready(self) -> str:
        """Say why the controller should not be relied on; "" when it can be."""
        if self._listed_at is None:
            return "the IncidentRollbacks could not be listed yet"
        if self.monotonic() - self._listed_at > STALE_SECONDS:
            return f"no list of the IncidentRollbacks for {STALE_SECONDS:g} s"
        if self._watch is None or not self._watch.is_alive:
            return "the watch is not running"
        if self._is_stale:
            return "the watch has missed something, and told nothing since it was started again"
        return ""

    def list_age(self) -> float:
        """Return the seconds since the last good list; infinite before the first."""
        return inf if self._listed_at is None else self.monotonic() - self._listed_at

    def watch_age(self) -> float:
        """Return for how many seconds the watch has been running; 0 while it is not."""
        return self._watch.age_seconds if self._watch is not None else 0.0

    async def _stand(self, standing: Standing) -> None:
        """Take note of how we stand now: nothing of an old term is told any more."""
        if self._is_leading and standing is not Standing.LEADS:
            await self._end_term()
        self._is_leading = standing is Standing.LEADS
        if standing is Standing.STANDS_BY:
            self._on_duty.clear()
        else:
            self._on_duty.set()
        self.runner.rouse()

    async def _end_term(self) -> None:
        """Decide under another name from now on: what had the old one may have been told."""
        reconciler = self.runner.reconciler
        if reconciler.outbox is None or self.make_outbox is None:
            return
        ended, reconciler.outbox = reconciler.outbox, self.make_outbox()
        reconciler.process = reconciler.outbox.process_id
        await ended.close()

    async def _is_listable(self) -> bool:
        """List once, and take in what is there: the first turns need not wait for the watch."""
        return await self._list() is not None

    async def _list_for_ever(self) -> None:
        pause = LIST_SECONDS
        while True:
            await asyncio.sleep(random.uniform(*pause))  # noqa: S311  # spreads the load
            listed = await self._list()
            pause = LIST_SECONDS if listed is not None else AGAIN_SECONDS
            if listed is None:
                continue
            try:
                await self._prune(listed)
                await self._compare(listed)
            except RollbackError as error:
                _log.warning("the list was not compared with what is known: %s", error)

    async def _list(self) -> Sequence[IncidentRollback] | None:
        try:
            listed = await self.store.list_rollbacks(fields=UNSETTLED)
        except RollbackError as error:
            is_news = str(error) != self._why_not_listed
            level = logging.WARNING if is_news else logging.DEBUG
            _log.log(level, "the IncidentRollbacks cannot be listed: %s", error)
            self._why_not_listed = str(error)
            return None
        self._listed_at, self._why_not_listed = self.monotonic(), ""
        for rollback in listed:
            self.runner.offer(rollback)
        return listed

    async def _prune(self, listed: Sequence[IncidentRollback]) -> None:
        """A relist of the watch does not tell what was deleted meanwhile: look, then forget."""
        present = {rollback.metadata.uid for rollback in listed}
        for uid, namespace, name in self.runner.names():
            if uid in present:
                continue
            found = await self.store.get(namespace, name)
            if found is None or found.metadata.uid != uid:
                self.runner.remove(uid)
            else:
                self.runner.offer(found)
        present |= self.runner.known()  # What came during the list is not on it.
        self._heard = {uid: version for uid, version in self._heard.items() if uid in present}

    async def _compare(self, listed: Sequence[IncidentRollback]) -> None:
        """What the list shows and the watch did not tell: the watch is stale, start it again."""
        await asyncio.sleep(SETTLE_SECONDS)
        missed = [
            rollback.metadata.name
            for rollback in listed
            if self._heard.get(rollback.metadata.uid, 0) < version_of(rollback)
        ]
        self._is_stale = bool(missed)
        if missed and self._watch is not None:
            self.metrics.watch_missed.inc(len(missed))
            _log.warning("the watch did not tell of %s: starting it again", ", ".join(missed[:5]))
            self._watch.restart()

    async def _check_for_ever(self) -> None:
        while True:
            await self._on_duty.wait()
            try:
                await self.check.run_once()
            except RollbackError as error:
                _log.warning("the RollbackEnvironments were not checked: %s", error)
            await asyncio.sleep(random.uniform(*CHECK_SECONDS))  # noqa: S311  # spreads the load


def _parse(raw: Json) -> IncidentRollback | None:
    try:
        return IncidentRollback.model_validate(raw)
    except ValidationError as error:
        _log.warning("an IncidentRollback cannot be read: %s", error)
        return None
