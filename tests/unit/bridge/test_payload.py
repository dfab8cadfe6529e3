import gc
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from incident_rollback.bridge.payload import (
    LIQUID,
    Ignored,
    Malformed,
    Payload,
    Request,
    read_payload,
)
from incident_rollback.domain.incident import Incident
from tests.builders import are_usable

NOW = datetime(2026, 11, 23, 2, 14, tzinfo=UTC)
SENT = int(NOW.timestamp())
SEVEN = {
    "incident_id": "i-1",
    "name": "Checkout is down",
    "summary": "since the deploy",
    "service": "checkout",
    "environment": "production",
    "channel_id": "",
    "channel_name": "",
}
OURS: dict[str, Any] = {
    "incident_id": "i-1",
    "services": [{"id": "s", "name": "Checkout API", "labels": {}}],
    "environments": [{"id": "e", "name": "Production"}],
}


def read(document: object) -> Payload:
    return read_payload(json.dumps(document).encode(), NOW)


def request(document: object) -> Request:
    payload = read(document)
    assert isinstance(payload, Request), payload
    return payload


def refusal(payload: Payload) -> Malformed:
    assert isinstance(payload, Malformed), payload
    assert are_usable(payload.message), payload
    # Whoever mends the template copies this: Liquid tells upper case from lower case.
    assert payload.message.lower().count("| tojson") == payload.message.count("| toJSON")
    return payload


def test_relays_form_becomes_a_request() -> None:
    assert read(SEVEN) == Request(
        form="relay",
        incident=Incident(
            id="i-1",
            services=("checkout",),
            environments=("production",),
            name="Checkout is down",
        ),
    )


def test_a_form_that_is_fit_to_be_acted_on_stays_so_with_one_more_pair() -> None:
    assert isinstance(read_payload(ours_with(b'"summary": "fine"'), NOW), Request)


@pytest.mark.parametrize("approve", [True, False])
def test_an_approval_is_asked_for_in_our_form(approve: bool) -> None:
    assert request(OURS | {"approve": approve}).approve is approve


def test_our_form_becomes_a_request() -> None:
    document = OURS | {
        "incident_number": 1842,
        "incident_url": "https://app.example.com/1842",
        "name": "Checkout is down",
        "severity": "SEV1",
        "started_at": "2026-11-23T02:01:00.123Z",
        "sent_at": SENT,
        "to_revision": 3,
        "dry_run": True,
    }

    assert read(document) == Request(
        form="ours",
        dry_run=True,
        to_revision=3,
        incident=Incident(
            id="i-1",
            services=("Checkout API",),
            environments=("Production",),
            number=1842,
            name="Checkout is down",
            url="https://app.example.com/1842",
            severity="SEV1",
            started_at=datetime(2026, 11, 23, 2, 1, tzinfo=UTC),
        ),
    )


def ours_with(pair: bytes) -> bytes:
    """Return our form, fit to be acted on, with one more pair of key and value."""
    return json.dumps(OURS).encode()[:-1] + b", " + pair + b"}"


NOT_JSON = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"hello", id="a word"),
    pytest.param(b'{"name": "a "quoted" word"}', id="a quote in a text"),
    pytest.param(b'{"name": "C:\\jobs"}', id="a backslash in a text"),
    pytest.param(b'{"a": 1} {"b": 2}', id="two documents"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b"null", id="null"),
    pytest.param(b'"text"', id="a text"),
    pytest.param(b"7", id="a number"),
    pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
    pytest.param(b"\xff\xfe{\x00}\x00", id="UTF-16"),
    pytest.param(ours_with(b'"summary": "\xff"'), id="bytes that are not UTF-8"),
    pytest.param(ours_with(b'"summary": "\\ud800"'), id="half a surrogate pair in a text"),
    pytest.param(ours_with(b'"summary": {"\\udc00": 1}'), id="half a surrogate pair in a key"),
    pytest.param(ours_with(b'"summary": NaN'), id="NaN"),
    pytest.param(ours_with(b'"summary": -Infinity'), id="Infinity"),
    pytest.param(ours_with(b'"summary": 1e999'), id="a number too large for a float"),
    pytest.param(ours_with(b'"summary": ' + b"9" * 5000), id="an integer of 5,000 digits"),
    pytest.param(b"[" * 60_000, id="nested lists without an end"),
    pytest.param(ours_with(b'"summary": ' + b"[" * 30_000 + b"]" * 30_000), id="nested lists"),
    pytest.param(
        ours_with(b'"summary": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000), id="nested objects"
    ),
    pytest.param(ours_with(b'"incident_id": "i-1"'), id="a key twice"),
    pytest.param(ours_with(b'"summary": [{"b": 1, "b": 2}]'), id="a key twice, deeper"),
    pytest.param(b"{}", id="no keys"),
    pytest.param(b'{"incident_id": "i-1"}', id="neither form"),
    pytest.param(b'{"incident_id": "i-1", "event": {}}', id="a form that became an event"),
]


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_no_form_is_400_and_says_how_to_mend_it(body: bytes) -> None:
    refused = refusal(read_payload(body, NOW))

    assert refused.status == 400
    assert any(word in refused.message for word in ("template", "object")), refused.message
    if "neither" in refused.message:
        assert "runbook step Send a Webhook" in refused.message


