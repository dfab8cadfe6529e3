"""
Reading raw JSON of the API server, in which null, empty and absent are the same.

`child` and those beside it trust the API server's shapes.  What it does not check, or what is read
for people alone, may have any shape: `as_map` and `as_list` raise nothing.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

Json: TypeAlias = dict[str, Any]


def child(of: Mapping[str, Any], *path: str) -> Json:
    """Return the object at a path; {} where any step of it is absent or null."""
    here: Mapping[str, Any] = of
    for key in path:
        here = cast("Mapping[str, Any]", here.get(key) or {})
    return dict(here)


def children(of: Mapping[str, Any], key: str) -> list[Json]:
    """Return the list of objects under a key; [] where it is absent or null."""
    return cast("list[Json]", of.get(key) or [])


def text(of: Mapping[str, Any], key: str) -> str:
    """Return the string under a key; "" where it is absent or null."""
    return str(of.get(key) or "")


def number(of: Mapping[str, Any], key: str) -> int:
    """Return the integer under a key; 0 where it is absent or null."""
    return int(of.get(key) or 0)


def as_map(value: object) -> Json:
    """Return a value that is an object, as it is; {} of any other."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return a value that is a list, as it is; [] of any other."""
    return cast("list[object]", value) if isinstance(value, list) else []
