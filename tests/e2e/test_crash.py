"""
kill -9 before and after each write that touches a workload or its record, and another goes on.

The controller reaches the API server through a proxy, which ends it with the very request: before
the API server hears of it, or when it has carried it out and nobody has heard the answer.
"""

import signal
from collections.abc import Callable, Generator
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import CONTROLLER_ACCOUNT, ROLLBACKS, Operator, Stage, condition, keys_of
from tests.sandbox.api import Json
from tests.sandbox.credentials import write_kubeconfig
from tests.sandbox.proxy import Proxy, Request
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.waiting import PATIENCE_SECONDS
from tests.sandbox.workloads import GOOD_IMAGE

FROZEN: Final = ("target", "from", "to", "claimedAt")
"""What the claim freezes."""

IsIt = Callable[[Request], bool]


def status_in(request: Request) -> Json:
    """Return the status of an IncidentRollback that a request writes; empty for any other one."""
    path = request.path.partition("?")[0]
    is_write = request.method == "PUT" and f"/{ROLLBACKS}/" in path and path.endswith("/status")
    status: Json = request.body.get("status", {}) if is_write else {}
    return status


def in_phase(phase: str) -> IsIt:
    """Accept the first write of a phase."""
    return lambda request: status_in(request).get("phase") == phase


def is_patch_seen(request: Request) -> bool:
    status = status_in(request)
    return status.get("phase") == "RollingBack" and "patchedAt" in status


def is_held(request: Request) -> bool:
    return condition(status_in(request), "Held") is not None


def is_settled(request: Request) -> bool:
    return bool(status_in(request).get("settled"))


def is_patch(request: Request) -> bool:
    return (
        request.method == "PATCH"
        and "/deployments/" in request.path
        and "dryRun" not in request.path
    )


def event(kind: str, reason: str) -> IsIt:
    """Accept the post of an Event of this reason about an object of this kind."""

    def is_it(request: Request) -> bool:
        if request.method != "POST" or "/events" not in request.path:
            return False
        body: Json = request.body
        about: Json = body.get("regarding") or body.get("involvedObject") or {}
        return (about.get("kind"), body.get("reason")) == (kind, reason)

    return is_it


WRITES: Final = {
    "the claim": in_phase("RollingBack"),
    "the patch": is_patch,
    "the Event of its start": event("Deployment", "RollbackStarted"),
    "that the patch was seen": is_patch_seen,
    "the end": in_phase("Succeeded"),
    "the Event of its end": event("Deployment", "RollbackSucceeded"),
    "the end of the hold": is_held,
    "that all is over": is_settled,
}
CALM: Final = {"stableSeconds": 3}
"""Long enough for it to be written that the patch was seen."""


@pytest.fixture(scope="module")
def proxy(operator: Operator) -> Generator[Proxy]:
    """The way of every controller here to the API server."""
    control_plane, controller = operator.sandbox.control_plane, operator.controller
    direct = controller.env["KUBECONFIG"]
    with Proxy(control_plane.server, ca=control_plane.ca) as proxy:
        controller.env["KUBECONFIG"] = str(
            write_kubeconfig(
                control_plane.processes.path("through-a-proxy.kubeconfig"),
                server=proxy.url,
                ca=control_plane.ca,
                token=control_plane.token(HOME_NAMESPACE, CONTROLLER_ACCOUNT),
                namespace=HOME_NAMESPACE,
            )
        )
        controller.begin_again()
        yield proxy
        controller.env["KUBECONFIG"] = direct
        controller.begin_again()


def rolled_back(stage: Stage, proxy: Proxy, is_it: IsIt, *, is_after: bool) -> None:
    """Break it and ask, kill the controller at that write, and have another end what it began."""
    operator = stage.operator
    patches = len(stage.patches())
    stage.break_it()

    def kill() -> None:
        operator.controller.proc.kill(signal.SIGKILL)
        operator.controller.proc.wait()

    trap = proxy.set_trap(is_it, kill, is_after=is_after)
    name = stage.ask()
    assert trap.caught.wait(PATIENCE_SECONDS), f"it was not written:\n{operator.log()}"
    assert trap.passage is not None
    assert (trap.passage.status is not None) is is_after
    before = stage.status(name)
    operator.kill_controller()  # For the Lease; the process is dead.
    operator.start_controller()
    status = stage.wait_phase(name, "Succeeded", "RolledBack")
    if is_it in (is_held, is_settled):
        stage.wait_settled(name)
    assert len(stage.patches()) == patches + 1
    assert stage.images() == [GOOD_IMAGE]
    frozen = [key for key in FROZEN if key in before]
    assert {key: status[key] for key in frozen} == {key: before[key] for key in frozen}
    assert keys_of(status) == ["start", "end", "change"]


@pytest.mark.scenario("W7")
@pytest.mark.parametrize("is_it", WRITES.values(), ids=WRITES.keys())
def test_killed_before_a_write_and_after_it_another_ends_what_was_begun(
    proxy: Proxy, set_stage: SetStage, is_it: IsIt
) -> None:
    stage = set_stage(policy=CALM if is_it is is_patch_seen else None)
    rolled_back(stage, proxy, is_it, is_after=False)
    stage.wait_complete()
    rolled_back(stage, proxy, is_it, is_after=True)
