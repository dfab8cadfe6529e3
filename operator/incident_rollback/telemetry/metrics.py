"""
Prometheus metrics; their names and labels are API.  No label is unbounded.

Whatever an alert waits for is there from the start with 0: of a counter that begins with 1
Prometheus would see no increase.  What ends by the clock is asked for when the metrics are read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from incident_rollback import __version__

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)

FAILURES: Final = (
    "ProgressDeadlineExceeded",
    "VerifyDeadlineExceeded",
    "CrashedAfterReady",
    "Superseded",
    "Reverted",
    "WorkloadGone",
    "NotVerified",
)
"""The reasons of Failed."""
OTHER: Final = "other"
REVERTERS: Final = ("argocd", "flux", "helm", "kubectl", OTHER)
"""Who brings a bad revision back, as far as that is told apart."""
TURNED_AWAY: Final = (
    ("401", "NotSigned"),
    ("503", "Crowded"),
    ("503", "NoSecret"),
    ("503", "PermissionMissing"),
    ("503", "Unavailable"),
    ("503", "Unexpected"),
)
"""Codes and reasons of the webhooks that somebody has to look at."""
STANDINGS: Final = ("True", "False", "Unknown")
"""What a condition's status may be."""
MAX_SLOTS: Final = 10
"""Names of secrets that are told apart: whoever may write the Secret chooses them."""
MAX_SLOT: Final = 63

Ask = Callable[[], float]
"""Is called when the metrics are read."""


@dataclass
class ProcessMetrics:
    """What both processes count."""

    component: ClassVar[str]

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        """Make the metrics in our own registry."""
        Gauge(
            "incident_rollback_build_info",
            "1; which version of which process runs.",
            ["version", "component"],
            registry=self.registry,
        ).labels(__version__, self.component).set(1)
        self.ready = Gauge(
            "incident_rollback_ready",
            "1 while /readyz says ok, else 0.",
            registry=self.registry,
        )
        self.api_requests = Counter(
            "incident_rollback_api_requests_total",
            "Requests to the API server but those of the watch, by HTTP method and status code.",
            ["method", "code"],
            registry=self.registry,
        )

    def show_readiness(self, why_not_ready: Callable[[], str]) -> None:
        """Ask this, as /readyz does."""
        self.ready.set_function(lambda: not why_not_ready())

    def count_api_request(self, method: str, code: str) -> None:
        """Count an answer of the API server, or the word for why there was none."""
        self.api_requests.labels(method, code).inc()


