"""The checker finds what is wrong, and nothing else: a row for each rule, broken once."""

from dataclasses import replace
from typing import Any, Final

import pytest

from tests.chaos.checker import (
    CATALOG,
    Answer,
    Copy,
    Look,
    Patch,
    Record,
    Rollback,
    Sleep,
    Step,
    Telling,
    Verdict,
    judge,
)

CART: Final = "chaos/cart"
GOOD: Final = ("nginx:1.18.0",)
ONE: Final = Rollback(
    name="cart-1",
    uid="uid-1",
    intent="intent-1",
    incident="incident-1",
    workload=CART,
    images=GOOD,
    updates=(
        Telling("start", "Note", "it begins (cart-1)"),
        Telling("progress", "Message", "1 of 2 (cart-1)"),
        Telling("end", "Note", "it is over (cart-1)"),
        Telling("change", "ChangeEvent", "it was changed (cart-1)"),
    ),
)
CLAIM, END = Step(1, "uid-1", "RollingBack"), Step(5, "uid-1", "Succeeded")
PATCH: Final = Patch(3, "uid-1", "intent-1", CART, GOOD)


def a_note(text: str = "it begins (cart-1)", at: float = 10.0, **changes: Any) -> Copy:
    """Return a note that was asked for and committed at once."""
    made = Copy("incident-1", "Note", text, "a", at, at)
    return replace(made, **changes)


START, OVER = a_note(), a_note("it is over (cart-1)", 520.0)
PROGRESS: Final = a_note("1 of 2 (cart-1)", 515.0, kind="Message")
CHANGE: Final = Copy(CATALOG, "ChangeEvent", "uid-1", "a", 521.0, 521.0)
FINE: Final = Record(
    rollbacks=(ONE,),
    steps=(Step(0, "uid-1", "Pending"), CLAIM, END),
    patches=(PATCH,),
    copies=(START, PROGRESS, OVER, CHANGE),
    related=frozenset({("incident-1", "uid-1")}),
    answers=(Answer(202, ("cart-1",)), Answer(503), Answer(0)),
)


def without_telling(key: str) -> Rollback:
    return replace(ONE, updates=tuple(u for u in ONE.updates if u.key != key))


def with_telling(key: str, **changes: Any) -> Rollback:
    updates = (replace(u, **changes) if u.key == key else u for u in ONE.updates)
    return replace(ONE, updates=tuple(updates))


def with_second(copy: Copy, *looks: float, first: Copy = START) -> dict[str, Any]:
    """Return a second copy of the start; whoever posted it has looked at these times."""
    copies = [first if one is START else one for one in FINE.copies]
    return {
        "copies": (*copies, copy),
        "looks": [Look("incident-1", copy.by, at) for at in looks],
    }


FINE_ONES: Final = [
    pytest.param({}, id="all is well"),
    pytest.param(
        {"patches": (PATCH, replace(PATCH, version=4, is_effective=False))},
        id="a second patch that changes nothing",
    ),
    pytest.param(
        {"patches": (PATCH, replace(PATCH, version=9, is_effective=False))},
        id="one that changes nothing, after the end",
    ),
    pytest.param(
        {
            "rollbacks": (with_telling("progress", gave_up="the end is told", is_delivered=False),),
            "copies": (START, OVER, CHANGE),
        },
        id="progress that the end has overtaken",
    ),
    pytest.param(
        {"copies": (START, replace(PROGRESS, text="2 of 2 (cart-1)"), OVER, CHANGE)},
        id="progress whose words were edited",
    ),
    pytest.param(
        {
            "rollbacks": (replace(ONE, phase="Refused", reason="Busy", incident="", updates=()),),
            "patches": (),
            "copies": (),
            "steps": (replace(END, phase="Refused"),),
        },
        id="a refusal without an incident",
    ),
]


@pytest.mark.parametrize("changes", FINE_ONES)
def test_what_is_fine_is_no_violation(changes: dict[str, Any]) -> None:
    assert judge(replace(FINE, **changes)).violations == ()


