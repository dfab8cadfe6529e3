"""The workloads' API behind ports.Cluster: reads that change nothing, and one guarded patch."""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from incident_rollback.clients.connection import (
    CALL_SECONDS,
    MAX_MESSAGE,
    Answer,
    Connection,
    not_older_than,
    resource_path,
)
from incident_rollback.clients.referents import read_referents
from incident_rollback.clients.symptoms import read_nodes, read_warnings
from incident_rollback.clients.translate import (
    our_write_at,
    selector_of,
    template_patch,
    to_workload,
)
from incident_rollback.crd.v1alpha1 import FIELD_MANAGER, SERVICE_LABEL
from incident_rollback.domain.messages import safe
from incident_rollback.domain.raw import Json, child, children, text
from incident_rollback.domain.surroundings import (
    Reference,
    Referent,
    Trial,
    WarningEvent,
)
from incident_rollback.domain.template import template_key
from incident_rollback.domain.workload import Workload, WorkloadRef
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    RejectedError,
    StaleReadError,
    TransientError,
    UnavailableError,
)
from incident_rollback.ports import ClusterEvent, TemplatePatch

JSON_PATCH: Final = "application/json-patch+json"
MAX_EVENT_MESSAGE: Final = 1024
MAX_NAME: Final = 253
VALUE: Final = re.compile(
    r"(Invalid value|Duplicate value|Unsupported value|Too long)"
    r': (?:"(?:[^"\\]|\\.)*"|.*[}\])]|[^":]*)(: .*)?$',
    re.DOTALL,
)
"""A cause as field errors print it: what is wrong, the value, and often a detail."""
DENIED: Final = re.compile(r"denied (the )?request")
"""What webhooks and policies say, with whatever code."""
IN_APPS: Final = frozenset({"deployments", "replicasets"})


APPLICATION_SECONDS: Final = 1.0
"""An Argo CD Application is a help, and stands in nobody's way for long."""
SNAPSHOT_TRIES: Final = 3
"""A Deployment whose spec is changed that often within a moment is left for the next turn."""
TRIAL_SECONDS: Final = 2.0
"""A slow webhook delays the patch itself; a trial must not double that."""


