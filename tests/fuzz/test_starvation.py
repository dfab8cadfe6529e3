"""Whoever floods the port without a secret must not keep those out who have one."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

import pytest

from incident_rollback.bridge.app import Limits
from tests.fuzz import flood
from tests.fuzz.running import Target
from tests.fuzz.wire import Answer, a_request, send
from tests.sandbox.build import say_on_stderr
from tests.sandbox.components import base_environment
from tests.sandbox.ports import LOOPBACK
from tests.sandbox.processes import Proc
from tests.sandbox.waiting import wait_for

SIGNED: Final = 100
LIMITS: Final = Limits()
FLOODS: Final = [
    pytest.param(200, 200, id="200 that ask and 200 that dawdle"),
    pytest.param(0, 2 * LIMITS.at_the_door, id="twice as many that dawdle as there is room for"),
]
UNDER_WAY: Final = 1000
"""Unsigned requests answered before we measure."""
FLOOD_GROWTH: Final = 2.0
HEADER_GROWTH: Final = 2.5
"""Of memory; without a bound it was 8, and the pod was killed for it."""
HOLDING: Final = 150
HEADERS_WITHOUT_END: Final = b"POST /firehydrant HTTP/1.1\r\nHost: bridge\r\n" + b"".join(
    b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(120)
)


@pytest.mark.parametrize(("quick", "slow"), FLOODS)
async def test_signed_requests_are_answered_while_the_flood_goes_on(
    target: Target, quick: int, slow: int
) -> None:
    quiet = await ask_signed(target, "quiet")
    before, sockets = target.rss_bytes, target.sockets

    with flooding(target, quick, slow) as flooder:
        await asyncio.to_thread(wait_for, lambda: is_under_way(target, quick, slow), "the flood")
        loud = await ask_signed(target, "loud")
        growth = target.rss_bytes / before
        held = target.sockets
        assert flooder.is_running()
    refused = (await asyncio.to_thread(target.counts)).get((401, "NotSigned"), 0)

    usual, flooded = (statistics.median(seconds) * 1e3 for seconds in (quiet, loud))
    say_on_stderr(
        f"{quick} ask and {slow} dawdle: median {usual:.1f} ms, then {flooded:.1f} ms "
        f"(x {flooded / usual:.1f}), slowest {max(loud) * 1e3:.0f} ms; {refused} refused; "
        f"RSS x {growth:.2f}; {held} sockets"
    )
    assert growth < FLOOD_GROWTH
    assert held <= sockets + LIMITS.at_the_door + LIMITS.at_work
    await asyncio.to_thread(wait_for, lambda: target.sockets <= sockets + 20, "the flood to ebb")


async def ask_signed(target: Target, incident: str) -> list[float]:
    """Ask so many times, each for something new, and return how many seconds each took."""
    seconds: list[float] = []
    for number in range(SIGNED):
        began = time.perf_counter()
        answer = await ask(target, f"{incident}-{number}")
        seconds.append(time.perf_counter() - began)
        assert answer.status == 202
    return seconds


async def ask(target: Target, incident: str) -> Answer:
    wish = {"incident_id": incident, "services": [{"name": "a"}], "environments": [{"name": "b"}]}
    body = json.dumps(wish).encode()
    (answer,) = await send(target.port, a_request(body, [("fh-signature", target.sign(body))]))
    return answer


@contextmanager
def flooding(target: Target, quick: int, slow: int) -> Generator[Proc]:
    argv = [sys.executable, flood.__file__, *map(str, (target.port, quick, slow))]
    proc = target.component.processes.start("flood", argv, base_environment())
    try:
        yield proc
    finally:
        proc.kill()
        proc.wait()


def is_under_way(target: Target, quick: int, slow: int) -> bool:
    """Say whether enough was refused, and enough stand at the door."""
    refused = target.counts().get((401, "NotSigned"), 0)
    return (not quick or refused >= UNDER_WAY) and target.sockets >= min(slow, LIMITS.at_the_door)


async def test_headers_without_end_cost_little_memory_and_keep_nobody_out(target: Target) -> None:
    before = target.rss_bytes
    writers = [await hold(target, HEADERS_WITHOUT_END) for _ in range(HOLDING)]
    try:
        answer = await ask(target, "meanwhile")
        growth = target.rss_bytes / before
    finally:
        for writer in writers:
            writer.close()

    say_on_stderr(f"{HOLDING} x {len(HEADERS_WITHOUT_END):,} bytes of headers: RSS x {growth:.2f}")
    assert answer.status == 202
    assert growth < HEADER_GROWTH


async def hold(target: Target, sent: bytes) -> asyncio.StreamWriter:
    """Send what is no whole request, and keep the connection open."""
    _, writer = await asyncio.open_connection(LOOPBACK, target.port)
    writer.write(sent)
    with suppress(ConnectionError):  # Pushed out already.
        await writer.drain()
    return writer
