"""
The API server away, the CRD gone, and our processes told to stop: nothing of that needs a person.

The operator comes back by itself, in the same process, and what it had begun goes on: each rollback
is one patch, whatever happened in the middle of it.
"""

import re
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import API_VERSION, ROLLBACKS, ROOT, Operator, Ours, Stage, names_in
from tests.sandbox.api import path_to
from tests.sandbox.controlplane import ControlPlane
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE

AWAY_SECONDS: Final = 20.0
"""Longer than any call of ours or of kopf's waits, and than the pauses between their tries."""
PATIENCE_OF_THE_BRIDGE: Final = 5.0
CALM: Final = {"stableSeconds": 5}
"""Long enough for the API server to go away in it."""
VERY_CALM: Final = {"stableSeconds": 600}
CRD: Final = path_to(
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    name=f"{ROLLBACKS}.{API_VERSION.partition('/')[0]}",
)
CRDS: Final = ROOT / "crds"

Fault = tuple[Callable[[ControlPlane], None], Callable[[ControlPlane], None]]
KILLED: Final = (ControlPlane.stop_api_server, ControlPlane.start_api_server)
FROZEN: Final = (ControlPlane.freeze_api_server, ControlPlane.thaw_api_server)


@pytest.fixture(
    params=[pytest.param(KILLED, id="killed"), pytest.param(FROZEN, id="frozen")],
)
def fault(request: pytest.FixtureRequest) -> Fault:
    """How the API server goes away, and how it comes back."""
    found: Fault = request.param
    return found


@contextmanager
def away(stage: Stage, fault: Fault, seconds: float = AWAY_SECONDS) -> Generator[None]:
    """Have the API server away for as long as the block, and for so long at least."""
    go, come = fault
    control_plane = stage.sandbox.control_plane
    began = time.monotonic()
    go(control_plane)
    try:
        yield
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    finally:
        come(control_plane)


@contextmanager
def same_process(*processes: Ours) -> Generator[None]:
    """See that what runs at the end of the block is what ran at its beginning."""
    before = [process.proc for process in processes]
    yield
    assert [process.proc for process in processes] == before
    assert all(process.proc.is_running() for process in processes)


def watch_starts(operator: Operator) -> float:
    """Return how often kopf was started, by our metrics."""
    found = re.search(
        r"^incident_rollback_watch_starts_total (\S+)$", operator.controller.metrics(), re.MULTILINE
    )
    assert found is not None
    return float(found[1])


def watch_ends(operator: Operator) -> int:
    """Return how often kopf has ended, by our log."""
    return operator.controller.log_text().count("kopf ended")


def is_ready(process: Ours) -> bool:
    return process.ask_ops("/readyz")[0] == 200


def break_and_ask(stage: Stage) -> str:
    stage.break_it()
    return stage.ask()


# --- The API server away


def test_the_api_server_away_in_mid_rollout_and_it_goes_on_by_itself(
    set_stage: SetStage, fault: Fault
) -> None:
    """And so does the bridge: what it could not store it may be sent again."""
    stage = set_stage(policy=CALM)
    operator = stage.operator
    stage.break_it()
    with same_process(operator.controller, operator.bridge):
        name = stage.ask()
        stage.wait_patch()
        meanwhile = stage.declare(name="Checkout is slow")
        with away(stage, fault):
            refused = stage.step(incident=meanwhile)
        assert refused.status == 503, refused
        assert PATIENCE_OF_THE_BRIDGE - 1 < refused.seconds < 2 * PATIENCE_OF_THE_BRIDGE
        assert int(refused.response_headers["retry-after"]) >= 1
        assert "send it again" in refused.response_headers["x-incident-rollback"]
        # 200 where a frozen API server has found the bridge's old request when it was thawed.
        delivery = stage.step(incident=meanwhile)
        assert delivery.status in (200, 202), delivery
        (again,) = names_in(delivery)
        stage.wait_phase(name, "Succeeded", "RolledBack")
        stage.wait_phase(again, "Succeeded", "AlreadyThere")
        assert len(stage.patches()) == 1
        see_the_next_one(stage)


