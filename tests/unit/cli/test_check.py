from datetime import datetime
from typing import Any

import pytest

from incident_rollback.cli.check import (
    Finding,
    check_data,
    check_page,
    depth_of,
    exit_of,
    judge_environment,
    judge_service,
    look_for_controllers,
    namespaces_of,
    pairs_of,
)
from incident_rollback.cli.options import Exit
from incident_rollback.cli.page import Grid
from incident_rollback.cli.rehearsal import Rehearsal
from incident_rollback.crd.v1alpha1 import (
    Condition,
    Phase,
    RollbackEnvironment,
    RollbackEnvironmentStatus,
)
from incident_rollback.domain.lease import Lease
from incident_rollback.domain.workload import Workload
from incident_rollback.errors import ForbiddenError, UnavailableError
from tests.builders import (
    HOME,
    NOW,
    a_revision,
    a_rollback,
    a_status,
    a_workload,
    ago,
    an_environment,
)
from tests.fakes.leases import FakeLeases


def judged(status: Any, *, at: datetime = NOW, seen: int = 1, **spec: Any) -> RollbackEnvironment:
    """Return an environment of generation 1 as the controller has judged it."""
    ready = Condition(
        type="Ready",
        status=status,
        reason="Ready" if status == "True" else "PermissionMissing",
        message="may act in production.",
        last_transition_time=at,
    )
    verdict = RollbackEnvironmentStatus(observed_generation=seen, conditions=(ready,))
    return an_environment(**spec).model_copy(update={"status": verdict})


ENVIRONMENTS = [
    pytest.param(judged("True"), True, "may act in production.", id="the controller says yes"),
    pytest.param(judged("True", at=ago(minutes=15)), True, "may act in production.", id="just now"),
    pytest.param(
        judged("True", at=ago(days=3)),
        True,
        "may act in production. (so since 3 d)",
        id="an old verdict stands, with its age",
    ),
    pytest.param(
        judged("False"), False, "PermissionMissing: may act in production.", id="it says no"
    ),
    pytest.param(
        an_environment(), False, "the controller has not looked at it: is it running?", id="nothing"
    ),
    pytest.param(
        judged("True", seen=0),
        False,
        "the controller has not looked at it since it was changed: is it running?",
        id="it speaks of what it was",
    ),
    pytest.param(
        judged("True", suspend=True),
        False,
        "its red switch is on: set spec.suspend to false",
        id="suspended: nothing would be done tonight",
    ),
]


@pytest.mark.parametrize(("environment", "is_ready", "message"), ENVIRONMENTS)
def test_an_environment_is_ready_as_the_controller_found_it(
    environment: RollbackEnvironment, is_ready: bool, message: str
) -> None:
    found = judge_environment(environment, NOW)
    assert (found.is_ready, found.message) == (is_ready, message)


def an_entry(name: str = "Checkout API", **workload: Any) -> dict[str, Any]:
    return {"name": name, "workload": {"name": "checkout", **workload}}


PAIRS = [
    pytest.param({"services": [an_entry()]}, ["production"], id="the environment's own namespace"),
    pytest.param(
        {"environments": ["EU", "US"], "services": [an_entry()]},
        ["eu", "us"],
        id="each environment has its own namespace",
    ),
    pytest.param(
        {"environments": ["EU", "US"], "namespace": "shop", "services": [an_entry()]},
        ["eu"],
        id="one namespace is looked at once",
    ),
    pytest.param(
        {"environments": ["EU", "US"], "services": [an_entry(namespace="shop")]},
        ["eu"],
        id="a workload with a namespace, too",
    ),
    pytest.param({"environments": ["*"], "services": [an_entry()]}, [], id="* leads anywhere"),
    pytest.param({}, [], id="no services are listed"),
]


@pytest.mark.parametrize(("spec", "names"), PAIRS)
def test_each_workload_is_looked_at_once(spec: dict[str, Any], names: list[str]) -> None:
    assert [pair.environment for pair in pairs_of(an_environment(**spec))] == names


def test_a_star_with_a_namespace_is_asked_for_by_a_name_that_nobody_has() -> None:
    given = an_environment(environments=["*"], services=[an_entry(namespace="shop")])
    (pair,) = pairs_of(given)
    assert pair.environment.startswith("check-")


NAMESPACES = [
    pytest.param({}, ["production"], id="the environment's name"),
    pytest.param({"namespace": "shop"}, ["shop"], id="the one that is given"),
    pytest.param({"environments": ["EU", "US"]}, ["eu", "us"], id="one for each name"),
    pytest.param(
        {"environments": ["EU", "US"], "namespace": "shop"}, ["shop"], id="one namespace once"
    ),
    pytest.param({"environments": ["*"]}, [], id="* leads anywhere"),
    pytest.param({"environments": ["*"], "namespace": "shop"}, ["shop"], id="* with a namespace"),
    pytest.param({"environments": ["*", "EU"]}, ["eu"], id="* beside a name"),
]


@pytest.mark.parametrize(("spec", "namespaces"), NAMESPACES)
def test_where_labelled_services_are_looked_for(
    spec: dict[str, Any], namespaces: list[str]
) -> None:
    assert [*namespaces_of(an_environment(**spec)).values()] == namespaces


def rehearsal(phase: Phase, workload: Workload | None, **status: Any) -> Rehearsal:
    ready = Condition(type="Ready", status="False", reason="Paused", message="it is paused")
    given = a_status(phase, conditions=(ready,), **status)
    return Rehearsal(a_rollback(status=given), workload, needs_approval=False, now=NOW)


