"""
Everything that can go wrong does, on a real control plane with real processes, by a fixed seed.

Nothing is lost by that and nothing is done twice; and the judge who says so is shown to see it when
something is.  `make chaos` is the same for half an hour and with another seed.
"""

from collections.abc import Generator
from typing import Any, Final

import httpx
import pytest

from tests.chaos.checker import Rollback
from tests.chaos.plan import plan
from tests.chaos.run import Run, a_run
from tests.chaos.scene import CONTROLLER_ACCOUNT
from tests.sandbox.api import Api, path_to
from tests.sandbox.build import say_on_stderr
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.workloads import APPS

SEED: Final = 558
SECONDS: Final = 40.0
MARKER: Final = "incidentrollback.dev/request"


@pytest.fixture(scope="module")
def run(pytestconfig: pytest.Config) -> Generator[Run]:
    """One run, judged; what is done to its record afterwards is for the tests to say."""
    capture: Any = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            say_on_stderr(line)

    with a_run(SEED, SECONDS, say) as run:
        yield run


def rolled_back(run: Run) -> Rollback:
    """Return one that has done what it was asked for, and told it."""
    return next(r for r in run.record.rollbacks if r.reason == "RolledBack" and r.incident)


def test_a_plan_depends_on_its_seed_alone() -> None:
    assert plan(SEED, SECONDS) == plan(SEED, SECONDS)
    assert plan(SEED, SECONDS) != plan(SEED + 1, SECONDS)


def test_nothing_is_lost_and_nothing_is_done_twice(run: Run) -> None:
    assert run.verdict.violations == (), f"the logs are in {run.keep()}"
    assert run.scene.firehydrant.violations == ()


def test_a_lot_has_happened(run: Run) -> None:
    """So that there was something to judge."""
    report = run.report()
    assert report["kills"]["ofTheseAtAWrite"] >= 1
    assert report["kills"]["SIGTERM"] >= 1
    assert report["freezes"]["processes"] >= 1
    assert report["cuts"]["waysToTheApiServer"] >= 1
    assert report["firehydrantFaults"] >= 1
    assert report["accepted"] >= 3
    assert report["patches"] >= 1
    assert report["updates"] >= 5


# --- The judge sees it.  From here on the record is not what it was.


def test_a_double_patch_is_seen(run: Run) -> None:
    """Somebody with our rights patches twice for a request that we have done already."""
    done, control_plane = rolled_back(run), run.scene.sandbox.control_plane
    namespace, _, name = done.workload.partition("/")
    path = path_to(APPS, "deployments", namespace, name)
    token = control_plane.token(HOME_NAMESPACE, CONTROLLER_ACCOUNT)
    with Api(control_plane.server, control_plane.ca, token) as as_us:
        for number in (1, 2):
            image = f"nginx:twice-{number}"
            steps = [
                ("/spec/template/spec/containers/0/image", image),
                (f"/metadata/annotations/{MARKER.replace('/', '~1')}", marker_of(done)),
            ]
            body = [{"op": "add", "path": path, "value": value} for path, value in steps]
            as_us.patch(path, body, "json")
    violations = run.look_again().violations
    assert f"{done.name} was patched for 3 times" in violations
    assert sum(f"{done.name} had ended before" in one for one in violations) == 2


def marker_of(done: Rollback) -> str:
    return f"{done.uid} {done.intent} 2026-11-23T02:14:00Z"


def test_a_lost_note_is_seen(run: Run) -> None:
    """A note that is not what it was is not there."""
    done, firehydrant = rolled_back(run), run.scene.firehydrant
    end = next(update.text for update in done.updates if update.key == "end")
    (note,) = (one for one in firehydrant.timeline(done.incident) if one.text == end)
    answer = httpx.patch(
        f"{firehydrant.url}/incidents/{done.incident}/notes/{note.id}",
        json={"body": "never mind"},
        headers={"Authorization": "Bearer fhb-somebody"},
    )
    assert answer.is_success
    assert f"end of {done.name} was not told" in run.look_again().violations