RELAY_400 = [
    pytest.param({"dry_run": "false"}, id="an eighth key"),
    pytest.param({"event": {}}, id="an event beside them"),
    pytest.param({"service": 7}, id="a number as the service"),
    pytest.param({"environment": None}, id="null as the environment"),
    pytest.param({"incident_id": 7}, id="a number as the incident id"),
    pytest.param({"channel_name": {"x": "y"}}, id="an object that swallowed what follows"),
    pytest.param({"service": "s" * 254}, id="a name over 253 characters"),
    pytest.param({"services": []}, id="both forms at once"),
]


@pytest.mark.parametrize("changed", RELAY_400)
def test_relays_form_is_exactly_its_seven_texts(changed: dict[str, Any]) -> None:
    refused = refusal(read(SEVEN | changed))

    assert refused.status == 400
    assert "services" in changed or "seven texts" in refused.message
    assert "services" in changed or "`| toJSON`" in refused.message


@pytest.mark.parametrize("key", sorted(SEVEN.keys() - {"incident_id"}))
def test_relays_form_with_a_key_less_is_400(key: str) -> None:
    fewer = {name: text for name, text in SEVEN.items() if name != key}

    refused = refusal(read(fewer))

    assert (refused.status, "seven texts" in refused.message) == (400, True)


def test_keys_forged_by_an_incidents_name_are_400() -> None:
    name = 'x", "summary": "s", "service": "payments", "environment": "production", "x": "'
    body = "{" + ",".join(f'"{key}": "{text}"' for key, text in SEVEN.items()) + "}"

    assert refusal(read_payload(body.replace("Checkout is down", name).encode(), NOW)).status == 400


def test_line_breaks_and_control_characters_in_texts_are_accepted() -> None:
    body = json.dumps(SEVEN).replace("since the deploy", "a\n\tb\r\x00c").encode()

    assert isinstance(read_payload(body, NOW), Request)


OURS_400 = [
    pytest.param({"services": "checkout"}, "services", id="a text as the services"),
    pytest.param({"services": [7]}, "services", id="a number as a service"),
    pytest.param({"services": [{"name": 7}]}, "services", id="a number as a service's name"),
    pytest.param(
        {"services": [{"id": "s"}]}, "services is of the wrong kind", id="a service without a name"
    ),
    pytest.param({"services": [{"name": None}]}, "services", id="null as a service's name"),
    pytest.param({"environments": {}}, "environments", id="an object as the environments"),
    pytest.param({"environments": [{"name": "e" * 254}]}, "253", id="a name over 253 characters"),
    pytest.param({"incident_id": 7}, "incident_id", id="a number as the incident id"),
    pytest.param({"incident_id": "i" * 254}, "253", id="an incident id over 253 characters"),
    pytest.param({"incident_number": "7"}, "incident_number", id="a text as the number"),
    pytest.param({"incident_number": -1}, "incident_number", id="a negative number"),
    pytest.param({"incident_number": 2**60}, "incident_number", id="a number too large"),
    pytest.param({"name": 7}, "name", id="a number as the incident's name"),
    pytest.param({"severity": {"slug": "SEV1"}}, "severity", id="an object as the severity"),
    pytest.param({"dry_run": "false"}, "dry_run", id="a text as dry_run"),
    pytest.param({"dry_run": 0}, "dry_run", id="a number as dry_run"),
    pytest.param({"dry_run": None}, "dry_run", id="null as dry_run"),
    pytest.param({"approve": "true"}, "approve", id="a text as approve"),
    pytest.param({"dry_run": True, "approve": True}, "exclude", id="dry_run and approve at once"),
    pytest.param({"to_revision": 0}, "to_revision", id="revision 0"),
    pytest.param({"to_revision": True}, "to_revision", id="true as a revision"),
    pytest.param({"to_revision": "3"}, "to_revision", id="a text as a revision"),
    pytest.param({"to_revision": 3.0}, "to_revision", id="a fraction as a revision"),
    pytest.param({"sent_at": True}, "sent_at", id="true as sent_at"),
    pytest.param({"sent_at": "yesterday"}, "sent_at", id="words as sent_at"),
    pytest.param({"sent_at": "²"}, "sent_at", id="a digit that is no digit as sent_at"),
    pytest.param({"sent_at": "١٢"}, "sent_at", id="digits of another script as sent_at"),
    pytest.param({"started_at": 7}, "started_at", id="a number as started_at"),
    pytest.param({"started_at": "yesterday"}, "started_at", id="words as started_at"),
    pytest.param({"started_at": "2026-11-23T02:01:00"}, "started_at", id="a time without a zone"),
    pytest.param(
        {"started_at": "9999-12-31T23:59:59-12:00"}, "started_at", id="a time out of range"
    ),
    pytest.param({"service": "x"}, "does not have", id="a key of Relay's form"),
    pytest.param({"dryRun": True}, "dry_run", id="a key that is not known: those that are"),
    pytest.param({"sent_at": "9" * 21}, "sent_at", id="more digits than any clock has"),
]


