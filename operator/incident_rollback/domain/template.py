"""
Pod templates as raw JSON: when two are functionally equal, and what can be shown of one.

Typed models would drop the fields they do not know, and a dropped field is another release.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from incident_rollback.domain.raw import Json, child, children

HASH_LABEL: Final = "pod-template-hash"
RESTART_ANNOTATION: Final = "kubectl.kubernetes.io/restartedAt"


def template_key(template: Mapping[str, Any]) -> str:
    """
    Return a digest that functionally equal templates share: 64 hex digits.

    Null, `{}` and `[]` read as absent; the label pod-template-hash and the stamp of
    `kubectl rollout restart` do not count.  Quantities need no care: the API server
    stores them in one form.
    Source: apimachinery pkg/api/equality/semantic.go, and the restart stamp on top of it.
    """
    text = json.dumps(_essence(strip_noise(template)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def strip_noise(template: Mapping[str, Any]) -> Json:
    """Return a copy without the hash label and without the restart stamp."""
    bare = without_hash_label(template)
    annotations = child(bare, "metadata", "annotations")
    annotations.pop(RESTART_ANNOTATION, None)
    return {**bare, "metadata": {**child(bare, "metadata"), "annotations": annotations}}


def without_hash_label(template: Mapping[str, Any]) -> Json:
    """Return a copy without the label pod-template-hash, which belongs to one ReplicaSet."""
    labels = child(template, "metadata", "labels")
    labels.pop(HASH_LABEL, None)
    return {**template, "metadata": {**child(template, "metadata"), "labels": labels}}


def images_of(template: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images of the ordinary containers, in the template's order."""
    return tuple(
        str(container.get("image", ""))
        for container in children(child(template, "spec"), "containers")
    )


def _essence(value: object) -> object:
    if isinstance(value, dict):
        kept = {key: _essence(item) for key, item in cast("Json", value).items()}
        return {key: item for key, item in kept.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [_essence(item) for item in cast("list[object]", value)]
    return value
