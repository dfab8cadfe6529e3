"""Choosing the revision to go back to, and saying why not the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from incident_rollback.crd.v1alpha1 import MAX_CANDIDATES, Aim, Candidate
from incident_rollback.domain.history import History
from incident_rollback.domain.moves import Refuse
from incident_rollback.domain.words import span
from incident_rollback.domain.workload import Revision, Workload

TRUSTED_DWELL: Final = timedelta(hours=1)
SUSPECT_BEFORE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """The revision to go back to."""

    revision: Revision
    why: str
    is_proven: bool
    """There is evidence that it works: pods of it serve now, or it was current for an hour."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class _Option:
    """A candidate with what is known of it; the best sorts first."""

    revision: Revision
    passed_over: str
    """Why it is not considered at all; "" when it is."""
    is_suspect: bool
    dwell: timedelta | None

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        return (
            self.is_suspect,
            self.revision.available == 0,
            not self.has_dwelt,
            -self.revision.number,
        )

    @property
    def has_dwelt(self) -> bool:
        return self.dwell is not None and self.dwell >= TRUSTED_DWELL

    @property
    def evidence(self) -> str:
        if self.revision.available:
            pods = (
                "pod of it still serves"
                if self.revision.available == 1
                else "pods of it still serve"
            )
            return f"{self.revision.available} {pods}"
        if self.has_dwelt and self.dwell is not None:
            return f"it ran {span(self.dwell)} before it was replaced"
        return "it is the newest that is left; unproven"

    @property
    def is_proven(self) -> bool:
        return self.revision.available > 0 or self.has_dwelt


def choose_revision(workload: Workload, aim: Aim | None, began_at: datetime) -> Choice | Refuse:
    """
    Choose the last healthy revision, or find the one that was asked for.

    Never one that equals the live one or was rolled back from; one that was first current
    during the incident, or less than an hour before it, only when nothing else is left.
    First choice: pods of it are available now; then: it was current for an hour; else the newest.
    """
    history = History.of(workload)
    if aim is not None:
        return _asked_for(workload, aim, history)
    options = _options(workload, history, began_at)
    eligible = sorted((o for o in options if not o.passed_over), key=lambda o: o.rank)
    if not eligible:
        return _nothing(options)
    best = eligible[0]
    return Choice(
        revision=best.revision,
        why=best.evidence,
        is_proven=best.is_proven,
        candidates=_verdicts(options, best),
    )


def find_revision(workload: Workload, aim: Aim) -> Revision | None:
    """Return the revision with the number or hash that was asked for."""
    if aim.pod_template_hash is not None:
        return workload.revision(aim.pod_template_hash)
    return next((r for r in workload.revisions if r.number == aim.revision), None)


def _asked_for(workload: Workload, aim: Aim, history: History) -> Choice | Refuse:
    found = find_revision(workload, aim)
    if found is None:
        return Refuse(
            "RevisionNotFound",
            f"{workload.ref} has no {_words(aim)} in its history{_moved(workload, aim)}",
            "look at the ones there are: "
            f"kubectl rollout history deploy/{workload.ref.name} -n {workload.ref.namespace}",
        )
    option = _option(found, history, frozenset(), None)
    chosen = Candidate(revision=found.number, verdict="Chosen", why="it was asked for")
    return Choice(found, f"it was asked for; {option.evidence}", option.is_proven, (chosen,))


def _options(workload: Workload, history: History, began_at: datetime) -> Sequence[_Option]:
    """Return one option for each functionally different revision but the live one, newest first."""
    seen = {workload.key}
    options: list[_Option] = []
    for revision in workload.revisions:
        if revision.key in seen or not revision.numbers:
            continue
        seen.add(revision.key)
        alike = [r for r in workload.revisions if r.key == revision.key]
        best = max(alike, key=lambda r: (r.available, r.number))
        options.append(_option(best, history, history.marked_bad, began_at))
    return options


def _option(
    revision: Revision, history: History, marked: frozenset[str], began_at: datetime | None
) -> _Option:
    is_suspect = (
        began_at is not None and history.first_current_at(revision.key) > began_at - SUSPECT_BEFORE
    )
    return _Option(
        revision=revision,
        passed_over="somebody rolled back from it" if revision.key in marked else "",
        is_suspect=is_suspect,
        dwell=history.dwell(revision.key),
    )


def _verdicts(options: Sequence[_Option], best: _Option) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(revision=o.revision.number, verdict="Chosen", why=o.evidence)
        if o is best
        else Candidate(revision=o.revision.number, verdict="PassedOver", why=_why_not(o, best))
        for o in options
    )[:MAX_CANDIDATES]


def _why_not(option: _Option, best: _Option) -> str:
    if option.passed_over:
        return option.passed_over
    if option.is_suspect and not best.is_suspect:
        return "it was first live during the incident or less than an hour before"
    if best.revision.available and not option.revision.available:
        return "no pod of it serves"
    if best.has_dwelt and not option.has_dwelt:
        return "it was not live for an hour"
    return "it is older"


def _nothing(options: Sequence[_Option]) -> Refuse:
    if not options:
        return Refuse(
            "NothingToRollBackTo",
            "there is no other revision in the history",
            "deploy the release that worked, or raise revisionHistoryLimit for the next time",
        )
    why = "; ".join(f"revision {o.revision.number}: {o.passed_over}" for o in options)
    return Refuse(
        "NothingToRollBackTo",
        f"no revision that is left can be trusted ({why})",
        "name one yourself: kubectl irb rollback … --to-revision N",
    )


def _words(aim: Aim) -> str:
    if aim.revision is not None:
        return f"revision {aim.revision}"
    return f"pod-template-hash {aim.pod_template_hash}"


def _moved(workload: Workload, aim: Aim) -> str:
    """A number moves when its revision is restored: say where it went."""
    now = next((r for r in workload.revisions if aim.revision in r.history), None)
    return f" (what was revision {aim.revision} is revision {now.number} now)" if now else ""
