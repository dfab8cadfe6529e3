"""
The two kinds as people meet them: explained, listed, bounded, and made from a command line.

By the real kubectl on a real API server, for what a CRD promises is kept by those two.
"""

import json
import re
import secrets
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.e2e.stage import (
    API_VERSION,
    ENVIRONMENTS,
    ROLLBACKS,
    ROOT,
    Operator,
    Stage,
    condition,
    reason_of,
)
from tests.sandbox.api import ApiError, Json, path_to
from tests.sandbox.components import base_environment
from tests.sandbox.kubectl import Kubectl
from tests.sandbox.processes import Completed
from tests.sandbox.sandbox import HOME_NAMESPACE, Sandbox
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE

EXAMPLES: Final = sorted((ROOT / "manifests/examples").glob("*.yaml"))
EXAMPLES_NAMESPACE: Final = "shop"
TARGET: Final = ROOT / "manifests/target-namespace"
REQUESTER: Final = "incidentrollback-requester"
ONCALL: Final = "oncall"

WORKLOAD: Final = {"name": "checkout"}
SERVICE: Final = {"name": "checkout", "environment": "production"}
DIGEST: Final = "sha256:" + "0" * 64


def a_request(spec: Json, name: str = "made-up") -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentRollback",
        "metadata": {"name": name, "namespace": HOME_NAMESPACE},
        "spec": spec,
    }


def an_environment(spec: Json, name: str = "made-up") -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "RollbackEnvironment",
        "metadata": {"name": name, "namespace": HOME_NAMESPACE},
        "spec": spec,
    }


def dry_run(sandbox: Sandbox, body: Json) -> Json:
    """Return what the API server would store.  Raises ApiError when it refuses."""
    plural = {"IncidentRollback": ROLLBACKS, "RollbackEnvironment": ENVIRONMENTS}[body["kind"]]
    return sandbox.api.create(path_to(API_VERSION, plural, HOME_NAMESPACE), body, dryRun="All")


def words(completed: Completed) -> str:
    """Return what kubectl said, whatever it wrapped."""
    return " ".join((completed.stdout + completed.stderr).split())


def rows_of(completed: Completed) -> list[list[str]]:
    """Return the cells of a table, its header first."""
    return [re.split(r"\s{2,}", line.strip()) for line in completed.stdout.splitlines()]


# --- Explained and listed


EXPLAINED = [
    pytest.param(
        "irb.spec",
        {
            "service": "The service and environment of the incident.",
            "targetRef": "The workload itself, in this namespace.",
            "to": "Where to go back to; absent: the last healthy revision.",
            "dryRun": "Plan only: say what a rollback would do, and change nothing.",
            "planDigest": "Act only if the plan is still this one",
            "requestedAt": "Older than `maxAgeSeconds` is refused.",
            "incident": "The FireHydrant incident to tell",
        },
        id="irb.spec",
    ),
    pytest.param(
        "irb.spec.to",
        {
            "revision": "The number, as in `kubectl rollout history`.",
            "podTemplateHash": "The label pod-template-hash of the wanted ReplicaSet.",
        },
        id="irb.spec.to",
    ),
    pytest.param(
        "irb.status",
        {
            "phase": "a final one never changes",
            "settled": "Finished, held, and nothing left to tell.",
            "candidates": "The revisions that were looked at",
        },
        id="irb.status",
    ),
    pytest.param(
        "rbenv.spec",
        {
            "environments": "FireHydrant's names, compared as DNS labels",
            "suspend": "The red switch: nothing is patched while it is on.",
            "incidentsFrom": "whose resources may speak to an incident.",
        },
        id="rbenv.spec",
    ),
]


@pytest.mark.parametrize(("path", "fields"), EXPLAINED)
def test_kubectl_explains_every_field(
    operator: Operator, path: str, fields: Mapping[str, str]
) -> None:
    told = words(operator.sandbox.kubectl.run("explain", path))
    assert "<no description>" not in told
    for field, description in fields.items():
        assert re.search(rf"\b{field} <[^>]+>", told), field
        assert description in told


