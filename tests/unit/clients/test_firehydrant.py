"""The client of FireHydrant: what it sends, and what it makes of each answer and each silence."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from incident_rollback.clients.firehydrant import (
    MAX_BODY,
    MAX_WORDS,
    FireHydrant,
    KeyFile,
    TimelineUnavailableError,
)
from incident_rollback.errors import RollbackError, ThrottledError, TimelineRefusedError
from incident_rollback.ports import ChangeEvent

RESPONSES = Path(__file__).parents[2] / "data" / "firehydrant" / "responses"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
URL = "https://api.eu.firehydrant.io/v1"
INCIDENT = "084eaf43-02a7-5ac7-929e-08a74fa619eb"
NOTE_ID = "235f4ea0-b60d-5a9f-949f-48182b4bfaaf"
CHANGE_ID = "05a0e9d7-c1f0-58e0-a1f1-be61db8f71de"
RELATION_ID = "2b4be62d-6d99-51cf-a682-70273ac0a49d"
NOTE = "Rolled back **shop/checkout-api** from revision 42 to 41. [rollback 7f3c2a91]"
KEY = "fhb-0123456789"

Reply = httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]]


def recorded(name: str) -> httpx.Response:
    response = json.loads((RESPONSES / f"{name}.json").read_text(encoding="utf-8"))
    body, headers = response["body"], response["headers"]
    if isinstance(body, str):
        return httpx.Response(response["status"], headers=headers, text=body)
    return httpx.Response(response["status"], headers=headers, json=body)


def said(status: int, **body: object) -> httpx.Response:
    return httpx.Response(status, json=body)


def listed(*entries: dict[str, Any], following: int | None = None) -> httpx.Response:
    return said(200, data=list(entries), pagination={"next": following})


@dataclass
class Wire:
    """Gives prepared replies, the last one for ever, and keeps what was sent."""

    replies: list[Reply]
    sent: list[httpx.Request] = field(default_factory=list[httpx.Request])

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, httpx.Response) else await reply(request)

    @property
    def lines(self) -> list[str]:
        return [f"{one.method} {one.url.path}" for one in self.sent]

    def body(self, index: int = -1) -> Any:
        return json.loads(self.sent[index].content)


@dataclass
class Bench:
    """A client on a wire, its key file, requests nobody had waited for, codes and pauses."""

    client: FireHydrant
    wire: Wire
    key_file: Path
    extra: list[int]
    codes: list[str]
    pauses: list[float]


Make = Callable[..., Bench]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[FireHydrant] = []

    def make(*replies: Reply, key: str = KEY, call_seconds: float = 10.0) -> Bench:
        key_file = tmp_path / "key"
        key_file.write_text(key)
        wire, extra, codes = Wire(list(replies)), list[int](), list[str]()
        pauses = list[float]()
        client = FireHydrant(
            f"{URL}/",
            KeyFile(key_file),
            now=lambda: NOON,
            on_extra=lambda: extra.append(1),
            on_answer=codes.append,
            on_throttled=pauses.append,
            call_seconds=call_seconds,
            transport=httpx.MockTransport(wire),
        )
        made.append(client)
        return Bench(client, wire, key_file, extra, codes, pauses)

    yield make
    for client in made:
        await client.close()


# What is sent


async def test_a_note_goes_to_the_set_host_as_json_with_a_bearer_key(bench: Make) -> None:
    it = bench(recorded("note-created"))
    assert await it.client.post_note(INCIDENT, NOTE) == NOTE_ID
    (request,) = it.wire.sent
    assert request.method == "POST"
    assert str(request.url) == f"{URL}/incidents/{INCIDENT}/notes"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"
    assert it.wire.body() == {"body": NOTE}


async def test_a_change_event_carries_its_uid_as_external_id_and_label(bench: Make) -> None:
    berlin = timezone(timedelta(hours=1))
    it = bench(recorded("change-event-created"))
    change = ChangeEvent(
        "uid-1", "Rolled back", "6 to 5", {"namespace": "shop"}, NOON.astimezone(berlin), NOON
    )
    assert await it.client.post_change(change) == CHANGE_ID
    assert it.wire.body() == {
        "external_id": "uid-1",
        "summary": "Rolled back",
        "description": "6 to 5",
        "labels": {"namespace": "shop", "rollback-uid": "uid-1"},
        "starts_at": "2026-11-23T12:00:00.000Z",
        "ends_at": "2026-11-23T12:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("given", "path"),
    [
        pytest.param("a/b?c#d", b"/v1/incidents/a%2Fb%3Fc%23d/notes", id="is one segment"),
        pytest.param("ünï", b"/v1/incidents/%C3%BCn%C3%AF/notes", id="is encoded as UTF-8"),
    ],
)
async def test_an_odd_incident_id(bench: Make, given: str, path: bytes) -> None:
    it = bench(recorded("note-created"))
    await it.client.post_note(given, NOTE)
    assert it.wire.sent[0].url.raw_path == path


@pytest.mark.parametrize("given", ["", ".", ".."])
async def test_an_id_that_steps_through_the_path_is_not_sent(bench: Make, given: str) -> None:
    it = bench(recorded("note-created"))
    with pytest.raises(TimelineRefusedError) as refused:
        await it.client.post_note(given, NOTE)
    assert (refused.value.reason, it.wire.sent) == ("IncidentNotFound", [])


# The key


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(KEY, id="bare"),
        pytest.param(f"  {KEY}\n", id="blanks and a newline around it"),
        pytest.param(f"Bearer {KEY}\n", id="with the word Bearer"),
        pytest.param(f"bearer  {KEY}", id="with the word in lower case"),
    ],
)
async def test_a_key_is_sent_once_with_bearer_however_it_was_written(
    bench: Make, written: str
) -> None:
    it = bench(recorded("note-created"), key=written)
    await it.client.post_note(INCIDENT, NOTE)
    assert it.wire.sent[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("", id="nothing"),
        pytest.param("two words", id="two words"),
        pytest.param("fhb-1\nX-Header: 1", id="a second line"),
        pytest.param("fhb-ü", id="not ASCII"),
    ],
)
async def test_a_file_without_a_usable_key_refuses_without_quoting_it(
    bench: Make, written: str
) -> None:
    it = bench(recorded("note-created"), key=written)
    with pytest.raises(TimelineRefusedError) as refused:
        await it.client.post_note(INCIDENT, NOTE)
    assert refused.value.reason == "KeyRefused"
    assert str(it.key_file) in str(refused.value)
    assert "words" not in str(refused.value)
    assert it.wire.sent == []


async def test_a_key_file_that_went_away_refuses_and_says_why(bench: Make) -> None:
    it = bench(recorded("note-created"))
    it.key_file.unlink()
    with pytest.raises(TimelineRefusedError, match="No such file") as refused:
        await it.client.post_note(INCIDENT, NOTE)
    assert refused.value.reason == "KeyRefused"


async def test_a_changed_file_is_read_again(bench: Make) -> None:
    it = bench(recorded("note-created"))
    await it.client.post_note(INCIDENT, NOTE)
    it.key_file.write_text("fhb-another-one")
    await it.client.post_note(INCIDENT, NOTE)
    assert it.wire.sent[1].headers["Authorization"] == "Bearer fhb-another-one"


def write_unseen(path: Path, key: str) -> None:
    """Write a key of the same length without a trace in the file's times."""
    stat = path.stat()
    path.write_text(key)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


