from dataclasses import replace

import pytest

from incident_rollback.crd.v1alpha1 import MAX_TEXT
from incident_rollback.domain.diagnosis import (
    availability,
    beside,
    by,
    diagnose,
    evidence_of,
    examples,
    how,
    lead_of,
    look_command,
)
from incident_rollback.domain.surroundings import Surroundings, WarningEvent
from incident_rollback.domain.workload import Pod, Workload
from tests.builders import a_broken_pod, a_pod, a_revision, a_template, a_workload, ago

CRASH = "CrashLoopBackOff"
REASONS = [
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
]
DIAGNOSES = [
    *(
        pytest.param(
            (a_broken_pod(reason=reason),), f"1 of 1 pod in {reason}", id=f"D1 {reason} by its name"
        )
        for reason in REASONS
    ),
    pytest.param(
        (a_pod(), a_broken_pod(), a_broken_pod()),
        "2 of 3 pods in ImagePullBackOff",
        id="D1 how many, and why",
    ),
    pytest.param((a_broken_pod(),), "1 of 1 pod in ImagePullBackOff", id="one pod"),
    pytest.param(
        (a_broken_pod(reason="OOMKilled", exit_code=137),),
        "1 of 1 pod in OOMKilled (exit code 137)",
        id="D3 with the exit code",
    ),
    pytest.param(
        (a_broken_pod(reason=CRASH), a_broken_pod(), a_broken_pod(reason=CRASH)),
        "2 of 3 pods in CrashLoopBackOff",
        id="the most frequent reason",
    ),
    pytest.param(
        (a_broken_pod(reason=CRASH, exit_code=1), a_broken_pod(reason="Error", exit_code=1)),
        "2 of 2 pods in CrashLoopBackOff (exit code 1)",
        id="D8 a pod that crashes and one that has just crashed",
    ),
    pytest.param(
        (a_broken_pod(reason="ErrImagePull"), a_broken_pod()),
        "2 of 2 pods in ImagePullBackOff",
        id="D8 of equally frequent ones the one that lasts",
    ),
    pytest.param(
        (a_broken_pod(reason="ErrImagePull"), a_broken_pod(), a_broken_pod(reason="ErrImagePull")),
        "3 of 3 pods in ErrImagePull",
        id="D8 a pull that fails and one that backs off",
    ),
    pytest.param(
        (a_broken_pod(reason=CRASH, exit_code=1), a_broken_pod(reason=CRASH, exit_code=2)),
        "2 of 2 pods in CrashLoopBackOff",
        id="D8 exit codes that differ are not told",
    ),
    pytest.param(
        (
            a_broken_pod(reason="Evicted", finished_at=ago(minutes=9)),
            a_pod(is_ready=False, ready_since=None),
        ),
        "1 of 2 pods in Evicted",
        id="one that has ended, and what replaced it",
    ),
    pytest.param(
        (a_broken_pod(reason="Evicted", finished_at=ago(minutes=9)), a_pod()),
        "1 of 1 pod ready",
        id="one that has ended long ago",
    ),
    pytest.param(
        (a_broken_pod(reason="SomethingNew"),), "1 of 1 pod in SomethingNew", id="D10 verbatim"
    ),
    pytest.param((a_pod(), a_pod(is_ready=False)), "1 of 2 pods ready", id="nothing is wrong yet"),
    pytest.param((a_broken_pod(is_deleting=True),), "", id="on its way out"),
    pytest.param((), "", id="no pods"),
]


@pytest.mark.parametrize(("pods", "said"), DIAGNOSES)
def test_diagnose(pods: tuple[Pod, ...], said: str) -> None:
    workload = a_workload(pods=pods)
    assert workload.live is not None
    assert diagnose(workload, workload.live) == said


def test_d5_pods_that_cannot_be_made_say_why_without_markup() -> None:
    revision = a_revision(2, desired=3, failure="exceeded quota <b> @here " + "x" * 500)
    said = diagnose(a_workload(pods=()), revision)
    assert said.startswith("its pods cannot be made: exceeded quota &lt;b&gt; @\u200bhere xx")
    assert len(said) < 240


AVAILABILITY = [
    pytest.param(a_workload(health="healthy"), "3 of 3 pods available", id="all"),
    pytest.param(a_workload(health="healthy", wanted=1), "1 of 1 pod available", id="one"),
    pytest.param(
        a_workload(), "0 of 3 pods available", id="those of the old revision do not count"
    ),
    pytest.param(
        replace(a_workload(health="healthy"), wanted=2), "2 of 2 pods available", id="never 3 of 2"
    ),
    pytest.param(
        a_workload(template=a_template("new")), "0 of 3 pods available", id="no ReplicaSet yet"
    ),
]


