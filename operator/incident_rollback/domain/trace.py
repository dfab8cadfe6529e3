"""
The trace of a request: the id that its log lines, its spans and its change event share.

It says whose request something belongs to, and decides nothing: whoever may send a request or
write a resource may choose it, so it is read strictly and believed in no matter.
"""

import re
from dataclasses import dataclass
from typing import Final

from incident_rollback.crd.v1alpha1 import IncidentRollback

_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_SAMPLED: Final = 1
"""The bit of the flags that says that somebody may have recorded the span."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace, and where in it we are."""

    trace_id: str
    """32 lower case hex digits, not all 0."""
    span_id: str = ""
    """Of the span that caused what is done now, 16 lower case hex digits; "": there is none yet."""
    is_sampled: bool = True
    """Whether spans are recorded, as far as those before us have decided."""

    def __str__(self) -> str:
        """Return what `read_trace` reads: a W3C traceparent, or the id alone before any span."""
        if not self.span_id:
            return self.trace_id
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


def read_parent(header: str) -> Trace | None:
    """
    Return the trace of a header `traceparent`; None when it is not one.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    found = _PARENT.fullmatch(header)
    if found is None or not found[1].strip("0") or not found[2].strip("0"):
        return None
    return Trace(found[1], found[2], is_sampled=bool(int(found[3], 16) & _SAMPLED))


def read_trace(text: str) -> Trace | None:
    """Return the trace that a text names, by a traceparent or by its id alone; else None."""
    if _ID.fullmatch(text):
        return Trace(text) if text.strip("0") else None
    return read_parent(text)


def trace_of(rollback: IncidentRollback) -> Trace | None:
    """
    Return the trace of a resource: that of the request that made it, else one by its uid.

    So a resource that somebody made by kubectl has one too, the same for every process and turn.
    None where the uid is no UUID either.
    """
    metadata = rollback.metadata
    given = metadata.annotations.trace if metadata.annotations is not None else None
    return read_trace(given or "") or read_trace(metadata.uid.replace("-", "").lower())
