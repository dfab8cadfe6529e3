"""The order of the rules, and the rules that go through all phases."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase, Policy, RollbackEnvironment
from incident_rollback.domain.decision import decide, in_time
from incident_rollback.domain.environment import Place, find_place, find_workload
from incident_rollback.domain.moves import Fail, Refuse, Wait, Watch
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.ownership import Owner, Tool
from incident_rollback.domain.workload import Workload, WorkloadRef
from tests.builders import (
    HOME,
    NOW,
    a_broken_pod,
    a_condition,
    a_marker,
    a_place,
    a_revision,
    a_rollback,
    a_status,
    a_template,
    a_workload,
    after,
    ago,
    an_environment,
    an_incident,
    an_observation,
    claimed,
    hash_of,
    outcome,
    some_facts,
    timed_out,
    undone,
)

CLAIM = claimed()
PATCHED = claimed(patched_at=NOW)
FORBIDDEN = Wait("PermissionMissing", "may not read deployments", "let the operator in")
OTHER = a_rollback(name="another", uid="zzz", status=a_status(claimed_at=ago(minutes=1)))
SUSPENDED = a_place(suspended_by="incident-rollback/production")
SAME_REQUEST = a_marker(ago(days=7), of=a_rollback(), uid="made-before")


def called_off(rollback: IncidentRollback) -> IncidentRollback:
    """Return a resource that is being deleted, and held by somebody's finalizer."""
    metadata = rollback.metadata.model_copy(update={"deletion_timestamp": ago(seconds=1)})
    return rollback.model_copy(update={"metadata": metadata})


def looked(rollback: IncidentRollback, workload: Workload, seconds: float) -> Observation:
    return replace(an_observation(rollback, workload), now=after(seconds=seconds))


def placed(rollback: IncidentRollback, *environments: RollbackEnvironment) -> Observation:
    """Return what is seen of a request that the mapping leads nowhere."""
    place = find_place(rollback, environments, HOME)
    assert not isinstance(place, Place)
    return replace(an_observation(rollback, hindrance=place), place=None)


def nothing_there(rollback: IncidentRollback | None = None) -> Observation:
    return replace(an_observation(rollback), workload=None)


AMBIGUOUS = find_workload(a_place(), [WorkloadRef("production", n) for n in ("a", "b")])
assert isinstance(AMBIGUOUS, Refuse)
FLUX = Owner(Tool.KUSTOMIZATION, "apps", "flux-system", "its labels", "certain")
OLD_2 = a_workload(a_revision(2, created_at=ago(days=3)), a_revision(1, available=3))
FIXED = a_workload(a_revision(2, created_at=after(seconds=9)), a_revision(1), health="healthy")
BAD_IS_BACK = undone(template=a_revision(2).template)
CRASHED = undone(pods=(a_broken_pod(1, created_at=ago(minutes=1)),))
PRUNED = a_workload(a_revision(2), a_revision(1, pod_template_hash="x", template=a_template("x")))
CALM = claimed(patched_at=NOW, healthy_since=NOW)

