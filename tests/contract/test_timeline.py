"""
One suite for the port Timeline: the fake, and the real client before the stand-in FireHydrant.

After it, what only a server can do wrong: client and outbox together still tell everything once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import httpx
import pytest

from incident_rollback.clients.firehydrant import FireHydrant, KeyFile
from incident_rollback.controller.limiter import Limiter
from incident_rollback.controller.outbox import ChangeFacts, Delivered, Outbox, Results, Trouble
from incident_rollback.crd.v1alpha1 import Update
from incident_rollback.errors import TimelineRefusedError
from incident_rollback.ports import ChangeEvent, Timeline
from tests.fakes.timeline import FakeTimeline
from tests.sandbox.firehydrant import StandIn

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOTE = """checkout in production is back on checkout:1.18.0 (revision 5).
It was checkout:latest: 2 of 3 pods in ImagePullBackOff, &lt;none&gt; healthy — naïve “quotes”.
Next: revert the deploy at its source. (checkout-3f9a1c27b0d4e6f8)"""
CHANGE = ChangeEvent(
    external_id="0f7e2c1a-uid",
    summary="Rolled back shop/checkout",
    description="from revision 6 to revision 5",
    labels={"namespace": "shop", "deployment": "checkout"},
    starts_at=NOON,
    ends_at=NOON,
)


IMPATIENT_SECONDS = 0.5
"""For an answer that never comes; one that comes later than that is looked for, and no harm."""
PATIENCE_SECONDS = 60.0
"""Used up by a failure alone."""


@dataclass
class Account:
    """A timeline, and the few things that people do in FireHydrant meanwhile."""

    timeline: Timeline
    declare: Callable[[str], str]
    """Declare an incident of a severity; return its id."""
    resolve: Callable[[str], None]
    texts: Callable[[str], list[str]]
    """What notes and messages of an incident read, oldest first."""
    relations: Callable[[str], dict[str, str]]


def fake_account() -> Account:
    fake = FakeTimeline(now=lambda: NOON)

    def declare(severity: str) -> str:
        return fake.declare(f"incident-{len(fake.incidents)}", severity)

    def relations(incident_id: str) -> dict[str, str]:
        every = fake.relations.items()
        return {change: how for (incident, change), how in every if incident == incident_id}

    return Account(fake, declare, fake.resolve, fake.texts, relations)


def real_account(standin: StandIn, client: FireHydrant) -> Account:
    def declare(severity: str) -> str:
        return standin.declare(severity=severity)

    def texts(incident_id: str) -> list[str]:
        entries = standin.timeline(incident_id)
        return [one.text for one in entries if one.kind in {"note", "message"}]

    return Account(client, declare, standin.resolve, texts, standin.relations)


def a_client(standin: StandIn, folder: Path, *, call_seconds: float = 10.0) -> FireHydrant:
    key = folder / "key"
    key.write_text("fhb-test\n")
    return FireHydrant(
        standin.url,
        KeyFile(key),
        now=lambda: NOON,
        call_seconds=call_seconds,
        transport=httpx.AsyncHTTPTransport(),
    )


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(limits=()) as it:
        yield it
        assert it.violations == ()


@pytest.fixture(params=["fake", "client"])
async def account(
    request: pytest.FixtureRequest, standin: StandIn, tmp_path: Path
) -> AsyncIterator[Account]:
    if request.param == "fake":
        yield fake_account()
        return
    async with a_client(standin, tmp_path) as client:
        yield real_account(standin, client)


async def test_an_incident_says_how_bad_it_is_and_whether_it_goes_on(account: Account) -> None:
    incident = account.declare("GAMEDAY")
    facts = await account.timeline.read_incident(incident)
    assert (facts.is_drill, facts.is_active, facts.asked_at) == (True, True, NOON)
    account.resolve(incident)
    assert not (await account.timeline.read_incident(incident)).is_active


async def test_notes_and_messages_are_kept_as_they_are(account: Account) -> None:
    incident = account.declare("SEV1")
    note = await account.timeline.post_note(incident, NOTE)
    message = await account.timeline.post_message(incident, "1 of 3 pods")
    assert account.texts(incident) == [NOTE, "1 of 3 pods"]
    assert note != message


async def test_a_note_and_a_message_are_found_by_their_exact_text(account: Account) -> None:
    incident = account.declare("SEV1")
    note = await account.timeline.post_note(incident, NOTE)
    message = await account.timeline.post_message(incident, "1 of 3 pods")
    assert await account.timeline.find(incident, NOTE) == note
    assert await account.timeline.find(incident, "1 of 3 pods") == message
    assert await account.timeline.find(incident, "1 of 3") is None


async def test_a_text_of_another_incident_is_not_found(account: Account) -> None:
    here, there = account.declare("SEV1"), account.declare("SEV1")
    await account.timeline.post_note(here, NOTE)
    assert await account.timeline.find(there, NOTE) is None


async def test_an_edited_message_reads_as_edited_and_is_found_by_its_new_text(
    account: Account,
) -> None:
    incident = account.declare("SEV1")
    message = await account.timeline.post_message(incident, "1 of 3 pods")
    await account.timeline.edit_message(incident, message, "2 of 3 pods")
    await account.timeline.edit_message(incident, message, "2 of 3 pods")
    assert account.texts(incident) == ["2 of 3 pods"]
    assert await account.timeline.find(incident, "2 of 3 pods") == message
    assert await account.timeline.find(incident, "1 of 3 pods") is None


async def test_a_change_event_is_found_by_its_external_id(account: Account) -> None:
    assert await account.timeline.find_change(CHANGE.external_id) is None
    change = await account.timeline.post_change(CHANGE)
    assert await account.timeline.find_change(CHANGE.external_id) == change
    assert await account.timeline.find_change("another-uid") is None


async def test_a_change_is_related_once_and_the_last_word_counts(account: Account) -> None:
    incident = account.declare("SEV1")
    change = await account.timeline.post_change(CHANGE)
    await account.timeline.relate_change(incident, change, "suspect", "it was live then")
    await account.timeline.relate_change(incident, change, "fixed", "it is healthy again")
    await account.timeline.relate_change(incident, change, "fixed", "it is healthy again")
    assert account.relations(incident) == {change: "fixed"}


async def call_read(timeline: Timeline) -> object:
    return await timeline.read_incident("nowhere")


async def call_find(timeline: Timeline) -> object:
    return await timeline.find("nowhere", NOTE)


async def call_note(timeline: Timeline) -> object:
    return await timeline.post_note("nowhere", NOTE)


async def call_message(timeline: Timeline) -> object:
    return await timeline.post_message("nowhere", NOTE)


async def call_edit(timeline: Timeline) -> object:
    await timeline.edit_message("nowhere", "message-1", NOTE)
    return None


async def call_relate(timeline: Timeline) -> object:
    change = await timeline.post_change(CHANGE)
    await timeline.relate_change("nowhere", change, "fixed", "")
    return None


@pytest.mark.parametrize(
    "call", [call_read, call_find, call_note, call_message, call_edit, call_relate]
)
async def test_an_incident_that_is_not_there_is_said_to_be_so(
    account: Account, call: Callable[[Timeline], Awaitable[object]]
) -> None:
    with pytest.raises(TimelineRefusedError) as refused:
        await call(account.timeline)
    assert refused.value.reason == "IncidentNotFound"


async def test_a_message_that_is_gone_cannot_be_edited(account: Account) -> None:
    incident = account.declare("SEV1")
    with pytest.raises(TimelineRefusedError) as refused:
        await account.timeline.edit_message(incident, "gone", "2 of 3 pods")
    assert refused.value.reason == "IncidentNotFound"


async def test_a_blank_text_is_not_accepted(account: Account) -> None:
    incident = account.declare("SEV1")
    with pytest.raises(TimelineRefusedError) as refused:
        await account.timeline.post_note(incident, "  ")
    assert refused.value.reason == "NotAccepted"


# Behind a server that fails


@dataclass
class FastTime:
    """A hundred seconds pass in one."""

    began: float = field(default_factory=time.monotonic)

    def monotonic(self) -> float:
        return (time.monotonic() - self.began) * 100

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


@dataclass
class Told:
    """An incident, and an outbox that tells it the three kinds of updates."""

    standin: StandIn
    outbox: Outbox
    incident_id: str

    def decided(self, kind: str, text: str) -> Update:
        by = self.outbox.process_id
        fields = {"key": kind, "kind": kind, "text": text, "decidedAt": NOON, "decidedBy": by}
        return Update.model_validate(fields)

    async def tell_everything(self) -> Results:
        told = [("Note", NOTE), ("Message", "1 of 3 pods"), ("ChangeEvent", "Rolled back")]
        updates = [self.decided(kind, text) for kind, text in told]
        woken = asyncio.Event()
        facts = ChangeFacts(NOON, NOON, "fixed")
        self.outbox.submit("uid-1", self.incident_id, updates, wake=woken.set, change=facts)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len((results := self.outbox.results("uid-1")).told) < len(updates):
                await woken.wait()
                woken.clear()
        return results

    def assert_told_once(self, results: Results) -> None:
        assert [type(one) for one in results.told] == [Delivered] * 3
        note, message, change = (one for one in self.standin.timeline(self.incident_id))
        assert (note.text, message.text) == (NOTE, "1 of 3 pods")
        (event,) = self.standin.change_events
        assert self.standin.relations(self.incident_id) == {event.id: "fixed"}
        assert change.kind == "relation"
        assert self.standin.pending_faults == 0


@pytest.fixture
async def told(standin: StandIn, tmp_path: Path) -> AsyncIterator[Told]:
    fast = FastTime()
    limiter = Limiter(monotonic=fast.monotonic, sleep=fast.sleep)
    async with a_client(standin, tmp_path, call_seconds=IMPATIENT_SECONDS) as client:
        outbox = Outbox(client, limiter=limiter, now=fast.now, sleep=fast.sleep)
        yield Told(standin, outbox, standin.declare())
        await outbox.close()


def commit_then_time_out(standin: StandIn) -> None:
    standin.commit_then_time_out(times=4, match="POST")


def commit_then_hang_up(standin: StandIn) -> None:
    standin.commit_then_time_out(times=4, match="POST", hang_up_after=0.01)


def commit_then_500(standin: StandIn) -> None:
    standin.commit_then_500(times=4, match="POST")


def fail_before(standin: StandIn) -> None:
    for post in ("notes", "generic_chat_messages", "changes/events", "related_change_events"):
        standin.fail_next(503, match=f"POST .*/{post}$")


def limit(standin: StandIn) -> None:
    standin.fail_next(429, times=3, retry_after=2)


def commit_and_list_late(standin: StandIn) -> None:
    standin.commit_then_500(match="POST .*/notes")
    standin.show_events_late(0.3)


def commit_and_list_as_notes(standin: StandIn) -> None:
    standin.show_notes_as("note")
    standin.commit_then_500(times=2, match="POST .*/incidents")


@pytest.mark.parametrize(
    "go_wrong",
    [
        commit_then_time_out,
        commit_then_hang_up,
        commit_then_500,
        fail_before,
        limit,
        commit_and_list_late,
        commit_and_list_as_notes,
    ],
)
async def test_everything_is_told_once(told: Told, go_wrong: Callable[[StandIn], None]) -> None:
    go_wrong(told.standin)
    told.assert_told_once(await told.tell_everything())


async def test_everything_is_told_once_after_a_time_without_a_server(told: Told) -> None:
    told.standin.go_away()
    telling = asyncio.create_task(told.tell_everything())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (trouble := told.outbox.results("uid-1").trouble) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert trouble == Trouble("Unreachable", f"FireHydrant cannot be reached at {told.standin.url}")
    told.standin.come_back()
    told.assert_told_once(await telling)


async def test_a_key_that_is_replaced_is_used_for_the_same_request(
    standin: StandIn, tmp_path: Path
) -> None:
    incident = standin.declare()
    async with a_client(standin, tmp_path) as client:
        await client.post_message(incident, "with the first key")
        standin.accept_only("fhb-second")
        (tmp_path / "key").write_text("fhb-second")
        await client.post_message(incident, "with the second key")
    assert len(standin.timeline(incident)) == 2


@pytest.mark.parametrize(("status", "reason"), [(404, "IncidentNotFound"), (403, "KeyForbidden")])
async def test_a_private_incident_is_said_to_be_out_of_reach(
    standin: StandIn, tmp_path: Path, status: Literal[403, 404], reason: str
) -> None:
    standin.answer_private_with(status)
    private = standin.declare(private=True)
    async with a_client(standin, tmp_path) as client:
        with pytest.raises(TimelineRefusedError, match="private") as refused:
            await client.post_note(private, NOTE)
    assert refused.value.reason == reason
