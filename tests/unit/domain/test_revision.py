"""Which revision to go back to; `S…` are the scenarios of the research notes."""

from typing import Any

import pytest

from incident_rollback.clients.translate import to_workload
from incident_rollback.crd.v1alpha1 import MAX_CANDIDATES, Aim
from incident_rollback.domain.moves import Refuse
from incident_rollback.domain.revision import Choice, choose_revision
from incident_rollback.domain.workload import Revision, Workload
from tests.builders import NOW, a_revision, a_workload, ago, hash_of
from tests.unit.clients.raw_objects import a_deployment, a_replica_set

LIVE_5 = a_revision(5, created_at=ago(minutes=10))


def on_top_of(*older: Revision) -> Workload:
    """Return a workload whose newest revision, 5, is the bad one."""
    return a_workload(LIVE_5, *older)


def a_past(number: int, days: float = 0, **changes: Any) -> Revision:
    """Return a revision that was made so many days ago; by default 5 minus its number, and 1."""
    return a_revision(number, created_at=ago(days=days or 6 - number), **changes)


def chosen(workload: Workload) -> Choice:
    choice = choose_revision(workload, None, ago(minutes=5))
    assert isinstance(choice, Choice)
    return choice


TOGGLED = a_workload(
    a_revision(5, created_at=ago(minutes=10)),
    a_past(4, history=(1,), days=9),  # back on A, when B was bad
    a_past(2, days=8),
)

CHOICES = [
    pytest.param(a_workload(), 1, True, id="S1 good, then bad: the good one"),
    pytest.param(
        on_top_of(a_past(4, days=0.02), a_past(3)), 3, True, id="S2 A, B bad, C bad: A, which dwelt"
    ),
    pytest.param(TOGGLED, 4, True, id="S2 A, B bad, back to A, C bad: A again, never B"),
    pytest.param(
        on_top_of(a_past(4), a_past(3, available=2)), 3, True, id="S3 pods that serve beat a number"
    ),
    pytest.param(
        on_top_of(a_past(4, days=0.06), a_past(3)),
        4,
        True,
        id="among those that dwelt, the newest",
    ),
    pytest.param(
        a_workload(a_revision(3, like=2, restarted="now"), a_revision(2), a_past(1)),
        1,
        True,
        id="S5 live, restarted: the revision before the restart is no other one",
    ),
    pytest.param(
        on_top_of(a_past(4, like=3, restarted="now", days=0.02), a_past(3), a_past(2, available=0)),
        4,
        True,
        id="S5 the good one was restarted just before: it has dwelt all the same",
    ),
    pytest.param(
        a_workload(a_revision(11), a_past(10, days=2), a_past(9, days=3)),
        10,
        True,
        id="S6 10 is newer than 9",
    ),
    pytest.param(
        on_top_of(a_past(0, days=2), a_past(4, days=3)), 4, True, id="S7 one without a number"
    ),
    pytest.param(
        on_top_of(
            a_past(4, like=3, pod_template_hash="newer", available=1),
            a_past(3, pod_template_hash="older", available=2),
        ),
        3,
        True,
        id="S9 of functionally equal ones the one whose pods serve",
    ),
    pytest.param(
        on_top_of(a_past(4, days=0.02), a_past(3, days=0.03)),
        4,
        False,
        id="nothing dwelt or serves: the newest, unproven",
    ),
    pytest.param(
        a_workload(
            a_revision(5, created_at=ago(minutes=1)),
            a_past(4, days=0.04, available=3),
            a_past(3, days=0.05),
        ),
        3,
        False,
        id="first current less than an hour before the incident: only if nothing else is left",
    ),
    pytest.param(
        a_workload(a_revision(2, created_at=ago(minutes=1)), a_past(1, days=0.01, available=3)),
        1,
        True,
        id="first current during the incident, and nothing else is left",
    ),
]


@pytest.mark.parametrize(("workload", "number", "is_proven"), CHOICES)
def test_the_last_healthy_revision(workload: Workload, number: int, is_proven: bool) -> None:
    choice = chosen(workload)
    assert (choice.revision.number, choice.is_proven) == (number, is_proven)
    assert ("unproven" in choice.why) is not is_proven


def test_s9_of_exact_duplicates_the_oldest() -> None:
    older = a_past(4, days=3, pod_template_hash="older")
    newer = a_past(4, days=2, pod_template_hash="newer")
    assert chosen(on_top_of(older, newer)).revision.pod_template_hash == "older"


def test_s7_s8_strangers_and_garbage_are_no_candidates() -> None:
    """As the API server has them: an orphan, another's ReplicaSet, one without a number."""
    replica_sets = [
        a_replica_set("4", "nginx:latest", pod_hash="bad"),
        a_replica_set("1", "nginx:1.18.0", pod_hash="good"),
        a_replica_set("3", "nginx:1.20.0", pod_hash="foreign", owner="another-uid"),
        a_replica_set("2", "nginx:1.19.0", pod_hash="orphan", owner=""),
        a_replica_set("two", "nginx:1.17.0", pod_hash="garbage"),
        a_replica_set(None, "nginx:1.16.0", pod_hash="without"),
    ]
    choice = choose_revision(to_workload(a_deployment(), replica_sets, []), None, NOW)
    assert isinstance(choice, Choice)
    assert choice.revision.pod_template_hash == "good"
    assert [c.revision for c in choice.candidates] == [1]


