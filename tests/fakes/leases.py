"""The controllers' Lease in memory."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from incident_rollback.domain.lease import Lease
from incident_rollback.errors import ConflictError


async def at_once() -> None:
    pass


@dataclass
class FakeLeases:
    """
    Implements ports.Leases: there is one Lease at most, and it is written by version.

    Kinder than the real one: no permissions, and no lag.  `failing` holds errors for the next
    calls, one each; `down` fails every call while it is set.  A call that fails changes nothing,
    except the writes listed in `lost`: they happen, and then the answer is lost.
    """

    lease: Lease | None = None
    calls: list[str] = field(default_factory=list[str])
    failing: list[Exception] = field(default_factory=list[Exception])
    down: Exception | None = None
    lost: list[Exception] = field(default_factory=list[Exception])
    on_the_way: Callable[[], Awaitable[None]] = at_once
    """What each call waits for before it is answered."""
    version: int = 0

    async def read(self) -> Lease | None:
        await self._called("read")
        return self.lease

    async def write(self, lease: Lease) -> Lease:
        await self._called("write")
        if lease.version != (self.lease.version if self.lease else ""):
            raise ConflictError("the Lease was written since it was read")
        stored = self.put(lease)
        if self.lost:
            raise self.lost.pop(0)
        return stored

    def put(self, lease: Lease) -> Lease:
        """Arrange or replace the Lease as it is, but for the version."""
        self.version += 1
        self.lease = replace(lease, version=str(self.version))
        return self.lease

    async def _called(self, what: str) -> None:
        self.calls.append(what)
        await self.on_the_way()
        if self.down is not None:
            raise self.down
        if self.failing:
            raise self.failing.pop(0)
