"""
A webhook's bytes become a request, or the reason why they are none.

Knows the shapes that FireHydrant sends.  Never repeats what it was sent: the texts of an incident
are people's, and in Relay's form they may have forged the keys around them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from incident_rollback.crd.v1alpha1 import Name, Revision
from incident_rollback.domain.incident import Incident
from incident_rollback.domain.raw import Json

MAX_BODY_BYTES: Final = 65_536
MAX_SKEW_SECONDS: Final = 300
YEARS: Final = range(2000, 2200)
"""An incident began in one of these; a zero time is no time."""

LIQUID: Final[Mapping[str, str]] = {
    "incident_id": "{{ incident.id | toJSON }}",
    "incident_number": "{{ incident.number | toJSON }}",
    "incident_url": "{{ incident.incident_url | toJSON }}",
    "name": "{{ incident.name | toJSON }}",
    "severity": "{{ incident.severity | toJSON }}",
    "services": "{{ incident.services | toJSON }}",
    "environments": "{{ incident.environments | toJSON }}",
    "started_at": "{{ incident.started_at | toJSON }}",
    "sent_at": '{{ "now" | date: "%s" }}',
    "dry_run": "true or false",
    "to_revision": "a whole number from 1, or null",
    "approve": "true or false",
}
"""What belongs behind a key of our form, without quotes around it."""


@dataclass(frozen=True, slots=True)
class Request:
    """A signed wish to roll back what an incident names."""

    incident: Incident
    form: Literal["relay", "ours"]
    dry_run: bool = False
    to_revision: int | None = None
    approve: bool = False
    """Act on the plan that was shown, and only on that."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that asks for nothing, and what to use instead."""

    why: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """400: not a form that we know; 422: a form, but not one to act on.  Says how to mend it."""

    status: Literal[400, 422]
    message: str


Payload: TypeAlias = Request | Ignored | Malformed


def _cut(limit: int) -> AfterValidator:
    def cut(text: str) -> str:
        return text[:limit]

    return AfterValidator(cut)


def _read_time(given: object) -> datetime | None:
    """
    Return a time with its zone: ISO 8601, or FireHydrant's `2023-07-25 13:34:49 UTC`.

    Raises ValueError; a time without a zone could be hours off, so it is none.
    """
    if given is None or given == "":
        return None
    if not isinstance(given, str):
        raise ValueError("not a text")  # noqa: TRY004  # Only this one is a validation error.
    at = datetime.fromisoformat(f"{given[:-4]}+00:00" if given.endswith(" UTC") else given)
    if at.tzinfo is None:
        raise ValueError("no zone")
    if at.year not in YEARS:
        raise ValueError("out of range")
    return at.astimezone(UTC).replace(microsecond=0)


