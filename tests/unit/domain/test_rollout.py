"""How far a rollout has come; `V…` are the scenarios of docs/scenarios.md."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from incident_rollback.clients.translate import to_workload
from incident_rollback.domain.rollout import (
    Rollout,
    assess_rollout,
    broken_calm,
    failing_pods,
    has_crashed,
    is_failing,
    is_healthy,
    verify_by,
)
from incident_rollback.domain.workload import Pod, Workload
from tests.builders import (
    NOW,
    a_broken_pod,
    a_pod,
    a_revision,
    a_template,
    a_workload,
    after,
    ago,
    progressed,
    timed_out,
)
from tests.unit.clients import raw_objects

PROGRESSING, COMPLETE = Rollout.PROGRESSING, Rollout.COMPLETE
UNPROVEN, STALLED = Rollout.UNPROVEN, Rollout.STALLED


def well(**changes: Any) -> Workload:
    return a_workload(health="healthy", **changes)


LADDER = [
    pytest.param(well(), COMPLETE, id="V1 all pods new and available"),
    pytest.param(well(generation=8), PROGRESSING, id="V2 the counts are of the template before"),
    pytest.param(
        well(template=a_template("new")), PROGRESSING, id="V2 no ReplicaSet of the template yet"
    ),
    pytest.param(well(updated=2), PROGRESSING, id="V3 new pods are missing"),
    pytest.param(well(replicas=4), PROGRESSING, id="V4 old pods remain"),
    pytest.param(well(available=2), PROGRESSING, id="V5 not all are available"),
    pytest.param(
        replace(well(), revisions=a_workload().revisions),
        PROGRESSING,
        id="V5 the counts say so, the ReplicaSet of the template does not",
    ),
    pytest.param(well(is_paused=True), PROGRESSING, id="V10 paused midway: never complete"),
    pytest.param(well(wanted=0), UNPROVEN, id="V11 no pods are wanted"),
    pytest.param(well(wanted=0, is_paused=True), PROGRESSING, id="V11 paused with 0 pods"),
    pytest.param(
        replace(well(), wanted=5),
        PROGRESSING,
        id="V12 more pods are wanted meanwhile: not complete yet",
    ),
    pytest.param(replace(well(), wanted=2), COMPLETE, id="V12 fewer pods are wanted meanwhile"),
]


@pytest.mark.parametrize(("workload", "verdict"), LADDER)
def test_the_ladder_of_a_rollout(workload: Workload, verdict: Rollout) -> None:
    assert assess_rollout(workload, since=NOW) is verdict
    assert is_healthy(workload) is (verdict in (COMPLETE, UNPROVEN))


STALE_DEADLINE = [
    pytest.param(ago(seconds=1), PROGRESSING, id="V6 older than our write: of another template"),
    pytest.param(NOW, PROGRESSING, id="V6 in the very second of our write: a tie is not after"),
    pytest.param(after(seconds=1), STALLED, id="V7 newer than our write: Kubernetes gave up"),
]


@pytest.mark.parametrize(("at", "verdict"), STALE_DEADLINE)
def test_rule_57_a_deadline_outlives_its_template(at: datetime, verdict: Rollout) -> None:
    assert assess_rollout(a_workload(progress=timed_out(at)), since=NOW) is verdict


def test_a_finished_rollout_wins_over_any_deadline() -> None:
    assert assess_rollout(well(progress=timed_out(after(seconds=9))), since=NOW) is COMPLETE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"generation": 8}, id="not observed"),
        pytest.param({"is_paused": True}, id="paused"),
    ],
)
def test_a_deadline_is_not_believed_while(change: dict[str, Any]) -> None:
    workload = a_workload(progress=timed_out(after(seconds=9)), **change)
    assert assess_rollout(workload, since=NOW) is PROGRESSING


VERIFY_BY = [
    pytest.param({}, 630, id="V8 without a deadline of its own: 600 s and 30 s of grace"),
    pytest.param({"progress_deadline_seconds": 60}, 90, id="its deadline and the grace"),
    pytest.param({"progress_deadline_seconds": None}, 630, id="V9 disabled: ours all the same"),
    pytest.param({"progress_deadline_seconds": 86_400}, 3630, id="an hour at most"),
    pytest.param(
        {"progress": progressed(after(seconds=400))}, 1030, id="each progress starts it anew"
    ),
    pytest.param({"progress": progressed(ago(seconds=400))}, 630, id="an older progress does not"),
    pytest.param({"progress": timed_out(after(seconds=400))}, 630, id="a verdict is no progress"),
    pytest.param(
        {"pods": (a_pod(2, ready_since=after(seconds=500)),)}, 1130, id="a pod that became ready"
    ),
    pytest.param(
        {"pods": (a_pod(1, ready_since=after(seconds=500)),)}, 630, id="a pod of another revision"
    ),
    pytest.param(
        {"pods": (a_pod(2, ready_since=after(seconds=500), crashed_at=after(seconds=490)),)},
        630,
        id="pods that crash and become ready in between make no progress",
    ),
    pytest.param(
        {"pods": (a_pod(2, ready_since=after(seconds=500), crashed_at=ago(seconds=5)),)},
        1130,
        id="a crash before our write is no crash of ours",
    ),
]


@pytest.mark.parametrize(("changes", "seconds"), VERIFY_BY)
def test_when_to_give_up(changes: dict[str, Any], seconds: int) -> None:
    assert verify_by(a_workload(**changes), since=NOW) == after(seconds=seconds)


def test_slow_but_progressing_is_never_late() -> None:
    """Ten pods, one every nine minutes: an hour and a half, each well within the deadline."""
    for minutes in range(9, 91, 9):
        pods = tuple(a_pod(2, ready_since=after(minutes=m)) for m in range(9, minutes + 1, 9))
        assert verify_by(a_workload(pods=pods), since=NOW) > after(minutes=minutes + 9)


def test_a_template_without_a_replica_set_counts_from_our_write() -> None:
    workload = a_workload(template=a_template("new"), pods=(a_pod(2, ready_since=after(hours=1)),))
    assert verify_by(workload, since=NOW) == after(seconds=630)


FAILING = [
    pytest.param(a_workload(), True, id="its pods say why they are not ready"),
    pytest.param(a_workload(health="starting"), False, id="not ready, and nothing is wrong yet"),
    pytest.param(a_workload(health="healthy"), False, id="healthy"),
    pytest.param(
        a_workload(pods=(a_broken_pod(1), a_pod(2))), False, id="the pods of another revision fail"
    ),
    pytest.param(
        a_workload(health="starting", progress=timed_out(ago(minutes=1))),
        True,
        id="Kubernetes gave up on it",
    ),
    pytest.param(
        a_workload(
            health="starting",
            template_written_at=ago(seconds=3),
            progress=timed_out(ago(minutes=1)),
        ),
        False,
        id="rule 57: Kubernetes gave up on what was there before",
    ),
    pytest.param(
        a_workload(health="starting", template_written_at=None, progress=timed_out(ago(hours=1))),
        True,
        id="Kubernetes gave up; nobody knows when the template was written",
    ),
    pytest.param(a_workload(template=a_template("new")), False, id="nothing of it is there yet"),
]


@pytest.mark.parametrize(("workload", "is_so"), FAILING)
def test_whether_the_live_revision_fails(workload: Workload, is_so: bool) -> None:
    assert is_failing(workload) is is_so


def test_failing_pods_are_not_ready_and_say_why() -> None:
    bad, starting = a_broken_pod(2), a_pod(2, is_ready=False)
    ready = a_pod(2, reason="Error")  # It crashed once, and is well.
    workload = a_workload(pods=(bad, starting, ready, a_broken_pod(2, is_deleting=True)))
    assert failing_pods(workload, a_revision(2)) == (bad,)


ENDED = a_broken_pod(2, "Evicted", finished_at=ago(minutes=9), created_at=ago(days=3))
ENDED_PODS = [
    pytest.param((ENDED,), True, id="nothing has replaced it"),
    pytest.param((ENDED, a_pod(2, is_ready=False)), True, id="what replaced it is not ready"),
    pytest.param(
        (ENDED, a_pod(2, is_ready=False, created_at=ago(minutes=8, seconds=51))),
        True,
        id="what replaced it took a moment to be made",
    ),
    pytest.param(
        (ENDED, a_pod(2, is_ready=False, created_at=ago(minutes=8, seconds=49))),
        False,
        id="what is not ready came later",
    ),
    pytest.param((ENDED, a_pod(2)), False, id="what replaced it is well"),
    pytest.param((a_broken_pod(1, "Evicted", finished_at=NOW),), False, id="of another revision"),
]


@pytest.mark.parametrize(("pods", "counts"), ENDED_PODS)
def test_a_pod_that_was_evicted_counts_until_what_replaced_it_is_well(
    pods: tuple[Pod, ...], counts: bool
) -> None:
    workload = a_workload(pods=pods)
    assert workload.live is not None
    assert bool(failing_pods(workload, workload.live)) is counts


def test_of_a_revision_that_wants_no_pods_none_is_failing() -> None:
    assert failing_pods(a_workload(pods=(ENDED,)), a_revision(2, desired=0)) == ()


CALM = [
    pytest.param(a_pod(), False, id="ready since before"),
    pytest.param(
        a_broken_pod(finished_at=ago(minutes=1)), False, id="evicted, and replaced, before"
    ),
    pytest.param(a_broken_pod(finished_at=after(seconds=1)), True, id="evicted since"),
    pytest.param(a_pod(is_ready=False), True, id="not ready any more"),
    pytest.param(a_pod(crashed_at=after(seconds=1)), True, id="V13 crashed, and ready again"),
    pytest.param(a_pod(crashed_at=ago(seconds=1)), False, id="crashed while it started"),
    pytest.param(a_broken_pod(created_at=after(seconds=1)), False, id="V12 came later, by scaling"),
    pytest.param(a_broken_pod(created_at=NOW), True, id="came in the very second"),
    pytest.param(a_broken_pod(created_at=None), True, id="nobody knows when it came"),
    pytest.param(a_broken_pod(is_deleting=True), False, id="on its way out"),
    pytest.param(a_broken_pod(1), False, id="of another revision"),
]


def test_a_pod_that_went_away_and_came_back_between_two_looks_breaks_the_calm() -> None:
    came_back = a_pod(ready_since=after(seconds=20))
    assert broken_calm(a_workload(pods=(came_back,)), NOW) == (came_back,)
    assert not has_crashed(came_back, NOW)


@pytest.mark.parametrize(("pod", "is_broken"), CALM)
def test_what_breaks_the_calm(pod: Pod, is_broken: bool) -> None:
    assert bool(broken_calm(a_workload(pods=(pod,)), NOW)) is is_broken


@pytest.mark.parametrize(("made", "is_broken"), [("02:13:59", True), ("02:14:01", False)])
def test_v12_the_age_of_a_pod_is_what_the_api_server_says(made: str, is_broken: bool) -> None:
    status = {"conditions": [{"type": "Ready", "status": "False"}]}
    pod = raw_objects.a_pod(metadata={"creationTimestamp": f"2026-11-23T{made}Z"}, status=status)
    deployment = raw_objects.a_deployment(spec={"template": raw_objects.a_template()})
    workload = to_workload(deployment, [raw_objects.a_replica_set()], [pod])
    assert bool(broken_calm(workload, NOW)) is is_broken


HALF_A_SECOND = timedelta(seconds=0.5)
CRASHED = [
    pytest.param(a_pod(crashed_at=after(seconds=9)), False, id="ready again"),
    pytest.param(a_pod(is_ready=False), False, id="not ready for a moment, nothing is wrong"),
    pytest.param(a_broken_pod(), True, id="V13 says why"),
    pytest.param(a_broken_pod(crashed_at=after(seconds=9)), True, id="V13 crashed since"),
    pytest.param(a_broken_pod(crashed_at=NOW), True, id="V13 crashed within the same second"),
    pytest.param(
        a_broken_pod(crashed_at=ago(seconds=1)), False, id="what it says is of its start, long over"
    ),
]


@pytest.mark.parametrize(("pod", "is_so"), CRASHED)
def test_a_crash_is_not_a_pod_that_is_not_ready_for_a_moment(pod: Pod, is_so: bool) -> None:
    assert has_crashed(pod, NOW + HALF_A_SECOND) is is_so


TIES = [
    pytest.param(a_pod(ready_since=NOW), id="ready in the second in which it became healthy"),
    pytest.param(a_pod(crashed_at=NOW), id="its last crash was in that second"),
    pytest.param(a_broken_pod(finished_at=NOW), id="what it replaced ended in that second"),
]


@pytest.mark.parametrize("pod", TIES)
def test_a_tie_breaks_no_calm(pod: Pod) -> None:
    assert broken_calm(well(pods=(pod,)), NOW) == ()


def test_a_pod_is_what_replaced_one_that_ended_ten_seconds_before() -> None:
    ended = a_broken_pod(reason="Evicted", finished_at=ago(seconds=10))
    new = a_pod(is_ready=False, created_at=NOW)
    workload = a_workload(pods=(ended, new))
    assert failing_pods(workload, workload.revisions[0]) == (ended,)
