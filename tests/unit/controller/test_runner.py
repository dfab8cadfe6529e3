"""One task for each rollback; what a turn does is scripted here, and waiting takes no time."""

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from incident_rollback.controller.reconcile import Turn
from incident_rollback.controller.runner import (
    LONGEST_PAUSE_SECONDS,
    RESULTS_SECONDS,
    STUCK_PAUSE_SECONDS,
    Runner,
    version_of,
)
from incident_rollback.crd.v1alpha1 import (
    TRACE_ANNOTATION,
    Annotations,
    IncidentRollback,
    Phase,
)
from incident_rollback.domain.trace import Trace
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    ThrottledError,
    UnavailableError,
)
from incident_rollback.telemetry.traces import Tracing, followed
from tests.builders import HOME, a_rollback, a_status
from tests.fakes.store import FakeStore
from tests.fakes.tracer import FakeTracer
from tests.unit.controller.fast_time import elapsed, in_fast_time, let_run
from tests.unit.controller.scripted import (
    LONG,
    WAIT,
    ScriptedReconciler,
    becomes,
    fails,
    stays,
    version,
)


class Stage:
    """A runner with a script, and what it reported."""

    def __init__(self, *script: Callable[[Any], Turn]) -> None:
        self.reconciler = ScriptedReconciler(list(script) or [stays()])
        self.store = FakeStore()
        self.reported: list[tuple[int, Turn, float]] = []
        self.runner = Runner(self.reconciler.as_one(), self.store, self._report)

    def _report(self, before: IncidentRollback, turn: Turn, seconds: float) -> None:
        self.reported.append((version_of(before), turn, seconds))

    @property
    def versions(self) -> list[int]:
        return [version_of(one) for one in self.reconciler.given]

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.reconciler.at)]


@in_fast_time
async def test_a_new_resource_gets_a_turn_at_once() -> None:
    stage = Stage()
    assert stage.runner.offer(version(1))
    await let_run()
    assert stage.versions == [1]
    assert stage.runner.known() == {"uid-1"}
    assert list(stage.runner.names()) == [("uid-1", HOME, "name-of-uid-1")]
    await stage.runner.close()


@in_fast_time
async def test_a_settled_resource_gets_none() -> None:
    stage = Stage()
    assert not stage.runner.offer(version(1, settled=True))
    await let_run()
    assert (stage.versions, stage.runner.known()) == ([], frozenset())


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
BY_UID = "0f7e2c1a-5b1d-4c56-9a34-0d2f6f0f9e11"


@in_fast_time
async def test_a_task_follows_the_trace_of_its_resource() -> None:
    stage = Stage()
    seen: list[Trace | None] = []

    async def meanwhile() -> None:
        seen.append(followed())

    stage.reconciler.meanwhile = meanwhile
    annotations = Annotations.model_validate({TRACE_ANNOTATION: TRACE_ID})
    first = version(1)
    metadata = first.metadata.model_copy(update={"annotations": annotations})
    stage.runner.offer(first.model_copy(update={"metadata": metadata}))
    stage.runner.offer(version(1, uid=BY_UID))
    await let_run()
    assert seen == [Trace(TRACE_ID), Trace(BY_UID.replace("-", ""))]
    assert followed() is None
    await stage.runner.close()


@in_fast_time
async def test_every_turn_is_a_span_of_it() -> None:
    Tracing.tracer = tracer = FakeTracer()
    stage = Stage(fails(UnavailableError("no answer")), stays())
    stage.runner.offer(version(1, uid=BY_UID))
    await asyncio.sleep(1)
    await stage.runner.close()
    Tracing.tracer = None
    failed, made = tracer.named("turn")
    assert {failed.trace.trace_id, made.trace.trace_id} == {BY_UID.replace("-", "")}
    assert failed.error == "UnavailableError"
    assert made.attributes == {
        "rollback": f"{HOME}/name-of-{BY_UID}",
        "incident": "incident-1",
        "move": "Wait",
        "phase": "Pending",
    }


