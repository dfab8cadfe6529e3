"""The command: `incident-rollback controller | bridge | rollback`, also as `kubectl irb …`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn

import typer

from incident_rollback import __version__
from incident_rollback.clients.clock import ApiClock
from incident_rollback.errors import RollbackError, SettingsError
from incident_rollback.settings import Settings, read_settings
from incident_rollback.telemetry.logs import set_up

Process = Callable[[Settings, ApiClock], Awaitable[None]]
MakeClock = Callable[[], ApiClock]

app = typer.Typer(
    name="incident-rollback",
    help="Roll a bad Deployment back because of a FireHydrant incident, and tell the incident.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a crash belongs into the log as it is
)


@app.command()
def controller() -> None:
    """Run the controller: it finds, restores, watches and tells."""
    from incident_rollback.wiring import run_controller  # heavy

    serve(run_controller)


@app.command()
def bridge() -> None:
    """Run the bridge: it makes a resource of a signed webhook."""
    from incident_rollback.wiring import run_bridge  # heavy

    serve(run_bridge)


@app.command()
def rollback(
    workload: Annotated[str, typer.Argument(help="deploy/NAME")],
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Its namespace.")],
    to_revision: Annotated[
        int | None, typer.Option(min=1, help="Where to; absent: the last healthy revision.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan only.")] = False,
) -> None:
    """Ask for a rollback: make an IncidentRollback in the workload's namespace."""
    from incident_rollback.cli import ask_for_rollback  # heavy

    try:
        made = asyncio.run(ask_for_rollback(workload, namespace, to_revision, dry_run=dry_run))
    except RollbackError as error:
        stop(error)
    typer.echo(
        f"incidentrollback {made} was made.  Follow it: kubectl get irb {made} -n {namespace} -w"
    )


@app.command(name="version")
def show_version() -> None:
    """Print the version."""
    typer.echo(__version__)


def serve(process: Process, make_clock: MakeClock = ApiClock) -> None:
    """Run one of the two processes until it is stopped."""
    try:
        settings = read_settings()
        set_up(settings.log_format, settings.log_level)
        asyncio.run(_serve(process, settings, make_clock))
    except SettingsError as error:
        stop(error)


def stop(error: RollbackError) -> NoReturn:
    """End with one line that says what is wrong."""
    print(f"incident-rollback: {error}", file=sys.stderr)  # noqa: T201  # for whoever started it
    raise SystemExit(2)


def main() -> None:
    """Run the command."""
    app()


async def _serve(process: Process, settings: Settings, make_clock: MakeClock) -> None:
    await process(settings, make_clock())


if __name__ == "__main__":
    main()
