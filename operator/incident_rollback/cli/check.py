"""
Would it work tonight?  Whether a controller is there, every RollbackEnvironment, and every service
that it leads to by name.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from incident_rollback.cli.options import Exit
from incident_rollback.cli.page import Answer, Grid, Page
from incident_rollback.cli.rehearsal import Rehearsal, TakeTurn, rehearse
from incident_rollback.cli.session import Session, session
from incident_rollback.clients.lease import KubernetesLeases
from incident_rollback.crd.v1alpha1 import (
    GROUP,
    Phase,
    RollbackEnvironment,
)
from incident_rollback.domain.conditions import get
from incident_rollback.domain.environment import WILDCARD, labels_of
from incident_rollback.domain.lease import LEASE_NAME, attendance_of
from incident_rollback.domain.words import span
from incident_rollback.domain.workload import Workload
from incident_rollback.errors import ForbiddenError
from incident_rollback.ports import Leases
from incident_rollback.settings import read_settings

NEEDED_REVISIONS: Final = 2
READY: Final[Mapping[bool | None, str]] = {True: "yes", False: "no", None: "unknown"}
OLD: Final = timedelta(minutes=15)
"""A verdict of the controller that is older than this is shown with its age."""


MAX_SERVICES: Final = 200
"""Labelled services of one namespace that are looked at."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A service of an environment, by the names that an incident would use."""

    service: str
    environment: str
    workload: str
    """`namespace/name` of what it leads to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of the controllers, of an environment, or of one of its services."""

    environment: str
    """Empty: the controllers."""
    service: str
    """Empty: the environment itself."""
    workload: str
    is_ready: bool | None
    """None: whoever asks may not look."""
    revisions: int
    """Functionally different ones."""
    owner: str
    message: str


async def check(take_turn: TakeTurn, home: str) -> Answer:
    """Look at every environment of the home namespace, and for a controller; not ready is no."""
    async with session(home=home) as opened:
        environments = await opened.store().list_environments()
        findings: list[Finding] = []
        if read_settings().leader_elect:
            leases = KubernetesLeases(opened.connection, opened.home)
            findings.append(await look_for_controllers(leases, opened.clock.now(), opened.home))
        for environment in environments:
            findings.append(judge_environment(environment, opened.clock.now()))
            pairs = [*pairs_of(environment)]
            pairs += await _labelled(opened, environment, {pair.workload for pair in pairs})
            findings += [await _look(take_turn, opened, environment, pair) for pair in pairs]
    names = tuple(f"rollbackenvironment.{GROUP}/{e.metadata.name}" for e in environments)
    page, data = check_page(findings, opened.home), check_data(findings)
    return Answer(page, data, names, exit_of(findings))


async def look_for_controllers(leases: Leases, now: datetime, home: str) -> Finding:
    """
    Say which controller leads, by the Lease that it renews, or since when none was seen.

    Raises RollbackError of all but a missing right: that is a finding, too.
    """
    try:
        is_ready, message = attendance_of(await leases.read(), now, home)
    except ForbiddenError as error:
        message = f"whether a controller is there is not known: {error}"
        return Finding("", "", f"{home}/{LEASE_NAME}", None, 0, "", message)
    if not is_ready:
        message += (
            "; where one runs without a Lease, set INCIDENT_ROLLBACK_LEADER_ELECT=false here, too"
        )
    return Finding("", "", f"{home}/{LEASE_NAME}", is_ready, 0, "", message)


def exit_of(findings: Sequence[Finding]) -> Exit:
    """Return the exit code: a no weighs more than what one may not look at."""
    is_mapped = any(one.environment for one in findings)
    if not is_mapped or any(one.is_ready is False for one in findings):
        return Exit.NO
    is_all_known = all(one.is_ready is not None for one in findings)
    return Exit.FINE if is_all_known else Exit.WRONG_USE


async def _labelled(
    opened: Session, environment: RollbackEnvironment, listed: Collection[str]
) -> Sequence[Pair]:
    """Return the services that label a workload of the environment and are not listed."""
    found: list[Pair] = []
    for name, namespace in namespaces_of(environment).items():
        services = await opened.cluster.labelled_services(namespace)
        pairs = (Pair(s, name, f"{namespace}/{w}") for s, w in sorted(services.items()))
        found += [pair for pair in pairs if pair.workload not in listed][:MAX_SERVICES]
    return found


async def _look(
    take_turn: TakeTurn, opened: Session, environment: RollbackEnvironment, pair: Pair
) -> Finding:
    """Rehearse a rollback of a service, as the incident would ask for it."""
    seen = await rehearse(
        take_turn,
        opened.store(),
        opened.cluster,
        opened.clock,
        opened.home,
        namespace=opened.home,
        spec={"service": {"name": pair.service, "environment": pair.environment}},
    )
    return judge_service(environment, pair, seen)


