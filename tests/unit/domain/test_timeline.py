"""The words on the timeline: what whoever is on call reads at four in the morning."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.crd.v1alpha1 import (
    MAX_UPDATE_TEXT,
    IncidentRollback,
    Phase,
    Update,
)
from incident_rollback.domain import timeline
from incident_rollback.domain.aim import choose
from incident_rollback.domain.decision import decide
from incident_rollback.domain.moves import Aim, Claim, Fail, News, Refuse, Succeed, Wait
from incident_rollback.domain.workload import Workload
from tests.builders import (
    NOW,
    a_condition,
    a_revision,
    a_rollback,
    a_template,
    a_workload,
    after,
    ago,
    an_observation,
    an_update,
    claimed,
    frozen,
)

NAME = "(checkout-3f9a1c27b0d4e6f8)"
DONE = claimed(Phase.SUCCEEDED, patched_at=after(seconds=1))


def aim_at(workload: Workload | None = None) -> Aim:
    workload = workload or a_workload()
    move = choose(an_observation(workload=workload), workload)
    assert isinstance(move, Claim)
    return move.aim


WAIT = Wait("Paused", "deployment production/checkout is paused", "resume it")
SUCCEED = Succeed(
    "RolledBack",
    "3 of 3 pods available since 02:14:31",
    "revert the deploy at its source",
    after(seconds=31),
)
FAIL = Fail("VerifyDeadlineExceeded", "no progress for too long", "look at its pods")

TEXTS = [
    pytest.param(
        lambda: timeline.waiting_text(a_rollback(), WAIT, after(minutes=15)),
        "checkout in production is not rolled back yet: deployment production/checkout is paused. "
        "I act by myself as soon as that is over, until 02:29 UTC; nothing was changed so far.\n"
        f"Next: resume it {NAME}",
        id="waiting",
    ),
    pytest.param(
        lambda: timeline.start_text(a_rollback(), aim_at()),
        "Rolling checkout in production back to checkout:1.1 (revision 1; 3 pods of it still "
        "serve). It is on checkout:1.2 (revision 2): 3 of 3 pods in ImagePullBackOff, e.g. pod "
        "checkout-hash-2-x (kubectl describe pod checkout-hash-2-x -n production).\n"
        f"Next: wait for it; I say when it is healthy, or that it is not {NAME}",
        id="start",
    ),
    pytest.param(
        lambda: timeline.refused_text(
            a_rollback(), Refuse("OptedOut", "it says never", "ask them")
        ),
        "checkout in production was not rolled back: it says never. Nothing was changed.\n"
        f"Next: ask them {NAME}",
        id="refused",
    ),
    pytest.param(
        lambda: timeline.succeeded_text(DONE, SUCCEED, after(seconds=61)),
        "checkout in production is back on checkout:1.1 (revision 1; 3 pods of it still serve). "
        "3 of 3 pods healthy since 02:14:31, 31 s after you asked. It was checkout:1.2 (revision "
        "2): 3 of 3 pods in ImagePullBackOff. Not rolled back: ConfigMaps, Secrets, replicas.\n"
        "Next: revert the deploy at its source. To undo this: kubectl irb rollback deploy/checkout "
        f"-n production --to-revision 2 {NAME}",
        id="succeeded",
    ),
    pytest.param(
        lambda: timeline.succeeded_text(
            a_rollback(), Succeed("AlreadyThere", "it is there", "look elsewhere"), NOW
        ),
        f"checkout in production: it is there.\nNext: look elsewhere {NAME}",
        id="there already",
    ),
    pytest.param(
        lambda: timeline.failed_text(DONE, FAIL),
        "checkout in production is not well after the rollback: no progress for too long. The "
        "template of checkout:1.1 (revision 1; 3 pods of it still serve) was restored. Nothing "
        "more is tried by itself.\nNext: look at its pods. To undo this: kubectl irb rollback "
        f"deploy/checkout -n production --to-revision 2 {NAME}",
        id="failed",
    ),
    pytest.param(
        lambda: timeline.news_text(DONE, News("Reverted", "it was brought back", "stop that")),
        "checkout in production, after the rollback: it was brought back. Nothing more is done.\n"
        f"Next: stop that {NAME}",
        id="after the end",
    ),
    pytest.param(
        lambda: timeline.deleted_text(DONE),
        "The IncidentRollback of checkout in production was deleted after the template was "
        "restored: nobody watches over it any more.\nNext: look at it yourself. To undo it: "
        f"kubectl irb rollback deploy/checkout -n production --to-revision 2 {NAME}",
        id="deleted",
    ),
    pytest.param(
        lambda: timeline.progress_text(DONE, "1 of 3 pods available"),
        f"Rollback of checkout in production: 1 of 3 pods available {NAME}",
        id="progress",
    ),
    pytest.param(
        lambda: timeline.change_text(DONE),
        "Rolled back production/checkout to checkout:1.1\n"
        "Deployment production/checkout went from revision 2 (checkout:1.2) back to revision 1 "
        "(checkout:1.1), asked for by an IncidentRollback. Not rolled back: ConfigMaps, Secrets, "
        f"replicas. {NAME}",
        id="the change event",
    ),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_telling_reads_like_a_colleague(text: Callable[[], str], expected: str) -> None:
    assert text() == expected


def test_telling_a_preview_has_the_plan_and_what_is_not_in_it() -> None:
    aim = aim_at()
    assert timeline.preview_text(a_rollback(), aim) == (
        "Dry run, nothing was changed. A rollback would take checkout in production to "
        "checkout:1.1 (revision 1; 3 pods of it still serve). It is on checkout:1.2 (revision 2), "
        "deployed 2026-11-23 02:04 UTC (10 min before this was asked for), last written by "
        "kubectl-set: 3 of 3 pods in ImagePullBackOff, e.g. pod checkout-hash-2-x (kubectl "
        "describe pod checkout-hash-2-x -n production). Changes: container app: image "
        "checkout:1.2 -> checkout:1.1. Not rolled back: replicas, strategy, "
        "HorizontalPodAutoscaler. "
        f"Plan {aim.plan.digest}.\n"
        f"Next: run the step that rolls back, or the one that approves this plan {NAME}"
    )


def test_telling_a_preview_says_once_why_no_pod_can_be_made() -> None:
    def refused(pod: str) -> str:
        return f'pods "checkout-{pod}" is forbidden: exceeded quota: compute, requested: pods=1'

    aim = aim_at()
    asks = f"a quota lets no more pods in (Error creating: {refused('b')}), and so on"
    plan = aim.plan.model_copy(update={"warnings": (asks,)})
    origin = aim.from_.model_copy(
        update={"evidence": f"its pods cannot be made: {refused('a')} (kubectl describe rs/c)"}
    )
    text = timeline.preview_text(a_rollback(), replace(aim, plan=plan, from_=origin))
    assert text.count("exceeded quota") == 1
    assert "its pods cannot be made (kubectl describe rs/c)" in text
    assert f"It would ask first: {asks}." in text


def test_telling_a_preview_names_the_configuration_that_the_target_will_find() -> None:
    env_from = [{"configMapRef": {"name": "web"}}, {"secretRef": {"name": "db"}}]
    old = a_revision(1, template=a_template("checkout:1.1", envFrom=env_from), available=3)
    text = timeline.preview_text(a_rollback(), aim_at(a_workload(a_revision(2), old)))
    assert "HorizontalPodAutoscaler, ConfigMap web, Secret db. Plan" in text


def test_telling_a_preview_of_a_great_change_keeps_its_digest_and_says_how_much_is_left_out() -> (
    None
):
    env = [{"name": f"VERY_LONG_NAME_OF_A_VARIABLE_{n}"} for n in range(200)]
    old = a_revision(1, template=a_template("checkout:1.1", env=env), available=3)
    aim = aim_at(a_workload(a_revision(2), old))
    text = timeline.preview_text(a_rollback(), aim)
    assert "env VERY_LONG_NAME_OF_A_VARIABLE_0 added" in text
    assert re.search(r"; and \d+ more\. Not rolled back: ", text)
    assert f"Plan {aim.plan.digest}." in text


UNPROVEN = a_workload(a_revision(2), a_revision(1, created_at=ago(minutes=30)))


def test_a_choice_without_evidence_has_the_word() -> None:
    text = timeline.start_text(a_rollback(), aim_at(UNPROVEN))
    assert "revision 1; it is the newest that is left; unproven" in text
    assert "unproven" not in timeline.start_text(a_rollback(), aim_at())


def test_of_a_success_the_pod_that_failed_is_not_shown_any_more() -> None:
    shown = frozen(
        2, evidence="3 of 3 pods in Error, e.g. pod checkout-x (kubectl logs checkout-x)"
    )
    done = claimed(Phase.SUCCEEDED, patched_at=NOW, from_=shown)
    text = timeline.succeeded_text(done, SUCCEED, NOW)
    assert "(revision 2): 3 of 3 pods in Error. Not rolled back" in text


def test_three_of_those_that_were_passed_over_are_named() -> None:
    older = (a_revision(n) for n in (8, 7, 6, 5))
    workload = a_workload(a_revision(9), *older, a_revision(1, available=3))
    text = timeline.start_text(a_rollback(), aim_at(workload))
    assert text.count("Passed over: ") == 3


def test_whoever_is_passed_over_is_named_in_the_first_note() -> None:
    workload = a_workload(
        a_revision(3, created_at=ago(minutes=10)), a_revision(2), a_revision(1, available=3)
    )
    assert "Passed over: revision 2 (" in timeline.start_text(a_rollback(), aim_at(workload))


SAME_TAGS = aim_at(
    a_workload(a_revision(2, template=a_template("checkout:1.1", args=["-v"])), a_revision(1))
)
OTHER_TAGS = aim_at()


def previews(aim: Aim) -> str:
    return timeline.preview_text(a_rollback(), aim)


def starts(aim: Aim) -> str:
    return timeline.start_text(a_rollback(), aim)


def asks(aim: Aim) -> str:
    return timeline.refused_text(a_rollback(), Refuse("ApprovalRequired", "asks", "do", aim))


def ended(aim: Aim) -> str:
    done = claimed(Phase.SUCCEEDED, patched_at=NOW, from_=aim.from_, to=aim.to)
    return timeline.succeeded_text(done, SUCCEED, after(seconds=61))


SAYING_IT = [
    pytest.param(previews, id="P9 in a preview"),
    pytest.param(asks, id="P9 when somebody shall approve"),
    pytest.param(starts, id="P9 at the start"),
    pytest.param(ended, id="P9 at the end"),
]


@pytest.mark.parametrize("text_of", SAYING_IT)
def test_never_say_more_than_was_seen_of_a_moved_tag(text_of: Callable[[Aim], str]) -> None:
    moved = "if a tag was moved, this brings no other image back"
    assert moved in text_of(SAME_TAGS)
    assert moved not in text_of(OTHER_TAGS)


def test_what_will_bring_it_back_is_said_of_a_success() -> None:
    warned = replace(SUCCEED, warning="Flux brings it back within 10 min")
    text = timeline.succeeded_text(DONE, warned, after(seconds=61))
    assert "replicas. Flux brings it back within 10 min.\nNext" in text


@pytest.mark.parametrize("missing", ["to", "from_"])
def test_a_success_whose_aim_nobody_knows_is_told_as_it_is(missing: str) -> None:
    unknown = claimed(Phase.SUCCEEDED, patched_at=NOW, **{missing: None})
    text = timeline.succeeded_text(unknown, SUCCEED, NOW)
    assert text.startswith("checkout in production: 3 of 3 pods available since 02:14:31.\n")


def test_already_there_names_no_move_even_after_a_claim() -> None:
    there = Succeed("AlreadyThere", "it is there", "look elsewhere")
    text = timeline.succeeded_text(DONE, there, NOW)
    assert text == f"checkout in production: it is there.\nNext: look elsewhere {NAME}"


def test_news_without_a_next_step_says_so() -> None:
    news = News("Superseded", "something newer was deployed")
    assert timeline.news_text(DONE, news).endswith(f"\nNext: nothing {NAME}")


@pytest.mark.parametrize("missing", ["target", "to", "from_"])
def test_what_nobody_knows_is_in_no_change_event_and_in_no_command(missing: str) -> None:
    unknown = claimed(Phase.SUCCEEDED, patched_at=NOW, **{missing: None})
    assert timeline.change_text(unknown) == "Rollback checkout-3f9a1c27b0d4e6f8"
    known = missing == "to"
    assert timeline.undo_command(unknown).endswith("--to-revision 2" if known else "rollback …")


def test_a_preview_that_changes_nothing_that_is_told_says_so() -> None:
    aim = aim_at()
    plan = aim.plan.model_copy(update={"changes": ()})
    text = timeline.preview_text(a_rollback(), replace(aim, plan=plan))
    assert "Changes: none. Not rolled back: " in text


def test_where_nothing_is_known_of_the_old_one_nothing_is_said() -> None:
    aim = aim_at()
    bare = aim.from_.model_copy(update={"evidence": ""})
    plan = aim.plan.model_copy(update={"deployed_at": None, "written_by": ""})
    text = timeline.preview_text(a_rollback(), replace(aim, plan=plan, from_=bare))
    assert "It is on checkout:1.2 (revision 2). Changes: " in text


def test_a_note_of_just_the_bound_is_not_cut() -> None:
    for more, is_cut in ((0, False), (1, True)):
        bare = timeline.news_text(DONE, News("Reverted", "", "f"))
        room = MAX_UPDATE_TEXT - 1 - len(bare)
        text = timeline.news_text(DONE, News("Reverted", "m" * (room + more), "f"))
        assert len(text) == MAX_UPDATE_TEXT - 1
        assert ("…" in text) is is_cut


def test_an_edit_changes_one_update_alone() -> None:
    sent = (an_update("start", delivered_at=NOW), an_update("progress", delivered_at=NOW))
    start, progress = timeline.edit(sent, "progress", "new", now=after(seconds=15))
    assert (start, progress.text) == (sent[0], "new")


def test_never_say_that_something_was_restored_that_nobody_saw() -> None:
    unseen = timeline.failed_text(claimed(Phase.FAILED), FAIL)
    assert "was restored" not in unseen


def test_never_say_healthy_of_0_replicas() -> None:
    unproven = Succeed("Unproven", "0 replicas are wanted, so no pod can show it", "scale it up")
    text = timeline.succeeded_text(DONE, unproven, after(seconds=5))
    assert "0 replicas are wanted, so no pod can show it, 5 s after you asked." in text
    assert "healthy" not in text


RELATIONS = [
    pytest.param("RolledBack", True, "fixed", id="seen failing, seen healthy"),
    pytest.param("RolledBack", False, "suspect", id="nobody saw it fail"),
    pytest.param("Unproven", True, "suspect", id="0 replicas"),
    pytest.param("NotVerified", True, "suspect", id="nobody could look"),
    pytest.param("CrashedAfterReady", True, "suspect", id="it did not help"),
]


@pytest.mark.parametrize(("reason", "failing", "relation"), RELATIONS)
def test_never_say_fixed_unless_both_were_seen(reason: str, failing: bool, relation: str) -> None:
    rollback = claimed(
        Phase.SUCCEEDED,
        from_=frozen(2, failing=failing),
        conditions=(a_condition("Ready", "True", reason),),
    )
    assert timeline.relation_of(rollback) == relation


def test_never_say_fixed_of_what_has_not_ended() -> None:
    assert timeline.relation_of(claimed()) == "suspect"


def test_a_target_is_named_with_its_namespace() -> None:
    rollback = a_rollback(target_ref={"name": "checkout"}, namespace="shop")
    assert timeline.subject_of(rollback) == "checkout in namespace shop"


def test_a_request_without_names_is_still_a_sentence() -> None:
    rollback = a_rollback(service={"name": "", "environment": ""})
    assert timeline.subject_of(rollback) == "no service in no environment"


def test_before_the_claim_there_is_nothing_to_undo() -> None:
    assert timeline.undo_command(a_rollback()) == "kubectl irb rollback …"
    assert timeline.change_text(a_rollback()) == "Rollback checkout-3f9a1c27b0d4e6f8"


WORDS: list[Callable[[IncidentRollback, str], str]] = [
    lambda r, words: timeline.waiting_text(r, Wait("Paused", words, words), NOW),
    lambda r, words: timeline.refused_text(r, Refuse("OptedOut", words, words)),
    lambda r, words: timeline.succeeded_text(r, Succeed("RolledBack", words, words), NOW),
    lambda r, words: timeline.failed_text(r, Fail("Superseded", words, words)),
    lambda r, words: timeline.news_text(r, News("Reverted", words, words)),
]


@pytest.mark.parametrize("tell", WORDS)
@given(words=st.text(max_size=900))
def test_telling_is_under_3000_characters_and_ends_with_what_is_next(
    tell: Callable[[IncidentRollback, str], str], words: str
) -> None:
    evidence = frozen(1, evidence="e" * 1000, images=("i" * 500,) * 20)
    rollback = claimed(Phase.SUCCEEDED, patched_at=NOW, to=evidence, from_=evidence)
    text = tell(rollback, words)
    assert len(text) < MAX_UPDATE_TEXT
    assert "\nNext: " in text
    assert text.endswith(NAME)


HOSTILE = st.text(alphabet="<>&@ab !", min_size=1, max_size=40).filter(lambda t: "a" in t)


@given(HOSTILE)
def test_telling_repeats_no_markup_and_rings_nobody(evil: str) -> None:
    """Names, reasons and images that a person wrote, through the decision into the words."""
    workload = a_workload(
        a_revision(2, template={"spec": {"containers": [{"name": evil, "image": evil}]}}),
        a_revision(1, available=3),
        template_writer=evil,
        opted_out=None,
    )
    refused = decide(
        an_observation(None, a_workload(opted_out=evil, template_writer=evil, owner=""))
    )
    owned = decide(an_observation(None, a_workload(owner=evil)))
    assert isinstance(refused, Refuse)
    assert isinstance(owned, Refuse)
    by_service = a_rollback(service={"name": evil, "environment": evil}, requested_by=evil)
    by_target = a_rollback(target_ref={"name": evil}, requested_by=evil)
    done = claimed(Phase.SUCCEEDED, patched_at=NOW, from_=frozen(2, images=(evil,)))
    for text in (
        timeline.start_text(by_service, aim_at(workload)),
        timeline.preview_text(by_target, aim_at(workload)),
        timeline.refused_text(by_service, refused),
        timeline.refused_text(by_target, owned),
        timeline.succeeded_text(done, SUCCEED, NOW),
        timeline.change_text(done.model_copy(update={"spec": by_service.spec})),
    ):
        shown = text.replace("@\u200b", "")
        assert not set(shown) & set("<>@"), text


def keys(updates: Any) -> list[str]:
    return [update.key for update in updates]


def test_an_update_is_decided_once() -> None:
    first = timeline.add((), "end", "the words", now=NOW, process="p")
    again = timeline.add(first, "end", "other words", now=after(hours=1), process="q")
    assert again == first


def test_an_update_is_cut_at_the_bound_of_the_schema() -> None:
    (update,) = timeline.add((), "end", "x" * 5000, now=NOW, process="p")
    assert len(update.text) == MAX_UPDATE_TEXT
    Update.model_validate(update.model_dump())


WAITS_FIRST = [
    pytest.param(["start", "waiting-Busy"], ["waiting-Busy", "start"], id="before the start"),
    pytest.param(
        ["waiting-Busy", "start", "waiting-Paused"],
        ["waiting-Busy", "waiting-Paused", "start"],
        id="after those that were there before",
    ),
    pytest.param(["waiting-Busy"], ["waiting-Busy"], id="without a start"),
    pytest.param(
        ["told start", "waiting-Busy"], ["start", "waiting-Busy"], id="not before one that is told"
    ),
]


@pytest.mark.parametrize(("there", "after_it"), WAITS_FIRST)
def test_what_is_waited_for_is_told_before_the_start(there: list[str], after_it: list[str]) -> None:
    updates = tuple(
        an_update(key.removeprefix("told "), delivered_at=NOW if "told" in key else None)
        for key in there
    )
    assert keys(timeline.wait_first(updates)) == after_it


DELIVERABLE = [
    pytest.param(["start"], False, [], id="the start waits for the patch"),
    pytest.param(["start"], True, ["start"], id="the patch is in"),
    pytest.param(["start", "progress"], True, ["start", "progress"], id="in order"),
    pytest.param(["progress", "end"], True, ["end"], id="progress that the end has overtaken"),
    pytest.param(["waiting-Paused"], False, ["waiting-Paused"], id="what is waited for"),
]


@pytest.mark.parametrize(("there", "is_patched", "told"), DELIVERABLE)
def test_what_may_be_told(there: list[str], is_patched: bool, told: list[str]) -> None:
    updates = tuple(an_update(key) for key in there)
    status = claimed(updates=updates).status
    assert keys(timeline.deliverable(status, is_patched=is_patched)) == told


def test_what_was_told_or_given_up_is_not_told_again() -> None:
    updates = (an_update("a", delivered_at=NOW), an_update("b", gave_up="24 h"), an_update("c"))
    status = claimed(updates=updates).status
    assert keys(timeline.deliverable(status, is_patched=True)) == ["c"]
    assert not timeline.is_told(status)


TOLD = [
    pytest.param(Phase.ROLLING_BACK, True, id="before the patch a start is not to be told"),
    pytest.param(Phase.FAILED, False, id="after the end it is"),
]


@pytest.mark.parametrize(("phase", "is_told"), TOLD)
def test_a_start_is_left_to_tell(phase: Phase, is_told: bool) -> None:
    assert timeline.is_told(claimed(phase, updates=(an_update("start"),)).status) is is_told


def test_only_what_was_never_sent_can_be_taken_back() -> None:
    sent = an_update("start", delivered_at=NOW)
    assert timeline.without((sent, an_update("end")), "start") == (sent, an_update("end"))
    assert keys(timeline.without((an_update("start"), an_update("end")), "start")) == ["end"]


def test_an_edit_is_sent_again_as_the_same_message() -> None:
    sent = an_update("progress", "Message", delivered_at=NOW, external_id="m-1")
    (edited,) = timeline.edit((sent,), "progress", "x" * 5000, now=after(seconds=15))
    assert (edited.delivered_at, edited.external_id) == (None, "m-1")
    assert len(edited.text) == MAX_UPDATE_TEXT


@pytest.mark.parametrize("reason", ["Busy", "NotObserved", "TooManyAtOnce", "TooManyThisHour"])
def test_a_wait_for_a_moment_is_no_news(reason: str) -> None:
    brief = Wait(reason, "another one", "wait")
    assert not timeline.is_worth_telling(brief, timedelta(seconds=9))
    assert timeline.is_worth_telling(brief, timedelta(seconds=10))
    assert timeline.is_worth_telling(WAIT, timedelta(0))


STANDS = [
    pytest.param(
        Fail("Superseded", "c:fixed was deployed over it by helm; that stands", "ask them"),
        True,
        id="somebody's fix is not called ill, and not undone",
    ),
    pytest.param(
        Fail("NotVerified", "I could not see whether anything was changed", "look"),
        False,
        id="what nobody saw is not called ill",
    ),
]


@pytest.mark.parametrize(("move", "is_patched"), STANDS)
def test_never_say_ill_of_what_was_not_seen_ill(move: Fail, is_patched: bool) -> None:
    text = timeline.failed_text(claimed(patched_at=NOW if is_patched else None), move)
    assert "not well" not in text
    assert "kubectl irb rollback" not in text
    lead = ", after the rollback: " if is_patched else ": "
    assert text.startswith(f"checkout in production{lead}{move.message}.")


def test_a_rollback_that_did_not_help_is_called_so_and_can_be_undone() -> None:
    move = Fail("ProgressDeadlineExceeded", "Kubernetes gave up on the rollout", "look")
    text = timeline.failed_text(claimed(patched_at=NOW), move)
    assert "is not well after the rollback: Kubernetes gave up" in text
    assert "To undo this: kubectl irb rollback" in text
