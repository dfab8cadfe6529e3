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
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from pydantic import SecretStr

from incident_rollback.bridge.floods import Floods
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
from incident_rollback.bridge.server import Door, Server, make_server_runner
from incident_rollback.bridge.signature import HEADER, is_signed
from incident_rollback.crd.v1alpha1 import GROUP, ROLLBACKS, IncidentRollback
from incident_rollback.domain.trace import Trace, read_parent
from incident_rollback.errors import (
    ForbiddenError,
    InvalidRequestError,
    RollbackError,
    ThrottledError,
    UnavailableError,
)
from incident_rollback.ports import Clock, Store
from incident_rollback.settings import PREFIX
from incident_rollback.telemetry.traces import follow, followed, new_trace, span

PATH: Final = "/firehydrant"
ANSWER_HEADER: Final = "X-Incident-Rollback"
TRACE_HEADER: Final = "traceparent"
MAX_HEADER_TEXT: Final = 200
SERVER: Final = "incident-rollback"
"""Instead of aiohttp's, which tells everybody which versions to attack."""

Observe = Callable[[int, str], None]
"""Called once a request with the answer's code and reason; the reasons are few."""
ObserveSigned = Callable[[str, float], None]
"""Called once a signed request with the name of its secret, and how long its answer took."""
Absence = Callable[[], Awaitable[str]]
"""Says soon that no controller has been seen lately; "" when one was, or nobody can tell."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much; arguments, so that tests can be quick."""

    head_seconds: float = 10.0
    """For the headers to arrive, from the start of the connection."""
    body_seconds: float = 10.0
    """For the body to arrive, from the end of the headers."""
    store_seconds: float = 5.0
    """For all that one request wants from the API server, retries included."""
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 1.0
    connection_seconds: float = 30.0
    """For a whole connection: more than all of the above, and our answer has to be read, too."""
    at_the_door: int = 640
    """
    Connections that have not shown a signature yet; anybody can open one.

    Five times as many as are accepted in one go, or one could be pushed out before it was read;
    and with all else not so many that the 1,024 files are used up, which is a usual limit.
    """
    at_the_door_bytes: int = 16 * 1024 * 1024
    """What those may have sent, all together; headers cost three times their length."""
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
)
TOO_SLOW: Final = Answer(400, "TooSlow", "the body took longer than 10 s to arrive: send it again")
BROKEN: Final = Answer(400, "Broken", "the body did not arrive whole: send it again")
NOT_HTTP: Final = Answer(
    400, "NotHttp", "this is no HTTP request, or its headers are too large: send plain HTTP/1.1"
)
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


UNSIGNED: Final = frozenset(
    answer.reason
    for answer in (
        NOT_FOUND, WRONG_METHOD, TOO_LARGE, TOO_SLOW, BROKEN, NOT_HTTP, NO_SECRET, NOT_SIGNED,
    )
)  # fmt: skip
"""Reasons of answers that anybody can have, as often as they like."""


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
    absence: Absence

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
            outcomes, absence = await asyncio.gather(_all(map(create, wishes)), self.absence())
        if not outcomes:
            return Answer(422, "NothingToApprove", "nothing to approve yet: preview first")
        left_out = pairs - len(outcomes)
        note = f"; {left_out} of {pairs} without a plan to approve" if left_out else ""
        note += f"; {absence}" if absence else ""
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
                trace=followed(),
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
    observe_signed: ObserveSigned
    absence: Absence
    limits: Limits
    door: Door
    work: Gate
    floods: Floods = field(default_factory=Floods)

    async def receive(self, request: web.BaseRequest) -> web.Response:
        """Answer one request, whatever happens, and see that the log says so."""
        follow(new_trace())
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answer = await self._answer(request)
        except Exception as error:  # noqa: BLE001  # The outermost edge.
            answer = _answer_unexpected(error)
        return self._told(answer, loop.time() - began)

    def refuse(self, error: BaseException | None) -> web.Response:
        """Answer what never became a request: of what was sent, nothing is repeated."""
        follow(new_trace())
        if isinstance(error, HttpProcessingError):
            return self._told(replace(NOT_HTTP, detail=type(error).__name__))
        return self._told(_answer_unexpected(error))

    def _told(self, answer: Answer, seconds: float = 0.0) -> web.Response:
        self.observe(answer.code, answer.reason)
        if answer.reason in UNSIGNED:
            here = copy_context()  # The line may be written later: with this request's trace.
            self.floods.tell(
                f"{answer.reason} {answer.detail}",
                lambda left_out: here.run(_log_answer, answer, seconds, left_out),
            )
        else:
            _log_answer(answer, seconds)
        return _to_response(answer)

    async def _answer(self, request: web.BaseRequest) -> Answer:
        """Check in the order of the contract: 404 and 405, 413, 401, then the body's meaning."""
        if request.path != PATH:
            return NOT_FOUND
        if request.method != "POST":
            return WRONG_METHOD
        received_at = self.clock.now()
        await _invite(request)
        body = await _read(request, self.limits.body_seconds)
        if isinstance(body, Answer):
            return body
        secrets = self.secrets.current()
        if not secrets:
            return NO_SECRET
        if not is_signed(body, _signature_of(request), secrets):
            return NOT_SIGNED
        if request.transport is not None:
            self.door.leave(request.transport)
        with self.work.enter() as is_in:
            return await self._serve(request, body, received_at) if is_in else CROWDED

    async def _serve(self, request: web.BaseRequest, body: bytes, received_at: datetime) -> Answer:
        """Only whoever has signed may choose a trace: what is recorded costs somebody money."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        follow(_trace_of(request) or followed())
        with span("webhook") as made:
            answer = await self._answer_signed(body, received_at)
            made.note(code=answer.code, reason=answer.reason, incident=answer.incident)
        slot = _slot_of(body, _signature_of(request), self.secrets.named())
        self.observe_signed(slot, loop.time() - began)
        return answer

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
        return Asking(
            self.store, self.limits, self.namespace, received_at, give_up_at, self.absence
        )


async def _invite(request: web.BaseRequest) -> None:
    """Say that the body may come, to a sender that waits to be told; other wishes are ignored."""
    waits = request.headers.get("Expect", "").lower() == "100-continue"
    if waits and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # The answer itself has not begun.


def _trace_of(request: web.BaseRequest) -> Trace | None:
    """Return the sender's trace; None when there is none, or several."""
    given = request.headers.getall(TRACE_HEADER, [])
    return read_parent(given[0]) if len(given) == 1 else None