async def test_after_a_401_the_file_is_read_even_if_it_looks_unchanged(bench: Make) -> None:
    it = bench(recorded("note-created"), recorded("error-401"), recorded("note-created"))
    await it.client.post_note(INCIDENT, NOTE)
    write_unseen(it.key_file, "fhb-9876543210")
    assert await it.client.post_note(INCIDENT, NOTE) == NOTE_ID
    assert it.wire.sent[2].headers["Authorization"] == "Bearer fhb-9876543210"
    assert it.wire.body(2) == {"body": NOTE}
    assert len(it.extra) == 1


async def test_a_refused_key_is_not_tried_twice_in_a_row(bench: Make) -> None:
    it = bench(recorded("error-401"))
    with pytest.raises(TimelineRefusedError) as refused:
        await it.client.post_note(INCIDENT, NOTE)
    assert (refused.value.reason, len(it.wire.sent)) == ("KeyRefused", 1)


async def test_the_key_is_in_no_message_repr_or_log(
    bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    it = bench(recorded("error-401"), httpx.ReadError("gone"), recorded("note-created"))
    seen: list[str] = []
    for _ in range(2):
        with pytest.raises(RollbackError) as failed:
            await it.client.post_note(INCIDENT, NOTE)
        seen += [repr(failed.value), repr(failed.value.__cause__)]
    await it.client.post_note(INCIDENT, NOTE)
    seen += [caplog.text, repr(it.client), repr(KeyFile(it.key_file).read()), repr(it.wire.sent)]
    assert KEY not in "".join(seen)


# What an answer means

WORDS = "Body can't be blank"
REFUSALS = [
    pytest.param(recorded("error-401"), "KeyRefused", "(401)", id="401: the key is refused"),
    pytest.param(recorded("error-403"), "KeyForbidden", "(403)", id="403: the key may not"),
    pytest.param(recorded("error-404"), "IncidentNotFound", "private", id="404: not there"),
    pytest.param(
        recorded("error-400"),
        "NotAccepted",
        "answered 400: bad request: type does not have a valid value",
        id="400: in the server's words",
    ),
    pytest.param(
        recorded("error-409-already-added"), "NotAccepted", "409: Already Added", id="409 likewise"
    ),
    pytest.param(recorded("error-422"), "NotAccepted", WORDS, id="422: messages are a list"),
    pytest.param(
        recorded("error-422-messages-as-string"),
        "NotAccepted",
        f"Unprocessable Entity: {WORDS}",
        id="422: messages are one string",
    ),
    pytest.param(said(400, error="no"), "NotAccepted", "400: no", id="400: the flat shape"),
    pytest.param(
        httpx.Response(413, text="<html><head><title>x</title></head><body>Too  <b>large</b>"),
        "NotAccepted",
        "answered 413: Too large",
        id="HTML is read as its words",
    ),
    pytest.param(httpx.Response(422), "NotAccepted", "said nothing", id="an empty body is said"),
    pytest.param(httpx.Response(301), "NotAccepted", "answered 301", id="no redirect is followed"),
    pytest.param(httpx.Response(400, content=b"[" * 9999), "NotAccepted", "[[", id="nested badly"),
]


@pytest.mark.parametrize(("reply", "reason", "message"), REFUSALS)
async def test_an_answer_that_is_no(
    bench: Make, reply: httpx.Response, reason: str, message: str
) -> None:
    with pytest.raises(TimelineRefusedError) as refused:
        await bench(reply).client.post_note(INCIDENT, NOTE)
    assert refused.value.reason == reason
    assert message in str(refused.value)


async def test_the_servers_words_are_cut(bench: Make) -> None:
    with pytest.raises(TimelineRefusedError) as refused:
        await bench(said(422, detail="x" * 1000)).client.post_note(INCIDENT, NOTE)
    assert str(refused.value).count("x") == MAX_WORDS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param("7", 7.0, id="as asked"),
        pytest.param("0", 1.0, id="at least a second"),
        pytest.param("86400", 300.0, id="five minutes at most"),
        pytest.param("soon", 10.0, id="not a number: the shorter window"),
        pytest.param("nan", 10.0, id="nor is this"),
        pytest.param(None, 10.0, id="not said: the shorter window"),
    ],
)
async def test_a_429_says_how_long_to_wait(bench: Make, header: str | None, seconds: float) -> None:
    headers = {} if header is None else {"Retry-After": header}
    it = bench(httpx.Response(429, headers=headers))
    with pytest.raises(ThrottledError) as throttled:
        await it.client.post_note(INCIDENT, NOTE)
    assert throttled.value.retry_after == seconds
    assert it.pauses == [seconds]