ROWS = [
    # Waited for.
    pytest.param(placed(a_rollback()), "Wait EnvironmentNotMapped", id="no environment of it"),
    pytest.param(
        placed(a_rollback(), an_environment(), an_environment("b", environments=("production",))),
        "Wait EnvironmentAmbiguous",
        id="two environments of it",
    ),
    pytest.param(nothing_there(), "Wait WorkloadNotFound", id="no such workload"),
    pytest.param(an_observation(hindrance=FORBIDDEN), "Wait PermissionMissing", id="no permission"),
    pytest.param(an_observation(None, a_workload(is_paused=True)), "Wait Paused", id="paused"),
    pytest.param(an_observation(place=SUSPENDED), "Wait Suspended", id="the red switch"),
    pytest.param(an_observation(others=[OTHER]), "Wait Busy", id="another one is at it"),
    pytest.param(
        an_observation(None, a_workload(marker=a_marker(ago(seconds=9)))),
        "Wait CoolingDown",
        id="rolled back a moment ago",
    ),
    pytest.param(an_observation(None, a_workload(generation=8)), "Wait NotObserved", id="too new"),
    # Refused at once.
    pytest.param(
        placed(a_rollback(service={"name": "", "environment": "production"})),
        "Refuse ServiceMissing",
        id="no service",
    ),
    pytest.param(an_observation(hindrance=AMBIGUOUS), "Refuse WorkloadAmbiguous", id="two labels"),
    pytest.param(
        placed(a_rollback(namespace="foreign"), an_environment()),
        "Refuse NotAllowed",
        id="from a foreign namespace",
    ),
    pytest.param(
        an_observation(None, a_workload(owner="Rollout/x")), "Refuse OwnedByController", id="owned"
    ),
    pytest.param(
        an_observation(None, a_workload(is_deleting=True)), "Refuse Deleting", id="deleting"
    ),
    pytest.param(an_observation(None, a_workload(opted_out="")), "Refuse OptedOut", id="never"),
    pytest.param(
        an_observation(None, a_workload(managed_by=(FLUX,))),
        "Refuse ReconciledFromSource",
        id="Flux brings it back",
    ),
    pytest.param(
        an_observation(None, a_workload(a_revision(2))),
        "Refuse NothingToRollBackTo",
        id="the only revision",
    ),
    pytest.param(
        an_observation(a_rollback(to={"revision": 9})), "Refuse RevisionNotFound", id="no such one"
    ),
    pytest.param(
        an_observation(None, undone(health="failing")), "Refuse AlreadyRolledBack", id="in vain"
    ),
    pytest.param(
        an_observation(None, a_workload(marker=SAME_REQUEST)),
        "Refuse AlreadyRequested",
        id="made again",
    ),
    pytest.param(an_observation(None, FIXED), "Refuse ChangedSinceRequest", id="fixed since"),
    pytest.param(looked(a_rollback(), a_workload(), 900), "Refuse Expired", id="too old"),
    pytest.param(
        an_observation(facts=some_facts(is_active=False)), "Refuse IncidentClosed", id="closed"
    ),
    pytest.param(
        an_observation(a_rollback(pairs=2), OLD_2), "Refuse NotRecentlyChanged", id="many pairs"
    ),
    pytest.param(
        an_observation(policy=Policy(approval="Required")), "Refuse ApprovalRequired", id="approval"
    ),
    pytest.param(
        an_observation(a_rollback(plan_digest="sha256:" + "0" * 64)),
        "Refuse PlanChanged",
        id="another plan was approved",
    ),
    pytest.param(an_observation(called_off(a_rollback())), "Refuse Deleting", id="called off"),
    pytest.param(
        an_observation(called_off(CLAIM)), "Refuse Deleting", id="called off after the claim"
    ),
    pytest.param(
        an_observation(a_rollback(incident={"id": "x", "startedAt": "0001-01-01T00:00:00Z"})),
        "Claim 1",
        id="an incident that began at somebody's zero time",
    ),
    # Done.
    pytest.param(an_observation(None, undone()), "Succeed AlreadyThere", id="done by hand"),
    pytest.param(looked(CALM, undone(), 30), "Succeed RolledBack", id="healthy and calm"),
    pytest.param(looked(PATCHED, undone(wanted=0), 5), "Succeed Unproven", id="0 replicas"),
    # Failed.
    pytest.param(
        looked(PATCHED, undone(health="starting", progress=timed_out(after(seconds=9))), 10),
        "Fail ProgressDeadlineExceeded",
        id="Kubernetes gave up",
    ),
    pytest.param(
        looked(PATCHED, undone(health="starting"), 631), "Fail VerifyDeadlineExceeded", id="late"
    ),
    pytest.param(looked(CALM, CRASHED, 5), "Fail CrashedAfterReady", id="crashed"),
    pytest.param(
        looked(PATCHED, a_workload(a_revision(4), a_revision(3, history=(1,))), 5),
        "Fail Superseded",
        id="deployed over",
    ),
    pytest.param(looked(PATCHED, BAD_IS_BACK, 5), "Fail Reverted", id="brought back"),
    pytest.param(
        looked(PATCHED, replace(BAD_IS_BACK, generation=99), 5), "Watch", id="not taken up yet"
    ),
    pytest.param(
        looked(PATCHED, replace(BAD_IS_BACK, generation=99), 31),
        "Fail Reverted",
        id="not taken up for long, and brought back",
    ),
    pytest.param(nothing_there(PATCHED), "Fail WorkloadGone", id="deleted after the patch"),
    pytest.param(
        replace(an_observation(PATCHED, hindrance=FORBIDDEN), now=after(seconds=900)),
        "Fail NotVerified",
        id="nobody may look",
    ),
    # Acting.
    pytest.param(an_observation(), "Claim 1", id="a bad deploy"),
    pytest.param(
        an_observation(None, a_workload(managed_by=(FLUX,)), policy=Policy(git_ops="Proceed")),
        "Claim 1",
        id="Flux brings it back, and the policy says go on",
    ),
    pytest.param(
        an_observation(None, a_workload(managed_by=(replace(FLUX, reverts="possible"),))),
        "Claim 1",
        id="an owner that may bring it back is no hindrance",
    ),
    pytest.param(
        an_observation(CLAIM, a_workload(managed_by=(FLUX,))),
        "Refuse ReconciledFromSource",
        id="claimed, and Flux took it over since",
    ),
    pytest.param(an_observation(a_rollback(dry_run=True)), "Preview 1", id="a preview"),
    pytest.param(an_observation(CLAIM), "Restore 1", id="claimed, and not patched"),
    pytest.param(looked(PATCHED, undone(health="starting"), 5), "Watch", id="patched"),
]


