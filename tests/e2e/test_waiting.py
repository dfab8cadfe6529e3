"""
What a person can mend is waited for: said once, acted on when it is mended, given up in time.

Each obstacle is a context manager: it is in the way inside the block, and mended at its end.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import (
    API_VERSION,
    CONTROLLER_USER,
    ENVIRONMENTS,
    TARGET_ROLE,
    Stage,
    condition,
    keys_of,
    names_in,
    reason_of,
)
from tests.sandbox.api import Json, path_to
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, a_deployment, images_of

SERVICE_LABEL: Final = "incidentrollback.dev/service"
MARKER: Final = "incidentrollback.dev/request"
LEGACY_ROLLBACK: Final = "deprecated.deployment.rollback.to"
OTHER_SERVICE: Final = "storefront"
CART: Final = "cart"
HOUR: Final = timedelta(hours=1)
BRIEF: Final = {"stableSeconds": 0, "holdSeconds": 0}
"""What comes after the patch is not what this is about."""
VERY_PATIENT: Final = {"maxAgeSeconds": 86_400}
ONE_AT_ONCE: Final = {**BRIEF, **VERY_PATIENT, "maxConcurrent": 1}
UNTIL_TOLD: Final = {"stableSeconds": 86_400}
"""A rollback that is under way until `end_calm`."""
QUIETLY: Final = frozenset({"NotObserved", "Busy", "TooManyAtOnce", "TooManyThisHour"})
"""Reasons to wait that are mostly over in a moment: the incident hears of those that last."""
LASTING: Final = timedelta(seconds=10)
"""So long after it was asked for, it may hear of them at once."""
LONG_COOLDOWN: Final = {**BRIEF, "cooldownSeconds": 2 * 3600}
STILL_COOLING_SECONDS: Final = 3

Obstacle = Callable[[Stage], AbstractContextManager[None]]


@pytest.fixture
def stage(set_stage: SetStage) -> Stage:
    """`checkout` of 3 pods, healthy, in an environment where a rollback is soon over."""
    return set_stage(policy=BRIEF)


# --- What may be in the way


@contextmanager
def paused(stage: Stage) -> Generator[None]:
    stage.sandbox.workloads.pause(stage.namespace, stage.name)
    yield
    stage.sandbox.workloads.resume(stage.namespace, stage.name)


@contextmanager
def suspended(stage: Stage) -> Generator[None]:
    stage.map(policy=BRIEF, suspend=True)
    yield
    stage.map(policy=BRIEF, suspend=False)


@contextmanager
def not_let_in(stage: Stage) -> Generator[None]:
    binding = path_to("rbac.authorization.k8s.io/v1", "rolebindings", stage.namespace, TARGET_ROLE)
    stage.sandbox.api.delete(binding)
    stage.wait_allowed("get", "deployments", allowed=False)
    yield
    stage.let_in()


@contextmanager
def no_patch_allowed(stage: Stage) -> Generator[None]:
    stage.forbid_patches()
    yield
    stage.allow_patches()


@contextmanager
def not_mapped(stage: Stage) -> Generator[None]:
    """No object names the environment, and none takes whatever is not named."""
    api = stage.sandbox.api
    wildcard = api.get(path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, "default"))
    api.delete(path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, "default"))
    try:
        stage.map(environments=[f"not-{stage.namespace}"])
        yield
        stage.map(policy=BRIEF)
    finally:
        metadata = {key: wildcard["metadata"][key] for key in ("name", "namespace", "labels")}
        body = {**wildcard, "metadata": metadata}
        api.create(path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE), body)


@contextmanager
def mapped_twice(stage: Stage) -> Generator[None]:
    with another_environment(stage, {"environments": [stage.namespace.upper()]}):
        yield


@contextmanager
def not_labelled(stage: Stage) -> Generator[None]:
    """No workload has the service's name, until one gets its label."""
    yield
    stage.sandbox.workloads.label(stage.namespace, stage.name, {SERVICE_LABEL: OTHER_SERVICE})


