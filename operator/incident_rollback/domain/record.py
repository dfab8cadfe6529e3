"""A decision becomes the next status.  Only what is recorded here is ever told."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from incident_rollback.crd.v1alpha1 import (
    MAX_TEXT,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
)
from incident_rollback.domain import timeline
from incident_rollback.domain.caps import must_say_that_it_goes
from incident_rollback.domain.conditions import drop, get, upsert
from incident_rollback.domain.moves import (
    Aim,
    Claim,
    Fail,
    Hold,
    Move,
    Preview,
    Refuse,
    Restore,
    Succeed,
    Wait,
    Watch,
)
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.phase import advance
from incident_rollback.domain.plan import in_short


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells, and whether the incident can be told at all."""

    process: str
    """Names this process; an update carries the name of the one that decided it."""
    silence: str = ""
    """The reason why nothing is told: NoIncident, NoKey or NotListed; "" when it is."""

    @property
    def is_heard(self) -> bool:
        """Whether updates are decided at all."""
        return not self.silence


SILENCES: Final = {
    "NoKey": "no FireHydrant API key is configured (INCIDENT_ROLLBACK_FIREHYDRANT_API_KEY_FILE): "
    "the incident is not told, all else works",
    "NotListed": "this namespace may not speak to incidents: add it to incidentsFrom of a "
    "RollbackEnvironment",
}


def record(seen: Observation, move: Move, teller: Teller) -> IncidentRollback:
    """Return the rollback as it is after a move; equal to what it was when nothing changed."""
    drafted = _Draft(seen, teller)
    match move:
        case Wait():
            drafted.wait(move)
        case Refuse():
            drafted.refuse(move)
        case Claim():
            drafted.claim(move)
        case Preview():
            drafted.preview(move)
        case Restore():
            drafted.restore()
        case Watch():
            drafted.watch(move)
        case Succeed():
            drafted.succeed(move)
        case Fail():
            drafted.fail(move)
        case Hold():
            drafted.hold(move)
        case _:
            assert_never(move)
    return drafted.finished()


