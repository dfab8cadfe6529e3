"""
What goes wrong in a run, and when.  It depends on the seed and on nothing else.

Pure: a list of deeds with their times.  Whoever is to end a deed is told so by another one.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GAP_SECONDS: Final = 0.9
"""On average, between two deeds."""
CONTROLLERS: Final = ("controller-1", "controller-2")
BRIDGES: Final = ("bridge-1", "bridge-2")
WORKLOADS: Final = ("cart", "checkout", "front", "pay", "search")
SERVICES: Final = ("basket", *WORKLOADS)
"""Two of them are one workload: `basket` is `cart`."""


class Deed(StrEnum):
    """Something that is done to the operator, or around it."""

    ASK = "asks for a rollback"
    ASK_OURS = "asks for one, in our form"
    PREVIEW = "asks for a dry run"
    REPEAT = "asks again"
    DEPLOY = "deploys a good release"
    DEPLOY_BAD = "deploys one that crashes"
    DEPLOY_STUCK = "deploys one that never starts"
    DEPLOY_SLOW = "deploys one that is slow to start"
    UNDO = "undoes the last rollout"
    RESTART = "restarts all pods"
    SCALE = "scales"
    PAUSE = "pauses"
    RESUME = "resumes"
    KILL = "is killed"
    STOP = "is stopped"
    FREEZE = "is frozen"
    THAW = "goes on"
    AMBUSH = "the next to write something is killed at it"
    CUT = "is cut off from the API server"
    DEAF = "does not hear the API server"
    LATE = "reaches the API server late"
    MEND = "reaches the API server again"
    CUT_FROM_FIREHYDRANT = "is cut off from FireHydrant"
    DEAF_TO_FIREHYDRANT = "does not hear FireHydrant"
    LATE_TO_FIREHYDRANT = "reaches FireHydrant late"
    MEND_FIREHYDRANT = "reaches FireHydrant again"
    FREEZE_API = "the API server is frozen"
    THAW_API = "the API server goes on"
    RESTART_API = "the API server is started again"
    FAIL = "FireHydrant fails"
    LIMIT = "FireHydrant asks to wait"
    STALL = "FireHydrant is slow"
    COMMIT_AND_TIME_OUT = "FireHydrant takes a write and never says so"
    COMMIT_AND_FAIL = "FireHydrant takes a write and says that it failed"
    LAG = "FireHydrant lists late"
    NO_LAG = "FireHydrant lists at once"
    GO_AWAY = "FireHydrant goes away"
    COME_BACK = "FireHydrant is back"


AMBUSHES: Final = ("the claim", "the patch", "the end", "any status", "a note", "a change", "Lease")
"""At which writes a controller can be waited for."""


@dataclass(frozen=True, order=True)
class Act:
    """One deed."""

    at: float
    """Seconds from the beginning."""
    deed: Deed
    who: str = ""
    """A process, a workload or a service; empty: the API server, FireHydrant, or whoever it is."""
    number: int = 0
    """
    Which bridge or release, how many pods, how often, at which write; or whose step is run again,
    counted from the latest.
    """
    seconds: float = 0.0
    """How late, or how long until it is asked to try again."""
    is_after: bool = False


@dataclass
class _Planner:
    """Draws deeds; nobody is frozen and killed at once, for then it would be neither."""

    chance: random.Random
    seconds: float
    busy_until: dict[str, float]
    releases: int = 0

    def acts(self) -> Iterator[Act]:
        at = 0.0
        kinds, weights = zip(*_WEIGHTS.items(), strict=True)
        while (at := at + self.chance.expovariate(1 / GAP_SECONDS)) < self.seconds:
            (draw,) = self.chance.choices(kinds, weights)
            yield from draw(self, at)

    def ask(self, at: float) -> Iterator[Act]:
        deed = self.chance.choice((Deed.ASK, Deed.ASK, Deed.ASK, Deed.ASK_OURS, Deed.PREVIEW))
        who = self.chance.choice(SERVICES)
        number = self.chance.randrange(len(BRIDGES))
        yield Act(at, deed, who, number)
        if self.chance.random() < 0.3:  # A runbook is told to do it again.
            yield Act(at + self.chance.uniform(0, 0.2), Deed.REPEAT)

    def repeat(self, at: float) -> Iterator[Act]:
        yield Act(at, Deed.REPEAT, number=self.chance.randrange(1000))

    def break_and_ask(self, at: float) -> Iterator[Act]:
        """A good release, a bad one, and soon after it somebody asks: what it is all about."""
        who = self.chance.choice(WORKLOADS)
        yield from self._break_and_ask(at, who)

    def revert(self, at: float) -> Iterator[Act]:
        """Whoever patches dies of it, and before another looks the bad release is brought back."""
        who = self.chance.choice(WORKLOADS)
        *before, asked = self._break_and_ask(at, who)
        yield from before
        yield Act(asked.at, Deed.AMBUSH, number=AMBUSHES.index("the patch"), is_after=True)
        yield asked
        yield Act(asked.at + self.chance.uniform(0.5, 3), Deed.UNDO, who)

    def _break_and_ask(self, at: float, who: str) -> Iterator[Act]:
        bad = self.chance.choice((Deed.DEPLOY_BAD, Deed.DEPLOY_STUCK))
        if self.chance.random() < 0.6:
            yield self._release(at, Deed.DEPLOY, who)
            at += self.chance.uniform(1.5, 4)
        yield self._release(at, bad, who)
        asked_at = at + self.chance.uniform(0.5, 2.5)
        for service in [who, "basket"] if who == "cart" else [who]:
            yield Act(asked_at, Deed.ASK, service, self.chance.randrange(len(BRIDGES)))

    def release(self, at: float) -> Iterator[Act]:
        deeds = (Deed.DEPLOY, Deed.DEPLOY, Deed.DEPLOY_BAD, Deed.DEPLOY_STUCK, Deed.DEPLOY_SLOW)
        yield self._release(at, self.chance.choice(deeds), self.chance.choice(WORKLOADS))

    def _release(self, at: float, deed: Deed, who: str) -> Act:
        self.releases += 1
        return Act(at, deed, who, self.releases)

    def meddle(self, at: float) -> Iterator[Act]:
        deed = self.chance.choice((Deed.UNDO, Deed.UNDO, Deed.RESTART, Deed.SCALE))
        yield Act(at, deed, self.chance.choice(WORKLOADS), self.chance.randint(1, 4))

    def pause(self, at: float) -> Iterator[Act]:
        who = self.chance.choice(WORKLOADS)
        yield Act(at, Deed.PAUSE, who)
        yield Act(at + self.chance.uniform(1, 8), Deed.RESUME, who)

    def end(self, at: float) -> Iterator[Act]:
        who = self._whoever_is_well(at, 4.0, CONTROLLERS * 2 + BRIDGES)
        if who is not None:
            yield Act(at, self.chance.choice((Deed.KILL, Deed.STOP)), who)

    def ambush(self, at: float) -> Iterator[Act]:
        """Whichever controller it is: who leads is for them to agree on."""
        number = self.chance.randrange(len(AMBUSHES))
        yield Act(at, Deed.AMBUSH, number=number, is_after=self.chance.random() < 0.5)

    def freeze(self, at: float) -> Iterator[Act]:
        """For longer than a Lease is good for, every other time."""
        spell = self.chance.choice((self.chance.uniform(0.2, 3), self.chance.uniform(9, 14)))
        who = self._whoever_is_well(at, spell, CONTROLLERS * 2 + BRIDGES)
        if who is not None:
            yield Act(at, Deed.FREEZE, who)
            yield Act(at + spell, Deed.THAW, who)

    def part(self, at: float) -> Iterator[Act]:
        """Between one process and the API server."""
        who = self.chance.choice(CONTROLLERS * 2 + BRIDGES)
        deed = self.chance.choice((Deed.CUT, Deed.DEAF, Deed.LATE))
        yield Act(at, deed, who, seconds=self.chance.choice((0.3, 2.0, 7.0)))
        yield Act(at + self.chance.uniform(0.5, 12), Deed.MEND, who)

    def part_from_firehydrant(self, at: float) -> Iterator[Act]:
        deeds = (Deed.CUT_FROM_FIREHYDRANT, Deed.DEAF_TO_FIREHYDRANT, Deed.LATE_TO_FIREHYDRANT)
        who = self.chance.choice(CONTROLLERS)
        yield Act(at, self.chance.choice(deeds), who, seconds=self.chance.choice((0.5, 3.0, 12.0)))
        yield Act(at + self.chance.uniform(0.5, 8), Deed.MEND_FIREHYDRANT, who)

    def no_api(self, at: float) -> Iterator[Act]:
        """Not often: everything waits for it, and learns little from that."""
        if self.chance.random() < 0.3:
            yield Act(at, Deed.RESTART_API)
            return
        yield Act(at, Deed.FREEZE_API)
        yield Act(at + self.chance.uniform(0.5, 8), Deed.THAW_API)

    def firehydrant(self, at: float) -> Iterator[Act]:
        deeds = (
            *(Deed.FAIL, Deed.LIMIT, Deed.STALL, Deed.STALL),
            *(Deed.COMMIT_AND_TIME_OUT, Deed.COMMIT_AND_TIME_OUT, Deed.COMMIT_AND_FAIL),
        )
        seconds = self.chance.choice((1.0, 3.0, 12.0))
        yield Act(at, self.chance.choice(deeds), number=self.chance.randint(1, 3), seconds=seconds)

    def no_firehydrant(self, at: float) -> Iterator[Act]:
        begin, end = self.chance.choice(
            ((Deed.LAG, Deed.NO_LAG), (Deed.GO_AWAY, Deed.COME_BACK)),
        )
        yield Act(at, begin, seconds=self.chance.choice((2.0, 10.0, 30.0)))
        yield Act(at + self.chance.uniform(1, 10), end)

    def _whoever_is_well(self, at: float, spell: float, among: Sequence[str]) -> str | None:
        well = [who for who in among if self.busy_until.get(who, 0.0) <= at]
        if not well:
            return None
        who = self.chance.choice(well)
        self.busy_until[who] = at + spell
        return who


_Draw = Callable[[_Planner, float], Iterator[Act]]
_WEIGHTS: Final[dict[_Draw, int]] = {
    _Planner.break_and_ask: 16,
    _Planner.revert: 6,
    _Planner.ask: 8,
    _Planner.repeat: 10,
    _Planner.release: 8,
    _Planner.meddle: 12,
    _Planner.pause: 2,
    _Planner.end: 8,
    _Planner.ambush: 10,
    _Planner.freeze: 7,
    _Planner.part: 8,
    _Planner.part_from_firehydrant: 5,
    _Planner.no_api: 1,
    _Planner.firehydrant: 9,
    _Planner.no_firehydrant: 3,
}


def plan(seed: int, seconds: float) -> Sequence[Act]:
    """Return what is done within so many seconds, in order; what lasts longer is left as it is."""
    chance = random.Random(seed)  # noqa: S311  # chance, no secret
    return sorted(act for act in _Planner(chance, seconds, {}).acts() if act.at < seconds)
