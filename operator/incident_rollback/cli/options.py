"""What the commands have in common: their options, their exit codes, and how to name a workload."""

from enum import IntEnum, StrEnum
from typing import Annotated, Final

import typer

from incident_rollback.errors import InvalidRequestError

KINDS: Final = ("deploy", "deployment", "deployments", "deployment.apps", "deployments.apps")


class Output(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Exit(IntEnum):
    """What the exit code says."""

    FINE = 0
    NO = 1
    """The answer is no: refused, failed, not ready."""
    WRONG_USE = 2
    """Wrong use, not allowed, or the cluster cannot be reached."""
    TIMED_OUT = 3
    """Timed out waiting."""


EXITS: Final = (
    "Exit codes: 0 fine; 1 the answer is no (refused, failed, not ready); 2 wrong use, not "
    "allowed, or the cluster cannot be reached; 3 timed out waiting."
)

Workload = Annotated[str, typer.Argument(metavar="deploy/NAME", help="The Deployment.")]
Name = Annotated[str, typer.Argument(help="The IncidentRollback.")]
Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Its namespace.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="How to write the answer.")]
ToRevision = Annotated[
    int | None, typer.Option(min=1, help="Where to; absent: the last healthy revision.")
]
NoFollow = Annotated[bool, typer.Option("--no-follow", help="Ask, and do not wait for the end.")]


def workload_name(given: str) -> str:
    """
    Return NAME of `deploy/NAME`.

    Raises InvalidRequestError for anything else.
    """
    kind, _, name = given.partition("/")
    if kind.lower() not in KINDS or not name:
        raise InvalidRequestError(f"{given!r} is not of the form deploy/NAME")
    return name
