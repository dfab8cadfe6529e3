"""What the tests of every tool do and read alike."""

import shlex
from collections.abc import Callable
from typing import Final

from tests.e2e.stage import Stage, condition
from tests.sandbox.api import Json
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.workloads import GOOD_IMAGE, a_deployment

SERVICE: Final = "checkout"
CALM: Final = {"stableSeconds": 1, "holdSeconds": 2}
"""A rollback that nobody disturbs is over soon."""
LONG: Final = {"stableSeconds": 100, "holdSeconds": 100}
"""It is watched for longer than a tool takes to disturb it."""

Commit = Callable[[Json], None]
"""Puts a Deployment into a source, and returns when the tool has applied it."""


def release_a_bad_one(stage: Stage, commit: Commit) -> None:
    """Have the tool deploy a good revision, and then one that crash-loops."""
    commit(a_deployment(SERVICE, stage.namespace, GOOD_IMAGE))
    stage.wait_complete()
    commit(a_deployment(SERVICE, stage.namespace, BROKEN_IMAGE))
    stage.wait_broken()


def refused(stage: Stage, name: str) -> str:
    """See that a rollback is refused for its source's sake and did nothing; return why."""
    before = stage.deployment()["metadata"]["generation"]
    status = stage.wait_phase(name, "Refused", "ReconciledFromSource")
    stage.wait_settled(name)
    assert stage.attempts() == []
    assert stage.deployment()["metadata"]["generation"] == before
    assert stage.images() == [BROKEN_IMAGE]
    assert "patchedAt" not in status
    return message_of(status)


def rolled_back(stage: Stage, name: str) -> Json:
    """See that a rollback goes through with one patch, and holds; return the status."""
    stage.wait_phase(name, "Succeeded", "RolledBack")
    status = stage.wait_settled(name)
    held = condition(status, "Held")
    assert held is not None
    assert held["status"] == "True", held
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1
    return status


def message_of(status: Json) -> str:
    """Return what Ready says."""
    ready = condition(status, "Ready")
    assert ready is not None
    message: str = ready["message"]
    return message


def owner_of(status: Json) -> Json:
    """Return the one owner of the workload that a status tells of."""
    owners: list[Json] = status["target"]["managedBy"]
    (owner,) = owners
    return owner


def run(stage: Stage, command: str) -> None:
    """Run a kubectl command that a message tells people to run, with an admin's rights."""
    tool, *args = shlex.split(command)
    assert tool == "kubectl"
    stage.sandbox.kubectl.run(*args)