@contextmanager
def claimed_by_another(stage: Stage) -> Generator[None]:
    """Another request has claimed the workload, and waits: its environment is suspended."""
    environment = f"{stage.namespace}-too"
    spec = {"environments": [environment], "namespace": stage.namespace, "policy": VERY_PATIENT}
    with another_environment(stage, spec):
        stage.hold_patches()
        name = stage.request({"service": {"name": stage.name, "environment": environment}})
        stage.wait_held(name)
        put_environment(stage, {**spec, "suspend": True})
        stage.wait_phase(name, "RollingBack", "Suspended")
        stage.let_patches()
        yield
        stage.delete_request(name)


@contextmanager
def asked_of_kubernetes(stage: Stage) -> Generator[None]:
    """Somebody used Kubernetes' own, old way to roll back; paused, it acts on it later."""

    def write(value: str | None, *, is_paused: bool) -> None:
        body = {
            "metadata": {"annotations": {LEGACY_ROLLBACK: value}},
            "spec": {"paused": is_paused},
        }
        stage.sandbox.workloads.patch(stage.namespace, stage.name, body)

    write("1", is_paused=True)
    yield
    write(None, is_paused=False)


@contextmanager
def another_environment(stage: Stage, spec: Json) -> Generator[None]:
    """Have a second RollbackEnvironment for as long as the block."""
    put_environment(stage, spec)
    try:
        yield
    finally:
        stage.sandbox.api.delete(second_environment(stage))


def put_environment(stage: Stage, spec: Json) -> None:
    path = second_environment(stage)
    body = {
        "apiVersion": API_VERSION,
        "kind": "RollbackEnvironment",
        "metadata": {"name": path.rpartition("/")[2], "namespace": HOME_NAMESPACE},
        "spec": spec,
    }
    stage.sandbox.api.apply(path, body)


def second_environment(stage: Stage) -> str:
    return path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, f"{stage.namespace}-too")


