"""
What the cluster says in its messages, made safe to repeat: no credentials, no value, no log.

Registries, runtimes and API servers quote what they were given; a probe or a hook of exec quotes
what a program wrote.
"""

import re
from typing import Final

MAX_MESSAGE: Final = 1000
MAX_READ: Final = 2000
"""What is beyond is not looked at, and not told; it also bounds what the patterns cost."""

CRASHES: Final = frozenset({"BackOff", "ContainerCannotRun", "CrashLoopBackOff", "StartError"})
CREATIONS: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "Failed",
        "FailedCreate",
        "RunContainerError",
    }
)
PULLS: Final = frozenset(
    {
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InspectFailed",
        "InvalidImageName",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
PLACES: Final = frozenset(
    {
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "FailedMapVolume",
        "FailedMount",
        "FailedScheduling",
        "NetworkNotReady",
        "NodeNotReady",
        "SchedulerError",
        "Unschedulable",
    }
)
"""What keeps a pod from having a node, its volumes or its network."""
REMOVALS: Final = frozenset(
    {
        "DeletionByPodGC",
        "DeletionByTaintManager",
        "Evicted",
        "EvictionByEvictionAPI",
        "PreemptionByScheduler",
        "TerminationByKubelet",
    }
)
OWN_WORDS: Final = CRASHES | CREATIONS | PULLS | PLACES | REMOVALS
"""Reasons whose messages are Kubernetes' and the runtime's own; any other one may be anybody's."""

_SECRETS: Final = (
    (re.compile(r"://[^\s@\"']*@(?!sha\d+:)"), "://"),
    (re.compile(r"(?<![^\s@:/\"'(=])[^\s@:/\"'(=]+:[^\s@\"']*@(?!sha\d+:)"), ""),
    (re.compile(r"(?<=[^\s\"'])[?#][^\s\"'?#=]*=[^\s\"']*"), ""),
    (re.compile(r"(://[^\s\"'?#]*)[?#][^\s\"']*"), r"\1"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 …"),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]+\.?[\w-]*"), "…"),
)
"""User and password before a host, query strings, and tokens, with what is left of them."""
_NAMED: Final = re.compile(r"(?<![\w.-])([\w.-]+=)([^\s,;]+)")
_SECRET_NAME: Final = re.compile(r"passw|pwd|secret|token|credential|key", re.IGNORECASE)
_VALUE: Final = re.compile(
    r"(Invalid value|Duplicate value|Unsupported value|Too long): .*", re.DOTALL
)
"""Field errors quote the value that was refused, and it may be one of env."""
_PROBE: Final = re.compile(r"(Readiness|Liveness|Startup) probe (failed|errored)")
_PROBE_SAYS: Final = re.compile(
    r"HTTP probe failed with statuscode: \d{3}\b|connection refused|no route to host"
    r"|i/o timeout|deadline exceeded|Client\.Timeout|service unhealthy"
)
"""What the kubelet itself says of a probe; all else may be written by a program of the pod."""


def safe(message: str) -> str:
    """
    Return a message of the cluster on one line, without what nobody else may read.

    At most 1,000 characters.  A word that was cut is left out: it may be half of a secret.
    """
    words = message[:MAX_READ].split()
    if len(message) > MAX_READ:
        words = words[:-1]
    told = _VALUE.sub(r"\1", " ".join(words))
    for pattern, instead in _SECRETS:
        told = pattern.sub(instead, told)
    return _NAMED.sub(_without_secret, told)[:MAX_MESSAGE]


def _without_secret(found: re.Match[str]) -> str:
    return f"{found[1]}…" if _SECRET_NAME.search(found[1]) else found[0]


def own_words(reason: str, message: str) -> str:
    """
    Return what may be repeated of the message that came with a reason; "" of anybody's.

    Of a failed probe only what the kubelet says, for it may quote what a program wrote.
    """
    if reason == "Unhealthy":
        return _of_probe(message)
    return safe(message) if reason in OWN_WORDS or reason.startswith("OutOf") else ""


def _of_probe(message: str) -> str:
    probe, says = _PROBE.match(message), _PROBE_SAYS.search(message)
    if probe is None:
        return ""
    return f"{probe[0]}: {says[0]}" if says else probe[0]
