"""
Two controllers, and the one that leads is stopped, killed, frozen, or cut off from its Lease.

What is asserted are events and their order, never how long they took.  Who leads is what a process
says of itself in its metrics; the Lease and the audit log are the witnesses.
"""

import http.client
import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import CONTROLLER_ACCOUNT, LEASE, Operator, Ours, Stage, names_in
from tests.sandbox.api import Json, path_to
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE

ROLE: Final = path_to(
    "rbac.authorization.k8s.io/v1", "roles", HOME_NAMESPACE, "incident-rollback-controller"
)
CALM: Final = {"stableSeconds": 4}
"""Long enough to lose who leads in it."""
PATIENT: Final = {"maxAgeSeconds": 600}
STRANGER: Final = "somebody-else"
LEADS: Final = re.compile(r"^incident_rollback_leader 1\.0$", re.MULTILINE)
TURNS: Final = re.compile(r"^incident_rollback_turns_total\{", re.MULTILINE)
TAKEN_UP: Final = "nobody has taken it up, so we do"
CUT_OFF: Final = "nobody can say who leads"


def leads(controller: Ours) -> bool:
    return LEADS.search(controller.metrics()) is not None


def wait_leads(controller: Ours) -> None:
    wait_for(
        lambda: leads(controller),
        f"{controller.name} to lead",
        seen=lambda: controller.log_tail(40),
    )


@dataclass(frozen=True)
class Ear:
    """Hears what a controller says from now on."""

    controller: Ours
    since: int

    @classmethod
    def at(cls, controller: Ours) -> "Ear":
        return cls(controller, len(controller.log_text()))

    def heard(self, what: str) -> bool:
        return what in self.controller.log_text()[self.since :]

    def wait(self, what: str) -> None:
        wait_for(
            lambda: self.heard(what),
            f"{self.controller.name} to say {what!r}",
            seen=lambda: self.controller.log_tail(40),
        )


@dataclass(frozen=True)
class Pair:
    """Two controllers; which one leads is for them to agree on."""

    operator: Operator
    second: Ours

    @property
    def both(self) -> tuple[Ours, Ours]:
        return self.operator.controller, self.second

    def roles(self) -> tuple[Ours, Ours]:
        """Return who leads and who stands by, as soon as there is one of each."""

        def told() -> tuple[Ours, Ours] | None:
            first, second = self.both
            match leads(first), leads(second):
                case True, False:
                    return first, second
                case False, True:
                    return second, first
                case _:
                    return None

        return wait_for(told, "one of the two to lead")


@pytest.fixture
def pair(operator: Operator) -> Generator[Pair]:
    """A second controller beside the one that all tests share; that one leads in the end."""
    first = operator.controller
    told = {key: value for key, value in first.env.items() if "FIREHYDRANT" in key or "LOG" in key}
    second = Ours.of(
        operator.sandbox.controller(
            service_account=CONTROLLER_ACCOUNT, name="controller-2", env=told
        )
    )
    operator.as_usual()
    second.begin()
    yield Pair(operator, second)
    for controller in (first, second):
        controller.proc.kill(signal.SIGCONT)
    second.stop()
    operator.as_usual()
    wait_leads(first)


def lease_of(operator: Operator) -> Json:
    spec: Json = operator.sandbox.api.get(LEASE)["spec"]
    return spec


def see_told_once(stage: Stage, incident: str) -> None:
    """One note of the start, one of the end, one change event; and one patch."""
    start, end = stage.notes(incident)
    assert start.startswith("Rolling checkout")
    assert "is back on" in end
    assert len(stage.changes(incident)) == 1
    assert len(stage.patches()) == 1
    assert stage.images() == [GOOD_IMAGE]


@contextmanager
def held(operator: Operator, by: str = STRANGER, **spec: Any) -> Generator[None]:
    """Have the Lease held by one who never renews it, and for so long that nobody waits for it."""
    api = operator.sandbox.api
    api.patch(LEASE, {"spec": {"holderIdentity": by, "leaseDurationSeconds": 60, **spec}})
    try:
        yield
    finally:
        api.delete(LEASE)