class KubernetesCluster:
    """The workloads of the cluster behind one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def labelled_workloads(self, namespace: str, service: str) -> Sequence[WorkloadRef]:
        """Return the Deployments labelled with a service, by name."""
        found = await self._labelled(namespace, f"{SERVICE_LABEL}={service}")
        return [WorkloadRef(namespace, name) for name in sorted(text(m, "name") for m in found)]

    async def labelled_services(self, namespace: str) -> Mapping[str, str]:
        """Return the services that Deployments are labelled with, each with one of their names."""
        found = await self._labelled(namespace, SERVICE_LABEL)
        return {text(child(m, "labels"), SERVICE_LABEL): text(m, "name") for m in found}

    async def _labelled(self, namespace: str, selector: str) -> Sequence[Json]:
        """Return the metadata of the Deployments that a label selector matches."""
        path = _apps(namespace, "deployments")
        found = await self._connection.items(path, {"labelSelector": selector})
        return [child(deployment, "metadata") for deployment in found]

    async def read_workload(
        self, ref: WorkloadRef, *, at_a_glance: bool = False
    ) -> Workload | None:
        """
        Return one snapshot: the Deployment, then its ReplicaSets and pods at once.

        They are not older than the Deployment, so the counts may lag behind the pods, but the
        generation that a patch is guarded by is never newer than what it was judged on.  Nor may
        they belong to a later one: an old template beside new numbers looks like a revision that
        was brought back.  So the Deployment is read once more at the end, and all of it again
        when it was changed meanwhile; at a glance that is left to whoever asked.
        """
        deployment = await self._read_deployment(ref)
        for _ in range(SNAPSHOT_TRIES):
            if deployment is None:
                return None
            found = await self._read_dependents(ref, deployment)
            if at_a_glance:
                return to_workload(deployment, *found)
            again = await self._read_deployment(ref)
            if _spec_of(again) == _spec_of(deployment):
                return to_workload(deployment, *found)
            deployment = again
        raise UnavailableError(f"{ref} is changed faster than it can be read")

    async def is_still(self, workload: Workload) -> bool:
        """Say whether nobody has changed the Deployment's spec since it was read."""
        now = await self._read_deployment(workload.ref)
        return _spec_of(now) == (workload.uid, workload.generation)

    async def _read_deployment(self, ref: WorkloadRef) -> Json | None:
        answer = await self._connection.call("GET", _path(ref))
        if answer.status not in {200, 404}:
            raise UnavailableError(f"cannot read {ref}: {answer.message}")
        return answer.json if answer.status == 200 else None

    async def _read_dependents(
        self, ref: WorkloadRef, deployment: Json
    ) -> tuple[Sequence[Json], Sequence[Json]]:
        """Return the ReplicaSets and the pods that its selector matches."""
        matching = {
            "labelSelector": selector_of(deployment),
            **not_older_than(text(child(deployment, "metadata"), "resourceVersion")),
        }
        return await asyncio.gather(
            self._connection.items(_apps(ref.namespace, "replicasets"), matching),
            self._connection.items(_core(ref.namespace, "pods"), matching),
        )

    async def read_application(self, namespace: str, name: str) -> Json | None:
        """Return an Argo CD Application; None: it is not there, or we may not look at it."""
        path = resource_path(
            "apis", "argoproj.io", "v1alpha1", "namespaces", namespace, "applications", name
        )
        try:
            answer = await self._connection.call("GET", path, timeout=APPLICATION_SECONDS)
        except (ForbiddenError, UnavailableError):
            return None
        return answer.json if answer.status < 400 else None

    async def restore_template(self, patch: TemplatePatch) -> datetime:
        """Patch the template and our marker, if the workload is still the one judged."""
        answer = await self._patch(patch)
        if answer.status in {400, 422}:
            raise RejectedError(_reasons(answer))
        return our_write_at(answer.json) or answer.date or self._connection.clock.now()

    async def try_template(self, patch: TemplatePatch) -> Trial:
        """
        Let the API server play the patch through, admission included, and store nothing.

        A webhook that does not support a dry run answers 400: that is no refusal.  That nothing
        would change shows in the template alone, for our marker moves the generation.
        """
        try:
            answer = await self._patch(patch, {"dryRun": "All"}, TRIAL_SECONDS)
        except RejectedError as error:
            return Trial("Rejected", str(error))
        except TransientError as error:
            return Trial("Unknown", safe(str(error)))
        if answer.status == 400 and not DENIED.search(answer.message):
            return Trial("Unknown", safe(answer.message))
        if answer.status in {400, 422}:
            return Trial("Rejected", _reasons(answer))
        if template_key(child(answer.json, "spec", "template")) != template_key(patch.template):
            return Trial("Rejected", "admission would make another template of it")
        return Trial("Accepted")

    async def _patch(
        self,
        patch: TemplatePatch,
        how: Mapping[str, str] | None = None,
        timeout: float = CALL_SECONDS,  # noqa: ASYNC109  # it becomes the call's own
    ) -> Answer:
        """Send a guarded patch; raise StaleReadError when the guard failed."""
        try:
            answer = await self._connection.call(
                "PATCH",
                _path(patch.ref),
                query={"fieldManager": FIELD_MANAGER, **(how or {})},
                body=template_patch(patch),
                content_type=JSON_PATCH,
                timeout=timeout,
            )
        except ConflictError as error:
            raise StaleReadError(str(error)) from error
        except (InvalidRequestError, RejectedError) as error:
            raise RejectedError(safe(str(error))) from error
        if answer.status == 404:
            raise StaleReadError(f"{patch.ref} is gone")
        if answer.status == 422 and _is_bare(answer):
            raise StaleReadError(f"{patch.ref} was changed meanwhile")
        return answer

    async def read_referents(
        self, namespace: str, references: Collection[Reference]
    ) -> Mapping[Reference, Referent]:
        """Look behind each reference; what cannot be looked at is unknown."""
        return await read_referents(self._connection, namespace, references)

    async def read_warnings(
        self, namespace: str, uids: Collection[str]
    ) -> Mapping[str, WarningEvent | None]:
        """Return the latest Warning Event about each object, as far as we see any."""
        return await read_warnings(self._connection, namespace, uids)

    async def read_nodes(self, names: Collection[str]) -> Mapping[str, bool | None]:
        """Say of each node whether it is ready, as far as we may look."""
        return await read_nodes(self._connection, names)

    async def post_event(self, event: ClusterEvent) -> None:
        """Post an Event under a name of its own; one that is there already is success."""
        at = self._connection.clock.now()
        try:
            answer = await self._connection.call(
                "POST", _core(event.namespace, "events"), body=_to_event(event, at)
            )
        except ConflictError:
            return
        if answer.status == 404:
            raise UnavailableError(f"cannot post an Event: {answer.message}")
        if answer.status in {400, 422}:
            raise InvalidRequestError(answer.message)

    async def may(self, namespace: str, verb: str, resource: str) -> bool:
        """Ask the API server what it would say to us."""
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": "apps" if resource in IN_APPS else "",
            "resource": resource,
        }
        answer = await self._connection.call(
            "POST",
            resource_path("apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        return child(answer.json, "status").get("allowed") is True


def _apps(namespace: str, *parts: str) -> str:
    return resource_path("apis", "apps", "v1", "namespaces", namespace, *parts)


def _core(namespace: str, *parts: str) -> str:
    return resource_path("api", "v1", "namespaces", namespace, *parts)


def _spec_of(deployment: Json | None) -> tuple[object, object]:
    """Return what moves whenever a Deployment's spec is changed, or it is another one."""
    metadata = child(deployment or {}, "metadata")
    return metadata.get("uid"), metadata.get("generation")


def _path(ref: WorkloadRef) -> str:
    return _apps(ref.namespace, "deployments", ref.name)


def _is_bare(answer: Answer) -> bool:
    """
    Tell a failed `test` of the patch from a refusal: it names no object and no cause.

    A webhook may refuse with 422 and no details, but says that it denied the request.
    Source: apimachinery pkg/api/errors, NewGenericServerResponse.
    """
    details = child(answer.json, "details")
    says_why = any(details.get(key) for key in ("name", "kind", "causes"))
    return not says_why and not DENIED.search(answer.message)


def _reasons(answer: Answer) -> str:
    """
    Return why the patched object was refused, without the values that were.

    The server quotes them, and for a template it cannot read all of the object: there may be
    values of env among them.
    """
    causes = children(child(answer.json, "details"), "causes")
    return "; ".join(map(_cause, causes))[:MAX_MESSAGE] or safe(answer.message)


def _cause(cause: Json) -> str:
    field, message = text(cause, "field"), text(cause, "message")
    found = VALUE.match(message)
    told = found.expand(r"\1\2") if found else safe(message)
    return f"{field}: {told}" if field else told


def _to_event(event: ClusterEvent, at: datetime) -> Json:
    suffix = f".{event.uid[:8]}-{event.key}"
    time = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": event.name[: MAX_NAME - len(suffix)].rstrip("-.") + suffix,
            "namespace": event.namespace,
        },
        "involvedObject": {
            "apiVersion": event.api_version,
            "kind": event.kind,
            "namespace": event.namespace,
            "name": event.name,
            "uid": event.uid,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:MAX_EVENT_MESSAGE],
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "count": 1,
        "firstTimestamp": time,
        "lastTimestamp": time,
    }
