"""Taking aim: the revision that was chosen, the plan, and whether it may be carried out."""

from incident_rollback.crd.v1alpha1 import ManagedBy, RevisionStatus, TargetStatus
from incident_rollback.domain.diagnosis import diagnose
from incident_rollback.domain.doubt import why_ask
from incident_rollback.domain.moves import Aim, Claim, Move, Preview, Refuse, Restore
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.ownership import Owner
from incident_rollback.domain.plan import plan_of
from incident_rollback.domain.revision import Choice, choose_revision
from incident_rollback.domain.rollout import is_failing
from incident_rollback.domain.workload import Revision, Workload


def choose(seen: Observation, workload: Workload) -> Move:
    """Choose a revision, and say whether it may be restored."""
    choice = choose_revision(workload, seen.rollback.spec.to, seen.began_at)
    if isinstance(choice, Refuse):
        return choice
    aim = _aim(seen, workload, choice)
    digest = seen.rollback.spec.plan_digest
    if digest is not None and digest != aim.plan.digest:
        return Refuse(
            "PlanChanged",
            f"the plan that was approved is not the plan any more: now it is {aim.plan.digest}",
            "look at what it is now, and approve that",
            plan=aim.plan,
        )
    if seen.is_dry_run:
        return Preview(aim)
    doubt = why_ask(seen, workload, choice) if digest is None else ""
    return _ask(seen, aim, doubt) if doubt else Claim(aim)


def _ask(seen: Observation, aim: Aim, doubt: str) -> Refuse:
    """Ask for the approval of exactly this plan."""
    metadata = seen.rollback.metadata
    return Refuse(
        "ApprovalRequired",
        f"{doubt}. The plan is to go back to revision {aim.to.revision} ({aim.to.evidence}): "
        f"{'; '.join(aim.plan.changes)[:400]}",
        f"approve it: kubectl irb approve {metadata.name} -n {metadata.namespace}, or the runbook "
        f"step that approves, or a resource with planDigest: {aim.plan.digest}",
        aim.plan,
    )


def _aim(seen: Observation, workload: Workload, choice: Choice) -> Aim:
    live = workload.live
    assert live is not None  # noqa: S101  # not_observed came before
    return Aim(
        target=TargetStatus(
            environment=seen.place.environment if seen.place else "",
            namespace=workload.ref.namespace,
            kind=workload.ref.kind,
            name=workload.ref.name,
            uid=workload.uid,
            managed_by=tuple(map(_managed_by, workload.managed_by)),
        ),
        from_=_frozen(live, diagnose(workload, live), failing=is_failing(workload)),
        to=_frozen(choice.revision, choice.why),
        candidates=choice.candidates,
        plan=plan_of(workload, choice.revision),
        revision=choice.revision,
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
    """The claimed revision, if it is still there."""
    to = seen.rollback.status.to
    revision = workload.revision(to.pod_template_hash) if to else None
    if revision is None:
        return Refuse(
            "RevisionNotFound",
            f"revision {to.revision if to else '?'} of {workload.ref} was pruned after it was "
            "chosen; nothing was changed",
            "run the step again, or raise revisionHistoryLimit for the next time",
        )
    return Restore(revision)
