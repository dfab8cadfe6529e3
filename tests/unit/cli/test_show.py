from typing import Any

import pytest

from incident_rollback.cli.page import Grid, Page
from incident_rollback.cli.show import (
    candidates_grid,
    describe_page,
    history_data,
    history_page,
    life_grid,
    owners_grid,
    preview_page,
    revision_words,
    rollbacks_page,
    updates_grid,
    workload_of,
)
from incident_rollback.crd.v1alpha1 import (
    Aim,
    Candidate,
    Condition,
    IncidentRollback,
    ManagedBy,
    Phase,
    PlanStatus,
    TargetRef,
)
from incident_rollback.domain.workload import Workload
from tests.builders import (
    NOW,
    a_revision,
    a_rollback,
    a_status,
    a_workload,
    after,
    ago,
    an_incident,
    an_update,
    claimed,
    frozen,
    undone,
)

CHOSEN = Candidate(revision=1, verdict="Chosen", why="3 pods of it still serve")
PLAN = PlanStatus(
    digest="sha256:ab",
    changes=("container app: image checkout:1.2 -> checkout:1.1",),
    not_rolled_back=("replicas", "ConfigMap web"),
    deployed_at=ago(minutes=10),
    written_by="kubectl-set",
)
ORIGIN = (
    "Origin    deployed 2026-11-23 02:04 UTC (10 min before this was asked for), last written by "
    "kubectl-set"
)


def ready(reason: str, message: str = "", *, status: Any = "True") -> tuple[Condition, ...]:
    return (Condition(type="Ready", status=status, reason=reason, message=message),)


def grid_of(page: Page, title: str) -> Grid:
    """Return the table under a title."""
    block = page[list(page).index(title) + 1]
    assert isinstance(block, Grid)
    return block


def lines_of(page: Page) -> list[str]:
    return [block for block in page if isinstance(block, str)]


ROWS = [
    pytest.param(
        a_rollback(created=ago(minutes=3)),
        ("checkout in production", "Pending", "-", "-", "-", "incident-1", "3 min"),
        id="not looked at yet",
    ),
    pytest.param(
        claimed(Phase.SUCCEEDED, conditions=ready("RolledBack")),
        ("checkout", "Succeeded", "RolledBack", "2", "1", "incident-1", "0 s"),
        id="over",
    ),
    pytest.param(
        a_rollback(target_ref=TargetRef(name="cart"), incident=None),
        ("cart", "Pending", "-", "-", "-", "-", "0 s"),
        id="by a targetRef, without an incident",
    ),
    pytest.param(
        a_rollback(incident=an_incident(number=1842)),
        ("checkout in production", "Pending", "-", "-", "-", "#1842", "0 s"),
        id="the number that people say",
    ),
]


@pytest.mark.parametrize(("rollback", "expected"), ROWS)
def test_a_rollback_is_a_row(rollback: IncidentRollback, expected: tuple[str, ...]) -> None:
    (grid,) = rollbacks_page([rollback], NOW)
    assert isinstance(grid, Grid)
    (row,) = grid.rows
    assert row[:2] == (rollback.metadata.namespace, rollback.metadata.name)
    assert row[2:] == expected
    assert len(row) == len(grid.head)


def test_none_is_said() -> None:
    assert rollbacks_page([], NOW) == ["There are no IncidentRollbacks here."]


def test_a_life_says_when_and_how_long_after_the_request() -> None:
    rollback = claimed(
        Phase.SUCCEEDED,
        claimed_at=after(seconds=1),
        patched_at=after(seconds=1),
        healthy_since=after(seconds=31),
        finished_at=after(seconds=61),
    )
    assert life_grid(rollback).rows == (
        ("requested", "2026-11-23 02:14:00", "-"),
        ("claimed", "2026-11-23 02:14:01", "1 s"),
        ("patched", "2026-11-23 02:14:01", "1 s"),
        ("healthy", "2026-11-23 02:14:31", "31 s"),
        ("finished", "2026-11-23 02:15:01", "1 min 1 s"),
    )


def test_what_did_not_happen_has_no_row() -> None:
    assert [row[0] for row in life_grid(a_rollback()).rows] == ["requested"]


