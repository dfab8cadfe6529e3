"""
What the operator may do is what it does: the whole session's audit log against our manifests.

These come last.  Alone, they look at a story of their own, which takes every right that there is.
"""

import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import pytest
import yaml

from tests.e2e.admission import FIELD_MANAGER
from tests.e2e.stage import (
    API_VERSION,
    BRIDGE_USER,
    CONTROLLER_USER,
    ROLLBACKS,
    ROOT,
    Operator,
    Stage,
    is_ours,
    reason_of,
)
from tests.sandbox import simulation
from tests.sandbox.api import Json, path_to
from tests.sandbox.audit import AuditRecord
from tests.sandbox.sandbox import BRIDGE, CONTROLLER, HOME_NAMESPACE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, revision_of

MANIFESTS: Final = (ROOT / "manifests/base", ROOT / "manifests/target-namespace")
OUR_AGENTS: Final = re.compile(r"incident-rollback|kopf/[0-9.]+")
"""What our processes call themselves: our own calls, and kopf's."""

DISCOVERY: Final = re.compile(r"/(version|apis?|apis/[^/?]+/[^/?]+|apis/[^/?]+|api/v1)/?(\?.*)?")
"""What everybody who is somebody may read: system:discovery and system:public-info-viewer."""
BADLY_ENDED: Final = re.compile(
    r"Traceback|exception was never retrieved|was never awaited|Unclosed |Unhandled"
)

SHOWN: Final = 1500
"""Characters of a log around what should not be in it."""


class Right(NamedTuple):
    """What an account may do, or did."""

    account: str
    verb: str
    resource: str
    """With its group, and its subresource after a slash."""
    name: str = ""
    """Of the one object that it is about, where it is granted for that alone."""


BY_NAME: Final = frozenset({("get", "leases"), ("update", "leases")})
"""Verbs and resources that are granted for one object."""
FOR_EVERYBODY: Final = frozenset(
    Right(user, "create", "selfsubjectaccessreviews.authorization.k8s.io")
    for user in (CONTROLLER_USER, BRIDGE_USER)
)
"""What Kubernetes itself grants to everybody with an account, by system:basic-user."""


# --- What is granted


def objects() -> Iterator[Json]:
    for folder in MANIFESTS:
        for path in sorted(folder.glob("*.yaml")):
            yield from filter(None, yaml.safe_load_all(path.read_text(encoding="utf-8")))


def granted() -> set[Right]:
    """Return what the manifests grant to our two accounts."""
    every = list(objects())
    roles = {
        (found["kind"], found["metadata"]["name"], found["metadata"].get("namespace")): found
        for found in every
        if found["kind"] in ("Role", "ClusterRole")
    }
    rights = set[Right]()
    for binding in every:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        reference = binding["roleRef"]
        is_wide = reference["kind"] == "ClusterRole"
        where = None if is_wide else binding["metadata"].get("namespace")
        role = roles[reference["kind"], reference["name"], where]
        for subject in binding["subjects"]:
            assert subject["kind"] == "ServiceAccount"
            account = f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
            rights.update(rights_of(account, role["rules"]))
    return rights


def rights_of(account: str, rules: Iterable[Json]) -> Iterator[Right]:
    for rule in rules:
        assert set(rule) - {"resourceNames"} == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Right(account, verb, in_group(resource, group), name)


def in_group(resource: str, group: str) -> str:
    """Return e.g. `incidentrollbacks.incidentrollback.dev/status`, as kubectl writes it."""
    name, slash, subresource = resource.partition("/")
    return f"{name}.{group}{slash}{subresource}" if group else resource


def test_both_accounts_and_nobody_else_are_given_rights() -> None:
    assert {right.account for right in granted()} == {CONTROLLER_USER, BRIDGE_USER}
    assert not any("*" in part for right in granted() for part in right)


# --- What was done


@dataclass(frozen=True)
class Session:
    """All that was asked of the API server so far, and all that our processes said."""

    records: tuple[AuditRecord, ...]
    logs: dict[str, str]
    left: tuple[Json, ...]
    """The IncidentRollbacks that are there."""

    @property
    def ours(self) -> list[AuditRecord]:
        return [record for record in self.records if is_ours(record)]


