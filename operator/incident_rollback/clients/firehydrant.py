"""
FireHydrant's API behind the port Timeline: one request, one judgement of its answer.

It knows paths, shapes and status codes.  It decides nothing: whether to repeat, to look first or
to wait is the caller's business, and the errors say what the caller needs for that.
"""

import asyncio
import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, cast
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.domain.raw import Json, child, children, text
from incident_rollback.errors import (
    RollbackError,
    ThrottledError,
    TimelineRefusedError,
    UnavailableError,
)
from incident_rollback.ports import ChangeEvent

UID_LABEL: Final = "rollback-uid"
"""The label by which our change events are found again."""
EVENT_TYPES: Final = "note,bulk_update,generic_chat_message"
"""A note of the API is one of the first two; which one FireHydrant does not say."""

CONNECT_SECONDS: Final = 3.0
CALL_SECONDS: Final = 10.0
"""For one request from its start to the last byte of the answer."""
ASK_SECONDS: Final = 1.0
"""For the question about an incident, which a rollback waits for."""
PER_PAGE: Final = 200
MAX_PAGES: Final = 5
MAX_BODY: Final = 1024 * 1024
MAX_LIST: Final = 4 * MAX_BODY
"""Bytes of one page: 200 notes of 3,000 characters, escaped, are more than one MiB."""
MAX_WORDS: Final = 200
"""Characters of the server's own words in a message of ours."""
RETRY_AFTER: Final = 10.0
"""Seconds, where a 429 names none: the shorter of the two documented windows."""
MAX_RETRY_AFTER: Final = 300.0

AwayReason = Literal["ServerError", "TimedOut", "Unreachable"]
USABLE_KEY: Final = re.compile(r"(?:bearer\s+)?([\x21-\x7e]+)", re.IGNORECASE)
SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
TAGS: Final = re.compile(
    r"<(?:script|style|head)\b.*?</(?:script|style|head)>|<[^>]*>", re.DOTALL | re.IGNORECASE
)