def test_a_description_holds_everything_that_is_known() -> None:
    owner = ManagedBy(tool="Helm", name="web", namespace="shop", evidence="x", reverts="never")
    status = a_status(
        Phase.SUCCEEDED, plan=PLAN, candidates=(CHOSEN,), conditions=ready("RolledBack", "good")
    )
    assert status.target is not None
    target = status.target.model_copy(update={"managed_by": (owner,)})
    status = status.model_copy(update={"target": target, "updates": (an_update(),)})
    page = describe_page(a_rollback(status=status, requested_by="FireHydrant runbook"))
    text = "\n".join(lines_of(page))
    assert "From      revision 2 (checkout:1.2): 3 of 3 pods in ImagePullBackOff" in text
    assert "To        revision 1 (checkout:1.1): 3 pods of it still serve" in text
    assert "Asked by  FireHydrant runbook" in text
    assert "Plan      sha256:ab" in text
    assert ORIGIN in text
    assert grid_of(page, "Changes").rows == ((PLAN.changes[0],),)
    assert grid_of(page, "Not rolled back").rows == (("replicas",), ("ConfigMap web",))
    assert grid_of(page, "Owners").rows == (("Helm", "shop/web", "never", "x"),)
    assert grid_of(page, "Candidates").rows == (("1", "Chosen", "3 pods of it still serve"),)
    assert grid_of(page, "Conditions").rows == (("Ready", "True", "RolledBack", "-", "good"),)
    assert len(grid_of(page, "Told").rows) == 1


def test_a_description_names_the_trace_that_its_log_lines_have() -> None:
    page = describe_page(a_rollback(uid="0f7e2c1a-5b1d-4c56-9a34-0d2f6f0f9e11"))
    assert "Trace     0f7e2c1a5b1d4c569a340d2f6f0f9e11" in "\n".join(lines_of(page))
    assert "Trace" not in "\n".join(lines_of(describe_page(a_rollback(uid="no-uuid"))))


def test_a_description_has_no_empty_tables() -> None:
    page = describe_page(a_rollback(incident=None))
    titles = ("Owners", "Told", "Changes", "Not rolled back")
    assert [block for block in lines_of(page) if block in titles] == []


def test_an_update_says_when_it_was_delivered_or_why_not() -> None:
    updates = (
        an_update(delivered_at=after(seconds=2)),
        an_update("end", gave_up="no such incident"),
        an_update("held", delivered_at=None),
    )
    grid = updates_grid(claimed(updates=updates))
    assert [row[3] for row in grid.rows] == [
        "2026-11-23 02:14:02",
        "given up: no such incident",
        "-",
    ]


def previewed(**spec: Any) -> IncidentRollback:
    status = a_status(Phase.PREVIEWED, plan=PLAN, candidates=(CHOSEN,), claimed_at=None)
    return a_rollback(
        status=status, namespace="production", target_ref=TargetRef(name="checkout"), **spec
    )


def shown(rollback: IncidentRollback, **changes: Any) -> Page:
    given: dict[str, Any] = {
        "workload": a_workload(),
        "owners": (),
        "candidates": (),
        "needs_approval": False,
        **changes,
    }
    return preview_page(rollback, **given)


NEXT = [
    pytest.param({}, {}, "kubectl irb rollback deploy/checkout -n production", id="by itself"),
    pytest.param(
        {"to": Aim(revision=1)},
        {},
        "kubectl irb rollback deploy/checkout -n production --to-revision 1",
        id="to a revision of one's choice",
    ),
    pytest.param(
        {},
        {"needs_approval": True},
        "kubectl irb rollback deploy/checkout -n production, which is refused with the plan until "
        "it is approved; then: kubectl irb approve NAME -n production",
        id="with approval",
    ),
]


@pytest.mark.parametrize(("spec", "changes", "command"), NEXT)
def test_a_preview_ends_in_the_command_that_does_it(
    spec: dict[str, Any], changes: dict[str, Any], command: str
) -> None:
    page = shown(previewed(**spec), **changes)
    assert page[-1] == f"Next: {command}"
    assert "Plan      sha256:ab" in lines_of(page)
    assert ORIGIN in lines_of(page)
    assert grid_of(page, "Changes").rows == ((PLAN.changes[0],),)
    assert grid_of(page, "Not rolled back").rows == (("replicas",), ("ConfigMap web",))


