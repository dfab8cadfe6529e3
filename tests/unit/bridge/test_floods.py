"""A second of a flood is one line; what is left out is counted, and said."""

import asyncio
from collections.abc import Callable

import pytest

from incident_rollback.bridge.floods import Floods
from tests.unit.controller.fast_time import elapsed, in_fast_time

Line = tuple[str, int, int]
"""What it says, how many were left out before it, and in which second it was written."""


class Log:
    """Keeps what was written, and when."""

    def __init__(self) -> None:
        self.began, self.lines = elapsed(), list[Line]()

    def line(self, words: str) -> Callable[[int], None]:
        return lambda left_out: self.lines.append((words, left_out, int(elapsed() - self.began)))


@in_fast_time
async def test_the_first_is_written_at_once() -> None:
    log, floods = Log(), Floods()
    floods.tell("a", log.line("first"))
    assert log.lines == [("first", 0, 0)]


TOLD = [
    pytest.param([0.0], [("0", 0, 0)], id="one alone is one line"),
    pytest.param([0.0, 0.5], [("0", 0, 0), ("1", 0, 1)], id="the second one comes late, not never"),
    pytest.param(
        [0.0, 0.2, 0.4, 0.6], [("0", 0, 0), ("3", 2, 1)], id="of more the last, and their number"
    ),
    pytest.param(
        [0.0, 0.5, 1.2, 1.6, 5.0],
        [("0", 0, 0), ("1", 0, 1), ("3", 1, 2), ("4", 0, 5)],
        id="one a second while it goes on, and at once when it was quiet",
    ),
]


@pytest.mark.parametrize(("at", "written"), TOLD)
@in_fast_time
async def test_what_is_written(at: list[float], written: list[Line]) -> None:
    log, floods = Log(), Floods()
    for number, instant in enumerate(at):
        await asyncio.sleep(log.began + instant - elapsed())
        floods.tell("a", log.line(str(number)))
    await asyncio.sleep(10)
    assert log.lines == written


@in_fast_time
async def test_a_flood_hides_no_other_kind() -> None:
    log, floods = Log(), Floods()
    for _ in range(1000):
        floods.tell("a", log.line("a"))
    floods.tell("b", log.line("b"))
    assert [words for words, _, _ in log.lines] == ["a", "b"]


@in_fast_time
async def test_nothing_is_kept_of_a_flood_that_is_over() -> None:
    log, floods = Log(), Floods()
    for _ in range(1000):
        floods.tell("a", log.line("a"))
    await asyncio.sleep(10)
    assert log.lines == [("a", 0, 0), ("a", 998, 1)]
    assert floods == Floods()
