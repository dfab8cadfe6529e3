"""What a rollback would change, in lines a person can read, and the digest that stands for it."""

import hashlib
import json
from collections.abc import Iterator
from typing import Final

from incident_rollback.crd.v1alpha1 import MAX_TEXT, PlanStatus
from incident_rollback.domain.raw import Json, child, children, text
from incident_rollback.domain.template import strip_noise
from incident_rollback.domain.words import quote
from incident_rollback.domain.workload import Revision, Workload

MAX_CHANGES: Final = 50


def plan_of(workload: Workload, to: Revision) -> PlanStatus:
    """
    Return the plan: which parts of the template change, and a digest over all that decides.

    Images are shown; everything else is named by its path alone, so that no value of env and
    no Secret can get out.
    """
    lines = list(_changes(workload.template, to.template))
    cut = lines[: MAX_CHANGES - 1]
    if len(lines) > len(cut) + 1:
        lines = [*cut, f"and {len(lines) - len(cut)} more"]
    identity = [workload.ref.namespace, workload.ref.name, workload.uid, workload.key, to.key]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return PlanStatus(digest=f"sha256:{digest}", changes=tuple(line[:MAX_TEXT] for line in lines))


def _changes(live: Json, wanted: Json) -> Iterator[str]:
    live, wanted = strip_noise(live), strip_noise(wanted)
    yield from _parts("metadata", child(live, "metadata"), child(wanted, "metadata"), ())
    for kind in ("initContainers", "containers"):
        yield from _container_changes(kind, live, wanted)
    lists = ("initContainers", "containers")
    yield from _parts("spec", child(live, "spec"), child(wanted, "spec"), lists)


def _container_changes(kind: str, live: Json, wanted: Json) -> Iterator[str]:
    before = {text(c, "name"): c for c in children(child(live, "spec"), kind)}
    after = {text(c, "name"): c for c in children(child(wanted, "spec"), kind)}
    for name in sorted(before.keys() | after.keys()):
        shown = f"{'init container' if kind == 'initContainers' else 'container'} {quote(name)}"
        if name not in after:
            yield f"{shown}: removed"
        elif name not in before:
            yield f"{shown}: added, image {quote(text(after[name], 'image'))}"
        else:
            old, new = text(before[name], "image"), text(after[name], "image")
            if old != new:
                yield f"{shown}: image {quote(old)} -> {quote(new)}"
            yield from _parts(shown, before[name], after[name], ("image", "name"))


def _parts(where: str, before: Json, after: Json, skipped: tuple[str, ...]) -> Iterator[str]:
    for key in sorted((before.keys() | after.keys()) - set(skipped)):
        if (before.get(key) or None) != (after.get(key) or None):
            yield f"{where}: {quote(key)} changes"