def test_a_refusal_says_why_how_it_stands_and_what_there_is() -> None:
    refused = a_rollback(
        status=a_status(
            Phase.REFUSED,
            target=None,
            to=None,
            from_=None,
            conditions=ready("OptedOut", "it says never. Next: ask its owners", status="False"),
        )
    )
    page = shown(refused, candidates=(CHOSEN,))
    assert page[0] == "Refused OptedOut: it says never. Next: ask its owners"
    assert page[1] == "Now  0 of 3 pods available, 3 of 3 pods in ImagePullBackOff"
    assert grid_of(page, "Candidates") == candidates_grid((CHOSEN,))
    assert not any(line.startswith("Next:") for line in lines_of(page))


TWICE_BAD = a_workload(
    a_revision(5, available=0),
    a_revision(4, history=(2,), available=3, created_at=ago(days=3)),
    a_revision(3, created_at=ago(days=1)),
    a_revision(1, created_at=ago(days=9)),
)
HISTORIES = [
    pytest.param(
        a_workload(),
        {2: ("live", "-"), 1: ("-", "Chosen")},
        id="the bad one is live, the other is chosen",
    ),
    pytest.param(
        TWICE_BAD,
        {
            5: ("live", "-"),
            4: ("-", "Chosen"),
            3: ("rolled back from", "PassedOver"),
            1: ("-", "PassedOver"),
        },
        id="what was rolled back from is marked, and passed over",
    ),
    pytest.param(
        a_workload(a_revision(3, like=2), a_revision(2), a_revision(1, available=3)),
        {3: ("live", "-"), 2: ("same as live", "-"), 1: ("-", "Chosen")},
        id="a restart is no other revision",
    ),
]


@pytest.mark.parametrize(("workload", "expected"), HISTORIES)
def test_a_history_marks_and_judges(
    workload: Workload, expected: dict[int, tuple[str, str]]
) -> None:
    (grid,) = (block for block in history_page(workload, NOW) if isinstance(block, Grid))
    assert {int(row[0]): (row[6], row[7]) for row in grid.rows} == expected
    assert all(len(row) == len(grid.head) for row in grid.rows)


def test_a_history_names_earlier_numbers_dwell_and_pods() -> None:
    (grid,) = (block for block in history_page(undone(), NOW) if isinstance(block, Grid))
    by_number = {row[0]: row for row in grid.rows}
    assert by_number["3"][1] == "1"
    assert by_number["3"][2] == "checkout:1.1"
    assert by_number["3"][4] == "2 min so far"
    assert by_number["3"][5] == "3/3"


def test_a_history_says_how_long_the_others_ran() -> None:
    (grid,) = (block for block in history_page(a_workload(), NOW) if isinstance(block, Grid))
    assert [row[4] for row in grid.rows] == ["10 min so far", "1 d"]


def test_a_history_says_where_nothing_would_be_chosen() -> None:
    end = history_page(a_workload(a_revision(2)), NOW)[-1]
    assert isinstance(end, str)
    assert end.startswith("None would be chosen: there is no other revision in the history. Next:")


def test_a_history_is_data_as_well() -> None:
    live, good = history_data(a_workload(), NOW)
    assert live == {
        "revision": 2,
        "earlier": [],
        "replicaSet": "checkout-hash-2",
        "podTemplateHash": "hash-2",
        "images": ["checkout:1.2"],
        "createdAt": "2026-11-23T02:04:00+00:00",
        "dwellSeconds": None,
        "availablePods": 0,
        "live": True,
        "rolledBackFrom": False,
        "verdict": "",
        "why": "",
    }
    assert (good["verdict"], good["dwellSeconds"]) == ("Chosen", 86_400)


def test_an_owner_without_a_name_is_shown() -> None:
    grid = owners_grid([ManagedBy(tool="Kubectl", evidence="x", reverts="never")])
    assert grid.rows == (("Kubectl", "-", "never", "x"),)


def test_words_for_a_revision() -> None:
    assert revision_words(None) == ""
    assert revision_words(frozen(1, evidence="")) == "revision 1 (checkout:1.1)"


def test_a_workload_is_named_as_found_else_as_asked_for() -> None:
    assert workload_of(claimed()) == "checkout"
    assert workload_of(a_rollback()) == "checkout in production"