DWELL = [
    pytest.param(59, False, id="59 minutes are not an hour"),
    pytest.param(60, True, id="an hour is"),
]


@pytest.mark.parametrize(("minutes", "is_proven"), DWELL)
def test_it_is_trusted_after_an_hour(minutes: int, is_proven: bool) -> None:
    choice = chosen(a_workload(LIVE_5, a_revision(4, created_at=ago(minutes=10 + minutes))))
    assert choice.is_proven is is_proven


SUSPECT = [
    pytest.param(65, 4, id="an hour before the incident to the second: not suspect"),
    pytest.param(64, 3, id="less than an hour before: suspect"),
]


@pytest.mark.parametrize(("minutes", "number"), SUSPECT)
def test_what_came_in_the_hour_before_the_incident_is_suspect(minutes: int, number: int) -> None:
    """The incident began 5 minutes ago; revision 3 has nothing to show but its age."""
    new = a_revision(4, created_at=ago(minutes=minutes), available=3)
    old = a_revision(3, created_at=ago(minutes=minutes + 1))
    assert chosen(a_workload(LIVE_5, new, old)).revision.number == number


REFUSALS = [
    pytest.param(a_workload(a_revision(2)), "no other revision", id="S12 a single revision"),
    pytest.param(
        a_workload(a_revision(2), a_revision(0)), "no other revision", id="S11 none with a number"
    ),
    pytest.param(
        a_workload(a_revision(2), a_revision(1, like=2, restarted="then")),
        "no other revision",
        id="S5 nothing but restarts of the live one",
    ),
    pytest.param(
        a_workload(a_revision(3, history=(1,)), a_revision(2)),
        "somebody rolled back from it",
        id="S13 all that is left is marked bad",
    ),
]


@pytest.mark.parametrize(("workload", "why"), REFUSALS)
def test_nothing_to_roll_back_to(workload: Workload, why: str) -> None:
    refusal = choose_revision(workload, None, NOW)
    assert isinstance(refusal, Refuse)
    assert refusal.reason == "NothingToRollBackTo"
    assert why in refusal.message


EXPLICIT = [
    pytest.param(Aim(revision=4), 4, id="by number"),
    pytest.param(Aim(pod_template_hash=hash_of(3)), 3, id="by hash"),
]


@pytest.mark.parametrize(("aim", "number"), EXPLICIT)
def test_what_was_asked_for_is_taken_whatever_it_is(aim: Aim, number: int) -> None:
    workload = on_top_of(a_past(4, days=0.01), a_past(3, days=0.02))
    choice = choose_revision(workload, aim, NOW)
    assert isinstance(choice, Choice)
    assert choice.revision.number == number
    assert choice.why.startswith("it was asked for; ")
    assert [c.verdict for c in choice.candidates] == ["Chosen"]


def test_one_that_was_rolled_back_from_may_be_asked_for() -> None:
    workload = a_workload(a_revision(3, history=(1,)), a_revision(2))
    choice = choose_revision(workload, Aim(revision=2), NOW)
    assert isinstance(choice, Choice)


def test_s16_an_explicit_revision_that_is_not_there() -> None:
    refusal = choose_revision(a_workload(), Aim(revision=9), NOW)
    assert isinstance(refusal, Refuse)
    assert refusal.reason == "RevisionNotFound"
    assert "no revision 9 in its history" in refusal.message
    assert "kubectl rollout history deploy/checkout -n production" in refusal.fix


def test_s16_a_number_that_has_moved_is_followed_in_words_only() -> None:
    workload = a_workload(a_revision(4), a_revision(3, history=(1,)), a_revision(2))
    refusal = choose_revision(workload, Aim(revision=1), NOW)
    assert isinstance(refusal, Refuse)
    assert "what was revision 1 is revision 3 now" in refusal.message


PASSED_OVER = [
    pytest.param(
        a_past(4, days=0.01), "it was first live during the incident or less than", id="too new"
    ),
    pytest.param(a_past(2, available=0), "no pod of it serves", id="serves not"),
]


@pytest.mark.parametrize(("other", "why"), PASSED_OVER)
def test_whoever_is_passed_over_has_a_reason(other: Revision, why: str) -> None:
    revisions = sorted([other, a_past(3, available=3)], key=lambda r: -r.number)
    verdicts = {c.revision: c for c in chosen(on_top_of(*revisions)).candidates}
    assert verdicts[3].verdict == "Chosen"
    assert verdicts[other.number].verdict == "PassedOver"
    assert why in verdicts[other.number].why


def test_reasons_among_those_that_do_not_serve() -> None:
    choice = chosen(on_top_of(a_past(4, days=0.06), a_past(3), a_past(2, days=4)))
    assert [(c.revision, c.why) for c in choice.candidates] == [
        (4, "it ran 1 h 16 min before it was replaced"),
        (3, "it is older"),
        (2, "it is older"),
    ]
    short = chosen(on_top_of(a_past(4, days=0.05, available=0), a_past(3, days=0.0501), a_past(2)))
    assert (3, "it was not live for an hour") in [(c.revision, c.why) for c in short.candidates]


def test_candidates_are_bounded() -> None:
    many = [a_revision(n, created_at=ago(days=100 - n)) for n in range(40, 0, -1)]
    assert len(chosen(a_workload(*many)).candidates) == MAX_CANDIDATES
