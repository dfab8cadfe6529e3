"""
Which test shows which scenario of a rollback: collected, and written into docs/scenarios.md.

A row of a table shows the scenario that its id starts with (`S1 good, then bad: the good one`),
any other test those that its marker `scenario` names.  Run as `python -m tests.scenarios`; with
`--list` it writes what it has collected to stdout, as JSON, and changes nothing.
"""

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "scenarios.md"

LETTERS: Final[Mapping[str, str]] = {
    "S": "Choosing the revision",
    "P": "Before the patch",
    "W": "The patch",
    "V": "After the patch",
    "D": "Why pods are not ready",
}
SAYS: Final[Mapping[str, str]] = {
    "S1": "Good, then bad: back to the good one.",
    "S2": "After several bad releases: back to the one before all of them.",
    "S3": "A revision whose pods serve now is chosen before one with a higher number.",
    "S4": "That somebody went back from a revision weighs more than pods of it that still serve.",
    "S5": "What only a restart made is no revision of its own.",
    "S6": "Revision numbers are numbers: 10 is newer than 9.",
    "S7": "A ReplicaSet whose number is missing or garbage is no candidate.",
    "S8": "Orphans and the ReplicaSets of another owner are no candidates.",
    "S9": "Of equal templates the one whose pods serve counts, then the oldest.",
    "S10": "null, empty and absent are the same.",
    "S11": "Without a revision that can be trusted the newest that is left is called unproven.",
    "S12": "With a single revision there is nothing to go back to.",
    "S13": "When everything else was rolled back from, nothing is chosen.",
    "S16": "An explicit revision that is not there is refused.",
    "S17": "An explicit revision that is live: there already when healthy, else refused.",
    "P1": "A change that Kubernetes has not taken up yet is waited for.",
    "P2": "So is the ReplicaSet of the live template.",
    "P3": "A paused Deployment is waited for.",
    "P4": "What a controller owns is left to that controller.",
    "P5": "What is being deleted is left alone.",
    "P6": "Argo CD, Flux, Helm and others that keep the workload are recognised.",
    "P7": "A Secret or another object that the target needs is missing.",
    "P8": "A ConfigMap or Secret changed after the target was last live.",
    "P9": "The images of both revisions have the same tags.",
    "P10": "The API server refuses a dry run of the patch.",
    "P11": "A webhook cannot answer a dry run: that is unknown, not refused.",
    "P12": "By its dry run the patch would change nothing.",
    "P13": "Kubernetes' own, old annotation for a rollback is waited for.",
    "W1": "The patch to the byte: its guards, the template without the hash label, unknown fields.",
    "W2": "All other annotations stay as they are.",
    "W3": "Changed since it was read: patched if the template is the same; another one stands.",
    "W4": "Deleted and made again since it was read: nothing is patched.",
    "W5": "Writes of the status alone do not stand in the way.",
    "W6": "The answer to the patch is lost, and it went in: it is not patched again.",
    "W7": "The answer to the patch is lost, and it did not go in: it is patched once.",
    "W8": "The same request handled twice is one patch.",
    "W9": "A failed guard is told apart from a refusal.",
    "W10": "Without any annotation the guards fail, and nothing is written.",
    "W11": "A key `$patch` in a template is written as it is: nothing is merged.",
    "W12": "The patch is written under our field manager.",
    "W13": "Replicas are never written.",
    "W14": "Strings that JSON escapes survive, and are never part of a guard.",
    "V1": "All pods are new and available: complete.",
    "V2": "Not taken up yet: the counts are of the template before.",
    "V3": "New pods are missing.",
    "V4": "Old pods remain.",
    "V5": "Not all pods are available.",
    "V6": "Kubernetes' verdict is older than our patch: not believed.",
    "V7": "Kubernetes' verdict is newer than our patch: failed.",
    "V8": "No progress, and no verdict of Kubernetes either: our own deadline.",
    "V9": "The same where the workload's deadline is disabled.",
    "V10": "Paused midway: never complete by itself.",
    "V11": "0 replicas: restored, and unproven.",
    "V12": "Scaled meanwhile: judged by what is wanted now.",
    "V13": "Available, then a crash within the calm.",
    "V14": "Something newer was deployed over it: that stands.",
    "V15": "Its source brought the bad revision back: told, and not fought.",
    "V20": "The target fails too: the next that can be trusted is named, and not tried.",
    "V21": "Deleted and made again: another workload.",
    "D1": "Each reason for which a container waits.",
    "D2": "Init containers, those that keep running too.",
    "D3": "OOMKilled, though the container waits to be started again.",
    "D4": "Unschedulable; a pod that is gated waits on purpose.",
    "D5": "No pods are made, for a quota forbids it.",
    "D6": "An admission webhook that is away is not one that denies.",
    "D7": "Pods of both revisions fail alike: the cause lies elsewhere.",
    "D8": "Reasons that alternate.",
    "D9": "Without the right to read Events the rest is said all the same.",
    "D10": "A reason that nobody knows yet is repeated as it is.",
}
"""What each scenario is about; those of StatefulSets and DaemonSets are not here."""

