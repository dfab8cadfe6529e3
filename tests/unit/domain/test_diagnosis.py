from dataclasses import replace

import pytest

from incident_rollback.domain.diagnosis import availability, by, diagnose, how, look
from incident_rollback.domain.workload import Pod, Workload
from tests.builders import a_broken_pod, a_pod, a_revision, a_template, a_workload

CRASH = "CrashLoopBackOff"
DIAGNOSES = [
    pytest.param(
        (a_pod(), a_broken_pod(), a_broken_pod()),
        "2 of 3 pods in ImagePullBackOff",
        id="D1 how many, and why",
    ),
    pytest.param((a_broken_pod(),), "1 of 1 pod in ImagePullBackOff", id="one pod"),
    pytest.param(
        (a_broken_pod(reason="OOMKilled", exit_code=137),),
        "1 of 1 pod in OOMKilled (exit code 137)",
        id="D3 with the exit code",
    ),
    pytest.param(
        (a_broken_pod(reason=CRASH), a_broken_pod(), a_broken_pod(reason=CRASH)),
        "2 of 3 pods in CrashLoopBackOff",
        id="D8 the most frequent reason",
    ),
    pytest.param(
        (a_broken_pod(reason="SomethingNew"),), "1 of 1 pod in SomethingNew", id="D10 verbatim"
    ),
    pytest.param((a_pod(), a_pod(is_ready=False)), "1 of 2 pods ready", id="nothing is wrong yet"),
    pytest.param((a_broken_pod(is_deleting=True),), "", id="on its way out"),
    pytest.param((), "", id="no pods"),
]


@pytest.mark.parametrize(("pods", "said"), DIAGNOSES)
def test_diagnose(pods: tuple[Pod, ...], said: str) -> None:
    assert diagnose(a_workload(pods=pods), a_revision(2)) == said


def test_d5_pods_that_cannot_be_made_say_why_without_markup() -> None:
    revision = a_revision(2, failure="exceeded quota <b> @here " + "x" * 500)
    said = diagnose(a_workload(pods=()), revision)
    assert said.startswith("its pods cannot be made: exceeded quota &lt;b&gt; @\u200bhere xx")
    assert len(said) < 240


AVAILABILITY = [
    pytest.param(a_workload(health="healthy"), "3 of 3 pods available", id="all"),
    pytest.param(a_workload(health="healthy", wanted=1), "1 of 1 pod available", id="one"),
    pytest.param(
        a_workload(), "0 of 3 pods available", id="those of the old revision do not count"
    ),
    pytest.param(
        replace(a_workload(health="healthy"), wanted=2), "2 of 2 pods available", id="never 3 of 2"
    ),
    pytest.param(
        a_workload(template=a_template("new")), "0 of 3 pods available", id="no ReplicaSet yet"
    ),
]


@pytest.mark.parametrize(("workload", "said"), AVAILABILITY)
def test_availability(workload: Workload, said: str) -> None:
    assert availability(workload) == said


HOW = [
    pytest.param(
        a_workload(), "0 of 3 pods available, 3 of 3 pods in ImagePullBackOff", id="failing"
    ),
    pytest.param(a_workload(health="starting"), "0 of 3 pods available", id="starting"),
    pytest.param(a_workload(health="healthy"), "3 of 3 pods available", id="healthy"),
]


@pytest.mark.parametrize(("workload", "said"), HOW)
def test_how(workload: Workload, said: str) -> None:
    assert how(workload) == said


def test_by_names_the_writer_if_it_is_known() -> None:
    assert by(a_workload(template_writer="argocd <x>")) == " by argocd &lt;x&gt;"
    assert by(a_workload(template_writer="")) == ""


def test_look_is_a_command() -> None:
    assert look(a_workload()) == "look at its pods: kubectl describe deploy/checkout -n production"
