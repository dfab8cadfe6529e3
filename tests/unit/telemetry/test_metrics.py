"""Names and labels of metrics are API."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from incident_rollback.telemetry.metrics import BridgeMetrics, ControllerMetrics


def names(registry: CollectorRegistry) -> set[str]:
    lines = generate_latest(registry).decode().splitlines()
    return {line.split()[2] for line in lines if line.startswith("# HELP")}


def test_the_controllers_metrics() -> None:
    expected = {
        "incident_rollback_turns_total",
        "incident_rollback_turn_duration_seconds",
        "incident_rollback_executions_total",
        "incident_rollback_duration_seconds",
        "incident_rollback_in_progress",
        "incident_rollback_watch_starts_total",
        "incident_rollback_watch_missed_total",
    }
    found = {name for name in names(ControllerMetrics().registry) if not name.endswith("_created")}
    assert found == expected


def test_the_bridges_metric_counts_answers() -> None:
    metrics = BridgeMetrics()
    metrics.observe(202, "Accepted")
    labels = {"code": "202", "reason": "Accepted"}
    name = "incident_rollback_webhook_requests_total"
    assert metrics.registry.get_sample_value(name, labels) == 1


def test_two_processes_in_one_do_not_share_a_registry() -> None:
    ControllerMetrics().turns.labels("Pending").inc()
    labels = {"phase": "Pending"}
    fresh = ControllerMetrics().registry
    assert fresh.get_sample_value("incident_rollback_turns_total", labels) is None
