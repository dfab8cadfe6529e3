"""What several folders start from: patience, an API server in this process, and a way to it."""

from collections.abc import AsyncGenerator

import pytest
from hypothesis import HealthCheck, settings
from kubernetes.aio.client import Configuration

from incident_rollback.clients.clock import ApiClock
from incident_rollback.clients.connection import Connection
from tests.fakes.apiserver import FakeApiServer

# By default an example that takes 200 ms is a failure: on a busy machine that says nothing.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


@pytest.fixture
async def server() -> AsyncGenerator[FakeApiServer]:
    """Real HTTP, and objects in memory; see `FakeApiServer`."""
    fake = FakeApiServer()
    async with fake.serving():
        yield fake


@pytest.fixture
async def connection(server: FakeApiServer) -> AsyncGenerator[Connection]:
    """A connection to that server, without credentials."""
    made = Connection(Configuration(host=server.host), ApiClock())
    yield made
    await made.close()
