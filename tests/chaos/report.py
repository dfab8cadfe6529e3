"""What a run has shown, as JSON.  Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.checker import Record, Verdict
from tests.chaos.plan import Deed

DELIVERY: Final = 202
FIREHYDRANT_CUTS: Final = (
    Deed.CUT_FROM_FIREHYDRANT,
    Deed.DEAF_TO_FIREHYDRANT,
    Deed.LATE_TO_FIREHYDRANT,
    Deed.GO_AWAY,
)
FIREHYDRANT_FAULTS: Final = (
    Deed.FAIL,
    Deed.LIMIT,
    Deed.STALL,
    Deed.COMMIT_AND_TIME_OUT,
    Deed.COMMIT_AND_FAIL,
    Deed.LAG,
)
BY_PEOPLE: Final = (
    Deed.DEPLOY,
    Deed.DEPLOY_BAD,
    Deed.DEPLOY_STUCK,
    Deed.DEPLOY_SLOW,
    Deed.UNDO,
    Deed.RESTART,
    Deed.SCALE,
    Deed.PAUSE,
)


@dataclass(frozen=True)
class Done:
    """What was done in a run."""

    seed: int
    seconds: float
    versions: Mapping[str, str]
    deeds: Counter[Deed]
    ambushed: int
    """How many were killed at a write that they were waited for at."""
    api_servers: int
    """How often the API server was ended and started again."""


def report_of(done: Done, record: Record, verdict: Verdict) -> dict[str, Any]:
    """Return it as it is committed."""
    deeds = done.deeds
    answers = Counter(str(answer.status or "none") for answer in record.answers)
    ends = Counter(f"{one.phase} {one.reason}" for one in record.rollbacks)
    effective = [patch for patch in record.patches if patch.is_effective]
    updates = [update for one in record.rollbacks for update in one.updates]
    return {
        "seed": done.seed,
        "seconds": round(done.seconds),
        "versions": dict(done.versions),
        "kills": {
            "SIGKILL": deeds[Deed.KILL] + done.ambushed,
            "ofTheseAtAWrite": done.ambushed,
            "SIGTERM": deeds[Deed.STOP],
        },
        "freezes": {
            "processes": deeds[Deed.FREEZE],
            "apiServer": deeds[Deed.FREEZE_API],
        },
        "cuts": {
            "waysToTheApiServer": _sum(deeds, (Deed.CUT, Deed.DEAF, Deed.LATE)),
            "apiServerRestarted": done.api_servers,
            "firehydrant": _sum(deeds, FIREHYDRANT_CUTS),
        },
        "firehydrantFaults": _sum(deeds, FIREHYDRANT_FAULTS),
        "changesByPeople": _sum(deeds, BY_PEOPLE),
        "deliveries": len(record.answers),
        "accepted": answers[str(DELIVERY)],
        "answers": dict(sorted(answers.items())),
        "rollbacks": dict(sorted(ends.items())),
        "patches": len(effective),
        "updates": sum(update.is_delivered for update in updates),
        "lateDuplicates": verdict.late_duplicates,
        "violations": list(verdict.violations),
    }


def _sum(deeds: Counter[Deed], some: Sequence[Deed]) -> int:
    return sum(deeds[deed] for deed in some)
