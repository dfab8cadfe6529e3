"""Words for people: spans, instants, and texts of people made safe to repeat."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

MAX_QUOTE: Final = 200
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"}


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units, e.g. "6 d 4 h", "31 s", "0 s"."""
    left = max(0, int(length.total_seconds()))
    parts: list[str] = []
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def clock_time(at: datetime) -> str:
    """Return the time of day in UTC, e.g. "02:16:40"."""
    return f"{at:%H:%M:%S}"


def quote(text: str, limit: int = MAX_QUOTE) -> str:
    """
    Return a text that a person or a cluster wrote, safe inside a note.

    One line, cut at `limit` characters, without markup and without a mention: a zero-width
    space after @ keeps chats from ringing anybody; a digest's `@sha256:` stays as it is.
    """
    flat = " ".join(text.split())
    cut = flat if len(flat) <= limit else flat[: limit - 1] + "…"
    escaped = "".join(_ENTITIES.get(char, char) for char in cut)
    return escaped.replace("@\u200bsha256:", "@sha256:")


def join(items: tuple[str, ...]) -> str:
    """Return images in order, e.g. "checkout:1.18.0 + sidecar:2"; "no image" of none."""
    return quote(" + ".join(items)) if items else "no image"


def listed(items: Iterable[object], limit: int = 5) -> str:
    """Return names in a row, e.g. "ConfigMap a, Secret b and 3 more"."""
    names = [quote(str(item)) for item in items]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
