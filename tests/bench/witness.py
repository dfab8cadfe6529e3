"""Instants and counts out of the API server's audit log: pure functions of its records."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from tests.bench.samples import Step
from tests.e2e.stage import BRIDGE_USER, CONTROLLER_USER
from tests.sandbox.audit import AuditRecord

OURS: Final[Mapping[str, str]] = {BRIDGE_USER: "bridge", CONTROLLER_USER: "controller"}
UNSETTLED: Final = "status.settled!=true"
"""By which the safety list and the watch ask."""
BY_THE_CLOCK: Final = frozenset(
    {("controller", "leases"), ("controller", "rollbackenvironments/status")}
)


def patches_of(records: Iterable[AuditRecord], namespace: str) -> dict[str, list[AuditRecord]]:
    """Return the patches of Deployments of a namespace that went in, whoever's, by their names."""
    found = attempts_of(records, namespace)
    went_in = {name: [r for r in tried if r.is_success] for name, tried in found.items()}
    return {name: patches for name, patches in went_in.items() if patches}


def attempts_of(records: Iterable[AuditRecord], namespace: str) -> dict[str, list[AuditRecord]]:
    """
    Return the patches that were tried, by the names of the Deployments.

    One whose client has left before the answer may have gone in, and its code does not say.
    """
    found: dict[str, list[AuditRecord]] = defaultdict(list)
    for record in records:
        is_patch = (record.verb, what(record)) == ("patch", "deployments")
        if is_patch and record.is_write and record.namespace == namespace:
            found[record.name].append(record)
    return found


def creations(records: Iterable[AuditRecord]) -> dict[str, AuditRecord]:
    """Return the creations of IncidentRollbacks by their names."""
    return {
        record.name: record
        for record in records
        if (record.verb, what(record)) == ("create", "incidentrollbacks") and record.is_success
    }


def received(record: AuditRecord) -> float:
    """Return when the API server had the request, in seconds since 1970."""
    return record.received_at.timestamp()


def answered(record: AuditRecord) -> float:
    return record.answered_at.timestamp()


def what(record: AuditRecord) -> str:
    """Return resource and subresource, `deployments/status`."""
    return "/".join(part for part in (record.resource, record.subresource) if part)


def is_for_a_rollback(record: AuditRecord) -> bool:
    """Say whether one of ours asked for a rollback's sake, and not by the clock."""
    if record.user not in OURS or record.verb == "watch":
        return False
    if not record.resource:  # /version keeps connections warm, and discovery starts a watch.
        return False
    by_the_clock = (OURS[record.user], what(record)) in BY_THE_CLOCK
    return not by_the_clock and UNSETTLED not in unquote(record.uri)


@dataclass(frozen=True)
class Cost:
    """What one rollback asked of the API server."""

    requests: int
    """Without polling: all until the patch is in, and every write after it."""
    status_writes: int
    writes: int
    """All of them, Events too, without dry runs."""
    polls: int
    """Reads after the patch."""


def cost_of(records: Iterable[AuditRecord], patch: AuditRecord) -> Cost:
    """Count what was asked for one rollback, of which `records` are all that was then asked."""
    ours = [record for record in records if is_for_a_rollback(record)]
    polls = [r for r in ours if not r.is_write and r.received_at > patch.received_at]
    return Cost(
        requests=len(ours) - len(polls),
        status_writes=sum(r.is_write and what(r) == "incidentrollbacks/status" for r in ours),
        writes=sum(r.is_write for r in ours),
        polls=len(polls),
    )


def kind_of(record: AuditRecord) -> str:
    """Return what a request is, for people: `list pods`, `patch deployments (dry run)`."""
    dry = " (dry run)" if record.is_dry_run else ""
    return f"{record.verb} {what(record)}{dry}"


@dataclass(frozen=True)
class Seen:
    """What was asked for one rollback, and when."""

    sent_at: float
    """When its webhook was posted, in seconds since 1970."""
    patch: AuditRecord
    records: Sequence[AuditRecord]


Key = tuple[str, str, bool]
"""Who asked, for what, and whether that was after the patch."""


def steps_of(rollbacks: Sequence[Seen]) -> list[Step]:
    """
    Return where the time of rollbacks went, one kind of request a row, in their order.

    What less than half of the rollbacks asked for is left out.
    """
    found: dict[Key, list[list[AuditRecord]]] = defaultdict(list)
    sent_at: dict[Key, list[float]] = defaultdict(list)
    for rollback in rollbacks:
        for key, same in _by_kind(rollback).items():
            found[key].append(same)
            sent_at[key].append(rollback.sent_at)
    steps = [
        _step(key, found[key], sent_at[key])
        for key in found
        if 2 * len(found[key]) > len(rollbacks)
    ]
    return sorted(steps, key=lambda step: (step.is_after, step.begins_ms))


def _by_kind(rollback: Seen) -> dict[Key, list[AuditRecord]]:
    kinds: dict[Key, list[AuditRecord]] = defaultdict(list)
    for record in filter(is_for_a_rollback, rollback.records):
        is_after = record.received_at > rollback.patch.received_at
        kinds[OURS[record.user], kind_of(record), is_after].append(record)
    return kinds


def _step(key: Key, found: Sequence[Sequence[AuditRecord]], sent_at: Sequence[float]) -> Step:
    who, kind, is_after = key
    begins = [min(map(received, same)) - at for same, at in zip(found, sent_at, strict=True)]
    lasts = [max(answered(r) - received(r) for r in same) for same in found]
    return Step(
        who=who,
        what=kind,
        is_after=is_after,
        times=statistics.median(map(len, found)),
        begins_ms=round(statistics.median(begins) * 1000, 1),
        lasts_ms=round(statistics.median(lasts) * 1000, 1),
    )
