"""HTTP as bytes on a socket, for what no client library would send."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.sandbox.ports import LOOPBACK
from tests.sandbox.waiting import PATIENCE_SECONDS

QUIET_SECONDS: Final = 0.3
"""After that long without a byte we hang up on a server that waits for more."""


@dataclass(frozen=True)
class Answer:
    """One answer as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name; None without it."""
        return dict(self.headers).get(name)


def a_request(
    body: bytes,
    headers: Sequence[tuple[str, str]] = (),
    *,
    method: str = "POST",
    path: str = "/firehydrant",
) -> bytes:
    """Return a well-formed request as bytes, with its length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bridge", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


async def send(port: int, *parts: bytes, hang_up: bool = False) -> list[Answer]:
    """
    Send the parts, each as soon as the one before is gone, and read until the end.

    With `hang_up` we close our half after some quiet: what is no whole request is waited for
    otherwise.  A connection that is reset is a connection that ended: what came before counts.
    """
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    received = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if hang_up and await _is_quiet(reader, received):
                writer.write_eof()
            while chunk := await reader.read(65_536):
                received += chunk
    except TimeoutError:
        raise
    except OSError:  # Reset, or closed just as we were writing.
        pass
    finally:
        writer.close()
    return answers_in(bytes(received))


async def _is_quiet(reader: asyncio.StreamReader, received: bytearray) -> bool:
    """Read until the end, or until nothing has come for a while, and say which."""
    try:
        while True:
            async with asyncio.timeout(QUIET_SECONDS):
                chunk = await reader.read(65_536)
            if not chunk:
                return False
            received += chunk
    except TimeoutError:
        return True


def answers_in(raw: bytes) -> list[Answer]:
    """Return the answers in what a server sent.  Raises AssertionError on what is none."""
    answers: list[Answer] = []
    while raw:
        head, found, rest = raw.partition(b"\r\n\r\n")
        assert found, f"not a whole answer: {raw[:300]!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        status = re.fullmatch(r"HTTP/\d\.\d (\d{3}) .*", first)
        assert status, f"not a status line: {first[:300]!r}"
        split = (line.partition(": ") for line in lines)
        pairs = tuple((name.lower(), value) for name, _, value in split)
        assert len(dict(pairs)) == len(pairs), f"a header twice: {pairs}"
        length = int(dict(pairs).get("content-length", "0"))
        answers.append(Answer(int(status[1]), pairs, rest[:length]))
        raw = rest[length:]
    return answers
