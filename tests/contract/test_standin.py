"""
The stand-in FireHydrant keeps its own contract: strict towards clients, true to the description.

Every answer in here is held against the published schema of its operation, by the client fixture.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.sandbox.firehydrant import Limit, StandIn, sign
from tests.sandbox.firehydrant_contract import DATA, load_contract
from tests.sandbox.firehydrant_limits import DOCUMENTED, RateLimiter, Refusal

Json = dict[str, Any]

ANY_ERROR = {"$ref": "#/components/schemas/AnyError"}
KEY = {"Authorization": "Bearer fhb-test"}
INCIDENT = "084eaf43-02a7-5ac7-929e-08a74fa619eb"
AT = f"/incidents/{INCIDENT}"
NOTES = r"POST .*/notes$"
SENT_AT = datetime.fromtimestamp(1767276502, UTC)
IMPATIENT = httpx.Timeout(30, read=0.1)
"""Of a client that leaves before it is answered."""


def recorded(name: str) -> Json:
    text = (DATA / "responses" / f"{name}.json").read_text(encoding="utf-8")
    response: Json = json.loads(text)
    return response


def hold_to_schema(response: httpx.Response) -> None:
    """Fail on an answer that the description does not allow; not all errors are listed in it."""
    response.read()
    contract = load_contract()
    operation = contract.find(response.request.method, response.url.path)
    schema = operation and contract.answer_schema(operation, response.status_code)
    if response.status_code < 500:
        assert contract.faults_of(response.json(), schema or ANY_ERROR) == []


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A stand-in with one open incident and no limits."""
    with StandIn(limits=()) as it:
        it.declare(services=["checkout-api"], environments=["Production"], incident_id=INCIDENT)
        yield it


@pytest.fixture
def client(standin: StandIn) -> Iterator[httpx.Client]:
    hooks = {"response": [hold_to_schema]}
    url = standin.url
    with httpx.Client(
        base_url=url, headers=KEY, timeout=30, trust_env=False, event_hooks=hooks
    ) as it:
        yield it


def post_note(client: httpx.Client, text: str = "rolled back") -> Json:
    response = client.post(f"{AT}/notes", json={"body": text})
    assert response.status_code == 201
    note: Json = response.json()
    return note


def list_events(client: httpx.Client, **params: str | int) -> list[Json]:
    events: list[Json] = client.get(f"{AT}/events", params=params).json()["data"]
    return events


def create_change(client: httpx.Client, **fields: object) -> Json:
    response = client.post("/changes/events", json={"summary": "back on revision 5", **fields})
    assert response.status_code == 201
    event: Json = response.json()
    return event


# The description


@pytest.mark.parametrize(
    "name", [pytest.param(one.stem, id=one.stem) for one in (DATA / "responses").glob("*.json")]
)
def test_recorded_responses_satisfy_their_schemas(name: str) -> None:
    response = recorded(name)
    if "schema" in response:
        schema = {"$ref": f"#/components/schemas/{response['schema']}"}
        assert load_contract().faults_of(response["body"], schema) == []


