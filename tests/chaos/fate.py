"""
Every effect of a process on the world, counted, and a death before or after one of them.

A port's method is an effect unless it is known to read: a new one is one by itself.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from incident_rollback.crd.v1alpha1 import FINAL_PHASES, IncidentRollback, Phase
from incident_rollback.domain.conditions import get
from tests.fakes.leases import FakeLeases
from tests.fakes.store import FakeStore

READS: Final = frozenset(
    {
        *("get", "list_rollbacks", "list_environments", "get_environment"),  # Store
        *("labelled_workloads", "read_workload", "is_still", "read_application"),  # Cluster
        *("try_template", "read_referents", "read_warnings", "read_nodes", "may"),
        *("read_incident", "find", "find_change"),  # Timeline
        "read",  # Leases
    }
)
"""The methods of our ports that change nothing."""

NAMES: Final = {
    "restore_template": "the patch",
    "save_environment": "the status of the environment",
    "post_note": "a note",
    "post_message": "the message",
    "edit_message": "an edit of the message",
    "post_change": "the change event",
    "relate_change": "its relation",
}

Name = Callable[[str, tuple[Any, ...]], str]


@dataclass(frozen=True)
class Death:
    """When a process dies: before or after an effect of this name, the first or a later one."""

    effect: str
    number: int
    """From 1."""
    is_after: bool

    def __str__(self) -> str:
        return f"{self.effect}, number {self.number}"


@dataclass
class Fate:
    """Counts what a process does, and ends it where that is meant to be."""

    death: Death | None = None
    effects: list[str] = field(default_factory=list[str])
    """What it did or, of the last one if it died before it, was about to do."""
    methods: set[str] = field(default_factory=set[str])
    """By which it did that."""
    has_struck: asyncio.Event = field(default_factory=asyncio.Event)

    def over(self, port: object, name: Name) -> Any:
        """Return the port as the process sees it; `name` says in words what an effect is."""
        return _Fated(port, self, name)

    async def call(self, method: Callable[..., Awaitable[object]], what: str) -> Any:
        """Pass a call on; `what` is empty for one that only reads."""
        await self._if_dead()
        if not what:
            return await method()
        self.effects.append(what)
        number = self.effects.count(what)
        if self.death == Death(what, number, is_after=False):
            await self._die()
        try:
            return await method()
        finally:  # That it was refused is not heard either.
            if self.death == Death(what, number, is_after=True):
                await self._die()

    def deaths(self, *, is_after: bool) -> Iterator[Death]:
        """Return a death for each effect that there was."""
        for effect, count in Counter(self.effects).items():
            for number in range(1, count + 1):
                yield Death(effect, number, is_after)

    async def _die(self) -> None:
        self.has_struck.set()
        await self._if_dead()

    async def _if_dead(self) -> None:
        """Nothing that a dead process calls ever returns."""
        if self.has_struck.is_set():
            await asyncio.Event().wait()


class _Fated:
    """Passes every call on, unless fate is against it."""

    def __init__(self, port: object, fate: Fate, name: Name) -> None:
        self._port, self._fate, self._name = port, fate, name

    def __getattr__(self, method: str) -> Callable[..., Awaitable[object]]:
        found = getattr(self._port, method)

        async def call(*args: Any, **more: Any) -> object:
            if method in READS:
                what = ""
            else:
                what = self._name(method, args)
                self._fate.methods.add(method)
            return await self._fate.call(lambda: found(*args, **more), what)

        return call


def by_method(method: str, _: tuple[Any, ...]) -> str:
    return NAMES.get(method, method)


def of_status(store: FakeStore) -> Name:
    """Name a status write after what it changes of what is stored."""

    def name(method: str, args: tuple[Any, ...]) -> str:
        if method != "save":
            return by_method(method, args)
        after: IncidentRollback = args[0]
        return f"the status: {_news(store.rollbacks[key_of(after)], after)}"

    return name


def key_of(rollback: IncidentRollback) -> tuple[str, str]:
    return rollback.metadata.namespace, rollback.metadata.name


def _news(before: IncidentRollback, after: IncidentRollback) -> str:
    old, new = before.status, after.status
    if new.settled != old.settled:
        return "settled"
    if new.phase is not old.phase:
        return "ended" if new.phase in FINAL_PHASES else "claimed"
    if get(new.conditions, "Held") is not None and get(old.conditions, "Held") is None:
        return "held"
    if new.phase is Phase.PENDING:
        return "waiting"
    if new.patched_at != old.patched_at or new.healthy_since != old.healthy_since:
        return "watched"
    return "told" if new.updates != old.updates else "on its way"


def of_event(method: str, args: tuple[Any, ...]) -> str:
    if method != "post_event":
        return by_method(method, args)
    return f"an Event on the {args[0].kind}: {args[0].reason}"


def of_lease(leases: FakeLeases) -> Name:
    """Name a write of the Lease after what it does to the one that is there."""

    def name(_: str, args: tuple[Any, ...]) -> str:
        (lease,) = args
        if leases.lease is None:
            return "the Lease: made"
        if not lease.holder:
            return "the Lease: let go of"
        return "the Lease: " + ("renewed" if lease.holder == leases.lease.holder else "taken")

    return name
