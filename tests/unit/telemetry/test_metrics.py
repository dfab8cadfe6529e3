"""Names and labels of metrics are API."""

import ast
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from incident_rollback import __version__
from incident_rollback.bridge import app
from incident_rollback.errors import ForbiddenError
from incident_rollback.telemetry.metrics import (
    FAILURES,
    MAX_SLOT,
    MAX_SLOTS,
    REVERTERS,
    TURNED_AWAY,
    BridgeMetrics,
    ControllerMetrics,
    ProcessMetrics,
)

BOTH = {
    "incident_rollback_build_info",
    "incident_rollback_ready",
    "incident_rollback_api_requests_total",
}


def names(registry: CollectorRegistry) -> set[str]:
    lines = generate_latest(registry).decode().splitlines()
    found = {line.split()[2] for line in lines if line.startswith("# HELP")}
    return {name for name in found if not name.endswith("_created")}


def test_the_controllers_metrics() -> None:
    expected = BOTH | {
        "incident_rollback_turns_total",
        "incident_rollback_turn_duration_seconds",
        "incident_rollback_executions_total",
        "incident_rollback_duration_seconds",
        "incident_rollback_in_progress",
        "incident_rollback_leader",
        "incident_rollback_lease_transitions",
        "incident_rollback_watch_starts_total",
        "incident_rollback_watch_missed_total",
        "incident_rollback_oldest_unfinished_seconds",
        "incident_rollback_last_success_timestamp_seconds",
        "incident_rollback_reverted_total",
        "incident_rollback_updates_pending",
        "incident_rollback_updates_oldest_pending_seconds",
        "incident_rollback_updates_told_total",
        "incident_rollback_updates_given_up_total",
        "incident_rollback_firehydrant_requests_total",
        "incident_rollback_environments",
        "incident_rollback_list_age_seconds",
        "incident_rollback_watch_age_seconds",
    }
    assert names(ControllerMetrics().registry) == expected


def test_the_bridges_metrics() -> None:
    assert names(BridgeMetrics().registry) == BOTH | {
        "incident_rollback_webhook_requests_total",
        "incident_rollback_webhook_duration_seconds",
        "incident_rollback_webhook_secret_used_total",
    }


@pytest.mark.parametrize("metrics", [ControllerMetrics(), BridgeMetrics()])
def test_which_version_of_what_runs(metrics: ProcessMetrics) -> None:
    labels = {"version": __version__, "component": metrics.component}
    assert metrics.registry.get_sample_value("incident_rollback_build_info", labels) == 1


def test_ready_is_what_the_probe_says() -> None:
    metrics, why = BridgeMetrics(), [""]
    metrics.show_readiness(lambda: why[0])
    assert metrics.registry.get_sample_value("incident_rollback_ready") == 1
    why[0] = "there is no HMAC secret"
    assert metrics.registry.get_sample_value("incident_rollback_ready") == 0


def test_requests_are_counted_by_what_came_back() -> None:
    metrics = ControllerMetrics()
    metrics.count_api_request("PATCH", "422")
    metrics.count_firehydrant_request("TimedOut")
    value = metrics.registry.get_sample_value
    assert (
        value("incident_rollback_api_requests_total", {"method": "PATCH", "code": "422"}),
        value("incident_rollback_firehydrant_requests_total", {"code": "TimedOut"}),
    ) == (1, 1)


def test_ends_of_updates_are_counted() -> None:
    metrics = ControllerMetrics()
    for is_told in (True, False, False):
        metrics.count_end_of_update("Note", is_told=is_told)
    value = metrics.registry.get_sample_value
    assert value("incident_rollback_updates_told_total", {"kind": "Note"}) == 1
    assert value("incident_rollback_updates_given_up_total") == 2


WAITED_FOR: list[tuple[str, dict[str, str]]] = [
    *(
        ("incident_rollback_executions_total", {"phase": "Failed", "reason": reason})
        for reason in FAILURES
    ),
    *(("incident_rollback_reverted_total", {"manager": manager}) for manager in REVERTERS),
    *(
        ("incident_rollback_webhook_requests_total", {"code": code, "reason": reason})
        for code, reason in TURNED_AWAY
    ),
    ("incident_rollback_updates_given_up_total", {}),
    ("incident_rollback_watch_missed_total", {}),
]


@pytest.mark.parametrize(("name", "labels"), WAITED_FOR)
def test_what_an_alert_waits_for_begins_with_zero(name: str, labels: dict[str, str]) -> None:
    """Of a counter that appears with 1, Prometheus sees no increase."""
    registries = (ControllerMetrics().registry, BridgeMetrics().registry)
    assert [registry.get_sample_value(name, labels) for registry in registries].count(0) == 1


def answers(code: int) -> set[str]:
    """Return the reasons with which the bridge gives a code, by its source."""
    tree = ast.parse(Path(app.__file__).read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    made = [call.args[:2] for call in calls if ast.unparse(call.func) == "Answer"]
    found = [reason for given, reason, *_ in made if ast.unparse(given) == str(code)]
    return {eval_reason(ast.unparse(reason)) for reason in found}


def eval_reason(text: str) -> str:
    return {"ForbiddenError.reason": ForbiddenError.reason}.get(text, text.strip("'"))


@pytest.mark.parametrize("code", [401, 503])
def test_every_reason_for_turning_somebody_away_is_known(code: int) -> None:
    assert answers(code) == {reason for known, reason in TURNED_AWAY if known == str(code)}


def test_who_leads_is_asked_when_it_is_read() -> None:
    """It ends by the clock: nobody would be there to set it."""
    metrics, leading = ControllerMetrics(), [True]
    metrics.show_leadership(lambda: leading[0], lambda: 7)
    value = metrics.registry.get_sample_value
    assert value("incident_rollback_leader") == 1
    assert value("incident_rollback_lease_transitions") == 7
    leading[0] = False
    assert value("incident_rollback_leader") == 0


def test_the_bridges_metric_counts_answers() -> None:
    metrics = BridgeMetrics()
    metrics.observe(202, "Accepted")
    labels = {"code": "202", "reason": "Accepted"}
    name = "incident_rollback_webhook_requests_total"
    assert metrics.registry.get_sample_value(name, labels) == 1


def test_signed_requests_are_counted_by_secret_and_timed() -> None:
    metrics = BridgeMetrics()
    metrics.observe_signed("current", 0.02)
    value = metrics.registry.get_sample_value
    assert value("incident_rollback_webhook_secret_used_total", {"slot": "current"}) == 1
    assert value("incident_rollback_webhook_duration_seconds_sum") == 0.02


def test_names_of_secrets_are_few_and_short() -> None:
    """Whoever may write the Secret chooses them."""
    metrics = BridgeMetrics()
    for number in range(2 * MAX_SLOTS):
        metrics.observe_signed(f"{number}-{'x' * 253}", 0.02)
    metrics.observe_signed("0-" + "x" * 253, 0.02)
    (family,) = [one for one in metrics.registry.collect() if one.name.endswith("secret_used")]
    told = {one.labels["slot"]: one.value for one in family.samples if one.name.endswith("_total")}
    assert len(told) == MAX_SLOTS + 1
    assert max(map(len, told)) == MAX_SLOT
    assert told["other"] == MAX_SLOTS
    assert told["0-" + "x" * (MAX_SLOT - 2)] == 2


def test_two_processes_in_one_do_not_share_a_registry() -> None:
    ControllerMetrics().turns.labels("Pending").inc()
    labels = {"phase": "Pending"}
    fresh = ControllerMetrics().registry
    assert fresh.get_sample_value("incident_rollback_turns_total", labels) is None
