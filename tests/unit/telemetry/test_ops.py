import asyncio

import aiohttp
import pytest

from incident_rollback.telemetry.metrics import ControllerMetrics
from incident_rollback.telemetry.ops import make_ops_app, serve

WHY = "the watch is not running"
ANSWERS = [
    pytest.param("/livez", "", 200, "ok\n", id="alive"),
    pytest.param("/livez", WHY, 200, "ok\n", id="alive, though not ready"),
    pytest.param("/readyz", "", 200, "ok\n", id="ready"),
    pytest.param("/readyz", WHY, 503, f"{WHY}\n", id="not ready, and why"),
]


async def answer(path: str, why_not_ready: str = "") -> tuple[int, str, str]:
    app = make_ops_app(ControllerMetrics().registry, lambda: why_not_ready)
    runner = await serve(app, "127.0.0.1", 0)
    try:
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            response = await session.get(f"http://{host}:{port}{path}")
            return response.status, await response.text(), response.headers["Content-Type"]
    finally:
        async with asyncio.timeout(1):
            await runner.cleanup()


@pytest.mark.parametrize(("path", "why", "status", "text"), ANSWERS)
async def test_probes(path: str, why: str, status: int, text: str) -> None:
    assert (await answer(path, why))[:2] == (status, text)


async def test_metrics() -> None:
    status, text, kind = await answer("/metrics")
    assert status == 200
    assert "incident_rollback_in_progress 0.0" in text
    assert kind.startswith("text/plain; version=")
