import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from incident_rollback.bridge.server import Door, Server, make_server_runner

PATIENCE_SECONDS = 30
WHOLE = b"POST /any HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
PLENTY = 1_000_000


@dataclass(eq=False)
class Visitor:
    """Someone at the door, who remembers being sent away."""

    name: str
    is_gone: bool = False

    def abort(self) -> None:
        self.is_gone = True


def play(door: Door, steps: str) -> str:
    """Let visitors come, bring and leave; return who was sent away."""
    visitors: dict[str, Visitor] = {}
    for step in steps.split():
        name, what = step[0], step[1:]
        if name not in visitors:
            visitors[name] = Visitor(name)
            door.enter(visitors[name])
        if what == "-":
            door.leave(visitors[name])
        else:
            door.count(visitors[name], int(what))
    return "".join(visitor.name for visitor in visitors.values() if visitor.is_gone)


DOORS = [
    pytest.param(2, 9, "a0 b0", "", id="there is room"),
    pytest.param(2, 9, "a0 b0 c0", "a", id="too many: the longest waiting goes"),
    pytest.param(2, 9, "a0 b0 c0 d0", "ab", id="again and again"),
    pytest.param(2, 9, "a0 b0 a- c0", "", id="whoever has left takes no room"),
    pytest.param(9, 9, "a4 b5", "", id="just as many bytes as may be"),
    pytest.param(9, 9, "a2 b6 c2", "b", id="too many bytes: whoever brought most goes"),
    pytest.param(9, 9, "a2 b3 a3 b1 c1", "a", id="they are added up"),
    pytest.param(9, 9, "a5 a- b5 c4", "", id="whoever has left takes its bytes along"),
    pytest.param(9, 9, "a1 a- a9 b9", "", id="whoever has left may bring what it likes"),
    pytest.param(9, 9, "a3 b3 c99", "c", id="and it may be the newcomer"),
]
"""Room for so many, room for so many bytes; `a1 b2 a3 b-`: a brings 1, b 2, a 3 more, b leaves."""


@pytest.mark.parametrize(("room", "room_bytes", "steps", "gone"), DOORS)
def test_who_has_to_leave_the_door(room: int, room_bytes: int, steps: str, gone: str) -> None:
    told: list[None] = []
    door = Door(room, room_bytes, lambda: told.append(None))

    assert play(door, steps) == gone
    assert len(told) == len(gone)


@dataclass
class Running:
    """A server under test."""

    port: int
    server: Server
    door: Door
    refused: list[BaseException | None] = field(default_factory=list[BaseException | None])


@asynccontextmanager
async def a_server(
    *,
    room: int = 100,
    room_bytes: int = PLENTY,
    head_seconds: float = PATIENCE_SECONDS,
    lifetime_seconds: float = PATIENCE_SECONDS,
    answer_bytes: int = 2,
) -> AsyncGenerator[Running]:
    """Serve; the handler reads the body, lets the visitor in, and answers when told `{}`."""
    door = Door(room, room_bytes)
    refused: list[BaseException | None] = []

    async def receive(request: web.BaseRequest) -> web.StreamResponse:
        if await request.read() == b"no":
            raise KeyError("PWNED")
        assert request.transport is not None
        door.leave(request.transport)
        await asyncio.sleep(0)
        return web.Response(body=b"a" * answer_bytes)

    def refuse(error: BaseException | None) -> web.StreamResponse:
        refused.append(error)
        return web.Response(status=400, text="no")

    server = Server(
        receive, refuse, door, head_seconds=head_seconds, lifetime_seconds=lifetime_seconds
    )
    runner = make_server_runner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Running(site.port, server, door, refused)
    finally:
        await runner.cleanup()


async def talk(running: Running, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send bytes as they are, and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    received = b""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
            while chunk := await reader.read(65_536):
                received += chunk
    except ConnectionError:  # It ended all the same.
        pass
    finally:
        writer.close()
    return received


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0.01)


async def until_nobody_is_connected(running: Running) -> None:
    await until(lambda: not running.server.connections and not len(running.door))


async def test_a_request_is_answered_and_leaves_nothing_behind() -> None:
    async with a_server() as running:
        assert (await talk(running, WHOLE)).endswith(b"\r\n\r\naa")
        await until_nobody_is_connected(running)


NO_HTTP = [
    pytest.param(b"PWNED\r\n\r\n", id="noise"),
    pytest.param(b"\x16\x03\x01\x00\xc8\x01PWNED\r\n\r\n", id="TLS"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nPWNED\r\n\r\n", id="no header"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"PWNED" * 2000, id="a header too long"),
    pytest.param(b"POST / HTTP/1.1\r\n" + b"X: PWNED\r\n" * 130, id="too many headers"),
    pytest.param(b"POST / HTTP/1.1\r\n\r\n", id="no host"),
    pytest.param(WHOLE.replace(b": 2", b": PWNED"), id="a length that is none"),
    pytest.param(WHOLE + b"PWNED PWNED\r\n\r\n", id="a longer body than was said"),
]


@pytest.mark.parametrize("sent", NO_HTTP)
async def test_what_is_no_http_is_answered_in_our_words_and_not_logged(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with a_server() as running:
        answer = await talk(running, sent)

        assert answer.startswith(b"HTTP/1.")
        assert answer.endswith(b"\r\n\r\nno")
        assert [isinstance(error, HttpProcessingError) for error in running.refused] == [True]
    assert "PWNED" not in caplog.text


async def test_a_handler_that_fails_is_answered_in_our_words_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_server() as running:
        assert (await talk(running, WHOLE.replace(b"{}", b"no"))).endswith(b"\r\n\r\nno")
        assert [type(error) for error in running.refused] == [KeyError]
    assert "PWNED" not in caplog.text


LATE = [
    pytest.param([], id="nothing"),
    pytest.param([WHOLE[:30]], id="half of the headers"),
    pytest.param([WHOLE[at : at + 1] for at in range(40)], id="headers byte by byte"),
]


@pytest.mark.parametrize("parts", LATE)
async def test_headers_that_do_not_come_in_time_are_not_waited_for(parts: list[bytes]) -> None:
    async with a_server(head_seconds=0.1) as running:
        assert await talk(running, *parts, pause=0.01) == b""
        await until_nobody_is_connected(running)


async def test_whoever_does_not_read_the_answer_is_cut_off() -> None:
    async with a_server(answer_bytes=50 * PLENTY, lifetime_seconds=0.2) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1)
        writer.write(WHOLE)
        await until_nobody_is_connected(running)
        writer.close()


async def test_too_many_bytes_of_headers_end_the_connection() -> None:
    async with a_server(room_bytes=1000) as running:
        assert await talk(running, b"POST / HTTP/1.1\r\nX: " + b"a" * 1000) == b""
        await until_nobody_is_connected(running)


async def test_a_flood_of_connections_pushes_out_the_longest_waiting() -> None:
    async with a_server(room=2) as running:
        slow = [asyncio.create_task(talk(running, WHOLE[:30])) for _ in range(2)]
        await until(lambda: len(running.door) == 2)

        assert (await talk(running, WHOLE)).endswith(b"aa")
        ended, _ = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in ended] == [b""]
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
