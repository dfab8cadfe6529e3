"""The words on the timeline, and the outbox entries that carry them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from incident_rollback.crd.v1alpha1 import (
    MAX_UPDATE_TEXT,
    MAX_UPDATES,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
    PlanStatus,
    RevisionStatus,
    Update,
)
from incident_rollback.domain.conditions import get
from incident_rollback.domain.diagnosis import beside, lead_of
from incident_rollback.domain.moves import Aim, Fail, News, Refuse, Succeed, Wait
from incident_rollback.domain.plan import in_short, origin_words
from incident_rollback.domain.words import clock_time, join, quote, span

NOT_ROLLED_BACK: Final = "Not rolled back: ConfigMaps, Secrets, replicas."
ILL: Final = frozenset({"ProgressDeadlineExceeded", "VerifyDeadlineExceeded", "CrashedAfterReady"})
"""Reasons of Failed that say that the restored template does not work."""
PROGRESS_EVERY: Final = timedelta(seconds=15)
QUIET_REASONS: Final = frozenset(
    {"NotObserved", "Busy", "ClusterUnreachable", "TooManyAtOnce", "TooManyThisHour"}
)
"""Waits that may be over in a moment: told only when they last."""
QUIET_FOR: Final = timedelta(seconds=10)

Updates = tuple[Update, ...]


def subject_of(rollback: IncidentRollback) -> str:
    """Say what is rolled back, in the incident's words, e.g. "checkout in production"."""
    service, target = rollback.spec.service, rollback.spec.target_ref
    if service is not None:
        name, environment = quote(service.name), quote(service.environment)
        return f"{name or 'no service'} in {environment or 'no environment'}"
    return f"{quote(target.name) if target else '?'} in namespace {rollback.metadata.namespace}"


def waiting_text(rollback: IncidentRollback, wait: Wait, until: datetime) -> str:
    """Say what is in the way, and until when it may be mended."""
    return _note(
        rollback,
        f"{subject_of(rollback)} is not rolled back yet: {wait.message}. I act by myself as soon "
        f"as that is over, until {until:%H:%M} UTC; nothing was changed so far.",
        wait.fix,
    )


def start_text(rollback: IncidentRollback, aim: Aim) -> str:
    """Say where it goes, from where, and why there."""
    passed = [c for c in aim.candidates if c.verdict == "PassedOver"][:3]
    over = "".join(f" Passed over: revision {c.revision} ({c.why})." for c in passed)
    return _note(
        rollback,
        f"Rolling {subject_of(rollback)} back to {_shown(aim.to)}. It is on {_was(aim.from_)}."
        f"{over}{_same_images(aim.from_, aim.to)}",
        "wait for it; I say when it is healthy, or that it is not",
    )


def preview_text(rollback: IncidentRollback, aim: Aim) -> str:
    """Say what a rollback would do, what it would leave, and what it would replace."""
    plan = aim.plan
    asked = rollback.spec.requested_at or rollback.metadata.creation_timestamp
    origin, doubts = origin_words(plan, asked), doubts_words(plan, 1000)
    evidence = beside(aim.from_.evidence, doubts)
    was = _was(aim.from_.model_copy(update={"evidence": evidence}), origin)
    return _note(
        rollback,
        f"Dry run, nothing was changed. A rollback would take {subject_of(rollback)} to "
        f"{_shown(aim.to)}. It is on {was}. "
        f"Changes: {in_short(plan.changes, '; ', 1000) or 'none'}. "
        f"Not rolled back: {in_short(plan.not_rolled_back, ', ', 300)}."
        f"{_same_images(aim.from_, aim.to)}{doubts} Plan {plan.digest}.",
        "run the step that rolls back, or the one that approves this plan",
    )


def doubts_words(plan: PlanStatus, limit: int) -> str:
    """Say why a person would be asked first, each a sentence after a blank; "" of no doubts."""
    return "".join(f" It would ask first: {warning}." for warning in plan.warnings)[:limit]


