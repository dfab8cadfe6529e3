"""
What stands between one process of ours and a server: it passes on, breaks off, delays, remembers.

A proxy has a thread and a loop of its own; every method may be called from any thread.  It speaks
plain HTTP to its client and passes streams on as they come.  Watches live as long as it lets them.
"""

import asyncio
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from tests.sandbox.ports import LOOPBACK, free_port
from tests.sandbox.waiting import wait_for

T = TypeVar("T")

CONTROL_SECONDS: Final = 60.0
"""How long a thread waits for the loop."""
LINGER_SECONDS: Final = 0.05
"""Connections are closed a moment after they were told to be."""
BY_THE_HOP: Final = frozenset(
    {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}
)
"""Headers that are for one connection."""
MAX_BODY: Final = 64 * 1024 * 1024
CHUNK: Final = 65_536


class Way(StrEnum):
    """What becomes of a request."""

    THROUGH = "through"
    CUT = "cut"
    """The connection breaks before it is passed on."""
    DEAF = "deaf"
    """It is passed on, and the connection breaks before the answer."""
    LATE = "late"
    """It is passed on when `late_seconds` are over, whether the client is still there or not."""


@dataclass(frozen=True)
class Request:
    """One request of the client."""

    number: int
    method: str
    path: str
    """With its query."""
    body: Any
    """Parsed JSON; None where there was none."""


@dataclass
class Passage:
    """What became of one request.  Instants compare with `time.monotonic()`."""

    request: Request
    by: str
    """What `Proxy.client` was when it came."""
    asked_at: float
    passed_at: float = 0.0
    """When the server was given it; 0: never."""
    status: int | None = None
    """What the server has answered, whether the client heard of it or not; None: nothing."""
    answer: Any = None
    """Parsed JSON of the answer to a POST."""


@dataclass
class Trap:
    """One request that is waited for, and what is done to the client at it."""

    is_it: Callable[[Request], bool]
    is_after: bool
    """Once the server has answered; else before it hears of it."""
    spring: Callable[[], None]
    """Ends the client; returns when it is gone."""
    caught: threading.Event = field(default_factory=threading.Event)
    passage: "Passage | None" = None
    """What has become of the request, once it is caught."""


class Proxy:
    """One way to one server; also a context manager."""

    def __init__(
        self, server: str, *, ca: Path | None = None, client: str = "", remembers: bool = False
    ) -> None:
        self.client = client
        """Who is behind it now; written down beside each request."""
        self.way = Way.THROUGH
        self.late_seconds = 0.0
        self.passages: list[Passage] = []
        """Every request, in the order in which they came, if it remembers; append only."""
        self._remembers = remembers
        self._server = URL(server)
        self._tls = ssl.create_default_context(cafile=str(ca)) if ca is not None else None
        self._trap: Trap | None = None
        self._numbers = itertools.count(1)
        self._port = free_port()
        self._live: dict[int, web.Request] = {}
        """What is being answered, by number."""
        self._streams: dict[int, asyncio.Task[Any]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONTROL_SECONDS)
        self._loop.close()

    def take(self, way: Way, late_seconds: float = 0.0) -> None:
        """Have all requests to come take another way; CUT breaks off those under way as well."""
        self.late_seconds, self.way = late_seconds, way
        if way is Way.CUT:
            self._run(self._break_off())

    def set_trap(
        self, is_it: Callable[[Request], bool], spring: Callable[[], None], *, is_after: bool
    ) -> Trap:
        """Have the first request that `is_it` accepts be the client's last; see `Trap`."""
        self._trap = Trap(is_it, is_after, spring)
        return self._trap

    def clear_trap(self) -> None:
        """Wait for no request any more."""
        self._trap = None

    def wait_idle(self) -> None:
        """Return when the server has answered all that it was given; streams are broken off."""
        wait_for(lambda: not self._live, "the server to have answered", every_seconds=0.01)

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        try:
            passage = await self._note(http)
        except ConnectionError as error:  # Killed in the midst of its request.
            raise web.HTTPBadRequest from error
        way, trap = self.way, self._sprung_by(passage.request)
        if way is Way.CUT or (trap is not None and not trap.is_after):
            return await self._hang_up(http, passage, trap)
        if way is Way.LATE:
            await asyncio.sleep(self.late_seconds)
            if self.way is Way.CUT:
                return await self._hang_up(http, passage)
        self._live[passage.request.number] = http
        try:
            response = await self._pass_on(http, passage)
        except (aiohttp.ClientError, ConnectionError):
            return await self._hang_up(http, passage)  # The server broke off, and so do we.
        finally:
            del self._live[passage.request.number]
        if way is Way.DEAF or trap is not None:
            return await self._hang_up(http, passage, trap)
        return response

    async def _note(self, http: web.Request) -> Passage:
        body = parsed(await http.read())
        request = Request(next(self._numbers), http.method, http.raw_path, body)
        passage = Passage(request, self.client, time.monotonic())
        if self._remembers:
            self.passages.append(passage)
        return passage

    async def _pass_on(self, http: web.Request, passage: Passage) -> web.StreamResponse:
        """Have the server answer; a stream is passed on until one of the two ends it."""
        assert self._session is not None
        passage.passed_at = time.monotonic()
        async with self._session.request(
            http.method,
            self._server.join(URL(http.raw_path, encoded=True)),
            headers=kept(http.headers),
            data=await http.read() or None,  # An empty one would be given a Content-Type.
            allow_redirects=False,
        ) as answer:
            passage.status = answer.status
            if is_watch(passage.request):
                return await self._stream(http, answer, passage.request.number)
            content = await answer.read()
            passage.answer = parsed(content) if http.method == "POST" else None
            return web.Response(status=answer.status, body=content, headers=kept(answer.headers))

    def _sprung_by(self, request: Request) -> Trap | None:
        trap = self._trap
        if trap is None or not trap.is_it(request):
            return None
        self._trap = None
        return trap

    async def _stream(
        self, http: web.Request, answer: aiohttp.ClientResponse, number: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
        await response.prepare(http)
        task = asyncio.current_task()
        assert task is not None
        self._streams[number] = task
        try:
            with suppress(ConnectionError):
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
        finally:
            del self._streams[number]
        return response

    async def _hang_up(
        self, http: web.Request, passage: Passage, trap: Trap | None = None
    ) -> web.Response:
        """Drop the connection, and the client before it where a trap is for that."""
        if trap is not None:
            await asyncio.to_thread(trap.spring)
            trap.passage = passage
            trap.caught.set()
        if http.transport is not None:
            http.transport.abort()
        return web.Response(status=502)

    async def _open(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()

    async def _break_off(self) -> None:
        for http in self._live.values():
            if http.transport is not None:
                http.transport.abort()
        for stream in self._streams.values():
            stream.cancel()  # It waits for the server, and would not notice.

    async def _close(self) -> None:
        await self._break_off()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(LINGER_SECONDS)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CONTROL_SECONDS)


def kept(headers: Any) -> dict[str, str]:
    """Return the headers that are passed on."""
    return {key: value for key, value in headers.items() if key.lower() not in BY_THE_HOP}


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def is_watch(request: Request) -> bool:
    return "watch=" in request.path
