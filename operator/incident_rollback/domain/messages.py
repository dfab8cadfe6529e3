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

AUTHORS: Final = frozenset(
    {
        "attachdetach-controller",
        "default-scheduler",
        "deployment-controller",
        "kubelet",
        "node-controller",
        "persistentvolume-controller",
        "replicaset-controller",
        "taint-eviction-controller",
    }
)
"""
Who of Kubernetes' own writes Events about pods and what owns them.

No other scheduler: what it says stands in the pod's condition too, and many a program that posts
Events is called so.
"""

_SECRETS: Final = (
    (re.compile(r"://[^\s@\"']*@(?!sha\d+:)"), "://"),
    (re.compile(r"(?<![^\s@:/\"'(=])[^\s@:/\"'(=]+:[^\s@\"']*@(?!sha\d+:)"), ""),
    (re.compile(r"(?<=[^\s\"'])[?#][^\s\"'?#=]*=[^\s\"']*"), ""),
    (re.compile(r"(://[^\s\"'?#]*)[?#][^\s\"']*"), r"\1"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 …"),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]+\.?[\w-]*"), "…"),
)
"""User and password before a host, query strings, and tokens, with what is left of them."""
_CALLED: Final = r"(?:passw|passphrase|pwd|secret|token|credential|key)"
_ENDS: Final = r"(?:passw\w*|passphrase|pwd|credential|(?:secret|token|key)s?(?:_\w+)?)s?"
"""How a name ends before ": "; hosts and images, before which it stands as well, seldom do."""
_GOES_ON: Final = (
    "and cannot connection context dial EOF error executable failed for from Get has Head i/o in "
    "invalid is lookup net/http no not of on or Post read rpc server timed tls to unable "
    "unexpected was with x509"
)
"""With these words a message goes on: they are no secret, and where they stand is a cause."""
_PLAIN: Final = rf"(?!(?:{_GOES_ON.replace(' ', '|')})[:,.]?(?:\s|$))"
_GIVEN: Final = (
    r"(?:(?P<escape>\\*)(?P<quote>[\"']).*?(?:(?<!\\)(?P=escape)(?P=quote)|$)"
    r"|[{\[][^}\]]*|[^\s,;]+)"
)
"""Quoted, as deep as it may be; in brackets; or one word."""
_NAMED: Final = tuple(
    re.compile(rf"(?P<name>{name}){_GIVEN}", re.IGNORECASE)
    for name in (
        rf"{_CALLED}[\w.-]{{0,200}}=",
        rf"[\"'][\w.-]{{0,200}}{_CALLED}[\w.-]{{0,200}}\\*[\"'] ?: ?{_PLAIN}",
        rf"(?<![\w./-])(?<!non-existent (?:secret|config) )[\w-]{{0,200}}{_ENDS} ?: ?{_PLAIN}",
        rf"(?<![\w.-])--?[\w.-]{{0,200}}{_CALLED}[\w.-]{{0,200}}[\\\"',]* (?!--?\w)",
        r"(?<![\w./-])(?!-)[\w-]{0,200}(?:passw(?:or)?d|passphrase|pwd|token|credential|[_-]key)s? "
        + _PLAIN,
    )
)
"""
What is called a secret: `password=`, `"password":`, `password: `, `--db-password `, `password `.

Rather a word too many is left out than one too few.  A bare "secret" or "key" with no sign after
it is Kubernetes' way to name an object, or an entry of it.
"""
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
    for pattern in _NAMED:
        told = pattern.sub(r"\g<name>…", told)
    return told[:MAX_MESSAGE]


def are_kubernetes(authors: frozenset[str]) -> bool:
    """Say whether all who are named as authors of an Event are Kubernetes' own; nobody is not."""
    return bool(authors) and authors <= AUTHORS


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