def see_the_next_one(stage: Stage) -> None:
    """A second bad release after all that: rolled back like the first, by a second patch."""
    before = len(stage.patches())
    stage.wait_complete()
    stage.wait_phase(break_and_ask(stage), "Succeeded", "RolledBack")
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == before + 1


@pytest.mark.scenario("W7")
def test_the_api_server_away_between_claim_and_patch_and_it_is_patched_once(stage: Stage) -> None:
    stage.break_it()
    stage.hold_patches()
    name = stage.ask()
    stage.wait_held(name)
    with same_process(stage.operator.controller):
        with away(stage, KILLED, seconds=2.0):
            pass
        assert stage.patches() == []
        assert stage.images() == [BROKEN_IMAGE]
        stage.let_patches()
        stage.wait_phase(name, "Succeeded", "RolledBack")
    assert len(stage.patches()) == 1


# --- The CRD gone


@contextmanager
def no_crd(operator: Operator) -> Generator[None]:
    """Have the kind IncidentRollback missing for as long as the block."""
    api = operator.sandbox.api
    api.delete(CRD)
    wait_for(lambda: api.find(CRD) is None, "the CRD to be gone")
    try:
        yield
    finally:
        operator.sandbox.install(CRDS)


def test_the_crd_deleted_and_installed_again_and_the_next_request_is_done(stage: Stage) -> None:
    """All IncidentRollbacks are gone with it; kopf dies of it, and is started again."""
    operator = stage.operator
    starts, deaths = watch_starts(operator), watch_ends(operator)
    assert starts >= 1
    with same_process(operator.controller, operator.bridge):
        with no_crd(operator):
            # Not only unready: for that it may be enough that the API server was away before.
            wait_for(lambda: watch_ends(operator) > deaths, "kopf to die of it")
            wait_for(lambda: not is_ready(operator.controller), "the controller to say so")
        operator.controller.wait_ready()
        assert watch_starts(operator) > starts
        stage.wait_phase(break_and_ask(stage), "Succeeded", "RolledBack")
        assert len(stage.patches()) == 1
        see_the_next_one(stage)


def test_started_without_the_crd_and_ready_when_it_is_installed(stage: Stage) -> None:
    controller = stage.operator.controller
    controller.stop()
    with no_crd(stage.operator):
        controller.start(wait_ready=False)
        wait_for(
            lambda: "cannot be listed" in controller.log_text(),
            "the controller to say what is missing",
            seen=controller.log_text,
        )
        assert not is_ready(controller)
        assert watch_starts(stage.operator) == 0
    with same_process(controller):
        controller.wait_ready()
        assert watch_starts(stage.operator) >= 1
        stage.wait_phase(break_and_ask(stage), "Succeeded", "RolledBack")
    assert len(stage.patches()) == 1


# --- Told to stop


def end(process: Ours) -> int:
    """Send SIGTERM, and return the exit code."""
    process.proc.kill(signal.SIGTERM)
    return process.proc.wait()


def test_sigterm_in_mid_rollout_ends_with_0_and_the_next_one_goes_on(set_stage: SetStage) -> None:
    stage = set_stage(policy=VERY_CALM)
    name = break_and_ask(stage)
    stage.wait_patch()
    assert end(stage.operator.controller) == 0
    assert stage.status(name)["phase"] == "RollingBack"
    stage.map()  # Calm enough for tonight.
    stage.operator.start_controller()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert len(stage.patches()) == 1


def test_sigterm_while_waiting_ends_with_0_and_the_next_one_acts(stage: Stage) -> None:
    stage.break_it()
    stage.hold_patches()
    name = stage.ask()
    stage.wait_held(name)
    assert end(stage.operator.controller) == 0
    stage.let_patches()
    assert stage.patches() == []
    stage.operator.start_controller()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert len(stage.patches()) == 1


def test_sigterm_while_the_api_server_is_away_ends_both_with_0(stage: Stage, fault: Fault) -> None:
    operator = stage.operator
    name = break_and_ask(stage)
    stage.wait_patch()
    go, come = fault
    go(stage.sandbox.control_plane)
    try:
        codes = [end(operator.controller), end(operator.bridge)]
    finally:
        come(stage.sandbox.control_plane)
    assert codes == [0, 0]
    operator.as_usual()
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert len(stage.patches()) == 1
