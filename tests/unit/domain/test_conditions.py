from incident_rollback.crd.v1alpha1 import MAX_TEXT
from incident_rollback.domain.conditions import Conditions, drop, get, reason_of, upsert
from tests.builders import NOW, a_condition, after

LATER = after(seconds=5)


def ready(conditions: Conditions, status: str, message: str = "") -> Conditions:
    known = status if status in ("True", "False") else "Unknown"
    return upsert(conditions, "Ready", known, "Why", message, now=LATER, generation=2)  # type: ignore[arg-type]


def test_a_new_condition_is_appended() -> None:
    held = a_condition("Held", "True", "Held")
    conditions = ready((held,), "True", "all is well")
    assert conditions[0] is held
    assert conditions[1].model_dump() == {
        "type": "Ready",
        "status": "True",
        "reason": "Why",
        "message": "all is well",
        "last_transition_time": LATER,
        "observed_generation": 2,
    }


def test_the_transition_time_stays_while_the_status_does() -> None:
    (same,) = ready((a_condition("Ready", "True", "Before"),), "True")
    (moved,) = ready((a_condition("Ready", "True", "Before"),), "False")
    assert (same.last_transition_time, same.reason) == (NOW, "Why")
    assert moved.last_transition_time == LATER


def test_a_condition_keeps_its_place() -> None:
    before = (a_condition("Ready", "True", ""), a_condition("Held", "True", ""))
    assert [c.type for c in ready(before, "False")] == ["Ready", "Held"]


def test_a_message_is_cut_at_the_bound_of_the_schema() -> None:
    assert len(ready((), "True", "x" * 5000)[0].message) == MAX_TEXT


def test_drop_and_get() -> None:
    ready_, held = a_condition("Ready", "True", ""), a_condition("Held", "True", "")
    assert drop((ready_, held), "Held", "Stalled") == (ready_,)
    assert get((ready_, held), "Held") is held
    assert get((ready_,), "Held") is None


def test_the_reason_of_ready_is_empty_before_the_first_turn() -> None:
    assert reason_of(()) == ""
    assert reason_of((a_condition("Ready", "True", "RolledBack"),)) == "RolledBack"
