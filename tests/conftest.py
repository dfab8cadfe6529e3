"""What several folders of tests start from: an API server in this process, and a way to it."""

from collections.abc import AsyncGenerator

import pytest
from kubernetes.aio.client import Configuration

from incident_rollback.clients.clock import ApiClock
from incident_rollback.clients.connection import Connection
from tests.fakes.apiserver import FakeApiServer


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
