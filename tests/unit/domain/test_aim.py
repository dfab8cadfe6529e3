from dataclasses import replace
from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import MAX_TEXT, IncidentRollback, Policy
from incident_rollback.domain.aim import choose, restore
from incident_rollback.domain.moves import Claim, Preview, Refuse, Restore, Wait
from incident_rollback.domain.ownership import Owner, Tool
from incident_rollback.domain.plan import plan_of
from incident_rollback.domain.surroundings import Reference, Referent, Surroundings, Trial
from tests.builders import (
    WORKLOAD_UID,
    a_revision,
    a_rollback,
    a_template,
    a_workload,
    after,
    ago,
    an_incident,
    an_observation,
    claimed,
    frozen,
    hash_of,
    outcome,
    some_facts,
)

WORKLOAD = a_workload()
DIGEST = plan_of(WORKLOAD, WORKLOAD.revisions[1]).digest
OLD_DIGEST = "sha256:" + "0" * 64
REQUIRED = Policy(approval="Required")
DRILL = an_incident(severity="GAMEDAY")

PERMISSIONS = [
    pytest.param(a_rollback(), Policy(), "Claim 1", id="not asked for"),
    pytest.param(a_rollback(), REQUIRED, "Refuse ApprovalRequired", id="asked for, and not there"),
    pytest.param(
        a_rollback(to={"revision": 1}), REQUIRED, "Refuse ApprovalRequired", id="a number is none"
    ),
    pytest.param(a_rollback(plan_digest=DIGEST), REQUIRED, "Claim 1", id="the plan is approved"),
    pytest.param(
        a_rollback(plan_digest=OLD_DIGEST), REQUIRED, "Refuse PlanChanged", id="another plan was"
    ),
    pytest.param(
        a_rollback(plan_digest=OLD_DIGEST),
        Policy(),
        "Refuse PlanChanged",
        id="another plan was, and none is asked for",
    ),
    pytest.param(a_rollback(dry_run=True), REQUIRED, "Preview 1", id="a preview needs no approval"),
    pytest.param(a_rollback(incident=DRILL), Policy(), "Preview 1", id="a drill is a preview"),
    pytest.param(
        a_rollback(plan_digest=DIGEST, incident=DRILL),
        Policy(),
        "Preview 1",
        id="a drill stays one, approved or not",
    ),
    pytest.param(
        a_rollback(to={"revision": 9}),
        Policy(),
        "Refuse RevisionNotFound",
        id="S16 the revision asked for is not there",
    ),
]


@pytest.mark.parametrize(("rollback", "policy", "move"), PERMISSIONS)
def test_whether_the_aim_may_be_taken(
    rollback: IncidentRollback, policy: Policy, move: str
) -> None:
    seen = an_observation(rollback, WORKLOAD, policy=policy)
    assert outcome(choose(seen, WORKLOAD)) == move


def test_drills_known_by_firehydrant_alone() -> None:
    seen = an_observation(workload=WORKLOAD, facts=some_facts("GAMEDAY"))
    assert isinstance(choose(seen, WORKLOAD), Preview)


def tried(*outcomes: tuple[int, Trial]) -> Surroundings:
    return Surroundings(trials={hash_of(number): trial for number, trial in outcomes})


NO = Trial("Rejected", 'webhook "images" denied the request: unsigned')
MAY_NOT = Wait("PermissionMissing", "controller may not patch deployments.apps", "let it in")
TRIALS = [
    pytest.param(a_rollback(), Trial("Accepted"), None, "Claim 1", id="the cluster says yes"),
    pytest.param(a_rollback(), Trial("Unknown", "no dry run"), None, "Claim 1",
                 id="P11 what cannot be tried is not refused"),
    pytest.param(a_rollback(), NO, None, "Refuse Rejected", id="P10 a refusal is the reason"),
    pytest.param(a_rollback(to={"revision": 1}), NO, None, "Refuse Rejected",
                 id="P10 a refusal of what was asked for is the reason"),
    pytest.param(a_rollback(), Trial("Denied"), MAY_NOT, "Wait PermissionMissing",
                 id="a missing permission is waited for, before anything is claimed"),
    pytest.param(a_rollback(dry_run=True), Trial("Denied"), MAY_NOT, "Preview 1",
                 id="who may only look may have a preview"),
    pytest.param(a_rollback(), Trial("Accepted"), MAY_NOT, "Claim 1",
                 id="what was not allowed before, and is now"),
]  # fmt: skip


@pytest.mark.parametrize(("rollback", "trial", "denied", "move"), TRIALS)
def test_what_the_cluster_says_to_the_very_patch(
    rollback: IncidentRollback, trial: Trial, denied: Wait | None, move: str
) -> None:
    seen = an_observation(rollback, WORKLOAD, around=tried((1, trial)), denied=denied)
    assert outcome(choose(seen, WORKLOAD)) == move


