"""Why pods are not ready, in words that can be pasted; never a log line, never a value of env."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from incident_rollback.crd.v1alpha1 import MAX_TEXT
from incident_rollback.domain.cause import family, missing_pods
from incident_rollback.domain.rollout import failing_pods
from incident_rollback.domain.surroundings import Surroundings, WarningEvent
from incident_rollback.domain.words import clock_time, quote
from incident_rollback.domain.workload import Pod, Revision, Workload

MAX_REASON: Final = 64
MAX_SAID: Final = 120
"""How much of a message is repeated in a sentence, in characters."""
MAX_EXAMPLES: Final = 2
"""How many pods are looked at closer."""
LOOPS: Final = frozenset({"CrashLoopBackOff", "OOMKilled"})
"""Reasons to which the message only says how long the pause is."""
PULLS: Final = frozenset({"Failed", "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
"""Reasons whose messages tell the image first, and the cause at their end."""

_DETAILS: Final = re.compile(r", e\.g\. pod |; last event |; \d+ more cannot be made: | \(kubectl ")
_NOT_MADE: Final = re.compile(
    r"(its pods cannot be made|; \d+ more cannot be made): (.+?)(?=; last event | \(kubectl |$)"
)
"""What is said of pods that cannot be made, and why."""
_POD_NAME: Final = re.compile(r"\b(pods?) \"[^\"]*\"")
"""Kubernetes tries again and again, each time for a pod of another name."""


def diagnose(workload: Workload, revision: Revision) -> str:
    """
    Say how the pods of a revision are, e.g. "2 of 3 pods in ImagePullBackOff".

    "" when there are no pods of it and nothing else is known.  Reasons are Kubernetes' own
    words, verbatim; the most frequent one is named, and those that alternate count as one.
    """
    groups = _groups(workload, revision)
    ended = [pod for group in groups for pod in group if pod.finished_at is not None]
    total = len(workload.pods_of(revision)) + len(ended)
    if groups:
        return f"{len(groups[0])} of {total} {_pods(total)} in {_trouble(groups[0])}"
    if _unmade_pods(workload, revision):
        return f"its pods cannot be made: {quote(revision.failure)}"
    if not total:
        return ""
    ready = sum(pod.is_ready for pod in workload.pods_of(revision))
    return f"{ready} of {total} {_pods(total)} ready"


def evidence_of(workload: Workload, revision: Revision, around: Surroundings) -> str:
    """
    Say how the pods of a revision are, and show it: one of them, the last Event, the command.

    E.g. "2 of 3 pods in CrashLoopBackOff (exit code 1), e.g. pod checkout-7d9-x, container app;
    last event BackOff at 02:14:10: 'Back-off restarting failed container' (kubectl logs
    checkout-7d9-x -c app -n shop --previous)".  What is healthy, or nothing is known of, is not
    shown.  Under 1,000 characters.
    """
    lead, details = diagnose(workload, revision), _details(workload, revision, around)
    if not lead or not (details or _unmade_pods(workload, revision)):
        return lead
    command = f" ({_command(workload, revision)})"
    return f"{lead}{details}"[: MAX_TEXT - len(command)] + command


def lead_of(evidence: str) -> str:
    """Return the first part of such evidence: what `diagnose` said."""
    return _DETAILS.split(evidence, maxsplit=1)[0]


def beside(evidence: str, said: str) -> str:
    """Return such evidence for the same note, without why no pod can be made if that was said."""
    return _NOT_MADE.sub(
        lambda found: found[1] if is_said_in(said, found[2].strip("'")) else found[0], evidence
    )


def is_said_in(said: str, why: str) -> bool:
    """
    Say whether a text holds why no pod can be made, whatever that pod was to be called.

    Of both the end may be cut: the first 120 characters count.
    """
    return _nameless(why)[:MAX_SAID].rstrip("…") in _nameless(said)


def examples(workload: Workload, revision: Revision) -> Sequence[Pod]:
    """
    Return the pods of a revision that show best why it is not ready, the best one first.

    One of each trouble, two at most; where nothing is known to be wrong, the oldest that is not
    ready.
    """
    groups = _groups(workload, revision)
    if groups:
        return [max(group, key=_tells) for group in groups[:MAX_EXAMPLES]]
    pods = [pod for pod in workload.pods_of(revision) if not pod.is_ready]
    return sorted(pods, key=lambda pod: (pod.created_at is None, pod.created_at, pod.name))[:1]


def availability(workload: Workload) -> str:
    """Say how many of the wanted pods are available, e.g. "2 of 3 pods available"."""
    live = workload.live
    available = min(live.available, workload.wanted) if live else 0
    return f"{available} of {workload.wanted} {_pods(workload.wanted)} available"


def by(workload: Workload) -> str:
    """Say who wrote the live template, e.g. " by kubectl-edit"; "" when it is not known."""
    return f" by {quote(workload.template_writer)}" if workload.template_writer else ""


def how(workload: Workload, around: Surroundings | None = None) -> str:
    """
    Say how the live revision is, e.g. "0 of 3 pods available, 3 of 3 pods in Error".

    With what stands around it one pod and the last Event are shown as well.
    """
    live = workload.live
    if live is None:
        return availability(workload)
    said = diagnose(workload, live)
    shown = f", {said}" if said and not said.endswith(" ready") else ""
    details = _details(workload, live, around) if around is not None else ""
    return f"{availability(workload)}{shown}{details}"


def look_command(workload: Workload) -> str:
    """Return the command that shows why the live revision is not well."""
    live, ref = workload.live, workload.ref
    if live is not None and (command := _command(workload, live)):
        return f"look at it: {command}"
    return f"look at its pods: kubectl describe deploy/{ref.name} -n {ref.namespace}"


def _unmade_pods(workload: Workload, revision: Revision) -> int:
    """Return how many pods cannot be made; the condition alone outlives that for a moment."""
    return missing_pods(workload, revision) if revision.failure else 0


def _nameless(message: str) -> str:
    """Return a message, on one line, without the names of pods."""
    return " ".join(_POD_NAME.sub(r"\1", message).split())


def _groups(workload: Workload, revision: Revision) -> Sequence[Sequence[Pod]]:
    """Return the failing pods of a revision by their trouble, the most frequent one first."""
    groups: dict[str, list[Pod]] = {}
    for pod in failing_pods(workload, revision):
        groups.setdefault(family(pod.reason), []).append(pod)
    return sorted(groups.values(), key=len, reverse=True)


def _trouble(pods: Sequence[Pod]) -> str:
    """Name what pods are in; the exit code only where all that have one have the same."""
    reason = quote(_most_frequent(pod.reason for pod in pods), MAX_REASON)
    codes = {pod.exit_code for pod in pods if pod.exit_code is not None}
    return f"{reason} (exit code {codes.pop()})" if len(codes) == 1 else reason


def _most_frequent(reasons: Iterable[str]) -> str:
    """Of equally frequent ones the one that stands for the others, then the first."""
    counts = Counter(reasons)
    return max(counts, key=lambda reason: (counts[reason], reason == family(reason)))


def _tells(pod: Pod) -> tuple[bool, bool, int]:
    return pod.logs != "None", bool(pod.message), pod.restarts


def _details(workload: Workload, revision: Revision, around: Surroundings) -> str:
    """Show what the lead speaks of; "" when nothing of it is known."""
    pod = next(iter(examples(workload, revision)), None)
    warning = around.warnings.get(pod.uid if pod else revision.uid)
    if pod is None:
        is_echo = revision.failure and warning and is_said_in(warning.message, revision.failure)
        return "" if is_echo else _event(warning)
    if not (pod.reason or warning or _says(pod, around)):
        return ""
    unmade = _unmade_pods(workload, revision)
    more = f"; {unmade} more cannot be made: {_said(revision.failure)}" if unmade else ""
    return f"{_example(pod, around)}{_event(warning)}{more}"


def _example(pod: Pod, around: Surroundings) -> str:
    container = f", container {quote(pod.container)}" if pod.container else ""
    says = _says(pod, around)
    return f", e.g. pod {pod.name}{container}{f': {says}' if says else ''}"


def _says(pod: Pod, around: Surroundings) -> str:
    """Return what is known of one pod beside its reason; "" when that is nothing."""
    if around.nodes.get(pod.node) is False:
        return f"its node {quote(pod.node)} is not ready"
    if not pod.reason and pod.not_ready == "ReadinessGatesNotReady":
        return pod.not_ready
    return _said(pod.message, pod.reason) if pod.message and pod.reason not in LOOPS else ""


def _event(warning: WarningEvent | None) -> str:
    if warning is None:
        return ""
    at = f" at {clock_time(warning.at)}" if warning.at else ""
    said = f": {_said(warning.message, warning.reason)}" if warning.message else ""
    return f"; last event {quote(warning.reason, MAX_REASON)}{at}{said}"


def _said(message: str, reason: str = "") -> str:
    """Quote a message; of a pull its end, for it begins with the image, twice."""
    if reason in PULLS and len(message) > MAX_SAID:
        tail = message[-MAX_SAID:]
        message = f"…{tail.partition(': ')[2] or tail}"
    return f"'{quote(message, MAX_SAID)}'"


def _command(workload: Workload, revision: Revision) -> str:
    """Return the command that shows more of what is not ready; "" when there is nothing of it."""
    namespace = f"-n {workload.ref.namespace}"
    pod = next(iter(examples(workload, revision)), None)
    if pod is None:
        is_it = _unmade_pods(workload, revision)
        return f"kubectl describe rs/{revision.replica_set} {namespace}" if is_it else ""
    if pod.logs == "None":
        return f"kubectl describe pod {pod.name} {namespace}"
    previous = " --previous" if pod.logs == "Previous" else ""
    return f"kubectl logs {pod.name} -c {pod.container} {namespace}{previous}"


def _pods(count: int) -> str:
    return "pod" if count == 1 else "pods"