def test_kubectl_lists_how_a_rollback_stands_and_finds_it_by_its_fields(stage: Stage) -> None:
    stage.break_it()
    incident = stage.declare()
    number = stage.operator.firehydrant.incident(incident)["number"]
    done = stage.ask("ours", incident=incident)
    stage.wait_settled(done)
    nowhere = stage.declare()
    refused = stage.ask("ours", incident=nowhere, to_revision=99)
    stage.wait_phase(refused, "Refused", "RevisionNotFound")
    stage.wait_settled(refused)
    kubectl = stage.sandbox.kubectl
    table = rows_of(kubectl.run("get", "irb", done, "-n", HOME_NAMESPACE))
    assert table[0] == ["NAME", "WORKLOAD", "PHASE", "REASON", "FROM", "TO", "INCIDENT", "AGE"]
    assert table[1][:-1] == [done, "checkout", "Succeeded", "RolledBack", "2", "1", str(number)]

    def found(selector: str) -> set[str]:
        listed = kubectl.run("get", "irb", "-A", "--field-selector", selector, "-o", "name")
        return {line.partition("/")[2] for line in listed.stdout.splitlines()}

    assert found("status.phase=Refused") & {done, refused} == {refused}
    assert found(f"spec.incident.id={incident}") == {done}
    assert found(f"spec.incident.id={nowhere},status.settled=true") == {refused}
    assert found(f"spec.incident.id={nowhere},status.settled!=true") == set()


def test_a_new_resource_was_not_looked_at_yet(operator: Operator) -> None:
    body = json.dumps(a_request({"targetRef": WORKLOAD}))
    made = operator.sandbox.kubectl.run(
        *("create", "--dry-run=server", "-o", "json", "-f", "-"), stdin=body
    )
    told = json.loads(made.stdout)
    assert told["status"] == {"observedGeneration": -1}
    assert told["spec"] == {"targetRef": WORKLOAD, "dryRun": False, "pairs": 1}


@pytest.fixture(scope="module")
def examples_namespace(operator: Operator) -> Iterator[None]:
    """The namespace that the examples speak of."""
    operator.sandbox.workloads.create_namespace(EXAMPLES_NAMESPACE)
    yield
    operator.sandbox.workloads.delete_namespace(EXAMPLES_NAMESPACE)


@pytest.mark.usefixtures("examples_namespace")
@pytest.mark.parametrize("example", [pytest.param(path, id=path.name) for path in EXAMPLES])
def test_an_example_applies_as_it_is(operator: Operator, example: Any) -> None:
    """With nothing lost: an unknown field would be a warning, and an error here."""
    applied = operator.sandbox.kubectl.run(
        *("apply", "--dry-run=server", "--validate=strict", "-f", str(example))
    )
    assert "(server dry run)" in applied.stdout
    assert applied.stderr == ""


# --- Bounded


def test_the_spec_cannot_be_edited(stage: Stage) -> None:
    """Not by whoever may do anything: what was asked and what was done stay one story."""
    name = stage.request({"dryRun": True})
    kubectl = stage.sandbox.kubectl
    edit = ("patch", "irb", name, "-n", stage.namespace, "--type=merge", "-p")
    for change in ({"dryRun": False}, {"to": {"revision": 1}}, {"requestedBy": "somebody else"}):
        refused = kubectl.run(*edit, json.dumps({"spec": change}), check=False)
        assert refused.returncode != 0
        assert "the spec is immutable: make a new IncidentRollback instead" in refused.stderr
    assert stage.rollback(name)["metadata"]["generation"] == 1


ONE_OF_TWO = "give exactly one of service and targetRef"
ONE_AIM = "give exactly one of revision and podTemplateHash"
REQUESTS_REFUSED = [
    pytest.param({}, ONE_OF_TWO, id="neither service nor targetRef"),
    pytest.param({"service": SERVICE, "targetRef": WORKLOAD}, ONE_OF_TWO, id="both of them"),
    pytest.param({"to": {}}, ONE_AIM, id="neither revision nor hash"),
    pytest.param({"to": {"revision": 1, "podTemplateHash": "6d4b"}}, ONE_AIM, id="both aims"),
    pytest.param({"to": {"revision": 0}}, "greater than or equal to 1", id="revision 0"),
    pytest.param({"targetRef": {"name": "a" * 254}}, "253", id="a name of 254 characters"),
    pytest.param({"targetRef": {"name": ""}}, "at least 1", id="an empty name"),
    pytest.param(
        {"targetRef": {**WORKLOAD, "kind": "StatefulSet"}}, "Deployment", id="another kind"
    ),
    pytest.param({"pairs": 11}, "less than or equal to 10", id="11 pairs"),
    pytest.param({"pairs": 0}, "greater than or equal to 1", id="no pairs"),
    pytest.param({"planDigest": DIGEST[:-1]}, "planDigest", id="a digest that is too short"),
    pytest.param({"planDigest": DIGEST.upper()}, "planDigest", id="a digest in capitals"),
    pytest.param({"incident": {"id": ""}}, "at least 1", id="an incident without an id"),
    pytest.param(
        {"incident": {"id": "i", "name": "n" * 501}}, "500", id="an incident's name of 501"
    ),
    pytest.param({"requestedAt": "yesterday"}, "date-time", id="a time that is none"),
]