@pytest.mark.parametrize(("seen", "move"), ROWS)
def test_every_reason(seen: Observation, move: str) -> None:
    assert outcome(decide(seen)) == move


PROMISED = {
    "Wait": "EnvironmentNotMapped EnvironmentAmbiguous WorkloadNotFound PermissionMissing Paused "
    "Suspended Busy CoolingDown NotObserved ClusterUnreachable",
    "Refuse": "ServiceMissing WorkloadAmbiguous NotAllowed OwnedByController Deleting OptedOut "
    "NothingToRollBackTo RevisionNotFound AlreadyRolledBack AlreadyRequested ChangedSinceRequest "
    "Expired IncidentClosed NotRecentlyChanged ApprovalRequired PlanChanged ReconciledFromSource "
    "Rejected",
    "Succeed": "RolledBack AlreadyThere Unproven",
    "Fail": "ProgressDeadlineExceeded VerifyDeadlineExceeded CrashedAfterReady Superseded Reverted "
    "WorkloadGone NotVerified",
}
NOT_YET = {"ClusterUnreachable"}
SAID_BY_THE_PATCH = {"Rejected"}


def test_every_reason_that_the_design_promises_has_a_row() -> None:
    promised = {(kind, r) for kind, reasons in PROMISED.items() for r in reasons.split()}
    rows = {tuple(str(row.values[1]).split()) for row in ROWS}
    said = {row for row in rows if row[0] in PROMISED}
    assert said == {p for p in promised if p[1] not in NOT_YET | SAID_BY_THE_PATCH}


@pytest.mark.parametrize(("seen", "move"), ROWS)
def test_every_message_names_the_fix_and_no_code(seen: Observation, move: str) -> None:
    decided = decide(seen)
    if isinstance(decided, (Wait, Refuse, Fail)):
        assert decided.fix, move
        assert not re.search(r"None|<|\bobject at\b", decided.message), move


ORDER: Sequence[tuple[str, dict[str, Any]]] = [
    ("Refuse AlreadyRequested", {"marker": SAME_REQUEST}),
    ("Refuse Deleting", {"is_deleting": True}),
    ("Refuse OwnedByController", {"owner": "Rollout/x"}),
    ("Refuse OptedOut", {"opted_out": ""}),
    ("Wait Busy", {"has_legacy_rollback": True}),
    ("Wait Paused", {"is_paused": True}),
    ("Wait NotObserved", {"generation": 99}),
    ("Succeed AlreadyThere", {}),
]


PAIRS = [pytest.param(a, b, id=f"{a[0]} - {b[0]}") for a, b in pairwise(ORDER)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_order_of_the_rules_of_a_new_request(
    first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]
) -> None:
    """Where two rules have something to say, the first one does; all that follows has, too."""
    workload = undone(**{**second[1], **first[1]})
    seen = an_observation(None, workload, place=SUSPENDED, others=[OTHER])
    assert outcome(decide(seen)) == first[0]


BEFORE_WHAT_IS_WAITED_FOR = [
    pytest.param({"place": SUSPENDED}, id="suspended"),
    pytest.param({"others": [OTHER]}, id="busy"),
    pytest.param({"facts": some_facts(is_active=False)}, id="closed"),
]


