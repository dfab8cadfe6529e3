"""
The API server's audit log: the witness for who did what, and how often.

The API server writes a line when it has answered, so a line may be a moment late: count only after
`settle`.  What is in the log, and how much of each request, `audit-policy.yaml` says.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.sandbox.api import Api, path_to
from tests.sandbox.waiting import PATIENCE_SECONDS, wait_for

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
TAIL = 65_536
"""So many bytes are looked through at a time for the end of a line."""


@dataclass(frozen=True)
class AuditRecord:
    """One request that was answered.  Words that do not apply are empty, never None."""

    audit_id: str
    user: str
    verb: str
    """In Kubernetes' words: get, list, watch, create, update, patch, delete, deletecollection."""
    group: str
    """The API group; empty for the core group."""
    resource: str
    subresource: str
    namespace: str
    name: str
    """Empty where the server was to generate it, or where the request is about a collection."""
    code: int
    user_agent: str
    field_manager: str
    """As given in the query; without it the server takes it from the user agent."""
    is_dry_run: bool
    received_at: datetime
    answered_at: datetime
    request_object: Any
    """The body, for a write that the policy keeps whole: an object, or a list of patch steps."""
    response_object: Any
    uri: str

    @property
    def is_write(self) -> bool:
        """A dry run writes nothing."""
        return self.verb in WRITES and not self.is_dry_run

    @property
    def is_success(self) -> bool:
        return 200 <= self.code < 300

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.subresource) if part)
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.received_at:%H:%M:%S.%f} {self.user} {self.verb} {what} {where} {self.code}"


@dataclass(frozen=True)
class AuditLog:
    """The log of one API server, over its restarts."""

    path: Path

    def mark(self) -> int:
        """
        Return where the log ends now, to hand to `records` later.

        That is after its last whole line: another may be half-written.
        """
        if not self.path.exists():
            return 0
        with self.path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            while end > 0:
                begin = max(0, end - TAIL)
                log.seek(begin)
                if (newline := log.read(end - begin).rfind(b"\n")) >= 0:
                    return begin + newline + 1
                end = begin
        return 0

    def records(self, since: int = 0) -> list[AuditRecord]:
        """Return every answered request after a mark, in the order of the answers."""
        return list(self._records(since))

    def where(
        self,
        *,
        since: int = 0,
        user: str | None = None,
        verb: str | None = None,
        group: str | None = None,
        resource: str | None = None,
        subresource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        writes: bool | None = None,
    ) -> list[AuditRecord]:
        """Return the answered requests that agree with everything given; `user` may be a suffix."""
        wanted = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
            "is_write": writes,
        }
        asked = {key: value for key, value in wanted.items() if value is not None}
        return [
            record
            for record in self._records(since)
            if record.user.endswith(user or "")
            and all(getattr(record, key) == value for key, value in asked.items())
        ]

    def wait_for(
        self,
        is_it: Callable[[AuditRecord], bool],
        what: str,
        *,
        since: int = 0,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> AuditRecord:
        """Return the first record that `is_it` accepts, as soon as there is one."""
        return wait_for(
            lambda: next(filter(is_it, self._records(since)), None),
            what,
            timeout_seconds=timeout_seconds,
            seen=lambda: "\n".join(str(record) for record in self.records(since)[-20:]),
        )

    def settle(self, admin: Api) -> None:
        """
        Return when everything that was answered before this call is in the log.

        It asks for a dry run of its own and waits to read about that.
        """
        since = self.mark()
        config_map = {"metadata": {"generateName": "audit-settle-"}}
        admin.create(path_to("v1", "configmaps", "default"), config_map, dryRun="All")
        self.wait_for(
            lambda record: record.is_dry_run and record.resource == "configmaps",
            "the audit log to catch up",
            since=since,
        )

    def _records(self, since: int) -> Iterator[AuditRecord]:
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            log.seek(since)
            for line in log:
                # The last line may be half-written; the next look will see it whole.
                if line.endswith(b"\n") and (record := parse(line)) is not None:
                    yield record


def parse(line: bytes) -> AuditRecord | None:
    """Return the record of one line, or None for any stage but the answer's completion."""
    event: dict[str, Any] = json.loads(line)
    if event["stage"] != "ResponseComplete":
        return None
    reference: dict[str, Any] = event.get("objectRef") or {}
    answer: dict[str, Any] = event.get("responseStatus") or {}
    uri: str = event["requestURI"]
    query = parse_qs(urlsplit(uri).query)
    return AuditRecord(
        audit_id=event["auditID"],
        user=event["user"]["username"],
        verb=event["verb"],
        group=reference.get("apiGroup", ""),
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=answer.get("code", 0),
        user_agent=event.get("userAgent", ""),
        field_manager=query.get("fieldManager", [""])[0],
        is_dry_run="dryRun" in query,
        received_at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        answered_at=datetime.fromisoformat(event["stageTimestamp"]),
        request_object=event.get("requestObject"),
        response_object=event.get("responseObject"),
        uri=uri,
    )
