"""Choosing the revision to go back to, and saying why not the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from incident_rollback.crd.v1alpha1 import MAX_CANDIDATES, MAX_TEXT, Aim, Candidate
from incident_rollback.domain.history import History
from incident_rollback.domain.moves import Refuse
from incident_rollback.domain.references import configuration_of, references_of
from incident_rollback.domain.surroundings import Reference, Surroundings, Trial
from incident_rollback.domain.words import listed, quote, span
from incident_rollback.domain.workload import Revision, Workload

MAX_REFUSED: Final = 3
"""How many revisions the cluster may refuse before nothing more is tried."""
MAX_SAID: Final = 300
"""How much of each refusal is repeated, in characters."""
MAX_LISTED: Final = 3
"""How many objects that could not be looked at are named."""
CHANGED_BEFORE: Final = timedelta(minutes=5)
"""A release brings its configuration a moment before its template."""
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
    missing: tuple[Reference, ...] = ()
    """What it needs and is gone: only a revision that was asked for is chosen all the same."""
    may_patch: bool = True
    """The account was not told, when the patch was tried, that it may not."""


@dataclass(frozen=True, slots=True)
class _Option:
    """A candidate with what is known of it; the best sorts first."""

    revision: Revision
    passed_over: str
    """Why it is not considered at all; "" when it is."""
    is_suspect: bool
    dwell: timedelta | None
    missing: tuple[Reference, ...] = ()
    changed: tuple[Reference, ...] = ()
    """Configuration that was changed about when it was replaced, or later."""
    unseen: tuple[Reference, ...] = ()
    """What could not be looked at."""
    trial: Trial | None = None
    """What the cluster says to restoring it; None: not asked."""

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int]:
        return (
            self.is_suspect,
            self.revision.available == 0,
            not self.has_dwelt,
            bool(self.changed),
            -self.revision.number,
        )

    @property
    def is_refused(self) -> bool:
        return self.trial is not None and self.trial.outcome == "Rejected"

    @property
    def why(self) -> str:
        """The evidence, and what should be known beside it."""
        parts = [self.evidence]
        if self.missing:
            parts.append(f"{listed(self.missing)} gone by now")
        if self.changed:
            parts.append(f"{_changed(self.changed)}, so it runs with what is there now")
        if self.unseen:
            parts.append(f"could not look at {listed(self.unseen, MAX_LISTED)}")
        if self.trial is not None and self.trial.outcome in ("Unknown", "Denied"):
            parts.append(f"not tried: {quote(self.trial.message)}")
        return "; ".join(parts)

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


def choose_revision(
    workload: Workload,
    aim: Aim | None,
    began_at: datetime,
    around: Surroundings | None = None,
    max_revisions_back: int = MAX_CANDIDATES,
) -> Choice | Refuse:
    """
    Choose the last healthy revision, or find the one that was asked for.

    Never one that equals the live one, was rolled back from, lacks what it needs, is refused by
    the cluster, or is too far back; one that was first current during the incident, or less than
    an hour before it, only when nothing else is left.
    First choice: pods of it are available now; then: it was current for an hour; then: its
    configuration is what it was; else the newest.
    What was not looked at yet does not count: it is looked at once a choice rests on it.
    """
    history = History.of(workload)
    knowledge = _Knowledge(history, began_at, around or Surroundings(), max_revisions_back)
    if aim is not None:
        return _asked_for(workload, aim, knowledge)
    options = _options(workload, knowledge)
    eligible = sorted((o for o in options if not o.passed_over), key=lambda o: o.rank)
    refused = [o for o in options if o.is_refused]
    if not eligible and not refused:
        return _nothing(workload, options)
    if len(refused) >= MAX_REFUSED or (refused and not (eligible and eligible[0].is_proven)):
        return _refused(refused, _none_taken(options))
    return _choice(eligible[0], eligible[0].why, _verdicts(options, eligible[0]))


def _choice(option: _Option, why: str, candidates: tuple[Candidate, ...]) -> Choice:
    trial = option.trial
    return Choice(
        revision=option.revision,
        why=why[:MAX_TEXT],
        is_proven=option.is_proven,
        candidates=candidates,
        missing=option.missing,
        may_patch=trial is None or trial.outcome != "Denied",
    )


def _none_taken(options: Sequence[_Option]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            revision=o.revision.number,
            verdict="PassedOver",
            why=(o.passed_over or o.evidence)[:MAX_TEXT],
        )
        for o in options
    )[:MAX_CANDIDATES]


def _refused(options: Sequence[_Option], candidates: tuple[Candidate, ...] = ()) -> Refuse:
    """The cluster's own words become the reason."""
    said = (
        f"revision {o.revision.number}: {quote(o.trial.message if o.trial else '', MAX_SAID)}"
        for o in options
    )
    return Refuse(
        "Rejected",
        f"the cluster refuses what could be gone back to ({'; '.join(said)[:MAX_TEXT]})",
        "ask whoever owns the admission policy, or deploy the release that worked from its source",
        candidates=candidates,
    )


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """What a candidate is judged by."""

    history: History
    began_at: datetime
    around: Surroundings
    max_revisions_back: int

    def option(self, revision: Revision, steps_back: int = 1) -> _Option:
        """Return a candidate; `steps_back` counts the functionally different ones before it."""
        needs = references_of(revision.template)
        bare = _Option(
            revision=revision,
            passed_over="",
            is_suspect=self._is_suspect(revision),
            dwell=self.history.dwell(revision.key),
            missing=self.around.missing(needs),
            changed=self._changed(revision),
            unseen=self.around.unseen(needs),
            trial=self.around.trials.get(revision.pod_template_hash),
        )
        return replace(bare, passed_over=self._why_never(bare, steps_back))

    def _why_never(self, option: _Option, steps_back: int) -> str:
        if option.revision.key in self.history.marked_bad:
            return "somebody rolled back from it"
        if option.missing:
            return f"it needs {listed(option.missing)}, gone by now"
        if option.is_refused and option.trial is not None:
            return f"the cluster refuses it: {quote(option.trial.message)}"
        if steps_back > self.max_revisions_back and not option.revision.available:
            return (
                f"it is {steps_back} releases back, and only {self.max_revisions_back} are allowed"
            )
        return ""

    def _is_suspect(self, revision: Revision) -> bool:
        return self.history.first_current_at(revision.key) > self.began_at - SUSPECT_BEFORE

    def _changed(self, revision: Revision) -> tuple[Reference, ...]:
        """What it brought itself, when it was first current, is no change to it."""
        left_at = self.history.left_at(revision.key)
        if left_at is None:
            return ()
        since = max(left_at - CHANGED_BEFORE, self.history.first_current_at(revision.key))
        return self.around.changed_after(configuration_of(revision.template), since)