@pytest.mark.parametrize(("spec", "words_of_it"), REQUESTS_REFUSED)
def test_the_api_server_refuses_a_request_with(
    operator: Operator, spec: Json, words_of_it: str
) -> None:
    target = {} if words_of_it == ONE_OF_TWO else {"targetRef": WORKLOAD}
    with pytest.raises(ApiError, match=words_of_it) as refused:
        dry_run(operator.sandbox, a_request({**target, **spec}))
    assert refused.value.status == 422


ENVIRONMENTS_REFUSED = [
    pytest.param({"environments": []}, "at least 1", id="no environment"),
    pytest.param({"environments": ["e" * 254]}, "253", id="a name of 254 characters"),
    pytest.param({"environments": [f"e{n}" for n in range(51)]}, "50", id="51 environments"),
    pytest.param({"cluster": {}}, "give exactly one member: inCluster", id="no cluster"),
    pytest.param({"policy": {"approval": "Maybe"}}, "NotRequired", id="a policy of maybe"),
    pytest.param({"policy": {"holdSeconds": -1}}, "equal to 0", id="negative seconds"),
    pytest.param({"policy": {"maxAgeSeconds": 86_401}}, "equal to 86400", id="more than a day"),
    pytest.param({"services": [{"name": "Checkout API"}]}, "workload", id="a service to nowhere"),
]


@pytest.mark.parametrize(("spec", "words_of_it"), ENVIRONMENTS_REFUSED)
def test_the_api_server_refuses_a_mapping_with(
    operator: Operator, spec: Json, words_of_it: str
) -> None:
    with pytest.raises(ApiError, match=words_of_it) as refused:
        dry_run(operator.sandbox, an_environment({"environments": ["production"], **spec}))
    assert refused.value.status == 422


def test_what_is_just_in_bounds_is_stored_as_it_is(operator: Operator) -> None:
    spec: Json = {
        "targetRef": {"name": "a" * 253},
        "to": {"podTemplateHash": "6d4b"},
        "pairs": 10,
        "planDigest": DIGEST,
        "incident": {"id": "i", "name": "n" * 500},
    }
    made = dry_run(operator.sandbox, a_request(spec))
    assert {key: made["spec"][key] for key in ("to", "pairs", "planDigest", "incident")} == {
        key: spec[key] for key in ("to", "pairs", "planDigest", "incident")
    }


# --- Would it work tonight?


@dataclass(frozen=True)
class Looked:
    """RollbackEnvironments as they were after one look of the controller, and after another."""

    first: Mapping[str, Json]
    then: Mapping[str, Json]
    table: list[list[str]]
    """What `kubectl get rbenv` showed at first, by rows."""

    def ready(self, name: str) -> Json:
        return ready_of(self.first[name])

    def ready_then(self, name: str) -> Json:
        return ready_of(self.then[name])


def ready_of(environment: Json) -> Json:
    found = condition(environment["status"], "Ready")
    assert found is not None
    return found


class Mappings:
    """Makes and removes RollbackEnvironments and their namespaces."""

    def __init__(self, operator: Operator, cleanup: ExitStack) -> None:
        self.sandbox = operator.sandbox
        self._cleanup = cleanup
        self._suffix = secrets.token_hex(3)

    def called(self, name: str) -> str:
        return f"{name}-{self._suffix}"

    def namespace(self, name: str) -> str:
        called = self.called(name)
        self.sandbox.workloads.create_namespace(called)
        self._cleanup.callback(self.sandbox.workloads.delete_namespace, called)
        return called

    def let_in(self, namespace: str) -> None:
        self.sandbox.kubectl.run("apply", "-k", str(TARGET), "-n", namespace)

    def map(self, name: str, **spec: Any) -> None:
        called = self.called(name)
        body = an_environment({"environments": [called], **spec}, called)
        self.sandbox.api.apply(self._path(name), body)
        self._cleanup.callback(self.sandbox.api.delete, self._path(name))

    def wait(self, **reasons: str) -> dict[str, Json]:
        """Wait until every one was looked at as it is now, and has this reason."""

        def looked_at() -> dict[str, Json] | None:
            found = {name: self.sandbox.api.get(self._path(name)) for name in reasons}
            as_wanted = all(
                one["status"]["observedGeneration"] == one["metadata"]["generation"]
                and reason_of(one["status"]) == reasons[name]
                for name, one in found.items()
            )
            return found if as_wanted else None

        return wait_for(
            looked_at,
            f"the RollbackEnvironments to be {reasons}",
            seen=lambda: {n: self.sandbox.api.get(self._path(n))["status"] for n in reasons},
        )

    def _path(self, name: str) -> str:
        return path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, self.called(name))


