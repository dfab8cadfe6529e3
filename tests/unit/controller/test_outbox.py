"""
The outbox and its limiter, in stepped time: nothing here waits for real.

A "process" is an outbox with an id of its own; one that dies is closed and leaves nothing behind
but the status, which the `Desk` keeps as the runner would.
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from incident_rollback.clients.firehydrant import TimelineUnavailableError
from incident_rollback.controller.limiter import Limiter, Rank
from incident_rollback.controller.outbox import (
    SUPERSEDED,
    ChangeFacts,
    Delivered,
    GaveUp,
    Outbox,
    Results,
    Trouble,
    with_results,
)
from incident_rollback.crd.v1alpha1 import Update
from incident_rollback.domain.trace import Trace
from incident_rollback.errors import (
    RollbackError,
    ThrottledError,
    TimelineRefusedError,
    UnavailableError,
)
from incident_rollback.telemetry.traces import Tracing, follow
from tests.fakes.timeline import Call, FakeTimeline
from tests.fakes.tracer import FakeTracer

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
UID = "0f7e2c1a-uid"
INCIDENT = "incident-1"
FACTS = ChangeFacts(NOON, NOON, "fixed", {"namespace": "shop"}, "healthy again")

TIMED_OUT = TimelineUnavailableError("TimedOut", "FireHydrant did not answer in 10 s")
SERVER_ERROR = TimelineUnavailableError("ServerError", "FireHydrant answered 502")
NOT_SENT = TimelineUnavailableError("Unreachable", "cannot be reached", was_sent=False)
THROTTLED = ThrottledError("FireHydrant asks to wait 7 s (429)", retry_after=7)
KEY_REFUSED = TimelineRefusedError("KeyRefused", "refused the API key")
KEY_FORBIDDEN = TimelineRefusedError("KeyForbidden", "the API key may not do this")
NOT_FOUND = TimelineRefusedError("IncidentNotFound", "the incident is not there")
NOT_ACCEPTED = TimelineRefusedError("NotAccepted", "FireHydrant answered 422: no")


class SteppedTime:
    """A clock that moves only when told to, and wakes its sleepers in order on the way."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.seconds + seconds, next(self._numbers), woken))
        await woken

    async def pass_by(self, seconds: float = 0.0) -> None:
        """Let so much time pass, and everything happen that is due until then."""
        until = self.seconds + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self.seconds, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
                await settle()
        self.seconds = until


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(30):
        await asyncio.sleep(0)


@dataclass
class Desk:
    """What the runner is to an outbox: it keeps the status, stores results, submits again."""

    time: SteppedTime
    timeline: FakeTimeline
    outbox: Outbox
    updates: tuple[Update, ...] = ()
    uid: str = UID
    incident_id: str = INCIDENT
    change: ChangeFacts | None = FACTS
    wakes: int = 0
    trouble: Trouble | None = None

    def decide(self, *updates: Update) -> None:
        """Store new updates and hand all to the outbox; one of a known key replaces it."""
        stored = {one.key: one for one in self.updates} | {one.key: one for one in updates}
        self.updates = tuple(stored.values())
        self.submit()

    def submit(self) -> None:
        def wake() -> None:
            self.wakes += 1

        self.outbox.submit(self.uid, self.incident_id, self.updates, wake=wake, change=self.change)

    def take_turn(self) -> None:
        """Store what became of the updates, as the next turn would."""
        results = self.outbox.results(self.uid)
        self.updates = with_results(self.updates, results)
        self.trouble = results.trouble
        self.submit()

    def stored(self, key: str) -> Update:
        return next(one for one in self.updates if one.key == key)

    @property
    def read(self) -> list[str]:
        """What the incident reads."""
        return self.timeline.texts(INCIDENT)


def note(key: str = "start", text: str = "", by: str = "process-1", **more: Any) -> Update:
    return an_update(key, "Note", text or f"the {key}", by, **more)


def progress(text: str = "1 of 3 pods", by: str = "process-1", **more: Any) -> Update:
    return an_update("progress", "Message", text, by, **more)


def change(text: str = "Rolled back shop/checkout\nfrom 6 to 5", by: str = "process-1") -> Update:
    return an_update("change", "ChangeEvent", text, by)


def an_update(key: str, kind: Any, text: str, by: str, **more: Any) -> Update:
    return Update(key=key, kind=kind, text=text, decided_at=NOON, decided_by=by, **more)


NewProcess = Callable[..., Outbox]


@pytest.fixture
def time() -> SteppedTime:
    return SteppedTime()


@pytest.fixture
def timeline(time: SteppedTime) -> FakeTimeline:
    fake = FakeTimeline(now=time.now)
    fake.declare(INCIDENT)
    return fake


@dataclass
class Term:
    """Whether this process leads, as every outbox here asks it."""

    leads: bool = True


@pytest.fixture
def term() -> Term:
    return Term()


@pytest.fixture
async def new_process(
    time: SteppedTime, timeline: FakeTimeline, term: Term
) -> AsyncIterator[NewProcess]:
    made: list[Outbox] = []

    def make(process_id: str, *, is_sole: bool = False) -> Outbox:
        outbox = Outbox(
            timeline,
            limiter=Limiter(monotonic=time.monotonic, sleep=time.sleep),
            now=time.now,
            process_id=process_id,
            may_tell=lambda: term.leads,
            is_sole=is_sole,
            sleep=time.sleep,
            jitter=lambda: 1.0,
        )
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        await outbox.close()


@pytest.fixture
def desk(time: SteppedTime, timeline: FakeTimeline, new_process: NewProcess) -> Desk:
    return Desk(time, timeline, new_process("process-1"))


