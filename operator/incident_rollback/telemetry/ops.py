"""The port of the operators' tools: /livez, /readyz and /metrics of both processes."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SHUTDOWN_SECONDS = 0.5
"""How long open connections may take at the end."""

Readiness = Callable[[], str]
"""Returns why the process is not ready; "" when it is."""


def make_ops_app(registry: CollectorRegistry, readiness: Readiness) -> web.Application:
    """Return the application; its probes make no calls of their own."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why = readiness()
        return web.Response(status=503 if why else 200, text=f"{why or 'ok'}\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    )
    return app


async def serve(app: web.Application | web.BaseRunner, host: str, port: int) -> web.BaseRunner:
    """Serve an application; the caller cleans the runner up."""
    if isinstance(app, web.BaseRunner):
        runner: web.BaseRunner = app
    else:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