@dataclass(frozen=True)
class Case:
    """Something in the way, and what is said of it."""

    obstacle: Obstacle
    reason: str
    says: str
    """Part of what is told; {namespace} is the stage's."""
    phase: str = "Pending"
    is_mapped: bool = True
    """Whether there is a policy that says how long it is waited; else that is 15 minutes."""
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the step."""

    @property
    def is_told(self) -> bool:
        """Whether the incident hears of it at once."""
        return self.reason not in QUIETLY


CASES: Final = [
    pytest.param(
        Case(paused, "Paused", "resume it: kubectl rollout resume deploy/checkout"),
        id="P3 paused",
    ),
    pytest.param(
        Case(suspended, "Suspended", "RollbackEnvironment {namespace} is suspended"),
        id="suspended",
    ),
    pytest.param(
        Case(
            not_let_in,
            "PermissionMissing",
            "deployments.apps in namespace {namespace}, or the namespace does not exist",
        ),
        id="not let into the namespace",
    ),
    pytest.param(
        Case(
            no_patch_allowed,
            "PermissionMissing",
            "may not patch deployments.apps in namespace {namespace}",
        ),
        id="let in but for the patch",
    ),
    pytest.param(
        Case(
            not_mapped,
            "EnvironmentNotMapped",
            "no RollbackEnvironment names the environment {namespace}",
            is_mapped=False,
        ),
        id="environment not mapped",
    ),
    pytest.param(
        Case(
            mapped_twice,
            "EnvironmentAmbiguous",
            "several RollbackEnvironments claim {namespace}: {namespace}, {namespace}-too",
            is_mapped=False,
        ),
        id="environment mapped twice",
    ),
    pytest.param(
        Case(
            not_labelled,
            "WorkloadNotFound",
            "there is no Deployment {namespace}/" + OTHER_SERVICE,
            how={"service": OTHER_SERVICE},
        ),
        id="no such workload",
    ),
    pytest.param(
        Case(
            claimed_by_another,
            "Busy",
            "is rolling deployment {namespace}/checkout back",
        ),
        id="claimed by another request",
    ),
    pytest.param(
        Case(
            asked_of_kubernetes,
            "Busy",
            "has the annotation deprecated.deployment.rollback.to",
        ),
        id="P13 asked of Kubernetes itself",
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_it_is_waited_for_said_once_and_acted_on_when_mended(stage: Stage, case: Case) -> None:
    stage.break_it()
    incident = stage.declare()
    with case.obstacle(stage):
        name = stage.ask(incident=incident, **case.how)
        see_waiting(stage, incident, name, case)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    status = stage.wait_settled(name)
    assert condition(status, "Reconciling") is None
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1
    waits = see_waits_told(stage, name, case)
    notes = stage.notes(incident)
    assert len([note for note in notes if is_waiting(note)]) == len(waits)
    assert [note[:7] for note in notes if not is_waiting(note)] == ["Rolling", notes[-1][:7]]
    assert f"is back on {GOOD_IMAGE}" in notes[-1]


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_for_the_same_reason_when_its_time_is_over(stage: Stage, case: Case) -> None:
    stage.break_it()
    incident = stage.declare()
    with case.obstacle(stage):
        before = stage.deployment()
        name = stage.ask(incident=incident, **case.how)
        stage.wait_phase(name, case.phase, case.reason)
        let_time_run_out(stage, name, is_mapped=case.is_mapped)
        see_given_up(stage, incident, name, case.reason)
        assert stage.deployment()["spec"] == before["spec"]
    see_all_quiet(stage, name)


def see_waiting(stage: Stage, incident: str, name: str, case: Case) -> None:
    """See what is said of the wait: in the conditions, and once on the incident."""
    told = case.says.format(namespace=stage.namespace)
    stage.wait_phase(name, case.phase, case.reason)
    if case.is_told:
        stage.wait_told(incident, "is not rolled back yet: ")
    look_again(stage, incident, name)
    notes = stage.notes(incident)
    status = stage.status(name)
    assert (status["phase"], reason_of(status)) == (case.phase, case.reason)
    ready, reconciling = condition(status, "Ready"), condition(status, "Reconciling")
    assert ready is not None
    assert reconciling is not None
    assert (ready["status"], reconciling["status"]) == ("Unknown", "True")
    assert told in ready["message"]
    assert "I act by myself as soon as that is over, until " in ready["message"]
    assert "Next: " in ready["message"]
    kinds = [found["type"] for found in status["conditions"] if found["type"] != "Reported"]
    assert kinds == ["Ready", "Reconciling"]
    waits = see_waits_told(stage, name, case)
    assert set(keys_of(status)) <= {"start", *waits}  # The start is told with the patch.
    assert case.is_told <= len(notes) <= len(waits)
    assert all(is_waiting(note) and told in note for note in notes)
    assert stage.patches() == []
    assert stage.images() == [BROKEN_IMAGE]
    assert MARKER not in stage.deployment()["metadata"]["annotations"]


def see_waits_told(stage: Stage, name: str, case: Case) -> list[str]:
    """See which waits are told: this one, once, and others only if they last; return their keys."""
    rollback = stage.rollback(name)
    updates = rollback["status"].get("updates", [])
    waits = {u["key"]: u for u in updates if u["key"].startswith("waiting-")}
    quiet = {key: u for key, u in waits.items() if key.removeprefix("waiting-") in QUIETLY}
    assert [*(waits.keys() - quiet.keys())] == [f"waiting-{case.reason}"] * case.is_told
    asked_at = datetime.fromisoformat(rollback["metadata"]["creationTimestamp"])
    for update in quiet.values():
        assert datetime.fromisoformat(update["decidedAt"]) - asked_at >= LASTING
    return [*waits]


def let_time_run_out(stage: Stage, name: str, *, is_mapped: bool = True) -> None:
    """Have what has waited be too old: by another policy or, where none is known, by the clock."""
    if not is_mapped:
        stage.operator.controller.begin_again(ahead=HOUR)
        return
    path = path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, stage.namespace)
    stage.sandbox.api.patch(path, {"spec": {"policy": {"maxAgeSeconds": 0}}})
    touch(stage, name)


def see_given_up(stage: Stage, incident: str, name: str, reason: str) -> None:
    """See that the wait ended in a refusal, and that this was told as well."""
    stage.wait_phase(name, "Refused", reason)
    status = stage.wait_settled(name)
    ready = condition(status, "Ready")
    assert ready is not None
    assert "its time is over" in ready["message"]
    assert "patchedAt" not in status
    last = stage.notes(incident)[-1]
    assert "its time is over. Nothing was changed." in last
    assert stage.changes(incident) == {}


def see_all_quiet(stage: Stage, name: str) -> None:
    """See that a refusal stays one when the obstacle is gone, with nothing changed."""
    assert stage.status(name)["phase"] == "Refused"
    assert stage.patches() == []
    assert stage.images() == [BROKEN_IMAGE]


def is_waiting(note: str) -> bool:
    return "is not rolled back yet: " in note


def look_again(stage: Stage, incident: str, name: str) -> None:
    """
    Have the controller take a turn that begins and ends after this call.

    A turn before the patch asks for all rollbacks of the incident.  The first of these may have
    begun before; the second has not, and when the third is there it is over.
    """
    for number in range(3):
        since = stage.sandbox.audit.mark()
        touch(stage, name, str(number))
        stage.sandbox.audit.wait_for(
            lambda record: (
                record.user == CONTROLLER_USER and f"incident.id%3D{incident}" in record.uri
            ),
            f"another look at {name}",
            since=since,
        )


def touch(stage: Stage, name: str, value: str = "") -> None:
    """Change something that means nothing: the controller hears of it, and looks."""
    labels = {"metadata": {"labels": {"example.com/touched": f"{value}x"}}}
    stage.sandbox.api.patch(stage.path_of(name), labels)


# --- After the claim


AFTER_THE_CLAIM: Final = [
    pytest.param(Case(suspended, "Suspended", "is suspended", "RollingBack"), id="suspended"),
    pytest.param(Case(paused, "Paused", "is paused", "RollingBack"), id="P3 paused"),
    pytest.param(
        Case(
            not_mapped,
            "EnvironmentNotMapped",
            "no RollbackEnvironment names",
            "RollingBack",
            is_mapped=False,
        ),
        id="not mapped any more",
    ),
]


@pytest.fixture
def claimed(stage: Stage) -> tuple[Stage, str, str]:
    """A claim that is stored, and its patch is held up: stage, incident, name."""
    stage.break_it()
    stage.hold_patches()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_held(name)
    return stage, incident, name


@pytest.mark.parametrize("case", AFTER_THE_CLAIM)
def test_after_the_claim_it_is_waited_for_and_acted_on_when_mended(
    claimed: tuple[Stage, str, str], case: Case
) -> None:
    stage, incident, name = claimed
    with case.obstacle(stage):
        stage.wait_phase(name, case.phase, case.reason)
        stage.let_patches()
        look_again(stage, incident, name)
        assert reason_of(stage.status(name)) == case.reason
        assert stage.patches() == []
        stage.wait_told(incident, case.says)
        # That it is being rolled back is told after the patch.
        assert all(map(is_waiting, stage.notes(incident)))
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert len(stage.patches()) == 1
    assert stage.images() == [GOOD_IMAGE]


@pytest.mark.parametrize("case", AFTER_THE_CLAIM)
def test_after_the_claim_it_is_refused_when_its_time_is_over(
    claimed: tuple[Stage, str, str], case: Case
) -> None:
    stage, incident, name = claimed
    with case.obstacle(stage):
        stage.wait_phase(name, case.phase, case.reason)
        stage.let_patches()
        let_time_run_out(stage, name, is_mapped=case.is_mapped)
        see_given_up(stage, incident, name, case.reason)
    see_all_quiet(stage, name)


# --- The workload comes later


def test_deployed_after_it_was_asked_for_it_is_left_alone(stage: Stage) -> None:
    """Whoever deploys it now is at work on it, and there is no earlier revision anyway."""
    incident = stage.declare()
    name = stage.ask(incident=incident, service=OTHER_SERVICE)
    stage.wait_phase(name, "Pending", "WorkloadNotFound")
    asked_at = datetime.fromisoformat(stage.rollback(name)["metadata"]["creationTimestamp"])
    wait_for(
        lambda: datetime.now(UTC) > asked_at + timedelta(seconds=1),
        "the clock to show another second",
    )
    stage.sandbox.workloads.deploy(a_deployment(OTHER_SERVICE, stage.namespace, replicas=1))
    stage.wait_phase(name, "Refused", "ChangedSinceRequest")
    note = stage.wait_told(incident, "Nothing was changed").text
    assert f"{GOOD_IMAGE} came to deployment {stage.namespace}/{OTHER_SERVICE}" in note
    ours = [record for record in stage.writes() if record.resource == "deployments"]
    assert ours == []


# --- Another rollback


@pytest.fixture
def rolled_back(stage: Stage) -> Stage:
    """It was rolled back a moment ago, and the next bad release is out."""
    stage.break_it()
    stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    stage.wait_complete()
    stage.break_it()
    assert len(stage.patches()) == 1
    return stage


def test_a_second_bad_release_waits_for_the_cooldown_and_is_rolled_back_then(
    rolled_back: Stage,
) -> None:
    stage, incident = rolled_back, rolled_back.declare()
    stage.map(policy=LONG_COOLDOWN)
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Pending", "CoolingDown")
    note = stage.wait_told(incident, "is not rolled back yet: ").text
    assert "and is left alone until " in note
    assert "--to-revision N" in note
    look_again(stage, incident, name)
    assert len(stage.patches()) == 1
    seconds = int((datetime.now(UTC) - last_rollback(stage)).total_seconds())
    stage.map(policy={**BRIEF, "cooldownSeconds": seconds + STILL_COOLING_SECONDS})
    touch(stage, name)
    over_at = last_rollback(stage) + timedelta(seconds=seconds + STILL_COOLING_SECONDS)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    _, second = stage.patches()
    assert second.received_at >= over_at
    assert stage.images() == [GOOD_IMAGE]
    stage.wait_settled(name)
    assert len([n for n in stage.notes(incident) if "and is left alone until " in n]) == 1


def last_rollback(stage: Stage) -> datetime:
    """Return when it was rolled back last, by our marker."""
    marker: str = stage.deployment()["metadata"]["annotations"][MARKER]
    return datetime.fromisoformat(marker.split()[-1])


def test_the_cooldown_is_longer_than_the_request_counts_and_it_is_refused(
    rolled_back: Stage,
) -> None:
    stage, incident = rolled_back, rolled_back.declare()
    stage.map(policy=LONG_COOLDOWN)
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Pending", "CoolingDown")
    let_time_run_out(stage, name)
    see_given_up(stage, incident, name, "CoolingDown")
    assert len(stage.patches()) == 1
    assert stage.images() == [BROKEN_IMAGE]


def test_whoever_names_the_revision_does_not_wait_for_the_cooldown(rolled_back: Stage) -> None:
    stage = rolled_back
    stage.map(policy=LONG_COOLDOWN)
    status = stage.wait_phase(stage.ask("ours", to_revision=3), "Succeeded", "RolledBack")
    assert status["updates"][0]["key"] == "start"
    assert len(stage.patches()) == 2


def test_another_request_has_claimed_it_and_is_gone_so_this_one_acts(
    claimed: tuple[Stage, str, str],
) -> None:
    stage, _, first = claimed
    incident = stage.declare(name="Checkout is slow")
    second = stage.ask(incident=incident)
    status = stage.wait_phase(second, "Pending", "Busy")
    ready = condition(status, "Ready")
    assert ready is not None
    assert f"{first} is rolling deployment {stage.namespace}/{stage.name} back" in ready["message"]
    stage.delete_request(first)
    stage.wait_held(second)
    stage.let_patches()
    stage.wait_phase(second, "Succeeded", "RolledBack")
    (patch,) = stage.patches()
    assert stage.rollback(second)["metadata"]["uid"] in str(patch.request_object)


def test_another_request_has_claimed_it_and_does_it_so_this_one_changes_nothing(
    claimed: tuple[Stage, str, str],
) -> None:
    stage, _, first = claimed
    second = stage.ask(incident=stage.declare(name="Checkout is slow"))
    stage.wait_phase(second, "Pending", "Busy")
    stage.let_patches()
    stage.wait_phase(first, "Succeeded", "RolledBack")
    stage.wait_phase(second, "Succeeded", "AlreadyThere")
    assert len(stage.patches()) == 1


# --- The caps of the environment


@pytest.fixture
def two_bad(stage: Stage) -> Stage:
    """`checkout` and `cart` are both out with a bad release."""
    cart = a_deployment(CART, stage.namespace, replicas=1)
    stage.sandbox.workloads.deploy(cart)
    stage.sandbox.workloads.set_image(stage.namespace, CART, BROKEN_IMAGE)
    stage.break_it()
    stage.sandbox.workloads.wait_waiting(stage.namespace, CART, "CrashLoopBackOff", pods=1)
    return stage


def test_of_two_asked_for_at_once_one_goes_and_the_other_follows_by_itself(two_bad: Stage) -> None:
    stage = two_bad
    stage.map(policy={**ONE_AT_ONCE, **UNTIL_TOLD})
    incident = stage.declare(services=[stage.name, CART])
    names = names_in(stage.step("ours", incident=incident))
    first, second = in_turn(stage, names)
    stage.wait_status(first, lambda status: "healthySince" in status, "healthy")
    note = stage.wait_told(incident, "is not rolled back yet: ").text
    assert f"{stage.namespace} has 1 rollback ({first}) before this one" in note
    assert "its policy allows 1 at once (maxConcurrent)" in note
    look_again(stage, incident, second)
    assert reason_of(stage.status(second)) == "TooManyAtOnce"
    assert "patchedAt" not in stage.status(second)
    assert sorted(images_of_both(stage)) == sorted([GOOD_IMAGE, BROKEN_IMAGE])
    stage.end_calm(**ONE_AT_ONCE)
    stage.wait_phase(first, "Succeeded", "RolledBack")
    stage.wait_phase(second, "Succeeded", "RolledBack")
    stage.wait_settled(second)
    assert images_of_both(stage) == [GOOD_IMAGE, GOOD_IMAGE]
    assert len([note for note in stage.notes(incident) if is_waiting(note)]) == 1


def in_turn(stage: Stage, names: list[str]) -> list[str]:
    """
    Wait until one of two has gone and the other waits for it; return their names in that order.

    Until one is patched, the one that has not said yet that it waits may be the one that will.
    """

    def in_order() -> list[str] | None:
        statuses = {name: stage.status(name) for name in names}
        gone = [name for name, status in statuses.items() if "patchedAt" in status]
        waits = [name for name, status in statuses.items() if reason_of(status) == "TooManyAtOnce"]
        return [*gone, *waits] if len(gone) == len(waits) == 1 else None

    return wait_for(in_order, f"one of {names} to go and the other to wait")


def images_of_both(stage: Stage) -> list[str]:
    cart = stage.sandbox.workloads.deployment(stage.namespace, CART)
    return [*stage.images(), *images_of(cart)]


def test_another_environment_is_not_affected_by_the_cap_of_one(two_bad: Stage) -> None:
    stage = two_bad
    stage.map(policy={**ONE_AT_ONCE, **UNTIL_TOLD})
    stage.wait_phase(stage.ask(), "RollingBack", "RollingBack")
    waits = stage.ask(incident=stage.declare(services=[CART]))
    stage.wait_phase(waits, "Pending", "TooManyAtOnce")
    environment = f"{stage.namespace}-too"
    spec = {
        "environments": [environment],
        "namespace": stage.namespace,
        "policy": ONE_AT_ONCE,
    }
    with another_environment(stage, spec):
        name = stage.request({"service": {"name": CART, "environment": environment}})
        stage.wait_phase(name, "Succeeded", "RolledBack")
    assert reason_of(stage.status(waits)) == "TooManyAtOnce"


def test_two_an_hour_the_third_waits_and_is_refused_when_its_time_is_over(two_bad: Stage) -> None:
    """One by hand for the workload itself, and one for a service: both count."""
    stage = two_bad
    stage.map(policy={**BRIEF, **VERY_PATIENT, "maxPerHour": 2})
    by_hand = stage.request()
    stage.wait_phase(by_hand, "Succeeded", "RolledBack")
    by_step = stage.ask(incident=stage.declare(services=[CART]))
    stage.wait_phase(by_step, "Succeeded", "RolledBack")
    stage.wait_complete()
    stage.break_it()
    incident = stage.declare(name="Checkout is slow again")
    third = stage.ask(incident=incident)
    stage.wait_phase(third, "Pending", "TooManyThisHour")
    note = stage.wait_told(incident, "is not rolled back yet: ").text
    both = ", ".join(sorted([by_hand, by_step]))
    assert f"{stage.namespace} has 2 rollbacks ({both}) within an hour" in note
    assert "there is room again at " in note
    look_again(stage, incident, third)
    let_time_run_out(stage, third)
    see_given_up(stage, incident, third, "TooManyThisHour")
    assert len(stage.patches()) == 1
    assert stage.images() == [BROKEN_IMAGE]