@pytest.fixture(scope="module")
def mappings(operator: Operator) -> Generator[Mappings]:
    with ExitStack() as cleanup:
        yield Mappings(operator, cleanup)


@pytest.fixture(scope="module")
def looked(mappings: Mappings) -> Looked:
    """Let the controller look at all of them at once, for it looks every ten seconds."""
    inside, outside = mappings.namespace("inside"), mappings.namespace("outside")
    mappings.let_in(inside)
    mappings.map("ready", namespace=inside)
    mappings.map("suspended", namespace=inside, suspend=True)
    mappings.map("stranger", namespace=outside)
    mappings.map("nowhere")
    both = [mappings.called("Both"), "Elsewhere"]
    mappings.map("twice-one", namespace=inside, environments=both[:1])
    mappings.map("twice-two", namespace=inside, environments=[both[0].casefold(), both[1]])
    first = mappings.wait(
        **{
            "ready": "Ready",
            "suspended": "Suspended",
            "stranger": "PermissionMissing",
            "nowhere": "PermissionMissing",
            "twice-one": "EnvironmentAmbiguous",
            "twice-two": "EnvironmentAmbiguous",
        }
    )
    table = rows_of(mappings.sandbox.kubectl.run("get", "rbenv", "-n", HOME_NAMESPACE))
    mappings.let_in(outside)
    mappings.map("stranger", namespace=outside, incidentsFrom=[outside])
    mappings.map("twice-two", namespace=inside, environments=both[1:])
    then = mappings.wait(**{"stranger": "Ready", "twice-one": "Ready", "twice-two": "Ready"})
    return Looked(first, then, table)


def test_a_mapping_that_would_work_tonight_is_ready(looked: Looked, mappings: Mappings) -> None:
    ready = looked.ready("ready")
    assert ready["status"] == "True"
    assert f"may act in {mappings.called('inside')}" in ready["message"]
    assert "suspended" not in ready["message"]


def test_a_suspended_mapping_says_so(looked: Looked) -> None:
    suspended = looked.ready("suspended")
    assert suspended["status"] == "False"
    assert "set it to false: kubectl edit rbenv" in suspended["message"]


def test_a_namespace_that_did_not_let_us_in_lacks_named_permissions(
    looked: Looked, mappings: Mappings
) -> None:
    ready = looked.ready("stranger")
    assert ready["status"] == "False"
    assert f"in {mappings.called('outside')}: " in ready["message"]
    for permission in (
        *("get deployments", "list deployments", "patch deployments"),
        *("list replicasets", "list pods", "create events"),
    ):
        assert permission in ready["message"]
    assert "Next: kubectl apply -k manifests/target-namespace" in ready["message"]


def test_once_let_in_it_is_ready(looked: Looked) -> None:
    assert looked.ready_then("stranger")["status"] == "True"


def test_a_namespace_that_is_not_there_is_named_as_a_cause(
    looked: Looked, mappings: Mappings
) -> None:
    """To us it looks the same: the API server says that we may not."""
    ready = looked.ready("nowhere")
    assert ready["status"] == "False"
    assert f"in {mappings.called('nowhere')}: " in ready["message"]
    assert "or the namespace does not exist" in ready["message"]


def test_an_environment_that_is_claimed_twice_names_both_claims(
    looked: Looked, mappings: Mappings
) -> None:
    one, two = mappings.called("twice-one"), mappings.called("twice-two")
    for name, other in (("twice-one", two), ("twice-two", one)):
        ready = looked.ready(name)
        assert ready["status"] == "False"
        assert f"RollbackEnvironment {other} claims {mappings.called('both')}" in ready["message"]
        assert "nobody acts there" in ready["message"]


def test_once_one_claim_is_withdrawn_both_are_ready(looked: Looked) -> None:
    assert looked.ready_then("twice-one")["status"] == "True"
    assert looked.ready_then("twice-two")["status"] == "True"


