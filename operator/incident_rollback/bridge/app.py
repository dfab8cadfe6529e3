"""
The bridge's one route: from bytes to an answer, and never a 500.

Records a wish and answers; it never touches a workload.  Bodies are neither logged nor repeated.
"""

import asyncio
import functools
import logging
import math
import random
import re
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from incident_rollback.bridge.payload import (
    MAX_BODY_BYTES,
    Ignored,
    Malformed,
    Request,
    read_payload,
)
from incident_rollback.bridge.requests import (
    MAX_ATTEMPTS,
    Make,
    Outcome,
    Reuse,
    Step,
    Stop,
    Wish,
    approved,
    is_for,
    manifest_for,
    message_for,
    next_attempt,
    rollback_name,
    rows_for,
    wishes_for,
)
from incident_rollback.bridge.secrets import Secrets
from incident_rollback.bridge.signature import HEADER, is_signed
from incident_rollback.crd.v1alpha1 import GROUP, ROLLBACKS, IncidentRollback
from incident_rollback.errors import (
    ForbiddenError,
    InvalidRequestError,
    RollbackError,
    ThrottledError,
    UnavailableError,
)
from incident_rollback.ports import Clock, Store
from incident_rollback.settings import PREFIX

PATH: Final = "/firehydrant"
ANSWER_HEADER: Final = "X-Incident-Rollback"
MAX_HEADER_TEXT: Final = 200

Observe = Callable[[int, str], None]
"""Called once a request with the answer's code and reason; the reasons are few."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much; arguments, so that tests can be quick."""

    body_seconds: float = 10.0
    """For the body to arrive, from the end of the headers."""
    store_seconds: float = 5.0
    """For all that one request wants from the API server, retries included."""
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 1.0
    at_the_door: int = 400
    """Bodies being read at once; anybody can send one, so they do not count as work."""
    at_work: int = 100
    """Signed requests being worked on at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request is answered, and what the log and the metrics say of it."""

    code: int
    reason: str
    message: str
    outcomes: Sequence[Outcome] = ()
    incident: str = ""
    retry_after: float | None = None
    """Seconds, for the header of the same name."""
    closes: bool = False
    """The connection is of no more use: part of the body was not read."""
    detail: str = ""
    """For the log only."""


NOT_FOUND: Final = Answer(404, "NotFound", f"nothing is here: send webhooks to {PATH}")
WRONG_METHOD: Final = Answer(
    405, "MethodNotAllowed", "only POST: remove X-HTTP-Method-Override from the step's headers"
)
TOO_LARGE: Final = Answer(
    413,
    "TooLarge",
    f"the body is over {MAX_BODY_BYTES} bytes: leave long texts out of the template",
    closes=True,
)
TOO_SLOW: Final = Answer(
    400, "TooSlow", "the body took longer than 10 s to arrive: send it again", closes=True
)
BROKEN: Final = Answer(400, "Broken", "the body did not arrive whole: send it again", closes=True)
CROWDED: Final = Answer(503, "Crowded", "too many requests at once: send it again", retry_after=1)
NO_SECRET: Final = Answer(
    503,
    "NoSecret",
    f"the bridge has no HMAC secret: put one into the folder of {PREFIX}HMAC_SECRETS_DIR",
    retry_after=10,
)
NOT_SIGNED: Final = Answer(
    401,
    "NotSigned",
    f"the header {HEADER} is missing or wrong: give the runbook step the HMAC secret of the bridge",
)