@contextmanager
def without_a_right_to_the_lease(operator: Operator) -> Generator[None]:
    api = operator.sandbox.api
    role = api.get(ROLE)
    role["metadata"].pop("resourceVersion")
    others = [rule for rule in role["rules"] if rule["resources"] != ["leases"]]
    assert others != role["rules"]
    api.replace(ROLE, {**role, "rules": others})
    try:
        yield
    finally:
        api.replace(ROLE, role)


# --- Side by side


def test_one_of_two_acts_and_both_are_ready(pair: Pair, stage: Stage) -> None:
    leader, standby = pair.roles()
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    see_told_once(stage, incident)
    assert [one.ask_ops("/readyz")[0] for one in pair.both] == [http.client.OK] * 2
    assert TURNS.search(leader.metrics())
    assert not TURNS.search(standby.metrics())


# --- Stopped


def test_stopped_in_the_middle_the_other_goes_on(pair: Pair, set_stage: SetStage) -> None:
    """It lets go of the Lease: the other need not wait for its end."""
    stage = set_stage(policy=CALM)
    leader, standby = pair.roles()
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_patch()
    stage.wait_told(incident, r"^Rolling checkout")
    before = lease_of(pair.operator)
    leader.stop()
    wait_leads(standby)
    after = lease_of(pair.operator)
    assert after["leaseTransitions"] == before["leaseTransitions"] + 1
    assert after["holderIdentity"] != before["holderIdentity"]
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    see_told_once(stage, incident)
    assert "let go of the Lease" in leader.log_text()


def test_stopped_while_a_note_is_on_its_way_it_is_told_once(
    pair: Pair, set_stage: SetStage
) -> None:
    """FireHydrant has it, and never said so: whoever leads next finds it."""
    stage = set_stage(policy=CALM)
    leader, standby = pair.roles()
    stage.break_it()
    incident = stage.declare()
    stage.operator.firehydrant.commit_then_time_out(1, f"POST .*/incidents/{incident}/notes")
    name = stage.ask(incident=incident)
    stage.wait_told(incident, r"^Rolling checkout")
    leader.stop()
    wait_leads(standby)
    stage.wait_settled(name)
    see_told_once(stage, incident)


# --- Killed


def test_killed_a_new_request_does_not_wait_for_the_end_of_the_lease(
    pair: Pair, stage: Stage
) -> None:
    leader, standby = pair.roles()
    stage.break_it()
    incident = stage.declare()
    ear = Ear.at(standby)
    leader.kill()
    with held(pair.operator, by=lease_of(pair.operator)["holderIdentity"]):
        name = stage.ask(incident=incident)
        stage.wait_phase(name, "Succeeded", "RolledBack")
        assert ear.heard(TAKEN_UP)
        assert not leads(standby)
    wait_leads(standby)
    stage.wait_settled(name)
    see_told_once(stage, incident)


def test_killed_in_the_middle_the_other_goes_on_at_the_end_of_the_lease(
    pair: Pair, set_stage: SetStage
) -> None:
    stage = set_stage(policy=CALM)
    leader, standby = pair.roles()
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_patch()
    stage.wait_told(incident, r"^Rolling checkout")
    leader.kill()
    wait_leads(standby)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_settled(name)
    see_told_once(stage, incident)


# --- Frozen


