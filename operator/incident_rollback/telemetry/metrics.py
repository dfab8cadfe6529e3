"""Prometheus metrics; their names and labels are API.  No label is unbounded."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)


@dataclass
class ControllerMetrics:
    """What the controller counts."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        """Make the metrics in our own registry."""
        self.turns = Counter(
            "incident_rollback_turns_total",
            "Turns taken, by the phase after them.",
            ["phase"],
            registry=self.registry,
        )
        self.turn_seconds = Histogram(
            "incident_rollback_turn_duration_seconds",
            "How long a turn took.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.executions = Counter(
            "incident_rollback_executions_total",
            "Rollbacks that ended, by phase and reason.",
            ["phase", "reason"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "incident_rollback_duration_seconds",
            "From the request to the end of a rollback.",
            buckets=LONG_BUCKETS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "incident_rollback_in_progress",
            "Rollbacks that are not settled.",
            registry=self.registry,
        )
        self.watch_starts = Counter(
            "incident_rollback_watch_starts_total",
            "How often the watch was started.",
            registry=self.registry,
        )
        self.watch_missed = Counter(
            "incident_rollback_watch_missed_total",
            "Resources that the safety list found and the watch did not.",
            registry=self.registry,
        )


@dataclass
class BridgeMetrics:
    """What the bridge counts."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        """Make the metrics in our own registry."""
        self.requests = Counter(
            "incident_rollback_webhook_requests_total",
            "Webhook requests, by status code and reason.",
            ["code", "reason"],
            registry=self.registry,
        )

    def observe(self, code: int, reason: str) -> None:
        """Count one answer."""
        self.requests.labels(str(code), reason).inc()