@in_fast_time
async def test_what_is_not_finished_is_known() -> None:
    stage = Stage()
    stage.runner.offer(version(1))
    stage.runner.offer(
        a_rollback(uid="uid-2", name="ended", status=a_status(Phase.FAILED, settled=False))
    )
    await let_run()
    assert [one.metadata.uid for one in stage.runner.unfinished()] == ["uid-1"]
    await stage.runner.close()


OFFERS = [
    pytest.param([5, 6], [5, 6], id="something newer"),
    pytest.param([5, 5], [5], id="the same again is no turn"),
    pytest.param([5, 4], [5], id="something stale is no turn"),
    pytest.param([9, 10], [9, 10], id="versions are numbers"),
]


@pytest.mark.parametrize(("offers", "turns"), OFFERS)
@in_fast_time
async def test_only_a_newer_version_wakes(offers: list[int], turns: list[int]) -> None:
    stage = Stage()
    for number in offers:
        stage.runner.offer(version(number))
        await let_run()
    assert stage.versions == turns
    await stage.runner.close()


@in_fast_time
async def test_the_newest_of_many_is_taken() -> None:
    stage = Stage()
    stage.runner.offer(version(1))
    await let_run()
    for number in (2, 5, 3):
        stage.runner.offer(version(number))
    await let_run()
    assert stage.versions == [1, 5]
    await stage.runner.close()


@in_fast_time
async def test_what_a_turn_wrote_comes_back_and_wakes_nobody() -> None:
    stage = Stage(becomes(version(7)))
    stage.runner.offer(version(5))
    await let_run()
    assert not stage.runner.offer(version(7))
    assert not stage.runner.offer(version(6))
    await let_run()
    assert stage.versions == [5]
    await stage.runner.close()


@in_fast_time
async def test_what_comes_during_a_turn_is_not_lost() -> None:
    """Somebody wrote version 9 while the turn of version 5 was under way."""
    stage = Stage()

    def meanwhile(rollback: IncidentRollback) -> Turn:
        stage.runner.offer(version(9))
        return Turn(rollback, WAIT, LONG)

    stage.reconciler.script = [meanwhile, stays()]
    stage.runner.offer(version(5))
    await let_run()
    assert stage.versions == [5, 9]
    assert stage.pauses[0] < 1
    await stage.runner.close()


@in_fast_time
async def test_our_own_write_seen_during_the_turn_is_no_news() -> None:
    stage = Stage()

    def writes_twice(_: IncidentRollback) -> Turn:
        stage.runner.offer(version(6))
        return Turn(version(7), WAIT, LONG)

    stage.reconciler.script = [writes_twice, stays()]
    stage.runner.offer(version(5))
    await let_run()
    assert stage.versions == [5]
    await stage.runner.close()


@in_fast_time
async def test_the_next_turn_comes_after_the_pause_with_the_same_memory() -> None:
    stage = Stage(stays(3.0))
    stage.runner.offer(version(1))
    await asyncio.sleep(10)
    assert stage.pauses == pytest.approx([3.0] * 3, abs=0.1)
    assert len({id(memory) for memory in stage.reconciler.memories}) == 1
    await stage.runner.close()


@in_fast_time
async def test_results_of_the_outbox_wake_it() -> None:
    stage = Stage()
    stage.runner.offer(version(1))
    await let_run()
    stage.reconciler.wakes[0]()
    stage.reconciler.wakes[0]()
    await let_run()
    assert stage.versions == [1]  # More may come in a moment.
    await asyncio.sleep(RESULTS_SECONDS)
    await let_run()
    assert stage.versions == [1, 1]
    await asyncio.sleep(LONG / 2)
    assert stage.versions == [1, 1]
    await stage.runner.close()


@in_fast_time
async def test_results_that_come_during_a_turn_are_not_lost() -> None:
    stage = Stage()

    def told_meanwhile(rollback: IncidentRollback) -> Turn:
        stage.reconciler.wakes[0]()
        return Turn(rollback, WAIT, LONG)

    stage.reconciler.script = [told_meanwhile, stays()]
    stage.runner.offer(version(1))
    await asyncio.sleep(RESULTS_SECONDS)
    await let_run()
    assert stage.versions == [1, 1]
    await stage.runner.close()


