"""What the API server's audit log, the proxies and the stand-in FireHydrant know, as a record."""

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from incident_rollback.crd.v1alpha1 import IncidentRollback
from tests.chaos.checker import CATALOG, Answer, Copy, Kind, Look, Patch, Record, Step
from tests.chaos.memory import rollback_of
from tests.chaos.scene import CONTROLLER_ACCOUNT, ENVIRONMENT, Scene
from tests.sandbox.api import Json, path_to
from tests.sandbox.audit import AuditRecord
from tests.sandbox.firehydrant import Delivery, Entry
from tests.sandbox.firehydrant_account import BOT
from tests.sandbox.proxy import Passage
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.workloads import APPS, images_of

CONTROLLER_USER: Final = f"system:serviceaccount:{HOME_NAMESPACE}:{CONTROLLER_ACCOUNT}"
MARKER: Final = "incidentrollback.dev~1request"
"""As a step of a JSON patch spells it."""
KINDS: Final[dict[str, Kind]] = {"note": "Note", "message": "Message"}
LOOKED: Final = re.compile(r"^/v1/(?:incidents/([^/]+)/events|changes/events)(?:\?|$)")
POSTED: Final = re.compile(
    r"^/v1/(?:incidents/([^/]+)/(notes|generic_chat_messages)|changes/events)(?:\?|$)"
)


def record_of(scene: Scene, answers: Sequence[Delivery]) -> Record:
    """Read what has happened, and what there is now."""
    audit = scene.sandbox.settled_audit()
    rollbacks = [IncidentRollback.model_validate(one) for one in _found(scene)]
    passages = [p for c in scene.controllers if c.to_firehydrant for p in c.to_firehydrant.passages]
    workloads = Workloads.of(audit.where(resource="deployments", namespace=ENVIRONMENT))
    return Record(
        rollbacks=[rollback_of(one) for one in rollbacks],
        steps=list(_steps(audit.where(resource="incidentrollbacks", subresource="status"))),
        patches=list(workloads.patches),
        copies=list(
            _copies(scene, passages, {r.spec.incident.id for r in rollbacks if r.spec.incident})
        ),
        related=frozenset(_related(scene)),
        looks=list(_looks(scene, passages)),
        sleeps=[sleep for one in scene.inhabitants.values() for sleep in one.sleeps],
        answers=[_answer(delivery) for delivery in answers],
        unseen=list(_unseen(scene, workloads)),
    )


def _found(scene: Scene) -> Iterable[Json]:
    return scene.sandbox.api.list(path_to("incidentrollback.dev/v1alpha1", "incidentrollbacks"))


def _answer(delivery: Delivery) -> Answer:
    """What was answered without JSON names nothing."""
    if delivery.status not in (200, 202):
        return Answer(delivery.status or 0)
    return Answer(delivery.status, tuple(one["name"] for one in delivery.json["rollbacks"]))


# --- What the audit log says


def _steps(audit: Iterable[AuditRecord]) -> Iterator[Step]:
    for one in audit:
        if one.is_write and one.is_success:
            metadata = one.response_object["metadata"]
            phase = one.response_object["status"]["phase"]
            yield Step(int(metadata["resourceVersion"]), metadata["uid"], phase)


@dataclass
class Workloads:
    """Every change of a Deployment, by whom it may be, in the order of etcd."""

    patches: list[Patch] = field(default_factory=list[Patch])
    """Ours."""
    generations: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Which were seen to be made, by name."""
    scalings: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How often somebody scaled: the answer to that names no generation."""
    _templates: dict[str, Json] = field(default_factory=dict[str, Json])

    @classmethod
    def of(cls, audit: Iterable[AuditRecord]) -> "Workloads":
        writes = [one for one in audit if is_change(one)]
        workloads = cls()
        for one in sorted(writes, key=version_of):
            workloads._take(one)
        return workloads

    def _take(self, one: AuditRecord) -> None:
        name = one.name or one.response_object["metadata"]["name"]
        if one.subresource == "scale":
            self.scalings[name] += 1
            return
        after: Json = one.response_object
        self.generations[name].add(after["metadata"]["generation"])
        template: Json = after["spec"]["template"]
        if one.user == CONTROLLER_USER:
            self.patches.append(_patch(one, is_effective=template != self._templates.get(name)))
        self._templates[name] = template


def is_change(one: AuditRecord) -> bool:
    """Say whether it may have made another generation."""
    return one.is_write and one.is_success and one.subresource in ("", "scale")


