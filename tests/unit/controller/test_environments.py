from typing import Any

import pytest

from incident_rollback.controller.environments import (
    NEEDED,
    EnvironmentCheck,
    claimed_twice,
    namespaces_of,
)
from incident_rollback.crd.v1alpha1 import Condition, RollbackEnvironment
from incident_rollback.errors import ConflictError, UnavailableError
from tests.builders import NOW, an_environment
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.store import FakeStore

PRODUCTION = an_environment()


class Desk:
    """A check over some environments, and a clock for how long ago it asked."""

    def __init__(self, *environments: RollbackEnvironment) -> None:
        self.seconds = 0.0
        self.store, self.cluster = FakeStore(), FakeCluster()
        for environment in environments:
            self.store.environments[environment.metadata.name] = environment
        self.check = EnvironmentCheck(
            self.store, self.cluster, FakeClock(), monotonic=lambda: self.seconds
        )

    async def look(self, name: str = "production") -> Condition:
        await self.check.run_once()
        (condition,) = self.store.environments[name].status.conditions
        return condition

    @property
    def asked(self) -> int:
        return self.cluster.calls.count("may")

    @property
    def saves(self) -> int:
        return self.store.calls.count("save environment")


async def test_ready_says_where_it_may_act() -> None:
    ready = await Desk(PRODUCTION).look()
    assert (ready.status, ready.reason) == ("True", "Ready")
    assert ready.message == "may act in production."
    assert (ready.last_transition_time, ready.observed_generation) == (NOW, 1)


async def test_they_are_counted_by_how_they_stand() -> None:
    desk = Desk(PRODUCTION, an_environment("any", environments=("*",)))
    await desk.check.run_once()
    assert desk.check.found == {"True": 1, "Unknown": 1}
    del desk.store.environments["any"]
    await desk.check.run_once()
    assert desk.check.found == {"True": 1}


async def test_a_red_switch_is_said() -> None:
    ready = await Desk(an_environment(suspend=True)).look()
    assert (ready.status, ready.reason) == ("False", "Suspended")
    assert "kubectl edit rbenv production -n incident-rollback" in ready.message


async def test_a_star_names_no_namespace() -> None:
    ready = await Desk(an_environment("any", environments=("*",))).look("any")
    assert (ready.status, ready.reason) == ("Unknown", "LookedAtWhenAsked")
    assert "a namespace of each environment's name" in ready.message


async def test_a_star_with_a_namespace_names_just_that() -> None:
    desk = Desk(an_environment("any", environments=("*",), namespace="shop"))
    assert (await desk.look("any")).message == "may act in shop."


async def test_permission_missing_names_verbs_and_namespace() -> None:
    desk = Desk(an_environment(namespace="shop"))
    desk.cluster.denied = {("shop", "patch", "deployments"), ("shop", "create", "events")}
    ready = await desk.look()
    assert (ready.status, ready.reason) == ("False", "PermissionMissing")
    assert "(in shop: patch deployments, create events)" in ready.message
    assert "or the namespace does not exist" in ready.message
    assert "Next: kubectl apply -k manifests/target-namespace" in ready.message


async def test_every_namespace_of_its_services_is_asked_about() -> None:
    workload = {"name": "checkout", "namespace": "shop"}
    desk = Desk(an_environment(services=({"name": "checkout", "workload": workload},)))
    desk.cluster.denied = {("shop", "get", "deployments")}
    assert "in shop: get deployments" in (await desk.look()).message
    assert desk.asked == 2 * len(NEEDED)


async def test_a_message_is_bounded() -> None:
    names = tuple(f"environment-with-a-long-name-{n}" for n in range(50))
    desk = Desk(an_environment(environments=names))
    desk.cluster.denied = {(name, "patch", "deployments") for name in names}
    assert len((await desk.look()).message) <= 1000


async def test_the_same_again_is_neither_asked_nor_written() -> None:
    desk = Desk(PRODUCTION)
    await desk.look()
    desk.seconds = 59
    await desk.look()
    assert (desk.asked, desk.saves) == (len(NEEDED), 1)


async def test_asked_again_once_a_minute() -> None:
    desk = Desk(PRODUCTION)
    await desk.look()
    desk.cluster.denied = {("production", "patch", "deployments")}
    desk.seconds = 60
    assert (await desk.look()).reason == "PermissionMissing"


async def test_asked_again_when_the_object_has_changed() -> None:
    desk = Desk(PRODUCTION)
    await desk.look()
    moved = an_environment(namespace="shop")
    generation = moved.metadata.model_copy(update={"generation": 2})
    desk.store.environments["production"] = moved.model_copy(update={"metadata": generation})
    ready = await desk.look()
    assert ready.message == "may act in shop."
    assert ready.observed_generation == 2


async def test_one_that_is_gone_is_forgotten() -> None:
    desk = Desk(PRODUCTION)
    await desk.look()
    desk.store.environments.clear()
    await desk.check.run_once()
    desk.store.environments["production"] = PRODUCTION
    await desk.look()
    assert desk.asked == 2 * len(NEEDED)


async def test_an_ambiguity_goes_before_a_permission_and_asks_nothing() -> None:
    desk = Desk(PRODUCTION, an_environment("twin", environments=("Production",)))
    ready = await desk.look()
    assert (ready.status, ready.reason) == ("False", "EnvironmentAmbiguous")
    assert "RollbackEnvironment twin claims production too: nobody acts there" in ready.message
    assert "production claims production too" in (await desk.look("twin")).message
    assert desk.asked == 0


async def test_one_that_cannot_be_written_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refusing(FakeStore):
        async def save_environment(self, environment: RollbackEnvironment) -> None:
            if environment.metadata.name == "a":
                raise ConflictError("written since")
            await super().save_environment(environment)

    store = Refusing(environments={n: an_environment(n) for n in ("a", "b")})
    await EnvironmentCheck(store, FakeCluster(), FakeClock()).run_once()
    assert store.environments["b"].status.conditions
    assert "the status of RollbackEnvironment a was not written" in caplog.text


async def test_an_api_server_that_does_not_answer_is_no_finding() -> None:
    desk = Desk(PRODUCTION)
    desk.cluster.down = UnavailableError("no answer")
    with pytest.raises(UnavailableError):
        await desk.check.run_once()
    assert desk.saves == 0


TWICE = [
    pytest.param({"environments": ("a",)}, {"environments": ("A",)}, True, id="the same label"),
    pytest.param({"environments": ("a",)}, {"environments": ("b",)}, False, id="another one"),
    pytest.param({"environments": ("*",)}, {"environments": ("*",)}, True, id='two times "*"'),
    pytest.param({"environments": ("a",)}, {"environments": ("*",)}, False, id='a name and "*"'),
]


@pytest.mark.parametrize(("one", "other", "is_so"), TWICE)
def test_claimed_twice(one: dict[str, Any], other: dict[str, Any], is_so: bool) -> None:
    first, second = an_environment("one", **one), an_environment("other", **other)
    assert (claimed_twice(first, [first, second]) is not None) is is_so


def test_namespaces() -> None:
    assert namespaces_of(an_environment(environments=("B", "a", "*"))) == ["a", "b"]
    assert namespaces_of(an_environment(namespace="shop", environments=("a",))) == ["shop"]


def test_the_permissions_that_are_asked_about_are_those_that_a_rollback_needs() -> None:
    assert set(NEEDED) == {
        ("get", "deployments"),
        ("list", "deployments"),
        ("patch", "deployments"),
        ("list", "replicasets"),
        ("list", "pods"),
        ("create", "events"),
    }