@pytest.mark.parametrize(("changed", "named"), OURS_400)
def test_our_form_with_wrong_types_is_400_and_names_the_key(
    changed: dict[str, Any], named: str
) -> None:
    refused = refusal(read(OURS | changed))

    assert refused.status == 400
    assert named in refused.message


@pytest.mark.parametrize("key", ["services", "environments"])
def test_our_form_without_a_needed_key_is_400_and_shows_what_belongs_there(key: str) -> None:
    refused = refusal(read({name: value for name, value in OURS.items() if name != key}))

    assert refused.status == 400
    assert f'the key {key} is missing: add "{key}": {LIQUID[key]}' in refused.message


@pytest.mark.parametrize("document", [OURS, SEVEN])
@pytest.mark.parametrize("incident_id", [None, "", "  "])
def test_no_incident_id_is_422(document: dict[str, Any], incident_id: str | None) -> None:
    assert refusal(read(document | {"incident_id": incident_id})).status == 422


@pytest.mark.parametrize("document", [OURS, SEVEN])
def test_a_missing_incident_id_is_422(document: dict[str, Any]) -> None:
    fewer = {name: value for name, value in document.items() if name != "incident_id"}

    assert refusal(read(fewer)).status == 422


def test_a_wrong_type_is_400_even_without_an_incident_id() -> None:
    assert refusal(read(OURS | {"incident_id": "", "dry_run": 7})).status == 400


SENT_AT = [
    pytest.param(None, True, id="null"),
    pytest.param(SENT, True, id="now"),
    pytest.param(SENT - 300, True, id="300 s ago"),
    pytest.param(SENT + 300, True, id="300 s ahead"),
    pytest.param(SENT - 301, False, id="301 s ago"),
    pytest.param(SENT + 301, False, id="301 s ahead"),
    pytest.param(str(SENT), True, id="digits in quotes"),
    pytest.param(str(SENT - 301), False, id="old digits in quotes"),
    pytest.param(SENT + 0.5, True, id="a fraction"),
    pytest.param(0, False, id="zero"),
    pytest.param(-SENT, False, id="negative"),
    pytest.param(10**400, False, id="larger than any float"),
    pytest.param(1e308, False, id="the largest float"),
    pytest.param(SENT * 1000, False, id="milliseconds"),
    pytest.param("9" * 20, False, id="as many digits as are read"),
]


@pytest.mark.parametrize(("sent_at", "is_fresh"), SENT_AT)
def test_sent_at_may_be_five_minutes_off(sent_at: object, is_fresh: bool) -> None:
    payload = read(OURS | {"sent_at": sent_at})

    assert isinstance(payload, Request) if is_fresh else refusal(payload).status == 422


STARTED_AT = [
    pytest.param(None, None, id="null"),
    pytest.param("", None, id="empty, as Liquid prints nil"),
    pytest.param("2023-07-25 13:34:49 UTC", (2023, 7, 25, 13, 34, 49), id="as in webhooks"),
    pytest.param("2023-07-25T13:34:49Z", (2023, 7, 25, 13, 34, 49), id="ISO 8601"),
    pytest.param("2023-07-25T13:34:49.987Z", (2023, 7, 25, 13, 34, 49), id="whole seconds"),
    pytest.param("2023-07-25T15:34:49+02:00", (2023, 7, 25, 13, 34, 49), id="another zone"),
]


