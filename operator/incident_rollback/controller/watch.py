"""
The kopf edge: it says that something changed, and nothing more.

kopf writes nothing here: no finalizer, no annotation, no peering, no Events.  It runs in a thread
and a loop of its own, so that its crashes and its signal handling stay there, and is started anew
when it dies; but only once our own list works, for without the CRD it would idle for ever.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import kopf

from incident_rollback.crd.v1alpha1 import GROUP, ROLLBACKS, VERSION
from incident_rollback.domain.raw import Json

UNSETTLED: Final = "status.settled!=true"
LOGIN_LIFE: Final = timedelta(minutes=30)
"""A credential with an end is another one each time, so that one 401 does not end kopf."""
LOGINS_A_MINUTE: Final = 3

Heard = Callable[[str, Json], None]
"""Called with the type of a watch event (None becomes "LISTED") and the raw object."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndlessBackoff:
    """Pauses between kopf's own retries: 0.1 s doubling to 2 s, jittered, without end."""

    longest_seconds: float = 2.0

    def __iter__(self) -> Iterator[float]:
        """Start anew for each request."""
        pause = min(0.1, self.longest_seconds)
        while True:
            yield pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads the load
            pause = min(self.longest_seconds, pause * 2)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long kopf waits, in seconds; arguments, so that tests can be quick."""

    backoff: EndlessBackoff = EndlessBackoff()
    inactivity: float = 70.0
    """For anything from a watch: the API server sends a bookmark each minute."""
    login: float = 4.0
    """Before one login too many, at most; half of it at least."""


USUAL: Final = Waits()


def register(registry: kopf.OperatorRegistry, heard: Heard, waits: Waits = USUAL) -> None:
    """Attach the handlers; importing this module attaches nothing."""
    logins: list[datetime] = []

    @kopf.on.event(GROUP, VERSION, ROLLBACKS, registry=registry)
    async def changed(event: kopf.RawEvent, **_: object) -> None:  # pyright: ignore[reportUnusedFunction]
        heard(str(event.get("type") or "LISTED"), dict(event["object"]))

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: object) -> None:  # pyright: ignore[reportUnusedFunction]
        apply(settings, waits)

    @kopf.on.login(registry=registry)
    async def login(  # pyright: ignore[reportUnusedFunction]
        *, logger: kopf.Logger, settings: kopf.OperatorSettings, **_: object
    ) -> kopf.ConnectionInfo | None:
        now = datetime.now(UTC)
        logins[:] = [at for at in logins if now - at < timedelta(minutes=1)]
        logins.append(now)
        if len(logins) > LOGINS_A_MINUTE:  # A lasting 401 would be a hot loop.
            await asyncio.sleep(waits.login * random.uniform(0.5, 1.0))  # noqa: S311  # spreads
        found = kopf.login_via_client(logger=logger, settings=settings)
        return replace(found, expiration=now + LOGIN_LIFE) if found is not None else None


def apply(settings: kopf.OperatorSettings, waits: Waits = USUAL) -> None:
    """Set kopf up to watch and to write nothing; reasons are in docs/adr."""
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.field_selectors[GROUP, ROLLBACKS] = UNSETTLED
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.inactivity_timeout = waits.inactivity
    settings.watching.reconnect_backoff = 0.1
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = waits.backoff
    settings.queueing.idle_timeout = 0.5
    settings.queueing.exit_timeout = 1.0
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.finalizer = f"{GROUP}/unused"


class Watch:
    """kopf in a thread, started again when it dies or is told to; `on_start` hears of each."""

    def __init__(
        self,
        heard: Heard,
        on_start: Callable[[], None] = lambda: None,
        waits: Waits = USUAL,
    ) -> None:
        self._heard = heard
        self._on_start = on_start
        self._waits = waits
        self._main = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._operator: asyncio.Task[None] | None = None
        self._began_at = 0.0
        """By the time of the main loop."""

    async def run(self, is_listable: Callable[[], Awaitable[bool]]) -> None:
        """Run kopf for ever, as soon as the resources can be listed."""
        pause = 0.1
        while True:
            while not await is_listable():  # noqa: ASYNC110  # there is nothing that could tell
                await asyncio.sleep(random.uniform(0.5, 1.5))  # noqa: S311  # spreads the load
            self._on_start()
            self._began_at = self._main.time()
            await self._run_once()
            pause = 0.1 if self._main.time() - self._began_at > 60 else min(10.0, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311

    @property
    def is_alive(self) -> bool:
        """Kopf is running now."""
        return self._operator is not None

    @property
    def age_seconds(self) -> float:
        """For how long it has been running; 0 while it is not."""
        return self._main.time() - self._began_at if self.is_alive else 0.0

    def restart(self) -> None:
        """End kopf as it is; `run` starts it again."""
        loop, operator = self._loop, self._operator
        if loop is not None and operator is not None and not loop.is_closed():
            loop.call_soon_threadsafe(operator.cancel)

    async def _run_once(self) -> None:
        done = asyncio.Event()
        thread = threading.Thread(target=self._thread, args=(done,), name="kopf", daemon=True)
        thread.start()
        try:
            await done.wait()
        finally:
            self.restart()

    def _thread(self, done: asyncio.Event) -> None:
        try:
            asyncio.run(self._operate())
        except asyncio.CancelledError:
            _log.info("kopf was stopped")
        except Exception as error:  # noqa: BLE001  # the outermost edge of the thread
            _log.warning("kopf ended and is started again: %r", error)
        finally:
            self._loop = self._operator = None
            if not self._main.is_closed():
                self._main.call_soon_threadsafe(done.set)

    async def _operate(self) -> None:
        registry = kopf.OperatorRegistry()
        register(registry, self._pass_on, self._waits)
        self._loop = asyncio.get_running_loop()
        self._operator = asyncio.create_task(
            kopf.operator(registry=registry, clusterwide=True, standalone=True)
        )
        await self._operator

    def _pass_on(self, kind: str, raw: Json) -> None:
        self._main.call_soon_threadsafe(self._heard, kind, raw)
