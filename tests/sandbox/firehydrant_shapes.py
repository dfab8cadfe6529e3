"""
How things look in FireHydrant's answers: pure functions from what is held to JSON.

The published schemas allow null and absence nearly everywhere; what is filled in here follows the
recorded responses.
"""

import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.sandbox.firehydrant_account import (
    BOT,
    Author,
    ChangeEvent,
    Component,
    Entry,
    Incident,
    Relation,
    milliseconds,
)

Json = dict[str, Any]

ORGANIZATION: Final = {"name": "Example", "id": "844d8364-fab7-5d64-a973-054dea8d4ff2"}


def instant(at: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(length: timedelta) -> str:
    """ISO 8601 duration in hours, minutes and seconds: 64 s is PT1M4S."""
    minutes, seconds = divmod(max(0, int(length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "H"), (minutes, "M"), (seconds, "S")]
    return "PT" + ("".join(f"{count}{unit}" for count, unit in parts if count) or "0S")


def pong() -> Json:
    actor = {"id": BOT.id, "name": BOT.name, "email": BOT.email, "type": BOT.source}
    return {"response": "pong", "actor": actor, "organization": ORGANIZATION}


def author_entity(author: Author) -> Json:
    return {
        "id": author.id,
        "name": author.name,
        "source": author.source,
        "email": author.email,
    }


def page_of(items: Sequence[Json], page: int, per_page: int) -> Json:
    """One page in its envelope.  A page past the end is empty; the real answer is not known."""
    pages = max(1, math.ceil(len(items) / per_page))
    data = list(items[(page - 1) * per_page : page * per_page])
    pagination = {
        "count": len(items),
        "page": page,
        "items": len(data),
        "pages": pages,
        "last": pages,
        "prev": page - 1 if page > 1 else None,
        "next": page + 1 if page < pages else None,
    }
    return {"data": data, "pagination": pagination}


def conversations(resource_class: str, resource_id: str) -> list[Json]:
    reference = {
        "id": "ZXhhbXBsZQ",
        "resource_class": resource_class,
        "resource_id": resource_id,
        "field": None,
        "comments_url": "/v1/conversations/ZXhhbXBsZQ/comments",
        "channel": {"name": "private-conversations-ZXhhbXBsZQ"},
    }
    return [reference]


def note_entity(entry: Entry) -> Json:
    return {
        "id": entry.id,
        "body": entry.text,
        "created_at": instant(entry.at),
        "status_pages": [],
        "conversations": conversations("Event::Note", entry.id),
    }


def message_entity(entry: Entry) -> Json:
    return {"id": entry.id, "body": entry.text, "created_at": instant(entry.at)}


def event_entity(incident: Incident, entry: Entry) -> Json:
    """An entry as the events list has it: its own id around the id of the note or message."""
    return {
        "id": entry.event_id,
        "incident_id": incident.id,
        "type": entry.event_type,
        "context": None,
        "data": event_data(entry),
        "occurred_at": instant(entry.at),
        "visibility": entry.visibility,
        "author": author_entity(entry.author),
        "votes": votes(entry.vote),
        "conversations": conversations("Event", entry.event_id),
    }


def event_data(entry: Entry) -> Json:
    match entry.event_type:
        case "bulk_update":
            return {"note": note_entity(entry)}
        case "note":
            return note_entity(entry)
        case "generic_chat_message":
            return message_entity(entry)
        case "chat_message":
            return {"id": entry.id, "body": entry.text}
        case _:
            return dict(entry.data)


def votes(direction: str | None) -> Json:
    return {
        "voted": direction is not None,
        "liked": direction == "up",
        "disliked": direction == "down",
        "likes": int(direction == "up"),
        "dislikes": int(direction == "down"),
    }


def environment_entity(environment: Component, active: Sequence[str]) -> Json:
    return {
        "id": environment.id,
        "name": environment.name,
        "slug": environment.slug,
        "description": "",
        "updated_at": instant(environment.created_at),
        "created_at": instant(environment.created_at),
        "active_incidents": list(active),
        "external_resources": [],
    }


def service_entity(service: Component) -> Json:
    """A service as it looks inside other things; the catalog itself has more."""
    return {
        "id": service.id,
        "name": service.name,
        "description": "",
        "slug": service.slug,
        "service_tier": 1,
        "created_at": instant(service.created_at),
        "updated_at": instant(service.created_at),
        "allowed_params": [],
        "labels": dict(service.labels),
        "alert_on_add": False,
        "auto_add_responding_team": False,
    }


def slim_change_event(event: ChangeEvent, incidents: Sequence[Incident]) -> Json:
    """A change event as lists have it."""
    length = None if event.ends_at is None else event.ends_at - event.starts_at
    return {
        "id": event.id,
        "summary": event.summary,
        "description": event.description,
        "external_id": event.external_id,
        "created_at": instant(event.created_at),
        "updated_at": instant(event.created_at),
        "starts_at": instant(event.starts_at),
        "ends_at": None if event.ends_at is None else instant(event.ends_at),
        "duration_ms": None if length is None else milliseconds(length),
        "duration_iso8601": None if length is None else duration(length),
        "environments": [
            environment_entity(one, [it.id for it in incidents if one in it.environments])
            for one in event.environments
        ],
        "authors": [author_entity(one) for one in event.authors],
        "labels": dict(event.labels),
        "services": [service_entity(one) for one in event.services],
    }


def change_event(event: ChangeEvent, incidents: Sequence[Incident]) -> Json:
    """A change event as creating it, or a relation, has it."""
    return slim_change_event(event, incidents) | {
        "related_changes": [],
        "identities": [identity(event, *one) for one in event.identities],
        "attachments": [dict(one) for one in event.attachments],
    }


def identity(event: ChangeEvent, kind: str, value: str) -> Json:
    return {
        "id": str(uuid.uuid5(uuid.UUID(event.id), f"{kind}={value}")),
        "type": kind,
        "value": value,
        "change_id": str(uuid.uuid5(uuid.UUID(event.id), "change")),
        "created_at": instant(event.created_at),
        "updated_at": instant(event.created_at),
    }


def relation_entity(relation: Relation, incidents: Sequence[Incident]) -> Json:
    return {
        "id": relation.id,
        "created_at": instant(relation.created_at),
        "updated_at": instant(relation.updated_at),
        "why": relation.why,
        "type": relation.type,
        "change_event": change_event(relation.change_event, incidents),
        "incident_id": relation.incident_id,
        "created_by": author_entity(relation.created_by),
    }


def incident_entity(incident: Incident) -> Json:
    """An incident, with everything a small organization would have left empty."""
    return incident_core(incident) | incident_people_and_places(incident)


def incident_core(incident: Incident) -> Json:
    return {
        "id": incident.id,
        "name": incident.name,
        "created_at": instant(incident.created_at),
        "started_at": instant(incident.started_at),
        "discarded_at": None,
        "summary": incident.summary,
        "customer_impact_summary": "",
        "description": incident.description,
        "current_milestone": incident.milestone,
        "number": incident.number,
        "priority": None,
        "severity": incident.severity,
        "severity_color": "orange",
        "severity_impact": None,
        "severity_condition": None,
        "tag_list": [],
        "incident_type": None,
        "severity_impact_object": None,
        "severity_condition_object": None,
        "private_id": f"example{incident.number}",
        "organization_id": ORGANIZATION["id"],
        "organization": ORGANIZATION,
        "milestones": milestones(incident),
        "lifecycle_phases": [],
        "lifecycle_measurements": [],
        "active": incident.is_active,
        "restricted": incident.is_private,
        "labels": {},
        "incident_url": incident.url,
        "private_status_page_url": "",
    }


def incident_people_and_places(incident: Incident) -> Json:
    note = incident.last_note
    return {
        "customers_impacted": 0,
        "monetary_impact": None,
        "monetary_impact_cents": None,
        "last_update": None,
        "last_note": None if note is None else note_entity(note),
        "report_id": None,
        "ai_incident_summary": None,
        "services": [succinct(one) for one in incident.services],
        "environments": [succinct(one) for one in incident.environments],
        "functionalities": [],
        "channel_name": incident.channel_name,
        "channel_reference": None,
        "channel_id": incident.channel_id,
        "channel_status": "operational" if incident.channel_id else None,
        "impacts": [
            *(impact("service", one) for one in incident.services),
            *(impact("environment", one) for one in incident.environments),
        ],
        "created_by": author_entity(incident.opened_by),
        "ticket": None,
        "context_object": None,
    } | {empty: [] for empty in EMPTY_LISTS}


EMPTY_LISTS: Final = (
    "role_assignments",
    "status_pages",
    "incident_tickets",
    "conference_bridges",
    "incident_channels",
    "retro_exports",
    "team_assignments",
    "conversations",
    "custom_fields",
    "field_requirements",
)


def succinct(component: Component) -> Json:
    return {"id": component.id, "name": component.name}


def impact(kind: str, component: Component) -> Json:
    return {
        "id": str(uuid.uuid5(uuid.UUID(component.id), "impact")),
        "type": kind,
        "impact": succinct(component),
        "condition": {
            "id": "400a2963-a787-5f4f-a03a-cd052f393777",
            "name": "Degraded",
            "position": 1,
        },
        "conversations": [],
    }


def milestones(incident: Incident) -> list[Json]:
    """Started, investigating, and resolved once it is; the current one has no duration."""
    reached = [("started", incident.started_at), ("investigating", incident.created_at)]
    if incident.resolved_at is not None:
        reached.append(("resolved", incident.resolved_at))
    ends = [at for _, at in reached[1:]]
    lengths = [duration(end - at) for (_, at), end in zip(reached, ends, strict=False)]
    return [
        {
            "id": str(uuid.uuid5(uuid.UUID(incident.id), name)),
            "type": name,
            "duration": length,
            "occurred_at": instant(at),
            "created_at": instant(at),
            "updated_at": instant(at),
        }
        for (name, at), length in zip(reached, [*lengths, None], strict=True)
    ]