async def test_a_429_to_a_question_is_for_the_account_too(bench: Make) -> None:
    """Nobody stands in line with it: so the line has to be told."""
    it = bench(httpx.Response(429, headers={"Retry-After": "7"}), recorded("error-401"))
    for _ in range(2):
        with pytest.raises(RollbackError):
            await it.client.read_incident(INCIDENT)
    assert it.pauses == [7.0]


async def stall(request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError(request)


async def drip(_: httpx.Request) -> httpx.Response:
    async def forever() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.001)

    return httpx.Response(201, content=forever())


SILENCES = [
    pytest.param(
        recorded("error-500"), "ServerError", "FireHydrant answered 500", True, id="500 is said"
    ),
    pytest.param(
        recorded("error-502-html"), "ServerError", "FireHydrant answered 502", True, id="502 too"
    ),
    pytest.param(
        httpx.Response(201, text="<html>"), "ServerError", "without a JSON", True, id="not JSON"
    ),
    pytest.param(said(201, body="x"), "ServerError", "without an id", True, id="JSON without id"),
    pytest.param(
        httpx.Response(201, content=b" " * (MAX_BODY + 1)),
        "ServerError",
        f"more than {MAX_BODY} bytes",
        True,
        id="too long a body",
    ),
    pytest.param(
        httpx.Response(201, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no")),
        "Unreachable",
        "broke",
        True,
        id="a body that cannot be unpacked",
    ),
    pytest.param(stall, "TimedOut", "did not answer in 0.05 s", True, id="no answer at all"),
    pytest.param(drip, "TimedOut", "did not answer in 0.05 s", True, id="an answer without end"),
    pytest.param(httpx.ReadTimeout("x"), "TimedOut", "did not answer", True, id="httpx's time-out"),
    pytest.param(httpx.ReadError("x"), "Unreachable", "broke", True, id="broken while reading"),
    pytest.param(
        httpx.RemoteProtocolError("x"), "Unreachable", "broke", True, id="hung up without answer"
    ),
    pytest.param(httpx.ConnectError("x"), "Unreachable", URL, False, id="refused: nothing left"),
    pytest.param(
        httpx.ConnectTimeout("x"), "Unreachable", URL, False, id="no connection: nothing left"
    ),
    pytest.param(
        httpx.PoolTimeout("x"), "Unreachable", URL, False, id="no free connection: nothing left"
    ),
    pytest.param(httpx.ProxyError("x"), "Unreachable", URL, False, id="no proxy: nothing left"),
]


@pytest.mark.parametrize(("reply", "reason", "message", "was_sent"), SILENCES)
async def test_an_answer_that_never_came(
    bench: Make, reply: Reply, reason: str, message: str, was_sent: bool
) -> None:
    with pytest.raises(TimelineUnavailableError) as away:
        await bench(reply, call_seconds=0.05).client.post_note(INCIDENT, NOTE)
    assert (away.value.reason, away.value.was_sent) == (reason, was_sent)
    assert message in str(away.value)


HEARD = [
    pytest.param(recorded("note-created"), ["201"], id="an answer"),
    pytest.param(recorded("error-401"), ["401"], id="an error"),
    pytest.param(stall, ["TimedOut"], id="none in time"),
    pytest.param(httpx.ConnectError("x"), ["Unreachable"], id="nobody there"),
]


@pytest.mark.parametrize(("reply", "codes"), HEARD)
async def test_every_request_is_heard_of_by_its_code(
    bench: Make, reply: Reply, codes: list[str]
) -> None:
    it = bench(reply, call_seconds=0.05)
    with suppress(RollbackError):
        await it.client.post_note(INCIDENT, NOTE)
    assert it.codes == codes


async def test_an_edit_needs_no_body_in_the_answer(bench: Make) -> None:
    it = bench(httpx.Response(204))
    await it.client.edit_message(INCIDENT, "message-1", "2 of 3 pods")
    assert it.wire.lines == [f"PATCH /v1/incidents/{INCIDENT}/generic_chat_messages/message-1"]
    assert it.wire.body() == {"body": "2 of 3 pods"}


# The incident


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"severity": "gameday", "active": True}, ("GAMEDAY", True), id="a drill"),
        pytest.param({"severity": None, "active": False}, ("", False), id="closed, no severity"),
        pytest.param({"severity": "SEV1"}, ("SEV1", True), id="unclear counts as active"),
        pytest.param({"active": None}, ("", True), id="so does null"),
    ],
)
async def test_what_the_incident_is(
    bench: Make, told: dict[str, object], expected: tuple[str, bool]
) -> None:
    it = bench(said(200, **told))
    facts = await it.client.read_incident(INCIDENT)
    assert (facts.severity, facts.is_active) == expected
    assert facts.asked_at == NOON
    assert len(it.extra) == 1


