"""The command: `incident-rollback controller | bridge | rollback | …`, also as `kubectl irb …`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from incident_rollback import __version__
from incident_rollback.cli.commands import app, finish, stop
from incident_rollback.cli.options import (
    EXITS,
    Format,
    Namespace,
    Output,
    ToRevision,
    Workload,
    workload_name,
)
from incident_rollback.clients.clock import ApiClock
from incident_rollback.errors import SettingsError
from incident_rollback.extras import import_without_extras
from incident_rollback.settings import Settings, read_settings
from incident_rollback.telemetry.logs import set_up

if TYPE_CHECKING:
    from incident_rollback.cli.rehearsal import Outcome
    from incident_rollback.crd.v1alpha1 import IncidentRollback
    from incident_rollback.ports import Clock, Cluster, Store

__all__ = ["app", "main"]

Process = Callable[[Settings, ApiClock], Awaitable[None]]
MakeClock = Callable[[], ApiClock]


@app.command()
def controller() -> None:
    """Run the controller: it finds, restores, watches and tells."""
    import_without_extras("kubernetes", "httpx")
    from incident_rollback.wiring import run_controller  # heavy

    serve(run_controller)


@app.command()
def bridge() -> None:
    """Run the bridge: it makes a resource of a signed webhook."""
    import_without_extras("kubernetes")
    from incident_rollback.wiring import run_bridge  # heavy

    serve(run_bridge)


@app.command(epilog=EXITS)
def preview(
    workload: Workload,
    namespace: Namespace,
    to_revision: ToRevision = None,
    output: Format = Output.TABLE,
) -> None:
    """Show what a rollback would do now, and why, or why it would not; nothing is made."""
    from incident_rollback.cli.look import preview  # heavy

    finish(lambda: preview(take_turn, workload_name(workload), namespace, to_revision), output)


@app.command(epilog=EXITS)
def check(
    home: Annotated[
        str, typer.Option("-n", "--namespace", help="The home namespace of the operator.")
    ] = "",
    output: Format = Output.TABLE,
) -> None:
    """Say whether rollbacks would work tonight: every RollbackEnvironment and its services."""
    from incident_rollback.cli.check import check  # heavy

    finish(lambda: check(take_turn, home), output)


@app.command(name="version")
def show_version() -> None:
    """Print the version."""
    typer.echo(__version__)


async def take_turn(
    store: "Store", cluster: "Cluster", clock: "Clock", home: str, rollback: "IncidentRollback"
) -> "Outcome":
    """Take one turn of the controller's on what is given; nobody else is told."""
    from incident_rollback.cli.rehearsal import Outcome  # heavy
    from incident_rollback.controller.reconcile import Memory, Reconciler, Wake

    reconciler = Reconciler(
        store=store,
        cluster=cluster,
        clock=clock,
        timeline=None,
        outbox=None,
        home=home,
        process="preview",
        is_hurried=False,
    )
    memory = Memory()
    turn = await reconciler.turn(rollback, memory, Wake(asyncio.Event()))
    return Outcome(turn.rollback or rollback, memory.place, turn.after)


def serve(process: Process, make_clock: MakeClock = ApiClock) -> None:
    """Run one of the two processes until it is stopped."""
    try:
        settings = read_settings()
        set_up(settings.log_format, settings.log_level)
        asyncio.run(_serve(process, settings, make_clock))
    except SettingsError as error:
        stop(error)


def main() -> None:
    """Run the command."""
    app()


async def _serve(process: Process, settings: Settings, make_clock: MakeClock) -> None:
    await process(settings, make_clock())


if __name__ == "__main__":
    main()
