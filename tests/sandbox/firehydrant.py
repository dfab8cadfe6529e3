"""
A stand-in FireHydrant: the API on a loopback port, the runbook step that posts a webhook, a memory.

It runs in a thread of its own and every method here may be called from any thread.  Those that
take long are `run_step`, `post_raw` and `wait_for`; an async test runs them with
`asyncio.to_thread`, so that a bridge in its own loop can answer.

Every request is held against the published description.  What that does not list goes into
`violations`, which a test asserts to be empty, and is answered 400, 401 or 404; FireHydrant itself
is likely to let some of it pass.

Where it is kinder than the real one, or where the real one is not known:
- The events list is newest first by `occurred_at`, a note in it is a `bulk_update`, and a private
  incident is a 404.  None of this is documented; each has a switch.
- A PATCH changes the entry.  Whether copies in Slack follow is not known; there is no Slack.
- A write is in the events list with the next request, unless `show_events_late`.
- A change event finds its services and environments by id, slug or name; by name is a kindness.
- Writing to an incident sends no incident webhook and runs no step again: no loop can happen here.
- A write to a resolved incident is accepted.  Nothing is required to move a milestone.
- The window of the rate limit slides, and refused requests do not count.
- A stalled request is carried out when it is answered, not before, even if its client has left.
- A step is posted once, waits 10 s and follows no redirect; the real timeout is not documented.
- Links, the catalog's lists, runbook executions and most filters of change events answer 501 and
  count as violations; so do fields of attachments beyond `type`, which the description leaves out.
- There is one account with one bot; every key of the right form is that bot, unless `accept_only`.
"""

import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from tests.sandbox import firehydrant_shapes as shapes
from tests.sandbox.firehydrant_account import (
    ADA,
    Author,
    Catalog,
    ChangeEvent,
    Component,
    Entry,
    Incident,
)
from tests.sandbox.firehydrant_api import Json
from tests.sandbox.firehydrant_contract import load_contract
from tests.sandbox.firehydrant_faults import Deed, Fault
from tests.sandbox.firehydrant_limits import DOCUMENTED, Limit, RateLimiter
from tests.sandbox.firehydrant_runbook import (
    SIGNATURE_HEADER,
    Delivery,
    Form,
    our_body,
    post,
    relay_body,
    sign,
)
from tests.sandbox.firehydrant_server import HOST, Front, Loop, Request, State

__all__ = ["Delivery", "Entry", "Limit", "Request", "StandIn", "sign"]

Names = str | Iterable[str]


def utc_now() -> datetime:
    return datetime.now(UTC)


