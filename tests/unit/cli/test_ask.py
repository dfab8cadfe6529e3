from typing import Any

import pytest

from incident_rollback.cli.ask import (
    Refused,
    answer_for,
    approval_manifest,
    rollback_manifest,
)
from incident_rollback.cli.options import Exit
from incident_rollback.crd.v1alpha1 import Aim, Condition, IncidentRollback, Phase, PlanStatus
from tests.builders import HOME, NOW, a_rollback, a_status
from tests.fakes.clock import FakeClock
from tests.fakes.store import FakeStore

DIGEST = "sha256:" + "ab12" * 16
PLAN = PlanStatus(digest=DIGEST)
NAME = "checkout-3f9a1c27b0d4e6f8"


def ended(
    phase: Phase, reason: str, *, plan: PlanStatus | None = PLAN, **spec: Any
) -> IncidentRollback:
    ready = Condition(type="Ready", status="False", reason=reason)
    return a_rollback(status=a_status(phase, conditions=(ready,), plan=plan), **spec)


def test_a_request_is_about_a_workload_beside_it() -> None:
    made = rollback_manifest("checkout", "shop", 5, dry_run=True)
    assert made["metadata"]["namespace"] == "shop"
    assert made["metadata"]["name"].startswith("checkout-")
    assert made["spec"] == {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"},
        "to": {"revision": 5},
        "dryRun": True,
        "requestedBy": "kubectl irb rollback",
    }
    IncidentRollback.model_validate(made)


def test_names_differ_and_are_legal_even_where_a_name_is_cut() -> None:
    one, other = (
        rollback_manifest("a" * 49 + "-" + "b" * 50, "shop", None, dry_run=False) for _ in range(2)
    )
    assert one["metadata"]["name"] != other["metadata"]["name"]
    assert "--" not in one["metadata"]["name"]
    assert "to" not in one["spec"]


@pytest.mark.parametrize(
    ("phase", "reason"), [(Phase.REFUSED, "ApprovalRequired"), (Phase.PREVIEWED, "Previewed")]
)
def test_an_approval_is_the_same_request_with_the_digest(phase: Phase, reason: str) -> None:
    shown = ended(phase, reason, dry_run=True, requested_at=NOW, pairs=3, to=Aim(revision=4))
    made = approval_manifest(shown)
    assert not isinstance(made, Refused)
    assert made["metadata"] == {"name": f"{NAME}-approved-ab12ab", "namespace": HOME}
    approving = IncidentRollback.model_validate(made).spec
    assert approving == shown.spec.model_copy(
        update={
            "dry_run": False,
            "plan_digest": DIGEST,
            "requested_at": None,
            "requested_by": "kubectl irb approve",
        }
    )


NOT_APPROVABLE = [
    pytest.param(Phase.SUCCEEDED, "RolledBack", "is Succeeded (RolledBack)", id="it is done"),
    pytest.param(Phase.REFUSED, "OptedOut", "is Refused (OptedOut)", id="refused otherwise"),
    pytest.param(Phase.ROLLING_BACK, "RollingBack", "is RollingBack:", id="under way"),
    pytest.param(Phase.PENDING, "Paused", "is Pending (Paused)", id="it waits"),
]


@pytest.mark.parametrize(("phase", "reason", "why"), NOT_APPROVABLE)
def test_nothing_else_can_be_approved(phase: Phase, reason: str, why: str) -> None:
    made = approval_manifest(ended(phase, reason))
    assert isinstance(made, Refused)
    assert why in made.why


def test_without_a_plan_there_is_nothing_to_approve() -> None:
    made = approval_manifest(ended(Phase.REFUSED, "PlanChanged", plan=None))
    assert isinstance(made, Refused)
    assert "no plan" in made.why


async def test_what_is_not_followed_says_how_to() -> None:
    said: list[str] = []
    answer = await answer_for(
        FakeStore(), FakeClock(), a_rollback(), said.append, is_followed=False
    )
    assert answer.code is Exit.FINE
    assert answer.names == (f"incidentrollback.incidentrollback.dev/{NAME}",)
    assert said == [f"Follow it: kubectl irb wait {NAME} -n {HOME}"]


async def test_what_is_deleted_meanwhile_is_a_no() -> None:
    said: list[str] = []
    answer = await answer_for(FakeStore(), FakeClock(), a_rollback(), said.append, is_followed=True)
    assert answer.code is Exit.NO
    assert said == [f"incidentrollback {NAME} was deleted"]


async def test_what_is_not_over_in_time_says_how_to_go_on() -> None:
    store, said = FakeStore(), list[str]()
    made = store.put(a_rollback())
    answer = await answer_for(
        store, FakeClock(), made, said.append, is_followed=True, timeout_seconds=0
    )
    assert answer.code is Exit.TIMED_OUT
    assert said[-1] == f"{NAME} is not over; go on: kubectl irb wait {NAME} -n {HOME}"
