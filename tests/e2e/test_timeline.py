"""
FireHydrant away, refusing, slow or forgetful: the rollback goes on, and the incident hears it once.

And what it hears: drills and closed incidents, texts of people made safe, notes that end with what
to do next and never hold a secret.
"""

import re
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import Operator, Stage, condition
from tests.sandbox.api import Json
from tests.sandbox.firehydrant import Request, StandIn
from tests.sandbox.firehydrant_runbook import Form
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, a_deployment

VERY_CALM: Final = {"stableSeconds": 600}
KEY_FILE: Final = "INCIDENT_ROLLBACK_FIREHYDRANT_API_KEY_FILE"
URL: Final = "INCIDENT_ROLLBACK_FIREHYDRANT_URL"
LATE_SECONDS: Final = 60.0
"""How late FireHydrant may show what it took: so long lie between two looks."""
MAX_NOTE: Final = 3000
MAX_QUOTE: Final = 200

Reported = tuple[str, str]
"""Status and reason of the condition Reported."""
TOLD: Final = ("True", "Told")


def reported(status: Json) -> Reported:
    found = condition(status, "Reported")
    return (found["status"], found["reason"]) if found else ("", "")


def told_once(stage: Stage, incident: str) -> None:
    """See start and end, once each and in order, and the change after them."""
    kinds = [entry.kind for entry in stage.timeline(incident)]
    assert kinds == ["note", "note", "relation"]
    start, end = stage.notes(incident)
    assert start.startswith(f"Rolling {stage.name} in {stage.namespace} back to {GOOD_IMAGE}")
    assert f"is back on {GOOD_IMAGE}" in end
    assert len(stage.changes(incident)) == 1


# --- Away


def test_firehydrant_away_does_not_hold_the_rollback_up_and_is_told_later(stage: Stage) -> None:
    firehydrant = stage.operator.firehydrant
    stage.break_it()
    incident = stage.declare()
    firehydrant.go_away()
    try:
        name = stage.ask(incident=incident)
        stage.wait_phase(name, "Succeeded", "RolledBack")
        unreachable = ("False", "Unreachable")
        stage.wait_status(name, lambda status: reported(status) == unreachable, "unreported")
        assert stage.images() == [GOOD_IMAGE]
        assert stage.timeline(incident) == ()
        assert not stage.status(name)["settled"]
    finally:
        firehydrant.come_back()
    assert reported(stage.wait_settled(name)) == TOLD
    told_once(stage, incident)
    assert len(stage.patches()) == 1


def test_killed_between_a_note_and_its_record_it_is_looked_for_and_not_posted_twice(
    operator: Operator, set_stage: SetStage
) -> None:
    stage, firehydrant = set_stage(policy=VERY_CALM), operator.firehydrant
    stage.break_it()
    incident = stage.declare()
    post, looks = f"POST /v1/incidents/{incident}/notes", f"GET /v1/incidents/{incident}/events"
    firehydrant.commit_then_time_out(1, post)  # It is taken, and cannot be recorded yet.
    name = stage.ask(incident=incident)
    stage.wait_told(incident, "^Rolling ")
    stage.operator.kill_controller()
    (start,) = stage.status(name)["updates"]
    assert "deliveredAt" not in start
    assert firehydrant.asked(looks) == ()
    stage.end_calm()
    settled = stage.wait_settled(name)
    assert len(firehydrant.asked(looks)) == 1
    assert len(firehydrant.asked(post)) == 2
    told_once(stage, incident)
    assert all(update["externalID"] for update in settled["updates"])