@dataclass
class ControllerMetrics(ProcessMetrics):
    """What the controller counts."""

    component = "controller"

    def __post_init__(self) -> None:
        """Make the metrics in our own registry."""
        super().__post_init__()
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
        for reason in FAILURES:
            self.executions.labels("Failed", reason)
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
        self.leader = Gauge(
            "incident_rollback_leader",
            "1 while this controller leads, 0 while it stands by or is cut off.",
            registry=self.registry,
        )
        self.lease_transitions = Gauge(
            "incident_rollback_lease_transitions",
            "How often the Lease of the controllers has changed hands.",
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
        self._make_what_requests_come_to()
        self._make_what_is_told()
        self._make_what_turns_rest_on()

    def _make_what_requests_come_to(self) -> None:
        self.oldest_unfinished = Gauge(
            "incident_rollback_oldest_unfinished_seconds",
            "Age of the oldest request without a final phase; 0 when there is none.",
            registry=self.registry,
        )
        self.last_success = Gauge(
            "incident_rollback_last_success_timestamp_seconds",
            "When this process last saw a rollback succeed; 0: not yet.",
            registry=self.registry,
        )
        self.reverted = Counter(
            "incident_rollback_reverted_total",
            "Rollbacks whose bad revision was brought back, by who did it.",
            ["manager"],
            registry=self.registry,
        )
        for manager in REVERTERS:
            self.reverted.labels(manager)

    def _make_what_is_told(self) -> None:
        self.updates_pending = Gauge(
            "incident_rollback_updates_pending",
            "What is decided, and not yet told to its incident.",
            registry=self.registry,
        )
        self.oldest_update = Gauge(
            "incident_rollback_updates_oldest_pending_seconds",
            "For how long the oldest of those has been waiting; 0 when there is none.",
            registry=self.registry,
        )
        self.updates_told = Counter(
            "incident_rollback_updates_told_total",
            "What incidents were told, by its kind.",
            ["kind"],
            registry=self.registry,
        )
        self.updates_given_up = Counter(
            "incident_rollback_updates_given_up_total",
            "What incidents will never be told.",
            registry=self.registry,
        )
        self.firehydrant_requests = Counter(
            "incident_rollback_firehydrant_requests_total",
            "Requests to FireHydrant, by status code, or the word for why there was no answer.",
            ["code"],
            registry=self.registry,
        )

    def _make_what_turns_rest_on(self) -> None:
        self.environments = Gauge(
            "incident_rollback_environments",
            "RollbackEnvironments, by their condition Ready; of the controller that looks at them.",
            ["ready"],
            registry=self.registry,
        )
        self.list_age = Gauge(
            "incident_rollback_list_age_seconds",
            "Since the last good list of the IncidentRollbacks; +Inf before the first.",
            registry=self.registry,
        )
        self.watch_age = Gauge(
            "incident_rollback_watch_age_seconds",
            "For how long the watch has been running; 0 while it is not.",
            registry=self.registry,
        )

    def count_end_of_update(self, kind: str, *, is_told: bool) -> None:
        """Count something that an incident was told, or will never be."""
        if is_told:
            self.updates_told.labels(kind).inc()
        else:
            self.updates_given_up.inc()

    def count_firehydrant_request(self, code: str) -> None:
        """Count an answer of FireHydrant, or the word for why there was none."""
        self.firehydrant_requests.labels(code).inc()

    def show_work(self, *, oldest_unfinished: Ask, environments: Callable[[str], float]) -> None:
        """Ask these: a request grows older without an event."""
        self.oldest_unfinished.set_function(oldest_unfinished)
        for standing in STANDINGS:
            self.environments.labels(standing).set_function(partial(environments, standing))

    def show_watch(self, *, list_age: Ask, watch_age: Ask) -> None:
        """Ask these."""
        self.list_age.set_function(list_age)
        self.watch_age.set_function(watch_age)

    def show_outbox(self, *, pending: Ask, oldest: Ask) -> None:
        """Ask these; without an outbox both stay 0."""
        self.updates_pending.set_function(pending)
        self.oldest_update.set_function(oldest)

    def show_leadership(
        self, is_leading: Callable[[], bool], transitions: Callable[[], int]
    ) -> None:
        """Ask these when the metrics are read: who leads ends by the clock, without an event."""
        self.leader.set_function(is_leading)
        self.lease_transitions.set_function(transitions)


@dataclass
class BridgeMetrics(ProcessMetrics):
    """What the bridge counts."""

    component = "bridge"

    def __post_init__(self) -> None:
        """Make the metrics in our own registry."""
        super().__post_init__()
        self._slots: set[str] = set()
        self.requests = Counter(
            "incident_rollback_webhook_requests_total",
            "Webhook requests, by status code and reason.",
            ["code", "reason"],
            registry=self.registry,
        )

        for code, reason in TURNED_AWAY:
            self.requests.labels(code, reason)
        self.seconds = Histogram(
            "incident_rollback_webhook_duration_seconds",
            "From the end of a signed request to its answer.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.secret_used = Counter(
            "incident_rollback_webhook_secret_used_total",
            "Signed requests, by the name of the secret that had signed them.",
            ["slot"],
            registry=self.registry,
        )

    def observe(self, code: int, reason: str) -> None:
        """Count one answer."""
        self.requests.labels(str(code), reason).inc()

    def observe_signed(self, slot: str, seconds: float) -> None:
        """Count a signed request; of more than ten names the later ones are `other`."""
        slot = slot[:MAX_SLOT]
        if slot not in self._slots and len(self._slots) >= MAX_SLOTS:
            slot = OTHER
        self._slots.add(slot)
        self.secret_used.labels(slot).inc()
        self.seconds.observe(seconds)
