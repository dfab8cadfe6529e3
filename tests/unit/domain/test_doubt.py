from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Policy
from incident_rollback.domain.decision import decide
from incident_rollback.domain.moves import Claim, Preview, Refuse
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.raw import Json
from incident_rollback.domain.surroundings import (
    Reference,
    Referent,
    Surroundings,
    WarningEvent,
)
from incident_rollback.domain.workload import Pod, Revision, Workload
from tests.builders import (
    a_broken_pod,
    a_pod,
    a_revision,
    a_rollback,
    a_template,
    a_workload,
    ago,
    an_incident,
    an_observation,
    outcome,
)

WEEK = timedelta(days=7)


def failing(of_live: str, of_target: str = "") -> Workload:
    """Return a workload whose live pods fail, and those of revision 1 for a given reason."""
    target = a_broken_pod(1, of_target) if of_target else a_pod(1)
    return a_workload(pods=(a_broken_pod(2, of_live), a_broken_pod(2, of_live), target))


def aged(days: float) -> Workload:
    return a_workload(
        a_revision(2, created_at=ago(days=days)),
        a_revision(1, created_at=ago(days=90), available=3),
    )


ASKED = [
    pytest.param(
        failing("OOMKilled", "OOMKilled"),
        "revision 1 are in OOMKilled as well",
        id="D7 pods of both fail for one reason",
    ),
    pytest.param(
        failing("Error", "CrashLoopBackOff"),
        "revision 1 are in Error as well",
        id="D8 for reasons that alternate",
    ),
    pytest.param(
        aged(7.1),
        "had run for 7 d 2 h when the incident began",
        id="the live one is over a week old",
    ),
]
GOES_ON = [
    pytest.param(failing("CrashLoopBackOff"), a_rollback(), id="only the live one fails"),
    pytest.param(
        failing("CrashLoopBackOff", "Unschedulable"), a_rollback(), id="they fail differently"
    ),
    pytest.param(
        a_workload(pods=(a_broken_pod(2), a_broken_pod(1), a_pod(1), a_pod(1))),
        a_rollback(),
        id="D7 only one of the old pods fails as the new ones do",
    ),
    pytest.param(aged(6.9), a_rollback(), id="the live one is younger than a week"),
    pytest.param(
        failing("OOMKilled", "OOMKilled"),
        a_rollback(to={"revision": 1}),
        id="whoever names the revision has been asked",
    ),
]


@pytest.mark.parametrize(("workload", "why"), ASKED)
def test_what_is_unlikely_to_help_asks_first(workload: Workload, why: str) -> None:
    move = decide(an_observation(None, workload))
    assert isinstance(move, Refuse)
    assert move.reason == "ApprovalRequired"
    assert why in move.message
    assert move.aim is not None
    assert "kubectl irb approve" in move.fix
    assert move.aim.plan.digest in move.fix


@pytest.mark.parametrize(("workload", "rollback"), GOES_ON)
def test_what_may_help_goes_on(workload: Workload, rollback: IncidentRollback) -> None:
    assert isinstance(decide(an_observation(rollback, workload)), Claim)


def test_the_age_that_asks_is_the_policys() -> None:
    hour = Policy(max_release_age_seconds=3600)
    move = decide(an_observation(None, aged(1), policy=hour))
    assert isinstance(move, Refuse)
    assert isinstance(decide(an_observation(None, aged(1))), Claim)


def test_the_age_counts_to_the_beginning_of_the_incident() -> None:
    began = an_incident(startedAt=ago(days=5).isoformat())
    assert isinstance(decide(an_observation(a_rollback(incident=began), aged(7.1))), Claim)


def test_the_approved_plan_goes_on() -> None:
    asked = decide(an_observation(None, aged(8)))
    assert isinstance(asked, Refuse)
    assert asked.aim is not None
    approved = a_rollback(plan_digest=asked.aim.plan.digest)
    assert isinstance(decide(an_observation(approved, aged(8))), Claim)


SETTINGS = Reference("ConfigMap", "settings")
NEEDS_IT = a_template("checkout:1.1", envFrom=[{"configMapRef": {"name": "settings"}}])


def with_settings(rollback: IncidentRollback, *, is_there: bool | None) -> Observation:
    """Return what a turn sees when revision 1 needs a ConfigMap, and it was looked at."""
    workload = a_workload(a_revision(2), a_revision(1, template=NEEDS_IT, available=3))
    around = Surroundings(references={SETTINGS: Referent(is_there=is_there)})
    return an_observation(rollback, workload, around=around)