def test_kubectl_lists_whether_it_would_work(looked: Looked, mappings: Mappings) -> None:
    header = ["NAME", "ENVIRONMENTS", "TARGET NAMESPACE", "SUSPENDED", "READY", "REASON", "AGE"]
    assert looked.table[0] == header
    rows = {row[0]: row[1:-1] for row in looked.table[1:]}
    inside, name = mappings.called("inside"), mappings.called("suspended")
    assert rows[name] == [json.dumps([name]), inside, "true", "False", "Suspended"]
    stranger = mappings.called("stranger")
    assert rows[stranger][-2:] == ["False", "PermissionMissing"]


# --- From a command line


@pytest.fixture
def oncall(stage: Stage) -> Kubectl:
    """Somebody who may ask for rollbacks in the namespace, by the role that we ship."""
    kubectl = stage.sandbox.kubectl
    there = ("-n", stage.namespace)
    kubectl.run("create", "serviceaccount", ONCALL, *there)
    account = f"--serviceaccount={stage.namespace}:{ONCALL}"
    kubectl.run("create", "rolebinding", ONCALL, f"--clusterrole={REQUESTER}", account, *there)
    person = stage.sandbox.kubectl_as(stage.namespace, ONCALL)
    wait_for(
        lambda: person.run("auth", "can-i", "create", "irb", *there, check=False).returncode == 0,
        "the person on call to be allowed to ask",
    )
    return person


def by_python(oncall: Kubectl, *args: str) -> Completed:
    """Run `python -m incident_rollback …`."""
    env = {**base_environment(), "KUBECONFIG": str(oncall.kubeconfig), "HOME": oncall.env["HOME"]}
    argv = [sys.executable, "-m", "incident_rollback", *args]
    return oncall.processes.run("command", argv, env)


def by_kubectl(oncall: Kubectl, *args: str) -> Completed:
    """Run `kubectl irb …`."""
    return oncall.run("irb", *args, check=False)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(by_python, id="python -m incident_rollback"),
        pytest.param(by_kubectl, id="kubectl irb"),
    ],
)
def test_the_command_line_asks_for_a_rollback_that_is_done(
    stage: Stage, oncall: Kubectl, command: Any
) -> None:
    stage.break_it()
    flags = ("-n", stage.namespace, "--to-revision", "1")
    followed = command(oncall, "rollback", f"deploy/{stage.name}", *flags).check()
    told = re.match(r"incidentrollback (\S+) was made", followed.stdout)
    assert told is not None, followed.stdout
    stage.requests[told[1]] = stage.namespace
    assert "RolledBack" in followed.stdout
    status = stage.wait_phase(told[1], "Succeeded", "RolledBack")
    assert status["to"]["revision"] == 1
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1
    spec = stage.rollback(told[1])["spec"]
    assert spec["to"] == {"revision": 1}
    assert spec["requestedBy"] == "kubectl irb rollback"


def test_the_command_line_makes_a_preview(stage: Stage, oncall: Kubectl) -> None:
    stage.break_it()
    made = by_kubectl(
        oncall, "rollback", f"deploy/{stage.name}", "-n", stage.namespace, "--dry-run"
    )
    name = made.check().stdout.split()[1]
    stage.requests[name] = stage.namespace
    stage.wait_phase(name, "Previewed")
    assert stage.attempts() == []


NOT_DONE = [
    pytest.param(["checkout", "-n", "NS"], "is not of the form deploy/NAME", id="no kind"),
    pytest.param(["sts/checkout", "-n", "NS"], "is not of the form deploy/NAME", id="another kind"),
    pytest.param(["deploy/checkout"], "--namespace", id="no namespace"),
    pytest.param(["deploy/checkout", "-n", "default"], "may not create", id="not allowed there"),
]


@pytest.mark.parametrize(("args", "words_of_it"), NOT_DONE)
def test_the_command_line_says_in_a_line_why_not(
    stage: Stage, oncall: Kubectl, args: list[str], words_of_it: str
) -> None:
    given = [stage.namespace if arg == "NS" else arg for arg in args]
    refused = by_kubectl(oncall, "rollback", *given)
    assert refused.returncode == 2
    assert words_of_it in words(refused)
    assert "Traceback" not in refused.stderr
    made = stage.sandbox.api.list(path_to(API_VERSION, ROLLBACKS))
    assert {found["metadata"]["namespace"] for found in made}.isdisjoint(
        {stage.namespace, "default"}
    )
