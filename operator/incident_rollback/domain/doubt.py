"""When a rollback is unlikely to help, a person is asked first: it would be one more change."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from incident_rollback.domain.cause import (
    QUOTA,
    REGISTRY,
    VOLUME,
    Origin,
    Trouble,
    family,
    trouble_of,
)
from incident_rollback.domain.diagnosis import examples
from incident_rollback.domain.history import History
from incident_rollback.domain.moves import Doubt
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.raw import Json, child, children, text
from incident_rollback.domain.revision import Choice
from incident_rollback.domain.rollout import failing_pods, is_healthy
from incident_rollback.domain.words import listed, quote, span
from incident_rollback.domain.workload import Revision, Workload

_PODS_ASKED_FOR: Final = re.compile(r"requested: (\S*,)?(count/)?pods=\d")


def doubts_about(seen: Observation, workload: Workload, choice: Choice) -> tuple[Doubt, ...]:
    """
    Return why a person should approve the plan first; empty when nothing speaks against it.

    Whoever names the revision has been asked, but cannot know that what it needs is gone.
    """
    found = [_missing(choice)]
    if seen.rollback.spec.to is None:
        found += [
            _fails_alike(workload, choice.revision),
            _is_around(seen, workload, choice.revision),
            _is_old(seen, workload),
        ]
    return tuple(doubt for doubt in found if doubt is not None)


def _missing(choice: Choice) -> Doubt | None:
    """Only what was asked for by name is chosen although it cannot start."""
    if not choice.missing:
        return None
    return Doubt(
        f"ReferenceMissing: {', '.join(map(str, choice.missing))}",
        f"revision {choice.revision.number} needs {listed(choice.missing)}, gone by now, and its "
        "pods would not start without",
    )


def _fails_alike(workload: Workload, to: Revision) -> Doubt | None:
    """Pods of both revisions fail for one reason: the cause is not the release."""
    live = workload.live
    reason = _fails_by(workload, live) if live else ""
    if not reason or family(reason) != family(_fails_by(workload, to)):
        return None
    return Doubt(
        "FailsAlike",
        f"pods of revision {to.number} are in {quote(reason)} as well, so a rollback is unlikely "
        "to help",
    )


def _fails_by(workload: Workload, revision: Revision) -> str:
    """Return the reason for which a revision fails; "" when most of its pods do not."""
    failing, pods = failing_pods(workload, revision), workload.pods_of(revision)
    worst = next(iter(examples(workload, revision)), None)
    return worst.reason if worst is not None and len(failing) * 2 > len(pods) else ""


def _is_around(seen: Observation, workload: Workload, to: Revision) -> Doubt | None:
    """
    What keeps the live pods from running is outside, and would keep new pods of the old template.

    Where all wanted pods of the old one run, a rollback makes none: nothing keeps it from working.
    """
    live = workload.live
    if live is None or is_healthy(workload) or to.available >= workload.wanted:
        return None
    trouble = trouble_of(workload, live, seen.around)
    if trouble.cause.origin is not Origin.ENVIRONMENT or not _is_shared(trouble, live, to):
        return None
    evidence = f" ({quote(trouble.evidence)})" if trouble.evidence else ""
    return Doubt(
        trouble.cause.code,
        f"{trouble.cause.words}{evidence}, and revision {to.number} needs new pods as well, so a "
        "rollback is unlikely to help",
    )


def _is_shared(trouble: Trouble, live: Revision, to: Revision) -> bool:
    """Say whether the old template needs what is not well; a release may ask for something new."""
    if trouble.cause is QUOTA:
        is_full = _PODS_ASKED_FOR.search(trouble.evidence)
        return bool(is_full) or _resources(live.template) == _resources(to.template)
    if trouble.cause is REGISTRY:
        name = trouble.pod.container if trouble.pod else ""
        return bool(_registries(live.template, name) & _registries(to.template))
    if trouble.cause is VOLUME:
        return _volumes(live.template) == _volumes(to.template)
    return True


def _resources(template: Json) -> list[Json]:
    return [child(container, "resources") for container in _containers(template)]


def _registries(template: Json, name: str = "") -> frozenset[str]:
    """Return the hosts that the images come from: of one container, or of all."""
    images = (text(c, "image") for c in _containers(template) if name in ("", text(c, "name")))
    return frozenset(map(_registry_of, images))


def _registry_of(image: str) -> str:
    host, slash, _ = image.partition("/")
    is_host = bool(slash) and (host == "localhost" or "." in host or ":" in host)
    return host if is_host else "docker.io"


def _containers(template: Json) -> Iterator[Json]:
    for kind in ("initContainers", "containers"):
        yield from children(child(template, "spec"), kind)


def _volumes(template: Json) -> list[Json]:
    return children(child(template, "spec"), "volumes")


def _is_old(seen: Observation, workload: Workload) -> Doubt | None:
    """What has run for long is seldom what broke now; an unknown age is no age."""
    current_at = History.of(workload).became_current_at(workload)
    limit = timedelta(seconds=seen.policy.max_release_age_seconds)
    if current_at is None or seen.began_at - current_at <= limit:
        return None
    age = span(seen.began_at - current_at)
    return Doubt(
        "ReleaseIsOld",
        f"the live revision had run for {age} when the incident began, so it may not be the cause",
    )