MISSING = [
    pytest.param({"to": {"revision": 1}}, False, "Refuse ApprovalRequired", id="P7 asked for"),
    pytest.param({}, False, "Refuse NothingToRollBackTo", id="P7 by itself: never"),
    pytest.param(
        {"to": {"revision": 1}, "dry_run": True}, False, "Preview 1", id="P7 a preview shows it"
    ),
    pytest.param({"to": {"revision": 1}}, True, "Claim 1", id="P7 it is there"),
    pytest.param({"to": {"revision": 1}}, None, "Claim 1", id="P7 nobody could look"),
]


@pytest.mark.parametrize(("spec", "is_there", "expected"), MISSING)
def test_what_was_asked_for_and_cannot_start_asks_first(
    spec: dict[str, Any], is_there: bool | None, expected: str
) -> None:
    move = decide(with_settings(a_rollback(**spec), is_there=is_there))
    assert outcome(move) == expected
    if isinstance(move, Refuse):
        assert "needs ConfigMap settings, gone by now" in move.message
    if isinstance(move, Preview):
        assert "ConfigMap settings gone by now" in move.aim.to.evidence


def test_an_approval_covers_what_was_missing_and_nothing_else() -> None:
    """It was gone when somebody approved; now it is back, and the plan is another one."""
    asked = decide(with_settings(a_rollback(to={"revision": 1}), is_there=False))
    assert isinstance(asked, Refuse)
    assert asked.aim is not None
    approved = a_rollback(to={"revision": 1}, plan_digest=asked.aim.plan.digest)
    assert outcome(decide(with_settings(approved, is_there=False))) == "Claim 1"
    assert outcome(decide(with_settings(approved, is_there=True))) == "Refuse PlanChanged"


LIVE = a_revision(2, desired=3)
GONE = a_revision(1)
"""The old revision, with no pod left: a rollback makes new ones."""
QUOTA = 'pods "checkout-hash-2-" is forbidden: exceeded quota: compute, requested: '
TIMEOUT = "dial tcp 10.0.0.9:443: i/o timeout"
WEBHOOK = 'Internal error occurred: failed calling webhook "inject.mesh"'
SILENT = a_pod(is_ready=False, ready_since=None, started_at=None, uid="p-1", node="n-1")
STARTING = replace(SILENT, node="n-2")
NODES = Surroundings(nodes={"n-1": False, "n-2": True})
NO_IP = "networkPlugin cni failed: no IP"
TAINT = "1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }"


def ill(*pods: Pod, to: Revision = GONE, **live: Any) -> Workload:
    """Return a workload that is not well; `live` is what differs of its live revision."""
    return a_workload(replace(LIVE, **live), to, pods=pods)


def unmade(message: str, **changes: Any) -> Workload:
    return ill(failure=message, **changes)


def unpulled(image: str, **changes: Any) -> Workload:
    pod = a_broken_pod(message=TIMEOUT, container="app")
    return ill(pod, pod, pod, template=a_template(image), **changes)


def asking_for(cpu: str) -> Json:
    return a_template("checkout:1.1", resources={"requests": {"cpu": cpu}})


def with_event(reason: str, message: str) -> Surroundings:
    return Surroundings(warnings={"p-1": WarningEvent(reason, message, ago(minutes=1))})


DATA = {"spec": {"containers": [], "volumes": [{"name": "data"}]}}
EVICTED = a_broken_pod(reason="Evicted", message="The node was low on resource: memory.")
DOUBTED: list[Any] = [
    pytest.param(unmade(f"{QUOTA}pods=1"), Surroundings(), "QuotaExceeded",
                 f"a quota lets no more pods in ({QUOTA}pods=1), and revision 1 needs new pods",
                 id="D5 the quota of pods is used up"),
    pytest.param(unmade(f"{QUOTA}requests.cpu=1"), Surroundings(), "QuotaExceeded", "requests.cpu",
                 id="D5 another quota, and both ask for the same"),
    pytest.param(unmade(f"{QUOTA}limits.cpu=4,pods=1", template=asking_for("4"),
                        to=replace(GONE, template=asking_for("1"))), Surroundings(),
                 "QuotaExceeded", "pods=1", id="D5 whatever both ask for, no more pods are let in"),
    pytest.param(unmade(WEBHOOK), Surroundings(), "WebhookUnreachable",
                 "an admission webhook does not answer (Internal error", id="D6 a webhook is away"),
    pytest.param(unpulled("checkout:1.2"), Surroundings(), "RegistryUnavailable",
                 f"the image registry does not answer ({TIMEOUT})", id="the registry is away"),
    pytest.param(ill(SILENT, SILENT), NODES, "NodesNotReady", "nodes are not ready (n-1)",
                 id="nodes are not ready"),
    pytest.param(ill(EVICTED, EVICTED), Surroundings(), "PodsEvicted",
                 "(The node was low on resource: memory.)", id="the nodes have too little"),
    pytest.param(ill(SILENT), with_event("FailedAttachVolume", "no disk"), "VolumeUnavailable",
                 "a volume cannot be attached or mounted (no disk)",
                 id="a volume that both use cannot be attached"),
    pytest.param(ill(SILENT), with_event("FailedCreatePodSandBox", NO_IP), "NetworkUnavailable",
                 f"pods get no network ({NO_IP})", id="the network fails"),
    pytest.param(ill(SILENT), with_event("ImageInspectError", ""), "RuntimeUnavailable",
                 "the container runtime does not answer, and revision 1",
                 id="the runtime fails, and says nothing"),
    pytest.param(unmade("because it is being terminated"), Surroundings(), "NamespaceTerminating",
                 "the namespace is being deleted", id="the namespace is being deleted"),
]  # fmt: skip