async def test_recorded_incidents_are_understood(bench: Make) -> None:
    it = bench(recorded("incident"), recorded("incident-resolved"))
    assert (await it.client.read_incident(INCIDENT)).is_active
    assert not (await it.client.read_incident(INCIDENT)).is_active


async def test_the_question_about_an_incident_has_its_own_time(bench: Make) -> None:
    with pytest.raises(TimelineUnavailableError, match=r"did not answer in 0\.02 s"):
        await bench(stall).client.read_incident(INCIDENT, timeout_seconds=0.02)


# Looking


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param({"note": {"id": "n", "body": NOTE}}, "n", id="a note inside a bulk update"),
        pytest.param({"id": "n", "body": NOTE}, "n", id="a note or message as such"),
        pytest.param({"id": "n", "deep": [{"er": {"id": "m", "x": NOTE}}]}, "m", id="anywhere"),
        pytest.param({"body": NOTE}, "event", id="no id beside it: the event's"),
        pytest.param([NOTE], "event", id="a bare list"),
        pytest.param({"id": "n", "body": f"{NOTE}\r\n"}, "n", id="a line break was added"),
        pytest.param({"id": "n", "body": f"{NOTE}!"}, None, id="a longer text is another text"),
        pytest.param({"id": NOTE + "?"}, None, id="nothing"),
        pytest.param(None, None, id="no data"),
    ],
)
async def test_a_text_is_found_wherever_it_is(bench: Make, data: object, found: str | None) -> None:
    it = bench(listed({"id": "event", "data": data}))
    assert await it.client.find(INCIDENT, NOTE) == found
    assert dict(it.wire.sent[0].url.params) == {
        "types": "note,bulk_update,generic_chat_message",
        "per_page": "200",
        "page": "1",
    }


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param("a &lt;none&gt; &amp; b\nc", id="as it was"),
        pytest.param("a &amp;lt;none&amp;gt; &amp;amp; b\nc", id="escaped once more"),
        pytest.param("a <none> & b\nc", id="with the escapes undone"),
        pytest.param("a &lt;none&gt; &amp; b\r\nc", id="with the line breaks of the web"),
    ],
)
async def test_a_text_is_found_however_it_is_escaped(bench: Make, shown: str) -> None:
    it = bench(listed({"data": {"id": "n", "body": shown}}))
    assert await it.client.find(INCIDENT, "a &lt;none&gt; &amp; b\nc") == "n"


