"""The table of legal moves between phases."""

from collections.abc import Mapping
from typing import Final

from incident_rollback.crd.v1alpha1 import Phase
from incident_rollback.errors import IllegalTransitionError

MOVES: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PENDING: frozenset({Phase.ROLLING_BACK, Phase.SUCCEEDED, Phase.REFUSED, Phase.PREVIEWED}),
    Phase.ROLLING_BACK: frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.REFUSED}),
    Phase.SUCCEEDED: frozenset(),
    Phase.FAILED: frozenset(),
    Phase.REFUSED: frozenset(),
    Phase.PREVIEWED: frozenset(),
}


def advance(current: Phase, to: Phase) -> Phase:
    """Return `to` if the table allows the move.  Staying put always is."""
    if to is not current and to not in MOVES[current]:
        raise IllegalTransitionError(f"{current} -> {to}")
    return to