@pytest.mark.parametrize("changes", BEFORE_WHAT_IS_WAITED_FOR)
def test_already_there_comes_before(changes: dict[str, Any]) -> None:
    assert outcome(decide(an_observation(None, undone(), **changes))) == "Succeed AlreadyThere"


def test_already_there_comes_before_cooling_down_and_before_the_rule_on_repeats() -> None:
    done = undone(marker=a_marker(ago(seconds=5)))
    attempt = a_rollback(uid="first", status=a_status(Phase.SUCCEEDED, patched_at=ago(minutes=2)))
    assert outcome(decide(an_observation(None, done, others=[attempt]))) == "Succeed AlreadyThere"


def test_suspended_and_busy_come_before_what_cannot_be_helped() -> None:
    in_vain = undone(health="failing")
    assert outcome(decide(an_observation(None, in_vain, place=SUSPENDED))) == "Wait Suspended"
    assert outcome(decide(an_observation(None, in_vain, others=[OTHER]))) == "Wait Busy"


FRESH_PERMISSION = [
    pytest.param({}, {}, "Restore 1", id="nothing in the way: patch"),
    pytest.param({"marker": SAME_REQUEST}, {}, "Refuse AlreadyRequested", id="made again"),
    pytest.param({"is_deleting": True}, {}, "Refuse Deleting", id="deleting"),
    pytest.param({"owner": "Rollout/x"}, {}, "Refuse OwnedByController", id="owned"),
    pytest.param({"opted_out": ""}, {}, "Refuse OptedOut", id="opted out"),
    pytest.param({"has_legacy_rollback": True}, {}, "Wait Busy", id="Kubernetes is about to act"),
    pytest.param({"is_paused": True}, {}, "Wait Paused", id="paused"),
    pytest.param({"generation": 99}, {}, "Wait NotObserved", id="not taken up"),
    pytest.param({"wanted": 9}, {}, "Restore 1", id="W3 scaled"),
    pytest.param({}, {"place": SUSPENDED}, "Wait Suspended", id="suspended"),
    pytest.param({}, {"others": [OTHER]}, "Wait Busy", id="an earlier claim"),
    pytest.param(
        {}, {"facts": some_facts(is_active=False)}, "Refuse IncidentClosed", id="closed meanwhile"
    ),
    pytest.param(
        {}, {"facts": some_facts("GAMEDAY")}, "Refuse NotAllowed", id="a drill, as is known now"
    ),
    pytest.param(
        {},
        {"hindrance": Wait("EnvironmentNotMapped", "gone", "map it"), "workload": a_workload()},
        "Wait EnvironmentNotMapped",
        id="not mapped any more",
    ),
    pytest.param({}, {"now": after(seconds=900)}, "Refuse Expired", id="too old"),
    pytest.param(
        {"is_paused": True}, {"now": after(seconds=900)}, "Refuse Paused", id="paused for too long"
    ),
    pytest.param(
        {}, {"place": None}, "Restore 1", id="mapped by nothing: there is no switch to be on"
    ),
    pytest.param(
        {},
        {"denied": FORBIDDEN, "now": after(seconds=900)},
        "Refuse PermissionMissing",
        id="not allowed to patch for too long",
    ),
    pytest.param(
        {},
        {"hindrance": FORBIDDEN, "workload": a_workload(), "now": after(seconds=900)},
        "Refuse PermissionMissing",
        id="hindered for too long, and seen that nothing was changed",
    ),
]


@pytest.mark.parametrize(("workload", "changes", "move"), FRESH_PERMISSION)
def test_frozen_aim_fresh_permission(
    workload: dict[str, Any], changes: dict[str, Any], move: str
) -> None:
    given: dict[str, Any] = {"workload": a_workload(**workload), **changes}
    assert outcome(decide(an_observation(CLAIM, **given))) == move


MEANWHILE = [
    pytest.param(undone(), "Succeed AlreadyThere", id="undone by hand"),
    pytest.param(undone(health="starting"), "Wait Busy", id="undone by hand, and on its way"),
    pytest.param(undone(generation=9), "Wait NotObserved", id="undone by hand, not taken up yet"),
    pytest.param(undone(health="failing"), "Refuse AlreadyRolledBack", id="undone, in vain"),
    pytest.param(
        a_workload(a_revision(3), a_revision(2), a_revision(1)),
        "Refuse ChangedSinceRequest",
        id="deployed anew: that stands",
    ),
    pytest.param(
        a_workload(a_revision(3, like=2, restarted="now"), a_revision(2), a_revision(1)),
        "Restore 1",
        id="restarted: it is the same",
    ),
    pytest.param(PRUNED, "Refuse RevisionNotFound", id="the revision was pruned"),
    pytest.param(a_workload(uid="made-again"), "Fail WorkloadGone", id="W4 made again"),
]


