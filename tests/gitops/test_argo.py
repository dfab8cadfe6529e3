"""A Deployment that the real Argo CD syncs, and what a rollback of it comes to."""

from collections.abc import Generator
from typing import Final

import pytest

from tests.e2e.stage import Stage
from tests.gitops.argo import MANAGER, NAMESPACE, Application, ArgoCD
from tests.gitops.conftest import OpenStage
from tests.gitops.scene import (
    CALM,
    LONG,
    SERVICE,
    message_of,
    owner_of,
    refused,
    release_a_bad_one,
    rolled_back,
    run,
)
from tests.sandbox.api import Json
from tests.sandbox.build import Say
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE

SELF_HEAL: Final = {"selfHeal": True}
NO_SELF_HEAL: Final[Json] = {}
"""Automated all the same: an empty one is active, and an absent one is not."""


@pytest.fixture(scope="module")
def argo(sandbox: Sandbox, say: Say) -> Generator[ArgoCD]:
    """The running Argo CD."""
    with ArgoCD(sandbox, say) as argo:
        yield argo


@pytest.fixture
def application(argo: ArgoCD, namespace: str) -> Generator[Application]:
    """An Application of the test's own, called like its namespace."""
    application = argo.application(namespace)
    yield application
    application.delete()


@pytest.fixture
def blind(argo: ArgoCD) -> Generator[None]:
    """The operator may not look at Applications."""
    argo.forbid_to_look()
    yield
    argo.let_look()


def pause_command(application: Application) -> str:
    patch = """'{"spec":{"syncPolicy":{"automated":{"enabled":false}}}}'"""
    where = f"applications.argoproj.io {application.name} -n {NAMESPACE}"
    return f"kubectl patch {where} --type merge -p {patch}"


def the_owner(stage: Stage, application: Application, reverts: str, namespace: str) -> Json:
    tracked = f"{application.name}:apps/Deployment:{stage.namespace}/{SERVICE}"
    return {
        "tool": "ArgoCD",
        "name": application.name,
        "namespace": namespace,
        "evidence": f"annotation argocd.argoproj.io/tracking-id: {tracked}",
        "reverts": reverts,
    }


def see_it_stays(stage: Stage, application: Application, image: str) -> None:
    """See that Argo CD has looked since, and that nobody has changed anything."""
    for _ in range(2):
        application.refresh()
    assert stage.images() == [image]
    assert len(stage.patches()) == 1


@pytest.mark.scenario("P6")
def test_refused_with_the_command_that_makes_the_next_one_go_through(
    open_stage: OpenStage, application: Application
) -> None:
    stage = open_stage(**CALM)
    application.make(SELF_HEAL)
    release_a_bad_one(stage, application.commit)
    incident = stage.declare()

    why = refused(stage, stage.ask(incident=incident))
    assert f"Argo CD Application {NAMESPACE}/{application.name} brings the bad revision" in why
    assert "its self-heal is on" in why
    assert pause_command(application) in why
    (note,) = stage.notes(incident)
    assert pause_command(application) in note

    run(stage, pause_command(application))
    status = rolled_back(stage, stage.ask(incident=incident))
    assert owner_of(status) == the_owner(stage, application, "never", NAMESPACE)
    assert "its automated sync is paused" in stage.notes(incident)[-1]
    see_it_stays(stage, application, GOOD_IMAGE)
    assert application.sync_state() == "OutOfSync"


@pytest.mark.scenario("P6")
def test_without_self_heal_it_goes_on_and_says_that_a_sync_brings_it_back(
    open_stage: OpenStage, application: Application
) -> None:
    stage = open_stage(**CALM)
    application.make(NO_SELF_HEAL)
    release_a_bad_one(stage, application.commit)
    incident = stage.declare()
    status = rolled_back(stage, stage.ask(incident=incident))
    assert owner_of(status) == the_owner(stage, application, "possible", NAMESPACE)
    end = stage.notes(incident)[-1]
    assert "brings the bad revision back with the next commit, whatever that is about" in end
    assert "its sync is automated, its self-heal is off" in end
    see_it_stays(stage, application, GOOD_IMAGE)
    assert application.sync_state() == "OutOfSync"


@pytest.mark.scenario("V15")
def test_told_to_proceed_it_patches_once_and_says_who_reverted_it(
    open_stage: OpenStage, application: Application
) -> None:
    stage = open_stage(gitOps="Proceed", **LONG)
    application.make(SELF_HEAL)
    release_a_bad_one(stage, application.commit)
    incident = stage.declare()
    name = stage.ask(incident=incident)
    status = stage.wait_phase(name, "Failed", "Reverted")
    assert f"was brought back by {MANAGER}" in message_of(status)
    assert pause_command(application) in message_of(status)
    assert owner_of(status) == the_owner(stage, application, "certain", NAMESPACE)
    stage.wait_told(incident, f"was brought back by {MANAGER}")
    wait_for(lambda: application.sync_state() == "Synced", "Argo CD to call it synced")
    see_it_stays(stage, application, BROKEN_IMAGE)


@pytest.mark.usefixtures("blind")
def test_without_the_right_to_look_it_goes_on_and_says_that_it_could_not(
    open_stage: OpenStage, application: Application
) -> None:
    stage = open_stage(**CALM)
    application.make(NO_SELF_HEAL)
    release_a_bad_one(stage, application.commit)
    incident = stage.declare()
    status = rolled_back(stage, stage.ask(incident=incident))
    assert owner_of(status) == the_owner(stage, application, "possible", "")
    end = stage.notes(incident)[-1]
    assert "could not look at the Application" in end
    assert "with any later sync, and within seconds if its self-heal is on" in end
    see_it_stays(stage, application, GOOD_IMAGE)
