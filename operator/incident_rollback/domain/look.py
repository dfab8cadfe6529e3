"""
What a move rests on and was not looked at yet.

Most turns need nothing of this.  A decision is made, then what it rests on is looked at, then it
is made again with that in view; each look makes something known, so it ends.
"""

from dataclasses import dataclass
from typing import Final

from incident_rollback.domain.cause import missing_pods, nodes_in_question
from incident_rollback.domain.diagnosis import examples
from incident_rollback.domain.moves import (
    Aim,
    Claim,
    Fail,
    Hold,
    Move,
    Preview,
    Refuse,
    Restore,
)
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.references import references_of
from incident_rollback.domain.surroundings import Reference
from incident_rollback.domain.timeline import ILL
from incident_rollback.domain.verdict import next_best
from incident_rollback.domain.workload import Revision, Workload

MAX_REFERENCES: Final = 100
"""In one look."""


@dataclass(frozen=True, slots=True)
class Look:
    """What to look at next, all at once."""

    references: frozenset[Reference] = frozenset()
    trial_of: Revision | None = None
    warnings: frozenset[str] = frozenset()
    """Uids of objects whose latest Warning Event is asked for."""
    nodes: frozenset[str] = frozenset()
    """Names of nodes."""


def what_to_look_at(seen: Observation, move: Move) -> Look | None:
    """Return what the move rests on and is not known; None: it may be made."""
    workload, aim = seen.workload, _aim_of(move)
    if workload is None:
        return None
    troubled = workload.live if _speaks_of_trouble(move) else None
    needed = _revision_of(seen, workload, move)
    look = Look(
        references=_unlooked(seen, workload, needed) if needed else frozenset(),
        trial_of=_untried(seen, aim) if aim else None,
        warnings=_unheard(seen, workload, troubled) if troubled else frozenset(),
        nodes=_unvisited(seen, workload, troubled) if troubled else frozenset(),
    )
    return look if look != Look() else None


def _aim_of(move: Move) -> Aim | None:
    """Return the aim that a move carries out, shows, or asks about."""
    match move:
        case Claim() | Preview() | Refuse():
            return move.aim
        case _:
            return None


def _revision_of(seen: Observation, workload: Workload, move: Move) -> Revision | None:
    """Return the revision that a move restores, shows, or names as the next to be tried."""
    aim = _aim_of(move)
    if aim is not None:
        return aim.revision
    match move:
        case Restore():
            return move.revision
        case Fail() if move.reason in ILL:
            following = next_best(seen, workload)
            return following.revision if following else None
        case _:
            return None


def _speaks_of_trouble(move: Move) -> bool:
    """Say whether it tells, or rests on, why the live pods are not well."""
    match move:
        case Fail():
            return move.reason in ILL
        case Hold():
            return move.news is not None and move.news.reason == "Crashed"
        case Refuse(reason="AlreadyRolledBack"):
            return True
        case _:
            return _aim_of(move) is not None


def _unheard(seen: Observation, workload: Workload, live: Revision) -> frozenset[str]:
    """Ask about the pods that show the trouble best, and about what cannot make any."""
    uids = {pod.uid for pod in examples(workload, live)}
    if missing_pods(workload, live) and (live.failure or not uids):
        uids.add(live.uid)
    return frozenset(filter(None, uids)) - seen.around.warnings.keys()


def _unvisited(seen: Observation, workload: Workload, live: Revision) -> frozenset[str]:
    return nodes_in_question(workload, live) - seen.around.nodes.keys()


def _unlooked(seen: Observation, workload: Workload, revision: Revision) -> frozenset[Reference]:
    """
    Look behind what the revision needs; once one has not held, behind what every candidate needs.

    The first one nearly always holds, and each reference is a request; a second round for each
    further candidate would cost the time.  What one look has no room for is left to the next.
    """
    known = seen.around.references
    wanted = [r for r in _needs(revision) if r not in known]
    is_first = not known and not seen.around.trials
    if wanted and not is_first:
        others = (r for r in workload.revisions if r.numbers and r.key != workload.key)
        wanted += [r for other in others for r in _needs(other) if r not in known]
    return frozenset([*dict.fromkeys(wanted)][:MAX_REFERENCES])


def _needs(revision: Revision) -> list[Reference]:
    return sorted(references_of(revision.template))


def _untried(seen: Observation, aim: Aim) -> Revision | None:
    is_known = aim.revision.pod_template_hash in seen.around.trials
    return None if is_known else aim.revision
