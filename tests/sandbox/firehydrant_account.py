"""
What one FireHydrant account holds: its catalog, incidents, timelines and change events.

Plain state and its rules; no HTTP, no JSON of the API, no clock of its own, no lock.
"""

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self

Kind = Literal["note", "message", "change_event", "relation"]
Relating = Literal["caused", "fixed", "suspect", "dismissed"]

FIRST_NUMBER: Final = 1842
NAMES: Final = uuid.UUID("0f6d1b64-3c0b-4f4e-8d0a-5a1c6f0c2a11")
"""Catalog ids follow from names, so that two runs of a demo read alike."""


@dataclass(frozen=True)
class Author:
    """Who did something; prints as the name."""

    id: str
    name: str
    source: str
    email: str | None = None

    def __str__(self) -> str:
        return self.name


BOT: Final = Author("745afd0f-5604-5e1e-95ac-ae57b40b7b0e", "rollback-bot", "firehydrant_bot")
PATCHY: Final = Author("b1bd3a6d-0a2a-5a69-9b08-0c549a123c00", "FireHydrant", "patchy")
ADA: Final = Author(
    "1c1c887b-7c35-59ef-944f-83c62fbaec65", "Ada Example", "firehydrant_user", "ada@example.com"
)


@dataclass(frozen=True)
class Component:
    """A service or an environment of the catalog."""

    id: str
    name: str
    slug: str
    created_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


