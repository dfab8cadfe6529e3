"""Every scenario has a row, every row its scenario, and docs/scenarios.md says which is where."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.scenarios import (
    LETTERS,
    PAGE,
    ROOT,
    SAYS,
    Showing,
    page_of,
    scenario_of,
    without_a_row,
    without_an_end_to_end_test,
)


@pytest.fixture(scope="module")
def shown() -> Sequence[Showing]:
    """What all tests show; collected once, and by another process, for pytest is not reentrant."""
    command = [sys.executable, "-m", "tests.scenarios", "--list"]
    done = subprocess.run(  # noqa: S603  # our own command
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [Showing(**one) for one in json.loads(done.stdout)]


def test_every_scenario_has_a_row_in_the_table_of_a_quick_test(shown: Sequence[Showing]) -> None:
    missing = without_a_row(shown)
    assert not missing, f"no row shows {', '.join(missing)}"


def test_every_scenario_has_an_end_to_end_test(shown: Sequence[Showing]) -> None:
    missing = without_an_end_to_end_test(shown)
    assert not missing, f"no end-to-end test shows {', '.join(missing)}"


def test_no_test_names_a_scenario_that_is_not_there(shown: Sequence[Showing]) -> None:
    assert {(one.scenario, one.test) for one in shown if one.scenario not in SAYS} == set()


def test_the_page_of_scenarios_is_fresh(shown: Sequence[Showing]) -> None:
    is_fresh = PAGE.read_text(encoding="utf-8") == page_of(shown)
    assert is_fresh, f"{PAGE.relative_to(ROOT)} is stale: make scenarios"


def test_what_is_said_of_a_scenario_is_one_short_sentence() -> None:
    assert [says for says in SAYS.values() if len(says) > 90 or not says.endswith(".")] == []
    assert {scenario[0] for scenario in SAYS} == set(LETTERS)


NAMED = [
    pytest.param("tests/a.py::test[S1 good, then bad]", "S1", id="the first word of a row"),
    pytest.param("tests/a.py::test[in time-V21 made again]", "V21", id="of two crossed tables"),
    pytest.param("tests/a.py::test[S99 unheard of]", "S99", id="one that is not there, too"),
    pytest.param("tests/a.py::test[S16]", None, id="a row without words"),
    pytest.param("tests/a.py::test[like S16 but not]", None, id="in the midst of the words"),
    pytest.param("tests/a.py::test[A4 paper]", None, id="a letter of no scenario"),
    pytest.param("tests/a.py::test_s16_by_name", None, id="the name of a function"),
]


@pytest.mark.parametrize(("test", "scenario"), NAMED)
def test_a_row_names_its_scenario_first(test: str, scenario: str | None) -> None:
    assert scenario_of(test) == scenario


def showing(
    scenario: str, test: str = "tests/unit/a.py::test[S1 x]", *, row: bool = True
) -> Showing:
    return Showing(scenario, test, is_row=row)


ROWS = [
    pytest.param(showing("S1"), True, id="a row of a quick test"),
    pytest.param(
        showing("S1", "tests/e2e/a.py::test[S1 x]"), False, id="a row of an end-to-end test"
    ),
    pytest.param(showing("S1", row=False), False, id="a marker is no row"),
    pytest.param(showing("S2"), False, id="a row of another one"),
]


@pytest.mark.parametrize(("one", "is_enough"), ROWS)
def test_what_counts_as_the_row_of_a_scenario(one: Showing, is_enough: bool) -> None:
    assert ("S1" not in without_a_row([one])) is is_enough


WHOLE = [
    pytest.param(showing("S1", "tests/e2e/a.py::test[S1 x]"), True, id="a row of one"),
    pytest.param(showing("S1", "tests/e2e/a.py::test", row=False), True, id="the marker of one"),
    pytest.param(showing("S1", "tests/gitops/a.py::test", row=False), True, id="beside GitOps"),
    pytest.param(showing("S1"), False, id="a row of a quick test"),
    pytest.param(showing("S1", "tests/unit/a.py::test", row=False), False, id="its marker"),
    pytest.param(showing("S2", "tests/e2e/a.py::test[S2 x]"), False, id="one of another scenario"),
]


@pytest.mark.parametrize(("one", "is_enough"), WHOLE)
def test_what_counts_as_an_end_to_end_test(one: Showing, is_enough: bool) -> None:
    assert ("S1" not in without_an_end_to_end_test([one])) is is_enough


def test_the_page_shows_a_few_rows_of_a_table_and_tells_quick_from_whole() -> None:
    rows = [showing("S2", f"tests/unit/a.py::test[S2 {n}]") for n in range(5)]
    whole = showing("S2", "tests/e2e/b.py::test_it | `that`", row=False)
    (line,) = [line for line in page_of([*rows, whole]).splitlines() if line.startswith("| S2 |")]
    assert line == (
        f"| S2 | {SAYS['S2']} | `unit/a.py::test[S2 0]`<br>`unit/a.py::test[S2 1]`<br>"
        "`unit/a.py::test[S2 2]`<br>and 2 more of its rows | `e2e/b.py::test_it \\| 'that'` |"
    )