ENDS = [
    pytest.param(becomes(version(2, settled=True), 0), id="settled"),
    pytest.param(becomes(None), id="gone"),
]


@pytest.mark.parametrize("step", ENDS)
@in_fast_time
async def test_a_life_ends_and_leaves_nothing(step: Callable[[Any], Turn]) -> None:
    stage = Stage(step)
    stage.runner.offer(version(1))
    await let_run()
    assert stage.runner.known() == frozenset()
    assert len(asyncio.all_tasks()) == 1


@in_fast_time
async def test_a_life_ends_when_somebody_else_settled_it() -> None:
    stage = Stage()
    stage.runner.offer(version(1))
    await let_run()
    stage.runner.offer(version(2, settled=True))
    await let_run()
    assert (stage.versions, stage.runner.known()) == ([1], frozenset())


@in_fast_time
async def test_a_failing_turn_is_repeated_with_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(fails(UnavailableError("no answer")))
    stage.runner.offer(version(1))
    await asyncio.sleep(12)
    for number, pause in enumerate(stage.pauses[:6], 1):
        longest = min(LONGEST_PAUSE_SECONDS, 0.2 * 2**number)
        assert longest / 2 <= pause <= longest + 0.05
    assert "a turn is repeated: no answer" in caplog.text
    await stage.runner.close()


@in_fast_time
async def test_a_success_forgets_the_failures() -> None:
    failing = fails(UnavailableError("no answer"))
    stage = Stage(failing, failing, failing, failing, stays(1.0), failing, stays(LONG))
    stage.runner.offer(version(1))
    await asyncio.sleep(20)
    assert stage.pauses[5] < 0.45
    await stage.runner.close()


@in_fast_time
async def test_a_429_is_obeyed_to_the_second() -> None:
    stage = Stage(fails(ThrottledError("slower", retry_after=7)), stays())
    stage.runner.offer(version(1))
    await asyncio.sleep(20)
    assert stage.pauses == pytest.approx([7.0], abs=0.1)
    await stage.runner.close()


STUCK = [
    pytest.param(ForbiddenError("may not"), id="no retry is known to help"),
    pytest.param(ValueError("a bug"), id="a bug"),
]