@pytest.mark.parametrize(("workload", "around", "code", "says"), DOUBTED)
def test_trouble_from_around_asks_first(
    workload: Workload, around: Surroundings, code: str, says: str
) -> None:
    move = decide(an_observation(None, workload, around=around))
    assert outcome(move) == "Refuse ApprovalRequired"
    assert isinstance(move, Refuse)
    assert says in move.message
    assert "as well, so a rollback is unlikely to help" in move.message
    assert move.aim is not None
    assert [doubt.code for doubt in move.aim.doubts] == [code]


SERVES = a_revision(1, available=3)
UNDOUBTED: list[Any] = [
    pytest.param(unmade(f"{QUOTA}pods=1", to=SERVES), Surroundings(),
                 id="D5 all pods of the old one run: a rollback makes none"),
    pytest.param(unmade(f"{QUOTA}requests.cpu=4", template=asking_for("4"),
                        to=replace(GONE, template=asking_for("1"))), Surroundings(),
                 id="D5 the release asks for more than the one before"),
    pytest.param(unmade('admission webhook "p" denied the request: unsigned'), Surroundings(),
                 id="D6 a webhook denies the new template"),
    pytest.param(unpulled("r.exmaple.com/checkout:2"), Surroundings(),
                 id="the release names another registry"),
    pytest.param(unpulled("checkout:1.2", to=SERVES), Surroundings(),
                 id="the registry is away, and the old pods run"),
    pytest.param(ill(SILENT, STARTING, STARTING), NODES, id="only one of its nodes is not ready"),
    pytest.param(ill(STARTING, STARTING), NODES, id="merely slow"),
    pytest.param(ill(a_broken_pod(reason="Unschedulable", message="0/5 nodes are available: "
                                  f"{TAINT}, 4 Insufficient memory.")), Surroundings(),
                 id="D4 the release is too big, and one node of many is away"),
    pytest.param(ill(a_broken_pod(reason="Unschedulable", message="0/5: 5 Insufficient memory."),
                     a_pod(1, is_ready=False, node="n-1"), to=replace(GONE, desired=1)), NODES,
                 id="D4 the release is too big, and an old pod's node is away"),
    pytest.param(ill(a_broken_pod(reason="Evicted", message=f"{EVICTED.message} Container app was "
                                  "using 14Gi, request is 256Mi.")), Surroundings(),
                 id="the release leaks, and the node had too little for that"),
    pytest.param(ill(STARTING), with_event("FailedScheduling", f"0/1 nodes are available: {TAINT}"),
                 id="it has a node by now, and pulls its image"),
    pytest.param(ill(a_broken_pod(reason="PreemptionByScheduler")), Surroundings(),
                 id="pods of a higher priority go first"),
    pytest.param(ill(SILENT, template=DATA), with_event("FailedAttachVolume", "no disk"),
                 id="a volume that only the release uses"),
    pytest.param(ill(SILENT), Surroundings(warnings={"p-1": None}, nodes={"n-1": None}),
                 id="D9 nothing may be looked at"),
    pytest.param(ill(a_broken_pod(reason="SomethingNew")), Surroundings(),
                 id="D10 a reason that nobody knows"),
]  # fmt: skip


@pytest.mark.parametrize(("workload", "around"), UNDOUBTED)
def test_what_is_not_known_to_come_from_around_goes_on(
    workload: Workload, around: Surroundings
) -> None:
    assert outcome(decide(an_observation(None, workload, around=around))) == "Claim 1"


