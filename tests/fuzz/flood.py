"""
Floods a port until it is stopped: connections that ask without a signature, and slow ones.

A process of its own: `python flood.py PORT QUICK SLOW`.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable

LOOPBACK = "127.0.0.1"
BODY = b'{"incident_id": "nobody", "services": [{"name": "a"}], "environments": [{"name": "b"}]}'
HEAD = b"POST /firehydrant HTTP/1.1\r\nHost: bridge\r\nfh-signature: " + b"0" * 64 + b"\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
SECOND = 1.0

Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a whole request, and read its answer."""
    writer.write(WHOLE)
    while await reader.read(65_536):
        pass


async def dawdle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a byte a second: first a body, then, on the next connection, headers without end."""
    writer.write(HEAD + b"Content-Length: 60000\r\n\r\n")
    await _drip(reader, writer)


async def dawdle_in_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send headers without end, a byte a second."""
    writer.write(HEAD + b"X-Slow: ")
    await _drip(reader, writer)


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not reader.at_eof():
        writer.write(b"a")
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECOND):
                await reader.read(65_536)


async def again_and_again(port: int, visit: Visit) -> None:
    """Visit, and when that is over, at once again."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        with contextlib.suppress(OSError):
            await visit(reader, writer)
        writer.close()


async def flood(port: int, quick: int, slow: int) -> None:
    """Never end."""
    visits = [ask] * quick + [dawdle, dawdle_in_the_head] * (slow // 2)
    await asyncio.gather(*(again_and_again(port, visit) for visit in visits))


if __name__ == "__main__":
    asyncio.run(flood(*map(int, sys.argv[1:])))
