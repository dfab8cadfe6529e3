import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.bridge.payload import Malformed, Request
from incident_rollback.bridge.requests import (
    Make,
    Outcome,
    Reuse,
    Step,
    Stop,
    Wish,
    approved,
    is_for,
    manifest_for,
    message_for,
    next_attempt,
    rollback_name,
    rows_for,
    wishes_for,
)
from incident_rollback.crd.v1alpha1 import (
    Condition,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
    PlanStatus,
)
from incident_rollback.domain.incident import Incident
from incident_rollback.domain.trace import Trace

NOW = datetime(2026, 11, 23, 2, 14, 0, 999, tzinfo=UTC)
INCIDENT = Incident(id="i-1", services=("checkout",), environments=("production",))
WISH = Wish(incident_id="i-1", service="checkout", environment="production")
DIGEST = "sha256:" + "a" * 64


def wishes(incident: Incident, *, dry_run: bool = False) -> tuple[Wish, ...]:
    found = wishes_for(Request(incident=incident, form="ours", dry_run=dry_run))
    assert not isinstance(found, Malformed), found
    return found


def a_rollback(
    phase: Phase = Phase.PENDING,
    *,
    wish: Wish = WISH,
    attempt: int = 1,
    finished_at: datetime | None = None,
    digest: str | None = None,
    reason: str = "",
) -> IncidentRollback:
    manifest = manifest_for(wish, INCIDENT, namespace="home", pairs=1, at=NOW, attempt=attempt)
    ready = (Condition(type="Ready", status="Unknown", reason=reason),) if reason else ()
    status = IncidentRollbackStatus(
        phase=phase,
        finished_at=finished_at,
        conditions=(Condition(type="Held", status="True", reason="Calm"), *ready),
        plan=PlanStatus(digest=digest) if digest else None,
    )
    return IncidentRollback.model_validate(manifest).model_copy(update={"status": status})


PAIRS = [
    pytest.param(("a",), ("p",), [("a", "p")], id="one of each"),
    pytest.param(
        ("a", "b"),
        ("p", "q"),
        [("a", "p"), ("a", "q"), ("b", "p"), ("b", "q")],
        id="every pair, in order",
    ),
    pytest.param(
        ("Checkout API", "checkout-api", "b"),
        ("P", "p"),
        [("Checkout API", "P"), ("b", "P")],
        id="names with one DNS label are one, as sent first",
    ),
    pytest.param((), (), [("", "")], id="empty lists are one empty name"),
    pytest.param(("",), ("p",), [("", "p")], id="an empty name stays"),
]