# Telling


async def test_a_note_is_told_at_once_and_its_result_wakes_a_turn(desk: Desk) -> None:
    desk.decide(note())
    await desk.time.pass_by()
    assert desk.read == ["the start"]
    assert desk.wakes == 1
    assert desk.outbox.results(UID).told == (Delivered("start", "the start", "note-1", NOON),)
    desk.take_turn()
    assert desk.stored("start").delivered_at == NOON
    assert desk.stored("start").external_id == "note-1"


async def test_nothing_is_looked_for_when_all_goes_well(desk: Desk) -> None:
    desk.decide(note(), change(), progress(), note("held"))
    await desk.time.pass_by()
    calls = [name for name, _ in desk.timeline.calls]
    assert calls == ["post_note", "post_change", "relate_change", "post_message", "post_note"]


async def test_submitting_again_and_again_tells_once(desk: Desk) -> None:
    desk.decide(note(), note("end"))
    for _ in range(3):
        desk.submit()
    await desk.time.pass_by()
    for _ in range(3):
        desk.submit()
        await desk.time.pass_by(1)
    assert desk.read == ["the start", "the end"]


async def test_a_turn_that_could_not_write_gets_the_results_again(desk: Desk) -> None:
    desk.decide(note())
    await desk.time.pass_by()
    lost = with_results(desk.updates, desk.outbox.results(UID))
    desk.submit()
    await desk.time.pass_by()
    assert with_results(desk.updates, desk.outbox.results(UID)) == lost
    assert desk.read == ["the start"]


async def test_what_is_stored_as_told_or_given_up_is_not_told(desk: Desk) -> None:
    told = note("start", delivered_at=NOON, external_id="note-0")
    desk.decide(told, note("waiting", gave_up="not told within 24 hours"), note("end"))
    await desk.time.pass_by()
    assert desk.read == ["the end"]


async def test_updates_are_told_in_order_even_if_the_first_fails(desk: Desk) -> None:
    desk.timeline.fail("post_note", NOT_SENT)
    desk.decide(note(), note("end"))
    await desk.time.pass_by(2)
    assert desk.read == ["the start", "the end"]


async def test_incidents_do_not_wait_for_one_another(desk: Desk) -> None:
    desk.timeline.fail("post_note", TIMED_OUT)
    desk.timeline.declare("incident-2")
    desk.decide(note())
    desk.outbox.submit("uid-2", "incident-2", [note("end")], wake=lambda: None)
    await desk.time.pass_by()
    assert desk.timeline.texts("incident-2") == ["the end"]


# Progress


async def test_a_message_is_posted_once_and_then_edited(desk: Desk) -> None:
    for text in ("1 of 3 pods", "2 of 3 pods", "3 of 3 pods"):
        known = {one.key: one.external_id for one in desk.updates}
        desk.decide(progress(text, external_id=known.get("progress", "")))
        await desk.time.pass_by(15)
        desk.take_turn()
    assert desk.read == ["3 of 3 pods"]
    calls = [name for name, _ in desk.timeline.calls]
    assert calls == ["post_message", "edit_message", "edit_message"]
    assert desk.stored("progress").delivered_at == NOON + timedelta(seconds=30)


async def test_words_that_change_before_the_id_is_stored_are_an_edit(desk: Desk) -> None:
    desk.decide(progress("1 of 3 pods"))
    await desk.time.pass_by()
    desk.decide(progress("2 of 3 pods"))
    await desk.time.pass_by()
    assert desk.read == ["2 of 3 pods"]
    desk.take_turn()
    assert desk.stored("progress").external_id == "message-1"


async def test_progress_that_came_late_is_skipped_for_the_end(desk: Desk) -> None:
    desk.timeline.fail("post_message", TIMED_OUT, is_done_first=False)
    desk.decide(note(), progress())
    await desk.time.pass_by(5)
    desk.decide(note("end"))
    await desk.time.pass_by()
    assert desk.read == ["the start", "the end"]
    desk.take_turn()
    assert desk.stored("progress").gave_up == SUPERSEDED


async def test_a_message_that_a_person_deleted_does_not_silence_the_rest(desk: Desk) -> None:
    desk.decide(progress(external_id="message-deleted"), note("held"))
    await desk.time.pass_by()
    desk.take_turn()
    assert "gone" in desk.stored("progress").gave_up
    assert desk.read == ["the held"]
    assert desk.trouble is None


# Unknown outcomes


@pytest.mark.parametrize("error", [TIMED_OUT, SERVER_ERROR, UnavailableError("away")])
@pytest.mark.parametrize(
    ("update", "post", "look"),
    [
        pytest.param(note(), "post_note", "find", id="a note"),
        pytest.param(progress(), "post_message", "find", id="a message"),
        pytest.param(change(), "post_change", "find_change", id="a change event"),
    ],
)
class TestUnknownOutcome:
    async def test_what_was_done_is_found_and_not_done_again(
        self, desk: Desk, update: Update, post: Call, look: Call, error: RollbackError
    ) -> None:
        desk.timeline.fail(post, error, is_done_first=True)
        desk.decide(update)
        await desk.time.pass_by(300)
        assert (desk.timeline.times(post), desk.timeline.times(look)) == (1, 1)
        desk.take_turn()
        assert desk.stored(update.key).external_id.endswith("-1")

    async def test_what_the_list_shows_late_is_found_by_the_second_look(
        self, desk: Desk, update: Update, post: Call, look: Call, error: RollbackError
    ) -> None:
        desk.timeline.fail(post, error, is_done_first=True)
        desk.timeline.hide_for(1)
        desk.decide(update)
        await desk.time.pass_by(60)
        assert desk.timeline.times(look) == 1
        await desk.time.pass_by(1)
        assert (desk.timeline.times(post), desk.timeline.times(look)) == (1, 2)
        assert isinstance(desk.outbox.results(UID).told[0], Delivered)

    async def test_what_was_not_done_is_done_after_two_looks_a_minute_apart(
        self, desk: Desk, update: Update, post: Call, look: Call, error: RollbackError
    ) -> None:
        desk.timeline.fail(post, error)
        desk.decide(update)
        await desk.time.pass_by(60)
        assert (desk.timeline.times(post), desk.timeline.times(look)) == (1, 1)
        await desk.time.pass_by(1)
        assert (desk.timeline.times(post), desk.timeline.times(look)) == (2, 2)
        assert isinstance(desk.outbox.results(UID).told[0], Delivered)


