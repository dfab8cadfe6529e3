from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Policy, RollbackEnvironment
from incident_rollback.domain.environment import (
    Place,
    find_place,
    find_workload,
    hears_incidents,
    owners_of,
)
from incident_rollback.domain.moves import Refuse
from incident_rollback.domain.workload import WorkloadRef
from tests.builders import HOME, a_place, a_rollback, an_environment, are_usable

PRODUCTION = an_environment()
ANY = an_environment("any", environments=("*",))
CAREFUL = Policy(max_age_seconds=60)
TARGET = {"name": "checkout"}


def asked(service: str = "checkout", environment: str = "production", **changes: Any) -> Any:
    return a_rollback(service={"name": service, "environment": environment}, **changes)


def mapped(namespace: str | None = None, **spec: Any) -> RollbackEnvironment:
    """Return an environment that names the workload of the service Checkout API."""
    workload = {"name": "checkout-v2", "namespace": namespace}
    return an_environment(services=({"name": "Checkout API", "workload": workload},), **spec)


def a_target(**changes: Any) -> Place:
    """Return where a targetRef of the namespace shop points."""
    return a_place(**{"environment": "", "namespace": "shop", "is_exact": True, **changes})


PLACES = [
    pytest.param(
        asked("Check Out", "Production"),
        [PRODUCTION],
        a_place(name="check-out"),
        id="names are compared as DNS labels",
    ),
    pytest.param(
        asked(),
        [an_environment(namespace="shop", policy=CAREFUL)],
        a_place(namespace="shop", policy=CAREFUL),
        id="an environment with a namespace and a policy of its own",
    ),
    pytest.param(
        asked("checkout  api"),
        [mapped()],
        a_place(name="checkout-v2", is_exact=True),
        id="a service with an entry",
    ),
    pytest.param(
        asked("checkout api"),
        [mapped("shop")],
        a_place(namespace="shop", name="checkout-v2", is_exact=True),
        id="an entry in another namespace",
    ),
    pytest.param(
        asked(environment="Staging 2"),
        [PRODUCTION, ANY],
        a_place(environment="staging-2", namespace="staging-2", mapped_by="any"),
        id='"*" is whatever no other object names',
    ),
    pytest.param(
        asked(),
        [an_environment(suspend=True)],
        a_place(suspended_by="incident-rollback/production"),
        id="the red switch",
    ),
    pytest.param(
        asked(namespace="production"), [PRODUCTION], a_place(), id="from the workload's namespace"
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [],
        a_target(mapped_by=""),
        id="a target: its own namespace, under the defaults",
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [an_environment(namespace="shop", policy=CAREFUL), ANY],
        a_target(policy=CAREFUL),
        id="a target: under the policy of what maps to its namespace",
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="production"),
        [an_environment(suspend=True)],
        a_target(namespace="production", suspended_by="incident-rollback/production"),
        id="a target: the environment of that name, and its red switch",
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [an_environment("any", environments=("*",), policy=CAREFUL)],
        a_target(mapped_by="any", policy=CAREFUL),
        id='a target: "*" maps to each namespace',
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [an_environment("any", environments=("*",), namespace="elsewhere", policy=CAREFUL)],
        a_target(mapped_by=""),
        id='a target: "*" with a namespace maps to that one alone',
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [
            an_environment(
                services=({"name": "Buy", "workload": {"namespace": "shop", "name": "checkout"}},),
                suspend=True,
            ),
            ANY,
        ],
        a_target(suspended_by="incident-rollback/production"),
        id="a target: an entry that leads to it counts, so that its red switch holds",
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [an_environment("staging", policy=CAREFUL)],
        a_target(mapped_by=""),
        id="a target: an environment of another name does not map to it",
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [
            an_environment(
                "staging",
                services=({"name": "Buy", "workload": {"namespace": "shop", "name": "billing"}},),
                suspend=True,
            ),
        ],
        a_target(mapped_by=""),
        id="a target: an entry for another workload of the namespace is no switch of it",
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [
            an_environment(
                "staging",
                services=({"name": "Buy", "workload": {"namespace": "x", "name": "checkout"}},),
                suspend=True,
            ),
        ],
        a_target(mapped_by=""),
        id="a target: nor one for a workload of that name elsewhere",
    ),
]


@pytest.mark.parametrize(("rollback", "environments", "place"), PLACES)
def test_where_a_request_points(
    rollback: IncidentRollback, environments: list[RollbackEnvironment], place: Place
) -> None:
    assert find_place(rollback, environments, HOME) == place


