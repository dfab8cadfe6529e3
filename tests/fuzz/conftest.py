"""A bridge for each test: what one has done to it must not make another pass or fail."""

from collections.abc import AsyncGenerator

import pytest

from tests.fuzz.running import Target, a_target


@pytest.fixture
async def target() -> AsyncGenerator[Target]:
    """The real process on a stand-in API server; see `Target`."""
    async with a_target() as one:
        yield one