def refused_text(rollback: IncidentRollback, refuse: Refuse) -> str:
    """Say that nothing was done, why, and what would mend it."""
    aim = refuse.aim
    same = _same_images(aim.from_, aim.to) if aim is not None else ""
    text = f"{subject_of(rollback)} was not rolled back: {refuse.message}. Nothing was changed."
    return _note(rollback, f"{text}{same}", refuse.fix)


def succeeded_text(rollback: IncidentRollback, move: Succeed, now: datetime) -> str:
    """Say that it worked, as far as was seen."""
    status = rollback.status
    if status.to is None or status.from_ is None or move.reason == "AlreadyThere":
        return _note(rollback, f"{subject_of(rollback)}: {move.message}.", move.fix)
    asked = rollback.spec.requested_at or rollback.metadata.creation_timestamp or now
    took = span((move.healthy_since or now) - asked)
    return _note(
        rollback,
        f"{subject_of(rollback)} is back on {_shown(status.to)}. {_healthy(move)}, {took} after "
        f"you asked. It was {_was(_in_short(status.from_))}. {NOT_ROLLED_BACK}"
        f"{_same_images(status.from_, status.to)}{f' {move.warning}.' if move.warning else ''}",
        f"{move.fix}. To undo this: {undo_command(rollback)}",
    )


def failed_text(rollback: IncidentRollback, move: Fail) -> str:
    """
    Say what was seen, what was changed, and that nothing more is tried.

    Only a rollback that did not help is undone by a command: what somebody deployed over it
    stands, and what could not be looked at is for a person to look at first.
    """
    to, is_seen = rollback.status.to, rollback.status.patched_at is not None
    what = f" The template of {_shown(to)} was restored." if to is not None and is_seen else ""
    is_ill = move.reason in ILL
    lead = "is not well after the rollback: " if is_ill else ", after the rollback: "
    if not is_seen:
        lead = ": "
    undo = f". To undo this: {undo_command(rollback)}" if is_ill and is_seen else ""
    between = "" if lead.startswith((",", ":")) else " "
    return _note(
        rollback,
        f"{subject_of(rollback)}{between}{lead}{move.message}.{what} "
        "Nothing more is tried by itself.",
        f"{move.fix}{undo}",
    )


def news_text(rollback: IncidentRollback, news: News) -> str:
    """Say what happened after the end."""
    text = f"{subject_of(rollback)}, after the rollback: {news.message}. Nothing more is done."
    return _note(rollback, text, news.fix or "nothing")


def deleted_text(rollback: IncidentRollback) -> str:
    """Say that the record is gone while its patch is in."""
    return _note(
        rollback,
        f"The IncidentRollback of {subject_of(rollback)} was deleted after the template was "
        "restored: nobody watches over it any more.",
        f"look at it yourself. To undo it: {undo_command(rollback)}",
    )


def progress_text(rollback: IncidentRollback, message: str) -> str:
    """Say how far it is; edited in place, so it carries no time."""
    return f"Rollback of {subject_of(rollback)}: {message} ({rollback.metadata.name})"


def change_text(rollback: IncidentRollback) -> str:
    """Return a change event's summary, and below it the description."""
    status = rollback.status
    target, to, origin = status.target, status.to, status.from_
    if target is None or to is None or origin is None:
        return f"Rollback {rollback.metadata.name}"
    name = f"{target.namespace}/{target.name}"
    return (
        f"Rolled back {name} to {join(to.images)}\n"
        f"Deployment {name} went from revision {origin.revision} ({join(origin.images)}) back to "
        f"revision {to.revision} ({join(to.images)}), asked for by "
        f"{quote(rollback.spec.requested_by or 'an IncidentRollback')}. {NOT_ROLLED_BACK} "
        f"({rollback.metadata.name})"
    )


def relation_of(rollback: IncidentRollback) -> Literal["fixed", "suspect"]:
    """`fixed` only where the old revision was seen failing and the new one seen healthy."""
    ready = get(rollback.status.conditions, "Ready")
    origin = rollback.status.from_
    is_seen = ready is not None and ready.reason == "RolledBack" and origin is not None
    return "fixed" if is_seen and origin is not None and origin.failing else "suspect"


