"""
Kubernetes' own controllers lag behind, or never say how it went.

Until they have taken a change up, what they say is of the template before; where they say nothing
at all, a deadline of ours ends it.  They lag for as long as a test wants: they are frozen.
"""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import CONTROLLER_USER, Stage, condition
from tests.sandbox.api import path_to
from tests.sandbox.audit import AuditRecord
from tests.sandbox.simulation import BROKEN_IMAGE, WAITING
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import APPS, GOOD_IMAGE, OLDER_IMAGE, a_deployment, revision_of

NEWER_IMAGE: Final = "nginx:1.19.0"
CONTROLLERS: Final = "kube-controller-manager"
HOUR: Final = timedelta(hours=1)
NO_DEADLINE: Final = 2**31 - 1
"""progressDeadlineSeconds that Kubernetes takes for "none"."""
CANNOT_START: Final = "CreateContainerConfigError"
LOOKS: Final = 3
"""The first may be of a turn that had begun before; when the third is there the second is over."""


@contextmanager
def lagging(stage: Stage) -> Generator[None]:
    """Have Kubernetes' controllers do nothing for as long as the block."""
    controllers = stage.sandbox.control_plane.parts[CONTROLLERS]
    controllers.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        controllers.kill(signal.SIGCONT)


# --- Not taken up yet


@pytest.mark.scenario("P1")
def test_a_deploy_that_is_not_taken_up_is_waited_for(good_and_better: Stage) -> None:
    """Until it is, the good revision is the highest, and one step back would be one too far."""
    stage = good_and_better
    with lagging(stage):
        stage.sandbox.workloads.set_image(stage.namespace, stage.name, BROKEN_IMAGE)
        name = stage.ask("ours", to_revision=2)
        stage.wait_phase(name, "Pending", "NotObserved")
        assert stage.attempts() == []
    status = stage.wait_phase(name, "Succeeded", "RolledBack")
    assert (status["from"]["revision"], status["to"]["revision"]) == (3, 2)
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


@pytest.mark.scenario("V2")
def test_until_the_patch_is_taken_up_the_counts_are_not_believed(good_and_better: Stage) -> None:
    """All pods are available, as many as are wanted: but they are of the template before."""
    stage = good_and_better
    with lagging(stage):
        name = stage.ask("ours", to_revision=1)
        stage.wait_patch()
        wait_looked(stage)
        status, counts = stage.status(name), stage.deployment()["status"]
        assert counts["updatedReplicas"] == counts["availableReplicas"] == 3
        assert status["phase"] == "RollingBack"
        assert "healthySince" not in status
    stage.wait_phase(name, "Succeeded", "RolledBack")
    stage.wait_complete()
    assert stage.images() == [OLDER_IMAGE]
    assert len(stage.patches()) == 1


def wait_looked(stage: Stage) -> None:
    """Wait until the controller has looked at the workload and judged what it saw."""
    since = stage.sandbox.audit.mark()

    def looks() -> int:
        return sum(is_look(record, stage) for record in stage.sandbox.audit.records(since))

    wait_for(lambda: looks() >= LOOKS, f"{LOOKS} looks at {stage.name}", seen=looks)


def is_look(record: AuditRecord, stage: Stage) -> bool:
    what = (record.verb, record.resource, record.namespace, record.name)
    is_it = what == ("get", "deployments", stage.namespace, stage.name)
    return is_it and record.user == CONTROLLER_USER


@pytest.mark.scenario("W10")
def test_without_any_annotation_the_guards_fail_and_nothing_is_written(stage: Stage) -> None:
    """
    They go by a write of the status, which leaves the generation as it is.

    Their number is what the patch is guarded by; Kubernetes writes it again by itself.
    """
    stage.break_it()
    with lagging(stage):
        path = path_to(APPS, "deployments", stage.namespace, stage.name, "status")
        before = stage.sandbox.api.patch(path, {"metadata": {"annotations": None}})
        assert "annotations" not in before["metadata"]
        assert before["metadata"]["generation"] == before["status"]["observedGeneration"]
        name = stage.ask()
        wait_for(lambda: len(stage.attempts()) > 1, "the patch to be tried, and tried again")
        assert {record.code for record in stage.attempts()} == {422}
        now = stage.deployment()
        assert now["spec"] == before["spec"]
        assert "annotations" not in now["metadata"]
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


# --- Never a verdict


DEADLINES: Final = [
    pytest.param(None, id="V8 Kubernetes still waits"),
    pytest.param(NO_DEADLINE, id="V9 Kubernetes has no deadline"),
]


@pytest.mark.parametrize("deadline", DEADLINES)
def test_without_progress_and_without_a_verdict_our_own_deadline_ends_it(
    set_stage: SetStage, deadline: int | None
) -> None:
    """Revision 2 cannot start and is asked for all the same; then an hour passes, for us alone."""
    stage = set_stage(a_deployment(replicas=1, progress_deadline_seconds=deadline))
    deploy_what_cannot_start(stage)
    stage.break_it()
    name = stage.ask("ours", to_revision=2)
    stage.wait_patch()
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, 4)
    stage.sandbox.workloads.wait_waiting(stage.namespace, stage.name, CANNOT_START)
    assert stage.status(name)["phase"] == "RollingBack"
    stage.operator.controller.begin_again(ahead=HOUR)
    status = stage.wait_phase(name, "Failed", "VerifyDeadlineExceeded")
    ready = condition(status, "Ready")
    assert ready is not None
    assert "no progress for too long: 0 of 1 pod available" in ready["message"]
    assert f"1 of 1 pod in {CANNOT_START}" in ready["message"]
    assert has_given_up(stage) is False
    assert stage.images() == [NEWER_IMAGE]
    assert len(stage.patches()) == 1


def deploy_what_cannot_start(stage: Stage) -> None:
    before = revision_of(stage.deployment())
    template = {
        "metadata": {"annotations": {WAITING: CANNOT_START}},
        "spec": {"containers": [{"name": "app", "image": NEWER_IMAGE}]},
    }
    stage.sandbox.workloads.patch_template(stage.namespace, stage.name, template)
    stage.sandbox.workloads.wait_revision(stage.namespace, stage.name, before + 1)
    stage.sandbox.workloads.wait_waiting(stage.namespace, stage.name, CANNOT_START)


def has_given_up(stage: Stage) -> bool:
    """Say whether Kubernetes itself has; without a deadline it has no such condition."""
    found = condition(stage.deployment()["status"], "Progressing")
    return found is not None and found["status"] == "False"