def version_of(one: AuditRecord) -> int:
    return int(one.response_object["metadata"]["resourceVersion"])


def _patch(one: AuditRecord, *, is_effective: bool) -> Patch:
    """A patch of ours names its request in the very patch; what is there may be an older one."""
    is_json_patch = isinstance(one.request_object, list)
    steps = cast("list[Json]", one.request_object) if is_json_patch else []
    marker = next((str(s["value"]) for s in steps if s["path"].endswith(MARKER)), "")
    uid, intent, *_ = [*marker.split(), "", ""]
    return Patch(
        version_of(one),
        uid,
        intent,
        f"{one.namespace}/{one.name}",
        tuple(images_of(one.response_object)),
        is_effective,
    )


def _unseen(scene: Scene, workloads: Workloads) -> Iterator[str]:
    """Each generation was made by somebody; say where nothing on record can have made it."""
    for found in scene.sandbox.api.list(path_to(APPS, "deployments", ENVIRONMENT)):
        name, last = found["metadata"]["name"], found["metadata"]["generation"]
        missing = set(range(1, last + 1)) - workloads.generations[name]
        if len(missing) > workloads.scalings[name]:
            yield f"how {name} came to its generations {sorted(missing)}"


# --- What FireHydrant and the ways to it say


def _looks(scene: Scene, passages: Iterable[Passage]) -> Iterator[Look]:
    for one in passages:
        found = LOOKED.search(one.request.path)
        if one.request.method == "GET" and one.status == 200 and found:
            as_of = one.passed_at - scene.lag_at(one.passed_at)
            yield Look(found[1] or CATALOG, one.by, as_of)


def _copies(scene: Scene, passages: Iterable[Passage], incidents: set[str]) -> Iterator[Copy]:
    posts = Posts.of(passages)
    for incident in sorted(incidents):
        for entry in scene.firehydrant.timeline(incident):
            kind = KINDS.get(entry.kind)
            if kind is not None and entry.author == BOT:
                post = posts.take((incident, kind, original_of(entry)), entry.id)
                yield _copy(incident, kind, entry.text, post, entry.written_at.timestamp())
    for change in scene.firehydrant.change_events:
        uid = change.external_id or ""
        post = posts.take((CATALOG, "ChangeEvent", uid), change.id)
        yield _copy(CATALOG, "ChangeEvent", uid, post, change.created_at.timestamp())


def _copy(where: str, kind: Kind, text: str, post: Passage | None, written_at: float) -> Copy:
    committed_at = written_at - (time.time() - time.monotonic())
    by, asked_at = (post.by, post.asked_at) if post is not None else ("", committed_at)
    return Copy(where, kind, text, by, asked_at, committed_at)


def original_of(entry: Entry) -> str:
    """Return the words that an entry was posted with."""
    return entry.edits[0].before if entry.edits else entry.text


Words = tuple[str, Kind, str]


@dataclass
class Posts:
    """Who asked for what, by where and what it says; each is taken once."""

    left: dict[Words, list[Passage]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, passages: Iterable[Passage]) -> "Posts":
        posts = cls()
        for one in sorted(passages, key=lambda passage: passage.asked_at):
            found = POSTED.search(one.request.path)
            if one.request.method == "POST" and found:
                posts.left[words_of(found, one.request.body)].append(one)
        return posts

    def take(self, words: Words, entry_id: str) -> Passage | None:
        """Return the post that made an entry: the one that was answered so, else a silent one."""
        posts = self.left[words]
        answered = (p for p in posts if id_in(p.answer) == entry_id)
        silent = (p for p in posts if p.status is None or p.status >= 500)
        found = next(answered, None) or next(silent, None)
        if found is not None:
            posts.remove(found)
        return found


def words_of(found: re.Match[str], body: Any) -> Words:
    incident, what = found.groups()
    match what:
        case "notes":
            return incident, "Note", body["body"]
        case "generic_chat_messages":
            return incident, "Message", body["body"]
        case _:
            return CATALOG, "ChangeEvent", body["external_id"]


def id_in(answer: Any) -> str:
    return str(cast("Json", answer).get("id", "")) if isinstance(answer, dict) else ""


def _related(scene: Scene) -> Iterator[tuple[str, str]]:
    changes = {one.id: one.external_id or "" for one in scene.firehydrant.change_events}
    for one in _found(scene):
        incident = one["spec"].get("incident", {}).get("id")
        if incident is not None:
            for change in scene.firehydrant.relations(incident):
                yield incident, changes[change]
