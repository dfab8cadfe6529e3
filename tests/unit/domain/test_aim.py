from dataclasses import replace
from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Policy
from incident_rollback.domain.aim import choose, restore
from incident_rollback.domain.moves import Claim, Preview, Refuse, Restore
from incident_rollback.domain.plan import plan_of
from tests.builders import (
    WORKLOAD_UID,
    a_revision,
    a_rollback,
    a_template,
    a_workload,
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
    pytest.param(a_rollback(to={"revision": 9}), Policy(), "Refuse RevisionNotFound", id="S16"),
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
        assert move.plan is not None
        assert move.plan.digest == digest


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
    assert aim.from_ == frozen(2)
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
