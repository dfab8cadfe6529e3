"""Asking for a rollback: what is made, and following it.  No workload is changed from here."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from incident_rollback.cli.follow import exit_of, follow
from incident_rollback.cli.options import Exit
from incident_rollback.cli.page import Answer
from incident_rollback.cli.session import session
from incident_rollback.cli.show import as_data, full_name
from incident_rollback.crd.v1alpha1 import API_VERSION, IncidentRollback, Phase
from incident_rollback.domain.conditions import get
from incident_rollback.domain.raw import Json
from incident_rollback.errors import InvalidRequestError
from incident_rollback.ports import Clock, Store

MAX_NAME: Final = 253
APPROVABLE: Final = frozenset({"ApprovalRequired", "PlanChanged", "Previewed"})
"""The reasons of Ready of what may be approved."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a rollback cannot be approved."""

    why: str


async def ask_for_rollback(
    workload: str,
    namespace: str,
    to_revision: int | None,
    say: Say,
    *,
    dry_run: bool,
    is_followed: bool,
) -> Answer:
    """Make an IncidentRollback for a workload, and follow it to its end."""
    manifest = rollback_manifest(workload, namespace, to_revision, dry_run=dry_run)
    async with session() as opened:
        store = opened.store(namespace)
        made, _ = await store.create(manifest)
        say(f"incidentrollback {made.metadata.name} was made")
        return await answer_for(store, opened.clock, made, say, is_followed=is_followed)


async def approve(name: str, namespace: str, say: Say, *, is_followed: bool) -> Answer:
    """Ask for what was shown: the same request, with the digest of its plan."""
    async with session() as opened:
        store = opened.store(namespace)
        shown = await store.get(namespace, name)
        if shown is None:
            raise InvalidRequestError(f"there is no IncidentRollback {name} in {namespace}")
        manifest = approval_manifest(shown)
        if isinstance(manifest, Refused):
            say(manifest.why)
            return Answer((), as_data(shown), (full_name(shown),), Exit.NO)
        made, is_new = await store.create(manifest)
        if not is_new and made.spec.plan_digest != manifest["spec"]["planDigest"]:
            raise InvalidRequestError(f"{made.metadata.name} is there, and asks for another plan")
        said = "was made" if is_new else "was made already"
        say(f"incidentrollback {made.metadata.name} {said}")
        return await answer_for(store, opened.clock, made, say, is_followed=is_followed)


async def answer_for(
    store: Store,
    clock: Clock,
    made: IncidentRollback,
    say: Say,
    *,
    is_followed: bool,
    timeout_seconds: float | None = None,
) -> Answer:
    """Follow a rollback, and return it with its exit code."""
    namespace, name = made.metadata.namespace, made.metadata.name
    if not is_followed:
        say(f"Follow it: kubectl irb wait {name} -n {namespace}")
        return Answer((), as_data(made), (full_name(made),))
    last = await follow(store, clock, namespace, name, say, timeout_seconds=timeout_seconds)
    if last is None:
        say(f"incidentrollback {name} was deleted")
        return Answer((), as_data(made), (full_name(made),), Exit.NO)
    code = exit_of(last)
    if code is Exit.TIMED_OUT:
        say(f"{name} is not over; go on: kubectl irb wait {name} -n {namespace}")
    return Answer((), as_data(last), (full_name(last),), code)


def rollback_manifest(
    workload: str, namespace: str, to_revision: int | None, *, dry_run: bool
) -> Json:
    """Return a request for a workload of a namespace."""
    name = f"{workload[:50].rstrip('-.')}-{secrets.token_hex(4)}"
    spec = {**target_spec(workload, to_revision), "dryRun": dry_run}
    return _manifest(name, namespace, {**spec, "requestedBy": "kubectl irb rollback"})


def target_spec(workload: str, to_revision: int | None) -> Json:
    """Return the part of a spec that says what shall go back, and where to."""
    spec: Json = {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload}}
    return spec if to_revision is None else {**spec, "to": {"revision": to_revision}}


def approval_manifest(shown: IncidentRollback) -> Json | Refused:
    """
    Return the request that approves the plan that another one shows.

    It is asked for now and not as a dry run, whatever the other was; all else is the same.
    """
    status, metadata = shown.status, shown.metadata
    ready = get(status.conditions, "Ready")
    reason = ready.reason if ready else ""
    is_over = status.phase in (Phase.REFUSED, Phase.PREVIEWED)
    if not is_over or reason not in APPROVABLE:
        stands = f"{status.phase}{f' ({reason})' if reason not in ('', status.phase) else ''}"
        return Refused(
            f"{metadata.name} is {stands}: only what was previewed, or refused with "
            "ApprovalRequired or PlanChanged, can be approved"
        )
    if status.plan is None:
        return Refused(f"{metadata.name} shows no plan: preview it again, and approve that")
    digest = status.plan.digest
    suffix = f"-approved-{digest.removeprefix('sha256:')[:6]}"
    spec: Json = shown.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    spec.pop("requestedAt", None)
    spec.update(dryRun=False, planDigest=digest, requestedBy="kubectl irb approve")
    name = metadata.name[: MAX_NAME - len(suffix)].rstrip("-.") + suffix
    return _manifest(name, metadata.namespace, spec)


def _manifest(name: str, namespace: str, spec: Json) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentRollback",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
