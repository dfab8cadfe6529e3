"""
The runbook step "Send a Webhook": renders a template, signs it, posts it, keeps what came back.

The templates are rendered by hand and not by a Liquid engine: only these two, exactly.
"""

import hashlib
import hmac
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import httpx

from tests.sandbox.firehydrant_account import Author, Component, Incident
from tests.sandbox.firehydrant_shapes import instant

Json = dict[str, Any]
Form = Literal["relay", "ours"]

SIGNATURE_HEADER: Final = "fh-signature"
TIMEOUT_SECONDS: Final = 10.0
"""Ours: FireHydrant's own is not documented."""

RAILS_ESCAPES: Final = {
    "&": "\\u0026",
    "<": "\\u003c",
    ">": "\\u003e",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


@dataclass(frozen=True)
class Delivery:
    """A webhook that was sent, as a step's execution keeps it; with no status `error` says why."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    sent_at: datetime
    status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    response_body: str = ""
    error: str | None = None
    seconds: float = 0.0

    @property
    def state(self) -> Literal["completed", "errored"]:
        """That a status outside 2xx is an error to FireHydrant is inferred."""
        return "completed" if self.status is not None and self.status // 100 == 2 else "errored"

    @property
    def json(self) -> Json:
        """The body of the answer."""
        parsed: Json = json.loads(self.response_body)
        return parsed


def sign(body: bytes, secret: str) -> str:
    """Lower-case hex HMAC-SHA256 of the raw body, no prefix."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def to_json(value: object) -> str:
    """Liquid's `toJSON` with the habits of Rails: compact, every script as it is, `&<>` escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character, escape in RAILS_ESCAPES.items():
        text = text.replace(character, escape)
    return text


def relay_body(
    incident: Incident, overrides: Mapping[str, object], omit: Collection[str] = ()
) -> bytes:
    """
    Relay's template as published: strings between quotes, escaped by nobody.
    nil and an index past the end are empty strings.  Overrides are texts of the incident, so a
    quote or a line break in one does to the body what it would do in FireHydrant.
    """
    values: dict[str, object] = {
        "incident_id": incident.id,
        "name": incident.name,
        "summary": incident.summary,
        "service": first_name(incident.services).lower(),
        "environment": first_name(incident.environments).lower(),
        "channel_id": incident.channel_id,
        "channel_name": incident.channel_name,
    }
    texts = {
        name: "" if value is None else value for name, value in {**values, **overrides}.items()
    }
    return lines({name: f'"{text}"' for name, text in texts.items()}, omit)


def our_body(
    incident: Incident,
    now: datetime,
    static: Mapping[str, object],
    overrides: Mapping[str, object],
    omit: Collection[str] = (),
) -> bytes:
    """Our template: every value by `toJSON`, the time of sending as a number, then static keys."""
    values: dict[str, object] = {
        "incident_id": incident.id,
        "incident_number": incident.number,
        "incident_url": incident.url,
        "name": incident.name,
        "summary": incident.description,
        "severity": incident.severity,
        "milestone": incident.milestone,
        "active": incident.is_active,
        "started_at": instant(incident.started_at),
        "services": [service_variable(one) for one in incident.services],
        "environments": [{"id": one.id, "name": one.name} for one in incident.environments],
        "channel_id": incident.channel_id,
        "channel_name": incident.channel_name,
        "opened_by": author_variable(incident.opened_by),
        "sent_at": int(now.timestamp()),
    }
    given = {name: value for name, value in static.items() if value is not None}
    rendered = {name: to_json(value) for name, value in {**values, **given, **overrides}.items()}
    return lines(rendered, omit)


def lines(rendered: Mapping[str, str], omit: Collection[str]) -> bytes:
    """A key a line, as the published templates are laid out."""
    members = [f'  "{name}": {text}' for name, text in rendered.items() if name not in omit]
    return ("{\n" + ",\n".join(members) + "\n}").encode()


def first_name(components: Sequence[Component]) -> str:
    return components[0].name if components else ""


def service_variable(service: Component) -> Json:
    """What a template sees of a service; there is no slug."""
    return {"id": service.id, "name": service.name, "labels": dict(service.labels)}


def author_variable(author: Author) -> Json:
    return {
        "id": author.id,
        "name": author.name,
        "source": author.source,
        "email": author.email,
    }


def post(url: str, body: bytes, headers: Mapping[str, str], now: datetime) -> Delivery:
    """Post once; nothing is repeated, no redirect followed, no proxy asked."""
    sent = Delivery(url, body, dict(headers), now)
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            response = client.post(url, content=body, headers=dict(headers))
    except httpx.HTTPError as error:
        return Delivery(url, body, sent.headers, now, error=f"{type(error).__name__}: {error}")
    return Delivery(
        url,
        body,
        sent.headers,
        now,
        status=response.status_code,
        response_headers=dict(response.headers),
        response_body=response.text,
        seconds=response.elapsed.total_seconds(),
    )
