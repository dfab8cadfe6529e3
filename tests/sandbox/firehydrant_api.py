"""
The operations of the API: a call that keeps to the description becomes a write and an answer.

It knows nothing of connections, keys, limits or faults.
"""

import functools
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from tests.sandbox import firehydrant_shapes as shapes
from tests.sandbox.firehydrant_account import (
    BOT,
    Account,
    Author,
    ChangeEvent,
    Entry,
    Incident,
    Relation,
)
from tests.sandbox.firehydrant_contract import DATA, Call

Json = dict[str, Any]

UNSUPPORTED_PARAMETERS: Final = frozenset(
    {"saved_search_id", "query", "environments", "services", "starts_at", "ends_at"}
)
FIXTURES: Final = {409: "error-409-already-added", 502: "error-502-html"}


@dataclass(frozen=True)
class Answer:
    """What goes back; a text body is HTML, all else JSON."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class RefusedError(Exception):
    """The call ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.status))
        self.answer = answer


@dataclass
class Switches:
    """What is not known of the real FireHydrant, or differs from key to key."""

    note_type: Literal["bulk_update", "note"] = "bulk_update"
    """How the events list calls a note that came by the API."""
    is_newest_first: bool = True
    private_answer: Literal[403, 404] | None = 404
    """What a private incident answers; None: the key may see it."""
    events_late_seconds: float = 0.0
    accepted_key: str | None = None
    """The one key that is good; None: every key of the right form is."""