END_TO_END: Final = ("tests/e2e/", "tests/gitops/")
SHOWN_ROWS: Final = 3
"""Of one table: some have dozens for one scenario."""
ROW: Final = re.compile(r"[\[-]([A-Z]\d+)(?= )")
"""The scenario of a row in a node id; where two tables are crossed it follows a hyphen."""
INTRODUCTION: Final = """\
# Scenarios

What may happen around a rollback, and the tests that show what comes of it. `make scenarios` writes
this page from the tests, and a test fails when it is stale, or when a scenario has no row of a
quick test or no end-to-end test: edit `tests/scenarios.py` and not the page. A test belongs to a
scenario when the id of its row starts with the scenario's, or by its marker
`@pytest.mark.scenario("S1")`. Tests are named from `tests/` on, and of a long table a few rows are
shown. Numbers left out are of StatefulSets and DaemonSets.
"""


@dataclass(frozen=True)
class Showing:
    """That a test shows a scenario."""

    scenario: str
    """Its id, known or not."""
    test: str
    """pytest's node id, from the root of the repository."""
    is_row: bool
    """By the id of a row; else by the marker."""

    @property
    def is_end_to_end(self) -> bool:
        return self.test.startswith(END_TO_END)

    @property
    def function(self) -> str:
        return self.test.partition("[")[0]


@dataclass
class _Collector:
    """Keeps what pytest has collected, before any of it is run."""

    items: Sequence[pytest.Item] = field(default_factory=list[pytest.Item])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


def collect() -> tuple[Showing, ...]:
    """
    Collect all tests by a pytest of its own, and return what they show, in their order.

    Nothing is run, and no control plane is started.  Raises RuntimeError with pytest's words when
    a module cannot be collected.
    """
    collector, said = _Collector(), io.StringIO()
    arguments = ["--collect-only", "-qq", "-p", "no:cacheprovider", str(ROOT / "tests")]
    with contextlib.redirect_stdout(said):
        code = pytest.main(arguments, plugins=[collector])
    if code is not pytest.ExitCode.OK:
        raise RuntimeError(said.getvalue().rpartition(" ERRORS ")[2].strip("=\n"))
    return tuple(showing for item in collector.items for showing in _shown_by(item))


def scenario_of(test: str) -> str | None:
    """Return the scenario that the id of a row starts with, by the test's node id."""
    found = ROW.search(test)
    return found[1] if found and found[1][0] in LETTERS else None


def _shown_by(item: pytest.Item) -> Iterator[Showing]:
    scenario = scenario_of(item.nodeid)
    if scenario is not None:
        yield Showing(scenario, item.nodeid, is_row=True)
    for marker in item.iter_markers("scenario"):
        for named in marker.args:
            yield Showing(str(named), item.nodeid, is_row=False)


def without_a_row(shown: Iterable[Showing]) -> list[str]:
    """Return the scenarios that no row of a quick test's table shows."""
    rows = {one.scenario for one in shown if one.is_row and not one.is_end_to_end}
    return [scenario for scenario in SAYS if scenario not in rows]


def without_an_end_to_end_test(shown: Iterable[Showing]) -> list[str]:
    """Return the scenarios that no test of the whole shows."""
    whole = {one.scenario for one in shown if one.is_end_to_end}
    return [scenario for scenario in SAYS if scenario not in whole]


def page_of(shown: Sequence[Showing]) -> str:
    """Return docs/scenarios.md: a table for each letter, a line for each scenario."""
    tables = (
        f"\n## {letter}: {title}\n\n"
        "| | scenario | rows of tables, and other quick tests | end to end |\n|---|---|---|---|\n"
        + "".join(_line(scenario, shown) for scenario in SAYS if scenario[0] == letter)
        for letter, title in LETTERS.items()
    )
    return INTRODUCTION + "".join(tables)


def _line(scenario: str, shown: Sequence[Showing]) -> str:
    mine = [one for one in shown if one.scenario == scenario]
    quick = _cell([one for one in mine if not one.is_end_to_end])
    whole = _cell([one for one in mine if one.is_end_to_end])
    return f"| {scenario} | {SAYS[scenario]} | {quick} | {whole} |\n"


def _cell(shown: Sequence[Showing]) -> str:
    """Return the tests, a line each; of one table no more than a few rows."""
    lines: list[str] = []
    for _, group in groupby(shown, key=lambda one: one.function):
        rows = list(group)
        lines += [_code(one.test.removeprefix("tests/")) for one in rows[:SHOWN_ROWS]]
        if len(rows) > SHOWN_ROWS:
            lines.append(f"and {len(rows) - SHOWN_ROWS} more of its rows")
    return "<br>".join(lines) or "none"


def _code(text: str) -> str:
    """Return text as code in the cell of a table, whatever is in it."""
    return "`{}`".format(text.replace("`", "'").replace("|", r"\|"))


def main(arguments: Sequence[str]) -> int:
    """Write the page, or the list; return the exit code."""
    try:
        shown = collect()
    except RuntimeError as error:
        sys.stderr.write(f"the tests cannot be collected:\n{error}\n")
        return 1
    if list(arguments) == ["--list"]:
        sys.stdout.write(json.dumps([asdict(one) for one in shown]))
        return 0
    PAGE.write_text(page_of(shown), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
    if missing := without_a_row(shown):
        sys.stderr.write(f"no row shows {', '.join(missing)}\n")
    if missing := without_an_end_to_end_test(shown):
        sys.stderr.write(f"no end-to-end test shows {', '.join(missing)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