@pytest.mark.parametrize(("workload", "move"), MEANWHILE)
def test_frozen_aim_what_happened_between_claim_and_patch(workload: Workload, move: str) -> None:
    assert outcome(decide(an_observation(CLAIM, workload))) == move


def test_frozen_aim_undone_by_hand_needs_no_permission() -> None:
    seen = an_observation(CLAIM, undone(), place=SUSPENDED, others=[OTHER])
    assert outcome(decide(seen)) == "Succeed AlreadyThere"


def test_frozen_aim_an_explicit_one_that_is_on_its_way_by_hand() -> None:
    explicit = a_rollback(to={"revision": 1}, status=a_status())
    seen = an_observation(explicit, undone(health="failing"))
    assert outcome(decide(seen)) == "Wait Busy"


OURS = a_marker(of=CLAIM)
TRACE = [
    pytest.param(undone(marker=OURS), "Watch", id="live is `to`: watch"),
    pytest.param(a_workload(marker=OURS), "Fail Reverted", id="live is `from`: brought back"),
    pytest.param(
        a_workload(a_revision(4), a_revision(3, history=(1,), marker=OURS), a_revision(2)),
        "Fail Superseded",
        id="live is another, the marker is wiped from the workload: deployed over",
    ),
    pytest.param(
        a_workload(a_revision(4, history=(2,)), a_revision(3, history=(1,), marker=OURS)),
        "Fail Reverted",
        id="kubectl rollout undo wiped the marker, and the ReplicaSet has it",
    ),
    pytest.param(
        a_workload(a_revision(4, history=(2,)), a_revision(3, history=(1,))),
        "Fail Reverted",
        id="every marker is wiped; the number of `from` tells",
    ),
    pytest.param(
        a_workload(a_revision(4, marker=OURS), a_revision(3, history=(1,))),
        "Fail Superseded",
        id="the marker on a later ReplicaSet tells that we wrote, not which revision",
    ),
    pytest.param(undone(uid="made-again", marker=OURS), "Fail WorkloadGone", id="V21 made again"),
]


@pytest.mark.parametrize(("workload", "move"), TRACE)
@pytest.mark.parametrize("seconds", [5, 10_000], ids=["in time", "long after its time"])
def test_trace_what_is_patched_is_never_patched_again(
    workload: Workload, move: str, seconds: int
) -> None:
    assert outcome(decide(looked(CLAIM, workload, seconds))) == move


EXPIRY = [
    pytest.param(899.9, "Claim 1", id="in time"),
    pytest.param(900, "Refuse Expired", id="too old"),
]
WAITED = [
    pytest.param(899.9, "Wait Suspended", id="in time: waited for"),
    pytest.param(900, "Refuse Suspended", id="over: refused with the same reason"),
]


@pytest.mark.parametrize(("seconds", "move"), EXPIRY)
def test_expiry(seconds: float, move: str) -> None:
    assert outcome(decide(looked(a_rollback(), a_workload(), seconds))) == move


@pytest.mark.parametrize(("seconds", "move"), WAITED)
def test_expiry_of_what_was_waited_for(seconds: float, move: str) -> None:
    waiting = claimed(Phase.PENDING)
    seen = replace(looked(waiting, a_workload(), seconds), place=SUSPENDED)
    assert outcome(decide(seen)) == move


def test_expiry_of_what_was_never_looked_at() -> None:
    """A controller that was down for an hour must not say that it had waited."""
    seen = replace(looked(a_rollback(), a_workload(), 3600), place=SUSPENDED)
    move = decide(seen)
    assert isinstance(move, Refuse)
    assert move.reason == "Expired"
    assert move.message == "it was asked for 1 h ago, and a request counts for 15 min"


NOT_BY_AGE = [
    pytest.param(a_workload(marker=SAME_REQUEST), "Refuse AlreadyRequested", id="made again"),
    pytest.param(undone(), "Succeed AlreadyThere", id="there already"),
]


