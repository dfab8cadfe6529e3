"""
Deliver what the status says shall be told to the incident, in order, beside the turns.

It tells only what is already stored, and stores nothing: results are kept here until the resource
is settled, and each turn writes down what it finds.  Three rules make it safe to kill at any line:
a write whose outcome is unknown is looked for before it is repeated, what another process decided
is looked for before it is posted, and what was told is remembered for as long as it may be asked.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias

from incident_rollback.clients.firehydrant import TimelineUnavailableError
from incident_rollback.controller.limiter import Limiter, Rank
from incident_rollback.crd.v1alpha1 import MAX_ID, MAX_TEXT, Update
from incident_rollback.errors import (
    RollbackError,
    ThrottledError,
    TimelineRefusedError,
    TransientError,
)
from incident_rollback.ports import ChangeEvent, Timeline
from incident_rollback.telemetry.traces import span

LATE_SECONDS: Final = 60.0
"""How long an event may be missing from FireHydrant's list after it was accepted."""
FRESH_SECONDS: Final = 30.0
"""No other process has posted what was decided here later than that: it would have looked first."""
MAX_BACKOFF_SECONDS: Final = 30.0
REFUSED_SECONDS: Final = 300.0
"""Between two attempts with a refused key: somebody has to mend it first."""
GIVE_UP_AFTER: Final = timedelta(hours=24)
TOO_LATE: Final = "not told within 24 hours"
WORTH_TELLING_SECONDS: Final = 3.0
"""A trouble with a shorter wait than this is not worth a status write."""
SUPERSEDED: Final = "not told: the end is told instead"

