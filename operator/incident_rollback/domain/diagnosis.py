"""Why pods are not ready, in words that can be pasted; never a log line, never a value of env."""

from collections import Counter
from typing import Final

from incident_rollback.domain.rollout import failing_pods
from incident_rollback.domain.words import quote
from incident_rollback.domain.workload import Pod, Revision, Workload

MAX_REASON: Final = 64


def diagnose(workload: Workload, revision: Revision) -> str:
    """
    Say how the pods of a revision are, e.g. "2 of 3 pods in ImagePullBackOff".

    "" when there are no pods of it and nothing else is known.  Reasons are Kubernetes' own
    words, verbatim; the most frequent one is named.
    """
    pods = workload.pods_of(revision)
    failing = failing_pods(workload, revision)
    if failing:
        reason, count = Counter(_trouble(pod) for pod in failing).most_common(1)[0]
        return f"{count} of {len(pods)} {_pods(len(pods))} in {reason}"
    if revision.failure:
        return f"its pods cannot be made: {quote(revision.failure)}"
    if not pods:
        return ""
    ready = sum(pod.is_ready for pod in pods)
    return f"{ready} of {len(pods)} {_pods(len(pods))} ready"


def availability(workload: Workload) -> str:
    """Say how many of the wanted pods are available, e.g. "2 of 3 pods available"."""
    live = workload.live
    available = min(live.available, workload.wanted) if live else 0
    return f"{available} of {workload.wanted} {_pods(workload.wanted)} available"


def by(workload: Workload) -> str:
    """Say who wrote the live template, e.g. " by kubectl-edit"; "" when it is not known."""
    return f" by {quote(workload.template_writer)}" if workload.template_writer else ""


def how(workload: Workload) -> str:
    """Say how the live revision is, e.g. "0 of 3 pods available, 3 of 3 pods in Error"."""
    live = workload.live
    said = diagnose(workload, live) if live else ""
    return f"{availability(workload)}{f', {said}' if said and ' ready' not in said else ''}"


def look(workload: Workload) -> str:
    """Return the command that shows why."""
    ref = workload.ref
    return f"look at its pods: kubectl describe deploy/{ref.name} -n {ref.namespace}"


def _trouble(pod: Pod) -> str:
    reason = quote(pod.reason, MAX_REASON)
    return f"{reason} (exit code {pod.exit_code})" if pod.exit_code is not None else reason


def _pods(count: int) -> str:
    return "pod" if count == 1 else "pods"
