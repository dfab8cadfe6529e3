"""Taking aim: the revision that was chosen, the plan, and whether it may be carried out."""

from collections.abc import Sequence

from incident_rollback.crd.v1alpha1 import ManagedBy, RevisionStatus, TargetStatus
from incident_rollback.domain.diagnosis import beside, evidence_of
from incident_rollback.domain.doubt import doubts_about
from incident_rollback.domain.moves import Aim, Claim, Move, Preview, Refuse, Restore
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.ownership import Owner
from incident_rollback.domain.plan import in_short, origin_words, plan_of
from incident_rollback.domain.references import references_of
from incident_rollback.domain.revision import Choice, choose_revision
from incident_rollback.domain.rollout import is_failing
from incident_rollback.domain.words import listed
from incident_rollback.domain.workload import Revision, Workload


def choose(seen: Observation, workload: Workload) -> Move:
    """Choose a revision, and say whether it may be restored."""
    rollback = seen.rollback
    bound = seen.policy.max_revisions_back
    choice = choose_revision(workload, rollback.spec.to, seen.began_at, seen.around, bound)
    if isinstance(choice, Refuse):
        return choice
    aim = _aim(seen, workload, choice)
    if rollback.spec.plan_digest not in (None, aim.plan.digest):
        return Refuse(
            "PlanChanged",
            f"the plan that was approved is not the plan any more: {_warned(aim)}now it is "
            f"{aim.plan.digest}, to go back to revision {aim.to.revision} ({aim.to.evidence}): "
            f"{in_short(aim.plan.changes, '; ', 250)}",
            _how_to_approve(seen, aim),
            aim,
        )
    if seen.is_dry_run:
        return Preview(aim)
    if seen.denied is not None and not choice.may_patch:
        return seen.denied
    reasons = _reasons_to_ask(seen, aim) if rollback.spec.plan_digest is None else ()
    return _ask(seen, aim, reasons) if reasons else Claim(aim)


def _reasons_to_ask(seen: Observation, aim: Aim) -> Sequence[str]:
    policy = ["the environment asks for approval"] if seen.policy.approval == "Required" else []
    return [*policy, *(doubt.text for doubt in aim.doubts)]


def _ask(seen: Observation, aim: Aim, reasons: Sequence[str]) -> Refuse:
    """Ask for the approval of exactly this plan."""
    origin = origin_words(aim.plan, seen.asked_at)
    why = "; ".join(reasons)
    evidence = f": {beside(aim.from_.evidence, why)}" if aim.from_.evidence else ""
    return Refuse(
        "ApprovalRequired",
        f"{why}. The plan is to go back to revision {aim.to.revision} "
        f"({aim.to.evidence}): {in_short(aim.plan.changes, '; ', 250)}. It would replace revision "
        f"{aim.from_.revision}{f', {origin}' if origin else ''}{evidence}. Not rolled back: "
        f"{in_short(aim.plan.not_rolled_back, ', ', 150)}",
        _how_to_approve(seen, aim),
        aim,
    )


def _warned(aim: Aim) -> str:
    return "".join(f"{warning}; " for warning in aim.plan.warnings)


def _how_to_approve(seen: Observation, aim: Aim) -> str:
    metadata = seen.rollback.metadata
    return (
        f"approve it: kubectl irb approve {metadata.name} -n {metadata.namespace}, or the runbook "
        f"step that approves, or a resource with planDigest: {aim.plan.digest}"
    )


def _aim(seen: Observation, workload: Workload, choice: Choice) -> Aim:
    live = workload.live
    assert live is not None  # noqa: S101  # not_observed came before
    doubts = doubts_about(seen, workload, choice)
    return Aim(
        target=TargetStatus(
            environment=seen.place.environment if seen.place else "",
            namespace=workload.ref.namespace,
            kind=workload.ref.kind,
            name=workload.ref.name,
            uid=workload.uid,
            managed_by=tuple(map(_managed_by, workload.managed_by)),
        ),
        from_=_frozen(live, evidence_of(workload, live, seen.around), failing=is_failing(workload)),
        to=_frozen(choice.revision, choice.why),
        candidates=choice.candidates,
        plan=plan_of(workload, choice.revision, doubts),
        revision=choice.revision,
        doubts=doubts,
    )


def _managed_by(owner: Owner) -> ManagedBy:
    return ManagedBy(
        tool=owner.tool.value,
        name=owner.name,
        namespace=owner.namespace,
        evidence=owner.evidence,
        reverts=owner.reverts,
    )


def _frozen(revision: Revision, evidence: str, *, failing: bool = False) -> RevisionStatus:
    return RevisionStatus(
        revision=revision.number,
        pod_template_hash=revision.pod_template_hash,
        images=tuple(image[:500] for image in revision.images[:20]),
        evidence=evidence[:1000],
        failing=failing,
    )


def restore(seen: Observation, workload: Workload) -> Move:
    """
    Restore the claimed revision, if it is still there, and what it needs.

    A claim may have waited for minutes.  Whoever approved the plan knew what was gone.
    """
    to = seen.rollback.status.to
    revision = workload.revision(to.pod_template_hash) if to else None
    if revision is None:
        return Refuse(
            "RevisionNotFound",
            f"revision {to.revision if to else '?'} of {workload.ref} was pruned after it was "
            "chosen; nothing was changed",
            "run the step again, or raise revisionHistoryLimit for the next time",
        )
    missing = seen.around.missing(references_of(revision.template))
    if missing and seen.rollback.spec.plan_digest is None:
        return Refuse(
            "NothingToRollBackTo",
            f"revision {revision.number} of {workload.ref} needs {listed(missing)}, gone since it "
            "was chosen; nothing was changed",
            f"bring back {listed(missing)}, or run the step again for the next best revision",
        )
    return Restore(revision)
