"""Names: FireHydrant's free text as DNS labels, and the identity of a request."""

import hashlib
import json
import re
import unicodedata
from typing import Final

from incident_rollback.crd.v1alpha1 import IncidentRollback

MAX_LABEL: Final = 63


def dns_label(name: str, limit: int = MAX_LABEL) -> str:
    """
    Return a name as a DNS label of at most `limit` characters; "" when nothing is left of it.

    NFKC, casefold, runs of anything but a-z and 0-9 become one `-`, trimmed.  Two names with the
    same label are the same name to us.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"[^a-z0-9]+", "-", folded).strip("-")[:limit].rstrip("-")


def intent_of(rollback: IncidentRollback) -> str:
    """
    Return what a resource asks for, as 16 hex digits over its namespace, name and spec.

    A resource that was deleted and made again has another uid and the same intent.
    """
    spec = rollback.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    identity = [rollback.metadata.namespace, rollback.metadata.name, spec]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