@pytest.mark.parametrize(("services", "environments", "expected"), PAIRS)
def test_every_pair_is_wished_for(
    services: tuple[str, ...], environments: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    found = wishes(Incident(id="i-1", services=services, environments=environments))

    assert [(wish.service, wish.environment) for wish in found] == expected


@pytest.mark.parametrize(
    ("services", "environments", "is_refused"),
    [(10, 1, False), (11, 1, True), (5, 2, False), (2, 6, True), (6000, 6000, True)],
)
def test_more_than_ten_pairs_are_refused(
    services: int, environments: int, is_refused: bool
) -> None:
    incident = Incident(
        id="i-1",
        services=tuple(f"s{number}" for number in range(services)),
        environments=tuple(f"e{number}" for number in range(environments)),
    )

    found = wishes_for(Request(incident=incident, form="ours"))

    assert isinstance(found, Malformed) is is_refused
    if isinstance(found, Malformed):
        assert found.status == 422
        assert f"{services} services x {environments} environments" in found.message


def test_a_wish_is_of_its_incident_and_of_the_revision_that_was_named() -> None:
    found = wishes_for(Request(incident=INCIDENT, form="ours", to_revision=3))

    assert found == (replace(WISH, to_revision=3),)


@pytest.mark.parametrize(
    ("severity", "dry_run", "expected"),
    [
        pytest.param("GAMEDAY", False, True, id="a drill is a dry run"),
        pytest.param(" gameday", False, True, id="however it is written"),
        pytest.param("SEV1", False, False, id="a real incident is not"),
        pytest.param(None, False, False, id="an unknown severity is not"),
        pytest.param("SEV1", True, True, id="what was asked for as a dry run is one"),
    ],
)
def test_what_is_a_dry_run(severity: str | None, dry_run: bool, expected: bool) -> None:
    assert wishes(replace(INCIDENT, severity=severity), dry_run=dry_run)[0].dry_run is expected


def test_the_name_is_pinned_for_a_change_would_ask_twice() -> None:
    wish = Wish(incident_id="i-1", service="Checkout API", environment="production")

    assert rollback_name(wish) == "checkout-api-98efc09fa9786585"
    assert rollback_name(wish, 2) == "checkout-api-98efc09fa9786585-2"


def test_a_long_service_gives_thirty_characters_to_the_name() -> None:
    name = rollback_name(Wish("i-1", "a-service-with-a-very-long-na me", "production"))

    assert re.fullmatch(r"a-service-with-a-very-long-na-[0-9a-f]{16}", name)


def test_an_empty_service_leaves_out_the_part_before_the_hash() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", rollback_name(Wish("i-1", "", "production")))


DIFFERENT = [
    pytest.param(Wish("i-2", "checkout", "production"), id="another incident"),
    pytest.param(Wish("i-1", "payments", "production"), id="another service"),
    pytest.param(Wish("i-1", "checkout", "staging"), id="another environment"),
    pytest.param(Wish("i-1", "checkout", "production", dry_run=True), id="a preview"),
    pytest.param(Wish("i-1", "checkout", "production", to_revision=3), id="a revision"),
    pytest.param(Wish("i-1", "checkout", "production", plan_digest=DIGEST), id="an approval"),
    pytest.param(Wish("i-1", "checkoutp", "roduction"), id="the same letters, cut elsewhere"),
]


@pytest.mark.parametrize("other", DIFFERENT)
def test_another_wish_has_another_name_and_is_not_the_same(other: Wish) -> None:
    assert rollback_name(other) != rollback_name(WISH)
    assert not is_for(WISH, a_rollback(wish=other))


def test_the_same_wish_is_known_by_labels_not_by_texts_and_times() -> None:
    written = Wish("i-1", "Checkout!", "PRODUCTION")

    assert is_for(WISH, a_rollback(wish=written))
    assert rollback_name(written) == rollback_name(WISH)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"targetRef": {"name": "checkout"}}, id="a workload of its own namespace"),
        pytest.param(
            {
                "service": {"name": "checkout", "environment": "production"},
                "incident": {"id": "i-1"},
                "to": {"podTemplateHash": "6d4b"},
            },
            id="a template hash",
        ),
        pytest.param(
            {"service": {"name": "checkout", "environment": "production"}}, id="no incident"
        ),
    ],
)
def test_what_only_has_the_name_is_not_the_same(spec: dict[str, Any]) -> None:
    stranger = IncidentRollback.model_validate({"metadata": {"name": "x"}, "spec": spec})

    assert not is_for(WISH, stranger)


@given(st.text(), st.integers(1, 5))
def test_every_name_is_a_dns_label(service: str, attempt: int) -> None:
    name = rollback_name(Wish("i-1", service, "p"), attempt)

    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)


