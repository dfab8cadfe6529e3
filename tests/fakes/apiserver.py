"""A stand-in API server over HTTP: what the real clients are tested against."""

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from aiohttp import web
from aiohttp.test_utils import TestServer

from incident_rollback.domain.raw import Json, child, text

BARE_422: Json = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "the server rejected our request due to an error in our request",
    "reason": "Invalid",
    "details": {},
    "code": 422,
}
"""What a failed `test` is answered with, byte for byte."""


def status(code: int, message: str, **more: Any) -> Json:
    """Return a Status object, as the API server's errors are."""
    named: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**named, "code": code, "message": message, **more}


@dataclass(frozen=True)
class Fault:
    """One answer that is not what the objects would give."""

    code: int = 500
    body: Json | str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stall_seconds: float = 0.0
    drops: bool = False
    """Close the connection instead of answering."""
    happens: bool = False
    """Do what was asked for first: then only the answer is lost."""


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    port: int
    """The client's: one for each connection."""


@dataclass
class FakeApiServer:
    """
    Keeps raw objects by path; reads, lists, creates, replaces, patches, and writes statuses.

    Kinder than the real one: no schema, no admission, no authorization, no history, no list that
    lags, selectors of equality only, and of JSON patch only `test`, `replace` and `add`.  Each
    fault in `faults` replaces one answer, in order.
    """

    objects: dict[str, Json] = field(default_factory=dict[str, Json])
    faults: list[Fault] = field(default_factory=list[Fault])
    seen: list[Seen] = field(default_factory=list[Seen])
    denied: set[tuple[str, str, str]] = field(default_factory=set[tuple[str, str, str]])
    """What a SelfSubjectAccessReview says no to: namespace, verb, resource."""
    page: int = 500
    """Never more items than that in one page."""
    at: datetime = datetime(2026, 11, 23, 2, 14, tzinfo=UTC)
    version: dict[str, str] = field(default_factory=lambda: {"major": "1", "minor": "36+"})
    host: str = ""
    _version: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[str]:
        """Serve on a free port of the loopback; give the address."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with TestServer(app) as server:
            self.host = str(server.make_url("")).rstrip("/")
            yield self.host

    def put(self, path: str, raw: Json) -> None:
        """Arrange or replace an object as it is, but for the version."""
        self._version += 1
        stored = copy.deepcopy(raw)
        stored.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.objects[path] = stored

    async def _answer(self, request: web.Request) -> web.Response:
        raw = await request.text()
        body = json.loads(raw) if raw else None
        headers = {key.lower(): value for key, value in request.headers.items()}
        assert request.transport is not None
        port = request.transport.get_extra_info("peername")[1]
        seen = Seen(request.method, request.path, dict(request.query), headers, body, port)
        self.seen.append(seen)
        if not self.faults:
            return self._json(*self._respond(seen))
        fault = self.faults.pop(0)
        if fault.happens:
            self._respond(seen)
        await asyncio.sleep(fault.stall_seconds)
        if fault.drops:
            request.transport.close()
        return self._json(fault.code, fault.body, fault.headers)

    def _json(
        self, code: int, body: Json | str, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        given = {"Date": f"{self.at:%a, %d %b %Y %H:%M:%S GMT}", **(headers or {})}
        payload = body if isinstance(body, str) else json.dumps(body)
        return web.Response(
            status=code, text=payload, headers=given, content_type="application/json"
        )

    def _respond(self, seen: Seen) -> tuple[int, Json]:
        if seen.path == "/version":
            return 200, {**self.version}
        if seen.path.endswith("/selfsubjectaccessreviews"):
            return 201, self._review(seen.body)
        match seen.method:
            case "GET" if seen.path in self.objects:
                return 200, _as_asked_for(self.objects[seen.path], seen.headers["accept"])
            case "GET" if seen.path.endswith("s") and self._is_collection(seen.path):
                return self._list(seen)
            case "POST":
                return self._create(seen)
            case "PATCH" if seen.path in self.objects:
                return self._patch(seen)
            case "PUT" if seen.path in self.objects:
                return self._replace(seen.path, seen.body)
            case "PUT" if (path := seen.path.removesuffix("/status")) in self.objects:
                return self._put_status(path, seen.body)
            case _:
                *_, plural, name = seen.path.split("/")
                details = {"name": name, "kind": plural}
                return 404, status(
                    404, f"{seen.path} not found", reason="NotFound", details=details
                )

    def _is_collection(self, path: str) -> bool:
        parts = path.strip("/").split("/")
        after_version = parts[3:] if parts[0] == "apis" else parts[2:]
        return len(after_version) in {1, 3}

    def _list(self, seen: Seen) -> tuple[int, Json]:
        if seen.query.get("continue") and seen.query.get("resourceVersion"):
            return 400, status(
                400, "specifying resource version is not allowed when using continue"
            )
        if seen.query.get("resourceVersionMatch") and not seen.query.get("resourceVersion"):
            return 400, status(400, "resourceVersionMatch is forbidden without resourceVersion")
        found = [raw for path, raw in self.objects.items() if _is_in(path, seen.path)]
        chosen = [raw for raw in found if _is_selected(raw, seen.query)]
        start = int(seen.query.get("continue", "0"))
        end = start + min(self.page, int(seen.query.get("limit", "500")))
        more = {"continue": str(end)} if end < len(chosen) else {}
        return 200, {"kind": "List", "metadata": more, "items": chosen[start:end]}

    def _create(self, seen: Seen) -> tuple[int, Json]:
        path = f"{seen.path}/{seen.body['metadata']['name']}"
        if path in self.objects:
            return 409, status(409, f"{path} already exists", reason="AlreadyExists")
        namespace = seen.path.split("/")[-2]
        made = {
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": _instant(self.at),
        }
        self.put(path, {**seen.body, "metadata": {**seen.body["metadata"], **made}})
        return 201, self.objects[path]

    def _replace(self, path: str, body: Json) -> tuple[int, Json]:
        there = self.objects[path]["metadata"]
        if body["metadata"].get("resourceVersion") != there["resourceVersion"]:
            return 409, status(409, "the object has been modified", reason="Conflict")
        self.put(path, {**body, "metadata": {**there, **body["metadata"]}})
        return 200, self.objects[path]

    def _put_status(self, path: str, body: Json) -> tuple[int, Json]:
        there, sent = self.objects[path]["metadata"], body["metadata"]
        if sent.get("uid", there["uid"]) != there["uid"]:
            return 409, status(409, f"Precondition failed: UID in precondition: {sent['uid']}")
        if sent.get("resourceVersion") != there["resourceVersion"]:
            return 409, status(409, "the object has been modified", reason="Conflict")
        self.put(path, {**self.objects[path], "status": body["status"]})
        return 200, self.objects[path]

    def _patch(self, seen: Seen) -> tuple[int, Json]:
        patched = copy.deepcopy(self.objects[seen.path])
        if not all(_apply(patched, op) for op in cast("list[Json]", seen.body)):
            return 422, BARE_422
        entry: Json = {
            "manager": seen.query.get("fieldManager"),
            "operation": "Update",
            "time": _instant(self.at),
            "fieldsV1": {"f:spec": {"f:template": {}}},
        }
        others = [
            e
            for e in patched["metadata"].get("managedFields", [])
            if e["manager"] != entry["manager"]
        ]
        patched["metadata"]["managedFields"] = [*others, entry]
        patched["metadata"]["generation"] += 1
        if seen.query.get("dryRun") == "All":
            return 200, patched
        self.put(seen.path, patched)
        return 200, self.objects[seen.path]

    def _review(self, body: Json) -> Json:
        asked = child(body, "spec", "resourceAttributes")
        key = (text(asked, "namespace"), text(asked, "verb"), text(asked, "resource"))
        return {**body, "status": {"allowed": key not in self.denied}}


def _as_asked_for(raw: Json, accept: str) -> Json:
    """Return an object, or nothing but its metadata where that alone is accepted."""
    if "as=PartialObjectMetadata" not in accept:
        return raw
    named = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata"}
    return {**named, "metadata": child(raw, "metadata")}


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _is_in(path: str, collection: str) -> bool:
    """Say whether an object is in a list, of its namespace or of all of them."""
    head, _, _ = path.rpartition("/")
    parts = head.split("/")
    across = [*parts[:-3], parts[-1]] if parts[-3] == "namespaces" else parts
    return collection in {head, "/".join(across)}


def _is_selected(raw: Json, query: Mapping[str, str]) -> bool:
    labels = child(raw, "metadata", "labels")
    terms = [term for term in query.get("labelSelector", "").split(",") if term]
    wanted = [term.split("=") for term in terms if "=" in term]
    present = [term for term in terms if "=" not in term]
    fields = [term.split("=") for term in query.get("fieldSelector", "").split(",") if term]
    has_labels = all(labels.get(key) == value for key, value in wanted)
    return (
        has_labels
        and all(key in labels for key in present)
        and all(
            str(child(raw, *path.strip(".").split(".")[:-1]).get(path.split(".")[-1], "")).lower()
            == value.lower()
            for path, value in fields
        )
    )


def _apply(raw: Json, op: Json) -> bool:
    """Apply one operation; False when it fails, as a missing path does."""
    *parents, leaf = (
        part.replace("~1", "/").replace("~0", "~") for part in op["path"].lstrip("/").split("/")
    )
    here: Any = raw
    for key in parents:
        if key not in here:
            return False
        here = here[key]
    if op["op"] == "test":
        return bool(here.get(leaf) == op["value"])
    if op["op"] == "replace" and leaf not in here:
        return False
    here[leaf] = op["value"]
    return True
