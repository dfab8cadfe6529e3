"""
Posting webhooks and clocking them, by the clock that the API server's audit log goes by.

Both run on one machine, so that their instants compare.  Everything that costs time, the body and
its signature, is made before the clock starts.
"""

import asyncio
import http.client
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Webhook:
    """What is to be posted."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Sent:
    """What was posted.  Instants in seconds since 1970."""

    at: float
    """Before the connection was opened."""
    answered_at: float
    """With the whole answer."""
    status: int
    body: bytes

    @property
    def answer_ms(self) -> float:
        return (self.answered_at - self.at) * 1000


def send(webhook: Webhook) -> Sent:
    """Post one, over a connection of its own, as a sender does that posts once."""
    parts = urlsplit(webhook.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_SECONDS)
    try:
        at = time.time()
        connection.request("POST", parts.path, webhook.body, dict(webhook.headers))
        answer = connection.getresponse()
        body = answer.read()
        return Sent(at, time.time(), answer.status, body)
    finally:
        connection.close()


def send_at_once(webhooks: Sequence[Webhook]) -> list[Sent]:
    """Post all at once, each over a connection of its own; return the answers in their order."""
    return asyncio.run(_send_at_once(webhooks))


async def _send_at_once(webhooks: Sequence[Webhook]) -> list[Sent]:
    options: dict[str, Any] = {
        "connector": aiohttp.TCPConnector(limit=0, force_close=True),
        "timeout": aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        "trust_env": False,
    }
    async with aiohttp.ClientSession(**options) as session:

        async def one(webhook: Webhook) -> Sent:
            at = time.time()
            async with session.post(
                webhook.url, data=webhook.body, headers=dict(webhook.headers)
            ) as answer:
                body = await answer.read()
                return Sent(at, time.time(), answer.status, body)

        return list(await asyncio.gather(*map(one, webhooks)))