async def test_a_look_that_fails_is_repeated_before_anything_is_posted(desk: Desk) -> None:
    desk.timeline.fail("post_note", TIMED_OUT, is_done_first=True)
    desk.timeline.fail("find", SERVER_ERROR, THROTTLED)
    desk.decide(note())
    await desk.time.pass_by(30)
    assert desk.read == ["the start"]
    assert desk.timeline.times("post_note") == 1


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(NOT_SENT, id="nothing was sent"),
        pytest.param(THROTTLED, id="FireHydrant had us wait"),
        pytest.param(KEY_REFUSED, id="the key was refused"),
    ],
)
async def test_a_known_failure_is_repeated_without_a_look(desk: Desk, error: RollbackError) -> None:
    desk.timeline.fail("post_note", error)
    desk.decide(note())
    await desk.time.pass_by(300)
    assert [name for name, _ in desk.timeline.calls] == ["post_note", "post_note"]


async def test_words_that_changed_meanwhile_are_looked_for_as_they_were_posted(
    desk: Desk,
) -> None:
    desk.timeline.fail("post_message", TIMED_OUT, is_done_first=True)
    desk.decide(progress("1 of 3 pods"))
    await desk.time.pass_by()
    desk.decide(progress("2 of 3 pods"))
    await desk.time.pass_by(120)
    assert desk.read == ["2 of 3 pods"]
    assert desk.timeline.times("post_message") == 1


async def test_turns_that_come_by_meanwhile_do_not_begin_the_looking_anew(desk: Desk) -> None:
    desk.timeline.fail("post_note", TIMED_OUT)
    desk.decide(note())
    for _ in range(122):
        await desk.time.pass_by(0.5)
        desk.take_turn()
    assert desk.read == ["the start"]
    assert desk.timeline.times("find") == 2


async def test_a_post_that_never_left_is_repeated_with_the_words_of_now(desk: Desk) -> None:
    desk.timeline.fail("post_message", NOT_SENT)
    desk.decide(progress("1 of 3 pods"))
    await desk.time.pass_by()
    desk.decide(progress("2 of 3 pods"))
    await desk.time.pass_by(1)
    assert desk.timeline.calls[1:] == [("post_message", "2 of 3 pods")]


# Crash points: what one process leaves, the next one finds


async def replace_process(desk: Desk, new_process: NewProcess) -> None:
    await desk.outbox.close()
    desk.outbox = new_process("process-2")
    desk.submit()


EVERYTHING = [
    pytest.param(note(), "post_note", id="a note"),
    pytest.param(progress(), "post_message", id="a message"),
    pytest.param(change(), "post_change", id="a change event"),
]


@pytest.mark.parametrize(("update", "post"), EVERYTHING)
@pytest.mark.parametrize("late", [0, 1], ids=["listed at once", "listed late"])
async def test_died_after_the_post_before_the_result_was_stored(
    desk: Desk, new_process: NewProcess, update: Update, post: Call, late: int
) -> None:
    desk.decide(update)
    await desk.time.pass_by()
    desk.timeline.hide_for(late)
    await replace_process(desk, new_process)
    await desk.time.pass_by(120)
    assert desk.timeline.times(post) == 1
    desk.take_turn()
    assert desk.stored(update.key).external_id.endswith("-1")


@pytest.mark.parametrize(("update", "post"), EVERYTHING)
async def test_died_before_the_post(
    desk: Desk, new_process: NewProcess, update: Update, post: Call
) -> None:
    desk.updates = (update,)
    await replace_process(desk, new_process)
    await desk.time.pass_by(59)
    assert desk.timeline.times(post) == 0
    await desk.time.pass_by(1)
    assert desk.timeline.times(post) == 1


async def test_died_between_a_change_event_and_its_relation(
    desk: Desk, new_process: NewProcess
) -> None:
    desk.timeline.fail("relate_change", SERVER_ERROR)
    desk.decide(change())
    await desk.time.pass_by()
    assert desk.timeline.relations == {}
    await replace_process(desk, new_process)
    await desk.time.pass_by()
    assert desk.timeline.relations == {(INCIDENT, "change-1"): "fixed"}
    assert desk.timeline.times("post_change") == 1


async def test_died_before_an_edit(desk: Desk, new_process: NewProcess) -> None:
    message_id = await desk.timeline.post_message(INCIDENT, "1 of 3 pods")
    desk.updates = (progress("2 of 3 pods", external_id=message_id),)
    await replace_process(desk, new_process)
    await desk.time.pass_by()
    assert desk.read == ["2 of 3 pods"]
    assert desk.timeline.times("find") == 0


async def test_an_update_that_names_no_process_is_looked_for(desk: Desk) -> None:
    await desk.timeline.post_note(INCIDENT, "the start")
    desk.decide(note(by=""))
    await desk.time.pass_by()
    assert desk.read == ["the start"]