def metric(operator: Operator, name: str) -> float:
    """Return a number without labels that the controller tells Prometheus."""
    pattern = rf"^incident_rollback_{name} (\S+)$"
    found = re.search(pattern, operator.controller.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_an_outage_is_seen_in_the_metrics_and_then_each_incident_is_told_once(stage: Stage) -> None:
    """Two of them, and the oldest update counts; what nobody was told after a minute alarms."""
    operator, firehydrant = stage.operator, stage.operator.firehydrant
    stage.break_it()
    first, second = stage.declare(), stage.declare(name="Checkout again")
    firehydrant.go_away()
    try:
        names = [stage.ask(incident=first)]
        stage.wait_phase(names[0], "Succeeded", "RolledBack")
        names.append(stage.ask(incident=second))
        stage.wait_phase(names[1], "Succeeded", "AlreadyThere")
        wait_for(lambda: metric(operator, "updates_pending") == 4, "all four to wait")
        age = metric(operator, "updates_oldest_pending_seconds")
        assert age > 0
        wait_for(
            lambda: metric(operator, "updates_oldest_pending_seconds") >= age + 5, "it to grow old"
        )
    finally:
        firehydrant.come_back()
    for name in names:
        assert reported(stage.wait_settled(name)) == TOLD
    told_once(stage, first)
    (note,) = stage.notes(second)
    assert GOOD_IMAGE in note
    assert metric(operator, "updates_pending") == 0
    assert metric(operator, "updates_oldest_pending_seconds") == 0


WAIT_SECONDS: Final = 10
"""Longer than it takes to refuse a request; on a machine where it is not, nothing is shown."""
A_DAY_AND_MORE: Final = timedelta(hours=25)


def test_what_could_not_be_told_for_a_day_is_given_up_loudly(stage: Stage) -> None:
    operator, firehydrant = stage.operator, stage.operator.firehydrant
    stage.break_it()
    incident = stage.declare()
    firehydrant.go_away()
    try:
        name = stage.ask(incident=incident)
        stage.wait_phase(name, "Succeeded", "RolledBack")
        operator.controller.stop()
    finally:
        firehydrant.come_back()
    operator.start_controller(ahead=A_DAY_AND_MORE)
    settled = stage.wait_settled(name)
    assert reported(settled) == ("False", "TooLate")
    assert {update["gaveUp"] for update in settled["updates"]} == {"not told within 24 hours"}
    assert metric(operator, "updates_given_up_total") == len(settled["updates"]) == 3
    assert operator.log(200).count("will not be told") == 3
    assert firehydrant.asked(incident) == ()


def test_a_429_for_one_incident_holds_the_other_and_then_each_is_told_once(stage: Stage) -> None:
    """FireHydrant limits the account, and not one incident."""
    firehydrant = stage.operator.firehydrant
    pair = [stage.declare(), stage.declare(name="Checkout again")]
    firehydrant.fail_next(429, 1, f"POST .*/({'|'.join(pair)})/notes", retry_after=WAIT_SECONDS)
    names = [stage.ask(incident=pair[0])]
    is_limited = ("False", "RateLimited")
    stage.wait_status(names[0], lambda status: reported(status) == is_limited, "limited")
    names.append(stage.ask(incident=pair[1]))
    for name in names:
        assert reported(stage.wait_settled(name)) == TOLD
    posts = firehydrant.asked(f"POST .*/({'|'.join(pair)})/")
    assert [post.status for post in posts] == [429, 201, 201]
    limited, *later = (post.at for post in posts)
    assert all((at - limited).total_seconds() >= WAIT_SECONDS for at in later)
    for incident in pair:
        (note,) = stage.notes(incident)
        assert "Nothing was changed" in note


# --- What people do to what we wrote, and what our key may not see


def test_a_note_that_somebody_deletes_is_not_posted_again(set_stage: SetStage) -> None:
    stage = set_stage(policy=VERY_CALM)
    firehydrant = stage.operator.firehydrant
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    start = stage.wait_told(incident, "^Rolling ").text
    stage.wait_status(name, lambda status: reported(status) == TOLD, "recorded as told")
    firehydrant.forget(re.escape(start))
    stage.end_calm()
    assert reported(stage.wait_settled(name)) == TOLD
    posts = [r.body["body"] for r in firehydrant.asked(f"POST .*/incidents/{incident}/notes")]
    assert posts == stage.notes(incident)
    assert posts[0] == start
    assert len(posts) == 2


def test_a_private_incident_and_a_wrong_key_are_told_apart(stage: Stage) -> None:
    """By what FireHydrant says to each, and in words that name what to do."""
    firehydrant = stage.operator.firehydrant
    hidden = stage.ask(incident=stage.declare(private=True))
    status = stage.wait_settled(hidden)
    assert reported(status) == ("False", "IncidentNotFound")
    assert "it is private and this API key may not see it" in condition_message(status)
    firehydrant.answer_private_with(403)
    try:
        forbidden = stage.ask(incident=stage.declare(private=True))
        is_forbidden = ("False", "KeyForbidden")
        status = stage.wait_status(forbidden, lambda s: reported(s) == is_forbidden, "forbidden")
        assert "to see private incidents where this is one" in condition_message(status)
    finally:
        firehydrant.answer_private_with(404)
    firehydrant.accept_only("fhb-of-somebody-else")
    try:
        refused = stage.ask(incident=stage.declare())
        is_refused = ("False", "KeyRefused")
        status = stage.wait_status(refused, lambda s: reported(s) == is_refused, "refused")
        assert "wrong, revoked, or of FireHydrant's other region" in condition_message(status)
    finally:
        firehydrant.accept_only(None)
    assert not any(stage.status(name)["settled"] for name in (forbidden, refused))


def condition_message(status: Json) -> str:
    found = condition(status, "Reported")
    assert found is not None
    message: str = found["message"]
    return message


# --- Troubles, each told apart; all at once, for some take a minute


@dataclass
class Told:
    """How it went with one incident that had only one thing to hear: that it was refused."""

    incident: str
    name: str
    settled: bool = False
    seen: list[Reported] = field(default_factory=list[Reported])
    """What the condition Reported said over time."""


Set = Callable[[StandIn, str], None]
"""Sets one incident's trouble going."""


def failing(status: int, times: int | None, *, writes: bool = False) -> Set:
    """Fail what is about an incident: all of it, or what is written and looked for."""

    def set_going(firehydrant: StandIn, incident: str) -> None:
        what = "/(notes|events)" if writes else ""
        firehydrant.fail_next(status, times, f"/incidents/{incident}{what}")

    return set_going


def limited(firehydrant: StandIn, incident: str) -> None:
    firehydrant.fail_next(429, 1, f"/incidents/{incident}/notes", retry_after=4)


def stalling(firehydrant: StandIn, incident: str) -> None:
    firehydrant.stall(12.0, 3, f"/incidents/{incident}/(notes|events)")


def timing_out(firehydrant: StandIn, incident: str) -> None:
    firehydrant.commit_then_time_out(1, f"/incidents/{incident}/notes")


def failing_after(firehydrant: StandIn, incident: str) -> None:
    firehydrant.commit_then_500(1, f"/incidents/{incident}/notes")


def nothing_wrong(firehydrant: StandIn, incident: str) -> None:
    """It goes as it should."""


TRIES: Final = 3
"""After so many failures a wait is long enough to be worth a word in the status."""
PASSING: Final[Mapping[str, tuple[Set, tuple[Reported, ...]]]] = {
    "429: RateLimited, then told": (limited, (("False", "RateLimited"), TOLD)),
    "500: ServerError, then told": (
        failing(500, TRIES, writes=True),
        (("False", "ServerError"), TOLD),
    ),
    "502: ServerError, then told": (
        failing(502, TRIES, writes=True),
        (("False", "ServerError"), TOLD),
    ),
    "no answer in time: TimedOut, then told": (stalling, (("False", "TimedOut"), TOLD)),
    "written, but not answered: found": (timing_out, (TOLD,)),
    "written, but answered 500: found": (failing_after, (TOLD,)),
    "nothing wrong: told": (nothing_wrong, (TOLD,)),
}
LATE: Final = "written, but answered 500, and shown late: found"
LASTING: Final[Mapping[str, tuple[Set, str]]] = {
    "401: KeyRefused": (failing(401, None), "KeyRefused"),
    "403: KeyForbidden": (failing(403, None), "KeyForbidden"),
}
GIVEN_UP: Final[Mapping[str, tuple[Set, str]]] = {
    "404: IncidentNotFound": (failing(404, None), "IncidentNotFound"),
    "400: NotAccepted": (failing(400, None), "NotAccepted"),
}
QUICK_TO_FIND: Final = ("written, but not answered: found", "written, but answered 500: found")
LATE_BY_SECONDS: Final = 20.0
"""Later than the first look, which comes after a second, and earlier than the next one."""
KEY_SECONDS: Final = 150.0
"""A refused key is tried again after five minutes, or after half of that where chance has it."""


class Troubles:
    """Incidents of one healthy Deployment with nothing to go back to, each with its trouble."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.all: dict[str, Told] = {}

    def begin(self, case: str, set_going: Set) -> None:
        incident = self.stage.declare(name=case)
        set_going(self.stage.operator.firehydrant, incident)
        self.all[case] = Told(incident, self.stage.ask(incident=incident))

    def wait(self, is_over: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            for told in self.all.values():
                status = self.stage.status(told.name)
                told.settled = bool(status.get("settled"))
                if (now := reported(status)) not in (("", ""), *told.seen[-1:]):
                    told.seen.append(now)
            return is_over()

        wait_for(look, what, timeout_seconds=5 * LATE_SECONDS, seen=lambda: self.all)


@pytest.fixture(scope="module")
def troubles(operator: Operator) -> Iterator[Troubles]:
    """All of them, over."""
    namespace = f"troubles-{secrets.token_hex(3)}"
    operator.sandbox.workloads.create_namespace(namespace)
    stage = Stage.begin(operator, namespace)
    try:
        found = Troubles(stage)
        for case, (set_going, _) in {**PASSING, **LASTING, **GIVEN_UP}.items():
            found.begin(case, set_going)
        found.wait(
            lambda: all(found.all[case].settled for case in QUICK_TO_FIND), "what is found at once"
        )
        operator.firehydrant.show_events_late(LATE_BY_SECONDS)
        found.begin(LATE, failing_after)
        found.wait(
            lambda: all(told.settled for case, told in found.all.items() if case not in LASTING),
            "all but refused keys to be over",
        )
        operator.firehydrant.show_events_late(0)
        yield found
    finally:
        operator.firehydrant.show_events_late(0)
        stage.clear()
        operator.sandbox.workloads.delete_namespace(namespace)


def posts(troubles: Troubles, case: str) -> Sequence[str]:
    """Return what was posted about a case, whether it went through or not."""
    return [request.body["body"] for request in requests_about(troubles, case)]


def requests_about(troubles: Troubles, case: str) -> Sequence[Request]:
    """Return the requests that posted it."""
    incident = troubles.all[case].incident
    return troubles.stage.operator.firehydrant.asked(f"POST /v1/incidents/{incident}/")


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_told_apart_and_then_told_once(troubles: Troubles, case: str) -> None:
    told = troubles.all[case]
    _, expected = PASSING[case]
    assert told.settled
    assert tuple(told.seen) == expected
    (note,) = troubles.stage.notes(told.incident)
    assert "Nothing was changed" in note
    assert set(posts(troubles, case)) == {note}


@pytest.mark.parametrize("case", QUICK_TO_FIND)
def test_what_was_written_is_looked_for_and_not_posted_again(troubles: Troubles, case: str) -> None:
    assert len(posts(troubles, case)) == 1


def test_what_is_shown_late_is_waited_for_and_not_posted_again(troubles: Troubles) -> None:
    """It is looked for twice, a minute apart."""
    told = troubles.all[LATE]
    assert told.settled
    assert told.seen == [TOLD]
    assert len(troubles.stage.notes(told.incident)) == 1
    assert len(posts(troubles, LATE)) == 1
    looks = f"GET /v1/incidents/{told.incident}/events"
    first, second = troubles.stage.operator.firehydrant.asked(looks)
    assert (second.at - first.at).total_seconds() >= LATE_SECONDS


@pytest.mark.parametrize("case", LASTING)
def test_a_refused_key_is_said_and_does_not_settle(troubles: Troubles, case: str) -> None:
    """It is tried again after minutes, and not before."""
    told = troubles.all[case]
    _, reason = LASTING[case]
    assert told.seen == [("False", reason)]
    assert not told.settled
    tries = [request.at for request in requests_about(troubles, case)]
    assert tries
    assert all((b - a).total_seconds() >= KEY_SECONDS for a, b in pairwise(tries))
    assert troubles.stage.notes(told.incident) == []
    (update,) = troubles.stage.status(told.name)["updates"]
    assert not {"deliveredAt", "gaveUp"} & {key for key, value in update.items() if value}


@pytest.mark.parametrize("case", GIVEN_UP)
def test_what_cannot_be_told_is_given_up_at_once_and_settles(troubles: Troubles, case: str) -> None:
    told = troubles.all[case]
    _, reason = GIVEN_UP[case]
    assert told.settled
    assert told.seen == [("False", reason)]
    assert len(posts(troubles, case)) == 1
    (update,) = troubles.stage.status(told.name)["updates"]
    assert update["gaveUp"]
    assert update.get("deliveredAt") is None


# --- Another key, another address


@contextmanager
def controller_told(operator: Operator, **env: str | None) -> Generator[None]:
    """Restart the controller with other settings, None for without, and back afterwards."""
    controller = operator.controller
    before = dict(controller.env)
    controller.stop()
    controller.env.update({key: value for key, value in env.items() if value is not None})
    for key in [key for key, value in env.items() if value is None]:
        del controller.env[key]
    controller.begin()
    try:
        yield
    finally:
        controller.env.clear()
        controller.env.update(before)
        controller.begin_again()


def test_without_a_key_nothing_is_told_and_all_else_works(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    with controller_told(stage.operator, **{KEY_FILE: None}):
        name = stage.ask(incident=incident)
        stage.wait_phase(name, "Succeeded", "RolledBack")
        settled = stage.wait_settled(name)
        assert stage.operator.controller.log_text().count("no FireHydrant API key") == 1
    assert reported(settled) == ("False", "NoKey")
    assert settled.get("updates", []) == []
    assert stage.operator.firehydrant.asked(incident) == ()
    assert len(stage.patches()) == 1


def test_another_region_is_another_address_and_nothing_else(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    with StandIn() as europe:
        europe.declare(incident_id=incident)
        with controller_told(stage.operator, **{URL: europe.url}):
            name = stage.ask(incident=incident)
            settled = stage.wait_settled(name)
        assert reported(settled) == TOLD
        assert [entry.kind for entry in europe.timeline(incident)] == ["note", "note", "relation"]
        assert europe.violations == ()
    assert stage.operator.firehydrant.asked(incident) == ()


# --- Drills and closed incidents


@pytest.mark.parametrize(
    ("form", "questions"),
    [
        pytest.param("ours", 0, id="our form says the severity itself"),
        pytest.param("relay", 1, id="about Relay's form FireHydrant is asked"),
    ],
)
def test_a_drill_is_a_preview(stage: Stage, form: Form, questions: int) -> None:
    stage.break_it()
    incident = stage.declare(severity="GAMEDAY")
    name = stage.ask(form, incident=incident)
    stage.wait_phase(name, "Previewed", "Previewed")
    settled = stage.wait_settled(name)
    assert stage.attempts() == []
    assert stage.images() == [BROKEN_IMAGE]
    (note,) = stage.notes(incident)
    assert note.startswith("Dry run, nothing was changed.")
    assert f"image {BROKEN_IMAGE} -> {GOOD_IMAGE}" in note
    assert settled["plan"]["digest"] in note
    assert stage.changes(incident) == {}
    assert len(stage.operator.firehydrant.asked(f"GET /v1/incidents/{incident}$")) == questions


def test_when_it_is_known_to_be_no_drill_nobody_is_asked_before_the_patch(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare(severity="SEV1")
    stage.wait_settled(stage.ask("ours", incident=incident))
    assert stage.operator.firehydrant.asked(f"GET /v1/incidents/{incident}$") == ()
    assert len(stage.patches()) == 1


def from_relay(stage: Stage, incident: str) -> str:
    return stage.ask("relay", incident=incident)


def an_old_request(stage: Stage, incident: str) -> str:
    asked_at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    return stage.request(
        {
            "service": {"name": stage.name, "environment": stage.namespace},
            "requestedAt": asked_at.isoformat().replace("+00:00", "Z"),
            "incident": {"id": incident, "severity": "SEV1"},
        }
    )


@pytest.mark.parametrize("ask", [from_relay, an_old_request])
def test_a_closed_incident_changes_nothing_any_more(
    set_stage: SetStage, ask: Callable[[Stage, str], str]
) -> None:
    stage = set_stage(policy={"maxAgeSeconds": 900})
    stage.break_it()
    incident = stage.declare()
    stage.operator.firehydrant.resolve(incident)
    name = ask(stage, incident)
    stage.wait_phase(name, "Refused", "IncidentClosed")
    stage.wait_settled(name)
    assert stage.attempts() == []
    assert stage.images() == [BROKEN_IMAGE]
    (note,) = stage.notes(incident)
    assert "Nothing was changed" in note


# --- The words


NASTY: Final = "<script>alert('&')</script> @channel\n@here <!channel> "


def see_it_is_safe(note: str) -> None:
    """See no markup, no mention and no line that a person made up."""
    body, last = note.splitlines()
    assert last.startswith("Next: ")
    assert not re.search(r"[<>]|@(?!\u200b|sha256:)", note)
    assert not re.search(r"&(?!amp;|lt;|gt;)", note)
    assert len(body) < MAX_NOTE


def test_names_of_people_are_escaped_and_cut(set_stage: SetStage) -> None:
    service = f"Checkout {NASTY}".ljust(253, "o")
    environment = f"Prod {NASTY}".ljust(253, "d")
    mapping = [{"name": service, "workload": {"name": "checkout"}}]
    stage = set_stage(environments=[environment], services=mapping)
    stage.map(
        environments=[environment],
        services=mapping,
        namespace=stage.namespace,
    )
    stage.break_it()
    incident = stage.declare(
        name=NASTY.ljust(600, "!"), services=[service], environments=[environment]
    )
    name = stage.ask("ours", incident=incident)
    stage.wait_settled(name)
    start, end = stage.notes(incident)
    for note in (start, end):
        see_it_is_safe(note)
        assert (
            "Checkout &lt;script&gt;alert('&amp;')&lt;/script&gt; @\u200bchannel @\u200bhere"
            in note
        )
        assert "Prod &lt;script&gt;" in note
        assert "o" * MAX_QUOTE not in note
        assert "d" * MAX_QUOTE not in note
    spec = stage.rollback(name)["spec"]
    assert spec["service"] == {"name": service, "environment": environment}
    assert len(spec["incident"]["name"]) == 500
    assert len(stage.patches()) == 1


def test_the_reason_of_an_owner_is_escaped_and_cut(stage: Stage) -> None:
    reason = NASTY.ljust(600, "!")
    annotations = {"incidentrollback.dev/rollback": "never", "incidentrollback.dev/reason": reason}
    stage.sandbox.workloads.annotate(stage.namespace, stage.name, annotations)
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_phase(name, "Refused", "OptedOut")
    stage.wait_settled(name)
    (note,) = stage.notes(incident)
    see_it_is_safe(note)
    assert "&lt;script&gt;alert('&amp;')&lt;/script&gt; @\u200bchannel @\u200bhere" in note
    assert "…" in note
    assert "!" * MAX_QUOTE not in note
    assert stage.attempts() == []


def test_no_value_of_env_reaches_the_incident_the_status_or_the_log(set_stage: SetStage) -> None:
    """Neither the one that was, nor the one that is."""
    before, after = (f"hunter2-{secrets.token_hex(8)}" for _ in range(2))
    stage = set_stage(a_deployment(env={"DATABASE_PASSWORD": before}))
    container: Json = {
        "name": "app",
        "image": BROKEN_IMAGE,
        "env": [{"name": "DATABASE_PASSWORD", "value": after}],
    }
    stage.sandbox.workloads.patch_template(
        stage.namespace, stage.name, {"spec": {"containers": [container]}}
    )
    stage.wait_broken()
    incident = stage.declare()
    preview = stage.ask("ours", incident=incident, dry_run=True)
    stage.wait_phase(preview, "Previewed")
    name = stage.ask("ours", incident=incident)
    for one in (preview, name):
        stage.wait_settled(one)
    changes = stage.status(name)["plan"]["changes"]
    assert "container app: env DATABASE_PASSWORD changes" in changes
    requests = stage.operator.firehydrant.asked(f"^POST .*({incident}|/changes/)")
    said = [
        *(str(request.body) for request in requests),
        *(str(stage.status(one)) for one in (preview, name)),
        *(str(event) for one in (stage.name, name) for event in stage.events(one)),
        stage.operator.controller.log_text(),
        stage.operator.bridge.log_text(),
    ]
    assert len(requests) >= len(["preview", "start", "end", "change", "relation"])
    for text in said:
        assert before not in text
        assert after not in text


def test_every_note_so_far_ends_with_what_to_do_next(stage: Stage) -> None:
    """All that was posted in this session, in whatever test: plain text, short, and signed."""
    stage.break_it()
    name = stage.ask()
    stage.wait_settled(name)
    bodies = [
        request.body["body"] for request in stage.operator.firehydrant.asked("^POST .*/notes$")
    ]
    assert any(name in body for body in bodies)
    for body in bodies:
        assert 0 < len(body) < MAX_NOTE
        *_, last = body.splitlines()
        assert re.fullmatch(r"Next: .+ \([a-z0-9.-]+\)", last), body
        assert body.count("\n") == 1
        assert not re.search(r"</?[a-z]+>|\*\*|```", body)