NOT_FOUND = [
    pytest.param(asked("結帳"), [PRODUCTION], "Refuse ServiceMissing", id="no letter or digit"),
    pytest.param(asked(""), [PRODUCTION], "Refuse ServiceMissing", id="no service"),
    pytest.param(asked(environment=""), [ANY], "Refuse EnvironmentNotMapped", id="no environment"),
    pytest.param(
        asked(environment="staging"), [PRODUCTION], "Wait EnvironmentNotMapped", id="not mapped yet"
    ),
    pytest.param(
        asked(),
        [PRODUCTION, an_environment("twin", environments=("Production",))],
        "Wait EnvironmentAmbiguous",
        id="two objects claim it: nobody acts there",
    ),
    pytest.param(
        asked(environment="staging"),
        [ANY, an_environment("all", environments=("*",))],
        "Wait EnvironmentAmbiguous",
        id='two claim "*"',
    ),
    pytest.param(
        asked(namespace="shop"), [PRODUCTION], "Refuse NotAllowed", id="from a foreign namespace"
    ),
    pytest.param(
        asked("checkout api", namespace="production"),
        [mapped("shop")],
        "Refuse NotAllowed",
        id="from the environment's namespace, for a workload in another",
    ),
    pytest.param(
        a_rollback(target_ref=TARGET, namespace="shop"),
        [an_environment(namespace="shop"), an_environment("twin", namespace="shop")],
        "Wait EnvironmentAmbiguous",
        id="a target under several policies",
    ),
    pytest.param(
        a_rollback(service=None), [], "Refuse NotAllowed", id="neither service nor target"
    ),
]


@pytest.mark.parametrize(("rollback", "environments", "move"), NOT_FOUND)
def test_a_request_that_points_nowhere(
    rollback: IncidentRollback, environments: list[RollbackEnvironment], move: str
) -> None:
    found = find_place(rollback, environments, HOME)
    assert not isinstance(found, Place)
    assert f"{type(found).__name__} {found.reason}" == move
    assert are_usable(found.message, found.fix)


def test_an_ambiguity_names_everybody() -> None:
    twins = [an_environment("b", environments=("x",)), an_environment("a", environments=("x",))]
    found = find_place(asked(environment="x"), twins, HOME)
    assert not isinstance(found, Place)
    assert "claim x: a, b" in found.message
    shop = a_rollback(target_ref=TARGET, namespace="shop")
    policies = [an_environment(namespace="shop"), an_environment("twin", namespace="shop")]
    target = find_place(shop, policies, HOME)
    assert not isinstance(target, Place)
    assert "claim shop: production, twin" in target.message


A, B = WorkloadRef("production", "a"), WorkloadRef("production", "b")
WORKLOADS = [
    pytest.param(a_place(), [], WorkloadRef("production", "checkout"), id="by its name"),
    pytest.param(a_place(), [A], A, id="by its label"),
    pytest.param(
        a_place(is_exact=True), [A, B], WorkloadRef("production", "checkout"), id="by an entry"
    ),
]


@pytest.mark.parametrize(("place", "labelled", "ref"), WORKLOADS)
def test_the_workload(place: Place, labelled: list[WorkloadRef], ref: WorkloadRef) -> None:
    assert find_workload(place, labelled) == ref


def test_several_labelled_workloads_are_all_named() -> None:
    found = find_workload(a_place(), [B, A])
    assert isinstance(found, Refuse)
    assert found.reason == "WorkloadAmbiguous"
    assert "labelled for checkout: a, b" in found.message
    assert "incidentrollback.dev/service" in found.fix


def test_owners_by_name_go_before_the_star() -> None:
    assert owners_of("production", [ANY, PRODUCTION]) == [PRODUCTION]
    assert owners_of("staging", [ANY, PRODUCTION]) == [ANY]
    assert owners_of("staging", [PRODUCTION]) == []


HEARS = [
    pytest.param(HOME, (), True, id="the home namespace"),
    pytest.param("shop", (), False, id="any other: whoever writes there must not reach incidents"),
    pytest.param("shop", ("shop",), True, id="one that is listed"),
]


@pytest.mark.parametrize(("namespace", "listed", "is_heard"), HEARS)
def test_who_may_speak_to_an_incident(
    namespace: str, listed: tuple[str, ...], is_heard: bool
) -> None:
    environments = [ANY, an_environment(incidents_from=listed)]
    assert hears_incidents(namespace, environments, HOME) is is_heard
