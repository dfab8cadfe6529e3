"""The page of the benchmark says what its samples say; how figures are made of them is checked."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bench.__main__ import read_n
from tests.bench.budgets import BUDGETS, Budget, difference, most, p50, p95, quantile, ratio
from tests.bench.machine import cpu_model, memory_gib
from tests.bench.page import AT_ONCE, COMPARED, COST, END, PROCESSES, below, page_of
from tests.bench.peers import hook
from tests.bench.plan import FULL, Plan
from tests.bench.rulebook import ruleset
from tests.bench.samples import Samples, Step
from tests.bench.witness import (
    Cost,
    Seen,
    attempts_of,
    cost_of,
    creations,
    is_for_a_rollback,
    patches_of,
    steps_of,
)
from tests.e2e.stage import BRIDGE_USER, CONTROLLER_USER, ROOT
from tests.sandbox.audit import AuditRecord

PAGE: Final = ROOT / "docs" / "benchmark.md"
SAMPLES: Final = ROOT / "docs" / "benchmark" / "samples.json"
NOON: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_record(at_ms: float = 0, lasts_ms: float = 1, **fields: Any) -> AuditRecord:
    """Return a read of Deployments by the controller, so long after noon."""
    received_at = NOON + timedelta(milliseconds=at_ms)
    given: dict[str, Any] = {
        "audit_id": "",
        "user": CONTROLLER_USER,
        "verb": "get",
        "group": "apps",
        "resource": "deployments",
        "subresource": "",
        "namespace": "bench",
        "name": "checkout",
        "code": 200,
        "user_agent": "",
        "field_manager": "",
        "is_dry_run": False,
        "received_at": received_at,
        "answered_at": received_at + timedelta(milliseconds=lasts_ms),
        "request_object": None,
        "response_object": None,
        "uri": "/",
    }
    return AuditRecord(**{**given, **fields})


# --- The committed page


def test_the_page_is_what_its_samples_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_of(Samples.read(SAMPLES), below(page)), "docs/benchmark.md was edited"


def test_the_committed_run_was_no_quick_look() -> None:
    assert Samples.read(SAMPLES).n >= FULL


def test_people_have_written_where_the_rest_goes() -> None:
    assert "## Where the rest goes" in below(PAGE.read_text(encoding="utf-8"))


def test_all_that_the_page_shows_was_measured() -> None:
    samples = Samples.read(SAMPLES)
    named = [name for _, name in (*COMPARED, *AT_ONCE, *PROCESSES, *COST)]
    if samples.notes:  # They say what was left out.
        named = [name for name in named if not name.startswith("ansible-rulebook")]
    assert [name for name in named if not samples.of(name)] == []
    assert [budget.text for budget in BUDGETS if budget.figure(samples) is None] == []


def test_the_page_names_no_path_and_no_host() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert not [word for word in (str(Path.home()), "/tmp/", "127.0.0.1") if word in page]  # noqa: S108


# --- Figures

QUANTILES = [
    pytest.param([7.0], 0.95, 7.0, id="of one value it is that value"),
    pytest.param([3.0, 1.0, 2.0], 0.5, 2.0, id="values need not be sorted"),
    pytest.param(list(range(1, 101)), 0.95, 95, id="of a hundred five are larger than p95"),
    pytest.param(list(range(1, 21)), 0.95, 19, id="of twenty one is larger than p95"),
    pytest.param([1.0, 2.0], 1.0, 2.0, id="all of them"),
]


@pytest.mark.parametrize(("values", "share", "expected"), QUANTILES)
def test_quantile(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


MEASURED = Samples(values={"a": [1.0, 9.0, 2.0], "b": [4.0], "zero": [0.0]})
FIGURES = [
    pytest.param(p50("a"), 2.0, id="the median"),
    pytest.param(p95("a"), 9.0, id="p95"),
    pytest.param(most("a"), 9.0, id="the longest"),
    pytest.param(difference(p50("b"), p50("a")), 2.0, id="one less another"),
    pytest.param(ratio(p50("a"), p50("b")), 0.5, id="one over another"),
    pytest.param(ratio(p50("a"), p50("zero")), None, id="nothing is over zero"),
    pytest.param(p50("none"), None, id="not measured"),
    pytest.param(most("none"), None, id="not measured: the longest"),
    pytest.param(difference(p50("a"), p50("none")), None, id="not measured: less"),
    pytest.param(ratio(p50("none"), p50("a")), None, id="not measured: over"),
]


@pytest.mark.parametrize(("figure", "expected"), FIGURES)
def test_figure(figure: Any, expected: float | None) -> None:
    assert figure(MEASURED) == expected


LESS = Budget("", 5, "ms", p50("a"))
KEPT = [
    pytest.param(LESS, 4.9, True, id="less"),
    pytest.param(LESS, 5.0, False, id="less than is not equal"),
    pytest.param(replace(LESS, may_equal=True), 5.0, True, id="at most may be equal"),
    pytest.param(replace(LESS, may_equal=True), 5.1, False, id="more than at most"),
    pytest.param(replace(LESS, at_least=True), 5.0, True, id="at least may be equal"),
    pytest.param(replace(LESS, at_least=True), 4.9, False, id="less than at least"),
    pytest.param(LESS, None, False, id="what was not measured is not kept"),
]


@pytest.mark.parametrize(("budget", "figure", "expected"), KEPT)
def test_a_budget_is_kept(budget: Budget, figure: float | None, *, expected: bool) -> None:
    assert budget.is_kept_by(figure) is expected


# --- The page of any samples


def test_a_figure_is_shown_with_its_budget_and_the_verdict() -> None:
    samples = Samples(n=FULL, values={"ours: POST to created, ms": [10.0, 24.96]})
    page = page_of(samples)
    assert "| webhook → resource created, p95 | < 25 ms | 25.0 ms | holds |" in page
    assert "| resource created → patch, p50 | < 50 ms | not measured | **missed** |" in page
    assert "| ours: POST to resource created | 17.5 | 25.0 | 25.0 | 2 |" in page


def test_what_was_not_measured_has_no_row_beside_the_budgets() -> None:
    assert "`webhook`: POST to patch" not in page_of(Samples(n=FULL))


def test_a_quick_look_says_what_it_is() -> None:
    assert "A quick look at 99 rollbacks" in page_of(Samples(n=FULL - 1))
    assert "quick look" not in page_of(Samples(n=FULL))


def test_what_people_wrote_stays_and_the_rest_is_written_anew() -> None:
    written = "\n## Where the rest goes\n\nInto the list.\n"
    before = page_of(Samples(n=1), written)
    after = page_of(Samples(n=FULL, notes=["new"]), below(before))
    assert after.endswith(END + "\n" + written)
    assert "- new\n" in after
    assert below("no mark at all") == ""


def test_requests_are_shown_before_and_after_the_patch() -> None:
    first = Step(
        "bridge", "create incidentrollbacks", is_after=False, times=1, begins_ms=2.0, lasts_ms=3.0
    )
    then = Step("controller", "list pods", is_after=True, times=4, begins_ms=60.0, lasts_ms=1.5)
    up_to, _, after = page_of(Samples(steps=[first, then])).partition("## What follows the patch")
    assert "| bridge | create incidentrollbacks | 1 | 2.0 | 3.0 |" in up_to
    assert "list pods" not in up_to
    assert "| controller | list pods | 4 | 60.0 | 1.5 |" in after


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    samples = Samples(machine={"cores": "2"}, notes=["none"], n=3)
    samples.add("a", 1.26, 2)
    samples.add("a", 3.0)
    samples.steps = [Step("bridge", "create", is_after=False, times=1, begins_ms=0.1, lasts_ms=0.2)]
    samples.write(tmp_path / "deep" / "samples.json")
    assert Samples.read(tmp_path / "deep" / "samples.json") == samples
    assert samples.of("a") == [1.3, 2, 3.0]


# --- The audit log

COUNTED = [
    pytest.param(a_record(), True, id="a read of the controller's"),
    pytest.param(a_record(user=BRIDGE_USER), True, id="one of the bridge's"),
    pytest.param(a_record(user="admin"), False, id="not an admin's"),
    pytest.param(a_record(verb="watch"), False, id="not a watch"),
    pytest.param(a_record(resource=""), False, id="not /version, which keeps connections warm"),
    pytest.param(a_record(resource="leases"), False, id="not the election"),
    pytest.param(
        a_record(resource="leases", user=BRIDGE_USER), True, id="the Lease that the bridge asks for"
    ),
    pytest.param(
        a_record(resource="rollbackenvironments", subresource="status"),
        False,
        id="not whether the environments would work tonight",
    ),
    pytest.param(a_record(resource="rollbackenvironments"), True, id="the mapping"),
    pytest.param(
        a_record(uri="/x?fieldSelector=status.settled%21%3Dtrue"), False, id="not the safety list"
    ),
]


@pytest.mark.parametrize(("record", "expected"), COUNTED)
def test_what_is_asked_for_a_rollbacks_sake(record: AuditRecord, *, expected: bool) -> None:
    assert is_for_a_rollback(record) is expected


def test_what_a_rollback_costs() -> None:
    patch = a_record(50, verb="patch")
    status: dict[str, Any] = {
        "verb": "update",
        "resource": "incidentrollbacks",
        "subresource": "status",
    }
    records = [
        a_record(0, verb="create", resource="incidentrollbacks", user=BRIDGE_USER),
        a_record(10),
        a_record(20, verb="patch", is_dry_run=True),
        a_record(40, **status),
        patch,
        a_record(60, verb="create", resource="events"),
        a_record(70),
        a_record(80),
        a_record(90, **status),
        a_record(95, verb="watch"),
    ]
    assert cost_of(records, patch) == Cost(requests=7, status_writes=2, writes=5, polls=2)


def test_only_patches_that_went_in_are_found() -> None:
    patch = a_record(verb="patch")
    records = [
        patch,
        replace(patch, code=422),
        replace(patch, is_dry_run=True),
        replace(patch, subresource="status"),
        replace(patch, namespace="elsewhere"),
        replace(patch, verb="get"),
        replace(patch, name="cart", user="admin"),
    ]
    found = patches_of(records, "bench")
    assert {name: len(patches) for name, patches in found.items()} == {"checkout": 1, "cart": 1}
    tried = attempts_of([*records, replace(patch, name="lost", code=504)], "bench")
    assert {name: len(ones) for name, ones in tried.items()} == {
        "checkout": 2,
        "cart": 1,
        "lost": 1,
    }
    assert "lost" not in patches_of([replace(patch, name="lost", code=504)], "bench")


def test_creations_are_found_by_name() -> None:
    made = a_record(verb="create", resource="incidentrollbacks", name="irb-1", code=201)
    assert creations([made, replace(made, name="irb-2", code=409), a_record()]) == {"irb-1": made}


def test_where_the_time_goes() -> None:
    def seen(shift: float) -> Seen:
        patch = a_record(30 + shift, 4, verb="patch")
        reads = [a_record(10 + shift, 5), a_record(12 + shift, 9), a_record(40 + shift)]
        rare = [a_record(20, resource="nodes")] if shift == 0 else []
        return Seen(NOON.timestamp(), patch, [patch, *reads, *rare])

    assert steps_of([seen(0), seen(1), seen(2)]) == [
        Step(
            "controller", "get deployments", is_after=False, times=2, begins_ms=11.0, lasts_ms=9.0
        ),
        Step(
            "controller", "patch deployments", is_after=False, times=1, begins_ms=31.0, lasts_ms=4.0
        ),
        Step("controller", "get deployments", is_after=True, times=1, begins_ms=41.0, lasts_ms=1.0),
    ]


# --- The machine, the peer, the command


def test_the_machine_is_described_by_what_linux_says() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: EPYC 7\nmodel name\t: EPYC 7\n") == "EPYC 7"
    assert cpu_model("Hardware: something else") != ""
    assert memory_gib("MemTotal:       8388608 kB\nMemFree: 1 kB\n") == 8.0


def test_the_peers_hook_checks_the_signature_that_ours_checks() -> None:
    made = json.loads(json.dumps(hook("kubectl", "s3cret")))
    assert made["trigger-rule"]["match"]["parameter"] == {
        "source": "header",
        "name": "Fh-Signature",
    }


def test_the_rulebook_checks_the_signature_that_ours_checks() -> None:
    (source,) = ruleset("kubectl", 8080, "s3cret")["sources"]
    assert source["eda.builtin.webhook"]["hmac_header"] == "fh-signature"


NUMBERS = [
    pytest.param("", FULL, id="absent: a whole run"),
    pytest.param("5", 5, id="a quick look"),
]


@pytest.mark.parametrize(("given", "expected"), NUMBERS)
def test_how_many_are_wanted(given: str, expected: int) -> None:
    assert read_n(given) == expected


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5"])
def test_what_is_no_number_of_rollbacks_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="BENCH_N"):
        read_n(given)


def test_only_a_whole_run_counts() -> None:
    assert Plan.of(FULL).is_full
    assert not Plan.of(FULL - 1).is_full
    assert Plan.of(1).settled < Plan.of(FULL).settled == 5000
