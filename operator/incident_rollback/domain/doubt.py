"""When a rollback is unlikely to help, a person is asked first: it would be one more change."""

from collections import Counter
from datetime import timedelta

from incident_rollback.domain.history import History
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.revision import Choice
from incident_rollback.domain.rollout import failing_pods
from incident_rollback.domain.words import quote, span
from incident_rollback.domain.workload import Revision, Workload


def why_ask(seen: Observation, workload: Workload, choice: Choice) -> str:
    """
    Say why a person should approve the plan first; "" when nothing speaks against it.

    Whoever names the revision or approves the plan has been asked; the policy asks them too.
    """
    if seen.policy.approval == "Required":
        return "the environment asks for approval"
    if seen.rollback.spec.to is not None:
        return ""
    return _fails_alike(workload, choice.revision) or _is_old(seen, workload)


def _fails_alike(workload: Workload, to: Revision) -> str:
    """Pods of both revisions fail for one reason: the cause is not the release."""
    live = workload.live
    reason = _trouble(workload, live) if live else ""
    if not reason or reason != _trouble(workload, to):
        return ""
    return (
        f"pods of revision {to.number} are in {quote(reason)} as well, so a rollback is unlikely "
        "to help"
    )


def _is_old(seen: Observation, workload: Workload) -> str:
    """What has run for long is seldom what broke now; an unknown age is no age."""
    current_at = History.of(workload).became_current_at(workload)
    limit = timedelta(seconds=seen.policy.max_release_age_seconds)
    if current_at is None or seen.began_at - current_at <= limit:
        return ""
    age = span(seen.began_at - current_at)
    return (
        f"the live revision had run for {age} when the incident began, so it may not be the cause"
    )


def _trouble(workload: Workload, revision: Revision) -> str:
    """Return the most frequent reason of the failing pods of a revision; "" of none."""
    reasons = Counter(pod.reason for pod in failing_pods(workload, revision))
    return reasons.most_common(1)[0][0] if reasons else ""