def undo_command(rollback: IncidentRollback) -> str:
    """Return the command that brings the revision before the rollback back."""
    target, origin = rollback.status.target, rollback.status.from_
    if target is None or origin is None:
        return "kubectl irb rollback …"
    return (
        f"kubectl irb rollback deploy/{target.name} -n {target.namespace} "
        f"--to-revision {origin.revision}"
    )


def add(
    updates: Updates,
    key: str,
    text: str,
    *,
    now: datetime,
    process: str,
    kind: Literal["Note", "Message", "ChangeEvent"] = "Note",
) -> Updates:
    """Append an entry; one with the same key is there already or the outbox is full: nothing."""
    if any(update.key == key for update in updates) or len(updates) >= MAX_UPDATES:
        return updates
    entry = Update(
        key=key, kind=kind, text=text[:MAX_UPDATE_TEXT], decided_at=now, decided_by=process
    )
    return (*updates, entry)


def wait_first(updates: Updates) -> Updates:
    """
    Put what is waited for before a start that is not told yet.

    A claim that has to wait has decided its start, which is told once the patch is in.  Told late,
    "nothing was changed so far" must not come after it.
    """
    start = next((u for u in updates if u.key == "start" and u.delivered_at is None), None)
    if start is None:
        return updates
    at = updates.index(start)
    waits = tuple(u for u in updates[at:] if u.key.startswith("waiting-"))
    others = tuple(u for u in updates[at:] if u not in waits)
    return (*updates[:at], *waits, *others)


def edit(updates: Updates, key: str, text: str, *, now: datetime) -> Updates:
    """Give a delivered message a new text, to be sent again."""
    return tuple(
        u.model_copy(
            update={"text": text[:MAX_UPDATE_TEXT], "decided_at": now, "delivered_at": None}
        )
        if u.key == key
        else u
        for u in updates
    )


def without(updates: Updates, key: str) -> Updates:
    """Take back an entry that was never sent."""
    return tuple(u for u in updates if u.key != key or u.delivered_at is not None)


def deliverable(status: IncidentRollbackStatus, *, is_patched: bool) -> Sequence[Update]:
    """
    Return what may be told now, in order.

    The start is decided with the claim and told once the patch is in; a progress that the end
    has overtaken is not told any more.
    """
    is_ended = any(u.key == "end" for u in status.updates)
    return [
        u
        for u in status.updates
        if u.delivered_at is None
        and not u.gave_up
        and (u.key != "start" or is_patched)
        and (u.key != "progress" or not is_ended)
    ]


def is_worth_telling(wait: Wait, waited: timedelta) -> bool:
    """A wait that is over in a moment is no news."""
    return wait.reason not in QUIET_REASONS or waited >= QUIET_FOR


def is_told(status: IncidentRollbackStatus) -> bool:
    """Nothing is left to tell."""
    return not deliverable(status, is_patched=status.phase is not Phase.ROLLING_BACK)


def _note(rollback: IncidentRollback, text: str, fix: str) -> str:
    last = f"\nNext: {fix} ({rollback.metadata.name})"
    room = MAX_UPDATE_TEXT - 1 - len(last)
    return (text if len(text) <= room else text[: room - 1] + "…") + last


def _shown(revision: RevisionStatus) -> str:
    return f"{join(revision.images)} (revision {revision.revision}; {revision.evidence})"


def _was(revision: RevisionStatus, origin: str = "") -> str:
    since = f", {origin}" if origin else ""
    evidence = f": {revision.evidence}" if revision.evidence else ""
    return f"{join(revision.images)} (revision {revision.revision}){since}{evidence}"


def _in_short(revision: RevisionStatus) -> RevisionStatus:
    """Leave out the pod that showed it: when it has worked nobody looks at that one any more."""
    return revision.model_copy(update={"evidence": lead_of(revision.evidence)})


def _healthy(move: Succeed) -> str:
    if move.healthy_since is None:
        return move.message
    counts = move.message.split(" available")[0]
    return f"{counts} healthy since {clock_time(move.healthy_since)}"


def _same_images(origin: RevisionStatus, to: RevisionStatus) -> str:
    if origin.images != to.images:
        return ""
    return " Both name the same images: if a tag was moved, this brings no other image back."
