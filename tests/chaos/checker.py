"""
What must be true of a run, whatever was killed, frozen or cut off in it.

Pure: it is given what witnesses have recorded, as values, and returns what is wrong, in words.
Instants are seconds of one clock; the `version` of a write is its place in the order of all writes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

Kind = Literal["Note", "Message", "ChangeEvent"]

FINAL: Final = frozenset({"Succeeded", "Failed", "Refused", "Previewed"})
OPEN: Final = "RollingBack"
CATALOG: Final = "the catalog of changes"
"""Where change events are: not on an incident, so the looks for them are not at one."""
LATE_SECONDS: Final = 60.0
"""A write that FireHydrant has taken and not carried out for so long, nobody waits for any more."""
SLACK_SECONDS: Final = 5.0
"""By which a wait may be shorter, as measured from outside: a write is under way for a moment."""
GOOD_ANSWERS: Final = frozenset({0, 200, 202, 429, 503})
"""What a signed request may be answered; 0 is a connection that was cut before there was any."""


@dataclass(frozen=True)
class Telling:
    """One update of a resource, as its status has it in the end."""

    key: str
    kind: Kind
    text: str
    gave_up: str = ""
    """Why it was never told; empty: it was."""
    is_delivered: bool = True


@dataclass(frozen=True)
class Rollback:
    """One IncidentRollback as it is in the end."""

    name: str
    uid: str
    intent: str
    incident: str = ""
    """Empty: nobody is told."""
    phase: str = "Succeeded"
    reason: str = "RolledBack"
    is_settled: bool = True
    workload: str = ""
    """What the claim has frozen; empty: it has claimed nothing."""
    images: tuple[str, ...] = ()
    """Of the template that the claim has chosen."""
    updates: tuple[Telling, ...] = ()


@dataclass(frozen=True)
class Step:
    """One write of a status that was stored."""

    version: int
    uid: str
    phase: str


@dataclass(frozen=True)
class Patch:
    """One write of ours to a workload that was stored."""

    version: int
    uid: str
    """Of the resource that its marker names."""
    intent: str
    workload: str
    images: tuple[str, ...]
    is_effective: bool = True
    """It changed the template."""


@dataclass(frozen=True)
class Copy:
    """One note, message or change event of ours that FireHydrant has."""

    where: str
    """The id of the incident, or `CATALOG`."""
    kind: Kind
    text: str
    """As it reads now; of a change event, the uid of the rollback that it is about."""
    by: str
    """The process that posted it."""
    asked_at: float
    committed_at: float


@dataclass(frozen=True)
class Look:
    """A look of one process at what FireHydrant has."""

    where: str
    by: str
    at: float
    """What it showed was as of then: a list may lag."""


@dataclass(frozen=True)
class Sleep:
    """A process did nothing and did not know it."""

    by: str
    began_at: float
    ended_at: float


@dataclass(frozen=True)
class Answer:
    """What a webhook was answered, with the names of its rollbacks."""

    status: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """All that was recorded of a run."""

    rollbacks: Sequence[Rollback] = ()
    steps: Sequence[Step] = ()
    patches: Sequence[Patch] = ()
    copies: Sequence[Copy] = ()
    related: frozenset[tuple[str, str]] = frozenset()
    """Incidents and the uids of the rollbacks whose change events are related to them."""
    looks: Sequence[Look] = ()
    sleeps: Sequence[Sleep] = ()
    answers: Sequence[Answer] = ()
    unseen: Sequence[str] = ()
    """Changes of workloads that have happened, and that the witness does not know of."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a run, and how often that happened which no rule can exclude."""

    violations: tuple[str, ...] = ()
    late_duplicates: int = 0
    """Updates told twice, of which one was committed after both looks for it."""


@dataclass
class _Copies:
    """The copies of each update, by whom they are about."""

    record: Record
    _known: dict[int, str] = field(default_factory=dict[int, str])

    def of(self, rollback: Rollback, update: Telling) -> list[Copy]:
        """Return the copies of an update, the first committed first."""
        found = [c for c in self.record.copies if _is_copy(c, rollback, update)]
        self._known.update({id(c): rollback.name for c in found})
        return sorted(found, key=lambda c: c.committed_at)

    def unknown(self) -> Iterator[Copy]:
        """Go through what no update of any resource says."""
        return (c for c in self.record.copies if id(c) not in self._known)


def judge(record: Record) -> Verdict:
    """Say what is wrong."""
    copies = _Copies(record)
    told = [_told(record, copies, one) for one in record.rollbacks]
    return Verdict(
        violations=(
            *_patched_twice(record),
            *_unasked(record),
            *_unended(record),
            *_unpatched(record),
            *_lost(record),
            *(wrong for one in told for wrong in one.violations),
            *(f"told, and stored nowhere: {c.text!r}" for c in copies.unknown()),
            *(f"the witness has not seen {what}" for what in record.unseen),
        ),
        late_duplicates=sum(one.late_duplicates for one in told),
    )


# --- What was done to workloads


def _patched_twice(record: Record) -> Iterator[str]:
    """At most one effective patch for an intent."""
    counts = Counter(patch.intent for patch in record.patches if patch.is_effective)
    names = {one.intent: one.name for one in record.rollbacks}
    for intent, count in counts.items():
        if count > 1:
            yield f"{names.get(intent, intent)} was patched for {count} times"


def _unasked(record: Record) -> Iterator[str]:
    """Each patch, effective or not, names a resource that had claimed it and had not ended."""
    rollbacks = {one.uid: one for one in record.rollbacks}
    for patch in record.patches:
        why = _why_unasked(patch, rollbacks.get(patch.uid), record.steps)
        if why:
            yield f"{patch.workload} was patched at {patch.version}, and {why}"


