"""The rules before the patch, each by the name that the design gives it."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase, Policy
from incident_rollback.domain.decision import decide
from incident_rollback.domain.moves import Fail, Refuse, Succeed, Wait
from incident_rollback.domain.workload import Workload
from tests.builders import (
    NOW,
    UID,
    WORKLOAD_UID,
    a_broken_pod,
    a_marker,
    a_place,
    a_revision,
    a_rollback,
    a_status,
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
    timed_out,
    undone,
)

if TYPE_CHECKING:
    from incident_rollback.domain.observation import Observation

DIGEST = "sha256:" + "0" * 64
TO_1 = a_rollback(to={"revision": 1})
APPROVED = a_rollback(plan_digest=DIGEST)
NO_WAIT = Policy(cooldown_seconds=0)


def decided(
    rollback: IncidentRollback | None = None, workload: Workload | None = None, **changes: Any
) -> str:
    return outcome(decide(an_observation(rollback, workload, **changes)))


LEFT_ALONE = [
    pytest.param({"is_deleting": True}, "Refuse Deleting", id="P5 being deleted"),
    pytest.param({"owner": "Rollout/checkout"}, "Refuse OwnedByController", id="P4 has a parent"),
    pytest.param({"opted_out": "a database"}, "Refuse OptedOut", id="its owners said never"),
    pytest.param({"opted_out": ""}, "Refuse OptedOut", id="they said never, and not why"),
    pytest.param({"has_legacy_rollback": True}, "Wait Busy", id="P13 Kubernetes is about to act"),
    pytest.param({"is_paused": True}, "Wait Paused", id="P3 paused"),
    pytest.param({"generation": 8}, "Wait NotObserved", id="P1 not taken up yet"),
    pytest.param({"template": a_template("x")}, "Wait NotObserved", id="P2 no ReplicaSet yet"),
    pytest.param({}, "Claim 1", id="nothing in the way"),
]


@pytest.mark.parametrize(("workload", "move"), LEFT_ALONE)
def test_what_must_be_left_alone(workload: dict[str, Any], move: str) -> None:
    assert decided(workload=a_workload(**workload)) == move


@pytest.mark.parametrize(("workload", "move"), LEFT_ALONE)
def test_no_exception_is_made_for_an_explicit_request(workload: dict[str, Any], move: str) -> None:
    assert decided(TO_1, a_workload(**workload)) == move


SLOW = a_workload(a_revision(3, history=(1,)), a_revision(2), health="starting")
BROKEN = undone(health="failing")


def test_what_was_rolled_back_and_is_not_healthy_is_shown_by_one_of_its_pods() -> None:
    crashed = a_broken_pod(
        1, "OOMKilled", exit_code=137, name="checkout-7d9-x", container="app", logs="Previous"
    )
    move = decide(an_observation(None, replace(BROKEN, pods=(crashed,))))
    assert isinstance(move, Refuse)
    assert move.reason == "AlreadyRolledBack"
    assert move.message.endswith(
        "1 of 1 pod in OOMKilled (exit code 137), e.g. pod checkout-7d9-x, container app (look at "
        "it: kubectl logs checkout-7d9-x -c app -n production --previous)"
    )


ALREADY_ROLLED_BACK = [
    pytest.param(undone(), "Succeed AlreadyThere", id="and healthy: there"),
    pytest.param(
        BROKEN, "Refuse AlreadyRolledBack", id="and not healthy: a step further is theirs"
    ),
    pytest.param(undone(health="starting"), "Wait Busy", id="and still rolling out: wait"),
    pytest.param(
        undone(health="starting", progress=timed_out(ago(minutes=3))),
        "Wait Busy",
        id="and still rolling out; Kubernetes' verdict is of the bad one (rule 57)",
    ),
    pytest.param(
        undone(health="starting", progress=timed_out(ago(minutes=1))),
        "Refuse AlreadyRolledBack",
        id="and Kubernetes gave up on it",
    ),
    pytest.param(undone(wanted=0), "Succeed AlreadyThere", id="and no pods are wanted"),
    pytest.param(
        a_workload(
            a_revision(4, like=1, restarted="now", created_at=ago(minutes=1)),
            a_revision(3, history=(1,)),
            a_revision(2),
            health="healthy",
        ),
        "Succeed AlreadyThere",
        id="and restarted since",
    ),
    pytest.param(
        a_workload(a_revision(4, history=(2,)), a_revision(3, history=(1,))),
        "Claim 3",
        id="not so: the bad one was deployed again, a roll-forward",
    ),
    pytest.param(
        a_workload(a_revision(3), a_revision(2), a_revision(1, available=3)),
        "Claim 1",
        id="not so: a second bad deploy",
    ),
    pytest.param(
        a_workload(
            a_revision(4, history=(2,), created_at=ago(days=5)),
            a_revision(1, created_at=ago(days=9)),
            health="healthy",
        ),
        "Succeed AlreadyThere",
        id="and the bad revision was deleted from the history",
    ),
]


@pytest.mark.parametrize(("workload", "move"), ALREADY_ROLLED_BACK)
def test_already_rolled_back(workload: Workload, move: str) -> None:
    assert decided(workload=workload) == move


EXPLICIT_AND_ROLLED_BACK = [
    pytest.param({"revision": 2}, undone(), "Claim 2", id="another revision: goes on"),
    pytest.param({"revision": 2}, BROKEN, "Claim 2", id="another, from what did not help: goes on"),
    pytest.param(
        {"revision": 3}, undone(), "Succeed AlreadyThere", id="S17 it is live and healthy"
    ),
    pytest.param(
        {"pod_template_hash": hash_of(1)}, undone(), "Succeed AlreadyThere", id="S17 by its hash"
    ),
    pytest.param(
        {"revision": 3}, BROKEN, "Refuse NothingToRollBackTo", id="S17 it is live, not healthy"
    ),
    pytest.param({"revision": 1}, undone(), "Refuse RevisionNotFound", id="the number has moved"),
]


@pytest.mark.parametrize(("to", "workload", "move"), EXPLICIT_AND_ROLLED_BACK)
def test_already_rolled_back_is_no_obstacle_to_an_explicit_request(
    to: dict[str, Any], workload: Workload, move: str
) -> None:
    assert decided(a_rollback(to=to), workload) == move


def test_already_there_says_who_and_that_0_replicas_prove_nothing() -> None:
    move = decide(an_observation(workload=undone(wanted=0)))
    assert isinstance(move, Succeed)
    assert "is on checkout:1.1 (revision 3) already: somebody rolled it back by kubectl-set" in (
        move.message
    )
    assert "unproven" in move.message


def another(phase: Phase = Phase.ROLLING_BACK, uid: str = "zzz", **status: Any) -> IncidentRollback:
    """Return another request, of no incident, for the same workload; claimed a minute ago."""
    changes = {"claimed_at": ago(minutes=1), **status}
    return a_rollback(name="another", uid=uid, incident=None, status=a_status(phase, **changes))


OTHER_TARGET = a_status().target
assert OTHER_TARGET is not None
ELSEWHERE = OTHER_TARGET.model_copy(update={"uid": "another-workload"})

BUSY_BEFORE_THE_CLAIM = [
    pytest.param(another(), "Wait Busy", id="another has claimed it"),
    pytest.param(another(claimed_at=after(minutes=1)), "Wait Busy", id="even by a later clock"),
    pytest.param(another(Phase.SUCCEEDED), "Claim 1", id="another has ended"),
    pytest.param(another(Phase.FAILED), "Claim 1", id="another has failed"),
    pytest.param(another(Phase.PENDING), "Claim 1", id="another only waits"),
    pytest.param(another(target=ELSEWHERE), "Claim 1", id="another has claimed something else"),
    pytest.param(another(target=None), "Claim 1", id="another has no target"),
    pytest.param(another(uid=UID), "Claim 1", id="that is we"),
]


@pytest.mark.parametrize(("other", "move"), BUSY_BEFORE_THE_CLAIM)
@pytest.mark.parametrize("rollback", [a_rollback(), TO_1], ids=["by itself", "explicit"])
def test_busy(other: IncidentRollback, move: str, rollback: IncidentRollback) -> None:
    assert decided(rollback, others=[other]) == move


BETWEEN_TWO_CLAIMS = [
    pytest.param(another(claimed_at=ago(seconds=1)), "Wait Busy", id="the earlier goes first"),
    pytest.param(another(claimed_at=after(seconds=1)), "Restore 1", id="we are the earlier"),
    pytest.param(another(uid="000", claimed_at=NOW), "Wait Busy", id="a tie: the lower uid"),
    pytest.param(another(uid="zzz", claimed_at=NOW), "Restore 1", id="a tie: we are the lower uid"),
]


@pytest.mark.parametrize(("other", "move"), BETWEEN_TWO_CLAIMS)
def test_busy_between_two_claims(other: IncidentRollback, move: str) -> None:
    assert decided(claimed(), others=[other], now=after(seconds=30)) == move


COOLDOWN = Policy(cooldown_seconds=600)
BAD_AGAIN = a_workload(a_revision(4), a_revision(3, history=(1,), available=3), a_revision(2))
COOLING_DOWN = [
    pytest.param(a_rollback(), 599, "Wait CoolingDown", id="rolled back a moment ago"),
    pytest.param(a_rollback(), 600, "Claim 3", id="to the second: over"),
    pytest.param(TO_1, 1, "Refuse RevisionNotFound", id="an explicit revision does not wait"),
    pytest.param(APPROVED, 1, "Refuse PlanChanged", id="an approved plan does not wait"),
]


@pytest.mark.parametrize(("rollback", "seconds", "move"), COOLING_DOWN)
def test_cooldown(rollback: IncidentRollback, seconds: int, move: str) -> None:
    """A second bad deploy came within the cooldown."""
    workload = replace(BAD_AGAIN, marker=a_marker(ago(seconds=seconds)))
    assert decided(rollback, workload, policy=COOLDOWN) == move


def test_cooldown_by_a_marker_that_only_a_replica_set_has() -> None:
    old = a_revision(1, available=3, marker=a_marker(ago(seconds=5)))
    move = decide(an_observation(workload=a_workload(a_revision(2), old)))
    assert isinstance(move, Wait)
    assert move.reason == "CoolingDown"
    assert "was rolled back at 02:13:55, and is left alone until 02:23:55" in move.message


def test_cooldown_is_looked_at_again_when_it_is_over() -> None:
    seen = an_observation(workload=a_workload(marker=a_marker(ago(seconds=597))), policy=COOLDOWN)
    move = decide(seen)
    assert isinstance(move, Wait)
    assert move.after == 3


def an_attempt(**changes: Any) -> IncidentRollback:
    """Return an earlier attempt of the same incident, which went from revision 2 to 1."""
    status = {"patched_at": ago(minutes=30), "target": a_status().target, **changes}
    return a_rollback(name="the-first", uid="first", status=a_status(Phase.SUCCEEDED, **status))


FIXED = a_workload(
    a_revision(3, created_at=ago(hours=2)),
    a_revision(2, created_at=ago(hours=5)),
    a_revision(1),
    health="healthy",
)
STILL_BAD = a_workload(a_revision(2, created_at=ago(hours=2)), a_revision(1), health="healthy")
FAILING_3 = a_workload(
    a_revision(3, created_at=ago(hours=2)), a_revision(2), a_revision(1, available=3)
)

REPEATS = [
    pytest.param(FIXED, [an_attempt()], "Refuse ChangedSinceRequest", id="a fix came since"),
    pytest.param(STILL_BAD, [an_attempt()], "Claim 1", id="live is the `from` of an attempt"),
    pytest.param(
        STILL_BAD,
        [an_attempt(from_=frozen(1)), an_attempt()],
        "Claim 1",
        id="live is the `from` of one of several attempts",
    ),
    pytest.param(FAILING_3, [an_attempt()], "Claim 1", id="live fails by its own pods now"),
    pytest.param(FIXED, [], "Claim 2", id="no repeat: the first attempt of the incident"),
    pytest.param(FIXED, [an_attempt(patched_at=None)], "Claim 2", id="it changed nothing"),
    pytest.param(FIXED, [an_attempt(target=ELSEWHERE)], "Claim 2", id="it was of something else"),
    pytest.param(
        FIXED,
        [an_attempt().model_copy(update={"spec": a_rollback(incident=None).spec})],
        "Claim 2",
        id="it was of no incident",
    ),
    pytest.param(
        FIXED,
        [
            an_attempt().model_copy(
                update={"spec": a_rollback(incident=an_incident(id="other")).spec}
            )
        ],
        "Claim 2",
        id="it was of another incident",
    ),
]


@pytest.mark.parametrize(("workload", "others", "move"), REPEATS)
def test_repeats_never_undo_a_fix(
    workload: Workload, others: list[IncidentRollback], move: str
) -> None:
    assert decided(workload=workload, others=others, policy=NO_WAIT) == move


def test_repeats_may_be_explicit() -> None:
    assert decided(TO_1, FIXED, others=[an_attempt()], policy=NO_WAIT) == "Claim 1"


def came(at: Any, **changes: Any) -> Workload:
    return a_workload(a_revision(2, created_at=at), a_revision(1, available=3), **changes)


HEALTHY: dict[str, Any] = {"health": "healthy"}
RESTARTED = a_workload(
    a_revision(3, like=2, restarted="now", created_at=after(seconds=9)),
    a_revision(2, created_at=ago(hours=2)),
    a_revision(1),
    health="healthy",
)
BAD_AGAIN_AT_AN_UNKNOWN_TIME = a_workload(
    a_revision(4, history=(2,)), a_revision(3, history=(1,)), template_written_at=None
)
SOMEBODY_IS_AT_WORK = [
    pytest.param(came(after(seconds=1)), "Refuse ChangedSinceRequest", id="after the request"),
    pytest.param(came(NOW), "Claim 1", id="in the second of the request: a tie is not after"),
    pytest.param(
        came(ago(minutes=4), **HEALTHY), "Refuse ChangedSinceRequest", id="in the incident, healthy"
    ),
    pytest.param(
        came(ago(minutes=4), health="starting"),
        "Refuse ChangedSinceRequest",
        id="in the incident, and its pods do not fail so far",
    ),
    pytest.param(came(ago(minutes=4)), "Claim 1", id="in the incident, and it fails"),
    pytest.param(
        came(ago(minutes=5), **HEALTHY), "Claim 1", id="in the second the incident began: a tie"
    ),
    pytest.param(came(ago(minutes=6), **HEALTHY), "Claim 1", id="before the incident"),
    pytest.param(RESTARTED, "Claim 1", id="only restarted since"),
    pytest.param(
        BAD_AGAIN_AT_AN_UNKNOWN_TIME,
        "Claim 3",
        id="returned to at an unknown time: unknown is not after",
    ),
]


@pytest.mark.parametrize(("workload", "move"), SOMEBODY_IS_AT_WORK)
def test_repeats_never_undo_a_fix_that_came_before_the_first_attempt(
    workload: Workload, move: str
) -> None:
    assert decided(workload=workload) == move


def test_somebody_at_work_is_named_with_the_command_that_does_it_anyway() -> None:
    move = decide(an_observation(workload=came(after(seconds=1))))
    assert isinstance(move, Refuse)
    assert "checkout:1.2 came to deployment production/checkout after it was asked for" in (
        move.message
    )
    assert "by kubectl-set" in move.message
    assert "kubectl irb rollback deploy/checkout -n production --to-revision N" in move.fix
    assert decided(TO_1, came(after(seconds=1))) == "Claim 1"


def pairs(count: int, **spec: Any) -> IncidentRollback:
    return a_rollback(pairs=count, **spec)


DAY = {"hours": 24, "minutes": 5}  # before the incident, which began 5 minutes ago
OLD = came(ago(**DAY) - (after(seconds=1) - NOW))
MANY_PAIRS = [
    pytest.param(pairs(2), came(ago(minutes=10)), "Claim 1", id="deployed lately"),
    pytest.param(
        pairs(2), came(ago(**DAY)), "Claim 1", id="24 h before the incident, to the second"
    ),
    pytest.param(pairs(2), OLD, "Refuse NotRecentlyChanged", id="earlier: hurt, not the cause"),
    pytest.param(pairs(1), OLD, "Claim 1", id="the only pair: somebody meant it"),
    pytest.param(pairs(2, to={"revision": 1}), OLD, "Claim 1", id="an explicit revision"),
    pytest.param(
        pairs(2),
        BAD_AGAIN_AT_AN_UNKNOWN_TIME,
        "Refuse NotRecentlyChanged",
        id="nobody knows since when",
    ),
]


@pytest.mark.parametrize(("rollback", "workload", "move"), MANY_PAIRS)
def test_many_pairs(rollback: IncidentRollback, workload: Workload, move: str) -> None:
    assert decided(rollback, workload) == move


def test_many_pairs_never_say_more_of_an_age_than_is_known() -> None:
    move = decide(an_observation(pairs(2), BAD_AGAIN_AT_AN_UNKNOWN_TIME))
    assert isinstance(move, Refuse)
    assert "is not known to have changed lately" in move.message


CLOSED = [
    pytest.param(some_facts(is_active=False), "Refuse IncidentClosed", id="closed"),
    pytest.param(some_facts(), "Claim 1", id="open"),
    pytest.param(None, "Claim 1", id="unknown: goes on"),
]


@pytest.mark.parametrize(("facts", "move"), CLOSED)
def test_a_closed_incident_hurts_nobody(facts: Any, move: str) -> None:
    assert decided(facts=facts) == move


def same_request(**changes: Any) -> Workload:
    marker = a_marker(ago(days=7), of=a_rollback(), uid="made-before")
    return a_workload(a_revision(2, marker=marker), a_revision(1, available=3), **changes)


ALREADY_REQUESTED = [
    pytest.param(same_request(), id="a week ago, and bad again"),
    pytest.param(same_request(is_deleting=True), id="before any other answer"),
    pytest.param(same_request(is_paused=True), id="before what is waited for"),
    pytest.param(
        a_workload(marker=a_marker(of=a_rollback())),
        id="the same resource that has lost its status",
    ),
]


@pytest.mark.parametrize("workload", ALREADY_REQUESTED)
def test_a_restored_resource_never_acts_again(workload: Workload) -> None:
    assert decided(workload=workload) == "Refuse AlreadyRequested"
    assert decided(claimed(), same_request()) == "Refuse AlreadyRequested"


def test_after_its_claim_the_marker_of_a_resource_is_its_own() -> None:
    assert decided(claimed(), a_workload(marker=a_marker(of=claimed()))) == "Fail Reverted"


def test_another_request_for_the_same_workload_is_no_obstacle() -> None:
    workload = a_workload(marker=a_marker(ago(days=7)))
    assert decided(workload=workload) == "Claim 1"


def test_the_fix_names_the_next_command() -> None:
    moves: dict[str, dict[str, Any]] = {
        "kubectl rollout resume deploy/checkout -n production": {"is_paused": True},
        "roll back Rollout/x instead": {"owner": "Rollout/x"},
        "take the annotation away": {"opted_out": "<b>"},
    }
    for fix, change in moves.items():
        move = decide(an_observation(workload=a_workload(**change)))
        assert isinstance(move, (Wait, Refuse))
        assert fix in move.fix


def test_words_of_people_are_quoted() -> None:
    move = decide(an_observation(workload=a_workload(opted_out="ask <!here> @dba")))
    assert isinstance(move, Refuse)
    assert "never: ask &lt;!here&gt; @\u200bdba" in move.message


def test_a_workload_that_is_not_there_is_named_where_it_was_looked_for() -> None:
    seen: Observation = replace(an_observation(), workload=None)
    move = decide(seen)
    assert isinstance(move, Wait)
    assert move.reason == "WorkloadNotFound"
    assert "no Deployment production/checkout" in move.message
    assert "incidentrollback.dev/service: checkout" in move.message


def test_the_builders_speak_of_one_workload() -> None:
    """The rows above differ in what they name, and in nothing else."""
    assert a_workload().uid == WORKLOAD_UID == claimed().status.target.uid  # type: ignore[union-attr]
    assert a_broken_pod().pod_template_hash == hash_of(2)


def said(
    rollback: IncidentRollback | None = None, workload: Workload | None = None, **seen: Any
) -> str:
    """Return what a move says, and what it says to do."""
    move = decide(an_observation(rollback, workload, **seen))
    assert isinstance(move, (Wait, Refuse, Succeed, Fail))
    return f"{move.message}. Next: {move.fix}"


BEHIND = undone(number=2)
"""The Deployment's own copy of the number lags behind its ReplicaSet's."""
SAID: list[Any] = [
    pytest.param(
        lambda: said(workload=a_workload(opted_out="")),
        "deployment production/checkout says incidentrollback.dev/rollback: never. Next: ",
        id="never, and not why",
    ),
    pytest.param(
        lambda: said(place=a_place(suspended_by="incident-rollback/production")),
        "RollbackEnvironment production is suspended. Next: set its spec.suspend to false: "
        "kubectl edit rbenv production -n incident-rollback",
        id="which switch is on, and how to turn it off",
    ),
    pytest.param(
        lambda: said(workload=BEHIND),
        "deployment production/checkout is on checkout:1.1 (revision 3) already: somebody rolled "
        "it back by kubectl-set; 3 of 3 pods available. Nothing was changed. Next: ",
        id="there already: the number of the ReplicaSet",
    ),
    pytest.param(
        lambda: said(workload=undone(health="starting")),
        "deployment production/checkout was rolled back to checkout:1.1 by kubectl-set, and that "
        "rollout is not over: 0 of 3 pods available. Next: ",
        id="rolled back, and on its way",
    ),
    pytest.param(
        lambda: said(workload=BROKEN),
        "deployment production/checkout was rolled back to checkout:1.1 by kubectl-set, and is not "
        "healthy: ",
        id="rolled back, in vain",
    ),
    pytest.param(
        lambda: said(
            workload=a_workload(a_revision(2, created_at=after(seconds=9)), a_revision(1), number=1)
        ),
        "so somebody is at work on it (revision 2; 0 of 3 pods available)",
        id="somebody is at work: the number of the ReplicaSet",
    ),
    pytest.param(
        lambda: said(pairs(2), OLD),
        "has run what it runs since 2026-11-22 02:08 UTC",
        id="many pairs: its age",
    ),
    pytest.param(
        lambda: said(claimed(), a_workload(uid="made-again")),
        "production/checkout was deleted, or deleted and made again, while it was being "
        "rolled back",
        id="gone before the patch",
    ),
]


@pytest.mark.parametrize(("text", "words"), SAID)
def test_what_is_so_is_said_with_its_names_and_numbers(text: Callable[[], str], words: str) -> None:
    assert words in text()


def test_when_it_looks_again() -> None:
    unobserved = decide(an_observation(None, a_workload(generation=8)))
    assert isinstance(unobserved, Wait)
    assert unobserved.after == 0.3
    cooling = decide(an_observation(None, a_workload(marker=a_marker(ago(seconds=9)))))
    assert isinstance(cooling, Wait)
    assert cooling.after == 15.0


def test_busy_looks_at_all_others() -> None:
    over = another(Phase.SUCCEEDED, uid="aaa")
    assert decided(others=[over, another()]) == "Wait Busy"
