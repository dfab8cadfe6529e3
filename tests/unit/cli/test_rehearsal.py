from collections.abc import Callable
from typing import Any

import pytest

from incident_rollback.__main__ import take_turn
from incident_rollback.cli.rehearsal import Rehearsal, rehearse
from incident_rollback.domain.conditions import get
from incident_rollback.domain.plan import plan_of
from incident_rollback.domain.workload import Workload
from incident_rollback.errors import ForbiddenError
from tests.builders import HOME, REF, a_revision, a_workload, an_environment, undone
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.store import FakeStore

TARGET = {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": REF.name}}


async def rehearsed(
    workload: Workload | None,
    *,
    store: FakeStore | None = None,
    cluster: FakeCluster | None = None,
    **spec: Any,
) -> Rehearsal:
    """Rehearse with the controller's own turn; nothing may have been written."""
    store, cluster = store or FakeStore(), cluster or FakeCluster()
    if workload is not None:
        cluster.put(workload)
    seen = await rehearse(
        take_turn,
        store,
        cluster,
        FakeClock(),
        HOME,
        namespace=REF.namespace,
        spec={**TARGET, **spec},
        longest_pause_seconds=0.0,
    )
    assert cluster.restored == []
    assert cluster.events == []
    assert store.rollbacks == {}
    assert not {"create", "save", "save environment"} & set(store.calls)
    return seen


def said(seen: Rehearsal) -> str:
    ready = get(seen.rollback.status.conditions, "Ready")
    return f"{seen.rollback.status.phase} {ready.reason if ready else ''}"


async def test_it_says_what_would_be_done_and_does_nothing() -> None:
    workload = a_workload()
    seen = await rehearsed(workload)
    status = seen.rollback.status
    assert said(seen) == "Previewed Previewed"
    assert status.to is not None
    assert status.to.revision == 1
    assert status.plan == plan_of(workload, workload.revisions[1])
    assert [c.verdict for c in seen.candidates] == ["Chosen"]
    assert not seen.needs_approval


MOVES: list[Any] = [
    pytest.param(lambda: None, {}, "Refused WorkloadNotFound", id="it is not there"),
    pytest.param(
        lambda: a_workload(is_paused=True), {}, "Refused Paused", id="what it would wait for"
    ),
    pytest.param(
        lambda: a_workload(opted_out="schema"), {}, "Refused OptedOut", id="what it would refuse"
    ),
    pytest.param(undone, {}, "Succeeded AlreadyThere", id="nothing is left to do"),
    pytest.param(
        a_workload, {"to": {"revision": 9}}, "Refused RevisionNotFound", id="no such revision"
    ),
    pytest.param(
        lambda: a_workload(a_revision(2)), {}, "Refused NothingToRollBackTo", id="no other revision"
    ),
]


@pytest.mark.parametrize(("make", "spec", "expected"), MOVES)
async def test_it_says_why_not(
    make: Callable[[], Workload | None], spec: dict[str, Any], expected: str
) -> None:
    assert said(await rehearsed(make(), **spec)) == expected


async def test_candidates_are_shown_even_where_something_else_is_in_the_way() -> None:
    seen = await rehearsed(a_workload(is_paused=True))
    assert [(c.revision, c.verdict) for c in seen.candidates] == [(1, "Chosen")]


async def test_the_policy_of_the_environment_counts() -> None:
    store = FakeStore()
    store.environments["production"] = an_environment(policy={"approval": "Required"})
    seen = await rehearsed(a_workload(), store=store)
    assert seen.needs_approval
    assert said(seen) == "Previewed Previewed", "a plan that can be approved"


async def test_the_red_switch_counts() -> None:
    store = FakeStore()
    store.environments["production"] = an_environment(suspend=True)
    assert said(await rehearsed(a_workload(), store=store)) == "Refused Suspended"


async def test_a_refusal_to_look_is_about_the_caller_and_no_verdict() -> None:
    cluster = FakeCluster(failing=[ForbiddenError("jane may not get deployments.apps in shop")])
    with pytest.raises(ForbiddenError, match="jane may not get"):
        await rehearsed(a_workload(), cluster=cluster)


async def test_a_change_that_is_being_taken_up_is_waited_for_a_moment_only() -> None:
    seen = await rehearsed(a_workload(generation=8))
    assert said(seen) == "Pending NotObserved"
