"""The composition root: settings become clients, clients become the two processes."""

import asyncio
import gc
import logging
import secrets
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from prometheus_client import CollectorRegistry

from incident_rollback.clients.clock import ApiClock
from incident_rollback.clients.connection import Connection, connect
from incident_rollback.clients.lease import KubernetesLeases
from incident_rollback.clients.store import KubernetesStore
from incident_rollback.domain.lease import Standing
from incident_rollback.errors import RollbackError, TransientError
from incident_rollback.settings import Settings
from incident_rollback.telemetry.ops import Readiness, make_ops_app, serve
from incident_rollback.telemetry.traces import traced

if TYPE_CHECKING:
    from incident_rollback.controller.election import Leadership
    from incident_rollback.controller.outbox import Outbox
    from incident_rollback.ports import Timeline
    from incident_rollback.telemetry.metrics import ControllerMetrics

    MakeOutbox = Callable[[], Outbox]

WARM_SECONDS: Final = 25.0
START_PAUSE_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)


async def run_controller(settings: Settings, clock: ApiClock) -> None:
    """Run the controller until SIGTERM or SIGINT.  Raises SettingsError at start."""
    from incident_rollback.clients.cluster import KubernetesCluster  # not the bridge's
    from incident_rollback.controller.controller import Controller
    from incident_rollback.controller.environments import EnvironmentCheck
    from incident_rollback.controller.reconcile import Reconciler
    from incident_rollback.controller.report import TurnReport, show
    from incident_rollback.controller.runner import Runner
    from incident_rollback.controller.watch import Watch
    from incident_rollback.telemetry.metrics import ControllerMetrics

    metrics = ControllerMetrics()
    async with AsyncExitStack() as closing:
        closing.enter_context(traced("controller"))
        connection = await closing.enter_async_context(_connected(clock))
        connection.on_answer = metrics.count_api_request
        leadership = _leadership(settings, connection)
        timeline, make_outbox = await closing.enter_async_context(
            _telling(settings, clock, lambda: leadership.standing() is Standing.LEADS, metrics)
        )
        store = KubernetesStore(connection, settings.namespace)
        cluster = KubernetesCluster(connection)
        outbox = make_outbox() if make_outbox else None
        reconciler = Reconciler(
            store=store,
            cluster=cluster,
            clock=clock,
            timeline=timeline,
            outbox=outbox,
            home=settings.namespace,
            process=outbox.process_id if outbox else secrets.token_hex(8),
        )
        report = TurnReport(metrics, clock)
        controller = Controller(
            store,
            Runner(reconciler, store, report, lambda: leadership.standing().takes_turns),
            EnvironmentCheck(store, cluster, clock),
            metrics,
            leadership=leadership,
            make_outbox=make_outbox,
            make_watch=partial(Watch, on_start=metrics.watch_starts.inc),
        )
        show(metrics, controller, clock)
        async with _ops(settings, metrics.registry, controller.why_not_ready):
            try:
                await _until_stopped(_after_start(connection, controller.run))
            finally:
                await controller.close()


async def run_bridge(settings: Settings, clock: ApiClock) -> None:
    """Run the bridge until SIGTERM or SIGINT.  Raises SettingsError at start."""
    from incident_rollback.bridge.app import make_app, make_runner  # not the controller's
    from incident_rollback.bridge.presence import Presence
    from incident_rollback.bridge.secrets import Secrets
    from incident_rollback.telemetry.metrics import BridgeMetrics

    metrics = BridgeMetrics()
    hmac_secrets = Secrets(settings.hmac_secrets_dir)
    reached = asyncio.Event()

    def why_not_ready() -> str:
        if not hmac_secrets.are_loaded():
            return "there is no HMAC secret: INCIDENT_ROLLBACK_HMAC_SECRETS_DIR"
        return "" if reached.is_set() else "the API server was not reached yet"

    async def wait_for_ever() -> None:
        reached.set()
        await asyncio.Event().wait()

    metrics.show_readiness(why_not_ready)
    async with AsyncExitStack() as closing:
        closing.enter_context(traced("bridge"))
        connection = await closing.enter_async_context(_connected(clock))
        connection.on_answer = metrics.count_api_request
        leases = KubernetesLeases(connection, settings.namespace)
        presence = Presence(leases, clock, settings.namespace)
        app = make_app(
            KubernetesStore(connection, settings.namespace),
            hmac_secrets,
            clock,
            namespace=settings.namespace,
            observe=metrics.observe,
            observe_signed=metrics.observe_signed,
            absence=presence.absence if settings.leader_elect else None,
        )
        async with _ops(settings, metrics.registry, why_not_ready):
            server = await serve(make_runner(app), settings.bridge_host, settings.bridge_port)
            try:
                await _until_stopped(_after_start(connection, wait_for_ever))
            finally:
                await server.cleanup()