class TimelineUnavailableError(UnavailableError):
    """
    FireHydrant gave no answer that could be used.

    `reason` is one of the reasons of the condition Reported.  `was_sent` False: the request never
    left, so nothing can have happened; True: a write may have happened.
    """

    def __init__(self, reason: AwayReason, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.reason: AwayReason = reason
        self.was_sent = was_sent


class KeyFile:
    """An API key in a file, read again when the file changes.  Prints as its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._key = SecretStr("")

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    def read(self, *, again: bool = False) -> SecretStr:
        """
        Return the key, without a "Bearer " in front; `again` reads even an unchanged file.

        Raises TimelineRefusedError (KeyRefused) when there is no usable key in the file.
        """
        try:
            stat = self.path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if again or stamp != self._stamp:
                self._key = self._parse(self.path.read_bytes())
                self._stamp = stamp
        except OSError as error:
            why = f"the API key file {self.path} cannot be read: {error.strerror}"
            raise TimelineRefusedError("KeyRefused", why) from error
        return self._key

    def _parse(self, raw: bytes) -> SecretStr:
        usable = USABLE_KEY.fullmatch(raw.decode("ascii", errors="replace").strip())
        if usable is None:
            raise TimelineRefusedError(
                "KeyRefused", f"the API key file {self.path} holds no key, or more than a key"
            )
        return SecretStr(usable[1])


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    def json(self) -> Json:
        """Return the object in the body; raises TimelineUnavailableError when there is none."""
        found = json_of(self.body)
        if not isinstance(found, dict):
            raise TimelineUnavailableError(
                "ServerError", f"FireHydrant answered {self.status} without a JSON object"
            )
        return cast("Json", found)

    @property
    def is_success(self) -> bool:
        """Say whether the status is a 2xx."""
        return 200 <= self.status < 300


class FireHydrant:
    """
    The API of one FireHydrant account; one instance for the life of the process.

    `on_extra` is called for each request that nobody could have waited a turn for: further pages,
    the second and third step of a relation, the question about an incident.  `on_answer` is called
    with the status code of each answer, or with the reason why there was none; `on_throttled` with
    the seconds that a 429 asks for, whatever it was the answer to: they are for the whole account.
    """

    def __init__(
        self,
        base_url: str,
        key: KeyFile,
        *,
        now: Callable[[], datetime],
        on_extra: Callable[[], None] = lambda: None,
        on_answer: Callable[[str], None] = lambda _: None,
        on_throttled: Callable[[float], None] = lambda _: None,
        call_seconds: float = CALL_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._now = now
        self._on_extra = on_extra
        self._on_answer = on_answer
        self._on_throttled = on_throttled
        self._call_seconds = call_seconds
        # Made here, once: the SSL context alone costs 40 ms.
        self._http = httpx.AsyncClient(
            headers={"Accept": "application/json", "User-Agent": "incident-rollback"},
            timeout=httpx.Timeout(call_seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=20, keepalive_expiry=15.0),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def read_incident(
        self, incident_id: str, *, timeout_seconds: float = ASK_SECONDS
    ) -> IncidentFacts:
        """
        Say what FireHydrant knows of the incident.

        An incident that does not say whether it is active is taken to be: only a clear answer may
        stop a rollback.
        """
        self._on_extra()
        answer = await self._call("GET", incident_path(incident_id), seconds=timeout_seconds)
        told = answer.json()
        return IncidentFacts(
            severity=text(told, "severity").upper(),
            is_active=told.get("active") is not False,
            asked_at=self._now(),
        )

    async def find(self, incident_id: str, text: str) -> str | None:
        """Return the id of the note or message with exactly this text; None: none is listed."""

        def id_of(event: Json) -> str | None:
            found = holder_of(event.get("data"), spellings(text))
            return None if found is None else found or str(event.get("id") or "")

        path = f"{incident_path(incident_id)}/events"
        return await self._find_listed(path, {"types": EVENT_TYPES}, id_of)

    async def post_note(self, incident_id: str, text: str) -> str:
        """Post a note; return its id."""
        return await self._create(f"{incident_path(incident_id)}/notes", {"body": text})

    async def post_message(self, incident_id: str, text: str) -> str:
        """Post a generic chat message; return its id."""
        return await self._create(
            f"{incident_path(incident_id)}/generic_chat_messages", {"body": text}
        )

    async def edit_message(self, incident_id: str, message_id: str, text: str) -> None:
        """Change the text of a generic chat message."""
        path = f"{incident_path(incident_id)}/generic_chat_messages/{segment(message_id)}"
        await self._call("PATCH", path, body={"body": text})

    async def find_change(self, external_id: str) -> str | None:
        """Return the id of the change event with this external id; None: none is listed."""

        def id_of(change: Json) -> str | None:
            return text(change, "id") if text(change, "external_id") == external_id else None

        params = {"labels": f"{UID_LABEL}={external_id}"}
        return await self._find_listed("/changes/events", params, id_of)

    async def post_change(self, change: ChangeEvent) -> str:
        """Post a change event; return its id."""
        return await self._create(
            "/changes/events",
            {
                "external_id": change.external_id,
                "summary": change.summary,
                "description": change.description,
                "labels": {**change.labels, UID_LABEL: change.external_id},
                "starts_at": instant(change.starts_at),
                "ends_at": instant(change.ends_at),
            },
        )

    async def relate_change(
        self, incident_id: str, change_id: str, relation: Literal["fixed", "suspect"], why: str
    ) -> None:
        """
        Relate a change event to the incident, or change the relation that is there.

        FireHydrant relates changes by itself too, as suspects, and then answers 409.  A relation
        that is there but not listed was dismissed by a person, and stays so.
        """
        path = f"{incident_path(incident_id)}/related_change_events"
        body = {"type": relation, **({"why": why} if why else {})}
        answer = await self._call(
            "POST", path, body={"change_event_id": change_id, **body}, also=frozenset({409})
        )
        if answer.status != 409:
            return
        self._on_extra()
        known = await self._find_listed(path, {}, lambda one: relation_id(one, change_id, relation))
        if known:
            self._on_extra()
            await self._call("PATCH", f"{path}/{segment(known)}", body=body)

    async def _create(self, path: str, body: Json) -> str:
        """Post, and return the new id; without one nobody knows what happened."""
        answer = await self._call("POST", path, body=body)
        if not (created := text(answer.json(), "id")):
            raise TimelineUnavailableError(
                "ServerError", f"FireHydrant answered {answer.status} without an id"
            )
        return created

    async def _find_listed(
        self, path: str, params: Mapping[str, str], wanted: Callable[[Json], str | None]
    ) -> str | None:
        """Return what `wanted` makes of the first entry that it wants, some pages far."""
        page = 1
        for turn in range(MAX_PAGES):
            if turn:
                self._on_extra()
            at = {**params, "per_page": str(PER_PAGE), "page": str(page)}
            listed = (await self._call("GET", path, params=at, limit=MAX_LIST)).json()
            for entry in children(listed, "data"):
                if (found := wanted(entry)) is not None:
                    return found
            following = child(listed, "pagination").get("next")
            if not isinstance(following, int) or following <= page:
                return None
            page = following
        return None

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | None = None,
        also: frozenset[int] = frozenset(),
        seconds: float | None = None,
        limit: int = MAX_BODY,
    ) -> Answer:
        """Return an answer of success, or of a status in `also`; raise what any other means."""
        request = self._http.build_request(method, self._base_url + path, params=params, json=body)
        key = self._key.read()
        answer = await self._send(request, key, seconds or self._call_seconds, limit)
        if answer.status == 401 and (renewed := self._key.read(again=True)) != key:
            self._on_extra()
            answer = await self._send(request, renewed, seconds or self._call_seconds, limit)
        if not answer.is_success and answer.status not in also:
            raise self._meaning(answer)
        return answer

    async def _send(
        self, request: httpx.Request, key: SecretStr, seconds: float, limit: int
    ) -> Answer:
        """Send one request and read its answer, `seconds` and `limit` bytes at most."""
        request.headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.send(request, stream=True)
                try:
                    body = await read_bounded(response, limit)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as error:
            self._on_answer("TimedOut")
            raise TimelineUnavailableError(
                "TimedOut", f"FireHydrant did not answer in {seconds:g} s"
            ) from error
        except httpx.HTTPError as error:
            self._on_answer("Unreachable")
            raise unreachable(error, self._base_url) from error
        self._on_answer(str(response.status_code))
        return Answer(response.status_code, response.headers, body)

    def _meaning(self, answer: Answer) -> RollbackError:
        """Say in our words what an answer means that is no success."""
        match answer.status:
            case 401:
                return TimelineRefusedError(
                    "KeyRefused",
                    f"{self._base_url} refused the API key in {self._key.path} (401): "
                    "it is wrong, revoked, or of FireHydrant's other region",
                )
            case 403:
                return TimelineRefusedError(
                    "KeyForbidden",
                    f"the API key in {self._key.path} may not do this (403): "
                    "it needs to write, and to see private incidents where this is one",
                )
            case 404:
                return TimelineRefusedError(
                    "IncidentNotFound",
                    "the incident is not there, or it is private and this API key may not see it",
                )
            case 429:
                error = throttled(answer)
                self._on_throttled(error.retry_after)
                return error
            case status if status >= 500:
                return TimelineUnavailableError("ServerError", f"FireHydrant answered {status}")
            case status:
                said = words_of(answer.body) or "and said nothing about why"
                return TimelineRefusedError("NotAccepted", f"FireHydrant answered {status}: {said}")


def incident_path(incident_id: str) -> str:
    """Return the path of an incident."""
    return f"/incidents/{segment(incident_id)}"


def segment(given: str) -> str:
    """
    Return an id as one segment of a path, whatever is in it.

    Raises TimelineRefusedError for what would be a step through the path: no id looks like that.
    """
    if given.strip(".") == "":
        raise TimelineRefusedError("IncidentNotFound", f"{given!r} is no id of FireHydrant's")
    return quote(given, safe="")


def instant(at: datetime) -> str:
    """Return an instant as FireHydrant writes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Read a body; raises TimelineUnavailableError as soon as it is longer than `limit` bytes."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit:
            raise TimelineUnavailableError(
                "ServerError",
                f"FireHydrant answered {response.status_code} with more than {limit} bytes",
            )
    return bytes(body)


def unreachable(error: httpx.HTTPError, url: str) -> TimelineUnavailableError:
    """Say of a broken connection whether anything can have gone out on it."""
    never_left = (
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.ProxyError,
        httpx.UnsupportedProtocol,
    )
    if isinstance(error, never_left):
        return TimelineUnavailableError(
            "Unreachable", f"FireHydrant cannot be reached at {url}", was_sent=False
        )
    return TimelineUnavailableError(
        "Unreachable", "the connection to FireHydrant broke before it had answered"
    )


def throttled(answer: Answer) -> ThrottledError:
    """Return how long FireHydrant asks us to wait, within reason."""
    asked = answer.headers.get("Retry-After", "").strip()
    seconds = float(asked) if SECONDS.fullmatch(asked) else RETRY_AFTER
    seconds = min(max(seconds, 1.0), MAX_RETRY_AFTER)
    return ThrottledError(f"FireHydrant asks to wait {seconds:g} s (429)", retry_after=seconds)


def json_of(body: bytes) -> object:
    """Return what a body says as JSON; None when it is none."""
    try:
        return cast("object", json.loads(body))
    except (ValueError, RecursionError):
        return None


def words_of(body: bytes) -> str:
    """Return the server's own words from any of the shapes its errors have, cut."""
    found = json_of(body)
    if isinstance(found, dict):
        said = said_in(cast("Json", found))
    else:
        said = html.unescape(TAGS.sub(" ", body.decode("utf-8", errors="replace")))
    return " ".join(said.split())[:MAX_WORDS]


def said_in(error: Json) -> str:
    """Return detail and messages, or the flat error; `messages` may be a list or one string."""
    messages: Any = error.get("messages") or error.get("error") or ""
    listed = cast("list[object]", messages) if isinstance(messages, list) else [messages]
    parts = [text(error, "detail"), "; ".join(str(one) for one in listed)]
    return ": ".join(part for part in parts if part)


def spellings(text: str) -> frozenset[str]:
    """Return how a text of ours may come back: as it was, or with HTML's escapes undone."""
    as_is = "\n".join(text.splitlines()).strip()
    return frozenset({as_is, html.unescape(as_is)})


def holder_of(data: object, wanted: frozenset[str]) -> str | None:
    """
    Return the id beside a wanted text, however deep it is; None when the text is not there.

    `data` differs from one type of event to the next, and only some are described.  "": the
    text is there, without an id beside it.
    """
    if isinstance(data, list):
        inner = cast("list[object]", data)
    elif isinstance(data, dict):
        inner = list(cast("Json", data).values())
    else:
        return None
    if any(isinstance(one, str) and spellings(one) & wanted for one in inner):
        return text(cast("Json", data), "id") if isinstance(data, dict) else ""
    found = (holder_of(one, wanted) for one in inner)
    return next((one for one in found if one is not None), None)


def relation_id(relation: Json, change_id: str, wanted: str) -> str | None:
    """Return the id of the change's relation; "" if it is as wanted; None: another's."""
    if text(child(relation, "change_event"), "id") != change_id:
        return None
    return "" if text(relation, "type") == wanted else text(relation, "id")
