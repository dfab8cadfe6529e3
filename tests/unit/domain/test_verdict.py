"""After the patch: how it goes, how it ended, and what came after the end."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase, Policy
from incident_rollback.domain.decision import decide
from incident_rollback.domain.moves import Fail, Hold, News, Succeed, Wait, Watch
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.ownership import Owner, Tool, how_to_pause, what_brings_back
from incident_rollback.domain.surroundings import (
    Reference,
    Referent,
    Surroundings,
    WarningEvent,
)
from incident_rollback.domain.verdict import next_best
from incident_rollback.domain.workload import Revision, Workload
from tests.builders import (
    NOW,
    a_broken_pod,
    a_condition,
    a_marker,
    a_place,
    a_pod,
    a_revision,
    a_template,
    a_workload,
    after,
    ago,
    an_observation,
    claimed,
    frozen,
    outcome,
    timed_out,
    undone,
)

PATCHED = claimed(patched_at=NOW)
CALM = claimed(patched_at=NOW, healthy_since=after(seconds=10))
BLIND = Wait("PermissionMissing", "may not look", "let the operator in")
STARTING = undone(health="starting")
WELL = undone()


def looked(
    rollback: IncidentRollback, workload: Workload | None, at: datetime, **changes: Any
) -> Observation:
    """Return what is seen at a time after the patch, which went in at NOW."""
    return replace(an_observation(rollback, workload, **changes), now=at)


def pod(**changes: Any) -> Any:
    """Return a pod of what was restored, ready since before it counted as healthy."""
    return a_pod(1, **{"created_at": after(seconds=2), **changes})


def bad_pod(**changes: Any) -> Any:
    known: dict[str, Any] = {"created_at": after(seconds=2)}
    return a_broken_pod(1, **{**known, **changes})


LADDER = [
    pytest.param(PATCHED, STARTING, 5, "Watch", id="V1 pods are starting"),
    pytest.param(PATCHED, WELL, 5, "Watch", id="V1 healthy: then the calm"),
    pytest.param(CALM, WELL, 39, "Watch", id="V1 healthy, and the calm is not over"),
    pytest.param(CALM, WELL, 40, "Succeed RolledBack", id="V1 calm for stableSeconds"),
    pytest.param(PATCHED, STARTING, 630, "Watch", id="V8 at the deadline, to the second"),
    pytest.param(
        PATCHED, STARTING, 631, "Fail VerifyDeadlineExceeded", id="V8 no progress for too long"
    ),
    pytest.param(
        PATCHED,
        undone(health="starting", progress_deadline_seconds=None),
        631,
        "Fail VerifyDeadlineExceeded",
        id="V9 the deadline of the workload is disabled",
    ),
    pytest.param(
        PATCHED,
        undone(health="starting", progress=timed_out(ago(seconds=1))),
        5,
        "Watch",
        id="V6 rule 57: Kubernetes' verdict is of the template before",
    ),
    pytest.param(
        PATCHED,
        undone(health="starting", progress=timed_out(after(seconds=1))),
        5,
        "Fail ProgressDeadlineExceeded",
        id="V7 Kubernetes gave up on what was restored",
    ),
    pytest.param(
        PATCHED, WELL, 86_400, "Watch", id="finished beats a passed deadline, and gets its calm"
    ),
    pytest.param(CALM, WELL, 86_400, "Succeed RolledBack", id="finished beats a passed deadline"),
    pytest.param(
        PATCHED, undone(wanted=0), 5, "Succeed Unproven", id="V11 0 replicas prove nothing"
    ),
    pytest.param(
        PATCHED, undone(is_paused=True), 5, "Watch", id="V10 paused midway: waits for whoever did"
    ),
    pytest.param(
        PATCHED,
        undone(is_paused=True),
        631,
        "Fail VerifyDeadlineExceeded",
        id="V10 paused midway, and nobody resumes it",
    ),
    pytest.param(
        PATCHED,
        undone(health="starting", pods=(pod(ready_since=after(seconds=600)),)),
        1200,
        "Watch",
        id="slow, and still progressing",
    ),
    pytest.param(
        CALM,
        undone(pods=(pod(), bad_pod())),
        20,
        "Fail CrashedAfterReady",
        id="V13 a crash within the calm",
    ),
    pytest.param(
        CALM,
        undone(pods=(pod(), bad_pod(crashed_at=after(seconds=4)))),
        20,
        "Watch",
        id="V13 not ready for a moment; what it says is of its start",
    ),
    pytest.param(
        CALM,
        replace(undone(), wanted=5, updated=5, pods=(pod(), bad_pod(created_at=after(seconds=15)))),
        20,
        "Watch",
        id="V12 scaled up in the calm: the new pods are not judged",
    ),
    pytest.param(
        CALM,
        undone(pods=(pod(), bad_pod(created_at=after(seconds=15)))),
        40,
        "Succeed RolledBack",
        id="V12 scaled up and down again in the calm",
    ),
]


@pytest.mark.parametrize(("rollback", "workload", "seconds", "move"), LADDER)
def test_the_rollout_of_what_was_restored(
    rollback: IncidentRollback, workload: Workload, seconds: int, move: str
) -> None:
    decided = decide(looked(rollback, workload, after(seconds=seconds)))
    assert outcome(decided) == move
    if isinstance(decided, Watch):
        assert decided.patched_at == NOW


def test_until_it_is_stored_the_time_of_the_patch_is_that_of_its_marker() -> None:
    marked = undone(health="starting", marker=a_marker(after(seconds=3), of=claimed()))
    move = decide(looked(claimed(), marked, after(seconds=5)))
    assert isinstance(move, Watch)
    assert move.patched_at == after(seconds=3)


CALM_RESTARTS = [
    pytest.param(undone(pods=(pod(is_ready=False),)), after(seconds=20), id="not ready"),
    pytest.param(
        undone(pods=(pod(crashed_at=after(seconds=15)),)), after(seconds=20), id="crashed and back"
    ),
    pytest.param(undone(pods=(pod(),)), after(seconds=10), id="calm"),
    pytest.param(
        replace(undone(), wanted=5), after(seconds=10), id="scaled: those that were there are calm"
    ),
]


@pytest.mark.parametrize(("workload", "since"), CALM_RESTARTS)
def test_the_calm_begins_anew_after_a_disturbance(workload: Workload, since: datetime) -> None:
    move = decide(looked(CALM, workload, after(seconds=20)))
    assert isinstance(move, Watch)
    assert move.healthy_since == since


PACE = [
    pytest.param(4.9, 0.25, id="at first"),
    pytest.param(5, 1.0, id="then"),
    pytest.param(29, 1.0, id="still"),
    pytest.param(30, 2.0, id="for long"),
]


@pytest.mark.parametrize(("seconds", "pause"), PACE)
def test_it_is_looked_at_often_at_first(seconds: float, pause: float) -> None:
    move = decide(looked(PATCHED, STARTING, after(seconds=seconds)))
    assert isinstance(move, Watch)
    assert move.after == pause


def test_the_end_of_the_calm_is_not_slept_through() -> None:
    move = decide(looked(CALM, WELL, after(seconds=39.5)))
    assert isinstance(move, Watch)
    assert move.after == 0.5
    early = decide(looked(CALM, WELL, after(seconds=11)))
    assert isinstance(early, Watch)
    assert early.after == 2.0


PROVEN = [
    pytest.param(frozen(2), True, id="`from` was seen failing, `to` was seen healthy"),
    pytest.param(frozen(2, failing=False), False, id="nobody saw `from` fail"),
    pytest.param(None, False, id="nobody knows what was there"),
]


@pytest.mark.parametrize(("origin", "is_proven"), PROVEN)
def test_never_say_more_than_was_seen_about_a_success(origin: Any, is_proven: bool) -> None:
    done = claimed(patched_at=NOW, healthy_since=NOW, from_=origin)
    move = decide(looked(done, WELL, after(seconds=30)))
    assert isinstance(move, Succeed)
    assert move.is_proven is is_proven
    assert move.message == "3 of 3 pods available since 02:14:00"
    assert move.healthy_since == NOW
    number = origin.revision if origin else "?"
    assert move.fix.endswith(f"or the next one brings revision {number} back")


FLUX = Owner(Tool.KUSTOMIZATION, "apps", "flux-system", "its labels", "certain")
HELM = Owner(Tool.HELM, "web", "production", "its annotations", "never")


def test_who_brings_the_bad_revision_back_is_named_first_and_how_to_stop_it() -> None:
    kept_by = (FLUX, HELM)
    done = decide(looked(CALM, undone(managed_by=kept_by), after(seconds=40)))
    assert isinstance(done, Succeed)
    assert done.warning == what_brings_back(FLUX)
    bad = undone(template=a_revision(2).template, managed_by=kept_by)
    reverted = decide(looked(PATCHED, bad, after(seconds=60)))
    assert isinstance(reverted, Fail)
    assert reverted.fix == f"revert the commit at its source, or: {how_to_pause(FLUX, bad.ref)}"


def test_where_nobody_is_known_to_bring_it_back_nobody_is_named() -> None:
    move = decide(looked(CALM, WELL, after(seconds=40)))
    assert isinstance(move, Succeed)
    assert move.warning == ""


OVERTAKEN = [
    pytest.param(
        undone(template=a_revision(2).template, template_writer="argocd"),
        "Fail Reverted",
        "the bad revision 2 (checkout:1.2) was brought back by argocd",
        id="V15 the bad revision is back",
    ),
    pytest.param(
        a_workload(a_revision(4), a_revision(3, history=(1,)), a_revision(2)),
        "Fail Superseded",
        "checkout:1.4 was deployed over it by kubectl-set; that stands",
        id="V14 something newer was deployed",
    ),
    pytest.param(
        undone(template=a_template("brand:new")),
        "Fail Superseded",
        "brand:new was deployed over it",
        id="V14 something newer, and no ReplicaSet of it yet",
    ),
    pytest.param(
        undone(uid="made-again"), "Fail WorkloadGone", "deleted", id="V21 deleted and made again"
    ),
    pytest.param(
        a_workload(
            a_revision(4, like=1, restarted="now", available=3), a_revision(3, history=(1,))
        ),
        "Watch",
        "",
        id="restarted: still what was restored",
    ),
]


@pytest.mark.parametrize(("workload", "move", "words"), OVERTAKEN)
def test_what_came_over_it_stands(workload: Workload, move: str, words: str) -> None:
    decided = decide(looked(PATCHED, workload, after(seconds=60)))
    assert outcome(decided) == move
    if isinstance(decided, Fail):
        assert words in decided.message


def unseen(rollback: IncidentRollback, seconds: int, hindrance: Wait | None = None) -> Observation:
    seen = looked(rollback, WELL, after(seconds=seconds))
    return replace(seen, workload=None, hindrance=hindrance)


def test_a_workload_that_is_gone() -> None:
    assert outcome(decide(unseen(PATCHED, 5))) == "Fail WorkloadGone"


NOT_ABLE_TO_LOOK = [
    pytest.param(899, "Watch", id="for a while: it may come back"),
    pytest.param(900, "Fail NotVerified", id="for too long: said as it is"),
]


@pytest.mark.parametrize(("seconds", "move"), NOT_ABLE_TO_LOOK)
def test_never_say_more_than_was_seen_when_nobody_may_look(seconds: int, move: str) -> None:
    decided = decide(unseen(CALM, seconds, BLIND))
    assert outcome(decided) == move
    if isinstance(decided, Fail):
        assert decided.message == (
            "template restored; I could not see whether it is healthy: may not look"
        )
    if isinstance(decided, Watch):
        assert decided.healthy_since is None  # What nobody saw was not calm.
        assert (decided.message, decided.after) == ("cannot look: may not look", 5.0)
        assert decided.patched_at == NOW


def ended(phase: Phase = Phase.SUCCEEDED, reason: str = "RolledBack", **status: Any) -> Any:
    """Return a rollback that ended at NOW."""
    ready = a_condition("Ready", "True" if phase is Phase.SUCCEEDED else "False", reason)
    known = {
        "patched_at": ago(seconds=60),
        "healthy_since": ago(seconds=30),
        "finished_at": NOW,
        "conditions": (ready,),
    }
    return claimed(phase, **{**known, **status})


FAILED = ended(Phase.FAILED, "VerifyDeadlineExceeded", healthy_since=None)
REVERTED = ended(Phase.FAILED, "Reverted", healthy_since=None)
BAD_IS_BACK = undone(template=a_revision(2).template, template_writer="argocd")
CRASHING = replace(undone(), available=2, pods=(bad_pod(created_at=ago(minutes=9)),))

HELD = [
    pytest.param(ended(), WELL, 30, "Hold", id="still watched"),
    pytest.param(ended(), WELL, 600, "Hold Held over", id="it stayed"),
    pytest.param(ended(), BAD_IS_BACK, 30, "Hold Reverted over", id="brought back: told"),
    pytest.param(
        ended(), undone(template=a_template("new")), 30, "Hold Superseded over", id="deployed over"
    ),
    pytest.param(
        ended(), undone(uid="made-again"), 30, "Hold Superseded over", id="deleted and made again"
    ),
    pytest.param(ended(), CRASHING, 30, "Hold Crashed over", id="it was healthy, then not"),
    pytest.param(
        ended(reason="Unproven", healthy_since=None),
        CRASHING,
        30,
        "Hold Crashed over",
        id="0 replicas, then not well: counted from the end",
    ),
    pytest.param(
        ended(),
        replace(CRASHING, pods=(bad_pod(created_at=after(seconds=5)),)),
        30,
        "Hold",
        id="only pods that came later fail",
    ),
    pytest.param(
        ended(),
        replace(CRASHING, pods=(bad_pod(created_at=None, crashed_at=ago(seconds=50)),)),
        30,
        "Hold",
        id="not ready for a moment; what it says is of its start",
    ),
    pytest.param(
        ended(), CRASHING, 600, "Hold Crashed over", id="not healthy at the very end of the hold"
    ),
    pytest.param(
        ended(reason="Unproven", healthy_since=None),
        undone(health="starting"),
        600,
        "Hold NotHealthy over",
        id="scaled up since, and not healthy: it is not said that it stayed",
    ),
    pytest.param(FAILED, STARTING, 30, "Hold", id="failed, and no better yet"),
    pytest.param(FAILED, WELL, 30, "Hold HealthyAfterAll over", id="failed, and healthy after all"),
    pytest.param(FAILED, STARTING, 600, "Hold NotHealthy over", id="failed, and no better"),
    pytest.param(
        FAILED, undone(wanted=0), 30, "Hold", id="failed, and scaled to 0: that is not healthy"
    ),
    pytest.param(REVERTED, BAD_IS_BACK, 30, "Hold Reverted over", id="failed by that: told once"),
    pytest.param(ended(patched_at=None), WELL, 30, "Hold over", id="nothing was changed"),
    pytest.param(
        ended(conditions=(a_condition("Held", "True", "Held"),)), WELL, 30, "Hold over", id="over"
    ),
]


@pytest.mark.parametrize(("rollback", "workload", "seconds", "move"), HELD)
def test_the_hold(rollback: IncidentRollback, workload: Workload, seconds: int, move: str) -> None:
    assert outcome(decide(looked(rollback, workload, after(seconds=seconds)))) == move


def test_the_hold_of_what_nobody_can_see() -> None:
    assert outcome(decide(unseen(ended(), 30, BLIND))) == "Hold"
    move = decide(unseen(ended(), 600, BLIND))
    assert outcome(move) == "Hold NotVerified over"
    assert isinstance(move, Hold)
    assert move.news is not None
    assert not move.news.is_told


def test_a_rollout_that_nobody_resumes_says_so() -> None:
    resumed = decide(looked(PATCHED, STARTING, after(seconds=631)))
    paused = decide(looked(PATCHED, undone(is_paused=True), after(seconds=631)))
    assert isinstance(resumed, Fail)
    assert isinstance(paused, Fail)
    assert paused.message.startswith("deployment production/checkout is paused; no progress")
    assert resumed.message.startswith("no progress")


NEWS: list[Any] = [
    pytest.param(
        ended(),
        BAD_IS_BACK,
        30,
        ("the bad revision (checkout:1.2) was brought back by argocd", "stop what brings it back"),
        False,
        id="V15 brought back: by whom, and how to stop it",
    ),
    pytest.param(
        ended(),
        a_workload(a_revision(4), a_revision(3, history=(1,)), a_revision(2)),
        30,
        ("checkout:1.4 was deployed over it by kubectl-set", ""),
        False,
        id="V14 deployed over: what, and by whom",
    ),
    pytest.param(
        FAILED,
        WELL,
        30,
        ("healthy after all: 3 of 3 pods available", "revert the deploy at its source"),
        True,
        id="healthy after all: the result stands",
    ),
    pytest.param(
        ended(),
        WELL,
        600,
        ("it stayed for 10 min: 3 of 3 pods available", ""),
        True,
        id="it stayed: for how long",
    ),
    pytest.param(
        FAILED,
        STARTING,
        600,
        ("0 of 3 pods available", "look at it: kubectl describe pod checkout-hash-2-x"),
        False,
        id="failed, and no better: how to look at it",
    ),
]


@pytest.mark.parametrize(("rollback", "workload", "seconds", "says", "stands"), NEWS)
def test_what_the_hold_says(
    rollback: IncidentRollback,
    workload: Workload,
    seconds: int,
    says: tuple[str, str],
    stands: bool,
) -> None:
    move = decide(looked(rollback, workload, after(seconds=seconds)))
    assert isinstance(move, Hold)
    assert move.news is not None
    message, fix = says
    assert (move.news.message, move.news.stands) == (message, stands)
    assert move.news.fix.startswith(fix)
    assert bool(move.news.fix) is bool(fix)


TOLD = [
    pytest.param(ended(), BAD_IS_BACK, 30, True, id="brought back"),
    pytest.param(REVERTED, BAD_IS_BACK, 30, False, id="brought back, and it ended so"),
    pytest.param(ended(), CRASHING, 30, True, id="crashed"),
    pytest.param(FAILED, WELL, 30, True, id="healthy after all"),
    pytest.param(ended(), WELL, 600, False, id="it stayed: no news"),
    pytest.param(
        ended(), undone(template=a_template("new")), 30, False, id="deployed over: theirs to tell"
    ),
    pytest.param(FAILED, STARTING, 600, False, id="failed, and no better: no news"),
]


@pytest.mark.parametrize(("rollback", "workload", "seconds", "is_told"), TOLD)
def test_what_of_the_hold_is_told(
    rollback: IncidentRollback, workload: Workload, seconds: int, is_told: bool
) -> None:
    move = decide(looked(rollback, workload, after(seconds=seconds)))
    assert isinstance(move, Hold)
    assert move.news is not None
    assert move.news.is_told is is_told


POLLED = [
    pytest.param(1, 15.0, id="each 15 s"),
    pytest.param(595, 5.0, id="and at its end"),
    pytest.param(599.99, 0.2, id="never in a hot loop"),
]


@pytest.mark.parametrize(("seconds", "pause"), POLLED)
def test_how_often_the_hold_looks(seconds: float, pause: float) -> None:
    move = decide(looked(ended(), WELL, after(seconds=seconds), policy=Policy()))
    assert isinstance(move, Hold)
    assert move.after == pytest.approx(pause)


FAILURES = [
    pytest.param(10, "ProgressDeadlineExceeded", id="Kubernetes gave up"),
    pytest.param(631, "VerifyDeadlineExceeded", id="we gave up"),
]
RAN_FOR_DAYS = a_revision(1, created_at=ago(days=9))
STILL_SERVES = a_revision(1, created_at=ago(days=9), available=2)
REPLACED_AT_ONCE = a_revision(1, created_at=ago(days=2, minutes=1))
NEXT = "The next that can be trusted is revision 1 "
DO_IT = "kubectl irb rollback deploy/checkout -n production --to-revision 1"
NEXT_ONES = [
    pytest.param(
        (RAN_FOR_DAYS,),
        f"{NEXT}(it ran 7 d before it was replaced): {DO_IT}",
        id="V20 the next that can be trusted is named with its command, and not tried",
    ),
    pytest.param(
        (STILL_SERVES,),
        f"{NEXT}(2 pods of it still serve): {DO_IT}",
        id="V20 so is one whose pods still serve",
    ),
    pytest.param((REPLACED_AT_ONCE,), "", id="V20 none is named without evidence that it works"),
    pytest.param((), "", id="V20 none is named where only the bad one is left"),
]


@pytest.mark.parametrize(("others", "words"), NEXT_ONES)
@pytest.mark.parametrize(("seconds", "reason"), FAILURES)
def test_when_the_target_fails_too_nothing_more_is_tried(
    others: Sequence[Revision], words: str, seconds: int, reason: str
) -> None:
    target = a_revision(4, history=(2,), created_at=ago(days=2))
    bad = a_revision(3, created_at=ago(minutes=9))
    gave_up = timed_out(after(seconds=9)) if reason.startswith("Progress") else None
    workload = a_workload(target, bad, *others, health="starting", progress=gave_up)
    to = frozen(2, pod_template_hash=target.pod_template_hash)
    move = decide(looked(claimed(patched_at=NOW, to=to), workload, after(seconds=seconds)))
    assert isinstance(move, Fail)
    assert move.reason == reason
    assert "kubectl describe pod checkout-hash-2-x -n production" in move.fix
    assert words in move.fix
    assert ("--to-revision" in move.fix) is bool(words)


def test_the_next_one_is_not_named_when_what_it_needs_is_gone_or_it_is_too_far_back() -> None:
    needs = a_template("checkout:1.1", envFrom=[{"secretRef": {"name": "pruned"}}])
    last = replace(STILL_SERVES, template=needs)
    workload = a_workload(a_revision(3), a_revision(2), last)
    seen = an_observation(workload=workload)
    gone = Surroundings(references={Reference("Secret", "pruned"): Referent(is_there=False)})
    assert next_best(seen, workload) is not None
    assert next_best(replace(seen, around=gone), workload) is None
    near = replace(seen, place=a_place(policy=Policy(max_revisions_back=1)))
    without_pods = a_workload(a_revision(3), a_revision(2), RAN_FOR_DAYS)
    assert next_best(near, without_pods) is None


SHOWN = bad_pod(name="checkout-7d9-x", uid="p-1", container="app", logs="Previous", reason="Error")
HEARD = Surroundings(warnings={"p-1": WarningEvent("BackOff", "Back-off restarting", NOW)})
ILL_ENDS = [
    pytest.param(
        PATCHED,
        undone(health="starting", pods=(SHOWN,), progress=timed_out(after(seconds=1))),
        20,
        id="Kubernetes gave up",
    ),
    pytest.param(PATCHED, undone(health="starting", pods=(SHOWN,)), 631, id="we gave up"),
    pytest.param(CALM, undone(pods=(SHOWN,)), 20, id="V13 a crash within the calm"),
    pytest.param(
        ended(),
        replace(CRASHING, pods=(replace(SHOWN, created_at=ago(minutes=9)),)),
        30,
        id="a crash within the hold",
    ),
]


@pytest.mark.parametrize(("rollback", "workload", "seconds"), ILL_ENDS)
def test_what_is_not_well_in_the_end_is_shown_by_one_of_its_pods(
    rollback: IncidentRollback, workload: Workload, seconds: int
) -> None:
    move = decide(looked(rollback, workload, after(seconds=seconds), around=HEARD))
    told = move.news if isinstance(move, Hold) else move
    assert isinstance(told, (Fail, News))
    assert (
        "1 of 1 pod in Error, e.g. pod checkout-7d9-x, container app; last event BackOff at "
        "02:14:00: 'Back-off restarting'"
    ) in told.message
    assert told.fix.startswith(
        "look at it: kubectl logs checkout-7d9-x -c app -n production --previous"
    )


def test_while_it_is_watched_the_pods_are_not_named() -> None:
    workload = undone(health="starting", pods=(SHOWN,))
    move = decide(looked(PATCHED, workload, after(seconds=5), around=HEARD))
    assert isinstance(move, Watch)
    assert move.message == "0 of 3 pods available, 1 of 1 pod in Error"
