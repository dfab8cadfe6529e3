"""What is put together at the start is ready: the first incident waits for nothing to be loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

FIRST_REQUEST: Final = """
import asyncio, pathlib, sys
from incident_rollback import wiring
from incident_rollback.clients.clock import ApiClock
from incident_rollback.errors import RollbackError
from incident_rollback.settings import Settings
from incident_rollback.telemetry.metrics import ControllerMetrics

async def ask():
    key = pathlib.Path(sys.argv[1])
    settings = Settings(firehydrant_url="http://127.0.0.1:1/v1", firehydrant_api_key_file=key)
    async with wiring._telling(settings, ApiClock(), lambda: True, ControllerMetrics()) as (it, _):
        before = set(sys.modules)
        try:
            await it.read_incident("one")
        except RollbackError:
            print(*sorted(set(sys.modules) - before))

asyncio.run(ask())
"""
"""In a process of its own, for what is loaded stays loaded.  Nobody listens there."""


START: Final = """
import asyncio, gc
from incident_rollback import wiring

class Connection:
    async def server_version(self):
        return (1, 36)

    async def warm(self):
        pass

async def main():
    async def work():
        print(gc.get_freeze_count() > 10_000)
        raise SystemExit

    await wiring._after_start(Connection(), work)

asyncio.run(main())
"""


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("fhb-unit", encoding="ascii")
    return path


def test_the_first_request_to_firehydrant_loads_nothing(key: Path) -> None:
    assert said_by(FIRST_REQUEST, str(key)) == "\n"


def test_full_collections_do_not_look_at_what_was_loaded() -> None:
    assert said_by(START) == "True\n"


def said_by(script: str, *args: str) -> str:
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", script, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
