"""
Every safety rule of docs/design.md, section 3, is there for the tests to see.

Each row of the table takes one out of the program, in a process of its own, and the tests that the
row names must fail then.  With nothing taken out all of them pass.
"""

import re
from collections.abc import Iterator
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from tests.rules.removal import MISHAPS, PRELOADED, ROOT, Removal, Verdict, run
from tests.rules.removals import ROWS

if TYPE_CHECKING:
    from multiprocessing.pool import AsyncResult

DESIGN = (ROOT / "docs" / "design.md").read_text()
SECTION = DESIGN.partition("\n## 3.")[2].partition("\n## ")[0]
RULES = re.findall(r"^(?:- |\d\. )?\*\*([^*]+?)\.?\*\*", SECTION, re.MULTILINE)
"""The names that begin a point or a paragraph."""
PROCESSES = 2

Pending = dict[Removal | None, "AsyncResult[Verdict]"]


def name_of(removal: Removal) -> str:
    return f"{removal.rule}: {removal.says}"


@pytest.fixture(scope="module")
def pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pending]:
    """Begin all runs that were asked for, two at a time."""
    cache = str(tmp_path_factory.mktemp("compiled"))
    context = get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    asked = [item for item in request.session.items if item.path == request.path]
    rows = [getattr(item, "callspec", None) for item in asked]
    removals = [row.params["removal"] for row in rows if row is not None]
    with context.Pool(PROCESSES, maxtasksperchild=1) as pool:
        every = sorted({test for one in removals or ROWS for test in one.noticed_by})
        begun: Pending = {None: pool.apply_async(run, (None, every, cache))}
        begun |= {one: pool.apply_async(run, (one, one.noticed_by, cache)) for one in removals}
        yield begun


@pytest.mark.parametrize("removal", ROWS, ids=name_of)
def test_without_the_rule_its_tests_fail(removal: Removal, pending: Pending) -> None:
    verdict = pending[removal].get()
    assert sorted(verdict.failed) == sorted(removal.noticed_by), verdict.said
    assert not MISHAPS & set(verdict.failed.values()), verdict.said


def test_with_every_rule_they_pass(pending: Pending) -> None:
    verdict = pending[None].get()
    assert (verdict.exit_code, verdict.failed) == (0, {}), verdict.said


def test_every_rule_of_the_design_has_rows() -> None:
    assert len(RULES) >= 20
    assert sorted({row.rule for row in ROWS}) == sorted(RULES)


def test_no_row_is_there_twice() -> None:
    assert len({(row.module, row.text, row.instead) for row in ROWS}) == len(ROWS)
    assert len(set(map(name_of, ROWS))) == len(ROWS)