def shape(value: Any) -> Any:
    """The keys of a value, all the way down; an empty list says nothing about its items."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]  # pyright: ignore[reportUnknownVariableType]
    return None


def test_answers_look_like_the_recorded_ones(standin: StandIn, client: httpx.Client) -> None:
    labels = {"k8s-deployment": "checkout-api", "k8s-namespace": "shop"}
    note = client.post(f"{AT}/notes", json={"body": "done"})
    message = client.post(f"{AT}/generic_chat_messages", json={"body": "on it"})
    event = client.post(
        "/changes/events",
        json={
            "summary": "back on revision 5",
            "services": [standin.add_service("checkout-api", labels)],
            "environments": [standin.add_environment("Production")],
            "labels": dict.fromkeys(("type", "rollback-id", "namespace", "deployment"), "x"),
            "change_identities": [{"type": "image", "value": "checkout:1.8.3"}],
        },
    )
    answers = {
        "ping": client.get("/ping"),
        "note-created": note,
        "note-updated": client.patch(f"{AT}/notes/{note.json()['id']}", json={"body": "so"}),
        "generic-chat-message-created": message,
        "change-event-created": event,
        "change-events-by-label": client.get("/changes/events?labels=rollback-id=x"),
        "events-page-1": client.get(f"{AT}/events?types=bulk_update"),
        "error-404": client.get("/incidents/no-such-incident"),
    }
    for name, answer in answers.items():
        theirs = recorded(name)
        assert answer.status_code == theirs["status"], name
        assert shape(answer.json()) == shape(theirs["body"]), name


def test_an_incident_has_the_keys_of_a_recorded_one(client: httpx.Client) -> None:
    assert client.get(AT).json().keys() == recorded("incident")["body"].keys()


def test_change_types_and_relations_look_like_the_recorded_ones(client: httpx.Client) -> None:
    create_change(client, services=["checkout-api"])
    relation = client.get(f"{AT}/related_change_events").json()["data"][0]
    assert relation.keys() == recorded("related-change-event-created")["body"].keys()
    told = list_events(client, types="change_type")[0]["data"]
    assert shape(told) == shape(recorded("events-page-1")["body"]["data"][1]["data"])


# Strictness

BREACHES = [
    pytest.param("GET", "/incidents", None, 404, "no such operation", id="path not listed"),
    pytest.param("PUT", f"{AT}/notes", {"body": "x"}, 404, "no such", id="method not listed"),
    pytest.param("GET", f"{AT}/events?limit=5", None, 400, "limit is not", id="unknown parameter"),
    pytest.param(
        "GET", f"{AT}/events?page=one", None, 400, "page is invalid", id="page not a number"
    ),
    pytest.param("GET", f"{AT}/events?per_page=201", None, 400, "per_page", id="page too long"),
    pytest.param("GET", f"{AT}/events?page=1&page=2", None, 400, "twice", id="parameter twice"),
    pytest.param("GET", f"{AT}/events?types=notes", None, 400, "types", id="unknown event type"),
    pytest.param(
        "GET", f"{AT}/related_change_events?type=fix", None, 400, "type", id="not in enum"
    ),
    pytest.param(
        "POST", f"{AT}/notes", {"body": "x", "text": "x"}, 400, "text", id="unknown field"
    ),
    pytest.param("POST", f"{AT}/notes", {"body": 1}, 400, "body is invalid", id="wrong type"),
    pytest.param("POST", f"{AT}/notes", {}, 400, "body is missing", id="required field missing"),
    pytest.param("POST", f"{AT}/notes", [], 400, "is invalid", id="not an object"),
    pytest.param(
        "POST",
        f"{AT}/notes",
        {"body": "x", "visibility": "all"},
        400,
        "visibility does not have a valid value",
        id="value not in the list",
    ),
    pytest.param(
        "POST",
        f"{AT}/notes",
        {"body": "x", "occurred_at": "2026-01-01T14:09:30"},
        400,
        "occurred_at is invalid",
        id="time without an offset",
    ),
    pytest.param(
        "POST",
        "/changes/events",
        {"summary": "x", "labels": {"revision": 5}},
        400,
        "labels.revision is invalid",
        id="label that is not a text",
    ),
    pytest.param(
        "POST",
        "/changes/events",
        {"summary": "x", "change_identities": [{"type": "image", "name": "x"}]},
        400,
        "change_identities.0.value is missing",
        id="field missing deep inside",
    ),
    pytest.param("GET", f"{AT}/links", None, 501, "not implemented", id="beyond the stand-in"),
    pytest.param(
        "GET", "/changes/events?query=x", None, 501, "not implemented", id="filter beyond it"
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), BREACHES)
def test_strict(
    standin: StandIn,
    client: httpx.Client,
    method: str,
    path: str,
    body: object,
    status: int,
    words: str,
) -> None:
    response = client.request(method, path, json=body) if body is not None else client.get(path)
    assert response.status_code == status
    assert any(words in one for one in standin.violations), standin.violations
    assert standin.timeline(INCIDENT) == ()


BODIES = [
    pytest.param(b'{"body": "x"}', "text/plain", "content type", id="not declared as JSON"),
    pytest.param(b'{"body": "x"', "application/json", "not JSON", id="broken JSON"),
    pytest.param(b"", "application/json", "not JSON", id="no body"),
]


@pytest.mark.parametrize(("body", "content_type", "words"), BODIES)
def test_bodies_must_be_json(
    standin: StandIn, client: httpx.Client, body: bytes, content_type: str, words: str
) -> None:
    headers = {"Content-Type": content_type}
    assert client.post(f"{AT}/notes", content=body, headers=headers).status_code == 400
    assert words in standin.violations[0]


KEYS = [
    pytest.param("", id="none"),
    pytest.param("fhb-test", id="bare, as an old example shows it"),
    pytest.param("Bearer test", id="not a FireHydrant key"),
    pytest.param("Bearer fhb-", id="prefix alone"),
]


@pytest.mark.parametrize("authorization", KEYS)
def test_malformed_keys_are_refused_and_violations(
    standin: StandIn, client: httpx.Client, authorization: str
) -> None:
    response = client.get("/ping", headers={"Authorization": authorization})
    assert (response.status_code, response.json()) == (401, recorded("error-401")["body"])
    assert "Authorization" in standin.violations[0]


def test_a_wrong_key_is_refused_but_no_violation(standin: StandIn, client: httpx.Client) -> None:
    standin.accept_only("fhb-another-test")
    assert client.get("/ping").status_code == 401
    standin.accept_only("fhb-test")
    assert client.get("/ping").status_code == 200
    assert standin.violations == ()


def test_the_open_ping_needs_no_key(standin: StandIn, client: httpx.Client) -> None:
    assert client.get("/noauth/ping", headers={"Authorization": ""}).status_code == 200
    assert standin.violations == ()


# Timeline


def test_a_note_is_posted_edited_and_listed(standin: StandIn, client: httpx.Client) -> None:
    note = post_note(client, "starting")
    client.patch(f"{AT}/notes/{note['id']}", json={"body": "done"})
    (event,) = list_events(client, types="note,bulk_update")
    assert (event["type"], event["data"]["note"]["body"]) == ("bulk_update", "done")
    assert event["author"]["id"] == client.get("/ping").json()["actor"]["id"]
    (entry,) = standin.timeline(INCIDENT)
    assert (entry.kind, entry.text, str(entry.author)) == ("note", "done", "rollback-bot")
    assert [edit.before for edit in entry.edits] == ["starting"]
    assert standin.violations == ()


def test_a_note_may_be_listed_as_a_note(standin: StandIn, client: httpx.Client) -> None:
    standin.show_notes_as("note")
    note = post_note(client)
    (event,) = list_events(client)
    assert (event["type"], event["data"]["id"]) == ("note", note["id"])


def test_a_message_is_posted_edited_and_deleted(standin: StandIn, client: httpx.Client) -> None:
    posted = client.post(f"{AT}/generic_chat_messages", json={"body": "1 of 3"}).json()
    one = f"{AT}/generic_chat_messages/{posted['id']}"
    assert client.patch(one, json={"body": "2 of 3"}).json()["body"] == "2 of 3"
    assert list_events(client)[0]["data"]["body"] == "2 of 3"
    assert client.delete(one).status_code == 200
    assert (list_events(client), standin.timeline(INCIDENT)) == ([], ())
    assert client.patch(one, json={"body": "3 of 3"}).status_code == 404


def test_events_come_in_pages_newest_first(standin: StandIn, client: httpx.Client) -> None:
    for number in range(5):
        post_note(client, f"note {number}")
    page = client.get(f"{AT}/events", params={"page": 2, "per_page": 2}).json()
    assert [one["data"]["note"]["body"] for one in page["data"]] == ["note 2", "note 1"]
    assert page["pagination"] == {
        "count": 5,
        "page": 2,
        "items": 2,
        "pages": 3,
        "last": 3,
        "prev": 1,
        "next": 3,
    }
    standin.sort_events("oldest first")
    assert list_events(client, per_page=1)[0]["data"]["note"]["body"] == "note 0"


def test_an_empty_list_looks_like_the_recorded_one(client: httpx.Client) -> None:
    assert client.get(f"{AT}/events").json() == recorded("events-empty")["body"]


def test_what_people_say_is_listed_as_theirs(standin: StandIn, client: httpx.Client) -> None:
    standin.say(INCIDENT, "any objections?")
    standin.say(INCIDENT, "rolled back", kind="note", author="Grace Example")
    assert [(one["type"], one["author"]["name"]) for one in list_events(client)] == [
        ("bulk_update", "Grace Example"),
        ("chat_message", "Ada Example"),
    ]


def test_a_time_of_its_own_orders_an_entry(standin: StandIn, client: httpx.Client) -> None:
    post_note(client, "now")
    earlier = {"body": "before", "occurred_at": "2026-01-01T14:09:30Z"}
    client.post(f"{AT}/notes", json=earlier)
    assert [one.text for one in standin.timeline(INCIDENT)] == ["before", "now"]


def test_a_blank_note_is_understood_but_refused(standin: StandIn, client: httpx.Client) -> None:
    response = client.post(f"{AT}/notes", json={"body": " "})
    assert (response.status_code, response.json()) == (422, recorded("error-422")["body"])
    assert standin.violations == ()


MISSING = [
    pytest.param("GET", "/incidents/gone", None, id="incident"),
    pytest.param("GET", "/incidents/gone/events", None, id="its events"),
    pytest.param("POST", "/incidents/gone/notes", {"body": "x"}, id="its notes"),
    pytest.param("PATCH", f"{AT}/notes/gone", {"body": "x"}, id="note"),
    pytest.param("DELETE", f"{AT}/generic_chat_messages/gone", None, id="message"),
    pytest.param("PATCH", f"{AT}/related_change_events/gone", {"type": "fixed"}, id="relation"),
    pytest.param(
        "POST",
        f"{AT}/related_change_events",
        {"change_event_id": "gone", "type": "fixed"},
        id="change event",
    ),
]


@pytest.mark.parametrize(("method", "path", "body"), MISSING)
def test_what_is_not_there_is_404_and_no_violation(
    standin: StandIn, client: httpx.Client, method: str, path: str, body: object
) -> None:
    kwargs: Any = {} if body is None else {"json": body}
    response = client.request(method, path, **kwargs)
    assert (response.status_code, response.json()) == (404, recorded("error-404")["body"])
    assert standin.violations == ()


def test_private_incidents_are_hidden_forbidden_or_shown(
    standin: StandIn, client: httpx.Client
) -> None:
    path = f"/incidents/{standin.declare(private=True)}"
    assert client.get(path).status_code == 404
    standin.answer_private_with(403)
    assert client.post(f"{path}/notes", json={"body": "x"}).status_code == 403
    standin.answer_private_with(None)
    assert client.get(path).json()["restricted"] is True


def test_an_incident_ends_and_changes_severity(standin: StandIn, client: httpx.Client) -> None:
    standin.set_severity(INCIDENT, "GAMEDAY")
    standin.resolve(INCIDENT)
    shown = client.get(AT).json()
    assert (shown["severity"], shown["active"], shown["current_milestone"]) == (
        "GAMEDAY",
        False,
        "resolved",
    )
    assert shown == standin.incident(INCIDENT)


# Change events


def test_change_events_are_found_by_label(standin: StandIn, client: httpx.Client) -> None:
    create_change(client, labels={"rollback": "a"}, external_id="a")
    create_change(client, labels={"rollback": "b"}, external_id="b")

    def found(labels: str) -> list[str]:
        listed = client.get("/changes/events", params={"labels": labels}).json()["data"]
        return [one["external_id"] for one in listed]

    assert found("rollback=a") == ["a"]
    assert found("rollback") == ["b", "a"]
    assert found("rollback=a,other") == []
    assert [one.external_id for one in standin.change_events] == ["a", "b"]


def test_lengths_and_repeated_identities(client: httpx.Client) -> None:
    image = {"type": "image", "value": "checkout:1.18.0"}
    event = create_change(
        client,
        starts_at="2026-01-01T14:08:25Z",
        ends_at="2026-01-01T14:09:29Z",
        change_identities=[image, image],
    )
    assert (event["duration_ms"], event["duration_iso8601"]) == (64000, "PT1M4S")
    assert len(event["identities"]) == 1


SUSPECTS = [
    pytest.param({"services": ["checkout-api"]}, True, id="service of the incident, by slug"),
    pytest.param({"environments": ["Production"]}, True, id="environment of it, by name"),
    pytest.param({"services": ["payments"]}, False, id="service of another"),
    pytest.param({"services": ["who-knows"]}, False, id="unknown service, left blank"),
    pytest.param({}, False, id="nothing named"),
]


@pytest.mark.parametrize(("fields", "is_suspect"), SUSPECTS)
def test_change_events_attach_by_themselves(
    standin: StandIn, client: httpx.Client, fields: dict[str, object], is_suspect: bool
) -> None:
    standin.add_service("payments")
    event = create_change(client, **fields)
    assert standin.relations(INCIDENT) == ({event["id"]: "suspect"} if is_suspect else {})
    assert [one.kind for one in standin.timeline(INCIDENT)] == ["change_event"] * is_suspect


def test_unknown_components_are_left_blank(client: httpx.Client) -> None:
    event = create_change(client, services=["who-knows"], environments=["nowhere"])
    assert (event["services"], event["environments"]) == ([], [])


def test_a_closed_incident_suspects_nothing(standin: StandIn, client: httpx.Client) -> None:
    standin.resolve(INCIDENT)
    create_change(client, services=["checkout-api"])
    assert standin.relations(INCIDENT) == {}


def test_relating_twice_is_a_conflict_and_the_suspect_becomes_fixed(
    standin: StandIn, client: httpx.Client
) -> None:
    event = create_change(client, services=["checkout-api"])
    wanted = {"change_event_id": event["id"], "type": "fixed"}
    conflict = client.post(f"{AT}/related_change_events", json=wanted)
    body = recorded("error-409-already-added")["body"]
    assert (conflict.status_code, conflict.json()) == (409, body)
    (suspect,) = client.get(f"{AT}/related_change_events").json()["data"]
    path = f"{AT}/related_change_events/{suspect['id']}"
    fixed = client.patch(path, json={"type": "fixed", "why": "healthy again"}).json()
    assert (fixed["type"], fixed["created_by"]["source"]) == ("fixed", "patchy")
    assert standin.relations(INCIDENT) == {event["id"]: "fixed"}
    assert [(one.kind, one.text) for one in standin.timeline(INCIDENT)] == [
        ("change_event", "suspect: back on revision 5"),
        ("relation", "fixed: back on revision 5 (healthy again)"),
    ]


def test_relating_by_hand_and_taking_it_away(client: httpx.Client) -> None:
    event = create_change(client)
    wanted = {"change_event_id": event["id"], "type": "fixed", "why": "healthy"}
    relation = client.post(f"{AT}/related_change_events", json=wanted)
    assert relation.status_code == 201
    path = f"{AT}/related_change_events"
    client.patch(f"{path}/{relation.json()['id']}", json={"type": "dismissed"})
    assert client.get(path).json()["data"] == []
    assert len(client.get(f"{path}?type=dismissed").json()["data"]) == 1


# Limits


def test_the_limits_of_ten_seconds_and_of_a_minute() -> None:
    now = 0.0
    limiter = RateLimiter(DOCUMENTED, clock=lambda: now)
    assert [limiter.admit() for _ in range(50)] == [None] * 50
    now = 3.2
    assert limiter.admit() == Refusal(50, retry_after=7)
    for start in (10.0, 20.0, 30.0, 40.0, 50.0):
        now = start
        assert [limiter.admit() for _ in range(50)] == [None] * 50
    now = 59.0
    assert limiter.admit() == Refusal(50, retry_after=1)
    now = 60.0
    assert limiter.admit() is None


def test_a_minute_is_full_before_its_last_ten_seconds_are() -> None:
    now = 0.0
    limiter = RateLimiter((Limit(2, 10.0), Limit(3, 60.0)), clock=lambda: now)
    assert limiter.admit() is None
    now = 20.0
    assert (limiter.admit(), limiter.admit()) == (None, None)
    now = 31.0
    assert limiter.admit() == Refusal(3, retry_after=29)


def test_too_many_requests_are_told_when_to_come_again(
    standin: StandIn, client: httpx.Client
) -> None:
    standin.limit(Limit(2, 10.0))
    assert [client.get("/ping").status_code for _ in range(2)] == [200, 200]
    refused = client.post(f"{AT}/notes", json={"body": "x"})
    assert (refused.status_code, refused.json()) == (429, recorded("error-429")["body"])
    assert (refused.headers["RateLimit-Limit"], refused.headers["Retry-After"]) == ("2", "10")
    standin.limit(Limit(0, 1.0))
    assert client.get("/ping").headers["Retry-After"] == "1"
    standin.limit()
    assert client.get("/ping").status_code == 200
    assert (standin.violations, standin.timeline(INCIDENT)) == ((), ())


def test_the_documented_limits_are_the_default() -> None:
    with StandIn() as standin, httpx.Client(headers=KEY, trust_env=False) as client:
        statuses = [client.get(f"{standin.url}/ping").status_code for _ in range(51)]
    assert statuses == [200] * 50 + [429]


# Faults

STATUSES = [
    pytest.param(401, "error-401", id="key refused"),
    pytest.param(403, "error-403", id="key may not"),
    pytest.param(404, "error-404", id="not there"),
    pytest.param(422, "error-422", id="refused values"),
    pytest.param(429, "error-429", id="limited"),
    pytest.param(500, "error-500", id="broken"),
    pytest.param(502, "error-502-html", id="a proxy's page"),
    pytest.param(503, None, id="away, with a page that is not recorded"),
]


@pytest.mark.parametrize(("status", "name"), STATUSES)
def test_the_next_request_fails(
    standin: StandIn, client: httpx.Client, status: int, name: str | None
) -> None:
    standin.fail_next(status, match=NOTES)
    assert client.get("/ping").status_code == 200
    failed = client.post(f"{AT}/notes", json={"body": "x"})
    assert failed.status_code == status
    if name is not None:
        body = recorded(name)["body"]
        assert failed.text == body if isinstance(body, str) else failed.json() == body
    assert (standin.timeline(INCIDENT), standin.pending_faults) == ((), 0)
    post_note(client)
    assert [one.status for one in standin.asked(NOTES)] == [status, 201]


def test_a_failure_may_have_words_and_a_wait_of_its_own(
    standin: StandIn, client: httpx.Client
) -> None:
    standin.fail_next(503, times=2, body={"error": "maintenance"}, retry_after=3)
    for _ in range(2):
        failed = client.get("/ping")
        assert (failed.json(), failed.headers["Retry-After"]) == ({"error": "maintenance"}, "3")
    assert client.get("/ping").status_code == 200


def test_faults_for_ever_end_when_cleared(standin: StandIn, client: httpx.Client) -> None:
    standin.fail_next(500, times=None)
    assert [client.get("/ping").status_code for _ in range(3)] == [500] * 3
    standin.clear_faults()
    assert client.get("/ping").status_code == 200


def test_a_stalled_write_happens_late_even_if_nobody_waits(
    standin: StandIn, client: httpx.Client
) -> None:
    standin.stall(1.5, match=NOTES)
    with pytest.raises(httpx.ReadTimeout):
        client.post(f"{AT}/notes", json={"body": "late"}, timeout=IMPATIENT)
    assert standin.timeline(INCIDENT) == ()
    assert standin.wait_for(INCIDENT, "late").kind == "note"


def test_a_write_without_an_answer_has_happened(standin: StandIn, client: httpx.Client) -> None:
    standin.commit_then_time_out(match=NOTES)
    with pytest.raises(httpx.ReadTimeout):
        client.post(f"{AT}/notes", json={"body": "x"}, timeout=IMPATIENT)
    standin.wait_for(INCIDENT, "x")
    assert [one["data"]["note"]["body"] for one in list_events(client)] == ["x"]
    assert standin.asked(NOTES)[0].status is None


def test_a_write_may_end_in_a_closed_connection(standin: StandIn, client: httpx.Client) -> None:
    standin.commit_then_time_out(match=NOTES, hang_up_after=0.01)
    with pytest.raises(httpx.TransportError):
        client.post(f"{AT}/notes", json={"body": "x"})
    assert len(standin.timeline(INCIDENT)) == 1


def test_a_write_may_end_in_a_500(standin: StandIn, client: httpx.Client) -> None:
    standin.commit_then_500(match=NOTES)
    assert client.post(f"{AT}/notes", json={"body": "x"}).status_code == 500
    assert len(standin.timeline(INCIDENT)) == 1


def test_breaches_count_even_when_the_answer_is_a_fault(
    standin: StandIn, client: httpx.Client
) -> None:
    standin.fail_next(500)
    client.post(f"{AT}/notes", json={"text": "x"})
    assert len(standin.violations) == 2


def test_a_forgotten_note_is_on_the_timeline_only(standin: StandIn, client: httpx.Client) -> None:
    post_note(client, "kept")
    post_note(client, "lost")
    standin.forget("lost")
    assert [one["data"]["note"]["body"] for one in list_events(client)] == ["kept"]
    assert len(standin.timeline(INCIDENT)) == 2


def test_the_events_list_may_lag() -> None:
    now = SENT_AT
    with StandIn(now=lambda: now) as standin, httpx.Client(headers=KEY, trust_env=False) as client:
        incident = standin.declare()
        notes = f"{standin.url}/incidents/{incident}/notes"
        standin.show_events_late(30)
        note = client.post(notes, json={"body": "first"}).json()["id"]

        def shown() -> list[str]:
            page = client.get(f"{standin.url}/incidents/{incident}/events").json()
            return [one["data"]["note"]["body"] for one in page["data"]]

        now += timedelta(seconds=29)
        assert shown() == []
        client.patch(f"{notes}/{note}", json={"body": "second"})
        now += timedelta(seconds=1)
        assert shown() == ["first"]
        now += timedelta(seconds=29)
        assert shown() == ["second"]


def test_it_goes_away_and_comes_back_on_the_same_port(
    standin: StandIn, client: httpx.Client
) -> None:
    post_note(client)
    url = standin.url
    standin.go_away()
    standin.go_away()
    with pytest.raises(httpx.TransportError):
        client.get("/ping")
    with pytest.raises(httpx.ConnectError):
        client.get("/ping")
    standin.come_back()
    standin.come_back()
    assert (standin.url, len(list_events(client))) == (url, 1)


def test_going_away_ends_what_is_stalled_undone(standin: StandIn, client: httpx.Client) -> None:
    standin.stall(60, match=NOTES)
    failures: list[type[Exception]] = []

    def post() -> None:
        try:
            client.post(f"{AT}/notes", json={"body": "x"})
        except httpx.TransportError as error:
            failures.append(type(error))

    thread = threading.Thread(target=post)
    thread.start()
    while not standin.asked(NOTES):
        time.sleep(0.005)
    standin.go_away()
    thread.join()
    assert (len(failures), standin.timeline(INCIDENT)) == (1, ())


# Record


def test_requests_are_kept(standin: StandIn, client: httpx.Client) -> None:
    post_note(client, "x")
    list_events(client, types="note")
    first, second = standin.requests
    assert (first.line, first.body, first.status) == (f"POST /v1{AT}/notes", {"body": "x"}, 201)
    assert (second.query, second.body, second.status) == ({"types": "note"}, None, 200)
    assert "fhb-test" not in repr(standin.requests)


def test_many_threads_write_at_once(standin: StandIn) -> None:
    def write(name: str) -> None:
        with httpx.Client(headers=KEY, trust_env=False) as client:
            for number in range(10):
                text = {"body": f"{name} {number}"}
                client.post(f"{standin.url}{AT}/notes", json=text)
                standin.timeline(INCIDENT)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.text for one in standin.timeline(INCIDENT)}) == 40


def test_the_timeline_reads_like_a_report() -> None:
    now = datetime(2026, 11, 23, 2, 16, 9, tzinfo=UTC)
    with StandIn(now=lambda: now) as standin, httpx.Client(headers=KEY, trust_env=False) as client:
        incident = standin.declare(services=["checkout"])
        url = f"{standin.url}/incidents/{incident}"
        standin.say(incident, "rolling back, any objections?")
        client.post(f"{url}/notes", json={"body": "going back\nNext: nothing"})
        message = client.post(f"{url}/generic_chat_messages", json={"body": "1 of 3"}).json()["id"]
        now += timedelta(seconds=31)
        client.patch(f"{url}/generic_chat_messages/{message}", json={"body": "2 of 3"})
        client.patch(f"{url}/generic_chat_messages/{message}", json={"body": "3 of 3"})
        create = {"summary": "checkout", "services": ["checkout"]}
        client.post(f"{standin.url}/changes/events", json=create)
        assert standin.render_timeline(incident) == (
            "02:16:09  message       rolling back, any objections?\n"
            "02:16:09  note          going back\n"
            "                        Next: nothing\n"
            "02:16:09  message       3 of 3 (edited 2 times)\n"
            "02:16:40  change_event  suspect: checkout"
        )


def test_waiting_in_vain_says_what_is_there(standin: StandIn, client: httpx.Client) -> None:
    post_note(client, "something else")
    with pytest.raises(TimeoutError, match="something else"):
        standin.wait_for(INCIDENT, "rolled back", within_seconds=0.02)


# Runbook steps

CHANNEL = {"channel_id": "C0EXAMPLE42", "channel_name": "inc-1042-checkout-error-rate"}
NO_CHANNEL = {"channel_id": None, "channel_name": None}
SUMMARY = {"summary": "Errors began right after the 14:02 deploy of checkout-api"}
NEWLINES = (
    "Errors began after the deploy.\nSee the dashboard:\r\n\thttps://grafana.example.com/d/checkout"
)
RELAY = [
    pytest.param("runbook-relay.json", SUMMARY, {}, id="plain"),
    pytest.param("runbook-relay-empty-summary.json", {}, {}, id="summary is mostly empty"),
    pytest.param("runbook-relay-null-channel.json", SUMMARY | NO_CHANNEL, {}, id="no channel yet"),
    pytest.param(
        "runbook-relay-no-service.json",
        SUMMARY,
        {"service": (), "environment": ()},
        id="no service",
    ),
    pytest.param(
        "runbook-relay-several-services.json",
        SUMMARY,
        {"service": ["Checkout API", "payments"]},
        id="first of several, downcased",
    ),
    pytest.param(
        "runbook-relay-quote-in-name.txt",
        SUMMARY | {"name": 'Customers see "502 Bad Gateway" at checkout'},
        {},
        id="quotes are not escaped",
    ),
    pytest.param(
        "runbook-relay-newline-in-summary.txt", {"summary": NEWLINES}, {}, id="nor are line breaks"
    ),
    pytest.param(
        "runbook-relay-duplicate-keys.json",
        {"summary": 'ok", "service": "payments", "dry_run": "false'},
        {},
        id="so that a text can add keys",
    ),
]


@pytest.mark.parametrize(("name", "texts", "args"), RELAY)
def test_relays_template_renders_like_the_recorded_payload(
    standin: StandIn, name: str, texts: dict[str, object], args: dict[str, Any]
) -> None:
    overrides = CHANNEL | texts
    body = standin.render_step("relay", incident_id=INCIDENT, overrides=overrides, **args)
    assert body == (DATA / "payloads" / name).read_bytes()
    signatures = json.loads((DATA / "signatures.json").read_text(encoding="utf-8"))
    assert standin.sign(body, signatures["secret"]) == signatures["signatures"][name]


OURS = ["", "-no-service", "-null-channel", "-several-services", "-unicode-and-newlines"]


@pytest.mark.parametrize("name", [pytest.param(one, id=one or "plain") for one in OURS])
def test_our_template_renders_like_the_recorded_payload(name: str) -> None:
    """Values from the payload go in as texts and lists; layout and escapes have to come out."""
    payload = (DATA / "payloads" / f"runbook-tojson{name}.json").read_bytes()
    values: Json = json.loads(payload)
    with StandIn(now=lambda: SENT_AT) as standin:
        standin.declare(values["name"], description=values["summary"], incident_id=INCIDENT)
        taken = ("incident_number", "severity", "services", "environments", *CHANNEL)
        overrides = {key: values[key] for key in taken}
        body = standin.render_step(
            "ours", incident_id=INCIDENT, overrides=overrides, omit=["started_at"]
        )
    assert body == payload


def test_our_template_has_a_start_and_static_keys(standin: StandIn) -> None:
    static = {"dry_run": True, "to_revision": 5, "approve": None}
    body = json.loads(standin.render_step("ours", incident_id=INCIDENT, static=static))
    assert (body["dry_run"], body["to_revision"], "approve" in body) == (True, 5, False)
    assert abs(body["sent_at"] - time.time()) < 60
    assert datetime.fromisoformat(body["started_at"]).tzinfo is not None
    assert [one["name"] for one in body["services"]] == ["checkout-api"]


def test_relays_template_has_no_static_keys(standin: StandIn) -> None:
    with pytest.raises(ValueError, match="dry_run"):
        standin.run_step("http://127.0.0.1:9", incident_id=INCIDENT, secret="s", dry_run=True)


async def test_a_step_is_signed_posted_and_kept(standin: StandIn) -> None:
    async def receive(request: web.Request) -> web.Response:
        is_signed = request.headers["fh-signature"] == sign(await request.read(), "s3cret")
        headers = {"X-Incident-Rollback": "created"}
        return web.json_response(
            {"message": "ok"}, status=202 if is_signed else 401, headers=headers
        )

    app = web.Application()
    app.router.add_post("/firehydrant", receive)
    async with TestServer(app) as server:
        url = str(server.make_url("/firehydrant"))
        delivery = await asyncio.to_thread(
            standin.run_step, url, incident_id=INCIDENT, secret="s3cret"
        )
        wrong = await asyncio.to_thread(
            standin.run_step, url, "ours", incident_id=INCIDENT, secret="other"
        )
    assert (delivery.status, delivery.state, delivery.json) == (202, "completed", {"message": "ok"})
    assert delivery.response_headers["x-incident-rollback"] == "created"
    assert (wrong.status, wrong.state) == (401, "errored")
    assert standin.deliveries == (delivery, wrong)


def test_a_step_without_a_secret_or_an_answer(standin: StandIn) -> None:
    delivery = standin.run_step("http://127.0.0.1:9", incident_id=INCIDENT, secret=None)
    assert (delivery.status, delivery.state) == (None, "errored")
    assert "ConnectError" in (delivery.error or "")
    assert "fh-signature" not in delivery.headers


def test_an_incident_has_to_be_declared(standin: StandIn) -> None:
    with pytest.raises(LookupError, match="unheard"):
        standin.timeline("unheard")