def test_an_approval_covers_the_doubts_that_it_was_given_for() -> None:
    old = an_incident(started_at=after(days=8))
    asked = choose(an_observation(a_rollback(incident=old), WORKLOAD), WORKLOAD)
    assert isinstance(asked, Refuse)
    assert asked.aim is not None
    assert [doubt.code for doubt in asked.aim.doubts] == ["ReleaseIsOld"]
    digest = asked.aim.plan.digest
    approved = an_observation(a_rollback(plan_digest=digest, incident=old), WORKLOAD)
    assert outcome(choose(approved, WORKLOAD)) == "Claim 1"
    without_doubt = an_observation(a_rollback(plan_digest=digest), WORKLOAD)
    assert outcome(choose(without_doubt, WORKLOAD)) == "Refuse PlanChanged"


def test_a_plan_that_changed_by_a_doubt_shows_the_doubt() -> None:
    old = an_incident(started_at=after(days=8))
    move = choose(an_observation(a_rollback(plan_digest=DIGEST, incident=old), WORKLOAD), WORKLOAD)
    assert isinstance(move, Refuse)
    assert move.reason == "PlanChanged"
    assert "the live revision had run for" in move.message


REFUSALS: list[Any] = [
    pytest.param(a_rollback(), REQUIRED, DIGEST, id="the plan that wants approval"),
    pytest.param(a_rollback(plan_digest=OLD_DIGEST), Policy(), DIGEST, id="the plan of now"),
]


@pytest.mark.parametrize(("rollback", "policy", "digest"), REFUSALS)
def test_a_refusal_says_which_plan_it_is(
    rollback: IncidentRollback, policy: Policy, digest: str
) -> None:
    move = choose(an_observation(rollback, WORKLOAD, policy=policy), WORKLOAD)
    assert isinstance(move, Refuse)
    assert digest in move.message + move.fix
    if move.reason == "ApprovalRequired":
        assert move.aim is not None
        assert move.aim.plan.digest == digest


def test_what_is_to_be_approved_is_said_in_full() -> None:
    move = choose(an_observation(workload=WORKLOAD, policy=REQUIRED), WORKLOAD)
    assert isinstance(move, Refuse)
    assert move.message == (
        "the environment asks for approval. The plan is to go back to revision 1 (3 pods of it "
        "still serve): container app: image checkout:1.2 -> checkout:1.1. It would replace "
        "revision 2, deployed 2026-11-23 02:04 UTC (10 min before this was asked for), last "
        "written by kubectl-set: 3 of 3 pods in ImagePullBackOff, e.g. pod checkout-hash-2-x "
        "(kubectl describe pod checkout-hash-2-x -n production). Not rolled back: replicas, "
        "strategy, HorizontalPodAutoscaler"
    )


def test_what_is_to_be_approved_fits_into_a_condition_with_the_command() -> None:
    """The command comes last there, and must not be cut."""
    env = [{"name": f"VARIABLE_{n}"} for n in range(200)]
    secrets = [{"secretRef": {"name": f"secret-{n}"}} for n in range(200)]
    old = a_revision(1, template=a_template("checkout:1.1", env=env, envFrom=secrets), available=3)
    workload = a_workload(a_revision(2), old)
    move = choose(an_observation(workload=workload, policy=REQUIRED), workload)
    assert isinstance(move, Refuse)
    assert len(f"{move.message}. Next: {move.fix}") <= MAX_TEXT


def test_a_plan_that_has_changed_is_said_as_it_is_now() -> None:
    move = choose(an_observation(a_rollback(plan_digest=OLD_DIGEST), WORKLOAD), WORKLOAD)
    assert isinstance(move, Refuse)
    assert "to go back to revision 1 (3 pods of it still serve): container app: " in move.message
    assert "kubectl irb approve checkout-3f9a1c27b0d4e6f8 -n incident-rollback" in move.fix
    assert move.aim is not None
    assert move.aim.plan == plan_of(WORKLOAD, WORKLOAD.revisions[1])


def test_the_claim_freezes_what_was_seen() -> None:
    move = choose(an_observation(workload=WORKLOAD), WORKLOAD)
    assert isinstance(move, Claim)
    aim = move.aim
    assert aim.target.model_dump() == {
        "environment": "production",
        "cluster": "inCluster",
        "namespace": "production",
        "kind": "Deployment",
        "name": "checkout",
        "uid": WORKLOAD_UID,
        "managed_by": (),
    }
    shown = ", e.g. pod checkout-hash-2-x (kubectl describe pod checkout-hash-2-x -n production)"
    assert aim.from_ == frozen(2, evidence=f"3 of 3 pods in ImagePullBackOff{shown}")
    assert aim.to == frozen(1)
    assert aim.revision is WORKLOAD.revisions[1]
    assert aim.plan.digest == DIGEST
    assert [c.verdict for c in aim.candidates] == ["Chosen"]


