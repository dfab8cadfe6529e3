from dataclasses import dataclass, field

import pytest

from incident_rollback.cli.follow import exit_of, follow, news_of
from incident_rollback.cli.options import Exit
from incident_rollback.crd.v1alpha1 import Condition, IncidentRollback, Phase
from incident_rollback.errors import ForbiddenError, UnavailableError
from tests.builders import HOME, a_rollback, claimed
from tests.fakes.clock import FakeClock
from tests.fakes.store import FakeStore

NAME = a_rollback().metadata.name


def standing(phase: Phase, reason: str = "", message: str = "") -> IncidentRollback:
    ready = Condition(type="Ready", status="Unknown", reason=reason or phase, message=message)
    return claimed(phase, conditions=(ready,))


@dataclass
class Played(FakeStore):
    """Each look finds the next scene; the last one stays."""

    scenes: list[IncidentRollback] = field(default_factory=list[IncidentRollback])

    async def get(self, namespace: str, name: str) -> IncidentRollback | None:
        if len(self.scenes) > 1:
            self.put(self.scenes.pop(0))
        elif self.scenes:
            self.put(self.scenes[0])
        return await super().get(namespace, name)


async def followed(store: FakeStore, **seconds: float) -> tuple[IncidentRollback | None, list[str]]:
    said: list[str] = []
    last = await follow(
        store,
        FakeClock(),
        HOME,
        NAME,
        said.append,
        **{"every_seconds": 0.0, **seconds},
    )
    return last, said


async def test_each_change_of_phase_or_message_is_said_once() -> None:
    rolling = standing(Phase.ROLLING_BACK, message="1 of 3 pods available")
    scenes = [
        a_rollback(),
        a_rollback(),
        rolling,
        rolling,
        standing(Phase.ROLLING_BACK, message="2 of 3 pods available"),
        standing(Phase.SUCCEEDED, "RolledBack", "it is healthy"),
    ]
    last, said = await followed(Played(scenes=scenes))
    assert last is not None
    assert last.status.phase is Phase.SUCCEEDED
    assert said == [
        "02:14:00 Pending",
        "02:14:00 RollingBack: 1 of 3 pods available",
        "02:14:00 RollingBack: 2 of 3 pods available",
        "02:14:00 Succeeded RolledBack: it is healthy",
    ]


async def test_one_that_is_gone_is_none() -> None:
    assert await followed(FakeStore()) == (None, [])


async def test_the_time_may_be_over_before() -> None:
    last, _ = await followed(Played(scenes=[a_rollback()]), timeout_seconds=0)
    assert last is not None
    assert exit_of(last) is Exit.TIMED_OUT


async def test_an_api_server_that_is_away_for_a_moment_is_waited_for() -> None:
    store = Played(scenes=[standing(Phase.FAILED, "Superseded", "x")])
    store.failing = [UnavailableError("away"), UnavailableError("away")]
    last, _ = await followed(store)
    assert last is not None


async def test_one_that_stays_away_ends_it() -> None:
    with pytest.raises(UnavailableError):
        await followed(FakeStore(down=UnavailableError("away")), patience_seconds=-1)


async def test_a_refusal_ends_it_at_once() -> None:
    with pytest.raises(ForbiddenError):
        await followed(FakeStore(down=ForbiddenError("you may not")))


async def test_a_controller_that_does_not_look_is_missed_once() -> None:
    scenes = [a_rollback(), a_rollback(), standing(Phase.REFUSED, "Paused", "x")]
    _, said = await followed(Played(scenes=scenes), unseen_seconds=-1)
    assert [line for line in said if "is it running?" in line] == [
        "the controller has not looked at it yet: is it running?"
    ]


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        (Phase.SUCCEEDED, Exit.FINE),
        (Phase.PREVIEWED, Exit.FINE),
        (Phase.REFUSED, Exit.NO),
        (Phase.FAILED, Exit.NO),
        (Phase.PENDING, Exit.TIMED_OUT),
        (Phase.ROLLING_BACK, Exit.TIMED_OUT),
    ],
)
def test_the_exit_code_is_that_of_the_phase(phase: Phase, code: Exit) -> None:
    assert exit_of(standing(phase)) is code


def test_a_reason_that_is_the_phase_is_not_repeated() -> None:
    assert news_of(standing(Phase.PREVIEWED, message="x")) == "Previewed: x"
