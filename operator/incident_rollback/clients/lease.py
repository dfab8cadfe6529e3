"""The controllers' Lease behind ports.Leases: one object, written by resourceVersion."""

from datetime import UTC, datetime
from typing import Final

from incident_rollback.clients.connection import Answer, Connection, resource_path
from incident_rollback.crd.v1alpha1 import FIELD_MANAGER
from incident_rollback.domain.lease import LEASE_NAME, LEASE_SECONDS, Lease
from incident_rollback.domain.raw import Json, child, number, text
from incident_rollback.errors import ConflictError, InvalidRequestError, UnavailableError

LABELS: Final = {
    "app.kubernetes.io/name": "incident-rollback",
    "app.kubernetes.io/component": "controller",
}


class KubernetesLeases:
    """The Lease `incident-rollback-controller` of the home namespace."""

    def __init__(self, connection: Connection, home: str) -> None:
        self._connection = connection
        self._home = home
        self._all = resource_path("apis", "coordination.k8s.io", "v1", "namespaces", home, "leases")
        self._path = f"{self._all}/{LEASE_NAME}"

    async def read(self) -> Lease | None:
        """Return the Lease, or None when there is none."""
        answer = await self._connection.call("GET", self._path)
        return None if answer.status == 404 else _lease(_accepted(answer))

    async def write(self, lease: Lease) -> Lease:
        """Create it, or write it over the version that it was read with."""
        method, path = ("PUT", self._path) if lease.version else ("POST", self._all)
        answer = await self._connection.call(
            method, path, query={"fieldManager": FIELD_MANAGER}, body=self._body(lease)
        )
        if answer.status == 404:
            # Of a create, it is the namespace that is not there.
            kind = ConflictError if lease.version else UnavailableError
            raise kind(f"the Lease cannot be written: {answer.message}")
        return _lease(_accepted(answer))

    def _body(self, lease: Lease) -> Json:
        version = {"resourceVersion": lease.version} if lease.version else {}
        metadata = {"name": LEASE_NAME, "namespace": self._home, "labels": LABELS, **version}
        spec = {
            "holderIdentity": lease.holder or None,  # As client-go lets go of one.
            "leaseDurationSeconds": lease.seconds,
            "acquireTime": _micro_time(lease.acquired_at),
            "renewTime": _micro_time(lease.renewed_at),
            "leaseTransitions": lease.transitions,
        }
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }


def _accepted(answer: Answer) -> Json:
    if answer.status >= 400:
        raise InvalidRequestError(answer.message)
    return answer.json


def _lease(raw: Json) -> Lease:
    spec = child(raw, "spec")
    return Lease(
        holder=text(spec, "holderIdentity"),
        seconds=number(spec, "leaseDurationSeconds") or LEASE_SECONDS,
        acquired_at=_instant(text(spec, "acquireTime")),
        renewed_at=_instant(text(spec, "renewTime")),
        transitions=number(spec, "leaseTransitions"),
        version=text(child(raw, "metadata"), "resourceVersion"),
    )


def _micro_time(at: datetime | None) -> str | None:
    """Return an instant as Kubernetes' MicroTime, which has exactly six decimals."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}" if at is not None else None


def _instant(given: str) -> datetime | None:
    """Return the instant of a MicroTime; the API server has checked it, and empty is None."""
    return datetime.fromisoformat(given) if given else None