def test_a_healthy_revision_is_not_said_to_fail() -> None:
    well = a_workload(health="healthy")
    move = choose(an_observation(workload=well), well)
    assert isinstance(move, Claim)
    assert (move.aim.from_.failing, move.aim.from_.evidence) == (False, "3 of 3 pods ready")


def test_what_is_frozen_is_bounded() -> None:
    containers = [{"name": f"c{n}", "image": "i" * 900} for n in range(30)]
    wide = replace(a_revision(2), template={"spec": {"containers": containers}})
    workload = a_workload(wide, a_revision(1))
    move = choose(an_observation(workload=workload), workload)
    assert isinstance(move, Claim)
    assert len(move.aim.from_.images) == 20
    assert max(map(len, move.aim.from_.images)) == 500


def test_the_claimed_revision_is_restored_by_its_hash_wherever_its_number_is() -> None:
    moved = a_workload(a_revision(2), a_revision(9, pod_template_hash=hash_of(1)))
    move = restore(an_observation(claimed(), moved), moved)
    assert isinstance(move, Restore)
    assert move.revision.number == 9


def test_a_claimed_revision_that_was_pruned() -> None:
    pruned = a_workload(
        a_revision(2), a_revision(1, template=a_template("x"), pod_template_hash="x")
    )
    move = restore(an_observation(claimed(), pruned), pruned)
    assert isinstance(move, Refuse)
    assert move.reason == "RevisionNotFound"
    assert "revision 1 of deployment production/checkout was pruned" in move.message
    assert "nothing was changed" in move.message
    missing = restore(an_observation(claimed(to=None), pruned), pruned)
    assert isinstance(missing, Refuse)
    assert "revision ? of deployment production/checkout was pruned" in missing.message


def test_a_claimed_revision_that_needs_what_is_gone_names_it_twice() -> None:
    needs = a_template("checkout:1.1", envFrom=[{"configMapRef": {"name": "settings"}}])
    workload = a_workload(a_revision(2), a_revision(1, template=needs))
    gone = {Reference("ConfigMap", "settings"): Referent(is_there=False)}
    around = Surroundings(references=gone)
    move = restore(an_observation(claimed(), workload, around=around), workload)
    assert outcome(move) == "Refuse NothingToRollBackTo"
    assert isinstance(move, Refuse)
    assert "needs ConfigMap settings" in move.message
    assert move.message.endswith("nothing was changed")
    assert move.fix.startswith("bring back ConfigMap settings")


def test_how_far_back_is_the_policys() -> None:
    marked = a_workload(a_revision(4, history=(2,)), a_revision(3), a_revision(1))
    for bound, move in ((2, "Claim 1"), (1, "Refuse NothingToRollBackTo")):
        seen = an_observation(workload=marked, policy=Policy(max_revisions_back=bound))
        assert outcome(choose(seen, marked)) == move


def test_the_claim_freezes_who_keeps_the_workload_and_works_without_a_mapping() -> None:
    flux = Owner(Tool.KUSTOMIZATION, "apps", "flux-system", "its labels", "possible")
    kept = a_workload(managed_by=(flux,))
    move = choose(replace(an_observation(workload=kept), place=None), kept)
    assert isinstance(move, Claim)
    assert move.aim.target.environment == ""
    assert [owner.model_dump() for owner in move.aim.target.managed_by] == [
        {
            "tool": "FluxKustomization",
            "name": "apps",
            "namespace": "flux-system",
            "evidence": "its labels",
            "reverts": "possible",
        }
    ]


def test_what_is_to_be_approved_leaves_out_what_nobody_knows() -> None:
    quiet = a_workload(pods=(), template_writer="", template_written_at=None)
    move = choose(an_observation(workload=quiet, policy=REQUIRED), quiet)
    assert isinstance(move, Refuse)
    assert (
        "It would replace revision 2, deployed 2026-11-23 02:04 UTC (10 min before" in move.message
    )
    assert "was asked for). Not rolled back: " in move.message
    unknown = a_workload(
        a_revision(3, history=(2,)),
        a_revision(1, available=3),
        pods=(),
        template_writer="",
        template_written_at=None,
    )
    move = choose(an_observation(workload=unknown, policy=REQUIRED), unknown)
    assert isinstance(move, Refuse)
    assert "It would replace revision 3. Not rolled back: " in move.message


def test_several_reasons_to_ask_and_several_changes_are_told_apart() -> None:
    wide = a_template("checkout:1.1", env=[{"name": "A"}])
    aged = a_workload(
        a_revision(2, created_at=ago(days=8)), a_revision(1, template=wide, available=3)
    )
    move = choose(an_observation(workload=aged, policy=REQUIRED), aged)
    assert isinstance(move, Refuse)
    assert "the environment asks for approval; the live revision had run for" in move.message
    assert "checkout:1.1; container app: env A added" in move.message