async def test_a_new_outbox_is_another_process_by_itself(
    time: SteppedTime, timeline: FakeTimeline
) -> None:
    ids = {Outbox(timeline, limiter=Limiter(), now=time.now).process_id for _ in range(3)}
    assert len(ids) == 3


# Terms of leadership


def decided(update: Update, after: float) -> Update:
    return update.model_copy(update={"decided_at": NOON + timedelta(seconds=after)})


async def test_nothing_is_told_before_the_term_begins(desk: Desk, term: Term) -> None:
    term.leads = False
    desk.decide(note())
    await desk.time.pass_by(10)
    assert desk.timeline.calls == []
    term.leads = True
    await desk.time.pass_by(10)
    assert desk.timeline.calls == []  # Nothing was kept: it is submitted again.
    desk.submit()
    await desk.time.pass_by()
    assert desk.read == ["the start"]


BEFORE_THE_TERM = [
    pytest.param(note(), 30.0, 0, id="just before, by us: nobody can have posted it yet"),
    pytest.param(note(), 31.0, 2, id="longer ago, by us: who led then may have posted it"),
    pytest.param(note(by="process-2"), 0.0, 2, id="by another: that one may have posted it"),
]


@pytest.mark.parametrize(("update", "ago", "looks"), BEFORE_THE_TERM)
async def test_what_was_decided_before_the_term_is_looked_for_if_it_may_be_there(
    desk: Desk, update: Update, ago: float, looks: int
) -> None:
    desk.time.seconds = ago
    desk.decide(update)
    await desk.time.pass_by(60 if looks else 0)
    assert desk.timeline.times("find") == looks
    assert desk.read == ["the start"]


async def test_what_is_decided_in_the_term_is_never_looked_for(desk: Desk) -> None:
    """However late it comes to its turn: only who leads tells, and that is us."""
    desk.timeline.fail("post_note", KEY_REFUSED)
    desk.decide(note(), decided(note("end"), 1))
    await desk.time.pass_by(600)
    assert desk.read == ["the start", "the end"]
    assert desk.timeline.times("find") == 0


async def test_what_others_decided_before_the_term_waits_one_minute_and_not_one_each(
    desk: Desk, new_process: NewProcess
) -> None:
    desk.outbox = new_process("process-2", is_sole=True)
    desk.decide(note(), note("end"), change())
    await desk.time.pass_by(59)
    assert desk.read == []
    await desk.time.pass_by(1)
    assert desk.read == ["the start", "the end"]
    assert desk.timeline.relations == {(INCIDENT, "change-1"): "fixed"}


WHO_ELSE = [
    pytest.param(True, 0, id="nobody else tells: it is looked for once"),
    pytest.param(False, 60, id="somebody else may: it is looked for twice"),
]


@pytest.mark.parametrize(("is_sole", "later"), WHO_ELSE)
async def test_what_others_decide_in_the_term(
    desk: Desk, new_process: NewProcess, is_sole: bool, later: int
) -> None:
    desk.outbox = new_process("process-2", is_sole=is_sole)
    desk.decide(note(by="process-2"))
    await desk.time.pass_by(60)
    desk.decide(note("end"))
    await desk.time.pass_by(max(0, later - 1))
    assert desk.read == ["the start", "the end"][: 1 if later else 2]
    await desk.time.pass_by(1)
    assert desk.read == ["the start", "the end"]
    assert desk.timeline.times("find") == 2 if later else 1


async def test_an_outcome_of_our_own_that_is_not_known_waits_for_its_minute_all_the_same(
    desk: Desk, new_process: NewProcess
) -> None:
    desk.outbox = new_process("process-2", is_sole=True)
    desk.timeline.fail("post_note", TIMED_OUT)
    desk.decide(note())
    await desk.time.pass_by(60)
    assert desk.timeline.times("post_note") == 1
    await desk.time.pass_by(60)
    assert desk.timeline.times("post_note") == 1
    await desk.time.pass_by(1)
    assert desk.read == ["the start"]


ENDED_WRITES: list[Any] = [
    pytest.param((note(),), "post_note", id="a note"),
    pytest.param((progress(),), "post_message", id="a message"),
    pytest.param((progress(external_id="message-9"),), "edit_message", id="an edit"),
    pytest.param((change(),), "post_change", id="a change event"),
]


@pytest.mark.parametrize(("updates", "write"), ENDED_WRITES)
async def test_a_term_that_ends_while_a_write_waits_its_turn_ends_the_write(
    desk: Desk, term: Term, updates: tuple[Update, ...], write: Call
) -> None:
    """It may have slept for long: whoever leads now has looked, and posted."""
    desk.timeline.fail(write, THROTTLED)
    desk.decide(*updates)
    await desk.time.pass_by(4)
    term.leads = False
    await desk.time.pass_by(3600)
    assert desk.timeline.times(write) == 1


async def test_a_term_that_ends_before_the_relation_ends_that(desk: Desk, term: Term) -> None:
    desk.timeline.fail("relate_change", SERVER_ERROR)
    desk.decide(change())
    await desk.time.pass_by()
    term.leads = False
    await desk.time.pass_by(3600)
    assert desk.timeline.times("relate_change") == 1


async def test_a_term_that_ends_between_the_two_looks_leaves_it_to_the_next(
    desk: Desk, term: Term
) -> None:
    desk.decide(note(by="process-2"))
    await desk.time.pass_by(30)
    term.leads = False
    await desk.time.pass_by(3600)
    assert desk.read == []


# Change events


