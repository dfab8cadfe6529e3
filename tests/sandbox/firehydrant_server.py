"""
The HTTP side: a loop in a thread of its own, one handler, a port that comes and goes.

The handler judges, limits, fails and stalls; what a call means is decided elsewhere.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from aiohttp import web

from tests.sandbox.firehydrant_account import Account
from tests.sandbox.firehydrant_api import Answer, Api, Switches, error
from tests.sandbox.firehydrant_contract import Breach, Call, Contract, Received
from tests.sandbox.firehydrant_faults import Fault, Script
from tests.sandbox.firehydrant_limits import RateLimiter

T = TypeVar("T")

HOST: Final = "127.0.0.1"
CONTROL_SECONDS: Final = 60.0
"""How long a thread waits for the loop to start, stop, leave or return."""


@dataclass(frozen=True)
class Request:
    """One request, as received and answered; without a status it was never answered."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    """Parsed JSON; text where it is not JSON; None where there was none."""
    at: datetime
    status: int | None = None

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class State:
    """What handler and facade share.  Everything in here is touched under `lock` only."""

    contract: Contract
    limiter: RateLimiter
    now: Callable[[], datetime]
    lock: threading.RLock = field(default_factory=threading.RLock)
    switches: Switches = field(default_factory=Switches)
    account: Account = field(default_factory=Account)
    script: Script = field(default_factory=Script)
    requests: list[Request] = field(default_factory=list[Request])
    violations: list[str] = field(default_factory=list[str])


class Front:
    """Takes a request through what FireHydrant, or a proxy before it, would do to it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._api = Api(state.account, state.switches)
        self.leaving = asyncio.Event()
        """Set when the port goes away: nobody is kept waiting any longer."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        received = await receive(request)
        authorization = request.headers.get("Authorization", "")
        with self._state.lock:
            number = self._record(received)
            call = self._judge(received, authorization)
            fault = self._state.script.take(received.line)
        answer = await self._play(fault, call, authorization)
        if answer is None:
            return hang_up(request)
        with self._state.lock:
            self._state.requests[number] = replace(
                self._state.requests[number], status=answer.status
            )
        return to_response(answer)

    def _record(self, received: Received) -> int:
        record = Request(
            received.method,
            received.path,
            dict(received.query),
            parsed(received.body),
            self._state.now(),
        )
        self._state.requests.append(record)
        return len(self._state.requests) - 1

    def _judge(self, received: Received, authorization: str) -> Call | Breach:
        """Read the request and put on record what is wrong with it, whatever it is answered."""
        call = self._state.contract.read(received)
        operation = self._state.contract.find(received.method, received.path)
        faults = list(call.messages) if isinstance(call, Breach) else []
        if (operation is None or operation.needs_key) and not is_bearer(authorization):
            faults.append("Authorization is not `Bearer fhb-…`")
        if isinstance(call, Call) and (lack := self._api.lacks(call)):
            faults.append(lack)
            call = Breach(501, (lack,))
        self._state.violations += [f"{received.line}: {fault}" for fault in faults]
        return call

    async def _play(
        self, fault: Fault | None, call: Call | Breach, authorization: str
    ) -> Answer | None:
        """Answer with the fault in its place; None means never."""
        match fault:
            case Fault(deed="fail"):
                return scripted(fault)
            case Fault(deed="stall"):
                is_over = await self._wait(fault.seconds)
                return self._answer(call, authorization) if is_over else None
            case Fault(deed="commit_then_500"):
                self._answer(call, authorization)
                return error(500)
            case Fault(deed="commit_then_time_out"):
                self._answer(call, authorization)
                await self._wait(fault.seconds)
                return None
            case _:
                return self._answer(call, authorization)

    async def _wait(self, seconds: float | None) -> bool:
        """Wait so long, or for ever; False if the port went away before that was over."""
        try:
            async with asyncio.timeout(seconds):
                await self.leaving.wait()
        except TimeoutError:
            return True
        return False

    def _answer(self, call: Call | Breach, authorization: str) -> Answer:
        """Key, then limit, then description, then the call itself."""
        with self._state.lock:
            if not self._is_key_good(call, authorization):
                return error(401)
            refusal = self._state.limiter.admit()
            if refusal is not None:
                size, wait = str(refusal.limit), str(refusal.retry_after)
                return error(429, **{"RateLimit-Limit": size, "Retry-After": wait})
            if isinstance(call, Breach):
                return refused(call)
            return self._api.answer(call, self._state.now())

    def _is_key_good(self, call: Call | Breach, authorization: str) -> bool:
        if isinstance(call, Call) and call.operation == "apiPingNoAuth":
            return True
        accepted = self._state.switches.accepted_key
        if accepted is None:
            return is_bearer(authorization)
        return authorization == f"Bearer {accepted}"


class Loop:
    """An event loop in a daemon thread, and one listening socket in it that keeps its port."""

    def __init__(self, front: Callable[[], Front]) -> None:
        self._make_front = front
        self._front: Front | None = None
        self._runner: web.AppRunner | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="stand-in-firehydrant", daemon=True
        )
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self.open()

    def stop(self) -> None:
        """End the thread; a second time does nothing."""
        if not self._thread.is_alive():
            return
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONTROL_SECONDS)
        self._loop.close()

    def open(self) -> None:
        """Listen: the first time on a free port, later on the same."""
        self._run(self._open())

    def close(self) -> None:
        """Stop listening and drop every connection; a second time does nothing."""
        self._run(self._close())

    async def _open(self) -> None:
        if self._runner is not None:
            return
        self._front = self._make_front()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._front.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        if self._runner is None or self._front is None:
            return
        self._front.leaving.set()
        runner, self._runner = self._runner, None
        await runner.cleanup()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CONTROL_SECONDS)


async def receive(request: web.Request) -> Received:
    return Received(
        request.method,
        request.path,
        tuple(request.query.items()),
        request.content_type if "Content-Type" in request.headers else "",
        await request.read(),
    )


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")


def is_bearer(authorization: str) -> bool:
    return authorization.startswith("Bearer fhb-") and len(authorization) > len("Bearer fhb-")


def scripted(fault: Fault) -> Answer:
    """The answer that a test wrote, or the recorded one of that status."""
    usual = error(fault.status)
    body = usual.body if fault.body is None else fault.body
    return Answer(fault.status, body, dict(usual.headers) | fault.headers)


def refused(breach: Breach) -> Answer:
    match breach.status:
        case 400:
            return error(400, *breach.messages)
        case 404:
            return error(404)
        case status:
            return Answer(status, {"error": "; ".join(breach.messages)})


def hang_up(request: web.Request) -> web.Response:
    """Drop the connection; what is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def to_response(answer: Answer) -> web.Response:
    if isinstance(answer.body, str):
        return web.Response(
            status=answer.status,
            text=answer.body,
            headers=answer.headers,
            content_type="text/html",
        )
    return web.Response(
        status=answer.status,
        body=json.dumps(answer.body).encode(),
        headers=answer.headers,
        content_type="application/json",
    )