def test_the_manifest_says_what_was_asked() -> None:
    incident = Incident(
        id="i-1",
        services=("Checkout API",),
        environments=("Production",),
        number=1842,
        name="Checkout is down",
        url="https://app.example.com/1842",
        severity="SEV1",
        started_at=datetime(2026, 11, 23, 2, 1, tzinfo=UTC),
    )
    wish = Wish("i-1", "Checkout API", "Production", to_revision=3, plan_digest=DIGEST)

    manifest = manifest_for(wish, incident, namespace="home", pairs=2, at=NOW, attempt=3)

    assert manifest == {
        "apiVersion": "incidentrollback.dev/v1alpha1",
        "kind": "IncidentRollback",
        "metadata": {"name": rollback_name(wish, 3), "namespace": "home"},
        "spec": {
            "service": {"name": "Checkout API", "environment": "Production"},
            "to": {"revision": 3},
            "dryRun": False,
            "pairs": 2,
            "planDigest": DIGEST,
            "requestedAt": "2026-11-23T02:14:00Z",
            "requestedBy": "FireHydrant runbook",
            "incident": {
                "id": "i-1",
                "number": 1842,
                "name": "Checkout is down",
                "url": "https://app.example.com/1842",
                "severity": "SEV1",
                "startedAt": "2026-11-23T02:01:00Z",
            },
        },
    }


