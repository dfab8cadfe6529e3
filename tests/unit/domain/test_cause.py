"""Where trouble comes from: the words are those of Kubernetes 1.36 and of its runtimes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from incident_rollback.domain.cause import (
    EVICTED,
    NETWORK,
    NODES,
    QUOTA,
    REGISTRY,
    RULES,
    RUNTIME,
    TEMPLATE,
    TERMINATING,
    UNKNOWN,
    VOLUME,
    WEBHOOK,
    Cause,
    Origin,
    cause_of,
    family,
    nodes_in_question,
    trouble_of,
)
from incident_rollback.domain.surroundings import Surroundings, WarningEvent
from incident_rollback.domain.workload import Pod, Workload
from tests.builders import a_broken_pod, a_pod, a_revision, a_workload, ago

PULL = 'Back-off pulling image "r.example.com/shop:2": ErrImagePull: '
PULLED = 'failed to pull and unpack image "r.example.com/shop:2": '
HEAD = f'{PULLED}failed to do request: Head "https://r.example.com/v2/shop/manifests/2": '

IMAGES = [
    pytest.param("ImagePullBackOff", f"{PULL}{PULLED}r.example.com/shop:2: not found", TEMPLATE,
                 id="D1 ImagePullBackOff: the tag is not there"),
    pytest.param("ErrImagePull", "manifest for shop:2 not found: manifest unknown", TEMPLATE,
                 id="D1 ErrImagePull: the same"),
    pytest.param("ImagePullBackOff", f"{PULL}pull access denied, repository does not exist",
                 TEMPLATE, id="D1 ImagePullBackOff: denied"),
    pytest.param("ErrImagePull", f"{HEAD}403 Forbidden", TEMPLATE, id="D1 ErrImagePull: forbidden"),
    pytest.param("ImagePullBackOff", f"{PULL}{HEAD}dial tcp 10.0.0.9:443: i/o timeout", REGISTRY,
                 id="D1 ImagePullBackOff: the registry is silent"),
    pytest.param("ErrImagePull", f"{HEAD}dial tcp: lookup r.example.com: no such host", REGISTRY,
                 id="D1 ErrImagePull: its name leads nowhere"),
    pytest.param("ErrImagePull", f"{HEAD}dial tcp 10.0.0.9:443: connect: connection refused",
                 REGISTRY, id="nobody listens there"),
    pytest.param("ErrImagePull", f"{HEAD}net/http: TLS handshake timeout", REGISTRY, id="TLS"),
    pytest.param("ErrImagePull", f"{HEAD}x509: certificate has expired", REGISTRY,
                 id="its certificate has expired"),
    pytest.param("ErrImagePull", "toomanyrequests: You have reached your pull rate limit", REGISTRY,
                 id="it takes no more requests"),
    pytest.param("ErrImagePull", f"{PULLED}unexpected status code 429 Too Many Requests", REGISTRY,
                 id="429"),
    pytest.param("ErrImagePull", f"{PULLED}unexpected status from HEAD request to https://r.example"
                 ".com/v2/shop/manifests/2: 503 Service Unavailable", REGISTRY, id="5xx"),
    pytest.param("RegistryUnavailable", "", REGISTRY, id="D1 RegistryUnavailable"),
    pytest.param("ErrImagePull", "image pull failed for shop:2 because the registry is unavailable",
                 REGISTRY, id="or said in words"),
    pytest.param("ImagePullBackOff", 'Back-off pulling image "shop:2"', UNKNOWN,
                 id="an image that is not pulled, and nobody says why"),
    pytest.param("ImagePullBackOff", f"{PULL}lookup m: no such host; r/shop:2: not found", TEMPLATE,
                 id="a mirror is away, and the registry that answers does not have it"),
    pytest.param("ErrImagePull", 'failed to pull "shop/no-such-host:429"', UNKNOWN,
                 id="the image's own name says nothing"),
    pytest.param("ImageInspectError", "Failed to inspect", RUNTIME, id="D1 ImageInspectError"),
    pytest.param("InspectFailed", "couldn't parse image name", TEMPLATE, id="no image's name"),
    pytest.param("InvalidImageName", "", TEMPLATE, id="D1 InvalidImageName"),
    pytest.param("ErrImageNeverPull", "", TEMPLATE, id="D1 ErrImageNeverPull"),
    pytest.param("SignatureValidationFailed", "", TEMPLATE, id="D1 SignatureValidationFailed"),
    pytest.param("Failed", f'Failed to pull image "shop:2": {HEAD}i/o timeout', REGISTRY,
                 id="an Event's word for a pull that failed"),
    pytest.param("Failed", "Error: context deadline exceeded", UNKNOWN,
                 id="the same word for all else"),
]  # fmt: skip
CONTAINERS = [
    pytest.param("CreateContainerConfigError", 'secret "a" not found', TEMPLATE,
                 id="D1 CreateContainerConfigError"),
    pytest.param("CreateContainerError", "", TEMPLATE, id="D1 CreateContainerError"),
    pytest.param("CreateContainerError", "context deadline exceeded", UNKNOWN,
                 id="D1 CreateContainerError of a slow runtime"),
    pytest.param("RunContainerError", "exec: no such file", TEMPLATE, id="D1 RunContainerError"),
    pytest.param("CrashLoopBackOff", "back-off 40s", TEMPLATE, id="D1 CrashLoopBackOff"),
    pytest.param("PostStartHookError", "", TEMPLATE, id="D1 PostStartHookError"),
    pytest.param("OOMKilled", "", TEMPLATE, id="D3 OOMKilled"),
    pytest.param("Error", "", TEMPLATE, id="it ended with an error"),
    pytest.param("Completed", "", TEMPLATE, id="it ended, and should not have"),
    pytest.param("StartError", "", TEMPLATE, id="it did not start"),
    pytest.param("ContainerCreating", "", UNKNOWN, id="D1 ContainerCreating is no trouble yet"),
    pytest.param("PodInitializing", "", UNKNOWN, id="D1 PodInitializing is no trouble yet"),
    pytest.param("SomethingNew", "i/o timeout", UNKNOWN, id="D10 nobody knows it yet"),
    pytest.param("", "", UNKNOWN, id="D10 nothing is said"),
]  # fmt: skip
TAINTED = "0/3 nodes are available: 3 node(s) had untolerated taint {node.kubernetes.io/"
UNREACHABLE = "node(s) had untolerated taint {node.kubernetes.io/unreachable: }"
NEW_NODE = "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
PLACES = [
    pytest.param("Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.", UNKNOWN,
                 id="D4 no room: by the template or by the cluster"),
    pytest.param("Unschedulable", f"{TAINTED}unreachable: }}.", NODES,
                 id="D4 the nodes cannot be reached"),
    pytest.param("FailedScheduling", f"{TAINTED}memory-pressure: }}.", NODES,
                 id="D4 the nodes are under pressure"),
    pytest.param("Unschedulable", "no nodes available to schedule pods", NODES, id="D4 no nodes"),
    pytest.param("Unschedulable", f"0/4 nodes are available: 1 {UNREACHABLE}, 3 Insufficient memory"
                 ". preemption: 0/4 nodes are available: 4 Preemption is not helpful.", UNKNOWN,
                 id="D4 one node is away, and it is too big for the others"),
    pytest.param("FailedScheduling", f"0/5 nodes are available: 1 {NEW_NODE}, 4 Insufficient cpu.",
                 UNKNOWN, id="D4 no room, and a node is just added"),
    pytest.param("Unschedulable", f"0/4 nodes are available: 2 {UNREACHABLE}, 2 Insufficient cpu.",
                 UNKNOWN, id="D4 half of the nodes is not most"),
    pytest.param("Unschedulable", f"0/4 nodes are available: 1 Insufficient cpu, 1 {NEW_NODE}, "
                 f"2 {UNREACHABLE}.", NODES, id="D4 most nodes are away, each for its own reason"),
    pytest.param("Unschedulable", f"0/4 nodes are available: 1 {UNREACHABLE}. preemption: 0/4 nodes"
                 f" are available: 3 {UNREACHABLE}.", UNKNOWN,
                 id="D4 what is said of preemption counts no nodes"),
    pytest.param("Unschedulable", f"3 {UNREACHABLE}", UNKNOWN, id="D4 nobody says of how many"),
    pytest.param("Unschedulable", f"{TAINTED.replace('node.kubernetes.io', 'example.com')}gpu: }}",
                 UNKNOWN, id="D4 a taint of somebody's own"),
    pytest.param("Unschedulable", "0/3 nodes are available: 3 node(s) had untolerated taint(s).",
                 UNKNOWN, id="D4 a taint that is not named"),
    pytest.param("Unschedulable", 'persistentvolumeclaim "data" not found.', TEMPLATE,
                 id="D4 what it wants is not there"),
    pytest.param("NodeNotReady", "Node is not ready", NODES, id="its node went away"),
    pytest.param("Evicted", "The node was low on resource: memory. Threshold quantity: 100Mi, "
                 "available: 50Mi. ", EVICTED, id="the node had too little"),
    pytest.param("Evicted", "The node was low on resource: memory. Container app was using 14Gi, "
                 "request is 256Mi, has larger consumption of memory. ", UNKNOWN,
                 id="the node had too little, for the pod took it: it may leak"),
    pytest.param("Evicted", "The node was low on resource: ephemeral-storage. Container app was "
                 "using 60Gi, request is 0, has larger consumption of ephemeral-storage. ", UNKNOWN,
                 id="the pod filled the node's disk: it may write without end"),
    pytest.param("PreemptionByScheduler", "Preempted by pod", UNKNOWN,
                 id="another pod goes first, by a priority that is the template's"),
    pytest.param("Evicted", "The node had condition: [DiskPressure]. ", EVICTED,
                 id="the node was under pressure"),
    pytest.param("Evicted", 'Container app exceeded its local ephemeral storage limit "1Gi". ',
                 TEMPLATE, id="it used more than its own limit"),
    pytest.param("Evicted", 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". ', TEMPLATE,
                 id="so did its volume"),
    *(
        pytest.param(reason, "", EVICTED, id=f"taken off its node: {reason}")
        for reason in (
            "TerminationByKubelet",
            "DeletionByTaintManager",
            "EvictionByEvictionAPI",
            "DeletionByPodGC",
            "Terminated",
            "NodeShutdown",
            "Preempting",
        )
    ),
    pytest.param("FailedAttachVolume", "AttachVolume.Attach failed: rpc error: deadline", VOLUME,
                 id="a volume is not attached"),
    pytest.param("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1"', UNKNOWN,
                 id="a volume that the old pods have: without the new ones it is well"),
    pytest.param("FailedMount", 'MountVolume.SetUp failed for volume "c" : configmap "a" not found',
                 TEMPLATE, id="a volume of a ConfigMap that is not there"),
    pytest.param("FailedMount", "mount.nfs: connection timed out", VOLUME, id="a silent server"),
    pytest.param("FailedMount", "unmounted volumes=[c]: timed out waiting for the condition",
                 UNKNOWN, id="a mount that nobody explains"),
    pytest.param("FailedCreatePodSandBox", 'plugin type="calico" failed', NETWORK,
                 id="the network plugin fails"),
    pytest.param("FailedCreatePodSandBox", 'rpc error: failed to setup network for sandbox "0f": x',
                 NETWORK, id="the network of a sandbox cannot be made"),
    pytest.param("FailedCreatePodSandBox", 'networkPlugin cni failed to set up pod "a" network: x',
                 NETWORK, id="or in other words"),
    pytest.param("FailedCreatePodSandBox", "network plugin is not ready", NETWORK,
                 id="the network plugin is not ready"),
    pytest.param("FailedCreatePodSandBox", 'sysctl "kernel.msgmax" not allowed', UNKNOWN,
                 id="a sandbox that is not made for something else"),
    pytest.param("NetworkNotReady", "network is not ready", NETWORK, id="the node has no network"),
    pytest.param("FailedCreatePodSandBox", 'no runtime for "gvisor" is configured', TEMPLATE,
                 id="the runtime that it asks for is not there"),
]  # fmt: skip
FORBIDDEN = 'pods "checkout-hash-2-" is forbidden: '
QUOTA_SAYS = "exceeded quota: compute, requested: pods=1, used: pods=3, limited: pods=3"
WEBHOOK_SAYS = (
    'Internal error occurred: failed calling webhook "inject.example.com": failed to call webhook: '
    'Post "https://inject.mesh.svc:443/inject": dial tcp 10.0.0.9:443: connect: connection refused'
)
CREATIONS = [
    pytest.param(f"{FORBIDDEN}{QUOTA_SAYS}", QUOTA, id="D5 the quota is used up"),
    pytest.param(f"{FORBIDDEN}failed quota: compute: must specify limits.cpu for: app", TEMPLATE,
                 id="D5 a quota wants what the template does not say"),
    pytest.param(f"{FORBIDDEN}maximum cpu usage per Container is 1, but limit is 2", TEMPLATE,
                 id="D5 a LimitRange"),
    pytest.param(f'{FORBIDDEN}violates PodSecurity "restricted:latest": privileged', TEMPLATE,
                 id="D6 Pod Security denies this template"),
    pytest.param('admission webhook "p.example.com" denied the request: unsigned', TEMPLATE,
                 id="D6 a webhook denies this template"),
    pytest.param("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", TEMPLATE,
                 id="D6 a policy denies this template"),
    pytest.param(WEBHOOK_SAYS, WEBHOOK, id="D6 a webhook is away"),
    pytest.param('admission webhook "p" denied the request: failed calling webhook q', TEMPLATE,
                 id="D6 one that denies is not away, whatever it says"),
    pytest.param(f"{FORBIDDEN}error looking up service account shop/a: not found", TEMPLATE,
                 id="its ServiceAccount is not there"),
    pytest.param(f"{FORBIDDEN}unable to create new content in namespace shop because it is being "
                 "terminated", TERMINATING, id="the namespace is being deleted"),
    pytest.param("etcdserver: request timed out", UNKNOWN, id="D10 anything else"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "message", "cause"), [*IMAGES, *CONTAINERS, *PLACES])
def test_the_cause_of_a_pods_trouble(reason: str, message: str, cause: Cause) -> None:
    assert cause_of(reason, message) is cause


@pytest.mark.parametrize(("message", "cause"), CREATIONS)
def test_the_cause_for_which_no_pod_is_made(message: str, cause: Cause) -> None:
    assert cause_of("FailedCreate", message) is cause


def test_only_what_is_around_has_a_code_and_words_for_people() -> None:
    for cause in (cause for _, _, cause in RULES):
        is_around = cause.origin is Origin.ENVIRONMENT
        assert (bool(cause.code), bool(cause.words)) == (is_around, is_around)


ALTERNATING = [
    pytest.param("ErrImagePull", "ImagePullBackOff", id="D8 a pull fails, and backs off"),
    pytest.param("Error", "CrashLoopBackOff", id="D8 it runs for a moment, and ends"),
    pytest.param("Completed", "CrashLoopBackOff", id="D8 the same without an error"),
    pytest.param("OOMKilled", "OOMKilled", id="D8 whatever happens in between, it says OOMKilled"),
    pytest.param("SomethingNew", "SomethingNew", id="D10 nobody knows it yet"),
]


@pytest.mark.parametrize(("reason", "stands_for"), ALTERNATING)
def test_reasons_that_alternate_are_one(reason: str, stands_for: str) -> None:
    assert family(reason) == stands_for


TIMEOUT = "dial tcp 10.0.0.9:443: i/o timeout"
LIVE = a_revision(2, desired=3)
UNPULLED = a_broken_pod(message=TIMEOUT)
CRASHING = a_broken_pod(reason="CrashLoopBackOff")
STARTING = a_pod(is_ready=False, ready_since=None, started_at=None, uid="p-1", node="n-1")
RUNNING = replace(STARTING, started_at=ago(minutes=9))
HOMELESS = replace(STARTING, reason="Unschedulable", node="", message="0/3 nodes: 3 taint(s)")
TOO_BIG = replace(HOMELESS, message="0/5 nodes are available: 5 Insufficient memory.")
NO_IP = 'failed to setup network for sandbox "0f": no IP'
NO_NODE = f"{TAINTED}not-ready: }}."
DOWN = Surroundings(nodes={"n-1": False, "n-2": True})


def with_event(reason: str, message: str, *, of: str = "p-1", **at: float) -> Surroundings:
    return Surroundings(warnings={of: WarningEvent(reason, message, ago(**(at or {"minutes": 1})))})


def from_anybody(reason: str, *, of: str = "p-1") -> Surroundings:
    event = WarningEvent(reason, QUOTA_SAYS, ago(minutes=1), is_of_kubernetes=False)
    return Surroundings(warnings={of: event})


def workload(*pods: Pod, **live: Any) -> Workload:
    return a_workload(replace(LIVE, **{"desired": len(pods), **live}), a_revision(1), pods=pods)


TROUBLES: list[Any] = [
    pytest.param([UNPULLED, UNPULLED, CRASHING], {}, Surroundings(), REGISTRY,
                 id="most of its pods suffer from what is around"),
    pytest.param([UNPULLED, CRASHING], {}, Surroundings(), UNKNOWN, id="half of them is not most"),
    pytest.param([UNPULLED, CRASHING, CRASHING], {}, Surroundings(), TEMPLATE,
                 id="most of them suffer from the template"),
    pytest.param([UNPULLED, a_pod(), a_pod()], {}, Surroundings(), UNKNOWN,
                 id="most of them are ready"),
    pytest.param([UNPULLED, STARTING, STARTING], {}, Surroundings(), UNKNOWN,
                 id="most of them only start"),
    pytest.param([UNPULLED, UNPULLED, replace(CRASHING, reason="SomethingNew")], {},
                 Surroundings(), REGISTRY, id="D10 an unknown reason speaks for nothing"),
    pytest.param([UNPULLED, replace(UNPULLED, reason="ErrImagePull")], {}, Surroundings(), REGISTRY,
                 id="D8 a pull that fails and one that backs off"),
    pytest.param([STARTING], {}, DOWN, NODES, id="the node of a pod that says nothing is away"),
    pytest.param([RUNNING], {}, DOWN, NODES, id="so it is though its containers ran"),
    pytest.param([replace(STARTING, node="n-2")], {}, DOWN, UNKNOWN,
                 id="another node than its own is away"),
    pytest.param([a_pod(reason="CrashLoopBackOff")], {}, Surroundings(), UNKNOWN,
                 id="it crashed, and is ready now"),
    pytest.param([STARTING], {}, Surroundings(nodes={"n-1": None}), UNKNOWN,
                 id="of its node nothing is known"),
    pytest.param([replace(CRASHING, node="n-1")], {}, DOWN, TEMPLATE,
                 id="what it says itself comes first"),
    pytest.param([HOMELESS], {}, DOWN, NODES, id="D4 no node takes it, and one is away"),
    pytest.param([HOMELESS], {}, Surroundings(nodes={"n-2": True}), UNKNOWN,
                 id="D4 no node takes it, and all are well"),
    *(
        pytest.param([replace(HOMELESS, message=f"0/3 nodes are available: 3 {says}.")], {}, DOWN,
                     UNKNOWN, id=f"D4 a node is away, but there is no room for it: {says}")
        for says in (
            "Insufficient cpu",
            "Too many pods",
            "node(s) didn't have free ports for the requested pod ports",
            "node(s) didn't match Pod's node affinity/selector",
            "node(s) didn't match pod topology spread constraints",
            "node(s) exceed max volume count",
            "pod has unbound immediate PersistentVolumeClaims",
        )
    ),
    pytest.param([STARTING], {}, with_event("FailedAttachVolume", "no disk"), VOLUME,
                 id="an Event says why it does not start"),
    pytest.param([STARTING], {}, from_anybody("FailedAttachVolume"), UNKNOWN,
                 id="D10 an Event that is not Kubernetes' own is no cause"),
    pytest.param([STARTING], {}, with_event("FailedScheduling", NO_NODE), UNKNOWN,
                 id="once it has a node, that it had none is history"),
    pytest.param([replace(STARTING, node="")], {}, with_event("FailedScheduling", NO_NODE), NODES,
                 id="D4 an Event says why it has no node"),
    pytest.param([replace(STARTING, node=""), STARTING, STARTING], {},
                 with_event("FailedScheduling", NO_NODE), UNKNOWN,
                 id="why one has no node is not why others with a node do not start"),
    pytest.param([STARTING, replace(STARTING, uid="p-2")], {},
                 with_event("FailedAttachVolume", "no disk"), VOLUME,
                 id="the Event of one holds for the others like it"),
    pytest.param([RUNNING], {}, with_event("FailedAttachVolume", "no disk"), UNKNOWN,
                 id="once it runs that is history"),
    pytest.param([STARTING, replace(STARTING, uid="p-2", started_at=ago(minutes=9))], {},
                 with_event("NodeNotReady", "Node is not ready"), UNKNOWN,
                 id="why one does not start is not why one that runs is not ready"),
    pytest.param([STARTING, replace(STARTING, uid="p-2", reason="SomethingNew")], {},
                 with_event("FailedAttachVolume", "no disk"), UNKNOWN,
                 id="nor why one that gives another reason does not"),
    pytest.param([STARTING], {}, with_event("FailedCreatePodSandBox", NO_IP, minutes=8),
                 NETWORK, id="after a minute, to the second, it is not young any more"),
    pytest.param([replace(STARTING, created_at=None)], {},
                 with_event("FailedAttachVolume", "no disk"), UNKNOWN,
                 id="how old it is nobody knows"),
    pytest.param([replace(HOMELESS, message="0/3 nodes are available: 3 taint(s). preemption: 0/3 "
                          "nodes are available: 3 Insufficient cpu.")], {}, DOWN, NODES,
                 id="D4 what a preemption would find is not why no node takes it"),
    pytest.param([STARTING], {}, with_event("FailedCreatePodSandBox", NO_IP), NETWORK,
                 id="it gets no network, and is not young"),
    pytest.param([STARTING], {}, with_event("FailedCreatePodSandBox", NO_IP, minutes=8.5),
                 UNKNOWN, id="while it is young that may be on its way"),
    pytest.param([RUNNING], {}, with_event("NodeNotReady", "Node is not ready"), NODES,
                 id="its node may not be looked at, and an Event tells"),
    pytest.param([STARTING], {}, with_event("Unhealthy", "Readiness probe failed"), UNKNOWN,
                 id="a failed probe says nothing of where that comes from"),
    pytest.param([], {"desired": 1, "failure": QUOTA_SAYS}, Surroundings(), QUOTA,
                 id="D5 not one pod is made"),
    pytest.param([a_pod()], {"desired": 3, "failure": QUOTA_SAYS}, Surroundings(), QUOTA,
                 id="D5 most pods are not made"),
    pytest.param([a_pod(), a_pod()], {"desired": 3, "failure": QUOTA_SAYS}, Surroundings(), UNKNOWN,
                 id="D5 most pods are made, and well"),
    pytest.param([], {"desired": 1, "failure": WEBHOOK_SAYS}, Surroundings(), WEBHOOK,
                 id="D6 no pod is made, for a webhook is away"),
    pytest.param([], {"desired": 1, "failure": WEBHOOK_SAYS},
                 with_event("FailedCreate", f"Error creating: {QUOTA_SAYS}", of=LIVE.uid), QUOTA,
                 id="D5 the Event is newer than the condition"),
    pytest.param([], {"desired": 1, "failure": WEBHOOK_SAYS},
                 from_anybody("FailedCreate", of=LIVE.uid), WEBHOOK,
                 id="D10 but not one that is not Kubernetes' own"),
    pytest.param([], {"desired": 0}, Surroundings(), UNKNOWN, id="no pods are wanted"),
    pytest.param([], {"desired": 1}, Surroundings(), UNKNOWN, id="D9 nothing is said, or seen"),
]  # fmt: skip


@pytest.mark.parametrize(("pods", "live", "around", "cause"), TROUBLES)
def test_where_the_trouble_of_a_revision_comes_from(
    pods: Sequence[Pod], live: Any, around: Surroundings, cause: Cause
) -> None:
    made = workload(*pods, **live)
    assert made.live is not None
    trouble = trouble_of(made, made.live, around)
    assert trouble.cause is cause
    # Who shows it is one of the pods, unless what shows it is that they cannot be made.
    assert trouble.pod in (
        pods if cause is not UNKNOWN and pods and not live.get("failure") else [None]
    )


def evicted(**changes: Any) -> Pod:
    low = "The node was low on resource: memory."
    return replace(
        a_broken_pod(reason="Evicted", message=low), finished_at=ago(minutes=9), **changes
    )


def test_pods_that_were_evicted_count_until_what_replaced_them_is_well() -> None:
    replaced = replace(STARTING, created_at=ago(minutes=9))
    suffering = workload(evicted(), evicted(), replaced, desired=2)
    well = workload(evicted(), evicted(), a_pod(), a_pod(), desired=2)
    old = workload(evicted(), evicted(), replace(STARTING, created_at=ago(minutes=1)), desired=2)
    causes = [trouble_of(seen, LIVE, Surroundings()).cause for seen in (suffering, well, old)]
    assert causes == [EVICTED, UNKNOWN, UNKNOWN]


NOWHERE: set[str] = set()
VISITED = [
    pytest.param([replace(CRASHING, node="n-1"), replace(UNPULLED, node="n-2")], NOWHERE,
                 id="what says why needs no look at its node"),
    pytest.param([STARTING, a_pod(node="n-2")], {"n-1"}, id="the node of a pod that says nothing"),
    pytest.param([replace(STARTING, node=f"n-{n}") for n in range(9)], {"n-0", "n-1", "n-2"},
                 id="three at most"),
    pytest.param([HOMELESS, a_pod(1, is_ready=False, node="n-3"), a_pod(1, node="n-4")], {"n-3"},
                 id="D4 where none takes it, those that its pods were on"),
    pytest.param([TOO_BIG, a_pod(1, is_ready=False, node="n-3")], NOWHERE,
                 id="D4 where there is no room for it, none"),
    pytest.param([], NOWHERE, id="no pods"),
]  # fmt: skip


@pytest.mark.parametrize(("pods", "names"), VISITED)
def test_which_nodes_are_in_question(pods: Sequence[Pod], names: set[str]) -> None:
    assert nodes_in_question(workload(*pods), LIVE) == names


def test_nodes_that_are_away_are_all_named() -> None:
    both = Surroundings(nodes={"n-1": False, "n-2": False})
    made = workload(STARTING)
    assert made.live is not None
    assert trouble_of(made, made.live, both).evidence == "n-1, n-2"