@pytest.mark.parametrize("error", STUCK)
@in_fast_time
async def test_one_that_fails_does_not_end_the_others(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def by_uid(rollback: IncidentRollback) -> Turn:
        if rollback.metadata.uid == "bad":
            raise error
        return Turn(rollback, WAIT, 10.0)

    stage = Stage(by_uid)
    stage.runner.offer(version(1, uid="bad"))
    stage.runner.offer(version(1, uid="good"))
    await asyncio.sleep(2 * STUCK_PAUSE_SECONDS + 1)
    turns = [one.metadata.uid for one in stage.reconciler.given]
    assert (turns.count("bad"), turns.count("good")) == (3, 4)
    assert {r.levelno for r in caplog.records} == {logging.ERROR}
    await stage.runner.close()


@in_fast_time
async def test_a_conflict_is_read_again_and_goes_on_from_there() -> None:
    stage = Stage(fails(ConflictError("written since")), stays())
    stage.store.put(version(8))
    stage.runner.offer(version(5))
    await asyncio.sleep(1)
    assert stage.versions == [5, 8]
    assert stage.pauses[0] <= 0.15
    await stage.runner.close()


GONE = [
    pytest.param(None, id="gone"),
    pytest.param(version(8, uid="made-again"), id="made again"),
]


@pytest.mark.parametrize("there", GONE)
@in_fast_time
async def test_a_conflict_with_what_is_gone_ends_it(there: IncidentRollback | None) -> None:
    stage = Stage(fails(ConflictError("written since")))
    if there is not None:
        name = {"name": "name-of-uid-1"}
        stage.store.put(
            there.model_copy(update={"metadata": there.metadata.model_copy(update=name)})
        )
    stage.runner.offer(version(5))
    await asyncio.sleep(1)
    assert (stage.versions, stage.runner.known()) == ([5], frozenset())


@pytest.mark.parametrize("error", [UnavailableError("no answer"), ForbiddenError("may not")])
@in_fast_time
async def test_a_conflict_that_cannot_be_read_again_does_not_end_it(error: Exception) -> None:
    stage = Stage(fails(ConflictError("written since")), stays())
    stage.store.put(version(8))
    stage.store.failing = [error]
    stage.runner.offer(version(5))
    await asyncio.sleep(STUCK_PAUSE_SECONDS + 1)
    assert stage.versions == [5, 5]
    await stage.runner.close()


@in_fast_time
async def test_every_turn_is_reported() -> None:
    stage = Stage(becomes(version(2), 0.0), stays())
    stage.runner.offer(version(1))
    await let_run()
    assert [(before, turn.move) for before, turn, _ in stage.reported] == [(1, WAIT), (2, WAIT)]
    assert all(0 <= seconds < 5 for *_, seconds in stage.reported)
    await stage.runner.close()


@in_fast_time
async def test_a_deleted_resource_is_said_goodbye_to() -> None:
    stage = Stage()
    stage.runner.offer(version(1))
    await let_run()
    stage.runner.remove("uid-1")
    await let_run()
    assert [version_of(one) for one in stage.reconciler.farewells] == [1]
    assert stage.runner.known() == frozenset()
    assert len(asyncio.all_tasks()) == 1


@in_fast_time
async def test_a_deleted_resource_ends_in_the_middle_of_its_turn() -> None:
    stage = Stage()
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    stage.reconciler.meanwhile = hang
    stage.runner.offer(version(1))
    await let_run()
    stage.runner.remove("uid-1")
    await let_run()
    assert ended == ["cancelled"]
    assert len(asyncio.all_tasks()) == 1


@in_fast_time
async def test_a_goodbye_that_fails_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.reconciler.farewell_fails = UnavailableError("no answer")
    stage.runner.offer(version(1))
    stage.runner.remove("uid-1")
    await let_run()
    assert "a last word failed: no answer" in caplog.text


@in_fast_time
async def test_what_nobody_knows_is_not_said_goodbye_to() -> None:
    stage = Stage()
    stage.runner.remove("never-seen")
    await let_run()
    assert stage.reconciler.farewells == []


@in_fast_time
async def test_closing_is_quick_and_leaks_no_task() -> None:
    stage = Stage()
    for number in range(50):
        stage.runner.offer(version(1, uid=f"uid-{number}"))
    stage.runner.remove("uid-0")
    await let_run(3)
    began = elapsed()
    await stage.runner.close()
    assert elapsed() - began < 0.2
    assert len(asyncio.all_tasks()) == 1
    assert stage.runner.known() == frozenset()


@in_fast_time
async def test_after_closing_nothing_begins() -> None:
    stage = Stage()
    await stage.runner.close()
    assert not stage.runner.offer(version(1))
    assert len(asyncio.all_tasks()) == 1


VERSIONS = [
    pytest.param("10", 10, id="a number"),
    pytest.param("", 0, id="none"),
    pytest.param("x", 0, id="anything else"),
]


@pytest.mark.parametrize(("given", "number"), VERSIONS)
def test_version_of(given: str, number: int) -> None:
    rollback = a_rollback()
    metadata = rollback.metadata.model_copy(update={"resource_version": given})
    assert version_of(rollback.model_copy(update={"metadata": metadata})) == number


@in_fast_time
async def test_a_write_that_finds_the_resource_gone_says_goodbye_too() -> None:
    stage = Stage(becomes(None))
    stage.runner.offer(version(1))
    await let_run()
    assert stage.reconciler.farewells == [version(1)]
    stage.runner.remove("uid-1")  # The watch tells of it later.
    await let_run()
    assert len(stage.reconciler.farewells) == 1


@in_fast_time
async def test_a_version_from_before_a_restored_backup_is_gone_on_from() -> None:
    stage = Stage(fails(ConflictError("409")), stays())
    stage.store.put(version(3))
    stage.runner.offer(version(900))
    await asyncio.sleep(10)
    assert stage.versions == [900, 3]
    await stage.runner.close()


@in_fast_time
async def test_conflicts_without_end_are_met_ever_later() -> None:
    stage = Stage(fails(ConflictError("409")))
    stage.store.put(version(3))
    stage.runner.offer(version(3))
    await asyncio.sleep(60)
    assert len(stage.versions) < 200
    assert max(stage.pauses) > 0.5
    await stage.runner.close()


# --- several controllers ---


def untouched(number: int = 1, *, uid: str = "uid-1") -> IncidentRollback:
    """Return a resource that no controller has ever written."""
    rollback = version(number, uid=uid)
    status = rollback.status.model_copy(update={"observed_generation": -1})
    return rollback.model_copy(update={"status": status})


class StandbyStage(Stage):
    """A runner whose process stands by until `duty` begins."""

    def __init__(self, *script: Callable[[Any], Turn]) -> None:
        super().__init__(*script)
        self.is_on_duty = False
        self.runner.is_on_duty = lambda: self.is_on_duty

    def duty(self, *, begins: bool) -> None:
        self.is_on_duty = begins
        self.runner.rouse()


PATIENCE = 2.0
"""Longer than what is left to others, in seconds."""


@in_fast_time
async def test_who_stands_by_leaves_what_was_taken_up_to_others() -> None:
    stage = StandbyStage()
    stage.runner.offer(version(1))
    await asyncio.sleep(3600)
    assert stage.versions == []
    assert stage.runner.known() == {"uid-1"}
    await stage.runner.close()


@in_fast_time
async def test_what_nobody_has_taken_up_for_a_second_is_taken_up() -> None:
    stage = StandbyStage(stays(5.0))
    began = elapsed()
    stage.runner.offer(untouched())
    await asyncio.sleep(0.9)
    assert stage.versions == []
    await asyncio.sleep(PATIENCE)
    assert 1.0 <= stage.reconciler.at[0] - began <= 1.3
    await asyncio.sleep(20)
    assert len(stage.versions) == 5  # And gone on with.
    await stage.runner.close()


@in_fast_time
async def test_what_was_taken_up_within_the_second_is_left_alone() -> None:
    stage = StandbyStage()
    stage.runner.offer(untouched(1))
    await asyncio.sleep(0.5)
    stage.runner.offer(version(2))
    await asyncio.sleep(3600)
    assert stage.versions == []
    await stage.runner.close()


@in_fast_time
async def test_an_edit_by_hand_does_not_begin_the_second_anew() -> None:
    stage = StandbyStage()
    stage.runner.offer(untouched(1))
    await asyncio.sleep(0.9)
    stage.runner.offer(untouched(2))
    await asyncio.sleep(0.5)
    assert stage.versions == [2]
    await stage.runner.close()


@in_fast_time
async def test_who_is_on_duty_leaves_nothing_for_a_second() -> None:
    stage = StandbyStage()
    stage.is_on_duty = True
    stage.runner.offer(untouched())
    await let_run()
    assert stage.versions == [1]
    await stage.runner.close()


@in_fast_time
async def test_duty_begins_with_a_turn_of_everything() -> None:
    stage = StandbyStage()
    for number in range(5):
        stage.runner.offer(version(1, uid=f"uid-{number}"))
    await asyncio.sleep(PATIENCE)
    stage.duty(begins=True)
    await let_run()
    assert len(stage.versions) == 5
    await stage.runner.close()


@in_fast_time
async def test_duty_that_changes_is_a_turn_also_for_what_rests() -> None:
    """What waits to be told has to be submitted anew."""
    stage = StandbyStage()
    stage.duty(begins=True)
    stage.runner.offer(version(1))
    await asyncio.sleep(PATIENCE)
    stage.runner.rouse()
    await let_run()
    assert stage.versions == [1, 1]
    await stage.runner.close()


@in_fast_time
async def test_duty_ends_after_the_turn_that_is_under_way() -> None:
    stage = StandbyStage(stays(0.0))
    stage.reconciler.meanwhile = lambda: asyncio.sleep(1)
    stage.duty(begins=True)
    stage.runner.offer(version(1))
    await asyncio.sleep(0.5)
    stage.duty(begins=False)
    await asyncio.sleep(60)
    assert len(stage.versions) == 1
    assert len(stage.reported) == 1
    await stage.runner.close()


@in_fast_time
async def test_what_is_remembered_of_one_term_is_forgotten_by_the_next() -> None:
    stage = StandbyStage(stays(5.0))
    stage.runner.offer(version(1))
    for begins in (True, False, True):
        stage.duty(begins=begins)
        await asyncio.sleep(PATIENCE)
    first, second = stage.reconciler.memories
    assert first is not second
    await stage.runner.close()


@in_fast_time
async def test_what_was_taken_up_is_left_to_who_writes_it_next() -> None:
    stage = StandbyStage(stays(5.0))
    stage.runner.offer(untouched(1))
    await asyncio.sleep(PATIENCE)
    stage.runner.offer(version(7))
    await asyncio.sleep(3600)
    assert stage.versions == [1]
    await stage.runner.close()


@in_fast_time
async def test_what_was_taken_up_is_left_to_who_was_quicker() -> None:
    stage = StandbyStage(fails(ConflictError("written since")), stays())
    stage.store.put(version(8))
    stage.runner.offer(untouched(1))
    await asyncio.sleep(3600)
    assert stage.versions == [1]
    await stage.runner.close()


@in_fast_time
async def test_our_own_write_is_nobody_elses() -> None:
    stage = StandbyStage()

    def writes_twice(_: IncidentRollback) -> Turn:
        stage.runner.offer(version(6))
        return Turn(version(7), WAIT, 5.0)

    stage.reconciler.script = [writes_twice, stays(5.0)]
    stage.runner.offer(untouched(1))
    await asyncio.sleep(12)
    assert stage.versions == [1, 7, 7]
    await stage.runner.close()


@in_fast_time
async def test_a_claim_whose_patch_got_no_answer_is_gone_on_with() -> None:
    """The claim comes back as news, and is our own: to leave it would leave it to nobody."""
    stage = StandbyStage()

    def claims_and_fails(_: IncidentRollback) -> Turn:
        stage.runner.offer(version(6))
        raise UnavailableError("no answer to the patch")

    stage.reconciler.script = [claims_and_fails, stays(5.0)]
    stage.runner.offer(untouched(1))
    await asyncio.sleep(10)
    assert stage.versions == [1, 6, 6]
    await stage.runner.close()


@in_fast_time
async def test_a_claim_that_got_no_answer_itself_is_gone_on_with() -> None:
    stage = StandbyStage(
        fails(UnavailableError("no answer")), fails(ConflictError("ours")), stays(5.0)
    )
    stage.store.put(version(6))
    stage.runner.offer(untouched(1))
    await asyncio.sleep(12)
    assert stage.versions[:3] == [1, 1, 6]
    await stage.runner.close()


@in_fast_time
async def test_what_was_taken_up_is_handed_over_when_duty_has_come_and_gone() -> None:
    stage = StandbyStage(becomes(version(5), 5.0))
    stage.runner.offer(untouched())
    await asyncio.sleep(PATIENCE)
    stage.duty(begins=True)
    await asyncio.sleep(1)
    stage.duty(begins=False)
    turns = len(stage.versions)
    await asyncio.sleep(3600)
    assert len(stage.versions) == turns
    await stage.runner.close()


PARTINGS = [
    pytest.param(version(1), 0, id="who stands by leaves the last word to others"),
    pytest.param(untouched(1), 1, id="who has taken it up says it"),
]


@pytest.mark.parametrize(("rollback", "farewells"), PARTINGS)
@in_fast_time
async def test_the_last_word_is_said_once(rollback: IncidentRollback, farewells: int) -> None:
    stage = StandbyStage()
    stage.runner.offer(rollback)
    await asyncio.sleep(PATIENCE)
    stage.runner.remove("uid-1")
    await let_run()
    assert len(stage.reconciler.farewells) == farewells
    assert len(asyncio.all_tasks()) == 1


@in_fast_time
async def test_what_others_settle_ends_here_too() -> None:
    stage = StandbyStage()
    stage.runner.offer(version(1))
    await asyncio.sleep(PATIENCE)
    stage.runner.offer(version(2, settled=True))
    await let_run()
    assert (stage.versions, stage.runner.known()) == ([], frozenset())
    assert len(asyncio.all_tasks()) == 1