def test_of_a_healthy_workload_nothing_is_said() -> None:
    """The counts are newer than the pods: they were read first, but not by us."""
    well = a_workload(a_revision(2), GONE, health="healthy", pods=(SILENT, SILENT))
    assert outcome(decide(an_observation(None, well, around=NODES))) == "Claim 1"


def test_whoever_names_the_revision_is_not_asked_about_what_is_around() -> None:
    named = a_rollback(to={"revision": 1})
    assert outcome(decide(an_observation(named, unmade(WEBHOOK)))) == "Claim 1"


def test_what_was_seen_is_said_to_whoever_shall_approve() -> None:
    pods = (a_broken_pod(reason="OOMKilled", exit_code=137), a_broken_pod(1, "OOMKilled"))
    move = decide(an_observation(None, a_workload(pods=pods)))
    assert isinstance(move, Refuse)
    assert "1 of 1 pod in OOMKilled (exit code 137), e.g. pod checkout-hash-2-x" in move.message


REGISTRIES = [
    pytest.param("checkout:2", "library/checkout:1", True, id="the one that needs no name"),
    pytest.param("r.example.com/a/b:2", "r.example.com/c@sha256:0f", True, id="by its host"),
    pytest.param("localhost:5000/a:2", "localhost:5001/a:1", False, id="the port is part of it"),
    pytest.param("localhost/a:2", "a:1", False, id="localhost is a host"),
    pytest.param("team/a:2", "r.example.com/team/a:1", False, id="a folder is none"),
]


@pytest.mark.parametrize(("image", "old", "is_shared"), REGISTRIES)
def test_whether_both_images_come_from_one_registry(image: str, old: str, is_shared: bool) -> None:
    workload = unpulled(image, to=replace(GONE, template=a_template(old)))
    move = outcome(decide(an_observation(None, workload)))
    assert (move == "Refuse ApprovalRequired") is is_shared


def test_each_doubt_has_the_code_that_an_approval_covers() -> None:
    def codes(seen: Observation) -> list[str]:
        move = decide(seen)
        assert isinstance(move, Refuse)
        assert move.aim is not None
        return [doubt.code for doubt in move.aim.doubts]

    asked = a_rollback(to={"revision": 1})
    assert codes(with_settings(asked, is_there=False)) == ["ReferenceMissing: ConfigMap settings"]
    alike = failing("OOMKilled", "OOMKilled")
    assert codes(an_observation(None, alike)) == ["FailsAlike"]
    both = replace(
        alike,
        revisions=(a_revision(2, created_at=ago(days=8)), a_revision(1, created_at=ago(days=90))),
    )
    assert codes(an_observation(None, both)) == ["FailsAlike", "ReleaseIsOld"]


HALVES = [
    pytest.param((a_broken_pod(1, "OOMKilled"), a_pod(1)), "Claim 1", id="half of the old ones"),
    pytest.param(
        (a_broken_pod(1, "OOMKilled"), a_pod(1), a_pod(1)), "Claim 1", id="less than half of them"
    ),
    pytest.param(
        (a_broken_pod(1, "OOMKilled"), a_broken_pod(1, "OOMKilled"), a_pod(1)),
        "Refuse ApprovalRequired",
        id="most of them",
    ),
]


@pytest.mark.parametrize(("old", "move"), HALVES)
def test_d7_most_pods_of_both_must_fail_alike(old: tuple[Pod, ...], move: str) -> None:
    pods = (a_broken_pod(2, "OOMKilled"), *old)
    assert outcome(decide(an_observation(None, a_workload(pods=pods)))) == move


def test_a_release_of_a_week_to_the_second_is_not_old() -> None:
    began = an_incident(started_at=ago(minutes=5))
    week = a_workload(
        a_revision(2, created_at=began.started_at - WEEK if began.started_at else None),
        a_revision(1, created_at=ago(days=90), available=3),
    )
    assert outcome(decide(an_observation(a_rollback(incident=began), week))) == "Claim 1"


def test_init_containers_come_from_a_registry_too() -> None:
    def two(image: str, init: str) -> Json:
        spec = {"containers": [{"name": "app", "image": image}]}
        return {"spec": {**spec, "initContainers": [{"name": "init", "image": init}]}}

    pod = a_broken_pod(message=TIMEOUT, container="init")
    live = two("a.example.com/app:2", "b.example.com/init:2")
    for old, move in (
        (two("c.example.com/app:1", "b.example.com/init:1"), "Refuse ApprovalRequired"),
        (two("a.example.com/app:1", "c.example.com/init:1"), "Claim 1"),
    ):
        workload = ill(pod, template=live, to=replace(GONE, template=old))
        assert outcome(decide(an_observation(None, workload))) == move
