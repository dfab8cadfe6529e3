"""
Has a controller been seen lately?  By the Lease that it renews, and only as an aside.

What cannot be told soon is not told: no answer of the bridge waits for this.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from incident_rollback.domain.lease import absence_of
from incident_rollback.errors import RollbackError
from incident_rollback.ports import Clock, Leases

LOOK_SECONDS: Final = 0.1
KEEP_SECONDS: Final = 5.0
"""How long what was found is repeated; also that nothing was."""

_log = logging.getLogger(__name__)


@dataclass
class Presence:
    """Looks at the Lease, once for all who ask within some seconds."""

    leases: Leases
    clock: Clock
    home: str
    monotonic: Callable[[], float] = time.monotonic
    look_seconds: float = LOOK_SECONDS
    _absence: str = ""
    _looked_at: float | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def absence(self) -> str:
        """
        Say that no controller has been seen for over a minute, and what to do; else "".

        Raises nothing, and takes no longer than `look_seconds`.
        """
        try:
            async with asyncio.timeout(self.look_seconds), self._looking:
                if self._is_old():
                    await self._look()
        except (RollbackError, TimeoutError) as error:
            _log.debug("whether there is a controller is not known: %r", error)
        return self._absence

    def _is_old(self) -> bool:
        return self._looked_at is None or self.monotonic() - self._looked_at >= KEEP_SECONDS

    async def _look(self) -> None:
        self._absence, self._looked_at = "", self.monotonic()
        self._absence = absence_of(await self.leases.read(), self.clock.now(), self.home)