def judge_environment(environment: RollbackEnvironment, now: datetime) -> Finding:
    """
    Say what the controller found of an environment.

    It writes only what is news, so that an old verdict still stands; its age is shown.
    """
    is_ready, message = _verdict(environment, now)
    return Finding(environment.metadata.name, "", "", is_ready, 0, "", message)


def judge_service(environment: RollbackEnvironment, pair: Pair, seen: Rehearsal) -> Finding:
    """Say whether a rollback of a service would work, by a rehearsal of it."""
    workload, status = seen.workload, seen.rollback.status
    ready = get(status.conditions, "Ready")
    depth = depth_of(workload)
    is_shallow = workload is not None and depth < NEEDED_REVISIONS
    would_work = status.phase in (Phase.PREVIEWED, Phase.SUCCEEDED)
    if is_shallow:
        message = (
            f"its history has {depth} of {NEEDED_REVISIONS} different revisions: "
            "there is nothing to go back to yet"
        )
    elif status.phase is Phase.PREVIEWED and status.to is not None:
        message = f"would go back to revision {status.to.revision}"
    else:
        message = f"{ready.reason}: {ready.message}" if ready else "nothing can be said yet"
    return Finding(
        environment=environment.metadata.name,
        service=pair.service,
        workload=pair.workload,
        is_ready=would_work and not is_shallow,
        revisions=depth,
        owner=", ".join(f"{owner.tool} ({owner.reverts})" for owner in seen.owners),
        message=message,
    )


def depth_of(workload: Workload | None) -> int:
    """Return how many functionally different revisions a workload has, the live one included."""
    return len({r.key for r in workload.revisions if r.numbers}) if workload else 0


def namespaces_of(environment: RollbackEnvironment) -> Mapping[str, str]:
    """Return the namespaces that are known, each under a name to ask for the environment by."""
    fixed = environment.spec.namespace
    if fixed:
        return dict.fromkeys(_names_of(environment)[:1], fixed)
    return {name: name for name in sorted(labels_of(environment))}


def _names_of(environment: RollbackEnvironment) -> Sequence[str]:
    """Return the names to ask for an environment by; of "*" alone one that nobody else has."""
    names = sorted(labels_of(environment))
    if WILDCARD in environment.spec.environments and not names:
        return [f"check-{secrets.token_hex(4)}"]
    return names


def pairs_of(environment: RollbackEnvironment) -> Iterator[Pair]:
    """
    Yield the services that are listed, each with an environment's name to ask for it by.

    One name is enough where all lead to one namespace.  "*" alone leads to the namespace of each
    name: which one that will be is not known.
    """
    spec, names = environment.spec, _names_of(environment)
    for service in spec.services:
        fixed = service.workload.namespace or spec.namespace
        if fixed:
            yield Pair(service.name, names[0], f"{fixed}/{service.workload.name}")
        elif WILDCARD not in spec.environments or labels_of(environment):
            for name in names:
                yield Pair(service.name, name, f"{name}/{service.workload.name}")


def check_page(findings: Sequence[Finding], home: str) -> Page:
    """Return what was found, a line each."""
    unmapped = f"There is no RollbackEnvironment in {home}: no service leads to a workload."
    if not findings:
        return [unmapped]
    head = ("ENVIRONMENT", "SERVICE", "WORKLOAD", "READY", "REVISIONS", "OWNER", "MESSAGE")
    rows = tuple(
        (
            one.environment or "-",
            one.service or "-",
            one.workload or "-",
            READY[one.is_ready],
            str(one.revisions) if one.service else "-",
            one.owner or "-",
            one.message,
        )
        for one in findings
    )
    is_mapped = any(one.environment for one in findings)
    return [Grid(head, rows), "", _summary(findings) if is_mapped else unmapped]


def _summary(findings: Sequence[Finding]) -> str:
    missing = sum(one.is_ready is False for one in findings)
    if missing:
        return f"{missing} of {len(findings)} not ready"
    if any(one.is_ready is None for one in findings):
        return "All that you may look at would work now; of the rest nothing is known."
    return "All of it would work now."


def check_data(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Return the same for programs."""
    return [
        {
            "environment": one.environment,
            "service": one.service,
            "workload": one.workload,
            "ready": one.is_ready,
            "revisions": one.revisions,
            "owner": one.owner,
            "message": one.message,
        }
        for one in findings
    ]


def _verdict(environment: RollbackEnvironment, now: datetime) -> tuple[bool, str]:
    status = environment.status
    ready = get(status.conditions, "Ready")
    if environment.spec.suspend:
        return False, "its red switch is on: set spec.suspend to false"
    if ready is None:
        return False, "the controller has not looked at it: is it running?"
    if status.observed_generation < environment.metadata.generation:
        return False, "the controller has not looked at it since it was changed: is it running?"
    age = now - ready.last_transition_time if ready.last_transition_time else timedelta()
    since = f" (so since {span(age)})" if age > OLD else ""
    if ready.status != "True":
        return False, f"{ready.reason}: {ready.message}{since}"
    return True, f"{ready.message}{since}"