def _why_unasked(patch: Patch, asked: Rollback | None, steps: Iterable[Step]) -> str:
    """Say why nobody has asked for a patch; "" when somebody has."""
    if asked is None:
        return f"nothing is known of {patch.uid or 'whoever wanted that'}"
    before = [s.phase for s in steps if s.uid == patch.uid and s.version < patch.version]
    if OPEN not in before:
        return f"{asked.name} had not claimed it"
    if not patch.is_effective:
        return ""  # It changed nothing: of two that came at once, the second.
    if FINAL & set(before):
        return f"{asked.name} had ended before"
    if patch.workload != asked.workload:
        return f"{asked.name} had claimed {asked.workload}"
    if patch.images != asked.images:
        return f"{asked.name} had chosen {', '.join(asked.images)}"
    return ""


def _unpatched(record: Record) -> Iterator[str]:
    """Nobody says to have rolled back what was not patched."""
    patched = {patch.uid for patch in record.patches if patch.is_effective}
    for one in record.rollbacks:
        if one.reason == "RolledBack" and one.uid not in patched:
            yield f"{one.name} says RolledBack, and was not patched for"


# --- What became of requests


def _unended(record: Record) -> Iterator[str]:
    """Each request comes to a final phase, stays in it, and is settled."""
    for one in record.rollbacks:
        if one.phase not in FINAL:
            yield f"{one.name} is still {one.phase} {one.reason}"
        elif not one.is_settled:
            yield f"{one.name} is {one.phase}, and not settled"
        steps = sorted((s for s in record.steps if s.uid == one.uid), key=lambda s: s.version)
        for before, after in pairwise(steps):
            if before.phase in FINAL and after.phase != before.phase:
                yield f"{one.name} was {before.phase}, and then {after.phase}"


def _lost(record: Record) -> Iterator[str]:
    """What was answered that it is asked for, is."""
    names = {one.name for one in record.rollbacks}
    for answer in record.answers:
        if answer.status not in GOOD_ANSWERS:
            yield f"a webhook was answered {answer.status}"
        for name in answer.names:
            if name not in names:
                yield f"{name} was accepted, and is lost"


# --- What incidents were told


def _told(record: Record, copies: _Copies, one: Rollback) -> Verdict:
    """Judge what the incident of one rollback was told."""
    if not one.incident:
        return Verdict()
    found = [(update, copies.of(one, update)) for update in one.updates]
    wrong = [w for update, there in found for w in _miscounted(record, one, update, there)]
    if one.phase in FINAL and all(update.key != "end" for update in one.updates):
        wrong.append(f"{one.name} has ended, and its end is told nowhere")
    firsts = [
        (update.key, there[0].committed_at)
        for update, there in found
        if there and update.kind != "ChangeEvent"
    ]
    wrong += [
        f"{one.name}: {after} was told before {before}"
        for (before, earlier), (after, later) in pairwise(firsts)
        if later < earlier
    ]
    late = sum(_late_ones(record, there) for _, there in found)
    return Verdict(tuple(wrong), late)


def _miscounted(
    record: Record, one: Rollback, update: Telling, there: Sequence[Copy]
) -> Iterator[str]:
    """Each update is told once, but for those that nobody could know of."""
    what = f"{update.key} of {one.name}"
    if not there:
        if not (update.gave_up and update.kind == "Message"):  # The end was told instead.
            yield f"{what} was not told{': ' + update.gave_up if update.gave_up else ''}"
        return
    if not (update.is_delivered or update.gave_up):
        yield f"{what} was told, and nobody has noted it"
    late = _late_ones(record, there)
    if len(there) - late > 1:
        yield f"{what} was told {len(there)} times"
    if update.kind == "ChangeEvent" and (one.incident, one.uid) not in record.related:
        yield f"{what} is not related to its incident"


def _is_copy(copy: Copy, rollback: Rollback, update: Telling) -> bool:
    if copy.kind != update.kind:
        return False
    match update.kind:
        case "Note":
            return (copy.where, copy.text) == (rollback.incident, update.text)
        case "Message":  # Edited, its words are others.
            return copy.where == rollback.incident and copy.text.endswith(f"({rollback.name})")
        case "ChangeEvent":
            return copy.text == rollback.uid


def _late_ones(record: Record, there: Sequence[Copy]) -> int:
    """Count the copies beside the first that nobody could have known of, or be stopped by."""
    return sum(
        any(_is_excused(record, one, other) for one in there[:number])
        for number, other in enumerate(there)
    )


def _is_excused(record: Record, one: Copy, other: Copy) -> bool:
    return _could_not_know(record, one, other) or _could_not_know(record, other, one)


def _could_not_know(record: Record, poster: Copy, other: Copy) -> bool:
    """
    Say whether the poster looked as it has to, and the other copy was committed after that.

    The last look must have come when whatever was asked for before had had its time; or the other
    was not asked for yet, and whoever asked had slept between its own last check and its post.
    """
    looks = [
        look.at
        for look in record.looks
        if (look.where, look.by) == (poster.where, poster.by) and look.at <= poster.asked_at
    ]
    if not looks or other.committed_at <= looks[-1]:
        return False
    if other.asked_at <= looks[-1]:
        return looks[-1] - other.asked_at >= LATE_SECONDS - SLACK_SECONDS
    return any(
        sleep.by == other.by and sleep.began_at <= looks[-1] and sleep.ended_at <= other.asked_at
        for sleep in record.sleeps
    )
