"""
Where the trouble of pods comes from: their template, or what stands around them.

Reasons and messages are Kubernetes' own and may change with it; what is not known is Unknown, and
decides nothing.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from incident_rollback.domain.rollout import failing_pods
from incident_rollback.domain.surroundings import Surroundings, WarningEvent
from incident_rollback.domain.workload import Pod, Revision, Workload

STARTS_WITHIN: Final = timedelta(seconds=60)
"""What a pod lacks before that may still be on its way: a volume, a network, a cache."""
MAX_NODES: Final = 3
"""How many nodes are looked at."""
BEFORE_IT_RUNS: Final = frozenset(
    {
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "FailedMapVolume",
        "FailedMount",
        "FailedScheduling",
        "NetworkNotReady",
    }
)
"""Events that are history once a container of the pod runs."""
_ALIKE: Final = {
    "ErrImagePull": "ImagePullBackOff",
    "Error": "CrashLoopBackOff",
    "Completed": "CrashLoopBackOff",
    "FailedScheduling": "Unschedulable",
}


class Origin(Enum):
    """Where trouble comes from."""

    TEMPLATE = auto()
    ENVIRONMENT = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Cause:
    """Where trouble comes from; of the environment, what it is that is not well there."""

    origin: Origin
    code: str = ""
    """CamelCase and stable, for it becomes part of a plan's digest; "" but of the environment."""
    words: str = ""
    """The same for people, as a clause."""


def _around(code: str, words: str) -> Cause:
    return Cause(Origin.ENVIRONMENT, code, words)


TEMPLATE: Final = Cause(Origin.TEMPLATE)
UNKNOWN: Final = Cause(Origin.UNKNOWN)
QUOTA: Final = _around("QuotaExceeded", "a quota lets no more pods in")
WEBHOOK: Final = _around("WebhookUnreachable", "an admission webhook does not answer")
REGISTRY: Final = _around("RegistryUnavailable", "the image registry does not answer")
NODES: Final = _around("NodesNotReady", "nodes are not ready")
EVICTED: Final = _around("PodsEvicted", "pods are taken off their nodes")
VOLUME: Final = _around("VolumeUnavailable", "a volume cannot be attached or mounted")
NETWORK: Final = _around("NetworkUnavailable", "pods get no network")
RUNTIME: Final = _around("RuntimeUnavailable", "the container runtime does not answer")
TERMINATING: Final = _around("NamespaceTerminating", "the namespace is being deleted")

NOT_THERE: Final = re.compile(
    r"not found|NotFound|404 Not Found|manifest unknown|name unknown|does not exist"
    r"|access denied|denied:|unauthorized:"
    r"|40[13] (Unauthorized|Forbidden)|no match for platform|invalid reference"
)
"""What a registry says that answers; image names hold no spaces, so these are no part of one."""
SILENT: Final = re.compile(
    r"i/o timeout|deadline exceeded|Client\.Timeout|timeout awaiting|handshake timeout"
    r"|connection (refused|reset|timed out)|no such host|no route to host|network is unreachable"
    r"|server misbehaving|Temporary failure in name resolution|(?<![\w/])tls: |x509: cert"
    r"|unexpected EOF|: EOF\b|registry is unavailable|too ?many ?requests|429 Too"
    r"|(status( code)?|response)[^,;]{0,60}?:? (429|5\d\d)\b"
    r"|5\d\d (Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time)",
    re.IGNORECASE,
)
"""What is said of a server that is away, too slow, not to be trusted, or refuses everybody."""
BAD_NODES: Final = re.compile(
    r"\b(\d{1,6}) node\(s\) had untolerated taint \{node\.kubernetes\.io/"
    r"(?:not-ready|unreachable|network-unavailable|(?:memory|disk|pid)-pressure)\b"
)
"""How many nodes take no pod because they are not well."""
ALL_NODES: Final = re.compile(r"^0/(\d{1,6}) nodes are available: ")
ROOM: Final = re.compile(
    r"Insufficient |Too many pods|free ports|affinity|selector|topology|volume|available disk|pvc"
    r"|PersistentVolume|claim",
    re.IGNORECASE,
)
"""Why a node that is well takes no pod: what the pod asks for, which a release may have changed."""
NO_NETWORK: Final = re.compile(
    r"network ?plugin|\bcni\b|plugin type=|failed to set ?up .{0,200}?\bnetwork"
    r"|pod network sandbox",
    re.IGNORECASE,
)
"""That a sandbox is not made for want of a network, not of a sysctl, a cgroup or an image."""
ITS_OWN_FAULT: Final = re.compile(
    r"failed quota:|(minimum|maximum) .{1,200} usage per |max .{1,100} limit to request ratio"
    r"|violates PodSecurity|denied (the )?request|is invalid:|no PriorityClass with name"
    r"|error looking up service account|RuntimeClass .{1,300} not found"
)
"""Why the API server takes no pod of this template; admission that answers judges the template."""

