"""Following one rollback to its end, by looking at its resource."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from incident_rollback.cli.options import Exit
from incident_rollback.crd.v1alpha1 import FINAL_PHASES, IncidentRollback, Phase
from incident_rollback.domain.conditions import get
from incident_rollback.domain.words import clock_time
from incident_rollback.errors import TransientError
from incident_rollback.ports import Clock, Store

EVERY_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 30.0
"""How long the API server may be away before following it is given up."""
UNSEEN_SECONDS: Final = 10.0
"""A controller that runs has looked at a new resource long before."""

Say = Callable[[str], None]


async def follow(
    store: Store,
    clock: Clock,
    namespace: str,
    name: str,
    say: Say,
    *,
    timeout_seconds: float | None = None,
    every_seconds: float = EVERY_SECONDS,
    patience_seconds: float = PATIENCE_SECONDS,
    unseen_seconds: float = UNSEEN_SECONDS,
) -> IncidentRollback | None:
    """
    Look at a rollback until its phase is final, and say each change of phase or message.

    Returns it as it was seen last, which is not at its end when the time was over; None when
    there is none of this name.  An API server that is away for a moment is waited for.
    """
    begun = heard = monotonic()
    said, is_warned = "", False
    while True:
        try:
            rollback = await store.get(namespace, name)
            heard = monotonic()
        except TransientError:
            if monotonic() - heard > patience_seconds:
                raise
            await asyncio.sleep(every_seconds)
            continue
        if rollback is None:
            return None
        if (news := news_of(rollback)) != said:
            said = news
            say(f"{clock_time(clock.now())} {news}")
        if rollback.status.phase in FINAL_PHASES:
            return rollback
        waited = monotonic() - begun
        is_unseen = rollback.status.observed_generation < 0 and waited > unseen_seconds
        if is_unseen and not is_warned:
            is_warned = True
            say("the controller has not looked at it yet: is it running?")
        if timeout_seconds is not None and waited >= timeout_seconds:
            return rollback
        await asyncio.sleep(every_seconds)


def news_of(rollback: IncidentRollback) -> str:
    """Return phase, reason and message in a line; the reason only where it says more."""
    phase = rollback.status.phase
    ready = get(rollback.status.conditions, "Ready")
    if ready is None:
        return str(phase)
    reason = "" if ready.reason == phase else f" {ready.reason}"
    return f"{phase}{reason}: {ready.message}"


def exit_of(rollback: IncidentRollback) -> Exit:
    """Return what a rollback's phase means to a script."""
    match rollback.status.phase:
        case Phase.SUCCEEDED | Phase.PREVIEWED:
            return Exit.FINE
        case Phase.REFUSED | Phase.FAILED:
            return Exit.NO
        case Phase.PENDING | Phase.ROLLING_BACK:
            return Exit.TIMED_OUT
