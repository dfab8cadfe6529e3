"""What a decision leaves in the status, and that nothing is told twice."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from incident_rollback.crd.v1alpha1 import (
    FINAL_PHASES,
    MAX_TEXT,
    MAX_UPDATES,
    Candidate,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
    Policy,
)
from incident_rollback.domain.aim import choose
from incident_rollback.domain.conditions import get
from incident_rollback.domain.moves import (
    Claim,
    Fail,
    Hold,
    Move,
    News,
    Preview,
    Refuse,
    Restore,
    Succeed,
    Wait,
    Watch,
)
from incident_rollback.domain.record import SILENCES, Teller, record, with_reported
from incident_rollback.errors import IllegalTransitionError
from tests.builders import (
    NOW,
    a_condition,
    a_marker,
    a_revision,
    a_rollback,
    a_status,
    a_workload,
    after,
    an_observation,
    an_update,
    claimed,
    hash_of,
    undone,
)

if TYPE_CHECKING:
    from incident_rollback.domain.observation import Observation

TELLER = Teller("process-1")
CLAIM = claimed(updates=(an_update("start"),))
PATCHED = claimed(patched_at=NOW, updates=(an_update("start", delivered_at=NOW),))
ENDED = claimed(Phase.SUCCEEDED, patched_at=NOW, finished_at=NOW, updates=())


def the_claim(rollback: IncidentRollback | None = None) -> Claim:
    workload = a_workload()
    move = choose(an_observation(rollback, workload), workload)
    assert isinstance(move, Claim)
    return move


WAIT = Wait("Suspended", "it is suspended", "switch it on")
REFUSE = Refuse("OptedOut", "it says never", "ask them")
WATCH = Watch("2 of 3 pods available", NOW)
SUCCEED = Succeed("RolledBack", "3 of 3 pods available since 02:14:40", "revert it", NOW)
FAIL = Fail("Superseded", "something was deployed over it", "ask them")
NEWS = News("Reverted", "it was brought back", "stop that")


def recorded(
    rollback: IncidentRollback, move: Move, teller: Teller = TELLER, **seen: Any
) -> IncidentRollbackStatus:
    return record(an_observation(rollback, **seen), move, teller).status


def conditions(status: IncidentRollbackStatus) -> dict[str, str]:
    return {c.type: f"{c.status} {c.reason}" for c in status.conditions}


def keys(status: IncidentRollbackStatus) -> list[str]:
    return [u.key for u in status.updates]


ADVANCE = [
    pytest.param(
        a_rollback(),
        WAIT,
        Phase.PENDING,
        {"Ready": "Unknown Suspended", "Reconciling": "True Suspended"},
        ["waiting-Suspended"],
        id="Pending, waiting",
    ),
    pytest.param(
        a_rollback(),
        REFUSE,
        Phase.REFUSED,
        {"Ready": "False OptedOut", "Stalled": "True OptedOut"},
        ["end"],
        id="Pending, refused",
    ),
    pytest.param(
        a_rollback(),
        the_claim(),
        Phase.ROLLING_BACK,
        {"Ready": "Unknown RollingBack", "Reconciling": "True RollingBack"},
        ["start"],
        id="Pending, claimed",
    ),
    pytest.param(
        a_rollback(),
        Preview(the_claim().aim),
        Phase.PREVIEWED,
        {"Ready": "True Previewed"},
        ["end"],
        id="Pending, previewed",
    ),
    pytest.param(
        a_rollback(),
        Succeed("AlreadyThere", "it is there", "look elsewhere"),
        Phase.SUCCEEDED,
        {"Ready": "True AlreadyThere"},
        ["end"],
        id="Pending, there already",
    ),
    pytest.param(
        CLAIM,
        WAIT,
        Phase.ROLLING_BACK,
        {"Ready": "Unknown Suspended", "Reconciling": "True Suspended"},
        ["waiting-Suspended", "start"],  # In the order in which they are told.
        id="RollingBack, waiting before the patch",
    ),
    pytest.param(
        CLAIM,
        REFUSE,
        Phase.REFUSED,
        {"Ready": "False OptedOut", "Stalled": "True OptedOut"},
        ["end"],
        id="RollingBack, refused before the patch: the start is withdrawn",
    ),
    pytest.param(
        CLAIM,
        Succeed("AlreadyThere", "it is there", "look elsewhere"),
        Phase.SUCCEEDED,
        {"Ready": "True AlreadyThere"},
        ["end"],
        id="RollingBack, undone by hand: the start is withdrawn",
    ),
    pytest.param(
        CLAIM, Restore(a_workload().revisions[1]), Phase.ROLLING_BACK, {}, ["start"], id="patching"
    ),
    pytest.param(
        PATCHED,
        WATCH,
        Phase.ROLLING_BACK,
        {"Ready": "Unknown RollingBack", "Reconciling": "True RollingBack"},
        ["start"],
        id="RollingBack, watched",
    ),
    pytest.param(
        PATCHED,
        SUCCEED,
        Phase.SUCCEEDED,
        {"Ready": "True RolledBack"},
        ["start", "end", "change"],
        id="RollingBack, healthy",
    ),
    pytest.param(
        PATCHED,
        FAIL,
        Phase.FAILED,
        {"Ready": "False Superseded", "Stalled": "True Superseded"},
        ["start", "end", "change"],
        id="RollingBack, failed",
    ),
    pytest.param(
        CLAIM,
        Fail("WorkloadGone", "it is gone", "deploy it"),
        Phase.FAILED,
        {"Ready": "False WorkloadGone", "Stalled": "True WorkloadGone"},
        ["end"],
        id="RollingBack, gone before a patch was seen: no start, and no change event",
    ),
    pytest.param(
        ENDED, Hold(NEWS), Phase.SUCCEEDED, {"Held": "False Reverted"}, ["held"], id="brought back"
    ),
    pytest.param(
        ENDED,
        Hold(News("Held", "it stayed", stands=True, is_told=False), is_over=True),
        Phase.SUCCEEDED,
        {"Held": "True Held"},
        [],
        id="it stayed",
    ),
    pytest.param(ENDED, Hold(), Phase.SUCCEEDED, {}, [], id="held, nothing new"),
]


@pytest.mark.parametrize(("rollback", "move", "phase", "expected", "told"), ADVANCE)
def test_what_a_move_leaves(
    rollback: IncidentRollback,
    move: Move,
    phase: Phase,
    expected: dict[str, str],
    told: list[str],
) -> None:
    status = recorded(rollback, move)
    assert status.phase is phase
    assert conditions(status) == expected
    assert keys(status) == told
    assert status.observed_generation == 1
    assert (status.finished_at is not None) is (phase in FINAL_PHASES)


@pytest.mark.parametrize(("rollback", "move", "phase", "expected", "told"), ADVANCE)
def test_telling_each_move_is_told_once(
    rollback: IncidentRollback,
    move: Move,
    phase: Phase,
    expected: dict[str, str],
    told: list[str],
) -> None:
    """A process that died after the write decides the same again."""
    del phase, expected
    once = recorded(rollback, move)
    if once.phase in FINAL_PHASES and rollback.status.phase not in FINAL_PHASES:
        return
    again = rollback.model_copy(update={"status": once})
    if not isinstance(move, Claim):
        assert keys(recorded(again, move)) == told


@pytest.mark.parametrize("phase", sorted(FINAL_PHASES))
@pytest.mark.parametrize("move", [REFUSE, SUCCEED, FAIL, Preview(the_claim().aim), the_claim()])
def test_a_final_phase_never_changes(phase: Phase, move: Move) -> None:
    try:
        status = recorded(claimed(phase, patched_at=NOW), move)
    except IllegalTransitionError:
        return
    assert status.phase is phase


def test_an_illegal_move_is_a_bug() -> None:
    with pytest.raises(IllegalTransitionError, match="Refused -> Succeeded"):
        recorded(claimed(Phase.REFUSED), SUCCEED)


GOES_ON = [
    pytest.param("TooManyAtOnce", Policy(max_concurrent=1), "RollingBack", id="its turn has come"),
    pytest.param("Paused", Policy(max_per_hour=1), "RollingBack", id="it is mended"),
    pytest.param("Paused", Policy(), "Paused", id="no cap: nobody counts, and no write is due"),
]


@pytest.mark.parametrize(("reason", "policy", "says"), GOES_ON)
def test_a_claim_that_waited_says_that_it_goes_where_others_count(
    reason: str, policy: Policy, says: str
) -> None:
    waited = claimed(conditions=(a_condition("Ready", "Unknown", reason),))
    status = recorded(waited, Restore(a_workload().revisions[1]), policy=policy)
    assert conditions(status)["Ready"] == f"Unknown {says}"
    assert conditions(status).get("Reconciling", "True Paused") == f"True {says}"
    assert conditions(status).keys() <= {"Ready", "Reconciling"}


def test_waiting_says_until_when() -> None:
    ready = get(recorded(a_rollback(), WAIT).conditions, "Ready")
    assert ready is not None
    assert ready.message == (
        "it is suspended. I act by myself as soon as that is over, until 02:29 UTC. "
        "Next: switch it on"
    )


QUIET = [
    pytest.param("Suspended", 0, True, id="what a person must mend is told at once"),
    pytest.param("Busy", 9.9, False, id="what is mostly over in a moment is not"),
    pytest.param("Busy", 10, True, id="unless it lasts"),
    pytest.param("NotObserved", 0, False, id="nor that Kubernetes is behind"),
]


@pytest.mark.parametrize(("reason", "seconds", "is_told"), QUIET)
def test_telling_a_wait(reason: str, seconds: float, is_told: bool) -> None:
    wait = Wait(reason, "in the way", "mend it")
    status = recorded(a_rollback(), wait, now=after(seconds=seconds))
    assert bool(status.updates) is is_told


def test_the_claim_freezes_aim_and_target() -> None:
    move = the_claim()
    status = recorded(a_rollback(), move)
    assert (status.target, status.from_, status.to) == (
        move.aim.target,
        move.aim.from_,
        move.aim.to,
    )
    assert (status.plan, status.candidates) == (move.aim.plan, move.aim.candidates)
    assert (status.claimed_at, status.patched_at) == (NOW, None)


def test_a_preview_claims_nothing() -> None:
    status = recorded(a_rollback(), Preview(the_claim().aim))
    assert (status.claimed_at, status.patched_at) == (None, None)
    ready = get(status.conditions, "Ready")
    assert ready is not None
    assert the_claim().aim.plan.digest in ready.message
    assert "It would ask first" not in ready.message
    assert "container app: image checkout:1.2 -> checkout:1.1. Plan" in ready.message
    assert status.target == the_claim().aim.target


def test_an_end_takes_away_that_it_is_under_way() -> None:
    under_way = recorded(a_rollback(), WAIT)
    for move in (REFUSE, Succeed("AlreadyThere", "it is there", "look elsewhere")):
        ended = recorded(a_rollback(status=under_way), move)
        assert "Reconciling" not in conditions(ended)


def test_every_condition_says_since_when_and_of_which_generation() -> None:
    moves = (WAIT, REFUSE, the_claim(), Preview(the_claim().aim))
    for condition in (c for move in moves for c in recorded(a_rollback(), move).conditions):
        assert (condition.last_transition_time, condition.observed_generation) == (NOW, 1)
    ready = get(recorded(PATCHED, SUCCEED).conditions, "Ready")
    assert ready is not None
    assert ready.message == "3 of 3 pods available since 02:14:40. Next: revert it"


def test_a_change_event_is_one_and_says_what_changed() -> None:
    *_, change = recorded(PATCHED, SUCCEED).updates
    assert (change.key, change.kind) == ("change", "ChangeEvent")
    assert change.text.startswith("Rolled back production/checkout to checkout:1.1\n")


def test_an_end_without_a_next_step_names_none() -> None:
    held = get(recorded(ENDED, Hold(News("Held", "it stayed"))).conditions, "Held")
    assert held is not None
    assert held.message == "it stayed"


def test_a_preview_says_that_it_would_ask_first() -> None:
    aim = the_claim().aim
    aim = replace(aim, plan=aim.plan.model_copy(update={"warnings": ("it had run for 8 d",)}))
    status = recorded(a_rollback(), Preview(aim))
    ready = get(status.conditions, "Ready")
    assert ready is not None
    assert ready.message.endswith("It would ask first: it had run for 8 d.")
    assert "It would ask first: it had run for 8 d. Plan" in status.updates[-1].text


def test_what_to_do_next_is_never_cut() -> None:
    """It has the digest that approves, or the command."""
    fix = "f" * 300
    for move in (Refuse("OptedOut", "m" * 900, fix), Fail("WorkloadGone", "m" * 900, fix)):
        ready = get(recorded(claimed(), move).conditions, "Ready")
        assert ready is not None
        assert len(ready.message) == MAX_TEXT
        assert ready.message.endswith(f"m…. Next: {fix}")


def test_a_plan_that_wants_approval_is_recorded() -> None:
    aim = the_claim().aim
    status = recorded(a_rollback(), Refuse("ApprovalRequired", "asks", "approve it", aim))
    assert (status.plan, status.claimed_at) == (aim.plan, None)
    assert (status.from_, status.to, status.candidates) == (aim.from_, aim.to, aim.candidates)


def test_a_refusal_says_why_none_was_taken() -> None:
    passed = Candidate(revision=1, verdict="PassedOver", why="it needs Secret a, gone by now")
    refusal = Refuse("NothingToRollBackTo", "none", "name one", candidates=(passed,))
    assert recorded(a_rollback(), refusal).candidates == (passed,)


def test_a_claim_that_is_refused_keeps_its_plan() -> None:
    aim = the_claim().aim
    kept = recorded(claimed(plan=aim.plan), REFUSE)
    assert kept.plan == aim.plan


def test_the_patch_is_recorded_when_it_is_seen() -> None:
    status = recorded(CLAIM, Watch("0 of 3", after(seconds=1), after(seconds=2)))
    assert (status.patched_at, status.healthy_since) == (after(seconds=1), after(seconds=2))


def test_an_end_that_is_seen_first_records_the_patch() -> None:
    workload = undone(marker=a_marker(after(seconds=1), of=CLAIM))
    status = recorded(CLAIM, SUCCEED, workload=workload)
    assert (status.patched_at, status.healthy_since) == (after(seconds=1), NOW)
    assert keys(status) == ["start", "end", "change"]


NO_TRACE = [
    pytest.param(a_workload(), id="no trace"),
    pytest.param(
        a_workload(a_revision(1, pod_template_hash=hash_of(2)), uid="made-again"),
        id="another workload of that name",
    ),
]


@pytest.mark.parametrize("workload", NO_TRACE)
def test_never_say_more_than_was_seen_of_a_patch(workload: Any) -> None:
    status = recorded(CLAIM, Fail("WorkloadGone", "gone", "deploy it"), workload=workload)
    assert status.patched_at is None
    assert "was restored" not in status.updates[-1].text


def test_the_time_of_the_patch_stays_as_it_was_recorded() -> None:
    workload = undone(marker=a_marker(after(seconds=9), of=CLAIM))
    assert recorded(PATCHED, SUCCEED, workload=workload).patched_at == NOW


def test_what_came_after_the_end_names_the_fix() -> None:
    held = get(recorded(ENDED, Hold(NEWS)).conditions, "Held")
    assert held is not None
    assert held.message == "it was brought back. Next: stop that"


def test_a_start_that_was_told_is_not_withdrawn() -> None:
    told = claimed(updates=(an_update("start", delivered_at=NOW),))
    assert keys(recorded(told, REFUSE)) == ["start", "end"]


def test_an_update_names_the_process_that_decided_it() -> None:
    (start,) = recorded(a_rollback(), the_claim()).updates
    assert (start.decided_by, start.decided_at, start.delivered_at) == ("process-1", NOW, None)


PROGRESS = [
    pytest.param((), 14.9, None, False, id="none for a rollout that is quickly over"),
    pytest.param((), 15, None, True, id="after 15 s"),
    pytest.param((), 60, NOW, False, id="none where it is healthy, and only calm is waited for"),
]


@pytest.mark.parametrize(("updates", "seconds", "healthy_since", "is_told"), PROGRESS)
def test_telling_progress_begins(
    updates: Any, seconds: float, healthy_since: Any, is_told: bool
) -> None:
    rollback = claimed(patched_at=NOW, updates=updates)
    watch = Watch("1 of 3 pods available", NOW, healthy_since)
    status = recorded(rollback, watch, now=after(seconds=seconds))
    assert [(u.key, u.kind) for u in status.updates] == [("progress", "Message")] * is_told


EDITS = [
    pytest.param({"delivered_at": NOW}, 15, "2 of 3", True, id="15 s after the last one"),
    pytest.param({"delivered_at": NOW}, 14.9, "2 of 3", False, id="not earlier"),
    pytest.param({}, 60, "2 of 3", False, id="not while it is on its way"),
]


@pytest.mark.parametrize(("known", "seconds", "message", "is_edited"), EDITS)
def test_telling_progress_edits_one_message(
    known: dict[str, Any], seconds: float, message: str, is_edited: bool
) -> None:
    before = an_update("progress", "Message", text="1 of 3", external_id="m-1", **known)
    rollback = claimed(patched_at=NOW, updates=(before,))
    (progress,) = recorded(rollback, Watch(message, NOW), now=after(seconds=seconds)).updates
    assert (message in progress.text) is is_edited
    assert progress.external_id == "m-1"
    if is_edited:
        assert (progress.delivered_at, progress.decided_at) == (None, after(seconds=seconds))


def test_telling_progress_goes_on_into_the_calm() -> None:
    before = an_update("progress", "Message", text="2 of 3", delivered_at=NOW)
    calm = Watch("3 of 3; watching that it stays so", NOW, after(seconds=18))
    rollback = claimed(patched_at=NOW, updates=(before,))
    (progress,) = recorded(rollback, calm, now=after(seconds=20)).updates
    assert "3 of 3; watching" in progress.text


def test_telling_progress_with_the_same_words_is_no_edit() -> None:
    first = recorded(claimed(patched_at=NOW), Watch("1 of 3", NOW), now=after(seconds=15))
    (told,) = first.updates
    taken = first.model_copy(update={"updates": (told.model_copy(update={"delivered_at": NOW}),)})
    rollback = claimed().model_copy(update={"status": taken})
    again = recorded(rollback, Watch("1 of 3", NOW), now=after(seconds=60))
    assert again.updates == taken.updates


@pytest.mark.parametrize("reason", ["NoIncident", "NoKey", "NotListed"])
def test_who_cannot_be_told_is_told_nothing_and_settled(reason: str) -> None:
    silent = Teller("process-1", reason)
    assert recorded(a_rollback(), the_claim(), silent).updates == ()
    status = recorded(ENDED, Hold(is_over=True), silent)
    assert status.settled
    reported = get(status.conditions, "Reported")
    if reason in SILENCES:
        assert reported is not None
        assert (reported.status, reported.reason) == ("False", reason)
    else:
        assert reported is None


SETTLED = [
    pytest.param((), True, True, id="over, and nothing to tell"),
    pytest.param((), False, False, id="still held"),
    pytest.param((an_update("end"),), True, False, id="the end is not told yet"),
    pytest.param((an_update("end", delivered_at=NOW),), True, True, id="told"),
    pytest.param((an_update("end", gave_up="24 h"),), True, True, id="given up"),
    pytest.param(
        (an_update("progress", "Message"), an_update("end", delivered_at=NOW)),
        True,
        True,
        id="progress that the end has overtaken is not waited for",
    ),
]


@pytest.mark.parametrize(("updates", "is_over", "is_settled"), SETTLED)
def test_settled_when_the_hold_and_the_telling_are_over(
    updates: Any, is_over: bool, is_settled: bool
) -> None:
    rollback = claimed(Phase.SUCCEEDED, patched_at=NOW, finished_at=NOW, updates=updates)
    assert recorded(rollback, Hold(is_over=is_over)).settled is is_settled


def test_news_that_must_be_told_are_waited_for() -> None:
    assert not recorded(ENDED, Hold(NEWS, is_over=True)).settled


def test_bounds_of_updates() -> None:
    many = tuple(an_update(f"u{n}", delivered_at=NOW) for n in range(MAX_UPDATES))
    status = recorded(a_rollback(status=a_status(Phase.PENDING, updates=many)), REFUSE)
    assert len(status.updates) == MAX_UPDATES


def test_bounds_of_texts() -> None:
    """What is stored must be what the schema takes, however long the server's words are."""
    long = "x" * 5000
    for move in (Wait("Suspended", long, long), Refuse("OptedOut", long, long)):
        status = recorded(a_rollback(), move)
        IncidentRollbackStatus.model_validate(status.model_dump())
        assert max(len(c.message) for c in status.conditions) == MAX_TEXT