@pytest.mark.parametrize("name", ["events-page-1", "events-note-as-note-type"])
async def test_the_id_of_a_recorded_note_is_the_notes_not_the_events(
    bench: Make, name: str
) -> None:
    assert await bench(recorded(name)).client.find(INCIDENT, NOTE) == NOTE_ID


async def test_pages_are_followed_and_only_the_first_was_waited_for(bench: Make) -> None:
    last = listed({"data": {"id": "n", "body": NOTE}})
    it = bench(listed(following=2), listed(following=3), last)
    assert await it.client.find(INCIDENT, NOTE) == "n"
    assert [one.url.params["page"] for one in it.wire.sent] == ["1", "2", "3"]
    assert len(it.extra) == 2


async def test_no_more_than_five_pages_are_read(bench: Make) -> None:
    it = bench(*(listed(following=page) for page in range(2, 9)))
    assert await it.client.find(INCIDENT, NOTE) is None
    assert len(it.wire.sent) == 5


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"data": None, "pagination": None}, id="null"),
        pytest.param({"data": []}, id="no pagination"),
        pytest.param({"data": [], "pagination": {"next": 1}}, id="a page that leads to itself"),
    ],
)
async def test_a_list_without_more_pages_ends(bench: Make, body: dict[str, object]) -> None:
    it = bench(said(200, **body))
    assert await it.client.find(INCIDENT, NOTE) is None
    assert len(it.wire.sent) == 1


async def test_a_long_list_may_be_longer_than_other_answers(bench: Make) -> None:
    it = bench(listed({"data": {"id": "n", "body": NOTE}}, {"data": "x" * MAX_BODY}))
    assert await it.client.find(INCIDENT, NOTE) == "n"


async def test_a_change_is_found_by_label_and_exact_external_id(bench: Make) -> None:
    others: list[dict[str, Any]] = [
        {"id": "c1", "external_id": "uid-11"},
        {"id": "c2", "external_id": None},
    ]
    it = bench(listed(*others, {"id": "c3", "external_id": "uid-1"}))
    assert await it.client.find_change("uid-1") == "c3"
    assert it.wire.sent[0].url.params["labels"] == "rollback-uid=uid-1"


# Relations


async def test_a_new_relation_is_one_request(bench: Make) -> None:
    it = bench(recorded("related-change-event-created"))
    await it.client.relate_change(INCIDENT, CHANGE_ID, "fixed", "")
    assert len(it.wire.sent) == 1
    assert it.wire.body() == {"change_event_id": CHANGE_ID, "type": "fixed"}


async def test_an_automatic_suspect_becomes_what_it_is(bench: Make) -> None:
    it = bench(
        recorded("error-409-already-added"),
        recorded("related-change-events-auto-suspect"),
        recorded("related-change-event-updated"),
    )
    await it.client.relate_change(INCIDENT, CHANGE_ID, "fixed", "healthy again")
    at = f"/v1/incidents/{INCIDENT}/related_change_events"
    assert it.wire.lines == [f"POST {at}", f"GET {at}", f"PATCH {at}/{RELATION_ID}"]
    assert it.wire.body() == {"type": "fixed", "why": "healthy again"}
    assert len(it.extra) == 2


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(recorded("related-change-events-auto-suspect"), id="it is so already"),
        pytest.param(listed(), id="a person dismissed it"),
        pytest.param(
            listed({"id": "r", "type": "caused", "change_event": {"id": "another"}}),
            id="only another change is listed",
        ),
    ],
)
async def test_a_relation_is_left_alone_when(bench: Make, known: httpx.Response) -> None:
    it = bench(recorded("error-409-already-added"), known)
    await it.client.relate_change(INCIDENT, CHANGE_ID, "suspect", "")
    assert [one.method for one in it.wire.sent] == ["POST", "GET"]
