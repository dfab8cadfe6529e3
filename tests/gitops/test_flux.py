"""A Deployment that the real Flux applies, and what a rollback of it comes to."""

from collections.abc import Generator
from typing import Final

import pytest

from tests.e2e.stage import Stage, condition
from tests.gitops.conftest import OpenStage
from tests.gitops.flux import CONTROLLER, KUSTOMIZATIONS, NAMESPACE, Flux, Source
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
from tests.gitops.tools import FLUX
from tests.sandbox.build import Say
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.workloads import GOOD_IMAGE

LABELS: Final = KUSTOMIZATIONS.partition("/")[0]
PAUSED: Final = f"{LABELS}/reconcile"
PASSES: Final = 2


@pytest.fixture(scope="module")
def flux(sandbox: Sandbox, say: Say) -> Generator[Flux]:
    """The running controller."""
    with Flux(sandbox, say) as flux:
        yield flux


@pytest.fixture
def source(flux: Flux, namespace: str) -> Generator[Source]:
    """A source of the test's own, called like its namespace."""
    source = flux.source(namespace)
    yield source
    source.delete()


def pause_command(stage: Stage) -> str:
    where = f"deploy/{SERVICE} -n {stage.namespace}"
    return f"kubectl annotate {where} {PAUSED}=disabled --overwrite"


def test_the_crds_are_of_the_api_that_is_pinned() -> None:
    (named,) = [module for module, _ in FLUX.crds if "@" in module]
    module, version = named.split("@")
    pinned = (FLUX.module / "go.mod").read_text(encoding="utf-8")
    assert f"{module}/api {version} " in pinned


@pytest.mark.scenario("P6")
def test_refused_with_the_command_that_makes_the_next_one_go_through(
    open_stage: OpenStage, source: Source
) -> None:
    stage = open_stage(**CALM)
    release_a_bad_one(stage, source.commit)
    incident = stage.declare()

    why = refused(stage, stage.ask(incident=incident))
    assert f"Flux Kustomization {NAMESPACE}/{source.name} brings the bad revision back" in why
    assert pause_command(stage) in why
    assert f"flux suspend kustomization {source.name} -n {NAMESPACE}" in why
    source.wait_passes(1)
    assert stage.attempts() == []
    (note,) = stage.notes(incident)
    assert pause_command(stage) in note

    run(stage, pause_command(stage))
    status = rolled_back(stage, stage.ask(incident=incident))
    assert owner_of(status) == {
        "tool": "FluxKustomization",
        "name": source.name,
        "namespace": NAMESPACE,
        "evidence": f"labels {LABELS}: {NAMESPACE}/{source.name}",
        "reverts": "never",
    }
    source.wait_passes(PASSES)
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1
    assert (
        f"once it is no longer paused on this object ({PAUSED}: disabled"
        in (stage.notes(incident)[-1])
    )


@pytest.mark.scenario("V15")
def test_told_to_proceed_it_patches_once_and_says_who_reverted_it(
    open_stage: OpenStage, source: Source
) -> None:
    stage = open_stage(gitOps="Proceed", **LONG)
    release_a_bad_one(stage, source.commit)
    incident = stage.declare()
    name = stage.ask(incident=incident)
    status = stage.wait_phase(name, "Failed", "Reverted")
    assert f"was brought back by {CONTROLLER}" in message_of(status)
    assert pause_command(stage) in message_of(status)
    assert owner_of(status)["reverts"] == "certain"
    stage.wait_told(incident, f"was brought back by {CONTROLLER}")
    source.wait_passes(PASSES)
    assert stage.images() == [BROKEN_IMAGE]
    assert len(stage.patches()) == 1


@pytest.mark.scenario("V15")
def test_no_longer_paused_it_is_reverted_and_the_hold_says_so(
    open_stage: OpenStage, source: Source
) -> None:
    stage = open_stage(**{**CALM, "holdSeconds": 100})
    release_a_bad_one(stage, source.commit)
    run(stage, pause_command(stage))
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.sandbox.workloads.annotate(stage.namespace, SERVICE, {PAUSED: None})
    held = condition(stage.wait_settled(name), "Held")
    assert held is not None
    assert (held["status"], held["reason"]) == ("False", "Reverted")
    assert f"was brought back by {CONTROLLER}" in held["message"]
    stage.wait_told(incident, f"brought back by {CONTROLLER}")
    source.wait_passes(PASSES)
    assert stage.images() == [BROKEN_IMAGE]
    assert len(stage.patches()) == 1