async def test_a_change_event_says_what_changed_and_how_it_relates(desk: Desk) -> None:
    desk.change = replace(FACTS, relation="suspect", ends_at=NOON + timedelta(seconds=31))
    desk.decide(change())
    await desk.time.pass_by()
    (posted,) = desk.timeline.changes.values()
    assert (posted.summary, posted.description) == ("Rolled back shop/checkout", "from 6 to 5")
    assert (posted.external_id, posted.labels) == (UID, {"namespace": "shop"})
    assert posted.ends_at == NOON + timedelta(seconds=31)
    assert desk.timeline.relations == {(INCIDENT, "change-1"): "suspect"}


async def test_a_relation_that_fails_is_repeated_without_a_second_change_event(
    desk: Desk,
) -> None:
    desk.timeline.fail("relate_change", TIMED_OUT, THROTTLED)
    desk.decide(change())
    await desk.time.pass_by(60)
    assert [name for name, _ in desk.timeline.calls] == ["post_change"] + ["relate_change"] * 3


async def test_a_change_event_that_must_wait_holds_no_note_up(desk: Desk) -> None:
    desk.timeline.fail("post_change", KEY_FORBIDDEN)
    desk.decide(note("end"), change(), note("held"))
    await desk.time.pass_by()
    assert desk.read == ["the end", "the held"]
    await desk.time.pass_by(300)
    assert desk.timeline.times("post_change") == 2


async def test_a_note_decided_while_a_change_event_waits_is_told_at_once(desk: Desk) -> None:
    desk.timeline.fail("post_change", KEY_FORBIDDEN)
    desk.decide(change())
    await desk.time.pass_by(10)
    desk.decide(note("held"))
    await desk.time.pass_by()
    assert desk.read == ["the held"]


async def test_a_change_event_without_facts_is_given_up_not_raised(desk: Desk) -> None:
    desk.change = None
    desk.decide(change(), note("held"))
    await desk.time.pass_by()
    assert [type(one) for one in desk.outbox.results(UID).told] == [GaveUp, Delivered]


# Troubles


@pytest.mark.parametrize("error", [KEY_REFUSED, KEY_FORBIDDEN])
async def test_a_refused_key_is_said_and_tried_every_five_minutes(
    desk: Desk, error: TimelineRefusedError
) -> None:
    desk.timeline.fail("post_note", error, error)
    desk.decide(note())
    await desk.time.pass_by(299)
    desk.take_turn()
    assert desk.trouble == Trouble(error.reason, str(error))
    assert desk.wakes == 1
    assert desk.timeline.times("post_note") == 1
    await desk.time.pass_by(1)
    assert desk.timeline.times("post_note") == 2
    await desk.time.pass_by(300)
    desk.take_turn()
    assert desk.outbox.results(UID).trouble is None
    assert desk.read == ["the start"]


async def test_an_incident_that_is_not_there_is_not_tried_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.incident_id = "nowhere"
    desk.decide(note(), change(), note("end"))
    await desk.time.pass_by()
    desk.take_turn()
    assert all("not there" in one.gave_up for one in desk.updates)
    assert desk.trouble is not None
    assert desk.trouble.reason == "IncidentNotFound"
    desk.decide(note("held"))
    await desk.time.pass_by(3600)
    assert len(desk.timeline.calls) == 1
    assert any(one.levelno == logging.ERROR for one in caplog.records)


async def test_what_is_not_accepted_is_given_up_and_the_rest_is_told(desk: Desk) -> None:
    desk.timeline.fail("post_note", NOT_ACCEPTED)
    desk.decide(note(), note("end"))
    await desk.time.pass_by()
    desk.take_turn()
    assert desk.stored("start").gave_up == str(NOT_ACCEPTED)
    assert desk.read == ["the end"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(TIMED_OUT, "TimedOut", id="no answer"),
        pytest.param(SERVER_ERROR, "ServerError", id="5xx"),
        pytest.param(NOT_SENT, "Unreachable", id="no connection"),
        pytest.param(THROTTLED, "RateLimited", id="429"),
        pytest.param(UnavailableError("away"), "ServerError", id="an error without a reason"),
    ],
)
async def test_a_lasting_trouble_is_said_once(
    desk: Desk, error: RollbackError, reason: str
) -> None:
    desk.decide(note())
    desk.timeline.fail("post_note", *[error] * 9)
    desk.timeline.fail("find", *[error] * 9)
    await desk.time.pass_by(30)
    assert desk.wakes == 1
    desk.take_turn()
    assert desk.trouble == Trouble(reason, str(error))


async def test_a_passing_trouble_is_not_worth_a_status_write(desk: Desk) -> None:
    desk.timeline.fail("post_note", NOT_SENT, NOT_SENT)
    desk.decide(note())
    await desk.time.pass_by(2)
    assert desk.outbox.results(UID) == Results()
    assert desk.wakes == 0
    await desk.time.pass_by(1)
    assert desk.read == ["the start"]


async def test_waits_grow_to_half_a_minute(desk: Desk) -> None:
    desk.timeline.fail("post_note", *[NOT_SENT] * 99)
    desk.decide(note())
    tried = list[int]()
    for second in range(200):
        await desk.time.pass_by(1 if second else 0)
        if desk.timeline.times("post_note") > len(tried):
            tried.append(second)
    assert tried == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]