class Gate:
    """Lets so many in at once; the next one is turned away, for a queue would only hide it."""

    def __init__(self, room: int) -> None:
        self._room = room

    @contextmanager
    def enter(self) -> Generator[bool]:
        """Say whether there is room, and hold a place until left if there is."""
        if self._room <= 0:
            yield False
            return
        self._room -= 1
        try:
            yield True
        finally:
            self._room += 1


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks the API server for what one request wants, patiently, and each thing once."""

    store: Store
    limits: Limits
    namespace: str
    received_at: datetime
    give_up_at: float
    """By the loop's clock."""

    async def ask(self, request: Request) -> Answer:
        """Create what is not there yet and say how the rest stands.  Raises RollbackError."""
        wishes = wishes_for(request)
        if isinstance(wishes, Malformed):
            return _answer_malformed(wishes)
        pairs = len(wishes)
        async with self._in_time():
            if request.approve:
                wishes = await self._approved(wishes)
            create = functools.partial(self._create, request=request, pairs=pairs)
            outcomes = await _all(map(create, wishes))
        if not outcomes:
            return Answer(422, "NothingToApprove", "nothing to approve yet: preview first")
        left_out = pairs - len(outcomes)
        note = f"; {left_out} of {pairs} without a plan to approve" if left_out else ""
        is_new = any(one.is_new for one in outcomes)
        return Answer(
            202 if is_new else 200,
            "Created" if is_new else "AlreadyAsked",
            message_for(outcomes) + note,
            outcomes,
        )

    @asynccontextmanager
    async def _in_time(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout_at(self.give_up_at):
                yield
        except TimeoutError as error:
            raise UnavailableError("the API server did not answer in time") from error

    async def _create(self, wish: Wish, *, request: Request, pairs: int) -> Outcome:
        """
        Create the attempt that is due.

        Creating is also how attempts are read: one that is there already comes back, so that
        two deliveries at once cannot both make the same one.
        """
        attempts: list[IncidentRollback] = []
        step: Step = Make(1)
        while isinstance(step, Make):
            manifest = manifest_for(
                wish,
                request.incident,
                namespace=self.namespace,
                pairs=pairs,
                at=self.received_at,
                attempt=step.number,
            )
            found, is_new = await self._patiently(functools.partial(self.store.create, manifest))
            if is_new:
                return Outcome(found, is_new=True)
            attempts.append(found)
            step = next_attempt(wish, attempts, self.received_at)
        match step:
            case Reuse(rollback):
                return Outcome(rollback)
            case Stop(rollback):
                return Outcome(rollback, is_used_up=True)

    async def _approved(self, wishes: Sequence[Wish]) -> tuple[Wish, ...]:
        """Return the wishes that a plan was shown for, each with its digest."""
        with_plans = await _all(map(self._approve, wishes))
        return tuple(wish for wish in with_plans if wish is not None)

    async def _approve(self, wish: Wish) -> Wish | None:
        """Find the plan that was shown last: it may be one that an approval was refused with."""
        shown = await _all(map(self._latest, (wish, replace(wish, dry_run=True))))
        chosen = approved(wish, shown)
        for _ in range(MAX_ATTEMPTS):
            earlier = await self._latest(chosen) if chosen else None
            if earlier is None:
                break
            shown.append(earlier)
            chosen, before = approved(wish, shown), chosen
            if chosen == before:
                break
        return chosen

    async def _latest(self, wish: Wish) -> IncidentRollback | None:
        latest: IncidentRollback | None = None
        for attempt in range(1, MAX_ATTEMPTS + 1):
            name = rollback_name(wish, attempt)
            get = functools.partial(self.store.get, self.namespace, name)
            found = await self._patiently(get)
            if found is None:
                break
            latest = found if is_for(wish, found) else latest
        return latest

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the API server answers, or there is no time left for another call."""
        pause = self.limits.first_pause_seconds
        while True:
            try:
                return await call()
            except UnavailableError:
                if asyncio.get_running_loop().time() + pause > self.give_up_at:
                    raise
                await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311  # Not a secret.
                pause = min(2 * pause, self.limits.longest_pause_seconds)


async def _all(calls: Iterator[Awaitable[T]]) -> list[T]:
    """Await all at once, and raise the first error only when none is at work any more."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


@dataclass(frozen=True, slots=True)
class Bridge:
    """Answers webhooks; keeps nothing between two of them but how many are at work."""

    store: Store
    secrets: Secrets
    clock: Clock
    namespace: str
    observe: Observe
    limits: Limits
    door: Gate
    work: Gate

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one request, whatever happens, and log one line about it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answer = await self._answer(request)
        except Exception as error:  # noqa: BLE001  # The outermost edge.
            answer = _answer_unexpected(error)
        self.observe(answer.code, answer.reason)
        _log_answer(answer, loop.time() - began)
        return _to_response(answer)

    async def _answer(self, request: web.Request) -> Answer:
        """Check in the order of the contract: 404 and 405, 413, 401, then the body's meaning."""
        if request.path != PATH:
            return NOT_FOUND
        if request.method != "POST":
            return WRONG_METHOD
        received_at = self.clock.now()
        with self.door.enter() as is_in:
            body = await _read(request, self.limits.body_seconds) if is_in else CROWDED
        if isinstance(body, Answer):
            return body
        secrets = self.secrets.current()
        if not secrets:
            return NO_SECRET
        if not is_signed(body, _signature_of(request), secrets):
            return NOT_SIGNED
        with self.work.enter() as is_in:
            return await self._answer_signed(body, received_at) if is_in else CROWDED

    async def _answer_signed(self, body: bytes, received_at: datetime) -> Answer:
        match read_payload(body, received_at):
            case Malformed() as malformed:
                return _answer_malformed(malformed)
            case Ignored(why):
                return Answer(200, "Ignored", why)
            case Request() as wanted:
                asking = self._asking(received_at)
                try:
                    answer = await asking.ask(wanted)
                except RollbackError as error:
                    answer = _answer_error(error, self.namespace)
                return replace(answer, incident=wanted.incident.id)

    def _asking(self, received_at: datetime) -> Asking:
        give_up_at = asyncio.get_running_loop().time() + self.limits.store_seconds
        return Asking(self.store, self.limits, self.namespace, received_at, give_up_at)


def _signature_of(request: web.Request) -> str | None:
    """Return the signature; None when there is none or, for then one may be forged, several."""
    given = request.headers.getall(HEADER, [])
    return given[0] if len(given) == 1 else None


async def _read(request: web.Request, seconds: float) -> bytes | Answer:
    try:
        async with asyncio.timeout(seconds):
            return await _read_bounded(request.content)
    except TimeoutError:
        return TOO_SLOW
    except (web.RequestPayloadError, HttpProcessingError, OSError):
        return BROKEN


async def _read_bounded(content: StreamReader) -> bytes | Answer:
    """Count what comes; what Content-Length promises is the sender's word."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return TOO_LARGE
    return bytes(body)


def _answer_malformed(malformed: Malformed) -> Answer:
    reason = "Malformed" if malformed.status == 400 else "Unacceptable"
    return Answer(malformed.status, reason, malformed.message)


def _answer_error(error: RollbackError, namespace: str) -> Answer:
    detail = f"{type(error).__name__}: {error}"
    match error:
        case ThrottledError():
            message = "the API server asks for patience: send it again"
            answer = Answer(429, "Throttled", message, retry_after=error.retry_after)
        case ForbiddenError():
            message = (
                f"the bridge's ServiceAccount lacks create and get on {ROLLBACKS}.{GROUP} in "
                f"namespace {namespace}: apply its Role and RoleBinding"
            )
            answer = Answer(503, ForbiddenError.reason, message, retry_after=30)
        case InvalidRequestError():
            message = (
                "the API server refused the IncidentRollback: is the CustomResourceDefinition of "
                "this version applied? the bridge's log has the reason"
            )
            answer = Answer(422, InvalidRequestError.reason, message)
        case _:
            message = "the API server did not answer in time: send it again, a repeat is harmless"
            answer = Answer(503, "Unavailable", message, retry_after=5)
    return replace(answer, detail=detail)


def _answer_unexpected(error: Exception) -> Answer:
    """Name the exception's type and place, never its text: that might repeat the body."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Answer(
        503,
        "Unexpected",
        "something unexpected went wrong, the bridge's log has more: send it again",
        retry_after=5,
        detail=f"{type(error).__name__} at {place.filename}:{place.lineno}",
    )