SERVICES = [
    pytest.param(
        rehearsal(Phase.PREVIEWED, a_workload()), True, 2, "would go back to revision 1", id="good"
    ),
    pytest.param(
        rehearsal(Phase.SUCCEEDED, a_workload()), True, 2, "Paused: it is paused", id="back already"
    ),
    pytest.param(
        rehearsal(Phase.REFUSED, a_workload()), False, 2, "Paused: it is paused", id="refused"
    ),
    pytest.param(rehearsal(Phase.REFUSED, None), False, 0, "Paused: it is paused", id="not found"),
    pytest.param(
        rehearsal(Phase.REFUSED, a_workload(a_revision(2))),
        False,
        1,
        "its history has 1 of 2 different revisions: there is nothing to go back to yet",
        id="too shallow",
    ),
]


@pytest.mark.parametrize(("seen", "is_ready", "depth", "message"), SERVICES)
def test_a_service_is_ready_if_its_rehearsal_works(
    seen: Rehearsal, is_ready: bool, depth: int, message: str
) -> None:
    environment = an_environment(services=[an_entry()])
    (pair,) = pairs_of(environment)
    found = judge_service(environment, pair, seen)
    assert (found.is_ready, found.revisions, found.message) == (is_ready, depth, message)
    assert (found.service, found.workload) == ("Checkout API", "production/checkout")


def test_a_restart_makes_a_history_no_deeper() -> None:
    assert depth_of(a_workload(a_revision(3, like=2), a_revision(2))) == 1


def test_the_page_counts_what_is_not_ready() -> None:
    findings = [judge_environment(e, NOW) for e in (judged("True"), judged("False"))]
    grid, _, end = check_page(findings, HOME)
    assert isinstance(grid, Grid)
    assert [row[3] for row in grid.rows] == ["yes", "no"]
    assert end == "1 of 2 not ready"
    assert check_page(findings[:1], HOME)[-1] == "All of it would work now."
    assert [one["ready"] for one in check_data(findings)] == [True, False]


def test_no_environment_is_said() -> None:
    assert check_page([], HOME) == [
        f"There is no RollbackEnvironment in {HOME}: no service leads to a workload."
    ]


# --- the controllers


MAY_NOT = "alice may not get leases in namespace incident-rollback"
LEASES = [
    pytest.param(
        FakeLeases(Lease("pod-1", renewed_at=ago(seconds=2))), True, "leads: pod-1", id="one leads"
    ),
    pytest.param(
        FakeLeases(Lease("pod-1", renewed_at=ago(minutes=9))),
        False,
        "no controller has been seen since 2026-11-23 02:05:00 UTC (9 min): ",
        id="dead",
    ),
    pytest.param(FakeLeases(), False, "no controller has ever led here: ", id="no Lease"),
    pytest.param(
        FakeLeases(down=ForbiddenError(MAY_NOT)),
        None,
        f"whether a controller is there is not known: {MAY_NOT}",
        id="whoever asks may not read Leases",
    ),
]


@pytest.mark.parametrize(("leases", "is_ready", "message"), LEASES)
async def test_controllers_are_there_as_their_lease_says(
    leases: FakeLeases, is_ready: bool | None, message: str
) -> None:
    found = await look_for_controllers(leases, NOW, HOME)
    assert found.is_ready is is_ready
    assert found.message.startswith(message)
    assert ("LEADER_ELECT=false here" in found.message) is (is_ready is False)
    assert (found.environment, found.workload) == ("", f"{HOME}/incident-rollback-controller")
    assert [one["ready"] for one in check_data([found])] == [is_ready]


async def test_a_cluster_that_is_away_is_no_finding() -> None:
    with pytest.raises(UnavailableError):
        await look_for_controllers(FakeLeases(down=UnavailableError("away")), NOW, HOME)


ENDS = [
    pytest.param(True, "True", Exit.FINE, "All of it would work now.", id="all is well"),
    pytest.param(False, "True", Exit.NO, "1 of 2 not ready", id="no controller is there"),
    pytest.param(None, "False", Exit.NO, "1 of 2 not ready", id="a no weighs more than unknown"),
    pytest.param(
        None,
        "True",
        Exit.WRONG_USE,
        "All that you may look at would work now; of the rest nothing is known.",
        id="whether a controller is there nobody knows: not allowed",
    ),
]


@pytest.mark.parametrize(("is_there", "environment", "code", "end"), ENDS)
def test_the_end_of_the_page_and_the_exit_code_agree(
    is_there: bool | None, environment: str, code: Exit, end: str
) -> None:
    controllers = Finding("", "", "home/controller", is_there, 0, "", "")
    findings = [controllers, judge_environment(judged(environment), NOW)]
    page = check_page(findings, HOME)
    assert (exit_of(findings), page[-1]) == (code, end)
    assert isinstance(page[0], Grid)
    shown = {True: "yes", False: "no", None: "unknown"}[is_there]
    assert page[0].rows[0][:4] == ("-", "-", "home/controller", shown)


@pytest.mark.parametrize("is_there", [True, None])
def test_a_controller_alone_would_do_nothing_tonight(is_there: bool | None) -> None:
    findings = [Finding("", "", "home/controller", is_there, 0, "", "")]
    assert exit_of(findings) is Exit.NO
    assert check_page(findings, HOME)[-1] == check_page([], HOME)[0]