class Api:
    """The implemented operations, by their ids in the description."""

    def __init__(self, account: Account, switches: Switches) -> None:
        self.account = account
        self.switches = switches
        self._operations: Mapping[str, Callable[[Call, datetime], Answer]] = {
            "apiPing": self._ping,
            "apiPingNoAuth": self._ping,
            "getIncident": self._get_incident,
            "listIncidentEvents": self._list_events,
            "createIncidentNote": self._create_note,
            "updateIncidentNote": self._update_note,
            "createIncidentGenericChatMessage": self._create_message,
            "updateIncidentChatMessage": self._update_message,
            "deleteIncidentChatMessage": self._delete_message,
            "createChangeEvent": self._create_change_event,
            "listChangeEvents": self._list_change_events,
            "listIncidentRelatedChanges": self._list_relations,
            "createIncidentRelatedChange": self._create_relation,
            "updateIncidentRelatedChangeEvent": self._update_relation,
        }

    def lacks(self, call: Call) -> str | None:
        """Why the stand-in cannot answer a call that FireHydrant could."""
        if call.operation not in self._operations:
            return f"{call.operation} is not implemented by the stand-in"
        if unsupported := UNSUPPORTED_PARAMETERS & call.query.keys():
            return f"{', '.join(sorted(unsupported))} of {call.operation}: not implemented"
        return None

    def answer(self, call: Call, now: datetime) -> Answer:
        try:
            return self._operations[call.operation](call, now)
        except RefusedError as refused:
            return refused.answer

    def _ping(self, _call: Call, _now: datetime) -> Answer:
        return Answer(200, shapes.pong())

    def _get_incident(self, call: Call, _now: datetime) -> Answer:
        return Answer(200, shapes.incident_entity(self._incident(call)))

    def _list_events(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        as_of = now - timedelta(seconds=self.switches.events_late_seconds)
        entries = self.account.shown(incident, as_of)
        if not self.switches.is_newest_first:
            entries.reverse()
        wanted = {one for one in call.query.get("types", "").split(",") if one}
        kept = [one for one in entries if not wanted or one.event_type in wanted]
        return page(call, [shapes.event_entity(incident, one) for one in kept])

    def _create_note(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        entry = Entry(
            "note",
            text_of(call),
            BOT,
            instant_of(call.body, "occurred_at", now),
            now,
            self.switches.note_type,
            visibility=call.body.get("visibility", "private_to_org"),
        )
        incident.entries.append(entry)
        return Answer(201, shapes.note_entity(entry))

    def _update_note(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        note = self._entry(incident, "note", call.params["note_id"])
        changed = self.account.edit(incident, note, text_of(call), now)
        return Answer(200, shapes.note_entity(changed))

    def _create_message(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        at = instant_of(call.body, "occurred_at", now)
        vote = call.body.get("vote_direction")
        kind = "generic_chat_message"
        entry = Entry("message", text_of(call), BOT, at, now, kind, vote=vote)
        incident.entries.append(entry)
        return Answer(201, shapes.message_entity(entry))

    def _update_message(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        message = self._entry(incident, "message", call.params["message_id"])
        changed = self.account.edit(incident, message, text_of(call), now)
        return Answer(200, shapes.message_entity(changed))

    def _delete_message(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        message = self._entry(incident, "message", call.params["message_id"])
        return Answer(200, shapes.message_entity(self.account.delete(incident, message, now)))

    def _create_change_event(self, call: Call, now: datetime) -> Answer:
        event = self._change_event(call.body, now)
        self.account.add_change_event(event)
        return Answer(201, shapes.change_event(event, self._active))

    def _list_change_events(self, call: Call, _now: datetime) -> Answer:
        wanted = labels_of(call.query.get("labels", ""))
        events = [one for one in self.account.change_events.values() if has_labels(one, wanted)]
        events.reverse()
        return page(call, [shapes.slim_change_event(one, self._active) for one in events])

    def _list_relations(self, call: Call, _now: datetime) -> Answer:
        """A dismissed relation is taken away, so only those who ask for it get it."""
        incident = self._incident(call)
        wanted = {call.query["type"]} if "type" in call.query else {"caused", "fixed", "suspect"}
        relations = [
            one
            for one in self.account.relations.values()
            if one.incident_id == incident.id and one.type in wanted
        ]
        return page(call, [shapes.relation_entity(one, self._active) for one in relations])

    def _create_relation(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        event = self.account.change_events.get(call.body["change_event_id"])
        if event is None:
            raise RefusedError(error(404))
        if self.account.relation_of(incident, event) is not None:
            raise RefusedError(error(409))
        how, why = call.body["type"], call.body.get("why")
        relation = self.account.relate(incident, event, how, why, BOT, now)
        return Answer(201, shapes.relation_entity(relation, self._active))

    def _update_relation(self, call: Call, now: datetime) -> Answer:
        incident = self._incident(call)
        relation = self._relation(incident, call.params["related_change_event_id"])
        how = call.body.get("type", relation.type)
        why = call.body.get("why", relation.why)
        changed = self.account.change_relation(incident, relation, how, why, now)
        return Answer(200, shapes.relation_entity(changed, self._active))

    @property
    def _active(self) -> Sequence[Incident]:
        return [one for one in self.account.incidents.values() if one.is_active]

    def _incident(self, call: Call) -> Incident:
        incident = self.account.incidents.get(call.params["incident_id"])
        if incident is None:
            raise RefusedError(error(404))
        if incident.is_private and self.switches.private_answer is not None:
            raise RefusedError(error(self.switches.private_answer))
        return incident

    def _entry(self, incident: Incident, kind: str, entry_id: str) -> Entry:
        for entry in incident.entries:
            if entry.kind == kind and entry.id == entry_id and entry.deleted_at is None:
                return entry
        raise RefusedError(error(404))

    def _relation(self, incident: Incident, relation_id: str) -> Relation:
        relation = self.account.relations.get(relation_id)
        if relation is None or relation.incident_id != incident.id:
            raise RefusedError(error(404))
        return relation

    def _change_event(self, body: Json, now: datetime) -> ChangeEvent:
        """Unknown services and environments, and repeated identities, are left out quietly."""
        others = [Author(one["source_id"], one["name"], one["source"]) for one in authors_of(body)]
        named = [(one["type"], one["value"]) for one in body.get("change_identities", [])]
        return ChangeEvent(
            id=str(uuid.uuid4()),
            summary=body["summary"],
            created_at=now,
            starts_at=instant_of(body, "starts_at", now),
            ends_at=instant_of(body, "ends_at", now) if "ends_at" in body else None,
            authors=(BOT, *others),
            description=body.get("description"),
            external_id=body.get("external_id"),
            labels=body.get("labels", {}),
            services=tuple(self.account.services.find(body.get("services", []))),
            environments=tuple(self.account.environments.find(body.get("environments", []))),
            identities=tuple(dict.fromkeys(named)),
            attachments=tuple(body.get("attachments", [])),
        )


def page(call: Call, items: Sequence[Json]) -> Answer:
    number, per_page = call.query.get("page", 1), call.query.get("per_page", 20)
    return Answer(200, shapes.page_of(items, number, per_page))


def text_of(call: Call) -> str:
    """The text of a note or message; a blank one is understood, and refused."""
    text = str(call.body["body"])
    if not text.strip():
        raise RefusedError(error(422))
    return text


def instant_of(body: Json, name: str, otherwise: datetime) -> datetime:
    return datetime.fromisoformat(body[name]) if name in body else otherwise


def authors_of(body: Json) -> list[Json]:
    return list(body.get("authors", []))


def labels_of(listed: str) -> dict[str, str | None]:
    """Comma-separated key=value pairs; a key alone, here None, matches any value."""
    pairs = [one.partition("=") for one in listed.split(",") if one]
    return {key: value if equals else None for key, equals, value in pairs}


def has_labels(event: ChangeEvent, wanted: Mapping[str, str | None]) -> bool:
    return all(
        key in event.labels and value in {None, event.labels[key]} for key, value in wanted.items()
    )


def error(status: int, *messages: str, **headers: str) -> Answer:
    """The recorded answer of that status; `messages` go where the recorded one has its own."""
    recorded = recorded_error(status)
    if recorded is None:
        return Answer(status, f"<html><body><h1>{status}</h1></body></html>", headers)
    body = recorded["body"]
    if messages:
        body = body | {"messages": list(messages)}
    kept = {name: value for name, value in recorded["headers"].items() if name != "Content-Type"}
    return Answer(status, body, kept | headers)


@functools.cache
def recorded_error(status: int) -> Json | None:
    name = FIXTURES.get(status, f"error-{status}")
    path = DATA / "responses" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