def _log_answer(answer: Answer, seconds: float) -> None:
    level = logging.INFO
    if answer.code >= 400:
        level = logging.ERROR if answer.code >= 500 else logging.WARNING
    told = {
        "code": answer.code,
        "reason": answer.reason,
        "incident": answer.incident,
        "rollbacks": [one.rollback.metadata.name for one in answer.outcomes],
        "duration_seconds": round(seconds, 4),
        "detail": answer.detail,
    }
    _log.log(level, "answered %d: %s", answer.code, answer.message, extra=told)


def _to_response(answer: Answer) -> web.Response:
    response = web.json_response(
        {"message": answer.message, "rollbacks": rows_for(answer.outcomes)}, status=answer.code
    )
    response.headers[ANSWER_HEADER] = _header_text(answer.message)
    if answer.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(answer.retry_after)))
    if answer.code == WRONG_METHOD.code:
        response.headers["Allow"] = "POST"
    if answer.closes:
        response.force_close()
    return response


def _header_text(message: str) -> str:
    """Return a text that is safe in a header: one line of ASCII, at most 200 characters."""
    text = re.sub(r"[^\x20-\x7e]+", " ", message)
    return text if len(text) <= MAX_HEADER_TEXT else text[: MAX_HEADER_TEXT - 3] + "..."


def make_app(
    store: Store,
    secrets: Secrets,
    clock: Clock,
    *,
    namespace: str,
    observe: Observe = lambda _code, _reason: None,
    limits: Limits | None = None,
) -> web.Application:
    """Return the application; `namespace` is the home namespace, where resources are made."""
    limits = limits or Limits()
    bridge = Bridge(
        store=store,
        secrets=secrets,
        clock=clock,
        namespace=namespace,
        observe=observe,
        limits=limits,
        door=Gate(limits.at_the_door),
        work=Gate(limits.at_work),
    )
    app = web.Application()
    # One handler for every path and method, so that every answer has the same shape.
    app.router.add_route("*", r"/{path:[\s\S]*}", bridge.receive)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """
    Return the server of the application.

    No access log, for the bridge writes its own line.  Bodies are not decompressed: the signature
    is over the bytes as sent, and a small body must stay small.
    """
    return web.AppRunner(
        app, access_log=None, auto_decompress=False, lingering_time=1.0, shutdown_timeout=0.5
    )
