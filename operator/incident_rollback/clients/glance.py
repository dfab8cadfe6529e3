"""
Reading many small things at once, for a moment: a help to a decision, and never in its way.

What may not be read, is refused, or does not answer in time is unknown; nothing is raised.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeVar

from incident_rollback.errors import RollbackError

AT_ONCE: Final = 6
"""A new connection costs more than a request, and other rollbacks want some of the pool too."""

Key = TypeVar("Key")
Found = TypeVar("Found")


async def read_each(
    read: Callable[[Key], Awaitable[Found]],
    keys: Collection[Key],
    *,
    within: float,
    unknown: Found,
) -> Mapping[Key, Found]:
    """Read what is behind each key, all within so many seconds; else it is `unknown`."""
    gate = asyncio.Semaphore(AT_ONCE)
    until = asyncio.get_running_loop().time() + within

    async def glance(key: Key) -> Found:
        try:
            async with asyncio.timeout_at(until), gate:
                return await read(key)
        except (RollbackError, TimeoutError):
            return unknown

    asked = tuple(keys)
    return dict(zip(asked, await asyncio.gather(*map(glance, asked)), strict=True))