class _Draft:
    """The next status in the making."""

    def __init__(self, seen: Observation, teller: Teller) -> None:
        self.seen = seen
        self.teller = teller
        self.rollback = seen.rollback
        self.status: IncidentRollbackStatus = seen.rollback.status
        self._set(observed_generation=self.rollback.metadata.generation)
        self._explain_silence()

    def wait(self, move: Wait) -> None:
        until = self.seen.acts_until
        message = (
            f"{move.message}. I act by myself as soon as that is over, until {until:%H:%M} UTC"
        )
        self._ready("Unknown", move.reason, f"{message}. Next: {move.fix}")
        self._condition("Reconciling", "True", move.reason, message)
        created = self.rollback.metadata.creation_timestamp or self.seen.now
        if timeline.is_worth_telling(move, self.seen.now - created):
            text = timeline.waiting_text(self.rollback, move, until)
            self._tell(f"waiting-{move.reason}", text)
            self._set(updates=timeline.wait_first(self.status.updates))

    def refuse(self, move: Refuse) -> None:
        if move.aim is not None:
            self._show(move.aim)
        if move.candidates:
            self._set(candidates=move.candidates)
        self._end(Phase.REFUSED, move.reason, _with_next(move.message, move.fix))
        self._set(updates=timeline.without(self.status.updates, "start"))
        self._tell("end", timeline.refused_text(self.rollback, move))

    def claim(self, move: Claim) -> None:
        aim = move.aim
        self._set(
            phase=advance(self.status.phase, Phase.ROLLING_BACK),
            target=aim.target,
            from_=aim.from_,
            to=aim.to,
            candidates=aim.candidates,
            plan=aim.plan,
            claimed_at=self.seen.now,
        )
        message = f"going back to revision {aim.to.revision}: {aim.to.evidence}"
        self._ready("Unknown", "RollingBack", message)
        self._condition("Reconciling", "True", "RollingBack", message)
        self._tell("start", timeline.start_text(self.rollback, aim))

    def restore(self) -> None:
        """Leave it as it is: the patch is the news.  But who waited says that it goes on."""
        to = self.status.to
        if to is not None and must_say_that_it_goes(self.seen):
            message = f"going back to revision {to.revision}: {to.evidence}"
            self._ready("Unknown", "RollingBack", message)
            self._condition("Reconciling", "True", "RollingBack", message)

    def preview(self, move: Preview) -> None:
        aim = move.aim
        self._show(aim)
        changes = in_short(aim.plan.changes, "; ", 500)
        doubts = timeline.doubts_words(aim.plan, 500)
        self._end(
            Phase.PREVIEWED,
            "Previewed",
            f"would go back to revision {aim.to.revision} "
            f"({aim.to.evidence}): {changes}. Plan {aim.plan.digest}.{doubts}",
        )
        self._tell("end", timeline.preview_text(self.rollback, aim))

    def watch(self, move: Watch) -> None:
        self._set(patched_at=move.patched_at, healthy_since=move.healthy_since)
        self._ready("Unknown", "RollingBack", move.message)
        self._condition("Reconciling", "True", "RollingBack", move.message)
        is_long = self.seen.now - move.patched_at >= timeline.PROGRESS_EVERY
        is_begun = any(u.key == "progress" for u in self.status.updates)
        if is_begun or (is_long and move.healthy_since is None):
            self._progress(timeline.progress_text(self.rollback, move.message))

    def succeed(self, move: Succeed) -> None:
        self._note_patch(healthy_since=move.healthy_since)
        self._end(Phase.SUCCEEDED, move.reason, _with_next(move.message, move.fix))
        if move.reason == "AlreadyThere":
            self._set(updates=timeline.without(self.status.updates, "start"))
        self._tell("end", timeline.succeeded_text(self._as_is(), move, self.seen.now))
        self._tell_change()

    def fail(self, move: Fail) -> None:
        self._note_patch()
        if self.status.patched_at is None:  # Nobody saw it start.
            self._set(updates=timeline.without(self.status.updates, "start"))
        self._end(Phase.FAILED, move.reason, _with_next(move.message, move.fix))
        self._tell("end", timeline.failed_text(self._as_is(), move))
        self._tell_change()

    def hold(self, move: Hold) -> None:
        news = move.news
        if news is not None:
            status = "True" if news.stands else "False"
            self._condition("Held", status, news.reason, _with_next(news.message, news.fix))
            if news.is_told:
                self._tell("held", timeline.news_text(self.rollback, news))
        if move.is_over and (not self.teller.is_heard or timeline.is_told(self.status)):
            self._set(settled=True)

    def _show(self, aim: Aim) -> None:
        """Write down what would be done; only a claim makes it so."""
        self._set(
            target=aim.target, from_=aim.from_, to=aim.to, candidates=aim.candidates, plan=aim.plan
        )

    def finished(self) -> IncidentRollback:
        return self._as_is()

    def _as_is(self) -> IncidentRollback:
        return self.rollback.model_copy(update={"status": self.status})

    def _set(self, **changes: Any) -> None:  # noqa: ANN401  # the fields of the status
        self.status = self.status.model_copy(update=changes)

    def _note_patch(self, healthy_since: datetime | None = None) -> None:
        """An end that was seen before the patch had been recorded still records it."""
        if self.status.phase is Phase.ROLLING_BACK and self.status.patched_at is None:
            self._set(patched_at=self.seen.written_at)
        if healthy_since is not None:
            self._set(healthy_since=healthy_since)

    def _end(self, phase: Phase, reason: str, message: str) -> None:
        self._set(phase=advance(self.status.phase, phase), finished_at=self.seen.now)
        is_good = phase in (Phase.SUCCEEDED, Phase.PREVIEWED)
        self._ready("True" if is_good else "False", reason, message)
        self._set(conditions=drop(self.status.conditions, "Reconciling"))
        if not is_good:
            self._condition("Stalled", "True", reason, message)

    def _ready(self, status: Any, reason: str, message: str) -> None:  # noqa: ANN401
        self._condition("Ready", status, reason, message)

    def _condition(self, kind: str, status: Any, reason: str, message: str) -> None:  # noqa: ANN401
        conditions = upsert(
            self.status.conditions,
            kind,
            status,
            reason,
            message,
            now=self.seen.now,
            generation=self.rollback.metadata.generation,
        )
        self._set(conditions=conditions)

    def _tell(self, key: str, text: str, kind: Any = "Note") -> None:  # noqa: ANN401
        if self.teller.is_heard:
            self._set(
                updates=timeline.add(
                    self.status.updates,
                    key,
                    text,
                    now=self.seen.now,
                    process=self.teller.process,
                    kind=kind,
                )
            )

    def _tell_change(self) -> None:
        if self.status.patched_at is not None and self.status.to is not None:
            self._tell("change", timeline.change_text(self._as_is()), "ChangeEvent")

    def _progress(self, text: str) -> None:
        last = next((u for u in self.status.updates if u.key == "progress"), None)
        if last is None:
            self._tell("progress", text, "Message")
        elif _may_edit(last.decided_at, last.delivered_at, self.seen.now) and last.text != text:
            self._set(
                updates=timeline.edit(self.status.updates, "progress", text, now=self.seen.now)
            )

    def _explain_silence(self) -> None:
        message = SILENCES.get(self.teller.silence)
        if message is not None:
            self._condition("Reported", "False", self.teller.silence, message)


def _with_next(message: str, fix: str) -> str:
    """Say what is so, and what to do about it: of the two, the first is cut to fit."""
    last = f". Next: {fix}" if fix else ""
    room = max(0, MAX_TEXT - len(last))
    return (message if len(message) <= room else message[: room - 1] + "…") + last


def with_reported(
    rollback: IncidentRollback, trouble: tuple[str, str] | None, now: datetime
) -> IncidentRollback:
    """Set the condition Reported: the trouble there is, or that everything decided was told."""
    status = rollback.status
    lost = [u for u in status.updates if u.gave_up and u.key != "progress"]
    has_begun = any(u.gave_up or u.delivered_at is not None for u in status.updates)
    if trouble is not None:
        state, (reason, message) = "False", trouble
    elif not has_begun or not timeline.is_told(status):
        return rollback  # On its way: a start waits for the patch.
    elif lost:
        before = get(status.conditions, "Reported")
        is_known = before is not None and before.status == "False"
        state, reason = "False", before.reason if before and is_known else "NotAccepted"
        message = lost[0].gave_up
    else:
        state, reason, message = "True", "Told", "the incident was told"
    conditions = upsert(
        status.conditions,
        "Reported",
        "True" if state == "True" else "False",
        reason,
        message,
        now=now,
        generation=rollback.metadata.generation,
    )
    return rollback.model_copy(
        update={"status": status.model_copy(update={"conditions": conditions})}
    )


def _may_edit(decided_at: datetime, delivered_at: datetime | None, now: datetime) -> bool:
    return delivered_at is not None and now - decided_at >= timedelta(seconds=15)