_ANYTHING: Final = re.compile("")
_RULES: Final = (
    ("ErrImagePull ImagePullBackOff", NOT_THERE, TEMPLATE),  # One that answers is not away.
    ("ErrImagePull ImagePullBackOff", SILENT, REGISTRY),
    ("RegistryUnavailable", _ANYTHING, REGISTRY),
    ("ImageInspectError InspectFailed", re.compile("couldn't parse image"), TEMPLATE),
    ("ImageInspectError InspectFailed", _ANYTHING, RUNTIME),
    ("InvalidImageName ErrImageNeverPull SignatureValidationFailed", _ANYTHING, TEMPLATE),
    ("CreateContainerError RunContainerError", re.compile("deadline exceeded"), UNKNOWN),
    ("CreateContainerConfigError CreateContainerError RunContainerError", _ANYTHING, TEMPLATE),
    ("CrashLoopBackOff BackOff Error Completed OOMKilled", _ANYTHING, TEMPLATE),
    ("ContainerCannotRun StartError PostStartHookError", _ANYTHING, TEMPLATE),
    ("FailedCreate", ITS_OWN_FAULT, TEMPLATE),
    ("FailedCreate", re.compile("exceeded quota"), QUOTA),
    ("FailedCreate", re.compile("failed (calling|to call) webhook"), WEBHOOK),
    ("FailedCreate", re.compile("because it is being terminated"), TERMINATING),
    ("Unschedulable FailedScheduling", re.compile("no nodes available to schedule"), NODES),
    ("Unschedulable FailedScheduling", re.compile("persistentvolumeclaim .* not found"), TEMPLATE),
    ("NodeNotReady NodeLost", _ANYTHING, NODES),
    ("Evicted", re.compile("Container .{1,63} was using"), UNKNOWN),  # It may be what leaks.
    ("Evicted", re.compile("exceed(s|ed) (its|the)"), TEMPLATE),  # Its own limits, not the node's.
    ("Evicted TerminationByKubelet DeletionByTaintManager", _ANYTHING, EVICTED),
    ("PreemptionByScheduler", _ANYTHING, UNKNOWN),  # The priority is the template's.
    ("EvictionByEvictionAPI DeletionByPodGC", _ANYTHING, EVICTED),
    ("Terminated NodeShutdown Preempting", _ANYTHING, EVICTED),
    ("FailedAttachVolume", re.compile("Multi-Attach error"), UNKNOWN),  # Pods of both want it.
    ("FailedMount FailedMapVolume", re.compile("(configmap|secret) .* not found"), TEMPLATE),
    ("FailedAttachVolume", _ANYTHING, VOLUME),
    ("FailedMount FailedMapVolume", SILENT, VOLUME),
    ("FailedCreatePodSandBox", re.compile("no runtime for"), TEMPLATE),
    ("FailedCreatePodSandBox", NO_NETWORK, NETWORK),
    ("NetworkNotReady", _ANYTHING, NETWORK),
)
RULES: Final = tuple((frozenset(reasons.split()), says, cause) for reasons, says, cause in _RULES)
"""Reasons, what the message has to say, and the cause; the first that holds."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why pods are not well."""

    cause: Cause
    evidence: str = ""
    """What says so: a message of Kubernetes', or a node."""
    pod: Pod | None = None
    """The one that shows it; None: it could not be made."""


NO_TROUBLE: Final = Trouble(UNKNOWN)


def family(reason: str) -> str:
    """
    Return the reason that stands for those it alternates with.

    A pull that fails is ErrImagePull for a moment and ImagePullBackOff then; what crashes is
    Error, or runs again for a moment, and CrashLoopBackOff then.
    """
    return _ALIKE.get(reason, reason)


def cause_of(reason: str, message: str) -> Cause:
    """Judge one reason of Kubernetes', of a pod or an Event, by what the message says to it."""
    if reason == "Failed" and message.startswith("Failed to pull image"):
        reason = "ErrImagePull"  # The Event's name for it.
    if family(reason) == "Unschedulable" and _are_most_nodes_bad(message):
        return NODES
    holds = (cause for reasons, says, cause in RULES if reason in reasons and says.search(message))
    return next(holds, UNKNOWN)


def _are_most_nodes_bad(message: str) -> bool:
    """
    Say whether more than half of the nodes take no pod because they are not well.

    One that is away, or that an autoscaler has just added, is named beside those that are full.
    """
    said = message.partition(" preemption: ")[0]
    total = ALL_NODES.search(said)
    bad = sum(int(count) for count in BAD_NODES.findall(said))
    return total is not None and bad * 2 > int(total[1])


