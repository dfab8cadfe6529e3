"""
What happens to the patch itself: its guards are tried by the API server, at the very last moment.

A moment is made to last by an admission webhook that is asked about the patch and does not answer:
what is written meanwhile has the API server read again, and try the guards against that.
"""

import socket
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import pytest

from tests.e2e.admission import (
    BY_US,
    CHANGES,
    FIELD_MANAGER,
    FOR_REAL,
    a_policy,
    here,
    in_force,
    webhook_path,
)
from tests.e2e.conftest import SetStage
from tests.e2e.stage import Stage, condition
from tests.sandbox.api import ApiError, Json, path_to
from tests.sandbox.audit import AuditRecord
from tests.sandbox.ports import LOOPBACK
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import PATIENCE_SECONDS
from tests.sandbox.workloads import APPS, GOOD_IMAGE, a_deployment

STALE: Final = 422
REFUSAL: Final = "not tonight"


@contextmanager
def under_way(stage: Stage) -> Generator[None]:
    """
    Have a patch that was held up be under way for as long as the block.

    The API server has read the Deployment, has tried the guards and waits for the webhook, which
    hangs up in the end and is ignored then.
    """
    with socket.create_server((LOOPBACK, 0)) as webhook:
        webhook.settimeout(PATIENCE_SECONDS)
        ask_instead(stage, f"https://{LOOPBACK}:{webhook.getsockname()[1]}/")
        connection, _ = webhook.accept()
        with connection:
            yield


def ask_instead(stage: Stage, url: str) -> None:
    """Have the API server ask this webhook of the patches that `hold_patches` holds up."""
    path = webhook_path(f"hold-{stage.namespace}")
    changes = {"clientConfig/url": url, "failurePolicy": "Ignore", "timeoutSeconds": 30}
    steps = [
        {"op": "replace", "path": f"/webhooks/0/{field}", "value": value}
        for field, value in changes.items()
    ]
    stage.sandbox.api.patch(path, steps, "json")


def ask_and_hold(stage: Stage) -> str:
    """Break it, ask, and hold the patch up; return the name of the rollback."""
    stage.break_it()
    stage.hold_patches()
    name = stage.ask()
    stage.wait_held(name)
    return name


def codes(stage: Stage) -> list[int]:
    """Return what the API server answered to each try, but for those that were held up."""
    return [record.code for record in stage.attempts() if record.code < 500]


@pytest.mark.scenario("W5")
def test_writes_of_the_status_in_the_midst_of_the_patch_do_not_stand_in_its_way(
    stage: Stage,
) -> None:
    """In a failing rollout they never end; each has a resourceVersion of its own."""
    name = ask_and_hold(stage)
    before = stage.deployment()["metadata"]
    with under_way(stage):
        written = churn(stage)["metadata"]
    assert written["resourceVersion"] != before["resourceVersion"]
    assert written["generation"] == before["generation"]
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert codes(stage) == [200]
    assert stage.images() == [GOOD_IMAGE]


def churn(stage: Stage) -> Json:
    """Write a condition of somebody's into the Deployment's status; return the Deployment."""
    path = path_to(APPS, "deployments", stage.namespace, stage.name, "status")
    mood = {"type": "example.com/Mood", "status": "True"}
    return stage.sandbox.api.patch(path, {"status": {"conditions": [mood]}}, "strategic")


@pytest.mark.scenario("W9")
def test_a_failed_guard_has_it_look_again_and_is_no_refusal(stage: Stage) -> None:
    """Scaled in the midst of the patch: the template is the one that was judged."""
    name = ask_and_hold(stage)
    with under_way(stage):
        stage.sandbox.workloads.scale(stage.namespace, stage.name, 5)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert codes(stage) == [STALE, 200]
    assert stage.images() == [GOOD_IMAGE]
    assert stage.deployment()["spec"]["replicas"] == 5


@pytest.mark.scenario("W9")
def test_a_refusal_is_no_failed_guard_and_is_not_tried_again(stage: Stage) -> None:
    """A policy had nothing against the dry run; its answer has the code of a failed guard."""
    stage.break_it()
    before, incident = stage.deployment(), stage.declare()
    with a_policy_against_us(stage):
        name = stage.ask(incident=incident)
        status = stage.wait_phase(name, "Refused", "Rejected")
        stage.wait_settled(name)
    ready = condition(status, "Ready")
    assert ready is not None
    assert REFUSAL in ready["message"]
    assert status["claimedAt"]
    assert "patchedAt" not in status
    assert codes(stage) == [STALE]
    assert stage.images() == [BROKEN_IMAGE]
    assert stage.deployment()["metadata"]["generation"] == before["metadata"]["generation"]
    (note,) = stage.notes(incident)
    assert "Nothing was changed." in note


def a_policy_against_us(stage: Stage) -> AbstractContextManager[None]:
    """Forbid what the operator writes here, but for dry runs, as soon as the API server obeys."""
    spec = {
        "matchConstraints": {
            "resourceRules": [CHANGES],
            "namespaceSelector": here(stage.namespace),
        },
        "matchConditions": [BY_US, FOR_REAL],
        "validations": [{"expression": "false", "message": REFUSAL}],
    }
    return in_force(
        stage.sandbox.api,
        a_policy("validating", stage.namespace, spec, {"validationActions": ["Deny"]}),
        lambda: is_refused(stage),
        "the API server to refuse what we write",
    )


def is_refused(stage: Stage) -> bool:
    """Say whether the policy is obeyed; this patch is empty."""
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    try:
        stage.sandbox.api.patch(path, {}, fieldManager=FIELD_MANAGER)
    except ApiError as error:
        return REFUSAL in str(error)
    return False


OPTIONS: Final = {"$patch": "delete", "$retainKeys": "driver", "fsType": "ext4"}
"""To a strategic merge patch the first two would be commands."""


@pytest.mark.scenario("W11")
def test_keys_that_look_like_commands_of_a_merge_come_back_as_they_were(
    set_stage: SetStage,
) -> None:
    stage = set_stage(a_deployment_with_options())
    good = stage.deployment()["spec"]["template"]
    assert options_of(good) == OPTIONS
    drop_the_volume(stage)
    stage.wait_phase(stage.ask(), "Succeeded", "RolledBack")
    assert stage.deployment()["spec"]["template"] == good
    (patch,) = stage.attempts()
    assert options_of(template_in(patch)) == OPTIONS


def a_deployment_with_options() -> Json:
    """Return a Deployment with a volume whose driver is given options, which may be anything."""
    body = a_deployment()
    volume = {"driver": "example.com/disk", "options": OPTIONS}
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "flexVolume": volume}]
    return body


def options_of(template: Json) -> Json:
    (volume,) = template["spec"]["volumes"]
    options: Json = volume["flexVolume"]["options"]
    return options


def drop_the_volume(stage: Stage) -> None:
    """Deploy the bad release, without the volume."""
    spec: list[dict[str, Any]] = [
        {"op": "remove", "path": "/spec/template/spec/volumes"},
        {
            "op": "replace",
            "path": "/spec/template/spec/containers/0/image",
            "value": BROKEN_IMAGE,
        },
    ]
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    stage.sandbox.api.patch(path, spec, "json")
    stage.wait_broken()


def template_in(patch: AuditRecord) -> Json:
    (template,) = [s["value"] for s in patch.request_object if s["path"] == "/spec/template"]
    found: Json = template
    return found
