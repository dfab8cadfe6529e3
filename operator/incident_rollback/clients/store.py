"""Our own resources behind ports.Store: read as models, written one status at a time."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from pydantic import ValidationError

from incident_rollback.clients.connection import (
    Answer,
    Connection,
    not_older_than,
    resource_path,
)
from incident_rollback.crd.v1alpha1 import (
    ENVIRONMENTS,
    FIELD_MANAGER,
    GROUP,
    ROLLBACKS,
    VERSION,
    IncidentRollback,
    RollbackEnvironment,
)
from incident_rollback.domain.raw import Json, child, text
from incident_rollback.errors import (
    ConflictError,
    InvalidRequestError,
    RejectedError,
    UnavailableError,
)

OTHER_UID: Final = "UID in precondition"
"""How the API server says that the object it has is not the one that was meant."""

_log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", IncidentRollback, RollbackEnvironment)


class KubernetesStore:
    """The IncidentRollbacks of all namespaces, and what lives in the home namespace."""

    def __init__(self, connection: Connection, home: str) -> None:
        self._connection = connection
        self._home = home
        self._listed: WeakValueDictionary[tuple[str, str], IncidentRollback] = WeakValueDictionary()

    async def create(self, manifest: Mapping[str, Any]) -> tuple[IncidentRollback, bool]:
        """Create a resource in the home namespace, or return the one that has its name."""
        try:
            answer = await self._connection.call(
                "POST",
                _path(ROLLBACKS, self._home),
                query={"fieldManager": FIELD_MANAGER},
                body=dict(manifest),
            )
        except ConflictError:
            return await self._read_existing(text(child(manifest, "metadata"), "name")), False
        except RejectedError as error:
            raise InvalidRequestError(str(error)) from error
        if answer.status == 404:
            raise UnavailableError(f"cannot create an IncidentRollback: {answer.message}")
        return _read(IncidentRollback, _accepted(answer)), True

    async def get(self, namespace: str, name: str) -> IncidentRollback | None:
        """Return the resource, or None when there is none."""
        answer = await self._connection.call("GET", _path(ROLLBACKS, namespace, name))
        return None if answer.status == 404 else _read(IncidentRollback, _accepted(answer))

    async def save(self, rollback: IncidentRollback) -> IncidentRollback | None:
        """
        Write the status over the version it was decided on.

        A resource of the same name with another uid is another one: ours is gone.
        """
        try:
            answer = await self._put_status(ROLLBACKS, rollback)
        except ConflictError as error:
            if OTHER_UID in str(error):
                return None
            raise
        return None if answer.status == 404 else _read(IncidentRollback, _accepted(answer))

    async def list_rollbacks(
        self, *, namespace: str | None = None, fields: str = "", since: str = ""
    ) -> Sequence[IncidentRollback]:
        """Return the resources that match a field selector; what is no such resource is logged."""
        query = {"fieldSelector": fields} if fields else {}
        found = await self._connection.items(
            _path(ROLLBACKS, namespace), {**query, **not_older_than(since)}
        )
        return _readable(self._read_once, found)

    async def list_environments(self, *, may_lag: bool = False) -> Sequence[RollbackEnvironment]:
        """Return the RollbackEnvironments of the home namespace."""
        query = {"resourceVersion": "0"} if may_lag else {}
        found = await self._connection.items(_path(ENVIRONMENTS, self._home), query)
        return _readable(partial(_read, RollbackEnvironment), found)

    async def get_environment(self, name: str) -> RollbackEnvironment | None:
        """Return the RollbackEnvironment, or None when there is none."""
        answer = await self._connection.call("GET", _path(ENVIRONMENTS, self._home, name))
        return None if answer.status == 404 else _read(RollbackEnvironment, _accepted(answer))

    async def save_environment(self, environment: RollbackEnvironment) -> None:
        """Write the status of an environment; a conflict is left for the next round."""
        try:
            answer = await self._put_status(ENVIRONMENTS, environment)
        except ConflictError:
            return
        if answer.status != 404:
            _accepted(answer)

    def _read_once(self, raw: Json) -> IncidentRollback:
        """
        Return the resource, one object for all who hold the same version of it.

        Fifty rollbacks at once list each other: with objects of their own they take 40 MB, and
        most of their time goes into making those and collecting them.
        """
        metadata = child(raw, "metadata")
        version = text(metadata, "uid"), text(metadata, "resourceVersion")
        if not all(version):
            return _read(IncidentRollback, raw)
        known = self._listed.get(version)
        if known is None:
            known = self._listed[version] = _read(IncidentRollback, raw)
        return known

    async def _put_status(
        self, plural: str, resource: IncidentRollback | RollbackEnvironment
    ) -> Answer:
        # The server takes the status of the body and nothing else: the spec is there only
        # because the schema asks for one, and labels and annotations stay as they are.
        metadata = resource.metadata
        return await self._connection.call(
            "PUT",
            _path(plural, metadata.namespace, metadata.name, "status"),
            query={"fieldManager": FIELD_MANAGER},
            body=resource.model_dump(mode="json", by_alias=True, exclude_none=True),
        )

    async def _read_existing(self, name: str) -> IncidentRollback:
        existing = await self.get(self._home, name)
        if existing is None:
            raise UnavailableError(f"{name} was there, and is gone again")
        return existing


def _path(plural: str, namespace: str | None, *parts: str) -> str:
    within = ("namespaces", namespace) if namespace is not None else ()
    return resource_path("apis", GROUP, VERSION, *within, plural, *parts)


def _accepted(answer: Answer) -> Json:
    if answer.status >= 400:
        raise InvalidRequestError(answer.message)
    return answer.json


def _read(kind: type[_Kind], raw: Json) -> _Kind:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise InvalidRequestError(f"{_named(raw)} cannot be read: {error}") from error


def _readable(read: Callable[[Json], _Kind], found: Iterable[Json]) -> list[_Kind]:
    """Return those that can be read: one that is broken must not stop the others."""
    readable: list[_Kind] = []
    for raw in found:
        try:
            readable.append(read(raw))
        except InvalidRequestError as error:
            _log.warning("skipped %s", error)
    return readable


def _named(raw: Json) -> str:
    metadata = child(raw, "metadata")
    return f"{text(raw, 'kind')} {text(metadata, 'namespace')}/{text(metadata, 'name')}"