def test_frozen_before_a_note_and_awake_after_it_was_told_it_tells_nothing(
    pair: Pair, set_stage: SetStage
) -> None:
    """
    FireHydrant asks it to wait with the note, and it wakes when another has told it.

    That one has looked for the note, for a minute: where it came from it may be there already.
    """
    stage = set_stage(policy=CALM)
    leader, standby = pair.roles()
    firehydrant = stage.operator.firehydrant
    stage.break_it()
    incident = stage.declare()
    notes = f"POST .*/incidents/{incident}/notes"
    firehydrant.fail_next(429, 1, notes, retry_after=5)
    name = stage.ask(incident=incident)
    wait_for(lambda: firehydrant.asked(notes), "the first try to tell of the start")
    leader.proc.freeze()
    wait_for(lambda: leads(standby), "the other to lead")
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_told(incident, r"^Rolling checkout")
    stage.wait_told(incident, "is back on")
    ear = Ear.at(leader)
    leader.proc.kill(signal.SIGCONT)
    ear.wait("this controller stands by")
    stage.wait_settled(name)
    see_told_once(stage, incident)
    assert leads(standby)
    assert not leads(leader)


def test_frozen_between_claim_and_patch_it_patches_nothing_when_it_wakes(
    pair: Pair, set_stage: SetStage
) -> None:
    stage = set_stage(policy=PATIENT)
    leader, standby = pair.roles()
    stage.break_it()
    stage.hold_patches()
    name = stage.ask(incident=stage.declare())
    stage.wait_held(name)
    leader.proc.freeze()
    wait_for(lambda: leads(standby), "the other to lead")
    stage.let_patches()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    ear = Ear.at(leader)
    leader.proc.kill(signal.SIGCONT)
    ear.wait("this controller stands by")
    assert len(stage.patches()) == 1
    assert stage.images() == [GOOD_IMAGE]


# --- Cut off from the Lease


def test_without_a_right_to_the_lease_rollbacks_go_on_and_notes_wait(
    pair: Pair, stage: Stage
) -> None:
    """Both take turns then, and the rollback is one all the same."""
    incident = stage.declare()
    ears = [Ear.at(controller) for controller in pair.both]
    with without_a_right_to_the_lease(pair.operator):
        for ear in ears:
            ear.wait(CUT_OFF)
        stage.break_it()
        name = stage.ask(incident=incident)
        stage.wait_phase(name, "Succeeded", "RolledBack")
        assert stage.timeline(incident) == ()
        assert [leads(controller) for controller in pair.both] == [False, False]
        assert not stage.status(name)["settled"]
    pair.roles()
    stage.wait_settled(name)
    see_told_once(stage, incident)


def test_while_a_stranger_holds_the_lease_new_requests_go_on_and_notes_wait(
    operator: Operator, stage: Stage
) -> None:
    incident = stage.declare()
    stage.break_it()
    ear = Ear.at(operator.controller)
    with held(operator):
        ear.wait(f"this controller stands by: {STRANGER} leads")
        name = stage.ask(incident=incident)
        stage.wait_phase(name, "Succeeded", "RolledBack")
        assert stage.timeline(incident) == ()
        assert ear.heard(TAKEN_UP)
    wait_leads(operator.controller)
    stage.wait_settled(name)
    see_told_once(stage, incident)


def test_the_bridge_says_that_no_controller_is_there_and_keeps_the_request(
    operator: Operator, stage: Stage
) -> None:
    stage.break_it()
    incident = stage.declare()
    operator.controller.stop()
    long_ago = datetime.now(UTC) - timedelta(minutes=3, seconds=20)
    with held(operator, renewTime=f"{long_ago:%Y-%m-%dT%H:%M:%S.%fZ}"):
        delivery = wait_for(
            lambda: said_so(stage, incident), "the bridge to say that no controller is there"
        )
        (name,) = names_in(delivery)
        said = "no controller has been seen for 3 min "
        assert said in delivery.response_headers["x-incident-rollback"]
        assert delivery.json["message"].endswith("; the request is kept")
    operator.controller.begin()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert len(stage.patches()) == 1


def said_so(stage: Stage, incident: str) -> Any:
    """Run the step again; what the bridge knew of the Lease is some seconds old at most."""
    delivery = stage.step(incident=incident)
    return delivery if "no controller has been seen" in delivery.json["message"] else None