@pytest.fixture(scope="module")
def session(operator: Operator) -> Iterator[Session]:
    """Play a story that needs every right, and end the processes: a watch is on record then."""
    namespace = f"rights-{secrets.token_hex(3)}"
    operator.sandbox.workloads.create_namespace(namespace)
    stage = Stage.begin(operator, namespace)
    try:
        play(stage)
        look_behind_every_reference(stage)
        look_at_a_node(stage)
        left = operator.sandbox.api.list(path_to(API_VERSION, ROLLBACKS))
        operator.controller.stop()
        operator.bridge.stop()
        operator.sandbox.audit.wait_for(
            lambda record: record.user == CONTROLLER_USER and record.verb == "watch",
            "the API server to notice that a watch is over",
        )
        yield Session(
            records=tuple(operator.sandbox.settled_audit().records()),
            logs=dict(logs_of(operator)),
            left=tuple(left),
        )
    finally:
        stage.clear()
        for path, _ in needed_in(namespace):
            operator.sandbox.api.delete(path)
        operator.sandbox.workloads.delete_namespace(namespace)


def look_behind_every_reference(stage: Stage) -> None:
    """Preview a revision that needs one object of each kind; it need not be healthy for that."""
    for path, body in needed_in(stage.namespace):
        collection, _, name = path.rpartition("/")
        stage.sandbox.api.create(collection, {"metadata": {"name": name}, **body})
    sources = [{"secretRef": {"name": "needed"}}, {"configMapRef": {"name": "needed"}}]
    spec = {
        "containers": [{"name": "app", "envFrom": sources}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "needed"}}],
        "serviceAccountName": "needed",
        "priorityClassName": stage.namespace,
        "runtimeClassName": stage.namespace,
    }
    before = revision_of(stage.deployment())
    workloads = stage.sandbox.workloads
    workloads.patch_template(stage.namespace, stage.name, {"spec": spec})
    workloads.wait_revision(stage.namespace, stage.name, before + 1)
    stage.undo()
    name = stage.request({"to": {"revision": before + 1}, "dryRun": True})
    stage.wait_phase(name, "Previewed")


def look_at_a_node(stage: Stage) -> None:
    """Preview while a new pod is slow: it says nothing, so its node and its Events are asked."""
    before = revision_of(stage.deployment())
    workloads = stage.sandbox.workloads
    template = {
        "metadata": {"annotations": {simulation.READY_AFTER: "1h"}},
        "spec": {"containers": [{"name": "app", "image": GOOD_IMAGE}]},
    }
    workloads.patch_template(stage.namespace, stage.name, template)
    workloads.wait_revision(stage.namespace, stage.name, before + 1)
    wait_for(
        lambda: [
            pod
            for pod in workloads.pods(stage.namespace, stage.name, before + 1)
            if pod.get("status", {}).get("containerStatuses")
        ],
        "the slow pod to have started on its node",
    )
    stage.wait_phase(stage.request({"dryRun": True}), "Previewed")