class Catalog:
    """All components of one kind, found by id, slug or name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._components: dict[str, Component] = {}

    def add(self, name: str, now: datetime, labels: Mapping[str, str] | None = None) -> Component:
        """Return the component of that name; labels, where given, replace those it had."""
        known = self._components.get(name)
        if known is None:
            slug = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
            component_id = str(uuid.uuid5(NAMES, f"{self.kind}/{name}"))
            known = Component(component_id, name, slug, now)
        self._components[name] = replace(known, labels=known.labels if labels is None else labels)
        return self._components[name]

    def find(self, keys: Iterable[str]) -> list[Component]:
        """The components that the keys name, once each; unknown keys are left out."""
        keys = set(keys)
        return [one for one in self._components.values() if keys & {one.id, one.slug, one.name}]


@dataclass(frozen=True)
class Edit:
    """A change of a text: when, and what it said before."""

    at: datetime
    before: str


@dataclass(frozen=True)
class Entry:
    """
    One entry of a timeline.
    `at` is when it is said to have happened, `written_at` when FireHydrant heard of it.
    """

    kind: Kind
    text: str
    author: Author
    at: datetime
    written_at: datetime
    event_type: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    edits: tuple[Edit, ...] = ()
    deleted_at: datetime | None = None
    visibility: str = "private_to_org"
    vote: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def as_of(self, instant: datetime) -> Self | None:
        """The entry as it was then; None before it was written and after it was deleted."""
        if self.written_at > instant or (self.deleted_at and self.deleted_at <= instant):
            return None
        for edit in self.edits:
            if edit.at > instant:
                return replace(self, text=edit.before)
        return self


@dataclass
class Incident:
    """An incident and its timeline, oldest entry first."""

    id: str
    number: int
    name: str
    severity: str
    created_at: datetime
    started_at: datetime
    summary: str = ""
    description: str = ""
    services: list[Component] = field(default_factory=list[Component])
    environments: list[Component] = field(default_factory=list[Component])
    channel_id: str | None = None
    channel_name: str | None = None
    is_active: bool = True
    is_private: bool = False
    opened_by: Author = ADA
    resolved_at: datetime | None = None
    entries: list[Entry] = field(default_factory=list[Entry])

    @property
    def milestone(self) -> str:
        return "investigating" if self.is_active else "resolved"

    @property
    def url(self) -> str:
        return f"https://app.firehydrant.io/org/example/incidents/{self.id}/incident/overview"

    @property
    def last_note(self) -> Entry | None:
        return next((one for one in reversed(self.entries) if one.kind == "note"), None)

    def resolve(self, now: datetime) -> None:
        self.is_active = False
        self.resolved_at = now


@dataclass(frozen=True)
class ChangeEvent:
    """A change somewhere; it is on a timeline only once it is related."""

    id: str
    summary: str
    created_at: datetime
    starts_at: datetime
    authors: tuple[Author, ...]
    description: str | None = None
    external_id: str | None = None
    ends_at: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    services: tuple[Component, ...] = ()
    environments: tuple[Component, ...] = ()
    identities: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Relation:
    """That a change event has to do with an incident, and how."""

    id: str
    incident_id: str
    change_event: ChangeEvent
    type: str
    why: str | None
    created_by: Author
    created_at: datetime
    updated_at: datetime


class Account:
    """Everything, and what follows from a write."""

    def __init__(self) -> None:
        self.services = Catalog("service")
        self.environments = Catalog("environment")
        self.incidents: dict[str, Incident] = {}
        self.change_events: dict[str, ChangeEvent] = {}
        self.relations: dict[str, Relation] = {}
        self._forgotten: list[re.Pattern[str]] = []

    def next_number(self) -> int:
        return FIRST_NUMBER + len(self.incidents)

    def forget(self, pattern: str) -> None:
        """Leave entries with such a text out of the events list, those to come as well."""
        self._forgotten.append(re.compile(pattern))

    def shown(self, incident: Incident, as_of: datetime) -> list[Entry]:
        """What the events list has, newest first; of the same instant, the later written first."""
        seen = [shown for one in incident.entries if (shown := one.as_of(as_of)) is not None]
        kept = [one for one in seen if not any(rx.search(one.text) for rx in self._forgotten)]
        return sorted(kept, key=lambda one: one.at)[::-1]

    def edit(self, incident: Incident, entry: Entry, text: str, now: datetime) -> Entry:
        return self._put(
            incident, replace(entry, text=text, edits=(*entry.edits, Edit(now, entry.text)))
        )

    def delete(self, incident: Incident, entry: Entry, now: datetime) -> Entry:
        return self._put(incident, replace(entry, deleted_at=now))

    def add_change_event(self, event: ChangeEvent) -> None:
        """Keep it, and let FireHydrant suspect it in every open incident that it touches."""
        self.change_events[event.id] = event
        touched = {one.id for one in (*event.services, *event.environments)}
        for incident in self.incidents.values():
            hurt = {one.id for one in (*incident.services, *incident.environments)}
            if incident.is_active and touched & hurt:
                self.relate(incident, event, "suspect", None, PATCHY, event.created_at)

    def relation_of(self, incident: Incident, event: ChangeEvent) -> Relation | None:
        for relation in self.relations.values():
            if relation.incident_id == incident.id and relation.change_event.id == event.id:
                return relation
        return None

    def relate(
        self,
        incident: Incident,
        event: ChangeEvent,
        how: str,
        why: str | None,
        author: Author,
        now: datetime,
    ) -> Relation:
        relation = Relation(str(uuid.uuid4()), incident.id, event, how, why, author, now, now)
        self.relations[relation.id] = relation
        kind: Kind = "change_event" if author is PATCHY else "relation"
        self._tell(incident, relation, kind, author, now)
        return relation

    def change_relation(
        self, incident: Incident, relation: Relation, how: str, why: str | None, now: datetime
    ) -> Relation:
        changed = replace(relation, type=how, why=why, updated_at=now)
        self.relations[relation.id] = changed
        self._tell(incident, changed, "relation", BOT, now)
        return changed

    def _tell(
        self, incident: Incident, relation: Relation, kind: Kind, author: Author, now: datetime
    ) -> None:
        """Put a relation, new or changed, on the timeline."""
        event = relation.change_event
        text = f"{relation.type}: {event.summary}" + (f" ({relation.why})" if relation.why else "")
        told = {"id": event.id, "summary": event.summary}
        data = {"type": relation.type, "change_event": told}
        entry = Entry(kind, text, author, now, now, "change_type", id=relation.id, data=data)
        incident.entries.append(entry)

    def _put(self, incident: Incident, changed: Entry) -> Entry:
        incident.entries = [
            changed if one.event_id == changed.event_id else one for one in incident.entries
        ]
        return changed


def milliseconds(length: timedelta) -> int:
    return round(length / timedelta(milliseconds=1))