RANKS: Final[Mapping[str, Rank]] = {
    "Note": Rank.NOTE,
    "ChangeEvent": Rank.CHANGE,
    "Message": Rank.PROGRESS,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """What a change event says beside its words."""

    starts_at: datetime
    ends_at: datetime
    relation: Literal["fixed", "suspect"]
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    why: str = ""
    """A short reason of the relation; empty: none is given."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """FireHydrant took this text, or was found to have it."""

    key: str
    text: str
    external_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nobody will be told these words any more."""

    key: str
    text: str
    why: str


Result: TypeAlias = Delivered | GaveUp


class OnEnd(Protocol):
    """Hears of each update that was told, or given up."""

    def __call__(self, kind: str, *, is_told: bool) -> None:
        """Take note of one, by its kind."""
        ...


def _nobody_hears(kind: str, *, is_told: bool) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the incident has not been told, as the condition Reported says it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Results:
    """What a turn may write down; the same until something new happens."""

    told: tuple[Result, ...] = ()
    trouble: Trouble | None = None
    """None: nothing stands in the way."""


def is_open(update: Update) -> bool:
    """Say whether, by the status alone, the update is still to be told."""
    return update.delivered_at is None and not update.gave_up


def with_results(updates: Sequence[Update], results: Results) -> tuple[Update, ...]:
    """
    Return the updates with what became of them.  Pure, and safe to repeat.

    Where the words changed while the old ones were on their way, only the id is taken over: the
    new words are still to be told, as an edit.
    """
    told = {result.key: result for result in results.told}
    return tuple(_with_result(update, told.get(update.key)) for update in updates)


def _with_result(update: Update, result: Result | None) -> Update:
    if result is None or not is_open(update):
        return update
    is_this = result.text == update.text
    match result:
        case Delivered() if is_this:
            told = {"delivered_at": result.at, "external_id": result.external_id[:MAX_ID]}
            return update.model_copy(update=told)
        case Delivered():
            return update.model_copy(update={"external_id": result.external_id[:MAX_ID]})
        case GaveUp() if is_this:
            return update.model_copy(update={"gave_up": result.why[:MAX_TEXT]})
        case GaveUp():
            return update


@dataclass
class Attempt:
    """How far the telling of one update has come, in this process."""

    text: str
    """The words that were posted, or are looked for."""
    must_look: bool
    """It may be there already."""
    is_others: bool = False
    """If it is there, another process has posted it."""
    external_id: str = ""
    """Of a change event that is posted and not yet related."""
    failures: int = 0
    due_at: datetime | None = None
    """None: now."""


@dataclass
class Telling:
    """One rollback and its incident: what is to be told, and what became of it."""

    uid: str
    incident_id: str
    wake: Callable[[], None]
    updates: tuple[Update, ...] = ()
    change: ChangeFacts | None = None
    results: dict[str, Result] = field(default_factory=dict[str, Result])
    attempts: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    trouble: Trouble | None = None
    loss: Trouble | None = None
    """Why something will never be told; that of progress, which nobody misses, is none."""
    lost: str = ""
    """Why nothing can be told any more; empty while it can."""
    task: asyncio.Task[None] | None = None
    busy_with: str = ""
    """The key of the update under way; empty between two attempts."""
    is_forgotten: bool = False

    def remaining(self) -> list[Update]:
        """Return what is neither stored nor remembered as told or given up, in order."""
        return [one for one in self.updates if is_open(one) and not self._is_done(one)]

    def next_due(self, now: datetime) -> Update | None:
        """Return what to tell now; None: nothing is due."""
        due = (one for one in self._candidates() if self._rest_of(one, now) <= 0)
        return next(due, None)

    def rest_seconds(self, now: datetime) -> float:
        """Return the wait until something is due."""
        return min((self._rest_of(one, now) for one in self._candidates()), default=0.0)

    def external_id(self, update: Update) -> str:
        """Return FireHydrant's id of an update that was told before, with other words."""
        result = self.results.get(update.key)
        known = result.external_id if isinstance(result, Delivered) else ""
        return update.external_id or known

    def drop_superseded(self) -> None:
        """Give up progress that nobody needs once the end is to be told."""
        keys = [one.key for one in self.updates]
        end = keys.index("end") if "end" in keys else 0
        for update in self.remaining():
            if update.kind == "Message" and keys.index(update.key) < end:
                self.results[update.key] = GaveUp(update.key, update.text, SUPERSEDED)

    def _candidates(self) -> Iterator[Update]:
        """
        Go through what need not wait for something before it.

        Nothing overtakes a note or a message.  A change event that has to wait is no part of the
        story, and holds nothing up: a key may well write notes and no change events.
        """
        for update in self.remaining():
            yield update
            if update.kind != "ChangeEvent":
                return

    def _rest_of(self, update: Update, now: datetime) -> float:
        attempt = self.attempts.get(update.key)
        if attempt is None or attempt.due_at is None:
            return 0.0
        return (attempt.due_at - now).total_seconds()

    def _is_done(self, update: Update) -> bool:
        result = self.results.get(update.key)
        return result is not None and result.text == update.text


class Outbox:
    """
    Tells incidents what was stored for them; one task for each rollback with something left.

    An outbox lives for one term of leadership, and for the time of waiting before it: whoever has
    led makes a new one, which has a new `process_id` and therefore looks before it posts.
    `may_tell` says whether the term has begun and is not over; `is_sole`, that nobody else tells
    in it.
    """

    def __init__(
        self,
        timeline: Timeline,
        *,
        limiter: Limiter,
        now: Callable[[], datetime],
        process_id: str | None = None,
        may_tell: Callable[[], bool] = lambda: True,
        is_sole: bool = False,
        on_end: OnEnd = _nobody_hears,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        late_seconds: float = LATE_SECONDS,
    ) -> None:
        self.process_id = process_id or secrets.token_hex(8)
        """What goes into `decidedBy` of the updates that this process decides."""
        self._timeline = timeline
        self._limiter = limiter
        self._now = now
        self._may_tell = may_tell
        self._is_sole = is_sole
        """While we may tell, no other process does."""
        self._on_end = on_end
        self._sleep = sleep
        self._jitter = jitter
        self._late_seconds = late_seconds
        self._tellings: dict[str, Telling] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened_at: datetime | None = None
        """When there was something to tell for the first time; None: not yet."""
        self.is_closed = False

    def submit(
        self,
        uid: str,
        incident_id: str,
        updates: Sequence[Update],
        *,
        wake: Callable[[], None],
        change: ChangeFacts | None = None,
    ) -> None:
        """
        Take over all updates of a rollback, as stored, in order; their keys are unique.

        Safe to repeat, and meant to be called after each status write.  `wake` is called when
        `results` has something new.  `change` is needed once an update is a ChangeEvent; `uid` is
        then its external id.  Returns at once, and raises nothing.  While we may not tell nothing
        is taken over: the updates are stored, and are submitted again when we may.
        """
        telling = self._tellings.get(uid)
        if self.is_closed or (telling is None and not any(map(is_open, updates))):
            return
        if not self._may_tell():
            return
        self._opened_at = self._opened_at or self._now()
        if telling is None:
            telling = self._tellings[uid] = Telling(uid, incident_id, wake)
        telling.wake, telling.updates, telling.change = wake, tuple(updates), change
        telling.is_forgotten = False
        telling.drop_superseded()
        self._go_on(telling)

    def results(self, uid: str) -> Results:
        """Return what became of a rollback's updates; the same again until `forget`."""
        telling = self._tellings.get(uid)
        if telling is None:
            return Results()
        return Results(tuple(telling.results.values()), telling.trouble or telling.loss)

    def pending(self) -> Sequence[Update]:
        """Return what was submitted and is neither told nor given up."""
        return [one for telling in self._tellings.values() for one in telling.remaining()]

    def forget(self, uid: str) -> None:
        """
        Drop the results of a rollback that is settled or gone.

        What is left of it is still told, and given up like everything else: the last note of a
        deleted resource has no turn that could wait for it.
        """
        if (telling := self._tellings.get(uid)) is None:
            return
        telling.is_forgotten = True
        if telling.task is None:
            del self._tellings[uid]

    async def close(self) -> None:
        """End every task at once; what is not told stays in the status for the next process."""
        self.is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tellings.clear()

    def _go_on(self, telling: Telling) -> None:
        """
        See to it that a task works on what comes first now.

        One that rests, or works on what nobody needs any more, is started anew.  Nothing is lost
        by that: before a write can be cancelled, its attempt says that it must be looked for.
        """
        open_keys = {one.key for one in telling.remaining()}
        if telling.task is not None:
            is_resting = not telling.busy_with and telling.next_due(self._now()) is not None
            is_in_vain = bool(telling.busy_with) and telling.busy_with not in open_keys
            if not (is_resting or is_in_vain):
                return
            telling.task.cancel()
            telling.task = None
        if open_keys:
            telling.task = asyncio.create_task(self._run(telling), name=f"tell {telling.uid}")
            self._tasks.add(telling.task)
            telling.task.add_done_callback(self._tasks.discard)

    async def _run(self, telling: Telling) -> None:
        """Tell one thing after the other until nothing is left."""
        telling.busy_with = ""
        while telling.remaining():
            now = self._now()
            if (update := telling.next_due(now)) is None:
                await self._sleep(telling.rest_seconds(now))
                continue
            telling.busy_with = update.key
            await self._attempt(telling, update)
            telling.busy_with = ""
        telling.task = None
        if telling.is_forgotten:
            del self._tellings[telling.uid]

    async def _attempt(self, telling: Telling, update: Update) -> None:
        """Try once to tell an update, and note what came of it."""
        is_others = self._may_be_others(update)
        attempt = telling.attempts.setdefault(
            update.key, Attempt(update.text, must_look=is_others, is_others=is_others)
        )
        if telling.lost:
            self._give_up(telling, update, Trouble("IncidentNotFound", telling.lost))
            return
        if self._now() - update.decided_at > GIVE_UP_AFTER:
            self._give_up(telling, update, _too_late(telling.trouble))
            return
        try:
            with span("deliver", key=update.key, kind=update.kind, incident=telling.incident_id):
                external_id = await self._tell(telling, update, attempt)
        except RollbackError as error:
            self._judge(telling, update, attempt, error)
        except Exception as error:  # noqa: BLE001  # the outermost edge of the task
            _log.exception(
                "a bug while telling %r of rollback %s",
                update.key,
                telling.uid,
                extra=_labels(telling),
            )
            trouble = Trouble("ServerError", f"a bug of ours: {type(error).__name__}")
            self._put_off(telling, attempt, MAX_BACKOFF_SECONDS, trouble)
        else:
            told = Delivered(update.key, attempt.text, external_id, self._now())
            self._delivered(telling, update, told)

    def _may_be_others(self, update: Update) -> bool:
        """
        Say whether another process may have posted it: then look before it is posted.

        What we decided while another led, that one may have posted; but it looked for a minute
        before it did, so what was decided shortly before our term began nobody has posted.
        """
        assert self._opened_at is not None  # noqa: S101  # something was submitted
        waited = (self._opened_at - update.decided_at).total_seconds()
        return update.decided_by != self.process_id or waited > FRESH_SECONDS

    async def _tell(self, telling: Telling, update: Update, attempt: Attempt) -> str:
        """Tell an update in the way of its kind; return FireHydrant's id of it."""
        told = partial(self._timeline.find, telling.incident_id)
        match update.kind:
            case "Note":
                post = partial(self._timeline.post_note, telling.incident_id)
                return await self._once(update, attempt, told, post)
            case "Message" if message_id := telling.external_id(update):
                await self._turn_to_write(Rank.PROGRESS)
                attempt.text = update.text
                await self._timeline.edit_message(telling.incident_id, message_id, update.text)
                return message_id
            case "Message":
                post = partial(self._timeline.post_message, telling.incident_id)
                return await self._once(update, attempt, told, post)
            case "ChangeEvent":
                return await self._tell_change(telling, update, attempt)

    async def _tell_change(self, telling: Telling, update: Update, attempt: Attempt) -> str:
        """Post the change event, and relate it; the second may be repeated as it is."""
        if (facts := telling.change) is None:
            raise TimelineRefusedError("NotAccepted", "nothing is known of this change")
        change = _change_event(telling.uid, update.text, facts)
        if not attempt.external_id:
            attempt.external_id = await self._once(
                update,
                attempt,
                lambda _: self._timeline.find_change(telling.uid),
                lambda _: self._timeline.post_change(change),
            )
        await self._turn_to_write(Rank.CHANGE)
        await self._timeline.relate_change(
            telling.incident_id, attempt.external_id, facts.relation, facts.why
        )
        return attempt.external_id

    async def _once(
        self,
        update: Update,
        attempt: Attempt,
        find: Callable[[str], Awaitable[str | None]],
        post: Callable[[str], Awaitable[str]],
    ) -> str:
        """Post what is not there yet: where that is not known, look twice before."""
        rank = RANKS[update.kind]
        if attempt.must_look:
            if (found := await self._look(rank, attempt, find)) is not None:
                return found
            if (late := self._listed_after(attempt)) > 0:
                await self._sleep(late)
                if (found := await self._look(rank, attempt, find)) is not None:
                    return found
            attempt.must_look = False
        await self._turn_to_write(rank)
        attempt.text, attempt.is_others = update.text, False
        attempt.must_look = True  # Before the write: whoever is cancelled in it does not know.
        try:
            return await post(attempt.text)
        except (ThrottledError, TimelineRefusedError):
            attempt.must_look = False
            raise
        except TimelineUnavailableError as error:
            attempt.must_look = error.was_sent
            raise

    def _listed_after(self, attempt: Attempt) -> float:
        """Return for how many seconds the list may still lack what is there."""
        if not (self._is_sole and attempt.is_others and self._opened_at):
            return self._late_seconds
        term = (self._now() - self._opened_at).total_seconds()
        return self._late_seconds - term  # Since our term began nobody else has posted anything.

    async def _turn_to_write(self, rank: Rank) -> None:
        """Wait for our share of the limit; one whose term ended meanwhile waits to be closed."""
        await self._limiter.take(rank)
        while not self._may_tell():  # The last look before the write: we may have slept for long.
            await self._sleep(self._late_seconds)

    async def _look(
        self, rank: Rank, attempt: Attempt, find: Callable[[str], Awaitable[str | None]]
    ) -> str | None:
        await self._limiter.take(rank)
        return await find(attempt.text)

    def _judge(
        self, telling: Telling, update: Update, attempt: Attempt, error: RollbackError
    ) -> None:
        """Decide what a failure means for the update: later, never, or never anything."""
        match error:
            case ThrottledError():
                self._limiter.pause(error.retry_after)
                trouble = Trouble("RateLimited", str(error))
                self._put_off(telling, attempt, error.retry_after, trouble)
            case TimelineRefusedError(reason="KeyRefused" | "KeyForbidden"):
                trouble = Trouble(error.reason, str(error))
                self._put_off(telling, attempt, REFUSED_SECONDS, trouble)
            case TimelineRefusedError(reason="IncidentNotFound") if self._is_new(telling, update):
                telling.lost = str(error)
                self._give_up(telling, update, Trouble(error.reason, telling.lost))
            case TimelineRefusedError(reason="IncidentNotFound"):
                why = f"what it belongs to is gone: {error}"
                self._give_up(telling, update, Trouble(error.reason, why))
            case TimelineRefusedError():
                self._give_up(telling, update, Trouble(error.reason, str(error)))
            case TransientError():
                trouble = Trouble(_reason_of(error), str(error))
                # The exponent is bounded, too: after hours of failures the power is no number.
                backoff = min(MAX_BACKOFF_SECONDS, 2.0 ** min(attempt.failures, 8))
                self._put_off(telling, attempt, backoff, trouble)
            case _:
                self._give_up(telling, update, Trouble("NotAccepted", str(error)))

    def _is_new(self, telling: Telling, update: Update) -> bool:
        """Say whether a 404 is about the incident: edits and relations may miss something else."""
        return update.kind != "ChangeEvent" and not telling.external_id(update)

    def _put_off(
        self, telling: Telling, attempt: Attempt, seconds: float, trouble: Trouble
    ) -> None:
        """Try again later; the wait is jittered so that a hundred tasks do not come at once."""
        attempt.failures += 1
        jittered = seconds * (0.5 + self._jitter() / 2)
        wait = seconds if trouble.reason == "RateLimited" else jittered
        attempt.due_at = self._now() + timedelta(seconds=wait)
        if seconds < WORTH_TELLING_SECONDS:
            return
        is_news = telling.trouble is None or telling.trouble.reason != trouble.reason
        telling.trouble = trouble
        if is_news:
            _log.warning(
                "incident %s is not told: %s: %s",
                telling.incident_id,
                trouble.reason,
                trouble.message,
                extra=_labels(telling),
            )
            self._wake(telling)

    def _give_up(self, telling: Telling, update: Update, trouble: Trouble) -> None:
        _log.error(
            "incident %s will not be told %r of rollback %s: %s",
            telling.incident_id,
            update.key,
            telling.uid,
            trouble.message,
            extra=_labels(telling),
        )
        if update.kind != "Message":
            telling.loss = telling.trouble = trouble
        self._on_end(update.kind, is_told=False)
        self._note(telling, GaveUp(update.key, update.text, trouble.message))

    def _delivered(self, telling: Telling, update: Update, result: Delivered) -> None:
        _log.info(
            "incident %s was told %r", telling.incident_id, result.key, extra=_labels(telling)
        )
        self._on_end(update.kind, is_told=True)
        telling.trouble = None
        self._note(telling, result)

    def _note(self, telling: Telling, result: Result) -> None:
        """Keep a result until the rollback is forgotten, and let a turn come for it."""
        telling.results[result.key] = result
        telling.attempts.pop(result.key, None)
        self._wake(telling)

    def _wake(self, telling: Telling) -> None:
        if not telling.is_forgotten:
            telling.wake()


def _too_late(trouble: Trouble | None) -> Trouble:
    """Say why after a day nothing is tried any more: by what stood in the way last, if anything."""
    if trouble is None:
        return Trouble("TooLate", TOO_LATE)
    is_said = trouble.message.startswith(TOO_LATE)
    return trouble if is_said else Trouble(trouble.reason, f"{TOO_LATE}: {trouble.message}")


def _labels(telling: Telling) -> dict[str, str]:
    return {"incident": telling.incident_id, "uid": telling.uid}


def _reason_of(error: TransientError) -> str:
    return error.reason if isinstance(error, TimelineUnavailableError) else "ServerError"


def _change_event(uid: str, text: str, facts: ChangeFacts) -> ChangeEvent:
    summary, _, description = text.partition("\n")
    return ChangeEvent(
        external_id=uid,
        summary=summary.strip(),
        description=description.strip(),
        labels=facts.labels,
        starts_at=facts.starts_at,
        ends_at=facts.ends_at,
    )