@pytest.mark.parametrize(("workload", "said"), AVAILABILITY)
def test_availability(workload: Workload, said: str) -> None:
    assert availability(workload) == said


POD = "checkout-7d9-x"
AT = ago(seconds=-10)


def show(**pod: object) -> Pod:
    """Return a pod that fails, in a revision whose other pods are ready."""
    given = {"name": POD, "uid": "p-1", "container": "app", **pod}
    return replace(a_broken_pod(reason=CRASH), **given)  # type: ignore[arg-type]


def heard(reason: str, message: str = "", *, of: str = "p-1") -> Surroundings:
    return Surroundings(warnings={of: WarningEvent(reason, message, AT)})


LOOPS = show(exit_code=1, logs="Previous", message="back-off 40s restarting failed container")
OOM = show(reason="OOMKilled", exit_code=137, logs="Previous", message="back-off 40s restarting")
SLOW = show(reason="", logs="Current")
NEVER = replace(SLOW, logs="None", container="")
BACK_OFF = "Back-off restarting failed container app in pod"
PULL = "ErrImagePull: " + "failed to pull registry.example.com/a/long/name/of/an/image:1.2: " * 3
EVIDENCE = [
    pytest.param(
        LOOPS,
        heard("BackOff", BACK_OFF),
        "1 of 2 pods in CrashLoopBackOff (exit code 1), e.g. pod checkout-7d9-x, container app; "
        f"last event BackOff at 02:14:10: '{BACK_OFF}' "
        "(kubectl logs checkout-7d9-x -c app -n production --previous)",
        id="D1 CrashLoopBackOff: pod, container, reason, exit code, last event, the command",
    ),
    pytest.param(
        OOM,
        Surroundings(warnings={"p-1": None}),
        "1 of 2 pods in OOMKilled (exit code 137), e.g. pod checkout-7d9-x, container app "
        "(kubectl logs checkout-7d9-x -c app -n production --previous)",
        id="D3 OOMKilled, and no Event is left",
    ),
    pytest.param(
        OOM,
        Surroundings(),
        "1 of 2 pods in OOMKilled (exit code 137), e.g. pod checkout-7d9-x, container app "
        "(kubectl logs checkout-7d9-x -c app -n production --previous)",
        id="D9 Events may not be read: the rest is said all the same",
    ),
    pytest.param(
        show(reason="ImagePullBackOff", message="shop:2: not found"),
        heard("Failed", 'Failed to pull image "shop:2"'),
        "1 of 2 pods in ImagePullBackOff, e.g. pod checkout-7d9-x, container app: 'shop:2: not "
        "found'; last event Failed at 02:14:10: 'Failed to pull image \"shop:2\"' "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="D1 ImagePullBackOff: what never ran has no logs",
    ),
    pytest.param(
        show(reason="ImagePullBackOff", message=f"{PULL}not found"),
        Surroundings(),
        "1 of 2 pods in ImagePullBackOff, e.g. pod checkout-7d9-x, container app: '…failed to pull "
        "registry.example.com/a/long/name/of/an/image:1.2: not found' "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="D1 ImagePullBackOff: of a long message the end says why",
    ),
    pytest.param(
        show(container="migrate", reason="Error", exit_code=2, logs="Current"),
        Surroundings(),
        "1 of 2 pods in Error (exit code 2), e.g. pod checkout-7d9-x, container migrate "
        "(kubectl logs checkout-7d9-x -c migrate -n production)",
        id="D2 an init container that has just ended: its logs are the latest",
    ),
    pytest.param(
        show(reason="Unschedulable", container="", message="0/3 nodes: 3 Insufficient cpu."),
        heard("FailedScheduling"),
        "1 of 2 pods in Unschedulable, e.g. pod checkout-7d9-x: '0/3 nodes: 3 Insufficient cpu.'; "
        "last event FailedScheduling at 02:14:10 "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="D4 Unschedulable, and what the scheduler says",
    ),
    pytest.param(
        show(reason="NovelReason", container=""),
        heard("SyncedByNobody"),
        "1 of 2 pods in NovelReason, e.g. pod checkout-7d9-x; last event SyncedByNobody at "
        "02:14:10 (kubectl describe pod checkout-7d9-x -n production)",
        id="D10 reasons that nobody knows, of a pod and of an Event",
    ),
    pytest.param(
        SLOW,
        heard("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        "1 of 2 pods ready, e.g. pod checkout-7d9-x, container app; last event Unhealthy at "
        "02:14:10: 'Readiness probe failed: HTTP probe failed with statuscode: 503' "
        "(kubectl logs checkout-7d9-x -c app -n production)",
        id="it runs, and its probe fails",
    ),
    pytest.param(
        replace(SLOW, not_ready="ReadinessGatesNotReady"),
        Surroundings(),
        "1 of 2 pods ready, e.g. pod checkout-7d9-x, container app: ReadinessGatesNotReady "
        "(kubectl logs checkout-7d9-x -c app -n production)",
        id="it runs, and a readiness gate is closed",
    ),
    pytest.param(
        replace(NEVER, node="n-1"),
        Surroundings(nodes={"n-1": False}),
        "1 of 2 pods ready, e.g. pod checkout-7d9-x: its node n-1 is not ready "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="its node is not ready",
    ),
    pytest.param(
        show(reason="N" * 80, container=""),
        Surroundings(),
        f"1 of 2 pods in {'N' * 63}…, e.g. pod checkout-7d9-x "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="D10 a reason of anybody's is cut",
    ),
    pytest.param(
        show(reason="Unschedulable", container="", not_ready="ReadinessGatesNotReady"),
        Surroundings(),
        "1 of 2 pods in Unschedulable, e.g. pod checkout-7d9-x "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="where a reason is known, a gate is no news",
    ),
    pytest.param(
        show(reason="Unschedulable", container=""),
        Surroundings(warnings={"p-1": WarningEvent("FailedScheduling", "no room")}),
        "1 of 2 pods in Unschedulable, e.g. pod checkout-7d9-x; last event FailedScheduling: 'no "
        "room' (kubectl describe pod checkout-7d9-x -n production)",
        id="an Event of which nobody knows when",
    ),
    pytest.param(
        show(reason="ImagePullBackOff", container=""),
        heard("Failed", f"{PULL}not found"),
        "1 of 2 pods in ImagePullBackOff, e.g. pod checkout-7d9-x; last event Failed at 02:14:10: "
        "'…failed to pull registry.example.com/a/long/name/of/an/image:1.2: not found' "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="of an Event of a pull the end says why as well",
    ),
    pytest.param(
        show(reason="ImagePullBackOff", container="", message=f"{PULL}{PULL}not found"),
        Surroundings(),
        "1 of 2 pods in ImagePullBackOff, e.g. pod checkout-7d9-x: '…failed to pull "
        "registry.example.com/a/long/name/of/an/image:1.2: not found' "
        "(kubectl describe pod checkout-7d9-x -n production)",
        id="of a longer message no more of the end",
    ),
    pytest.param(
        NEVER,
        Surroundings(warnings={"p-1": None}, nodes={"n-1": None}),
        "1 of 2 pods ready",
        id="D4 gated, or still starting: nothing is known to be wrong, and nothing is shown",
    ),
]


@pytest.mark.parametrize(("pod", "around", "said"), EVIDENCE)
def test_the_evidence_can_be_pasted(pod: Pod, around: Surroundings, said: str) -> None:
    workload = a_workload(pods=(a_pod(), pod))
    assert evidence_of(workload, a_revision(2), around) == said
    assert lead_of(said) == diagnose(workload, a_revision(2))


def unmade(pod: str) -> str:
    """Return why a pod cannot be made, as Kubernetes says it of each try."""
    return (
        f'pods "checkout-7d9-{pod}" is forbidden: exceeded quota: compute, requested: pods=1, '
        "used: pods=0, limited: pods=0"
    )


QUOTA = unmade("x")
UNMADE = a_revision(2, desired=3, failure=QUOTA)
NOT_MADE = [
    pytest.param(
        (),
        Surroundings(),
        f"its pods cannot be made: {QUOTA} (kubectl describe rs/checkout-hash-2 -n production)",
        id="D5 no pod is made",
    ),
    pytest.param(
        (),
        heard("FailedCreate", f"Error creating: {QUOTA}", of=UNMADE.uid),
        f"its pods cannot be made: {QUOTA} (kubectl describe rs/checkout-hash-2 -n production)",
        id="D5 an Event that repeats the condition is not told",
    ),
    pytest.param(
        (),
        heard("FailedCreate", f"Error creating: {unmade('y')}", of=UNMADE.uid),
        f"its pods cannot be made: {QUOTA} (kubectl describe rs/checkout-hash-2 -n production)",
        id="D5 nor is one of the next try, which names another pod",
    ),
    pytest.param(
        (),
        heard("FailedCreate", 'failed calling webhook "inject"', of=UNMADE.uid),
        f"its pods cannot be made: {QUOTA}; last event FailedCreate at 02:14:10: 'failed calling "
        'webhook "inject"\' (kubectl describe rs/checkout-hash-2 -n production)',
        id="D6 one that says something else is",
    ),
    pytest.param(
        (LOOPS,),
        Surroundings(),
        "1 of 1 pod in CrashLoopBackOff (exit code 1), e.g. pod checkout-7d9-x, container app; 2 "
        f"more cannot be made: '{QUOTA}' "
        "(kubectl logs checkout-7d9-x -c app -n production --previous)",
        id="D5 one pod is made and crashes, the others are not made",
    ),
    pytest.param(
        (SLOW, a_pod(), a_pod()),
        Surroundings(),
        "2 of 3 pods ready",
        id="D5 what could not be made is there by now",
    ),
]


@pytest.mark.parametrize(("pods", "around", "said"), NOT_MADE)
def test_the_evidence_of_pods_that_cannot_be_made(
    pods: tuple[Pod, ...], around: Surroundings, said: str
) -> None:
    workload = a_workload(UNMADE, a_revision(1), pods=pods)
    assert evidence_of(workload, UNMADE, around) == said
    assert lead_of(said) == diagnose(workload, UNMADE)


BESIDE = [
    pytest.param(
        "its pods cannot be made: exceeded quota (kubectl describe rs/a -n b)",
        "a quota lets no more pods in (exceeded quota)",
        "its pods cannot be made (kubectl describe rs/a -n b)",
        id="D5 why no pod is made was said",
    ),
    pytest.param(
        "its pods cannot be made: exceeded quota (kubectl describe rs/a -n b)",
        "the environment asks for approval",
        "its pods cannot be made: exceeded quota (kubectl describe rs/a -n b)",
        id="D5 it was not",
    ),
    pytest.param("1 of 1 pod in Error", "in Error as well", "1 of 1 pod in Error", id="in short"),
    pytest.param(
        f"its pods cannot be made: {unmade('x')} (kubectl describe rs/a -n b)",
        f"a quota lets no more pods in (Error creating: {unmade('y')}), and revision 1",
        "its pods cannot be made (kubectl describe rs/a -n b)",
        id="D5 it was said of another pod, at the next try",
    ),
    pytest.param(
        f"its pods cannot be made: {unmade('x')}; last event FailedCreate: 'a webhook is away' "
        "(kubectl describe rs/a -n b)",
        f"a quota lets no more pods in ({unmade('y')[:120]}…)",
        "its pods cannot be made; last event FailedCreate: 'a webhook is away' "
        "(kubectl describe rs/a -n b)",
        id="D5 it was said, and cut; what else happened stays",
    ),
    pytest.param(
        f"1 of 1 pod in Error, e.g. pod a; 2 more cannot be made: '{unmade('x')[:100]}…' (kubectl "
        "logs a -n b)",
        f"a quota lets no more pods in (Error creating: {unmade('y')})",
        "1 of 1 pod in Error, e.g. pod a; 2 more cannot be made (kubectl logs a -n b)",
        id="D5 one was made, and why no more are was said",
    ),
    pytest.param(
        "its pods cannot be made: exceeded quota: cpu (kubectl describe rs/a -n b)",
        "a quota lets no more pods in (exceeded quota: memory)",
        "its pods cannot be made: exceeded quota: cpu (kubectl describe rs/a -n b)",
        id="D5 another quota's words are other words",
    ),
]


@pytest.mark.parametrize(("evidence", "said", "rest"), BESIDE)
def test_nothing_is_said_twice_in_a_note(evidence: str, said: str, rest: str) -> None:
    assert beside(evidence, said) == rest


def test_the_evidence_is_bounded_and_the_command_survives() -> None:
    evil = "<" * 1000
    hostile = show(name="p" * 253, container="c" * 63, message=evil, reason=evil)
    said = evidence_of(a_workload(pods=(hostile,)), a_revision(2), heard(evil, evil))
    assert len(said) <= MAX_TEXT
    assert said.endswith(f"(kubectl describe pod {'p' * 253} -n production)")
    assert "<" not in said


def test_no_more_of_a_message_is_said_than_its_bound() -> None:
    workload = a_workload(pods=(show(message="m" * 1000, reason="NovelReason", container=""),))
    said = evidence_of(workload, a_revision(2), heard("R" * 500, "e" * 1000))
    assert f"'{'m' * 119}…'" in said
    assert f"last event {'R' * 63}… at 02:14:10: '{'e' * 119}…'" in said


def test_of_what_is_not_there_nothing_is_said() -> None:
    workload = a_workload(pods=())
    assert evidence_of(workload, a_revision(2), heard("FailedCreate", of=UNMADE.uid)) == ""


EXAMPLES = [
    pytest.param(
        (show(name="a"), show(name="b", logs="Previous"), show(name="c", reason="NovelReason")),
        ["b", "c"],
        id="one of each trouble, and the one that has logs",
    ),
    pytest.param(
        (show(name="a"), show(name="b", restarts=3)), ["b"], id="the one that restarted most often"
    ),
    pytest.param(
        tuple(show(name=name, reason=name) for name in "abc"), ["a", "b"], id="two at most"
    ),
    pytest.param(
        (
            a_pod(),
            replace(SLOW, name="a", created_at=ago(minutes=1)),
            replace(SLOW, name="b"),
        ),
        ["b"],
        id="while nothing is known to be wrong the oldest that is not ready",
    ),
    pytest.param((a_pod(),), [], id="all are ready"),
]


@pytest.mark.parametrize(("pods", "names"), EXAMPLES)
def test_which_pods_are_looked_at_closer(pods: tuple[Pod, ...], names: list[str]) -> None:
    found = examples(a_workload(pods=pods), a_revision(2))
    assert [pod.name for pod in found] == names


HOW = [
    pytest.param(
        a_workload(), None, "0 of 3 pods available, 3 of 3 pods in ImagePullBackOff", id="failing"
    ),
    pytest.param(a_workload(health="starting"), None, "0 of 3 pods available", id="starting"),
    pytest.param(a_workload(health="healthy"), None, "3 of 3 pods available", id="healthy"),
    pytest.param(
        a_workload(template=a_template("new")), None, "0 of 3 pods available", id="no ReplicaSet"
    ),
    pytest.param(
        a_workload(pods=(LOOPS,)),
        heard("BackOff", BACK_OFF),
        "0 of 3 pods available, 1 of 1 pod in CrashLoopBackOff (exit code 1), e.g. pod "
        f"checkout-7d9-x, container app; last event BackOff at 02:14:10: '{BACK_OFF}'",
        id="shown by one pod; the command is what comes next",
    ),
    pytest.param(
        a_workload(pods=(SLOW,)),
        heard("Unhealthy", "Readiness probe failed: connection refused"),
        "0 of 3 pods available, e.g. pod checkout-7d9-x, container app; last event Unhealthy at "
        "02:14:10: 'Readiness probe failed: connection refused'",
        id="starting, and an Event says why not",
    ),
]


@pytest.mark.parametrize(("workload", "around", "said"), HOW)
def test_how(workload: Workload, around: Surroundings | None, said: str) -> None:
    assert how(workload, around) == said


def test_by_names_the_writer_if_it_is_known() -> None:
    assert by(a_workload(template_writer="argocd <x>")) == " by argocd &lt;x&gt;"
    assert by(a_workload(template_writer="")) == ""


LOOKS = [
    pytest.param(
        a_workload(pods=(LOOPS,)),
        "look at it: kubectl logs checkout-7d9-x -c app -n production --previous",
        id="at the logs of the pod that shows it best",
    ),
    pytest.param(
        a_workload(UNMADE, a_revision(1), pods=()),
        "look at it: kubectl describe rs/checkout-hash-2 -n production",
        id="D5 at what cannot make pods",
    ),
    pytest.param(
        a_workload(health="healthy"),
        "look at its pods: kubectl describe deploy/checkout -n production",
        id="all are ready",
    ),
    pytest.param(
        a_workload(template=a_template("new")),
        "look at its pods: kubectl describe deploy/checkout -n production",
        id="no ReplicaSet yet",
    ),
]


@pytest.mark.parametrize(("workload", "command"), LOOKS)
def test_look_is_a_command(workload: Workload, command: str) -> None:
    assert look_command(workload) == command


def test_the_pod_that_tells_most_is_shown() -> None:
    quiet, tells = show(name="a"), show(name="b", message="back-off")
    workload = a_workload(pods=(quiet, tells))
    assert [pod.name for pod in examples(workload, a_revision(2))] == ["b"]
    young, old = show(name="c", reason=""), show(name="d", reason="", created_at=ago(days=1))
    workload = a_workload(pods=(young, replace(old, name="e", created_at=None), old))
    assert [pod.name for pod in examples(workload, a_revision(2))] == ["d"]
