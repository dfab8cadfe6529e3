"""Histories are written oldest first, as people remember them: `1=A 2=B 3=A` is a return to A."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from incident_rollback.domain.history import History
from incident_rollback.domain.workload import Revision, Workload
from tests.builders import a_revision, a_template, a_workload, ago

FIRST = ago(days=10)


def a_story(told: str, *, hours: Sequence[float] = (), written: datetime | None = None) -> Workload:
    """
    Return a workload with a history such as `1=A 2=B 3=A`; a number left out was pruned.

    A letter is one ReplicaSet; `A'` is another one of A after a restart.  A ReplicaSet is made
    with its first number, a day after the one before, or as `hours` say.
    """
    stints = [(int(n), name) for n, name in (word.split("=") for word in told.split())]
    numbers: dict[str, list[int]] = {}
    for number, name in stints:
        numbers.setdefault(name, []).append(number)
    since = hours or [24.0 * number for number, _ in stints]
    made = dict(zip(reversed([name for _, name in stints]), reversed(list(since)), strict=True))
    revisions = [
        _revision(name, known, FIRST + timedelta(hours=made[name]))
        for name, known in numbers.items()
    ]
    newest_first = sorted(revisions, key=lambda r: -r.number)
    return a_workload(*newest_first, health="healthy", template_written_at=written)


def _revision(name: str, numbers: list[int], created_at: datetime) -> Revision:
    *history, number = numbers
    restarted = "now" if name.endswith("'") else ""
    return a_revision(
        number,
        history=tuple(history),
        pod_template_hash=name,
        template=a_template(name.rstrip("'"), restarted=restarted),
        created_at=created_at,
    )


def letter(key: str, workload: Workload) -> str:
    return next(r.images[0] for r in workload.revisions if r.key == key)


MARKED = [
    pytest.param("1=A 2=B", "", id="a deploy marks nothing"),
    pytest.param("2=B 3=A 1=A", "B", id="a return marks what it left"),
    pytest.param("1=A 2=B 3=C 4=A", "C", id="only what it left"),
    pytest.param("1=A 2=B 3=A 4=B", "B", id="toggled: B is bad, and so would A be not"),
    pytest.param("1=A 2=B 3=A 4=C 5=A", "BC", id="each return marks"),
    pytest.param("1=A 3=B 5=A", "", id="a gap on the way back marks nothing"),
    pytest.param("1=A 2=A'", "", id="a restart is no step"),
    pytest.param("1=A 2=B 3=A 4=A'", "B", id="a restart after a return hides nothing"),
    pytest.param("1=A 2=B 3=A'", "B", id="a redeploy of what ran before is a return, too"),
    pytest.param("9=A 10=B", "", id="S6 numbers, not strings"),
    pytest.param("9=A 10=B 11=A", "B", id="S6 numbers with another digit"),
    pytest.param("1=C 2=A 2=B 3=C", "", id="two revisions with one number: a tie marks nothing"),
    pytest.param("2=B 3=A", "", id="what it was before is forgotten: nothing is known"),
]


@pytest.mark.parametrize(("told", "bad"), MARKED)
def test_a_return_marks_what_it_left_as_bad(told: str, bad: str) -> None:
    workload = a_story(told)
    marked = History.of(workload).marked_bad
    assert "".join(sorted(letter(key, workload) for key in marked)) == bad


ROLLED_BACK = [
    pytest.param("1=A 2=B", False, id="a deploy"),
    pytest.param("1=A 2=B 3=A", True, id="a rollback"),
    pytest.param("1=A 2=B 3=A 4=A'", True, id="a rollback, then a restart"),
    pytest.param("1=A 2=B 3=A 4=B", False, id="rolled forward again to what is bad"),
    pytest.param("1=A 2=B 3=C", False, id="a second bad deploy"),
    pytest.param("1=A 2=A'", False, id="a restart"),
    pytest.param("1=A", False, id="the only revision"),
    pytest.param("1=A 2=X 4=A", True, id="back, and what it left was pruned"),
    pytest.param("1=X 2=A 4=A", True, id="back, and what it left was deleted: not undone again"),
    pytest.param("1=A 4=C", False, id="new after a gap: nothing is known"),
    pytest.param("2=A 3=C 3=B 4=A", True, id="back from one of two with the same number"),
]


@pytest.mark.parametrize(("told", "is_so"), ROLLED_BACK)
def test_whether_the_live_template_was_rolled_back_to(told: str, is_so: bool) -> None:
    workload = a_story(told)
    assert History.of(workload).was_rolled_back_to(workload.key) is is_so


def test_a_template_that_is_not_in_the_history_was_not_rolled_back_to() -> None:
    workload = replace(a_story("1=A 2=B 3=A"), template=a_template("new"))
    assert not History.of(workload).was_rolled_back_to(workload.key)


WRITTEN = ago(minutes=2)
BECAME_CURRENT = [
    pytest.param("1=A 2=B", FIRST + timedelta(hours=48), id="when its ReplicaSet was made"),
    pytest.param("1=A 2=B 3=A", WRITTEN, id="returned to: when the template was written"),
    pytest.param("1=A 2=A'", FIRST + timedelta(hours=24), id="a restart does not count"),
    pytest.param("1=A 2=B 3=A 4=A'", None, id="returned to, then restarted: unknown"),
    pytest.param("1=X 2=A 4=A", WRITTEN, id="returned to from what was deleted"),
]


@pytest.mark.parametrize(("told", "at"), BECAME_CURRENT)
def test_when_the_live_template_became_current(told: str, at: datetime | None) -> None:
    workload = a_story(told, written=WRITTEN)
    assert History.of(workload).became_current_at(workload) == at


EARLY = FIRST + timedelta(hours=47)
SLOW = [
    pytest.param("Recreate", EARLY, EARLY, id="the old pods had to go first: when it was written"),
    pytest.param("Recreate", None, FIRST + timedelta(hours=48), id="nobody knows when it was"),
    pytest.param("Recreate", WRITTEN, FIRST + timedelta(hours=48), id="a later write is a restart"),
    pytest.param(
        "RollingUpdate", EARLY, FIRST + timedelta(hours=48), id="its ReplicaSet is prompt"
    ),
]


@pytest.mark.parametrize(("strategy", "written", "at"), SLOW)
def test_a_replica_set_that_comes_late(
    strategy: str, written: datetime | None, at: datetime
) -> None:
    workload = replace(a_story("1=A 2=B", written=written), strategy=strategy)
    assert History.of(workload).became_current_at(workload) == at


def test_when_nobody_knows_when_the_template_was_written() -> None:
    workload = a_story("1=A 2=B 3=A", written=None)
    assert History.of(workload).became_current_at(workload) is None


def test_a_template_without_a_replica_set_became_current_at_an_unknown_time() -> None:
    workload = replace(a_story("1=A 2=B"), template=a_template("new"))
    assert History.of(workload).became_current_at(workload) is None


DWELT = [
    pytest.param("1=A 2=B", (0, 5), 5, id="until its successor's ReplicaSet was made"),
    pytest.param("1=A 2=A' 3=B", (0, 4, 5), 5, id="a restart does not end it"),
    pytest.param("1=A 2=B 3=A 4=C", (0, 5, 5, 9), 5, id="the first stint; a return is not known"),
    pytest.param("1=A 2=B 3=A' 4=C", (0, 2, 5, 9), 4, id="the longest first stint"),
    pytest.param("1=B 2=A 3=B", (0, 5, 9), None, id="replaced by a return: unknown"),
    pytest.param("1=A 3=C", (0, 72), None, id="a gap: another one replaced it"),
    pytest.param("1=A 3=A' 4=C", (0, 70, 72), 2, id="a gap in its midst: counted from after it"),
    pytest.param("1=A", (0,), None, id="not replaced"),
]


@pytest.mark.parametrize(("told", "hours", "length"), DWELT)
def test_how_long_a_revision_was_current(
    told: str, hours: Sequence[float], length: float | None
) -> None:
    workload = a_story(told, hours=hours)
    key = next(r.key for r in workload.revisions if r.images == ("A",))
    expected = None if length is None else timedelta(hours=length)
    assert History.of(workload).dwell(key) == expected


def test_first_current_is_the_oldest_of_the_equal_ones() -> None:
    workload = a_story("1=A 2=B 3=A'")
    key = workload.key
    assert History.of(workload).first_current_at(key) == FIRST + timedelta(hours=24)


def test_a_long_history_is_reckoned_in_a_moment() -> None:
    """Two revisions that somebody toggled for years: once for each step, not for each pair."""
    numbers = range(1, 40_001)
    even = a_revision(40_000, history=tuple(n for n in numbers if n % 2 == 0)[:-1])
    odd = a_revision(39_999, history=tuple(n for n in numbers if n % 2)[:-1])
    history = History.of(a_workload(even, odd))
    assert history.marked_bad == {even.key}
