"""What was looked at, and what follows from not having looked."""

import pytest

from incident_rollback.domain.surroundings import Reference, Referent, Surroundings, Trial
from tests.builders import NOW, after, ago

CONFIG, SECRET = Reference("ConfigMap", "checkout"), Reference("Secret", "checkout")
BOTH = frozenset({CONFIG, SECRET})

MISSING = [
    pytest.param({}, (), id="what was not looked at is not missing"),
    pytest.param({SECRET: Referent(is_there=None)}, (), id="what could not be seen is not missing"),
    pytest.param({SECRET: Referent()}, (), id="what is there is not missing"),
    pytest.param({SECRET: Referent(is_there=False)}, (SECRET,), id="what is gone is missing"),
    pytest.param(
        {SECRET: Referent(is_there=False), CONFIG: Referent(is_there=False)},
        (CONFIG, SECRET),
        id="several come in order",
    ),
]


@pytest.mark.parametrize(("found", "missing"), MISSING)
def test_missing(found: dict[Reference, Referent], missing: tuple[Reference, ...]) -> None:
    assert Surroundings(references=found).missing(BOTH) == missing


TRIALS = [
    pytest.param({"a": Trial("Accepted")}, True, id="taken"),
    pytest.param({"a": Trial("Rejected")}, False, id="refused"),
    pytest.param({"a": Trial("Unknown")}, False, id="no answer, or a guard failed"),
    pytest.param({"a": Trial("Denied")}, False, id="not allowed"),
    pytest.param({"b": Trial("Accepted")}, False, id="of another revision"),
    pytest.param({}, False, id="not tried"),
]


@pytest.mark.parametrize(("trials", "is_accepted"), TRIALS)
def test_accepted(trials: dict[str, Trial], is_accepted: bool) -> None:
    assert Surroundings(trials=trials).is_accepted("a") is is_accepted


def test_unseen() -> None:
    found = {SECRET: Referent(is_there=None), CONFIG: Referent(is_there=False)}
    assert Surroundings(references=found).unseen(BOTH) == (SECRET,)


CHANGED = [
    pytest.param(Referent(changed_at=after(seconds=1)), True, id="later is after"),
    pytest.param(Referent(changed_at=NOW), False, id="a tie is not after"),
    pytest.param(Referent(changed_at=ago(seconds=1)), False, id="earlier is not after"),
    pytest.param(Referent(changed_at=None), False, id="unknown is not after"),
]


@pytest.mark.parametrize(("referent", "is_changed"), CHANGED)
def test_changed_after(referent: Referent, is_changed: bool) -> None:
    found = Surroundings(references={CONFIG: referent}).changed_after(BOTH, NOW)
    assert found == ((CONFIG,) if is_changed else ())