@pytest.mark.parametrize(("started_at", "expected"), STARTED_AT)
def test_when_the_incident_began(
    started_at: str | None, expected: tuple[int, int, int, int, int, int] | None
) -> None:
    wanted = datetime(*expected, tzinfo=UTC) if expected else None

    assert request(OURS | {"started_at": started_at}).incident.started_at == wanted


@pytest.mark.parametrize("nothing", [[], None])
def test_nothing_impacted_is_one_empty_name(nothing: object) -> None:
    incident = request(OURS | {"services": nothing, "environments": nothing}).incident

    assert (incident.services, incident.environments) == (("",), ("",))


def test_names_keep_their_order_and_come_once() -> None:
    named = [{"name": name} for name in ("b", "a", "b")]

    assert request(OURS | {"services": named}).incident.services == ("b", "a")


def test_shown_texts_are_cut_and_not_refused() -> None:
    incident = request(
        OURS | {"name": "n" * 9000, "incident_url": "u" * 9000, "severity": "s" * 9000}
    ).incident

    shown = (incident.name, incident.url, incident.severity)
    assert [len(text or "") for text in shown] == [500, 1000, 253]


def test_what_is_not_used_may_have_any_type() -> None:
    unused = ("summary", "milestone", "active", "channel_id", "channel_name", "opened_by")

    assert isinstance(read(OURS | {key: [{"x": 7}] for key in unused}), Request)


EVENTS = [
    pytest.param({"resource_type": "incident"}, "an incident webhook", id="an incident"),
    pytest.param({"resource_type": "change_event"}, "a change event", id="a change event"),
    pytest.param({"resource_type": "command_extension"}, "a command extension", id="a command"),
    pytest.param({"resource_type": "news"}, "an event", id="an event to come"),
    pytest.param({"resource_type": ["incident"]}, "an event", id="an event of a strange kind"),
    pytest.param(None, "an event", id="an event without a kind"),
]


@pytest.mark.parametrize(("event", "what"), EVENTS)
def test_events_ask_for_nothing_and_hear_which_step_does(event: object, what: str) -> None:
    payload = read({"data": {}, "event": event})

    assert isinstance(payload, Ignored)
    assert payload.why.startswith(what)
    assert "runbook step Send a Webhook" in payload.why


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"PWNED": 1, "services": [], "environments": []}', id="a key"),
        pytest.param(b'{"services": "PWNED", "environments": []}', id="a value"),
        pytest.param(b'{"event": {"resource_type": "PWNED"}}', id="an event's kind"),
        pytest.param(b'{"service": "PWNED', id="what is not JSON"),
        pytest.param(b'{"PWNED": 1, "PWNED": 2}', id="a key that is there twice"),
    ],
)
def test_the_body_is_never_repeated(body: bytes) -> None:
    assert "PWNED" not in str(read_payload(body, NOW))


@st.composite
def near_misses(draw: st.DrawFn) -> bytes:
    """Return JSON that has the keys of a form or an event, and anything behind them."""
    keys = st.sampled_from([*OURS, *SEVEN, *LIQUID, "event", "data", "resource_type"])
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | keys
    values = st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8
    )
    document = draw(st.dictionaries(keys, values))
    return json.dumps(draw(st.sampled_from([{}, OURS, SEVEN])) | document).encode()


@given(st.binary() | near_misses())
def test_any_bytes_produce_an_answer(body: bytes) -> None:
    payload = read_payload(body, NOW)

    assert isinstance(payload, Request | Ignored | Malformed)
    if isinstance(payload, Request):
        assert payload.incident.id
        assert payload.incident.services
        assert payload.incident.environments


@pytest.mark.parametrize("began", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_that_no_incident_began_at_is_400(began: str) -> None:
    assert refusal(read({**OURS, "started_at": began})).status == 400


@pytest.mark.parametrize("key", ["started_at", "sent_at"])
def test_a_value_that_is_refused_is_not_kept_in_memory(key: str) -> None:
    def kept() -> int:
        gc.collect()
        return sum(isinstance(one, ValidationError) for one in gc.get_objects())

    before = kept()
    for _ in range(3):
        read({**OURS, key: "PWNED"})

    assert kept() == before
