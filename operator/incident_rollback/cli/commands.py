"""The commands for people and pipelines: what is asked of them, and how their answers end."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from incident_rollback.cli.options import (
    EXITS,
    Exit,
    Format,
    Name,
    Namespace,
    NoFollow,
    Output,
    ToRevision,
    Workload,
    workload_name,
)
from incident_rollback.errors import RollbackError

if TYPE_CHECKING:
    from incident_rollback.cli.page import Answer

INTERRUPTED = 130
Say = Callable[[str], None]

app = typer.Typer(
    name="incident-rollback",
    help="Roll a bad Deployment back because of a FireHydrant incident, and tell the incident.",
    epilog=EXITS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a crash belongs into the log as it is
)


@app.command(epilog=EXITS)
def rollback(
    workload: Workload,
    namespace: Namespace,
    to_revision: ToRevision = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan only.")] = False,
    no_follow: NoFollow = False,
    output: Format = Output.TABLE,
) -> None:
    """Roll a Deployment back: make an IncidentRollback beside it, and follow it to its end."""
    from incident_rollback.cli.ask import ask_for_rollback  # heavy

    with speaking(output) as say:
        finish(
            lambda: ask_for_rollback(
                workload_name(workload),
                namespace,
                to_revision,
                say,
                dry_run=dry_run,
                is_followed=not no_follow,
            ),
            output,
        )


@app.command(epilog=EXITS)
def approve(
    name: Name, namespace: Namespace, no_follow: NoFollow = False, output: Format = Output.TABLE
) -> None:
    """Approve the plan that an IncidentRollback shows: ask for exactly that, and follow it."""
    from incident_rollback.cli.ask import approve  # heavy

    with speaking(output) as say:
        finish(lambda: approve(name, namespace, say, is_followed=not no_follow), output)


@app.command(epilog=EXITS)
def get(
    namespace: Annotated[
        str | None,
        typer.Option("-n", "--namespace", help="Where; absent: that of the current context."),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="In all namespaces.")
    ] = False,
    output: Format = Output.TABLE,
) -> None:
    """List IncidentRollbacks, the oldest first."""
    from incident_rollback.cli.look import list_rollbacks  # heavy

    finish(lambda: list_rollbacks(namespace, is_everywhere=everywhere), output)


@app.command(epilog=EXITS)
def describe(name: Name, namespace: Namespace, output: Format = Output.TABLE) -> None:
    """Show the whole life of an IncidentRollback."""
    from incident_rollback.cli.look import describe  # heavy

    finish(lambda: describe(name, namespace), output)


@app.command(epilog=EXITS)
def wait(
    name: Name,
    namespace: Namespace,
    timeout: Annotated[float, typer.Option(min=0, help="How long at most, in seconds.")] = 600,
    output: Format = Output.TABLE,
) -> None:
    """Wait for the end of an IncidentRollback; the exit code tells how it went."""
    from incident_rollback.cli.look import wait  # heavy

    with speaking(output) as say:
        finish(lambda: wait(name, namespace, say, timeout_seconds=timeout), output)


@app.command(epilog=EXITS)
def history(workload: Workload, namespace: Namespace, output: Format = Output.TABLE) -> None:
    """Show the revisions of a Deployment: which ran how long, and which would be chosen."""
    from incident_rollback.cli.look import history  # heavy

    finish(lambda: history(workload_name(workload), namespace), output)


def finish(ask: Callable[[], Coroutine[Any, Any, "Answer"]], output: Output) -> NoReturn:
    """Get an answer, write it, and end with its exit code; an error is one line on stderr."""
    from incident_rollback.cli.page import make_console, write  # heavy

    try:
        answer = asyncio.run(ask())
    except RollbackError as error:
        stop(error)
    except KeyboardInterrupt:
        say_error("stopped looking; what was asked for goes on")
        raise SystemExit(INTERRUPTED) from None
    write(answer, output, make_console())
    raise SystemExit(answer.code)


@contextlib.contextmanager
def speaking(output: Output) -> Generator[Say]:
    """
    Yield what says a line while it is being waited.

    Lines go to stdout or, where that is for data, to stderr; a terminal also sees that it goes on.
    """
    from incident_rollback.cli.page import line, make_console  # heavy

    console = make_console(stderr=output is not Output.TABLE)

    def say(text: str) -> None:
        console.print(line(text), soft_wrap=True)

    waiting = console.status("") if console.is_terminal else contextlib.nullcontext()
    with waiting:
        yield say


def stop(error: RollbackError) -> NoReturn:
    """End with one line that says what is wrong."""
    say_error(" ".join(str(error).split()))
    raise SystemExit(Exit.WRONG_USE)


def say_error(text: str) -> None:
    """Say something to whoever started it, beside the answer."""
    print(f"incident-rollback: {text}", file=sys.stderr)  # noqa: T201
