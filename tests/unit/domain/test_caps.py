"""How many rollbacks at once, and how many within an hour; and that somebody always goes."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import permutations, product
from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Phase, Policy, TargetStatus
from incident_rollback.domain.caps import must_say_that_it_goes, over_the_cap
from incident_rollback.domain.decision import decide
from incident_rollback.domain.moves import Refuse, Wait
from tests.builders import (
    NOW,
    REF,
    UID,
    WORKLOAD_UID,
    a_condition,
    a_marker,
    a_place,
    a_rollback,
    a_status,
    a_workload,
    after,
    ago,
    an_observation,
    claimed,
    outcome,
)

ONE = Policy(max_concurrent=1)
ONE_AN_HOUR = Policy(max_per_hour=1)
LATER = after(seconds=30)
DIGEST = "sha256:" + "0" * 64


def a_target(**changes: Any) -> TargetStatus:
    """Return another workload of the same environment."""
    made = TargetStatus(environment="production", namespace=REF.namespace, name="cart", uid="cart")
    return made.model_copy(update=changes)


def another(
    reason: str = "RollingBack",
    phase: Phase = Phase.ROLLING_BACK,
    *,
    name: str = "cart",
    uid: str = "",
    **status: Any,
) -> IncidentRollback:
    """Return another request of the environment, of no incident, claimed a minute ago."""
    ready = (a_condition("Ready", "Unknown", reason),)
    known: dict[str, Any] = {"target": a_target(), "claimed_at": ago(minutes=1), **status}
    known.setdefault("conditions", ready)
    return a_rollback(
        name=name, uid=uid or f"uid-of-{name}", incident=None, status=a_status(phase, **known)
    )


def decided(rollback: IncidentRollback | None = None, **changes: Any) -> str:
    return outcome(decide(an_observation(rollback, **changes)))


UNDER_WAY = another(patched_at=ago(seconds=50))
OF_NO_NAME = a_target(environment="")

BEFORE_THE_CLAIM = [
    pytest.param(UNDER_WAY, "Wait TooManyAtOnce", id="another is under way"),
    pytest.param(another(), "Wait TooManyAtOnce", id="another has claimed, and is about to go"),
    pytest.param(another("TooManyAtOnce"), "Wait TooManyAtOnce", id="another waits for its turn"),
    pytest.param(another("TooManyThisHour"), "Wait TooManyAtOnce", id="or for the hour"),
    pytest.param(
        another("PermissionMissing"),
        "Wait TooManyAtOnce",
        id="who may not look does not know whether its patch is in",
    ),
    pytest.param(another("Paused"), "Claim 1", id="one that waits for a person takes no place"),
    pytest.param(another("Suspended"), "Claim 1", id="nor one that is suspended"),
    pytest.param(
        another("Paused", claimed_at=ago(seconds=1)),
        "Wait TooManyAtOnce",
        id="a claim of a moment ago counts whatever it says",
    ),
    pytest.param(another("Paused", claimed_at=ago(seconds=2)), "Claim 1", id="2 s are no moment"),
    pytest.param(
        another("Paused", patched_at=ago(seconds=9)),
        "Wait TooManyAtOnce",
        id="what is patched is under way, whatever it says",
    ),
    pytest.param(another(claimed_at=after(minutes=1)), "Wait TooManyAtOnce", id="by a late clock"),
    pytest.param(another(phase=Phase.PENDING), "Claim 1", id="one that has claimed nothing"),
    pytest.param(another(phase=Phase.SUCCEEDED), "Claim 1", id="one that has ended"),
    pytest.param(another(phase=Phase.FAILED), "Claim 1", id="one that has failed"),
    pytest.param(another(phase=Phase.REFUSED), "Claim 1", id="one that was refused"),
    pytest.param(another(target=None), "Claim 1", id="one without a target"),
    pytest.param(another(uid=UID), "Claim 1", id="that is we"),
    pytest.param(
        another(target=a_target(environment="staging")),
        "Claim 1",
        id="another environment, in whatever namespace",
    ),
    pytest.param(
        another(target=a_target(namespace="shop")),
        "Wait TooManyAtOnce",
        id="the same environment, in whatever namespace",
    ),
    pytest.param(
        another(target=OF_NO_NAME), "Wait TooManyAtOnce", id="a targetRef of the namespace"
    ),
    pytest.param(
        another(target=a_target(environment="", namespace="shop")),
        "Claim 1",
        id="a targetRef of another namespace",
    ),
]


@pytest.mark.parametrize(("other", "move"), BEFORE_THE_CLAIM)
def test_one_at_once_before_the_claim(other: IncidentRollback, move: str) -> None:
    assert decided(others=[other], policy=ONE) == move


@pytest.mark.parametrize(("other", "move"), BEFORE_THE_CLAIM)
def test_without_a_cap_nobody_waits(other: IncidentRollback, move: str) -> None:
    del move
    assert decided(others=[other, UNDER_WAY]) == "Claim 1"


A_TARGET_REF = a_rollback(target_ref={"name": "checkout"}, namespace="production")
BY_NAMESPACE = [
    pytest.param("production", "production", "Wait TooManyAtOnce", id="a service's"),
    pytest.param("", "production", "Wait TooManyAtOnce", id="another targetRef's"),
    pytest.param("production", "shop", "Claim 1", id="not of another namespace"),
]


@pytest.mark.parametrize(("environment", "namespace", "move"), BY_NAMESPACE)
def test_for_a_target_ref_the_namespace_is_the_environment(
    environment: str, namespace: str, move: str
) -> None:
    other = another(target=a_target(environment=environment, namespace=namespace))
    place = a_place(environment="", policy=ONE)
    assert decided(A_TARGET_REF, others=[other], place=place) == move


AFTER_THE_CLAIM = [
    pytest.param(UNDER_WAY, "Wait TooManyAtOnce", id="another is under way"),
    pytest.param(another(), "Wait TooManyAtOnce", id="an earlier claim may be about to go"),
    pytest.param(
        another(claimed_at=after(seconds=1)),
        "Wait TooManyAtOnce",
        id="so may a later one: it need not have seen ours",
    ),
    pytest.param(another("TooManyAtOnce"), "Wait TooManyAtOnce", id="an earlier one goes first"),
    pytest.param(
        another("TooManyAtOnce", claimed_at=after(seconds=1)),
        "Restore 1",
        id="a later one that waits comes after ours",
    ),
    pytest.param(
        another("TooManyThisHour", claimed_at=after(seconds=1)),
        "Restore 1",
        id="so does a later one that waits for the hour",
    ),
    pytest.param(
        another("TooManyAtOnce", uid="000", claimed_at=NOW),
        "Wait TooManyAtOnce",
        id="a tie: the lower uid goes first",
    ),
    pytest.param(
        another("TooManyAtOnce", uid="zzz", claimed_at=NOW),
        "Restore 1",
        id="a tie: ours is the lower uid",
    ),
    pytest.param(another("Paused"), "Restore 1", id="an earlier one that waits for a person"),
    pytest.param(
        another("TooManyAtOnce", claimed_at=after(seconds=29)),
        "Wait TooManyAtOnce",
        id="a claim of a moment ago counts whatever it says",
    ),
]


@pytest.mark.parametrize(("other", "move"), AFTER_THE_CLAIM)
def test_one_at_once_after_the_claim(other: IncidentRollback, move: str) -> None:
    assert decided(claimed(), others=[other], policy=ONE, now=LATER) == move


def made(minutes: float, phase: Phase = Phase.SUCCEEDED, **changes: Any) -> IncidentRollback:
    at = ago(minutes=minutes)
    known: dict[str, Any] = {"patched_at": at, "claimed_at": at, **changes}
    return another(phase=phase, **known)


WITHIN_THE_HOUR = [
    pytest.param(made(59), "Wait TooManyThisHour", id="one succeeded within the hour"),
    pytest.param(made(59, Phase.FAILED), "Wait TooManyThisHour", id="one failed: it changed it"),
    pytest.param(made(60), "Claim 1", id="an hour ago, to the second: over"),
    pytest.param(made(59, patched_at=None), "Claim 1", id="one that was there already"),
    pytest.param(made(9, Phase.REFUSED, patched_at=None), "Claim 1", id="one that was refused"),
    pytest.param(UNDER_WAY, "Wait TooManyThisHour", id="one is under way"),
    pytest.param(another(), "Wait TooManyThisHour", id="one is about to go"),
    pytest.param(another("Paused"), "Claim 1", id="one that waits for a person may never go"),
    pytest.param(
        made(61, Phase.ROLLING_BACK), "Claim 1", id="one of more than an hour ago still goes on"
    ),
    pytest.param(
        made(9, target=a_target(environment="staging")), "Claim 1", id="another environment"
    ),
    pytest.param(made(9, uid=UID), "Claim 1", id="that is we"),
]


@pytest.mark.parametrize(("other", "move"), WITHIN_THE_HOUR)
def test_one_an_hour(other: IncidentRollback, move: str) -> None:
    assert decided(others=[other], policy=ONE_AN_HOUR) == move


COUNTS = [
    pytest.param(Policy(max_concurrent=3), 2, 0, "Claim 1", id="one less than the cap"),
    pytest.param(Policy(max_concurrent=3), 3, 0, "Wait TooManyAtOnce", id="as many"),
    pytest.param(Policy(max_concurrent=3), 9, 0, "Wait TooManyAtOnce", id="the cap was lowered"),
    pytest.param(Policy(max_per_hour=3), 1, 1, "Claim 1", id="one less in the hour"),
    pytest.param(Policy(max_per_hour=3), 1, 2, "Wait TooManyThisHour", id="as many in the hour"),
    pytest.param(
        Policy(max_concurrent=1, max_per_hour=1), 1, 0, "Wait TooManyAtOnce", id="both: at once"
    ),
    pytest.param(
        Policy(max_concurrent=1, max_per_hour=1), 0, 1, "Wait TooManyThisHour", id="both: the hour"
    ),
]


@pytest.mark.parametrize(("policy", "open_", "ended", "move"), COUNTS)
def test_the_cap_is_counted(policy: Policy, open_: int, ended: int, move: str) -> None:
    others = [another(name=f"open-{n}", patched_at=ago(minutes=1)) for n in range(open_)]
    others += [made(30, name=f"ended-{n}") for n in range(ended)]
    assert decided(others=others, policy=policy) == move


OTHERS = [UNDER_WAY, made(5, name="billing")]
BOTH = Policy(max_concurrent=1, max_per_hour=1, cooldown_seconds=600)
SAID_FIRST = [
    pytest.param({}, {"opted_out": ""}, "Refuse OptedOut", id="a refusal is said at once"),
    pytest.param({"plan_digest": DIGEST}, {}, "Refuse PlanChanged", id="by the plan as well"),
    pytest.param({"to": {"revision": 9}}, {}, "Refuse RevisionNotFound", id="or the revision"),
    pytest.param({}, {"is_paused": True}, "Wait Paused", id="so is what a person can mend"),
    pytest.param({}, {"marker": a_marker(ago(minutes=1))}, "Wait CoolingDown", id="the cooldown"),
    pytest.param({"dry_run": True}, {}, "Preview 1", id="a preview changes nothing"),
    pytest.param({"to": {"revision": 1}}, {}, "Wait TooManyAtOnce", id="an explicit one waits too"),
    pytest.param({}, {}, "Wait TooManyAtOnce", id="only what would go waits for the cap"),
]


@pytest.mark.parametrize(("spec", "workload", "move"), SAID_FIRST)
def test_the_cap_comes_last(spec: dict[str, Any], workload: dict[str, Any], move: str) -> None:
    seen = an_observation(a_rollback(**spec), a_workload(**workload), others=OTHERS, policy=BOTH)
    assert outcome(decide(seen)) == move


def test_approval_is_asked_for_at_once_and_an_approved_plan_waits_too() -> None:
    asks = Policy(approval="Required", max_concurrent=1)
    move = decide(an_observation(policy=asks, others=OTHERS))
    assert isinstance(move, Refuse)
    assert move.reason == "ApprovalRequired"
    assert move.aim is not None
    approved = a_rollback(plan_digest=move.aim.plan.digest)
    assert decided(approved, policy=asks) == "Claim 1"
    assert decided(approved, policy=asks, others=OTHERS) == "Wait TooManyAtOnce"


def test_another_claim_of_the_same_workload_is_busy_first() -> None:
    other = another(target=a_target(uid=WORKLOAD_UID))
    assert decided(others=[other], policy=ONE) == "Wait Busy"


def test_its_time_is_over_and_it_is_refused_for_the_same_reason() -> None:
    waited = a_rollback(status=a_status(Phase.PENDING, target=None, claimed_at=None))
    assert decided(waited, others=[UNDER_WAY], policy=ONE, now=after(minutes=15)) == (
        "Refuse TooManyAtOnce"
    )
    assert decided(claimed(), others=[UNDER_WAY], policy=ONE, now=after(minutes=15)) == (
        "Refuse TooManyAtOnce"
    )


def a_wait(others: Sequence[IncidentRollback], policy: Policy, **seen: Any) -> Wait:
    move = over_the_cap(an_observation(others=others, policy=policy, **seen))
    assert move is not None
    return move


def named(*names: str) -> list[IncidentRollback]:
    return [another(name=name, patched_at=ago(minutes=1)) for name in names]


def test_it_says_who_comes_first_and_what_the_policy_allows() -> None:
    assert a_wait(named("b", "a"), Policy(max_concurrent=2)).message == (
        "production has 2 rollbacks (a, b) before this one, and its policy allows 2 at once "
        "(maxConcurrent)"
    )
    assert "has 1 rollback (a) before" in a_wait(named("a"), ONE).message
    assert "5 rollbacks (a, b, c and 2 more)" in a_wait(named(*"edcba"), ONE).message
    nameless = a_place(environment="", policy=ONE)
    assert "namespace production has" in a_wait(named("a"), ONE, place=nameless).message


def test_the_words_are_bounded_and_quoted() -> None:
    wait = a_wait(named(*("<" * 253 + str(n) for n in range(9))), ONE)
    assert "<" not in wait.message
    assert len(wait.message) < 1000


def test_it_says_when_there_is_room_again() -> None:
    others = [made(50, name="a"), made(40, name="b"), made(30, name="c")]
    assert "there is room again at 02:44:00" in a_wait(others, ONE_AN_HOUR).message
    assert "there is room again at 02:34:00" in a_wait(others, Policy(max_per_hour=2)).message
    assert a_wait(others, Policy(max_per_hour=3)).message == (
        "production has 3 rollbacks (a, b, c) within an hour, and its policy allows 3 "
        "(maxPerHour); there is room again at 02:24:00"
    )


def test_it_promises_no_room_while_one_is_about_to_go() -> None:
    assert "room again" not in a_wait([another(), made(5)], ONE_AN_HOUR).message
    assert "at 03:09:00" in a_wait([another(), made(5, name="a")], Policy(max_per_hour=2)).message


PAUSES = [
    pytest.param(a_rollback(), [UNDER_WAY], ONE, 5, id="many wait, and it takes a while"),
    pytest.param(a_rollback(), [made(30)], ONE_AN_HOUR, 15, id="the hour takes longer"),
    pytest.param(
        a_rollback(), [made(60, patched_at=ago(minutes=59, seconds=57))], ONE_AN_HOUR, 3, id="over"
    ),
    pytest.param(
        claimed(),
        [another(claimed_at=after(seconds=1))],
        ONE,
        1,
        id="a later claim is about to say that it waits for ours",
    ),
    pytest.param(claimed(), [UNDER_WAY], ONE, 5, id="an earlier claim is under way"),
    pytest.param(claimed(), [another()], ONE_AN_HOUR, 5, id="an earlier claim, by the hour"),
]


@pytest.mark.parametrize(("rollback", "others", "policy", "seconds"), PAUSES)
def test_it_looks_again(
    rollback: IncidentRollback, others: list[IncidentRollback], policy: Policy, seconds: float
) -> None:
    assert a_wait(others, policy, rollback=rollback).after == seconds


def waits(reason: str, **changes: Any) -> IncidentRollback:
    return claimed(conditions=(a_condition("Ready", "Unknown", reason),), **changes)


SAYS_SO = [
    pytest.param(waits("TooManyAtOnce"), ONE, True, id="it waited for its turn"),
    pytest.param(waits("Paused"), ONE_AN_HOUR, True, id="it waited for a person"),
    pytest.param(waits("Paused"), Policy(), False, id="nobody counts here"),
    pytest.param(waits("RollingBack"), ONE, False, id="it counts already"),
    pytest.param(waits("PermissionMissing"), ONE, False, id="that counts as well"),
    pytest.param(waits("Paused", patched_at=NOW), ONE, False, id="it is under way"),
    pytest.param(a_rollback(), ONE, False, id="nothing is claimed"),
]


@pytest.mark.parametrize(("rollback", "policy", "is_due"), SAYS_SO)
def test_who_waited_says_that_it_goes(
    rollback: IncidentRollback, policy: Policy, is_due: bool
) -> None:
    assert must_say_that_it_goes(an_observation(rollback, policy=policy)) is is_due


# --- somebody always goes ---


def a_claim(name: str, at: datetime, reason: str) -> IncidentRollback:
    target = a_target(uid=f"workload-{name}", name=name)
    return another(reason, name=name, claimed_at=at, target=target)


def crowds() -> Iterator[list[IncidentRollback]]:
    """Yield every crowd of three claims, none of them patched, in every order of the clock."""
    for reasons in product(("TooManyAtOnce", "TooManyThisHour", "Paused"), repeat=3):
        for minutes in permutations((1, 2, 3)):
            yield [
                a_claim(name, ago(minutes=ago_), reason)
                for name, ago_, reason in zip("abc", minutes, reasons, strict=True)
            ]


@pytest.mark.parametrize("policy", [ONE, ONE_AN_HOUR], ids=["at once", "within the hour"])
def test_of_those_that_wait_for_their_turn_exactly_one_may_go(policy: Policy) -> None:
    for crowd in crowds():
        in_turn = [c for c in crowd if c.status.conditions[0].reason != "Paused"]
        free = [
            mine
            for mine in in_turn
            if over_the_cap(an_observation(mine, others=crowd, policy=policy)) is None
        ]
        assert len(free) == min(1, len(in_turn))
        assert free == sorted(in_turn, key=lambda c: c.status.claimed_at or NOW)[:1]


def test_of_those_that_may_be_under_way_none_lets_another_pass() -> None:
    """Whoever counts for the others looks again before it goes, and then it counts them."""
    crowd = [a_claim(name, ago(minutes=1), "RollingBack") for name in "ab"]
    for mine in crowd:
        assert over_the_cap(an_observation(mine, others=crowd, policy=ONE)) is not None


def test_each_cap_names_the_setting_and_the_command() -> None:
    at_once, an_hour = a_wait(named("a"), ONE), a_wait([made(5)], ONE_AN_HOUR)
    assert "raise maxConcurrent: kubectl get rbenv -A" in at_once.fix
    assert "kubectl get irb -A" in at_once.fix
    assert "raise maxPerHour: kubectl get rbenv -A" in an_hour.fix