def _slot_of(body: bytes, signature: str | None, secrets: Mapping[str, SecretStr]) -> str:
    """
    Return the name of the secret that has signed; "" when it was removed meanwhile.

    Asked only of what was accepted: whether something is signed takes the same time for each.
    """
    matching = (name for name, secret in secrets.items() if is_signed(body, signature, [secret]))
    return next(matching, "")


def _signature_of(request: web.BaseRequest) -> str | None:
    """Return the signature; None when there is none or, for then one may be forged, several."""
    given = request.headers.getall(HEADER, [])
    return given[0] if len(given) == 1 else None


async def _read(request: web.BaseRequest, seconds: float) -> bytes | Answer:
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


def _answer_unexpected(error: BaseException | None) -> Answer:
    """Name the exception's type and place, never its text: that might repeat the body."""
    places = traceback.extract_tb(error.__traceback__ if error else None)
    place = f" at {places[-1].filename}:{places[-1].lineno}" if places else ""
    return Answer(
        503,
        "Unexpected",
        "something unexpected went wrong, the bridge's log has more: send it again",
        retry_after=5,
        detail=f"{type(error).__name__}{place}",
    )


def _log_answer(answer: Answer, seconds: float, left_out: int = 0) -> None:
    """Log an answer, and how many like it within the last second were left out."""
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
        **({"left_out": left_out} if left_out else {}),
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
    response.headers["Server"] = SERVER
    return response


def _header_text(message: str) -> str:
    """Return a text that is safe in a header: one line of ASCII, at most 200 characters."""
    text = re.sub(r"[^\x20-\x7e]+", " ", message)
    return text if len(text) <= MAX_HEADER_TEXT else text[: MAX_HEADER_TEXT - 3] + "..."


async def _nobody_is_missed() -> str:
    return ""


def make_app(
    store: Store,
    secrets: Secrets,
    clock: Clock,
    *,
    namespace: str,
    observe: Observe = lambda _code, _reason: None,
    observe_signed: ObserveSigned = lambda _slot, _seconds: None,
    absence: Absence | None = None,
    limits: Limits | None = None,
) -> Bridge:
    """Return the application; `namespace` is the home namespace, where resources are made."""
    limits = limits or Limits()
    return Bridge(
        store=store,
        secrets=secrets,
        clock=clock,
        namespace=namespace,
        observe=observe,
        observe_signed=observe_signed,
        absence=absence or _nobody_is_missed,
        limits=limits,
        door=Door(
            limits.at_the_door,
            limits.at_the_door_bytes,
            lambda: observe(CROWDED.code, CROWDED.reason),
        ),
        work=Gate(limits.at_work),
    )


def make_runner(app: Bridge) -> web.BaseRunner:
    """
    Return the server of the application.  To be called inside the loop.

    There is no router: one handler for every path and method gives every answer the same shape.
    """
    server = Server(
        app.receive,
        app.refuse,
        app.door,
        head_seconds=app.limits.head_seconds,
        lifetime_seconds=app.limits.connection_seconds,
    )
    return make_server_runner(server)