def test_nothing_new_is_equal() -> None:
    first = record(an_observation(), WAIT, TELLER)
    seen: Observation = an_observation(first)
    assert record(seen, WAIT, TELLER) == first


REFUSED_KEY = ("KeyRefused", "the key was refused")
LOST = an_update("end", gave_up="not told within 24 hours")
REPORTED = [
    pytest.param((an_update("end"),), None, None, id="on its way: nothing is said yet"),
    pytest.param((), None, None, id="nothing was to be told"),
    pytest.param(
        (an_update("progress", "Message"),), None, None, id="nothing was told, and nothing is left"
    ),
    pytest.param((an_update("end", delivered_at=NOW),), None, "True Told", id="told"),
    pytest.param((an_update("end"),), REFUSED_KEY, "False KeyRefused", id="trouble"),
    pytest.param((LOST,), None, "False NotAccepted", id="given up"),
    pytest.param(
        (an_update("progress", "Message", gave_up="overtaken"), an_update("end", delivered_at=NOW)),
        None,
        "True Told",
        id="progress that was overtaken is no loss",
    ),
]


@pytest.mark.parametrize(("updates", "trouble", "expected"), REPORTED)
def test_reported(updates: Any, trouble: Any, expected: str | None) -> None:
    rollback = claimed(Phase.SUCCEEDED, updates=updates)
    status = with_reported(rollback, trouble, NOW).status
    assert conditions(status).get("Reported") == expected


