"""
What one pod template changes in another, in lines that a person can read.

Much of a template may hold a secret: values of env, command lines, headers, annotations.  So
what changes is named, by its name or its path; a value is shown only where `_is_shown` says so.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, cast

from incident_rollback.domain.raw import Json, as_list, as_map
from incident_rollback.domain.template import strip_noise, template_key
from incident_rollback.domain.words import quote

MAX_DEPTH: Final = 8
"""Steps of a path; what is deeper changes by where it begins."""

_Path: TypeAlias = tuple[str, ...]

_CONTAINERS: Final = {"containers": "container", "initContainers": "init container"}
_FIRST: Final = ("spec", *_CONTAINERS)
_OPENED: Final[frozenset[_Path]] = frozenset(
    {
        (),
        ("metadata",),
        ("metadata", "annotations"),
        ("metadata", "labels"),
        ("spec",),
        ("spec", "nodeSelector"),
    }
)
"""Maps that are told key by key, also where one side has none."""
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_SCALARS: Final[frozenset[_Path]] = frozenset(
    {
        ("failureThreshold",),
        ("grpc", "port"),
        ("httpGet", "path"),
        ("httpGet", "port"),
        ("httpGet", "scheme"),
        ("initialDelaySeconds",),
        ("periodSeconds",),
        ("successThreshold",),
        ("tcpSocket", "port"),
        ("terminationGracePeriodSeconds",),
        ("timeoutSeconds",),
    }
)
_HARMLESS: Final = re.compile(r"[A-Za-z0-9._/-]{1,63}")
"""A quantity, a path, a port's name: nothing with a query, a user or blanks in it."""
_VOLUMES: Final = {
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}


def changes_between(live: Json, wanted: Json) -> list[str]:
    """
    Return a line for each change, images first; none exactly when they are functionally equal.

    The lines are safe to repeat, and there may be many.  Whatever stands in the pod's spec, this
    raises nothing: what has not the shape that Kubernetes gives it changes by its path.
    """
    before, after = strip_noise(live), strip_noise(wanted)
    old, new = as_map(before.get("spec")), as_map(after.get("spec"))
    lines: list[str] = []
    for field, word in _CONTAINERS.items():
        lines += _releases(word, old.get(field), new.get(field))
    return [*lines, *_walk("", (), before, after)]


def _releases(word: str, before: object, after: object) -> Iterator[str]:
    """Tell what matters first of all: the containers that come and go, and the images."""
    old, new = _by_name(before, _name), _by_name(after, _name)
    for name in sorted(old.keys() | new.keys()):
        was, now = (_text(each[name][0], "image") if name in each else None for each in (old, new))
        if now is None:
            yield f"{word} {name}: removed"
        elif was is None:
            yield f"{word} {name}: added, image {_image(now)}"
        elif was != now:
            yield f"{word} {name}: image {_image(was)} -> {_image(now)}"


def _walk(start: str, path: _Path, before: object, after: object) -> Iterator[str]:
    """Go down to what differs, and tell that; lists of named things are told by their names."""
    if _is_same(before, after):
        return
    if path in _LISTS and all(isinstance(side, list | None) for side in (before, after)):
        yield from _LISTS[path](start, as_list(before), as_list(after))
    elif _is_opened(path, before, after):
        old, new = as_map(before), as_map(after)
        for key in sorted(old.keys() | new.keys(), key=lambda key: (key not in _FIRST, key)):
            yield from _walk(start, (*path, key), old.get(key), new.get(key))
    else:
        yield f"{start}{_leaf(path, before, after)}"


def _is_opened(path: _Path, before: object, after: object) -> bool:
    sides = (before, after)
    if len(path) >= MAX_DEPTH or not all(isinstance(side, dict | None) for side in sides):
        return False
    is_short = path in _OPENED or "resources" in path[:2]
    return is_short or not any(_is_same(side, None) for side in sides)


def _leaf(path: _Path, before: object, after: object) -> str:
    shown = [_scalar(side) for side in (before, after)]
    name = ".".join(map(quote, path))
    if _is_shown(path) and all(shown):
        return f"{name} {' -> '.join(shown)}"
    return f"{name} {_fate(before, after)}".lstrip()


def _is_shown(path: _Path) -> bool:
    """Say whether a harmless scalar is shown: only where nobody would put a secret."""
    match path:
        case ("resources", "limits" | "requests", _):
            return True
        case ("spec", "resources", "limits" | "requests", _):
            return True
        case (probe, *scalar) if probe in _PROBES:
            return tuple(scalar) in _PROBE_SCALARS
        case _:
            return False


def _scalar(value: object) -> str:
    """Return a harmless scalar, or "none" of nothing; "" where it is not to be shown."""
    if value is None:
        return "none"
    if isinstance(value, int | float | str) and _HARMLESS.fullmatch(str(value)):
        return str(value)
    return ""


def _fate(before: object, after: object) -> str:
    if _is_same(before, None):
        return "added"
    return "removed" if _is_same(after, None) else "changes"