@pytest.mark.parametrize(("workload", "move"), NOT_BY_AGE)
def test_expiry_is_no_answer_where_there_is_a_better_one(workload: Workload, move: str) -> None:
    assert outcome(decide(looked(a_rollback(), workload, 3600))) == move


def test_a_permission_that_is_missing_at_the_patch_is_waited_for_and_then_refused() -> None:
    assert in_time(an_observation(CLAIM), FORBIDDEN) == FORBIDDEN
    late = looked(CLAIM, a_workload(), 900)
    assert outcome(in_time(late, FORBIDDEN)) == "Refuse PermissionMissing"


CANNOT_TELL = [
    pytest.param(FORBIDDEN, 5, "Wait PermissionMissing", id="waited for"),
    pytest.param(AMBIGUOUS, 5, "Wait WorkloadAmbiguous", id="what would be refused, too"),
    pytest.param(FORBIDDEN, 900, "Fail NotVerified", id="over: not refused, for it may be patched"),
]


@pytest.mark.parametrize(("hindrance", "seconds", "move"), CANNOT_TELL)
def test_never_say_that_nothing_was_changed_without_having_looked(
    hindrance: Wait | Refuse, seconds: int, move: str
) -> None:
    seen = replace(an_observation(CLAIM, hindrance=hindrance), now=after(seconds=seconds))
    assert outcome(decide(seen)) == move


DRILL = a_rollback(incident=an_incident(severity="GAMEDAY"))
DRILLS = [
    pytest.param(an_observation(DRILL), "Preview 1", id="a drill is a preview"),
    pytest.param(
        an_observation(facts=some_facts("GAMEDAY")), "Preview 1", id="FireHydrant says so"
    ),
    pytest.param(
        an_observation(DRILL, place=SUSPENDED), "Refuse Suspended", id="waits for nothing"
    ),
    pytest.param(
        an_observation(DRILL, a_workload(generation=8)), "Wait NotObserved", id="but for a moment"
    ),
    pytest.param(an_observation(DRILL, undone()), "Succeed AlreadyThere", id="there already"),
    pytest.param(
        replace(an_observation(DRILL), now=after(seconds=900)), "Refuse Expired", id="too old"
    ),
]


@pytest.mark.parametrize(("seen", "move"), DRILLS)
def test_drills(seen: Observation, move: str) -> None:
    assert outcome(decide(seen)) == move


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.REFUSED, Phase.PREVIEWED])
@pytest.mark.parametrize("workload", [a_workload(), undone(), a_workload(marker=OURS)])
def test_what_has_ended_never_acts_again(phase: Phase, workload: Workload) -> None:
    held = (a_condition("Held", "True", "Held"),)
    ended = claimed(phase, patched_at=NOW, finished_at=NOW, conditions=held)
    assert outcome(decide(an_observation(ended, workload))) == "Hold over"


def test_the_rows_of_a_claim_speak_of_the_claimed_revision() -> None:
    assert CLAIM.status.to is not None
    assert CLAIM.status.to.pod_template_hash == hash_of(1)


def test_a_template_that_is_not_taken_up_is_watched_for_half_a_minute_from_the_patch() -> None:
    unobserved = replace(BAD_IS_BACK, generation=99)
    move = decide(looked(PATCHED, unobserved, 29.9))
    assert isinstance(move, Watch)
    assert move.patched_at == NOW
    assert outcome(decide(looked(PATCHED, unobserved, 30))) == "Fail Reverted"


def test_a_claim_whose_time_is_over_keeps_its_plan_where_it_has_waited() -> None:
    late = after(seconds=900)
    waited = a_rollback(status=a_status(Phase.PENDING, target=None, claimed_at=None))
    for rollback, is_kept in ((waited, True), (a_rollback(), False)):
        move = decide(replace(an_observation(rollback), now=late))
        assert outcome(move) == "Refuse Expired"
        assert isinstance(move, Refuse)
        assert (move.aim is not None) is is_kept


def test_who_could_not_look_waits_as_long_as_it_was_told_to() -> None:
    slow = replace(FORBIDDEN, after=7.0)
    move = decide(an_observation(CLAIM, hindrance=slow))
    assert isinstance(move, Wait)
    assert move.after == 7.0