def test_reported_says_nothing_of_a_start_that_waits_for_the_patch() -> None:
    status = with_reported(CLAIM, None, NOW).status
    assert "Reported" not in conditions(status)


def test_reported_keeps_the_reason_of_what_was_given_up() -> None:
    before = (a_condition("Reported", "False", "KeyRefused"),)
    rollback = claimed(Phase.SUCCEEDED, updates=(LOST,), conditions=before)
    status = with_reported(rollback, None, NOW).status
    assert conditions(status)["Reported"] == "False KeyRefused"
    reported = get(status.conditions, "Reported")
    assert reported is not None
    assert reported.message == "not told within 24 hours"


def test_reported_does_not_keep_that_something_else_was_told() -> None:
    before = (a_condition("Reported", "True", "Told"),)
    rollback = claimed(Phase.SUCCEEDED, updates=(LOST,), conditions=before)
    status = with_reported(rollback, None, NOW).status
    assert conditions(status)["Reported"] == "False NotAccepted"


@pytest.mark.parametrize("length", [MAX_TEXT - 9, MAX_TEXT - 8])
def test_what_fits_with_the_next_step_is_not_cut(length: int) -> None:
    ready = get(recorded(a_rollback(), Refuse("OptedOut", "m" * length, "f")).conditions, "Ready")
    assert ready is not None
    assert len(ready.message) == MAX_TEXT
    assert ("…" in ready.message) is (length > MAX_TEXT - 9)


def test_reported_says_since_when_and_of_which_generation() -> None:
    told = claimed(Phase.FAILED, updates=(an_update("end", delivered_at=NOW),))
    for trouble, state in ((None, "True"), (REFUSED_KEY, "False")):
        reported = get(with_reported(told, trouble, NOW).status.conditions, "Reported")
        assert reported is not None
        assert (reported.status, reported.last_transition_time) == (state, NOW)
        assert (reported.observed_generation, bool(reported.message)) == (1, True)