def find_revision(workload: Workload, aim: Aim) -> Revision | None:
    """Return the revision with the number or hash that was asked for."""
    if aim.pod_template_hash is not None:
        return workload.revision(aim.pod_template_hash)
    return next((r for r in workload.revisions if r.number == aim.revision), None)


def _asked_for(workload: Workload, aim: Aim, knowledge: _Knowledge) -> Choice | Refuse:
    found = find_revision(workload, aim)
    if found is None:
        return Refuse(
            "RevisionNotFound",
            f"{workload.ref} has no {_words(aim)} in its history{_moved(workload, aim)}",
            "look at the ones there are: "
            f"kubectl rollout history deploy/{workload.ref.name} -n {workload.ref.namespace}",
        )
    option = knowledge.option(found)
    if option.is_refused:
        return _refused([option])
    chosen = Candidate(revision=found.number, verdict="Chosen", why="it was asked for")
    return _choice(option, f"it was asked for; {option.why}", (chosen,))


def _options(workload: Workload, knowledge: _Knowledge) -> Sequence[_Option]:
    """Return one option for each functionally different revision but the live one, newest first."""
    seen = {workload.key}
    options: list[_Option] = []
    for revision in workload.revisions:
        if revision.key in seen or not revision.numbers:
            continue
        seen.add(revision.key)
        alike = [r for r in workload.revisions if r.key == revision.key]
        best = max(alike, key=lambda r: (r.available, r.number))
        options.append(knowledge.option(best, len(options) + 1))
    return options


def _verdicts(options: Sequence[_Option], best: _Option) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(revision=o.revision.number, verdict="Chosen", why=o.why[:MAX_TEXT])
        if o is best
        else Candidate(
            revision=o.revision.number, verdict="PassedOver", why=_why_not(o, best)[:MAX_TEXT]
        )
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
    if option.changed and not best.changed:
        return _changed(option.changed)
    return "it is older"


def _changed(references: tuple[Reference, ...]) -> str:
    return f"{listed(references)} changed when it was replaced or later"


def _nothing(workload: Workload, options: Sequence[_Option]) -> Refuse:
    if not options:
        return Refuse(
            "NothingToRollBackTo",
            "there is no other revision in the history",
            "deploy the release that worked, or raise revisionHistoryLimit for the next time",
        )
    why = "; ".join(f"revision {o.revision.number}: {o.passed_over}" for o in options)[:MAX_TEXT]
    gone = listed(sorted({reference for o in options for reference in o.missing}))
    ref = workload.ref
    return Refuse(
        "NothingToRollBackTo",
        f"no revision that is left can be trusted ({why})",
        f"{f'bring back {gone} and ask again, or ' if gone else ''}name one yourself: "
        f"kubectl irb rollback deploy/{ref.name} -n {ref.namespace} --to-revision N",
        candidates=_none_taken(options),
    )


def _words(aim: Aim) -> str:
    if aim.revision is not None:
        return f"revision {aim.revision}"
    return f"pod-template-hash {aim.pod_template_hash}"


def _moved(workload: Workload, aim: Aim) -> str:
    """A number moves when its revision is restored: say where it went."""
    now = next((r for r in workload.revisions if aim.revision in r.history), None)
    return f" (what was revision {aim.revision} is revision {now.number} now)" if now else ""
