"""An incident timeline in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeVar

from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.errors import RollbackError, TimelineRefusedError
from incident_rollback.ports import ChangeEvent

T = TypeVar("T")
Call = Literal[
    "read_incident",
    "find",
    "post_note",
    "post_message",
    "edit_message",
    "find_change",
    "post_change",
    "relate_change",
]


@dataclass(frozen=True)
class Entry:
    """A note or a message, as it reads now."""

    id: str
    incident_id: str
    kind: Literal["note", "message"]
    text: str


@dataclass
class Fault:
    """What goes wrong with a call, and whether that is before or after its effect."""

    call: Call
    error: BaseException
    is_done_first: bool


@dataclass
class FakeTimeline:
    """
    One FireHydrant account that remembers in order what was asked of it.

    Kinder than the real one: an answer takes no time, nothing limits the calls, texts are listed
    exactly as they were posted, and every event that is there is listed, however many there are.
    `fail` lets the next call of a kind fail once, before or after its effect; `hide_for` lets the
    next looks find nothing, as a list that lags does.  While `down` is set every call raises it.
    """

    now: Callable[[], datetime]
    calls: list[tuple[Call, str]] = field(default_factory=list[tuple[Call, str]])
    """Each call with its text, or the id that it was about."""
    entries: list[Entry] = field(default_factory=list[Entry])
    changes: dict[str, ChangeEvent] = field(default_factory=dict[str, ChangeEvent])
    relations: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """How a change event is related, by the ids of incident and change event."""
    incidents: dict[str, tuple[str, bool]] = field(default_factory=dict[str, tuple[str, bool]])
    """Severity and whether it is active; an id that is not here is answered as not found."""
    faults: list[Fault] = field(default_factory=list[Fault])
    hidden_looks: int = 0
    down: RollbackError | None = None

    def declare(self, incident_id: str, severity: str = "SEV1") -> str:
        self.incidents[incident_id] = (severity, True)
        return incident_id

    def resolve(self, incident_id: str) -> None:
        self.incidents[incident_id] = (self.incidents[incident_id][0], False)

    def fail(self, call: Call, *errors: BaseException, is_done_first: bool = False) -> None:
        """Let the next calls of a kind fail, one error each."""
        self.faults += [Fault(call, error, is_done_first) for error in errors]

    def hide_for(self, looks: int) -> None:
        """Let the next looks find nothing."""
        self.hidden_looks = looks

    def texts(self, incident_id: str) -> list[str]:
        """What the incident reads, oldest first."""
        return [one.text for one in self.entries if one.incident_id == incident_id]

    def times(self, call: Call) -> int:
        return sum(name == call for name, _ in self.calls)

    async def read_incident(self, incident_id: str) -> IncidentFacts:
        fault = self._begin("read_incident", incident_id)
        severity, is_active = self._incident(incident_id)
        return end(fault, IncidentFacts(severity.upper(), is_active, self.now()))

    async def find(self, incident_id: str, text: str) -> str | None:
        fault = self._begin("find", text)
        self._incident(incident_id)
        here = (
            one.id for one in self.entries if (one.incident_id, one.text) == (incident_id, text)
        )
        return end(fault, self._seen(next(here, None)))

    async def post_note(self, incident_id: str, text: str) -> str:
        return self._post("post_note", incident_id, "note", text)

    async def post_message(self, incident_id: str, text: str) -> str:
        return self._post("post_message", incident_id, "message", text)

    async def edit_message(self, incident_id: str, message_id: str, text: str) -> None:
        fault = self._begin("edit_message", text)
        self._incident(incident_id)
        if not any(one.id == message_id and one.kind == "message" for one in self.entries):
            raise not_found()
        self.entries = [
            replace(one, text=text) if one.id == message_id else one for one in self.entries
        ]
        end(fault, None)

    async def find_change(self, external_id: str) -> str | None:
        fault = self._begin("find_change", external_id)
        here = (id_ for id_, one in self.changes.items() if one.external_id == external_id)
        return end(fault, self._seen(next(here, None)))

    async def post_change(self, change: ChangeEvent) -> str:
        fault = self._begin("post_change", change.external_id)
        change_id = f"change-{len(self.changes) + 1}"
        self.changes[change_id] = change
        return end(fault, change_id)

    async def relate_change(
        self,
        incident_id: str,
        change_id: str,
        relation: Literal["fixed", "suspect"],
        why: str,  # noqa: ARG002  # the fake keeps no reasons
    ) -> None:
        fault = self._begin("relate_change", change_id)
        self._incident(incident_id)
        if change_id not in self.changes:
            raise not_found()
        self.relations[incident_id, change_id] = relation
        end(fault, None)

    def _post(
        self, call: Call, incident_id: str, kind: Literal["note", "message"], text: str
    ) -> str:
        fault = self._begin(call, text)
        self._incident(incident_id)
        if not text.strip():
            raise TimelineRefusedError("NotAccepted", "FireHydrant answered 422: Body is blank")
        entry = Entry(f"{kind}-{len(self.entries) + 1}", incident_id, kind, text)
        self.entries.append(entry)
        return end(fault, entry.id)

    def _begin(self, call: Call, about: str) -> Fault | None:
        """Record a call; raise its fault if that comes before the effect, else return it."""
        self.calls.append((call, about))
        if self.down is not None:
            raise self.down
        fault = next((one for one in self.faults if one.call == call), None)
        if fault is not None:
            self.faults.remove(fault)
            if not fault.is_done_first:
                raise fault.error
        return fault

    def _incident(self, incident_id: str) -> tuple[str, bool]:
        if incident_id not in self.incidents:
            raise not_found()
        return self.incidents[incident_id]

    def _seen(self, found: str | None) -> str | None:
        if self.hidden_looks:
            self.hidden_looks -= 1
            return None
        return found


def end(fault: Fault | None, answer: T) -> T:
    """Answer, unless the answer is what gets lost."""
    if fault is not None:
        raise fault.error
    return answer


def not_found() -> RollbackError:
    return TimelineRefusedError("IncidentNotFound", "the incident is not there")
