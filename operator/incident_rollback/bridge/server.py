"""
The HTTP server around the one route: who may stay connected, for how long, and what is no HTTP.

Knows nothing of webhooks.  A connection carries one request, so that nothing waits behind it and
a proxy never sends a signed request on a connection that is just being closed as idle.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

from aiohttp import web

READ_BYTES: Final = 16_384
"""What is read ahead of a handler, for each connection; twice that at most."""
LINGER_SECONDS: Final = 1.0
"""How long a body that nobody wants is read on, so that its sender sees the answer."""
SHUTDOWN_SECONDS: Final = 0.5

Receive = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[BaseException | None], web.StreamResponse]
"""Answers what never became a request, or a handler that failed."""


class Visitor(Protocol):
    """Who stands at the door, as a transport does."""

    def abort(self) -> None:
        """Close without a word."""
        ...


class Door:
    """
    Those who have not shown a signature yet: so many of them, and so many bytes from all of them.

    Signed requests are small, and through in no time.  So of too many visitors the one has to go
    who has stood there longest, and of too many bytes the one who brought most: a flood pushes
    itself out.
    """

    def __init__(
        self, room: int, room_bytes: int, on_turned_away: Callable[[], None] = lambda: None
    ) -> None:
        self._room = room
        self._room_bytes = room_bytes
        self._on_turned_away = on_turned_away
        self._brought: dict[Visitor, int] = {}
        """Bytes by visitor, in order of arrival."""
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many stand there."""
        return len(self._brought)

    def enter(self, visitor: Visitor) -> None:
        """Let a visitor stand there, and turn away whoever is too many."""
        self._brought[visitor] = 0
        while len(self._brought) > self._room:
            self._turn_away(next(iter(self._brought)))

    def count(self, visitor: Visitor, size: int) -> None:
        """Count what a visitor sent; of those who have left, nothing is counted."""
        if visitor not in self._brought:
            return
        self._brought[visitor] += size
        self._bytes += size
        while self._bytes > self._room_bytes:
            self._turn_away(max(self._brought, key=self._brought.__getitem__))

    def leave(self, visitor: Visitor) -> None:
        """Let a visitor in, or go; whoever has left already may do so again."""
        self._bytes -= self._brought.pop(visitor, 0)

    def _turn_away(self, visitor: Visitor) -> None:
        self.leave(visitor)
        visitor.abort()
        self._on_turned_away()


class Connection(web.RequestHandler):
    """One connection: at the door until it is signed or closed, and never for longer than that."""

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        door: Door,
        refuse: Refuse,
        head_seconds: float,
        lifetime_seconds: float,
    ) -> None:
        """
        Prepare for a connection that is about to be made.

        No access log, for the handler writes its own line.  Bodies are not decompressed: the
        signature is over the bytes as sent, and a small body must stay small.
        """
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # As aiohttp's own runner passes it.
            auto_decompress=False,
            keepalive_timeout=head_seconds,  # It runs from the start, until a request is whole.
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_BYTES,
        )
        self._door = door
        self._refuse = refuse
        self._lifetime_seconds = lifetime_seconds
        self._visitor: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the end is certain from here on, whatever the other side reads or sends."""
        super().connection_made(transport)
        self._visitor = cast("asyncio.Transport", transport)  # Of a stream it always is.
        self._end = self._loop.call_later(self._lifetime_seconds, self._visitor.abort)
        self._door.enter(self._visitor)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._end is not None:
            self._end.cancel()
        if self._visitor is not None:
            self._door.leave(self._visitor)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much."""
        if self._visitor is not None:
            self._door.count(self._visitor, len(data))
            if self._visitor.is_closing():
                return
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer in our own words: those of aiohttp, and its log, repeat what was sent."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is out already")
        return _as_the_last(self._refuse(exc))


class Server(web.Server):
    """Makes the connections.  To be made inside the loop."""

    def __init__(
        self,
        receive: Receive,
        refuse: Refuse,
        door: Door,
        *,
        head_seconds: float,
        lifetime_seconds: float,
    ) -> None:
        async def receive_one(request: web.BaseRequest) -> web.StreamResponse:
            return _as_the_last(await receive(request))

        super().__init__(receive_one)
        self._connect = functools.partial(
            Connection,
            self,
            loop=asyncio.get_running_loop(),
            door=door,
            refuse=refuse,
            head_seconds=head_seconds,
            lifetime_seconds=lifetime_seconds,
        )

    def __call__(self) -> Connection:
        """Return what a new connection is handled by."""
        return self._connect()


def _as_the_last(answer: web.StreamResponse) -> web.StreamResponse:
    """Return the answer, marked as the last one of its connection."""
    answer.force_close()
    return answer


def make_server_runner(server: Server) -> web.ServerRunner:
    """Return what starts and stops the server."""
    return web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
