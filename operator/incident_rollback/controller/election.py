"""
Which of several controllers leads, by a Lease.  It saves work and repeated notes, and nothing else.

Whether a patch is safe is never asked here: that rests on the claim and on the guarded patch.  The
Lease is polled, not watched: a read tells each time whether the Lease is in reach at all, and no
stream can stall in silence.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol

from incident_rollback.domain.lease import (
    TRUST_SECONDS,
    Lease,
    Sight,
    Standing,
    held_by,
    is_takeable,
    look_again,
    released,
    standing_of,
)
from incident_rollback.domain.words import quote
from incident_rollback.errors import ConflictError, RollbackError
from incident_rollback.ports import Leases

RENEW_SECONDS: Final = (1.6, 2.4)
"""Between two renewals: three may fail before they are missed."""
LOOK_SECONDS: Final = (0.4, 0.8)
"""Between two looks of whoever does not lead; a takeover takes so long."""
ROUND_SECONDS: Final = 2.0
"""For all looks and writes of one try: an API server that hangs must not hold up the next."""
RELEASE_SECONDS: Final = 0.5

OnChange = Callable[[Standing], Awaitable[None]]

_log = logging.getLogger(__name__)


class Leadership(Protocol):
    """Says how this process stands, and tells when that changes."""

    @property
    def transitions(self) -> int:
        """How often the Lease has changed hands, as it says itself."""
        ...

    def standing(self) -> Standing:
        """Say how it stands at this moment."""
        ...

    async def run(self, on_change: OnChange) -> None:
        """Seek to lead until cancelled; at first nobody does."""
        ...

    async def release(self) -> None:
        """Let another lead at once; call it when the last turn and the last note are over."""
        ...


class Alone:
    """Leads always: for a controller that has no other beside it."""

    transitions = 0

    def standing(self) -> Standing:
        """Say that it leads."""
        return Standing.LEADS

    async def run(self, on_change: OnChange) -> None:
        """Tell that it leads, and wait until cancelled."""
        await on_change(Standing.LEADS)
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Do nothing: there is nobody else."""


class Elector:
    """
    Seeks to hold the Lease, and holds it by renewing.

    `identity` must be new with each process: whoever restarts under an old one would find that it
    leads already.
    """

    def __init__(
        self,
        leases: Leases,
        identity: str,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        between: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.identity = identity
        self.transitions = 0
        """How often the Lease has changed hands, as it says itself."""
        self._leases = leases
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._between = between
        self._sight: Sight | None = None
        self._held: Lease | None = None
        """The Lease as we wrote it last; None when it is not ours, or that is not certain."""
        self._leads_until = 0.0
        self._answered_at = monotonic()
        self._failures = 0
        self._why = ""
        self._told = Standing.STANDS_BY

    def standing(self) -> Standing:
        """Say how this process stands at this moment, whatever is under way."""
        return standing_of(
            self._monotonic(),
            leads_until=self._leads_until,
            answered_at=self._answered_at,
            failures=self._failures,
        )

    async def run(self, on_change: OnChange) -> None:
        """Seek to lead until cancelled."""
        while True:
            pause = await self._round()
            await self._tell(on_change)
            await self._sleep(self._between(*pause))

    async def release(self) -> None:
        """Let go of the Lease, so that nobody has to wait for its end."""
        if not self._leads_until:
            return
        self._leads_until = 0.0
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                lease = self._held or await self._leases.read()
                if lease is not None and lease.holder == self.identity:
                    await self._leases.write(released(lease, self._now()))
                    _log.info("let go of the Lease")
        except (RollbackError, TimeoutError) as error:
            _log.warning("the Lease was not let go of, the next one waits for its end: %r", error)

    async def _round(self) -> tuple[float, float]:
        """Try once to hold the Lease; return between how many seconds to pause."""
        began = self._monotonic()
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                try:
                    await self._seek()
                except ConflictError:  # A lost race is no failure: look who has won it.
                    await self._seek()
        except (RollbackError, TimeoutError) as error:
            self._failures += 1
            self._why = str(error) or "the API server did not answer in time"
            _log.debug("the Lease is out of reach: %s", self._why)
            return LOOK_SECONDS
        self._answered_at, self._failures = began, 0
        return RENEW_SECONDS if self._held is not None else LOOK_SECONDS

    async def _seek(self) -> None:
        """Renew what is ours, else look, and take what may be taken."""
        lease, self._held = self._held, None  # Until the answer to a write it is not certain.
        if lease is None:
            lease = await self._leases.read()
            # After the answer: what it says may have become true while it was under way.
            seen_at = self._monotonic()
            self._sight = look_again(self._sight, lease, seen_at)
            self.transitions = lease.transitions if lease is not None else 0
            if not is_takeable(self._sight, self.identity, seen_at):
                self._leads_until = 0.0
                return
        sent_at = self._monotonic()
        self._held = await self._leases.write(held_by(self.identity, lease, self._now()))
        self._leads_until = sent_at + TRUST_SECONDS
        self.transitions = self._held.transitions

    async def _tell(self, on_change: OnChange) -> None:
        standing = self.standing()
        if standing is self._told:
            return
        self._told = standing
        self._log(standing)
        await on_change(standing)

    def _log(self, standing: Standing) -> None:
        match standing:
            case Standing.LEADS:
                _log.info("this controller leads now, as %s", self.identity)
            case Standing.STANDS_BY if self._failures:
                _log.warning("this controller leads no more: %s", self._why)
            case Standing.STANDS_BY:
                holder = self._sight.lease.holder if self._sight and self._sight.lease else ""
                _log.warning("this controller stands by: %s leads", quote(holder))
            case Standing.CUT_OFF:
                _log.warning(
                    "nobody can say who leads: turns go on, notes wait until the Lease is in "
                    "reach: %s",
                    self._why,
                )