def needed_in(namespace: str) -> Iterator[tuple[str, Json]]:
    """Yield the paths of what pods can need, and what is in it; classes have no namespace."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    yield path_to("v1", "secrets", namespace, "needed"), {}
    yield path_to("v1", "configmaps", namespace, "needed"), {}
    yield path_to("v1", "serviceaccounts", namespace, "needed"), {}
    yield path_to("v1", "persistentvolumeclaims", namespace, "needed"), {"spec": claim}
    priority = path_to("scheduling.k8s.io/v1", "priorityclasses", name=namespace)
    yield priority, {"value": 1}
    yield path_to("node.k8s.io/v1", "runtimeclasses", name=namespace), {"handler": "runc"}


def play(stage: Stage) -> None:
    """Roll back by the webhook, sent twice; the patch is not allowed at first, then held up."""
    stage.break_it()
    stage.forbid_patches()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_status(name, lambda s: reason_of(s) == "PermissionMissing", "refused the patch")
    assert stage.step(incident=incident).status == 200
    stage.hold_patches()
    stage.allow_patches()
    stage.wait_held(name)
    stage.let_patches()
    stage.wait_settled(name)
    looked = ("update", "rollbackenvironments", "status")
    stage.sandbox.audit.wait_for(
        lambda record: (
            is_ours(record)
            and (record.verb, record.resource, record.subresource) == looked
            and record.name == stage.namespace
        ),
        "the controller to look at the mapping",
        since=stage.since,
    )


def logs_of(operator: Operator) -> Iterator[tuple[str, str]]:
    """Yield what each controller and bridge of the session has said, by its process."""
    for process in operator.sandbox.processes.started:
        if process.name.startswith((CONTROLLER, BRIDGE)):
            yield f"{process.name} ({process.pid})", process.log_text()


def test_what_is_granted_is_used_and_what_is_used_is_granted(session: Session) -> None:
    done = {right_of(r) for r in session.ours if r.resource and r.is_success}
    assert done - FOR_EVERYBODY == granted()


def test_nothing_is_asked_for_that_is_granted_nowhere(session: Session) -> None:
    """What was refused was refused for its namespace alone."""
    refused = Counter(right_of(r) for r in session.ours if r.resource and r.code == 403)
    assert set(refused) <= granted()
    assert refused  # The story has a patch refused.


def test_what_is_no_resource_is_discovery(session: Session) -> None:
    uris = {record.uri for record in session.ours if not record.resource}
    assert uris
    assert {uri for uri in uris if not DISCOVERY.fullmatch(uri)} == set()


def test_our_processes_never_were_anybody_else(session: Session) -> None:
    """Whoever calls himself like us and has another account is a person with our command line."""
    agents = {record.user_agent for record in session.ours}
    assert {agent for agent in agents if OUR_AGENTS.fullmatch(agent) is None} == set()
    assert agents
    written = {
        (record.verb, record.resource, record.subresource)
        for record in session.records
        if record.is_write and not is_ours(record) and OUR_AGENTS.fullmatch(record.user_agent)
    }
    assert written <= {("create", ROLLBACKS, "")}


def test_kopf_writes_nothing(session: Session) -> None:
    by_us = [record for record in session.ours if record.is_write]
    written = {(r.verb, r.resource, r.subresource) for r in by_us if r.resource == ROLLBACKS}
    assert written == {("create", ROLLBACKS, ""), ("update", ROLLBACKS, "status")}
    assert {r.user for r in by_us if r.verb == "create" and r.resource == ROLLBACKS} == {
        BRIDGE_USER
    }
    assert not [str(record) for record in session.ours if "kopf.dev" in record.uri]
    assert not [str(record) for record in by_us if "kopf" in record.user_agent.lower()]
    bodies = [*(r.response_object for r in by_us if r.resource == ROLLBACKS), *session.left]
    stored = [body["metadata"] for body in bodies if body and body.get("kind") != "Status"]
    assert stored
    for metadata in stored:
        assert not metadata.get("finalizers")
        assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]
        assert not [key for key in metadata.get("labels", {}) if "kopf" in key]


@pytest.mark.scenario("W12")
def test_every_patch_and_every_status_is_under_our_name(session: Session) -> None:
    named = [r for r in session.ours if r.verb in ("patch", "update")]
    assert {record.resource for record in named} >= {"deployments", ROLLBACKS}
    assert {record.field_manager for record in named} == {FIELD_MANAGER}


def test_only_the_home_namespace_and_those_that_let_us_in_were_written_in(
    session: Session,
) -> None:
    """But for the status of our own kind, which may be anywhere."""
    let_in = {
        record.namespace
        for record in session.records
        if record.is_write and record.is_success and record.resource == "rolebindings"
    }
    written = {
        record.namespace
        for record in session.ours
        if record.is_write and record.is_success and record.namespace
        if record.resource != ROLLBACKS
    }
    assert written <= let_in | {HOME_NAMESPACE}
    assert len(written) > 1


def test_no_process_of_ours_ever_said_that_it_broke(session: Session) -> None:
    assert {name.partition(" ")[0] for name in session.logs} >= {CONTROLLER, BRIDGE}
    said = [
        f"{name}: {log[max(0, found.start() - SHOWN) : found.start() + SHOWN]}"
        for name, log in session.logs.items()
        for found in BADLY_ENDED.finditer(log)
    ]
    assert not said, "\n".join(said)


def right_of(record: AuditRecord) -> Right:
    what = "/".join(part for part in (record.resource, record.subresource) if part)
    name = record.name if (record.verb, record.resource) in BY_NAME else ""
    return Right(record.user, record.verb, in_group(what, record.group), name)