async def test_a_telling_is_given_up_loudly_after_a_day(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.timeline.fail("post_note", *[KEY_REFUSED] * 999)
    desk.decide(note())
    await desk.time.pass_by(24 * 3600 - 1)
    assert desk.outbox.results(UID).told == ()
    await desk.time.pass_by(301)
    desk.take_turn()
    assert desk.stored("start").gave_up == f"not told within 24 hours: {KEY_REFUSED}"
    assert any(one.levelno == logging.ERROR for one in caplog.records)
    assert desk.trouble == Trouble("KeyRefused", desk.stored("start").gave_up)
    tried = len(desk.timeline.calls)
    await desk.time.pass_by(3600)
    assert len(desk.timeline.calls) == tried


async def test_a_process_that_comes_after_a_day_tells_nothing_and_says_why(desk: Desk) -> None:
    await desk.time.pass_by(24 * 3600 + 1)
    desk.decide(note(), note("end"))
    await desk.time.pass_by()
    desk.take_turn()
    assert desk.read == []
    assert {one.gave_up for one in desk.updates} == {"not told within 24 hours"}
    assert desk.trouble == Trouble("TooLate", "not told within 24 hours")


async def test_why_something_is_lost_is_said_though_all_else_is_told(desk: Desk) -> None:
    """All of it before the next turn could look."""
    desk.timeline.fail("post_note", NOT_ACCEPTED)
    desk.decide(note(), note("end"))
    await desk.time.pass_by()
    desk.take_turn()
    assert desk.read == ["the end"]
    assert desk.trouble == Trouble("NotAccepted", str(NOT_ACCEPTED))


async def test_a_relation_to_what_is_gone_is_a_loss_and_says_so(desk: Desk) -> None:
    desk.timeline.fail("relate_change", NOT_FOUND)
    desk.decide(change(), note("held"))
    await desk.time.pass_by()
    desk.take_turn()
    assert desk.read == ["the held"]
    why = f"what it belongs to is gone: {NOT_FOUND}"
    assert desk.trouble == Trouble("IncidentNotFound", why)


async def test_progress_that_is_not_accepted_is_missed_by_nobody(desk: Desk) -> None:
    desk.timeline.fail("post_message", NOT_ACCEPTED)
    desk.decide(note(), progress(), note("end"))
    await desk.time.pass_by()
    desk.take_turn()
    assert desk.read == ["the start", "the end"]
    assert desk.trouble is None


# Somebody deletes what we wrote


async def test_a_deleted_note_is_not_posted_again(desk: Desk, new_process: NewProcess) -> None:
    """Neither by whoever has told it, stored or not, nor by whoever comes after."""
    desk.decide(note())
    await desk.time.pass_by()
    desk.timeline.entries.clear()
    desk.submit()
    await desk.time.pass_by(120)
    desk.take_turn()
    await desk.time.pass_by(120)
    await replace_process(desk, new_process)
    desk.decide(note("end", by="process-2"))
    await desk.time.pass_by(120)
    assert desk.read == ["the end"]
    assert desk.timeline.times("post_note") == 2


async def test_a_deleted_message_is_not_posted_again(desk: Desk) -> None:
    desk.decide(progress("1 of 3 pods"))
    await desk.time.pass_by()
    desk.take_turn()
    desk.timeline.entries.clear()
    desk.updates = (progress("2 of 3 pods", external_id=desk.stored("progress").external_id),)
    desk.decide(note("end"))
    await desk.time.pass_by(120)
    assert desk.read == ["the end"]
    assert desk.timeline.times("post_message") == 1


# An outage of hours


@dataclass
class Ward:
    """Three incidents with a start, a change event and an end each, one outbox and its ends."""

    desks: list[Desk]
    told: list[bool]
    pending: Callable[[], Sequence[Update]]


UIDS = ("uid-a", "uid-b", "uid-c")
HOURS = 10


@pytest.fixture
async def ward(time: SteppedTime, timeline: FakeTimeline) -> AsyncIterator[Ward]:
    told: list[bool] = []

    def on_end(kind: str, *, is_told: bool) -> None:  # noqa: ARG001  # as every OnEnd
        told.append(is_told)

    outbox = Outbox(
        timeline,
        limiter=Limiter(monotonic=time.monotonic, sleep=time.sleep),
        now=time.now,
        process_id="process-1",
        on_end=on_end,
        sleep=time.sleep,
    )
    desks = [
        Desk(time, timeline, outbox, uid=uid, incident_id=timeline.declare(f"incident of {uid}"))
        for uid in UIDS
    ]
    yield Ward(desks, told, outbox.pending)
    await outbox.close()


def tell_all(ward: Ward) -> None:
    for desk in ward.desks:
        desk.decide(*(note(key, f"{key} of {desk.uid}") for key in ("start", "end")), change())


def see_all_told_once(ward: Ward) -> None:
    """Each once, and those of one incident in order."""
    for desk in ward.desks:
        desk.take_turn()
        told = desk.timeline.texts(desk.incident_id)
        assert told == [f"start of {desk.uid}", f"end of {desk.uid}"]
        assert desk.trouble is None
    assert len(ward.desks[0].timeline.changes) == len(UIDS)
    assert len(ward.desks[0].timeline.relations) == len(UIDS)
    assert ward.told == [True] * 9
    assert ward.pending() == []


OUTAGES = [
    pytest.param(NOT_SENT, "Unreachable", id="nobody is there"),
    pytest.param(TIMED_OUT, "TimedOut", id="nobody answers"),
    pytest.param(SERVER_ERROR, "ServerError", id="it answers 502"),
    pytest.param(THROTTLED, "RateLimited", id="it asks to wait, again and again"),
    pytest.param(KEY_REFUSED, "KeyRefused", id="the key is refused"),
]


@pytest.mark.parametrize(("error", "reason"), OUTAGES)
async def test_after_an_outage_of_hours_all_is_told_once_and_in_order(
    ward: Ward, timeline: FakeTimeline, time: SteppedTime, error: RollbackError, reason: str
) -> None:
    timeline.down = error
    tell_all(ward)
    for _ in range(12 * HOURS):
        await time.pass_by(300)
        for desk in ward.desks:
            desk.take_turn()
    assert len(ward.pending()) == 9
    assert min(one.decided_at for one in ward.pending()) == NOON
    assert [desk.trouble and desk.trouble.reason for desk in ward.desks] == [reason] * 3
    assert sum(desk.wakes for desk in ward.desks) == 3
    tries = len(timeline.calls)
    # Each of the three has one note under way, and beside it no more than a change event.
    assert tries <= 3 * HOURS * 3600 / (15 if error is not KEY_REFUSED else 150)
    timeline.down = None
    await time.pass_by(400)
    see_all_told_once(ward)


async def test_after_an_outage_of_a_day_all_is_given_up_and_counted(
    ward: Ward, timeline: FakeTimeline, time: SteppedTime
) -> None:
    timeline.down = NOT_SENT
    tell_all(ward)
    await time.pass_by(24 * 3600 + 60)
    for desk in ward.desks:
        desk.take_turn()
        assert desk.trouble is not None
        assert desk.trouble.reason == "Unreachable"
        assert all("not told within 24 hours" in one.gave_up for one in desk.updates)
    assert ward.told == [False] * 9
    assert ward.pending() == []
    timeline.down = None
    await time.pass_by(3600)
    assert timeline.entries == []


async def test_a_429_holds_all_incidents_and_then_each_is_told_once_and_in_order(
    ward: Ward, timeline: FakeTimeline, time: SteppedTime
) -> None:
    timeline.fail("post_note", THROTTLED)
    tell_all(ward)
    await time.pass_by(0.5)
    # What was under way already when the answer came could not be held.
    before = len(timeline.calls)
    await time.pass_by(6.4)
    assert len(timeline.calls) == before <= len(UIDS)
    await time.pass_by(60)
    see_all_told_once(ward)
    assert timeline.times("post_note") == 2 * len(UIDS) + 1
    assert timeline.times("find") == 0


async def test_a_bug_is_logged_and_does_not_end_the_telling(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.timeline.fail("post_note", KeyError("oops"), is_done_first=True)
    desk.decide(note(), note("end"))
    await desk.time.pass_by(30)
    assert desk.read == ["the start", "the end"]
    assert "a bug while telling 'start'" in caplog.text


# Life


async def test_a_forgotten_rollback_is_told_to_the_end_and_leaves_nothing(desk: Desk) -> None:
    desk.timeline.fail("post_note", NOT_SENT)
    desk.decide(note("deleted"))
    await desk.time.pass_by()
    desk.outbox.forget(UID)
    await desk.time.pass_by(60)
    assert desk.read == ["the deleted"]
    assert desk.outbox.results(UID) == Results()
    assert desk.wakes == 0


async def test_forgetting_what_is_told_drops_its_results(desk: Desk) -> None:
    desk.decide(note())
    await desk.time.pass_by()
    desk.outbox.forget(UID)
    desk.outbox.forget("unknown")
    assert desk.outbox.results(UID) == Results()


async def test_a_settled_rollback_leaves_no_trace(desk: Desk) -> None:
    desk.decide(note(delivered_at=NOON, external_id="note-0"))
    await desk.time.pass_by()
    assert desk.timeline.calls == []
    assert len(asyncio.all_tasks()) == 1


async def test_close_ends_everything_at_once_and_for_good(desk: Desk) -> None:
    desk.timeline.fail("post_note", TIMED_OUT, KEY_REFUSED)
    desk.timeline.declare("incident-2")
    desk.decide(note())
    desk.outbox.submit("uid-2", "incident-2", [note("end")], wake=lambda: None)
    await desk.time.pass_by()
    await desk.outbox.close()
    desk.submit()
    assert len(asyncio.all_tasks()) == 1


# Results and the status


@pytest.mark.parametrize(
    ("before", "result", "after"),
    [
        pytest.param(
            note(),
            Delivered("start", "the start", "n", NOON),
            note(external_id="n", delivered_at=NOON),
            id="told",
        ),
        pytest.param(
            progress("new"),
            Delivered("progress", "old", "m", NOON),
            progress("new", external_id="m"),
            id="told with old words: only the id counts",
        ),
        pytest.param(note(), GaveUp("start", "the start", "no"), note(gave_up="no"), id="given up"),
        pytest.param(
            progress("new"), GaveUp("progress", "old", "no"), progress("new"), id="only the old"
        ),
        pytest.param(
            note(external_id="n", delivered_at=NOON),
            Delivered("start", "the start", "other", NOON + timedelta(1)),
            note(external_id="n", delivered_at=NOON),
            id="what is stored stays",
        ),
        pytest.param(note(), Delivered("end", "the end", "n", NOON), note(), id="another key"),
        pytest.param(
            note(),
            GaveUp("start", "the start", "x" * 2000),
            note(gave_up="x" * 1000),
            id="a long reason is cut",
        ),
    ],
)
def test_results_become_part_of_the_status(
    before: Update, result: Delivered | GaveUp, after: Update
) -> None:
    once = with_results([before], Results((result,)))
    assert once == (after,)
    assert with_results(once, Results((result,))) == once


# The limiter


@dataclass
class Line:
    """Requests that stand in line, and when they were let through."""

    time: SteppedTime
    limiter: Limiter
    passed: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def join(self, *names: str, rank: Rank = Rank.NOTE) -> None:
        async def one(name: str) -> None:
            await self.limiter.take(rank)
            self.passed.append((name, self.time.seconds))

        self.tasks += [asyncio.create_task(one(name)) for name in names]

    @property
    def names(self) -> Sequence[str]:
        return [name for name, _ in self.passed]


@pytest.fixture
async def line(time: SteppedTime) -> AsyncIterator[Line]:
    windows = ((2, 10.0), (5, 60.0))
    it = Line(time, Limiter(windows, monotonic=time.monotonic, sleep=time.sleep))
    yield it
    for task in it.tasks:
        task.cancel()
    await asyncio.gather(*it.tasks, return_exceptions=True)


async def test_both_windows_are_kept(line: Line) -> None:
    line.join(*"abcdefg")
    await line.time.pass_by(120)
    assert [round(at) for _, at in line.passed] == [0, 0, 10, 10, 20, 60, 60]


async def test_the_shipped_windows_are_half_of_the_accounts_limit(time: SteppedTime) -> None:
    it = Line(time, Limiter(monotonic=time.monotonic, sleep=time.sleep))
    it.join(*map(str, range(200)))
    await time.pass_by(59)
    times = [at for _, at in it.passed]
    assert len(times) == 150
    assert max(sum(at <= one < at + 10 for one in times) for at in times) == 25
    await time.pass_by(30)
    assert len(it.passed) == 200


async def test_the_most_urgent_goes_first_and_among_equals_the_first(line: Line) -> None:
    line.join("1", "2", "p", rank=Rank.PROGRESS)
    await line.time.pass_by()
    line.join("c", rank=Rank.CHANGE)
    line.join("n", "o")
    await line.time.pass_by(60)
    assert line.names == ["1", "2", "n", "o", "c", "p"]


async def test_a_pause_holds_everybody(line: Line) -> None:
    line.limiter.pause(7)
    line.limiter.pause(3)
    line.join("a")
    await line.time.pass_by(30)
    assert line.passed == [("a", 7.0)]


async def test_what_did_not_wait_still_counts(line: Line) -> None:
    line.limiter.charge()
    line.join("a", "b")
    await line.time.pass_by(30)
    assert line.passed == [("a", 0.0), ("b", 10.0)]


async def test_whoever_leaves_the_line_does_not_block_it(line: Line) -> None:
    line.join("a", "b", "c", "d")
    await line.time.pass_by()
    line.tasks[2].cancel()
    await line.time.pass_by(10)
    assert line.names == ["a", "b", "d"]


async def test_a_429_holds_the_other_incidents_too(desk: Desk) -> None:
    desk.timeline.fail("post_note", THROTTLED)
    desk.timeline.declare("incident-2")
    desk.decide(note())
    await desk.time.pass_by()
    desk.outbox.submit("uid-2", "incident-2", [note("end")], wake=lambda: None)
    await desk.time.pass_by(6)
    assert desk.timeline.times("post_note") == 1
    await desk.time.pass_by(1)
    assert desk.timeline.texts("incident-2") == ["the end"]


async def test_notes_of_many_incidents_go_before_progress(desk: Desk) -> None:
    ids = [f"uid-{number}" for number in range(40)]
    for uid in ids:
        desk.timeline.declare(uid)
        desk.outbox.submit(uid, uid, [progress(uid)], wake=lambda: None)
    await desk.time.pass_by(1)
    for uid in ids[:10]:
        updates = [progress(uid), note("end")]
        desk.outbox.submit(uid, uid, updates, wake=lambda: None)
    desk.decide(note())
    await desk.time.pass_by(10)
    later = [name for name, _ in desk.timeline.calls[25:]]
    assert later == ["post_note"] * 11 + ["post_message"] * 14


# What the numbers and the spans say


async def test_what_waits_is_pending_until_it_is_told(desk: Desk) -> None:
    desk.timeline.fail("post_note", NOT_SENT)
    desk.decide(note(), change(), note("end"))
    await desk.time.pass_by()
    assert [one.key for one in desk.outbox.pending()] == ["start", "change", "end"]
    await desk.time.pass_by(2)
    assert desk.outbox.pending() == []


async def test_each_end_is_heard_of_once(
    time: SteppedTime, timeline: FakeTimeline, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ends: list[tuple[str, bool]] = []

    def on_end(kind: str, *, is_told: bool) -> None:
        ends.append((kind, is_told))

    limiter = Limiter(monotonic=time.monotonic, sleep=time.sleep)
    outbox = Outbox(
        timeline, limiter=limiter, now=time.now, process_id="process-1",
        sleep=time.sleep, on_end=on_end,
    )  # fmt: skip
    desk = Desk(time, timeline, outbox)
    timeline.fail("post_message", NOT_ACCEPTED)
    desk.decide(note(), progress(), change())
    await time.pass_by()
    desk.take_turn()
    await time.pass_by()
    await outbox.close()
    assert ends == [("Note", True), ("Message", False), ("ChangeEvent", True)]
    told = [vars(record) for record in caplog.records]
    assert [(one["incident"], one["uid"]) for one in told] == [(INCIDENT, UID)] * 3


async def test_every_attempt_is_a_span_of_the_trace_that_was_followed(desk: Desk) -> None:
    Tracing.tracer = tracer = FakeTracer()
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736")
    desk.timeline.fail("post_note", NOT_SENT)
    follow(trace)
    desk.decide(note())
    follow(None)
    await desk.time.pass_by(2)
    Tracing.tracer = None
    failed, told = tracer.named("deliver")
    assert (failed.parent, failed.error) == (trace, "TimelineUnavailableError")
    assert (told.parent, told.error) == (trace, "")
    assert told.attributes == {"key": "start", "kind": "Note", "incident": INCIDENT}
