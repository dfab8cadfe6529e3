"""What is committed of a run: its shape, its sums, and that nothing was wrong."""

import json
from collections import Counter
from typing import Any, Final

from tests.chaos.checker import Answer, Patch, Record, Rollback, Telling, Verdict
from tests.chaos.plan import Deed
from tests.chaos.report import Done, report_of
from tests.chaos.run import REPORT

DONE: Final = Done(
    seed=7,
    seconds=60.0,
    versions={"kubernetes": "v1.36.3"},
    deeds=Counter({Deed.KILL: 2, Deed.STOP: 1, Deed.CUT: 3, Deed.DEAF: 1, Deed.UNDO: 4}),
    ambushed=5,
    api_servers=1,
)
RECORD: Final = Record(
    rollbacks=(
        Rollback("a", "uid-a", "intent-a", updates=(Telling("end", "Note", "over"),)),
        Rollback("b", "uid-b", "intent-b", phase="Refused", reason="Busy"),
    ),
    patches=(
        Patch(1, "uid-a", "intent-a", "chaos/cart", ()),
        Patch(2, "uid-a", "intent-a", "chaos/cart", (), is_effective=False),
    ),
    answers=(Answer(202, ("a",)), Answer(202, ("b",)), Answer(0)),
)


def a_report() -> dict[str, Any]:
    return report_of(DONE, RECORD, Verdict(("it was told twice",), late_duplicates=1))


def test_it_counts_what_was_done_and_what_came_of_it() -> None:
    report = a_report()
    assert report["kills"] == {"SIGKILL": 7, "ofTheseAtAWrite": 5, "SIGTERM": 1}
    assert report["cuts"] == {"waysToTheApiServer": 4, "apiServerRestarted": 1, "firehydrant": 0}
    assert report["changesByPeople"] == 4
    assert (report["deliveries"], report["accepted"]) == (3, 2)
    assert report["answers"] == {"202": 2, "none": 1}
    assert report["rollbacks"] == {"Refused Busy": 1, "Succeeded RolledBack": 1}
    assert (report["patches"], report["updates"], report["lateDuplicates"]) == (1, 1, 1)
    assert report["violations"] == ["it was told twice"]


def test_what_is_committed_is_of_this_shape_and_has_no_violations() -> None:
    committed = json.loads(REPORT.read_text(encoding="utf-8"))
    assert committed.keys() == a_report().keys()
    assert committed["violations"] == []
    assert committed["patches"] > 0