def _read_seconds(given: object) -> int | None:
    """Return seconds since the epoch from a number or a text of digits.  Raises ValueError."""
    if given is None:
        return None
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 20:
        return int(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return int(given)
    raise ValueError("not seconds since the epoch")


class _Named(BaseModel, frozen=True, strict=True):
    """A service or environment; its id and labels are not needed."""

    name: Name


class _RelayForm(BaseModel, frozen=True, strict=True, extra="forbid"):
    """
    Relay's template as published.

    Exactly seven keys, all texts: the template puts the incident's texts unescaped between
    quotes, so whatever does not look like that may be forged.
    """

    incident_id: Name | None = None
    """Missing and null are for the caller to refuse: 422, not 400."""
    name: Annotated[str, _cut(500)]
    summary: str
    service: Name
    environment: Name
    channel_id: str
    channel_name: str

    def to_request(self) -> Request:
        """Return what is asked for; one service, one environment, always the real thing."""
        return Request(
            form="relay",
            incident=Incident(
                id=(self.incident_id or "").strip(),
                services=(self.service,),
                environments=(self.environment,),
                name=self.name,
            ),
        )


class _OurForm(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Our template.  What we do not use may have any type: it must not stop a rollback."""

    incident_id: Name | None = None
    """Missing and null are for the caller to refuse: 422, not 400."""
    services: list[_Named] | None
    environments: list[_Named] | None
    incident_number: Annotated[int, Field(ge=0, le=2**53)] | None = None
    incident_url: Annotated[str, _cut(1000)] | None = None
    name: Annotated[str, _cut(500)] | None = None
    severity: Annotated[str, _cut(253)] | None = None
    started_at: Annotated[datetime | None, BeforeValidator(_read_time)] = None
    sent_at: Annotated[int | None, BeforeValidator(_read_seconds)] = None
    dry_run: bool = False
    to_revision: Revision | None = None
    approve: bool = False
    summary: Any = None
    milestone: Any = None
    active: Any = None
    channel_id: Any = None
    channel_name: Any = None
    opened_by: Any = None

    def to_request(self) -> Request:
        """Return what is asked for."""
        return Request(
            form="ours",
            dry_run=self.dry_run,
            to_revision=self.to_revision,
            approve=self.approve,
            incident=Incident(
                id=(self.incident_id or "").strip(),
                services=_names_of(self.services),
                environments=_names_of(self.environments),
                number=self.incident_number,
                name=self.name,
                url=self.incident_url,
                severity=self.severity,
                started_at=self.started_at,
            ),
        )


def _names_of(named: list[_Named] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.name for one in named or ())) or ("",)


def read_payload(body: bytes, now: datetime) -> Payload:
    """
    Read a webhook whose signature has been checked; raises nothing, whatever the bytes.

    `now` is only compared with `sent_at`: a signed body may not be played again for ever.
    """
    document = _parse(body)
    if isinstance(document, Malformed):
        return document
    if document.keys() & {"services", "environments"}:
        return _read_ours(document, now)
    if document.keys() & {"service", "environment"}:
        return _read_relay(document)
    if "event" in document and "incident_id" not in document:
        return Ignored(_why_ignored(document["event"]))
    return Malformed(
        400,
        "neither our template (known by services and environments) nor Relay's (known by service "
        "and environment): copy our template into the runbook step Send a Webhook",
    )


class _DuplicateKeyError(ValueError):
    """An object has a key twice, and readers differ in which one counts."""


def _parse(body: bytes) -> Json | Malformed:
    """Return the JSON object.  Line breaks inside texts are accepted, for Relay's template."""
    try:
        document: object = json.loads(
            body.decode(),
            strict=False,
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        json.dumps(document, ensure_ascii=False).encode()  # Half a surrogate pair fails here.
    except _DuplicateKeyError:
        return Malformed(
            400,
            "a key is there twice; with quoted fields a quote in the incident's text can forge "
            "keys: use our template, which prints every value with `| toJSON`, without quotes",
        )
    except json.JSONDecodeError as error:
        return Malformed(
            400,
            f"not JSON at line {error.lineno}, column {error.colno}; quotes and backslashes in "
            "texts break quoted fields: use our template, which prints every value with "
            "`| toJSON`, without quotes around it",
        )
    except (ValueError, RecursionError):
        return Malformed(
            400,
            "not JSON that can be read (not UTF-8, NaN, a number too long, or nested too deeply): "
            "use our template, which prints every value with `| toJSON`",
        )
    if not isinstance(document, dict):
        return Malformed(400, "not a JSON object: the template begins with { and ends with }")
    return cast("Json", document)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Json:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _DuplicateKeyError
    return document


def _no_constant(_: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("too large")
    return number


def _why_ignored(event: object) -> str:
    told = cast("Json", event).get("resource_type") if isinstance(event, dict) else None
    what = {"incident": "an incident webhook", "change_event": "a change event"}.get(str(told))
    if told == "command_extension":
        what = "a command extension"
    return (
        f"{what or 'an event'} asks for nothing here, and nothing was done: to roll back, use the "
        "runbook step Send a Webhook with our template"
    )


def _read_relay(document: Json) -> Request | Malformed:
    form = _validate(_RelayForm, document)
    if isinstance(form, _Wrong):
        return Malformed(
            400,
            "not exactly the seven texts of Relay's template (incident_id, name, summary, service, "
            "environment, channel_id, channel_name), or a name over 253 characters; a quote in "
            "the incident's text can forge keys: use our template, which prints every value with "
            "`| toJSON`",
        )
    return _with_id(form.to_request())


def _read_ours(document: Json, now: datetime) -> Request | Malformed:
    form = _validate(_OurForm, document)
    if isinstance(form, _Wrong):
        return Malformed(400, _how_to_mend(form))
    if form.dry_run and form.approve:
        return Malformed(
            400, "dry_run and approve exclude each other: keep one of them in the template"
        )
    if form.sent_at is not None and abs(int(now.timestamp()) - form.sent_at) > MAX_SKEW_SECONDS:
        return Malformed(
            422,
            f"sent_at is more than {MAX_SKEW_SECONDS} s away from now: run the runbook step again",
        )
    return _with_id(form.to_request())


def _with_id(request: Request) -> Request | Malformed:
    if request.incident.id:
        return request
    return Malformed(
        422,
        "no incident id: run the step from a runbook of an incident, with "
        f'"incident_id": {LIQUID["incident_id"]}',
    )


_Form = TypeVar("_Form", _RelayForm, _OurForm)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """The first thing that is wrong with a document: where, and pydantic's word for it."""

    place: tuple[int | str, ...]
    kind: str


def _validate(form: type[_Form], document: Json) -> _Form | _Wrong:
    """
    Return the form, or what is wrong.

    The error itself must not leave: what holds it keeps it for ever, and the document with it.
    It holds the ValueErrors of our validators, they hold the frames that called them, and that
    circle runs through memory that the garbage collector cannot see.
    """
    try:
        return form.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return _Wrong(first["loc"], first["type"])


def _how_to_mend(wrong: _Wrong) -> str:
    """Name the first key that is wrong and what belongs there.  Unknown keys are not repeated."""
    key = str(wrong.place[0])
    if wrong.kind == "extra_forbidden":
        return (
            "a key that our template does not have: remove what is neither in our template nor "
            "started_at, dry_run, to_revision or approve"
        )
    if wrong.kind == "missing" and len(wrong.place) == 1:
        return f'the key {key} is missing: add "{key}": {LIQUID[key]}'
    if wrong.kind == "string_too_long":
        return f"a name in {key} is over 253 characters: make it shorter in FireHydrant"
    return f'{key} is of the wrong kind: write "{key}": {LIQUID[key]}, without quotes around it'