def test_the_trace_of_the_request_is_an_annotation() -> None:
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    manifest = manifest_for(
        Wish("i-1", "a", "b"), Incident(id="i-1"), namespace="home", pairs=1, at=NOW, trace=trace
    )
    assert manifest["metadata"]["annotations"] == {
        "incidentrollback.dev/trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    }


OPEN = a_rollback()
ROLLING = a_rollback(Phase.ROLLING_BACK)
REFUSED = a_rollback(Phase.REFUSED, finished_at=NOW)
FAILED = a_rollback(Phase.FAILED, finished_at=NOW)
PREVIEWED = a_rollback(Phase.PREVIEWED, finished_at=NOW)
FRESH = a_rollback(Phase.SUCCEEDED, finished_at=NOW - timedelta(seconds=59))
AHEAD = a_rollback(Phase.SUCCEEDED, finished_at=NOW + timedelta(seconds=5))
OLD = a_rollback(Phase.SUCCEEDED, finished_at=NOW - timedelta(seconds=60))
STRANGER = a_rollback(wish=Wish("i-2", "x", "y"))

ATTEMPTS = [
    pytest.param([], Make(1), id="nothing is there: the first"),
    pytest.param([OPEN], Reuse(OPEN), id="pending: a repeat"),
    pytest.param([ROLLING], Reuse(ROLLING), id="rolling back: a repeat"),
    pytest.param([FRESH], Reuse(FRESH), id="within a minute of success: a repeat"),
    pytest.param([AHEAD], Reuse(AHEAD), id="a success that lies ahead is fresh"),
    pytest.param([OLD], Make(2), id="a minute after success: the next"),
    pytest.param([REFUSED], Make(2), id="refused: the next at once"),
    pytest.param([FAILED], Make(2), id="failed: the next at once"),
    pytest.param([PREVIEWED], Make(2), id="previewed: the next at once"),
    pytest.param([FAILED, OPEN], Reuse(OPEN), id="only the latest counts: open"),
    pytest.param([OPEN, FAILED], Make(3), id="only the latest counts: failed"),
    pytest.param([FAILED] * 4, Make(5), id="the fifth is the last"),
    pytest.param([FAILED] * 5, Stop(FAILED), id="after five: stop"),
    pytest.param([FAILED] * 4 + [OPEN], Reuse(OPEN), id="the fifth is open: a repeat"),
    pytest.param([STRANGER], Make(2), id="somebody else's: the next number"),
    pytest.param([OPEN, STRANGER], Reuse(OPEN), id="somebody else's does not hide ours"),
    pytest.param([STRANGER] * 5, Stop(STRANGER), id="all numbers are somebody else's: stop"),
    pytest.param(
        [FAILED, REFUSED, PREVIEWED, OLD, FAILED],
        Stop(FAILED),
        id="after five: the last one shows how it went",
    ),
    pytest.param(
        [OLD, FAILED, REFUSED, FAILED, PREVIEWED],
        Stop(PREVIEWED),
        id="after five: the last one, whatever came of the others",
    ),
]


@pytest.mark.parametrize(("attempts", "expected"), ATTEMPTS)
def test_what_a_repeat_means(attempts: list[IncidentRollback], expected: Step) -> None:
    assert next_attempt(WISH, attempts, NOW) == expected


OTHER_DIGEST = "sha256:" + "b" * 64
SHOWN = a_rollback(Phase.REFUSED, digest=DIGEST, finished_at=NOW)
LATER = a_rollback(Phase.PREVIEWED, digest=OTHER_DIGEST, finished_at=NOW + timedelta(seconds=1))
EARLIER = a_rollback(Phase.PREVIEWED, digest=OTHER_DIGEST, finished_at=NOW - timedelta(seconds=1))

PLANS = [
    pytest.param([None, None], None, id="nothing was asked for"),
    pytest.param([OPEN, None], None, id="no plan yet"),
    pytest.param([SHOWN, None], DIGEST, id="the request's own plan"),
    pytest.param([None, LATER], OTHER_DIGEST, id="the preview's plan"),
    pytest.param([OPEN, LATER], OTHER_DIGEST, id="the preview's plan while the request has none"),
    pytest.param([SHOWN, LATER], OTHER_DIGEST, id="a preview after the request"),
    pytest.param([SHOWN, EARLIER], DIGEST, id="a preview before the request"),
    pytest.param(
        [a_rollback(digest=OTHER_DIGEST), SHOWN], DIGEST, id="what has not ended comes last"
    ),
    pytest.param([a_rollback(digest=DIGEST)], DIGEST, id="what has not ended, and is alone"),
]


@pytest.mark.parametrize(("shown", "digest"), PLANS)
def test_which_plan_is_approved(shown: list[IncidentRollback | None], digest: str | None) -> None:
    wish = approved(WISH, shown)

    assert (wish.plan_digest if wish else None) == digest


def test_a_row_tells_phase_and_the_reason_of_ready() -> None:
    rollback = a_rollback(Phase.REFUSED, reason="OptedOut")

    assert rows_for([Outcome(rollback), Outcome(OPEN, is_new=True)]) == [
        {
            "namespace": "home",
            "name": rollback_name(WISH),
            "created": False,
            "phase": "Refused",
            "reason": "OptedOut",
        },
        {
            "namespace": "home",
            "name": rollback_name(WISH),
            "created": True,
            "phase": "Pending",
            "reason": "",
        },
    ]


NAME = rollback_name(WISH)
MESSAGES = [
    pytest.param([Outcome(OPEN, is_new=True)], f"asked for {NAME}", id="created"),
    pytest.param([Outcome(OPEN)], f"already asked for: {NAME} is Pending", id="known"),
    pytest.param(
        [Outcome(OPEN, is_new=True)] * 2, f"asked for {NAME}, {NAME}", id="several are created"
    ),
    pytest.param(
        [Outcome(OPEN)] * 2,
        f"already asked for: {NAME} is Pending, {NAME} is Pending",
        id="several are known",
    ),
    pytest.param(
        [Outcome(a_rollback(Phase.REFUSED, reason="Expired"))],
        f"already asked for: {NAME} is Refused (Expired)",
        id="known, with its reason",
    ),
    pytest.param(
        [Outcome(FAILED, is_used_up=True)],
        f"5 attempts were made already, use kubectl now: {NAME}",
        id="used up",
    ),
    pytest.param(
        [Outcome(OPEN, is_new=True), Outcome(FAILED, is_used_up=True), Outcome(OPEN)],
        f"asked for {NAME}; 5 attempts were made already, use kubectl now: {NAME}; "
        f"already asked for: {NAME} is Pending",
        id="all of it",
    ),
]


@pytest.mark.parametrize(("outcomes", "expected"), MESSAGES)
def test_the_message_says_what_was_done_and_what_to_do(
    outcomes: list[Outcome], expected: str
) -> None:
    assert message_for(outcomes) == expected