TWICE: Final = replace(PATCH, version=4)
STALLED: Final = a_note(at=10, committed_at=200)
"""Taken at 10, and carried out at 200."""
TOLD_TWICE: Final = "start of cart-1 was told 2 times"
WRONG: Final = [
    pytest.param(
        {"patches": (PATCH, TWICE)}, "cart-1 was patched for 2 times", id="a double patch"
    ),
    pytest.param(
        {
            "patches": (PATCH, replace(TWICE, uid="uid-2")),
            "rollbacks": (ONE, replace(ONE, uid="uid-2", name="cart-2", incident="")),
        },
        "was patched for 2 times",
        id="a double patch for one intent by two resources",
    ),
    pytest.param(
        {"patches": (replace(PATCH, uid="uid-9"),)},
        "nothing is known of uid-9",
        id="a patch by a resource that is not there",
    ),
    pytest.param(
        {"patches": (replace(PATCH, uid="", intent=""),)},
        "nothing is known of whoever wanted that",
        id="a patch without a marker",
    ),
    pytest.param(
        {"patches": (replace(PATCH, version=1),)},
        "cart-1 had not claimed it",
        id="a patch at the claim",
    ),
    pytest.param(
        {"patches": (replace(PATCH, version=0, is_effective=False),)},
        "cart-1 had not claimed it",
        id="one before the claim that changed nothing",
    ),
    pytest.param(
        {"patches": (replace(PATCH, version=6),)}, "cart-1 had ended", id="a patch after the end"
    ),
    pytest.param(
        {"patches": (replace(PATCH, workload="chaos/front"),)},
        "chaos/front was patched at 3, and cart-1 had claimed chaos/cart",
        id="a patch of another workload",
    ),
    pytest.param(
        {"patches": (replace(PATCH, images=("nginx:latest",)),)},
        "had chosen nginx:1.18.0",
        id="a patch to another template",
    ),
    pytest.param({"patches": ()}, "says RolledBack", id="a success without a patch"),
    pytest.param(
        {"rollbacks": (replace(ONE, phase="RollingBack", is_settled=False),)},
        "cart-1 is still RollingBack",
        id="no final phase",
    ),
    pytest.param(
        {"rollbacks": (replace(ONE, is_settled=False),)}, "not settled", id="never settled"
    ),
    pytest.param(
        {"steps": (CLAIM, END, Step(7, "uid-1", "Failed"))},
        "cart-1 was Succeeded, and then Failed",
        id="a final phase that changed",
    ),
    pytest.param(
        {"answers": (Answer(200, ("cart-7",)),)},
        "cart-7 was accepted, and is lost",
        id="a lost request",
    ),
    pytest.param({"answers": (Answer(500),)}, "answered 500", id="a fault of the bridge"),
    pytest.param(
        {"copies": (START, PROGRESS, CHANGE)}, "end of cart-1 was not told", id="a lost note"
    ),
    pytest.param(
        {"copies": (START, OVER, CHANGE)},
        "progress of cart-1 was not told",
        id="a lost message that nothing has overtaken",
    ),
    pytest.param(
        {"copies": (START, PROGRESS, OVER)}, "change of cart-1 was not told", id="a lost change"
    ),
    pytest.param(
        {"related": frozenset[Any]()},
        "change of cart-1 is not related",
        id="a change event that is not related",
    ),
    pytest.param(
        {
            "rollbacks": (with_telling("end", gave_up="24 h", is_delivered=False),),
            "copies": (START, PROGRESS, CHANGE),
        },
        "end of cart-1 was not told: 24 h",
        id="a note that was given up",
    ),
    pytest.param(
        {"rollbacks": (without_telling("end"),), "copies": (START, PROGRESS, CHANGE)},
        "its end is told nowhere",
        id="an end that nobody decided to tell",
    ),
    pytest.param(
        {"rollbacks": (with_telling("end", is_delivered=False),)},
        "nobody has noted it",
        id="a note that was told and not noted",
    ),
    pytest.param(
        {"copies": (a_note(at=517), PROGRESS, OVER, CHANGE)},
        "progress was told before start",
        id="notes in another order",
    ),
    pytest.param(
        {"copies": (*FINE.copies, a_note("who are you (cart-1)"))},
        "stored nowhere: 'who are you (cart-1)'",
        id="a note that nothing has decided",
    ),
    pytest.param(
        {"copies": (*FINE.copies, replace(CHANGE, committed_at=530.0))},
        "change of cart-1 was told 2 times",
        id="a second change event",
    ),
    pytest.param(
        {"copies": (*FINE.copies, replace(PROGRESS, text="2 of 2 (cart-1)"))},
        "progress of cart-1 was told 2 times",
        id="a second message with other words",
    ),
    pytest.param({"unseen": ("a write",)}, "has not seen a write", id="a gap in the audit log"),
    # Told twice, and what is no excuse for it:
    pytest.param(with_second(a_note(at=90, by="b")), TOLD_TWICE, id="twice without a look"),
    pytest.param(
        with_second(a_note(at=90, by="b"), 5, 75),
        TOLD_TWICE,
        id="twice, though it was there at the second look",
    ),
    pytest.param(
        with_second(a_note(at=90, by="b"), 5),
        TOLD_TWICE,
        id="twice, and nobody has slept between the check and the post",
    ),
    pytest.param(
        with_second(a_note(at=41, by="b"), 12, 40, first=STALLED),
        TOLD_TWICE,
        id="twice, for the second did not wait for a minute",
    ),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_what_is_wrong_is_found(changes: dict[str, Any], said: str) -> None:
    violations = judge(replace(FINE, **changes)).violations
    assert any(said in violation for violation in violations), violations


LATE: Final = [
    pytest.param(
        with_second(a_note(at=76, by="b"), 12, 75, first=STALLED),
        id="taken, and carried out after both looks of the next one",
    ),
    pytest.param(
        with_second(a_note(at=76, by="a"), 21, 75, first=STALLED),
        id="taken, and carried out after both looks of the same one",
    ),
    pytest.param(
        {
            **with_second(a_note(at=76, by="b"), 12, 75, first=a_note(at=100)),
            "sleeps": (Sleep("a", 9.9, 99.9),),
        },
        id="frozen between its last check and its post",
    ),
]


@pytest.mark.parametrize("changes", LATE)
def test_what_nobody_could_know_of_is_counted(changes: dict[str, Any]) -> None:
    verdict = judge(replace(FINE, **changes))
    assert verdict == Verdict(late_duplicates=1)


def test_a_third_copy_is_one_too_many() -> None:
    late = with_second(a_note(at=76, by="b"), 12, 75, first=STALLED)
    third = replace(FINE, **{**late, "copies": (*late["copies"], a_note(at=300, by="c"))})
    assert judge(third).violations == ("start of cart-1 was told 3 times",)