def trouble_of(workload: Workload, revision: Revision, around: Surroundings) -> Trouble:
    """
    Say where the trouble of a revision comes from.

    From the environment only what more than half of its pods suffer from, those that cannot be
    made among them; so with the template.  What is ready, or only starts, speaks against both.
    """
    heard = _heard(workload, revision, around)
    found = [
        *(_trouble_of(pod, around, heard) for pod in _pods(workload, revision)),
        *_creation_troubles(workload, revision, around),
    ]
    for origin in (Origin.ENVIRONMENT, Origin.TEMPLATE):
        alike = [trouble for trouble in found if trouble.cause.origin is origin]
        if len(alike) * 2 > len(found):
            code, _ = Counter(trouble.cause.code for trouble in alike).most_common(1)[0]
            return next(trouble for trouble in alike if trouble.cause.code == code)
    return NO_TROUBLE


def missing_pods(workload: Workload, revision: Revision) -> int:
    """Return how many pods of a revision are wanted and not there."""
    return max(0, revision.desired - len(workload.pods_of(revision)))


def nodes_in_question(workload: Workload, revision: Revision) -> frozenset[str]:
    """
    Return the names of the nodes that may be why pods are not well, three at most.

    Those of pods of which nothing is known to be wrong, for a node that is away says nothing
    more; and where none takes a pod, and not for want of room, those that the workload's pods
    were on.
    """
    silent = [
        pod
        for pod in workload.pods_of(revision)
        if not pod.is_ready
        and cause_of(pod.reason, pod.message) is UNKNOWN
        and not _wants_room(pod)
    ]
    is_placed = all(pod.node for pod in silent)
    among = silent if is_placed else [pod for pod in workload.pods if not pod.is_ready]
    return frozenset(sorted({pod.node for pod in among if pod.node})[:MAX_NODES])


def _wants_room(pod: Pod) -> bool:
    """Say whether no node takes a pod for what it asks for."""
    said = pod.message.partition(" preemption: ")[0]
    return family(pod.reason) == "Unschedulable" and ROOM.search(said) is not None


def _pods(workload: Workload, revision: Revision) -> Iterator[Pod]:
    yield from workload.pods_of(revision)
    yield from (pod for pod in failing_pods(workload, revision) if pod.finished_at is not None)


_State = tuple[str, bool, bool]
"""Of pods in the same trouble: why they fail, whether they have a node, and have started."""


def _state(pod: Pod) -> _State:
    return family(pod.reason), bool(pod.node), pod.started_at is not None


def _heard(
    workload: Workload, revision: Revision, around: Surroundings
) -> Mapping[_State, WarningEvent]:
    """Return what Events say of pods that are not ready: of one, it holds for those like it."""
    pods = [pod for pod in workload.pods_of(revision) if not pod.is_ready]
    told = ((pod, around.warnings.get(pod.uid)) for pod in pods)
    return {_state(pod): w for pod, w in told if w and w.is_of_kubernetes and _is_of_now(w, pod)}


def _is_of_now(warning: WarningEvent, pod: Pod) -> bool:
    """What kept a pod from starting is over once it runs, and is no news while it is young."""
    if warning.reason not in BEFORE_IT_RUNS:
        return True
    if warning.reason == "FailedScheduling" and pod.node:
        return False
    if pod.started_at is not None or warning.at is None or pod.created_at is None:
        return False
    return warning.at - pod.created_at >= STARTS_WITHIN


def _trouble_of(pod: Pod, around: Surroundings, heard: Mapping[_State, WarningEvent]) -> Trouble:
    """Judge a pod by what it says itself, by its node, and by the Event that there is."""
    if pod.is_ready:
        return NO_TROUBLE
    cause = cause_of(pod.reason, pod.message)
    if cause is not UNKNOWN:
        return Trouble(cause, pod.message, pod)
    if nodes := _bad_nodes(pod, around):
        return Trouble(NODES, ", ".join(nodes), pod)
    warning = heard.get(_state(pod))
    if warning is None:
        return NO_TROUBLE
    return Trouble(cause_of(warning.reason, warning.message), warning.message, pod)


def _bad_nodes(pod: Pod, around: Surroundings) -> list[str]:
    """Return the nodes that are not ready, if that is why this pod is not."""
    bad = sorted(name for name, is_ready in around.nodes.items() if is_ready is False)
    if pod.node:
        return bad if pod.node in bad else []
    return bad if family(pod.reason) == "Unschedulable" and not _wants_room(pod) else []


def _creation_troubles(
    workload: Workload, revision: Revision, around: Surroundings
) -> Iterator[Trouble]:
    """Yield a trouble for each pod that cannot be made; an Event is newer than the condition."""
    warning = around.warnings.get(revision.uid)
    is_told = warning and warning.is_of_kubernetes and warning.reason == "FailedCreate"
    message = warning.message if warning and is_told else revision.failure
    if message:
        trouble = Trouble(cause_of("FailedCreate", message), message)
        yield from [trouble] * missing_pods(workload, revision)
