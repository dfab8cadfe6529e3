from datetime import timedelta

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Policy
from incident_rollback.domain.decision import decide
from incident_rollback.domain.moves import Claim, Refuse
from incident_rollback.domain.workload import Workload
from tests.builders import (
    a_broken_pod,
    a_pod,
    a_revision,
    a_rollback,
    a_workload,
    ago,
    an_incident,
    an_observation,
)

WEEK = timedelta(days=7)


def failing(of_live: str, of_target: str = "") -> Workload:
    """Return a workload whose live pods fail, and those of revision 1 for a given reason."""
    target = a_broken_pod(1, of_target) if of_target else a_pod(1)
    return a_workload(pods=(a_broken_pod(2, of_live), a_broken_pod(2, of_live), target))


def aged(days: float) -> Workload:
    return a_workload(
        a_revision(2, created_at=ago(days=days)),
        a_revision(1, created_at=ago(days=90), available=3),
    )


ASKED = [
    pytest.param(failing("OOMKilled", "OOMKilled"), "revision 1 are in OOMKilled as well", id="D7"),
    pytest.param(
        aged(7.1),
        "had run for 7 d 2 h when the incident began",
        id="the live one is over a week old",
    ),
]
GOES_ON = [
    pytest.param(failing("CrashLoopBackOff"), a_rollback(), id="only the live one fails"),
    pytest.param(
        failing("CrashLoopBackOff", "Unschedulable"), a_rollback(), id="they fail differently"
    ),
    pytest.param(aged(6.9), a_rollback(), id="the live one is younger than a week"),
    pytest.param(
        failing("OOMKilled", "OOMKilled"),
        a_rollback(to={"revision": 1}),
        id="whoever names the revision has been asked",
    ),
]


@pytest.mark.parametrize(("workload", "why"), ASKED)
def test_what_is_unlikely_to_help_asks_first(workload: Workload, why: str) -> None:
    move = decide(an_observation(None, workload))
    assert isinstance(move, Refuse)
    assert move.reason == "ApprovalRequired"
    assert why in move.message
    assert move.plan is not None
    assert "kubectl irb approve" in move.fix
    assert move.plan.digest in move.fix


@pytest.mark.parametrize(("workload", "rollback"), GOES_ON)
def test_what_may_help_goes_on(workload: Workload, rollback: IncidentRollback) -> None:
    assert isinstance(decide(an_observation(rollback, workload)), Claim)


def test_the_age_that_asks_is_the_policys() -> None:
    hour = Policy(max_release_age_seconds=3600)
    move = decide(an_observation(None, aged(1), policy=hour))
    assert isinstance(move, Refuse)
    assert isinstance(decide(an_observation(None, aged(1))), Claim)


def test_the_age_counts_to_the_beginning_of_the_incident() -> None:
    began = an_incident(startedAt=ago(days=5).isoformat())
    assert isinstance(decide(an_observation(a_rollback(incident=began), aged(7.1))), Claim)


def test_the_approved_plan_goes_on() -> None:
    asked = decide(an_observation(None, aged(8)))
    assert isinstance(asked, Refuse)
    assert asked.plan is not None
    approved = a_rollback(plan_digest=asked.plan.digest)
    assert isinstance(decide(an_observation(approved, aged(8))), Claim)
