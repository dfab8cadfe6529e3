import pytest

from incident_rollback.crd.v1alpha1 import FINAL_PHASES, Phase
from incident_rollback.domain.phase import MOVES, advance
from incident_rollback.errors import IllegalTransitionError

LEGAL = {
    ("Pending", "RollingBack"),
    ("Pending", "Succeeded"),
    ("Pending", "Refused"),
    ("Pending", "Previewed"),
    ("RollingBack", "Succeeded"),
    ("RollingBack", "Failed"),
    ("RollingBack", "Refused"),
}


@pytest.mark.parametrize("current", Phase)
@pytest.mark.parametrize("to", Phase)
def test_the_table_of_moves(current: Phase, to: Phase) -> None:
    if current is to or (current.value, to.value) in LEGAL:
        assert advance(current, to) is to
    else:
        with pytest.raises(IllegalTransitionError, match=f"{current} -> {to}"):
            advance(current, to)


def test_every_phase_is_in_the_table_and_a_final_one_leads_nowhere() -> None:
    assert set(MOVES) == set(Phase)
    assert {phase for phase, moves in MOVES.items() if not moves} == FINAL_PHASES