@asynccontextmanager
async def _connected(clock: ApiClock) -> AsyncGenerator[Connection]:
    connection = await connect(clock)
    try:
        yield connection
    finally:
        await connection.close()


def _leadership(settings: Settings, connection: Connection) -> "Leadership":
    from incident_rollback.controller.election import Alone, Elector

    if not settings.leader_elect:
        return Alone()
    leases = KubernetesLeases(connection, settings.namespace)
    identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"  # In a pod: the pod's name.
    return Elector(leases, identity, now=connection.clock.now)


@asynccontextmanager
async def _telling(
    settings: Settings,
    clock: ApiClock,
    may_tell: Callable[[], bool],
    metrics: "ControllerMetrics",
) -> AsyncGenerator["tuple[Timeline | None, MakeOutbox | None]"]:
    """Yield the timeline, and what makes an outbox; None twice, said once, without a key."""
    from incident_rollback.clients.firehydrant import FireHydrant, KeyFile
    from incident_rollback.controller.limiter import Limiter
    from incident_rollback.controller.outbox import Outbox

    if settings.firehydrant_api_key_file is None:
        _log.warning("no FireHydrant API key: incidents are not told, all else works")
        yield None, None
        return
    # httpx waits by anyio, which loads the most of itself when it is first used.  Else that is at
    # the first incident, and for 40 ms nothing goes on.
    import anyio

    anyio.get_current_task()
    limiter = Limiter()
    timeline = FireHydrant(
        str(settings.firehydrant_url),
        KeyFile(settings.firehydrant_api_key_file),
        now=clock.now,
        on_extra=limiter.charge,
        on_answer=metrics.count_firehydrant_request,
        on_throttled=limiter.pause,
    )
    make_outbox = partial(
        Outbox,
        timeline,
        limiter=limiter,
        now=clock.now,
        may_tell=may_tell,
        is_sole=settings.leader_elect,
        on_end=metrics.count_end_of_update,
    )
    try:
        yield timeline, make_outbox
    finally:
        await timeline.close()


@asynccontextmanager
async def _ops(
    settings: Settings, registry: CollectorRegistry, readiness: Readiness
) -> AsyncGenerator[None]:
    runner = await serve(make_ops_app(registry, readiness), settings.ops_host, settings.ops_port)
    try:
        yield
    finally:
        await runner.cleanup()


async def _after_start(connection: Connection, then: Callable[[], Awaitable[None]]) -> None:
    """Wait for the API server, refuse one that is too old, keep connections warm, and go on."""
    while True:
        try:
            await connection.server_version()
            break
        except TransientError as error:
            _log.warning("waiting for the API server: %s", error)
            await asyncio.sleep(START_PAUSE_SECONDS)
    # What is loaded by now stays for good: no full collection, which stops everything for as long
    # as there is something to look at, needs to look at it ever again.
    gc.freeze()
    async with asyncio.TaskGroup() as group:
        group.create_task(_keep_warm(connection))
        group.create_task(_run(then))


async def _run(then: Callable[[], Awaitable[None]]) -> None:
    await then()


async def _keep_warm(connection: Connection) -> None:
    while True:
        with suppress(RollbackError):  # Whoever needs the connection next says what is wrong.
            await connection.warm()
        await asyncio.sleep(WARM_SECONDS)


async def _until_stopped(work: Awaitable[None]) -> None:
    """Await the work until it fails, or SIGTERM or SIGINT comes."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        _raise(working)
    working.cancel()
    with suppress(asyncio.CancelledError, BaseExceptionGroup):
        await working


def _raise(working: "asyncio.Future[None]") -> None:
    """Raise what ended the work, out of the groups that it came in."""
    error = working.exception()
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if error is not None:
        raise error