# Lists of named things


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the items of a list are called, told apart, and where they come from."""

    word: str
    field: str
    name_of: Callable[[Json], str]
    origin_of: Callable[[Json], str] = lambda _: ""


def _items(kind: _Kind, start: str, before: list[object], after: list[object]) -> Iterator[str]:
    old, new = _by_name(before, kind.name_of), _by_name(after, kind.name_of)
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name, []), new.get(name, [])
        if not _is_same(was, now):
            yield f"{start}{kind.word} {name}{_item_fate(kind, was, now)}"
    yield from _order(kind.field, kind.name_of, start, before, after)


def _item_fate(kind: _Kind, before: list[object], after: list[object]) -> str:
    was, now = (
        " and ".join(filter(None, (kind.origin_of(as_map(item)) for item in items)))
        for items in (before, after)
    )
    if not before and now:
        return f" added, {now}"
    if not before or not after or was == now:
        return f" {_fate(before, after)}"
    was, now = was or "a value", now or "a value"
    word = was.partition(" ")[0]
    return f": {was} -> {now.removeprefix(f'{word} ') if word.isalpha() else now}"


def _containers(field: str, start: str, before: list[object], after: list[object]) -> Iterator[str]:
    """Tell what changes inside the containers that stay."""
    old, new = _by_name(before, _name), _by_name(after, _name)
    for name in sorted(old.keys() & new.keys()):
        inner = f"{start}{_CONTAINERS[field]} {name}: "
        if len(old[name]) == len(new[name]) == 1:
            yield from _walk(inner, (), _untold(old[name][0]), _untold(new[name][0]))
        elif not _is_same(old[name], new[name]):
            yield f"{inner}changes"
    yield from _order(field, _name, start, before, after)


def _untold(container: object) -> object:
    """Return a container without its image, which has been told, if it was one."""
    if not isinstance(container, dict):
        return container
    given = cast("Json", container)
    return {key: v for key, v in given.items() if key != "image" or not isinstance(v, str)}


def _order(
    field: str,
    name_of: Callable[[Json], str],
    start: str,
    before: list[object],
    after: list[object],
) -> Iterator[str]:
    """Init containers run in order, and an env value may use those above it."""
    old, new = ([name_of(as_map(item)) for item in items] for items in (before, after))
    common = set(old) & set(new)
    if [name for name in old if name in common] != [name for name in new if name in common]:
        yield f"{start}order of {field} changes"


def _by_name(value: object, name_of: Callable[[Json], str]) -> dict[str, list[object]]:
    """Group the items of a list by their names, for nothing keeps these apart in all lists."""
    groups: dict[str, list[object]] = {}
    for item in as_list(value):
        groups.setdefault(name_of(as_map(item)), []).append(item)
    return groups


def _name(item: Json) -> str:
    return quote(_text(item, "name")) or "?"


def _env_origin(item: Json) -> str:
    """Return where a value of env comes from; "" when it stands there."""
    source = as_map(item.get("valueFrom"))
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if ref := as_map(source.get(field)):
            return f"{kind} {_name(ref)} key {quote(_text(ref, 'key'))}"
    return ", ".join(map(quote, sorted(source)))


def _env_from(item: Json) -> str:
    if ref := as_map(item.get("secretRef")):
        return f"Secret {_name(ref)}"
    return f"ConfigMap {_name(as_map(item.get('configMapRef')))}"


def _volume_origin(item: Json) -> str:
    for field, (kind, key) in _VOLUMES.items():
        if source := as_map(item.get(field)):
            return f"{kind} {quote(_text(source, key)) or '?'}"
    return ", ".join(quote(key) for key in sorted(item) if key != "name")


def _mount(item: Json) -> str:
    return f"{_name(item)} at {quote(_text(item, 'mountPath'))}"


def _port(item: Json) -> str:
    return quote(_text(item, "name")) or _port_number(item)


def _port_number(item: Json) -> str:
    return f"{_scalar(item.get('containerPort'))}/{_scalar(item.get('protocol') or 'TCP')}"


def _port_origin(item: Json) -> str:
    host = _scalar(item.get("hostPort"))
    on_host = f" on host port {host}" if host != "none" else ""
    return f"{_port_number(item)}{on_host}" if _text(item, "name") else on_host.lstrip()


_ENV: Final = _Kind("env", "env", _name, _env_origin)
_ENV_FROM: Final = _Kind("envFrom", "envFrom", _env_from)
_MOUNTS: Final = _Kind("volumeMount", "volumeMounts", _mount)
_PORTS: Final = _Kind("port", "ports", _port, _port_origin)
_PULL_SECRETS: Final = _Kind("imagePullSecret", "imagePullSecrets", _name)
_VOLUME: Final = _Kind("volume", "volumes", _name, _volume_origin)

_LISTS: Final[Mapping[_Path, Callable[[str, list[object], list[object]], Iterator[str]]]] = {
    ("env",): partial(_items, _ENV),
    ("envFrom",): partial(_items, _ENV_FROM),
    ("ports",): partial(_items, _PORTS),
    ("volumeMounts",): partial(_items, _MOUNTS),
    ("spec", "imagePullSecrets"): partial(_items, _PULL_SECRETS),
    ("spec", "volumes"): partial(_items, _VOLUME),
    **{("spec", field): partial(_containers, field) for field in _CONTAINERS},
}


def _text(item: object, key: str) -> str:
    value = as_map(item).get(key)
    return value if isinstance(value, str) else ""


def _image(image: str) -> str:
    return quote(image, 400) or "none"


def _is_same(before: object, after: object) -> bool:
    """Functionally equal, by the very rule that decides what is the same revision."""
    return template_key({"of": before}) == template_key({"of": after})