class StandIn:
    """
    One FireHydrant account behind one port; also a context manager.
    `now` gives the times of entries and webhooks; limits, stalls and waits use the real clock.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = utc_now,
        limits: Sequence[Limit] = DOCUMENTED,
    ) -> None:
        self._state = State(load_contract(), RateLimiter(tuple(limits)), now)
        self._loop = Loop(lambda: Front(self._state))
        self._deliveries: list[Delivery] = []

    # Life

    def start_in_thread(self) -> Self:
        """Listen on a free loopback port and return."""
        self._loop.start()
        return self

    def stop(self) -> None:
        """Drop all connections and end the thread.  It cannot be started again."""
        self._loop.stop()

    def __enter__(self) -> Self:
        return self.start_in_thread()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base to set as FIREHYDRANT_URL; it stays the same while the port is away."""
        return f"http://{HOST}:{self._loop.port}/v1"

    # What there is

    def add_service(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """Put a service into the catalog, or new labels on it; return its id."""
        with self._state.lock:
            return self._state.account.services.add(name, self._state.now(), labels).id

    def add_environment(self, name: str) -> str:
        """Put an environment into the catalog; return its id."""
        with self._state.lock:
            return self._state.account.environments.add(name, self._state.now()).id

    def declare(
        self,
        name: str = "Checkout error rate above 5%",
        *,
        severity: str = "SEV1",
        services: Names = (),
        environments: Names = (),
        summary: str = "",
        description: str = "",
        started_at: datetime | None = None,
        active: bool = True,
        private: bool = False,
        channel: bool = True,
        incident_id: str | None = None,
    ) -> str:
        """
        Declare an incident and return its id.
        Services and environments are names, and join the catalog.  `summary` is what Relay's
        template shows and is mostly empty; `description` is what ours shows.
        """
        with self._state.lock:
            account, now = self._state.account, self._state.now()
            number = account.next_number()
            incident = Incident(
                id=incident_id or str(uuid.uuid4()),
                number=number,
                name=name,
                severity=severity,
                created_at=now,
                started_at=started_at or now,
                summary=summary,
                description=description,
                services=self._components(account.services, services),
                environments=self._components(account.environments, environments),
                channel_id=f"C0EXAMPLE{number}" if channel else None,
                channel_name=f"inc-{number}" if channel else None,
                is_private=private,
            )
            if not active:
                incident.resolve(now)
            account.incidents[incident.id] = incident
            return incident.id

    def resolve(self, incident_id: str) -> None:
        """Close an incident."""
        with self._state.lock:
            self._incident(incident_id).resolve(self._state.now())

    def set_severity(self, incident_id: str, severity: str) -> None:
        with self._state.lock:
            self._incident(incident_id).severity = severity

    def say(
        self,
        incident_id: str,
        text: str,
        *,
        kind: Literal["message", "note"] = "message",
        author: str = ADA.name,
    ) -> Entry:
        """Let a person write: into the chat, or a note on the incident."""
        with self._state.lock:
            now = self._state.now()
            event_type = "chat_message" if kind == "message" else self._state.switches.note_type
            person = ADA if author == ADA.name else Author(str(uuid.uuid4()), author, ADA.source)
            entry = Entry(kind, text, person, now, now, event_type)
            self._incident(incident_id).entries.append(entry)
            return entry

    def incident(self, incident_id: str) -> Json:
        """The incident as the API shows it, whoever may see it."""
        with self._state.lock:
            return shapes.incident_entity(self._incident(incident_id))

    # What was seen

    @property
    def violations(self) -> tuple[str, ...]:
        """What requests did that the description does not allow, oldest first."""
        with self._state.lock:
            return tuple(self._state.violations)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request that came in, oldest first."""
        with self._state.lock:
            return tuple(self._state.requests)

    def asked(self, match: str) -> tuple[Request, ...]:
        """The requests whose method and path (`POST /v1/incidents/…/notes`) match."""
        return tuple(one for one in self.requests if re.search(match, one.line))

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """Every webhook that was posted, oldest first."""
        with self._state.lock:
            return tuple(self._deliveries)

    @property
    def change_events(self) -> tuple[ChangeEvent, ...]:
        """Every change event, oldest first, related or not."""
        with self._state.lock:
            return tuple(self._state.account.change_events.values())

    def relations(self, incident_id: str) -> dict[str, str]:
        """How each change event, by its id, is related to the incident now."""
        with self._state.lock:
            every = self._state.account.relations.values()
            return {
                one.change_event.id: one.type for one in every if one.incident_id == incident_id
            }

    def timeline(self, incident_id: str) -> tuple[Entry, ...]:
        """
        What is on the incident, oldest first, as edited, without what was deleted.
        Entries that are forgotten or shown late are here all the same.
        """
        with self._state.lock:
            entries = [one for one in self._incident(incident_id).entries if not one.deleted_at]
            return tuple(sorted(entries, key=lambda one: one.at))

    def wait_for(self, incident_id: str, pattern: str, within_seconds: float = 30.0) -> Entry:
        """Wait for an entry whose text matches; a TimeoutError shows what is there instead."""
        deadline = time.monotonic() + within_seconds
        while True:
            for entry in self.timeline(incident_id):
                if re.search(pattern, entry.text):
                    return entry
            if time.monotonic() > deadline:
                told = self.render_timeline(incident_id) or "nothing at all"
                raise TimeoutError(f"no entry matches {pattern!r}; the timeline has\n{told}")
            time.sleep(0.01)

    def render_timeline(self, incident_id: str) -> str:
        """The timeline as plain text, a line an entry: time in UTC, kind, text."""
        return "\n".join(render(entry) for entry in self.timeline(incident_id))

    # What is not known of the real one

    def show_notes_as(self, event_type: Literal["bulk_update", "note"]) -> None:
        """How the events list calls notes from now on."""
        with self._state.lock:
            self._state.switches.note_type = event_type

    def sort_events(self, order: Literal["newest first", "oldest first"]) -> None:
        """How the events list is sorted."""
        with self._state.lock:
            self._state.switches.is_newest_first = order == "newest first"

    def answer_private_with(self, status: Literal[403, 404] | None) -> None:
        """What private incidents answer; None: the key may see them."""
        with self._state.lock:
            self._state.switches.private_answer = status

    def accept_only(self, key: str | None) -> None:
        """Refuse every key but this one with 401, which is no violation; None accepts all."""
        with self._state.lock:
            self._state.switches.accepted_key = key

    def limit(self, *limits: Limit) -> None:
        """Set the rate limits, with nothing used up; none at all lets everything in."""
        with self._state.lock:
            self._state.limiter = RateLimiter(limits)

    # What goes wrong

    def fail_next(
        self,
        status: int,
        times: int | None = 1,
        match: str = "",
        *,
        retry_after: int | None = None,
        body: object = None,
    ) -> None:
        """
        Answer the next requests with this status and do nothing else.
        Here and below `match` is a regular expression that is searched in `POST /v1/…`, and `times`
        is None for ever.  Without a `body` it is the recorded one; a text is sent as HTML.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._script("fail", times, match, status=status, body=body, headers=headers)

    def stall(self, seconds: float, times: int | None = 1, match: str = "") -> None:
        """Take the next requests, and carry them out and answer them only so much later."""
        self._script("stall", times, match, seconds=seconds)

    def commit_then_time_out(
        self, times: int | None = 1, match: str = "", *, hang_up_after: float | None = None
    ) -> None:
        """Carry out the next requests and never answer; after so many seconds, hang up."""
        self._script("commit_then_time_out", times, match, seconds=hang_up_after)

    def commit_then_500(self, times: int | None = 1, match: str = "") -> None:
        """Carry out the next requests and answer 500."""
        self._script("commit_then_500", times, match)

    def clear_faults(self) -> None:
        """Forget every fault above that has not happened yet."""
        with self._state.lock:
            self._state.script.clear()

    @property
    def pending_faults(self) -> int:
        """How often something above is still to happen; a test can assert that it did."""
        with self._state.lock:
            return self._state.script.pending

    def forget(self, pattern: str = "") -> None:
        """Leave entries whose text matches out of the events list, present and to come."""
        with self._state.lock:
            self._state.account.forget(pattern)

    def show_events_late(self, seconds: float) -> None:
        """Let the events list lag: it is as it was so long ago.  0 ends that."""
        with self._state.lock:
            self._state.switches.events_late_seconds = seconds

    def go_away(self) -> None:
        """Drop every connection and refuse new ones; nothing is forgotten."""
        self._loop.close()

    def come_back(self) -> None:
        """Listen on the same port again."""
        self._loop.open()

    # What it sends

    def run_step(
        self,
        url: str,
        form: Form = "relay",
        *,
        incident_id: str,
        secret: str | None,
        service: Names | None = None,
        environment: Names | None = None,
        dry_run: bool | None = None,
        to_revision: int | None = None,
        approve: bool | None = None,
        overrides: Mapping[str, object] | None = None,
        omit: Collection[str] = (),
    ) -> Delivery:
        """
        Run the step "Send a Webhook" of an incident: render, sign, post, and keep what came back.
        `service` and `environment` stand in for those of the incident.  `dry_run`, `to_revision`
        and `approve` are static keys of our form; None leaves them out.  `overrides` replace or
        add keys (texts in Relay's form, values in ours), `omit` leaves keys out.  Without a
        secret there is no signature.
        """
        body = self.render_step(
            form,
            incident_id=incident_id,
            service=service,
            environment=environment,
            static={"dry_run": dry_run, "to_revision": to_revision, "approve": approve},
            overrides=overrides,
            omit=omit,
        )
        signature = {} if secret is None else {SIGNATURE_HEADER: sign(body, secret)}
        return self.post_raw(url, body, {"Content-Type": "application/json", **signature})

    def render_step(
        self,
        form: Form,
        *,
        incident_id: str,
        service: Names | None = None,
        environment: Names | None = None,
        static: Mapping[str, object] | None = None,
        overrides: Mapping[str, object] | None = None,
        omit: Collection[str] = (),
    ) -> bytes:
        """The body that `run_step` would post."""
        given = {name: value for name, value in (static or {}).items() if value is not None}
        if form == "relay" and given:
            raise ValueError(f"Relay's template has no {', '.join(given)}")
        with self._state.lock:
            account, shown = self._state.account, replace(self._incident(incident_id))
            if service is not None:
                shown.services = self._components(account.services, service)
            if environment is not None:
                shown.environments = self._components(account.environments, environment)
            if form == "relay":
                return relay_body(shown, overrides or {}, omit)
            return our_body(shown, self._state.now(), given, overrides or {}, omit)

    def post_raw(self, url: str, body: bytes, headers: Mapping[str, str]) -> Delivery:
        """Post these very bytes, signed or not, and keep what came back."""
        delivery = post(url, body, headers, self._state.now())
        with self._state.lock:
            self._deliveries.append(delivery)
        return delivery

    @staticmethod
    def sign(body: bytes, secret: str) -> str:
        """The value of the header `fh-signature` for these bytes."""
        return sign(body, secret)

    def _incident(self, incident_id: str) -> Incident:
        try:
            return self._state.account.incidents[incident_id]
        except KeyError:
            raise LookupError(f"no incident {incident_id} was declared") from None

    def _components(self, catalog: Catalog, names: Names) -> list[Component]:
        listed = [names] if isinstance(names, str) else names
        return [catalog.add(name, self._state.now()) for name in listed if name]

    def _script(self, deed: Deed, times: int | None, match: str, **how: Any) -> None:
        with self._state.lock:
            self._state.script.add(Fault(deed, re.compile(match), times, **how))


def render(entry: Entry) -> str:
    """`02:16:09  note          text`, further lines under the first."""
    edits = f" (edited {len(entry.edits)} times)" if len(entry.edits) > 1 else ""
    edits = " (edited)" if len(entry.edits) == 1 else edits
    head = f"{entry.at.astimezone(UTC):%H:%M:%S}  {entry.kind:<12}  "
    return head + f"\n{' ' * len(head)}".join(f"{entry.text}{edits}".splitlines())
