"""
What people and pipelines ask from a shell: each command once, on a real control plane.

Every command runs as a process of its own and its output is a pipe, as in CI.
"""

import json
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from incident_rollback.clients.translate import template_patch, to_workload
from incident_rollback.crd.v1alpha1 import SERVICE_LABEL
from incident_rollback.domain.changes import changes_between
from incident_rollback.domain.plan import plan_of
from incident_rollback.domain.template import template_key
from incident_rollback.domain.workload import Revision, Workload
from incident_rollback.ports import TemplatePatch
from tests.e2e.conftest import SetStage
from tests.e2e.stage import API_VERSION, ENVIRONMENTS, LEASE, ROLLBACKS, Stage, reason_of
from tests.sandbox.api import Json, path_to
from tests.sandbox.components import base_environment
from tests.sandbox.processes import Completed
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE, a_deployment

FINE, NO, WRONG_USE, TIMED_OUT = range(4)
ESCAPE: Final = "\x1b"
SECRET: Final = "s3cret-of-the-bad-release"


def run(stage: Stage, *args: str, code: int = FINE, **env: str) -> Completed:
    """Run a command as an admin, and see its exit code and that there is no colour in a pipe."""
    sandbox = stage.sandbox
    told = {
        **base_environment(),
        "KUBECONFIG": str(sandbox.kubeconfig),
        "HOME": str(sandbox.root),
        **env,
    }
    argv = [sys.executable, "-m", "incident_rollback", *args]
    done = sandbox.processes.run("command", argv, told)
    assert done.returncode == code, done
    assert ESCAPE not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def here(stage: Stage) -> tuple[str, ...]:
    """Return the Deployment of a stage as an argument."""
    return f"deploy/{stage.name}", "-n", stage.namespace


def data(done: Completed) -> Any:
    return json.loads(done.stdout)


def test_a_rollback_is_asked_for_followed_and_looked_at(stage: Stage) -> None:
    stage.break_it()
    done = run(stage, "rollback", *here(stage))
    first, *_, last = done.stdout.splitlines()
    name = first.split()[1]
    stage.requests[name] = stage.namespace
    assert "Succeeded RolledBack: 3 of 3 pods available" in last
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1

    head, row = run(stage, "get", "-n", stage.namespace).stdout.splitlines()
    assert head.split()[:3] == ["NAMESPACE", "NAME", "WORKLOAD"]
    expected = [stage.namespace, name, stage.name, "Succeeded", "RolledBack", "2", "1"]
    assert row.split()[:7] == expected
    everywhere = run(stage, "get", "-A", "-o", "name").stdout.splitlines()
    assert f"incidentrollback.incidentrollback.dev/{name}" in everywhere

    told = run(stage, "describe", name, "-n", stage.namespace).stdout
    for what in ("requested", "claimed", "patched", "healthy", "finished"):
        assert f"\n{what}" in told
    assert f"To        revision 1 ({GOOD_IMAGE})" in told
    assert BROKEN_IMAGE in told

    waited = run(stage, "wait", name, "-n", stage.namespace, "-o", "json")
    assert data(waited)["status"]["phase"] == "Succeeded"
    assert "Succeeded RolledBack" in waited.stderr

    known = data(run(stage, "history", *here(stage), "-o", "json"))
    assert [(r["revision"], r["live"], r["rolledBackFrom"]) for r in known] == [
        (3, True, False),
        (2, False, True),
    ]


def test_a_preview_makes_nothing_and_agrees_with_a_dry_run(stage: Stage) -> None:
    stage.break_it()
    before = stage.sandbox.settled_audit().mark()
    shown = data(run(stage, "preview", *here(stage), "-o", "json"))
    records = stage.sandbox.settled_audit().records(before)
    mine = [r for r in records if r.namespace in (stage.namespace, HOME_NAMESPACE)]
    assert [r for r in mine if r.is_write and r.user == "admin"] == []
    assert run(stage, "preview", *here(stage)).stdout.splitlines()[-1] == (
        f"Next: kubectl irb rollback deploy/{stage.name} -n {stage.namespace}"
    )
    dry = stage.wait_phase(stage.request({"dryRun": True}), "Previewed")
    assert shown["status"]["plan"] == dry["plan"]
    assert shown["status"]["candidates"] == dry["candidates"]
    assert shown["status"]["to"] == dry["to"]
    assert stage.attempts() == []


def a_great_change(stage: Stage) -> None:
    """Deploy a bad release that differs in more than its image, and see it crash-loop."""
    container = {
        "name": "app",
        "image": BROKEN_IMAGE,
        "env": [{"name": "PASSWORD", "value": SECRET}, {"name": "REGION", "value": "eu"}],
        "resources": {"limits": {"memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
    }
    volume = {"name": "config", "configMap": {"name": "checkout-v2", "optional": True}}
    template = {
        "metadata": {"annotations": {"checksum/config": SECRET}},
        "spec": {"containers": [container], "volumes": [volume]},
    }
    stage.sandbox.workloads.patch_template(stage.namespace, stage.name, template)
    stage.wait_broken()


def snapshot(stage: Stage) -> Workload:
    """Return the Deployment and its ReplicaSets as the operator reads them."""
    workloads, where = stage.sandbox.workloads, (stage.namespace, stage.name)
    return to_workload(stage.deployment(), workloads.replica_sets(*where), ())


def dry_run_by_the_server(stage: Stage, workload: Workload, to: Revision) -> Json:
    """Return the template that the API server would store for the very patch of a rollback."""
    patch = TemplatePatch(
        ref=workload.ref,
        uid=workload.uid,
        generation=workload.generation,
        revision=workload.number,
        template=to.template,
        marker="nobody",
    )
    path = path_to("apps/v1", "deployments", stage.namespace, stage.name)
    answer = stage.sandbox.api.patch(path, template_patch(patch), "json", dryRun="All")
    template: Json = answer["spec"]["template"]
    return template


def test_a_preview_a_dry_run_and_the_server_agree(set_stage: SetStage) -> None:
    stage = set_stage(a_deployment(env={"REGION": "us"}))
    a_great_change(stage)
    shown = data(run(stage, "preview", *here(stage), "-o", "json"))["status"]
    dry = stage.wait_phase(stage.request({"dryRun": True}), "Previewed")
    assert shown["plan"] == dry["plan"]
    assert shown["plan"]["changes"] == [
        f"container app: image {BROKEN_IMAGE} -> {GOOD_IMAGE}",
        "container app: env PASSWORD removed",
        "container app: env REGION changes",
        "container app: readinessProbe removed",
        "container app: resources.limits.memory 64Mi -> none",
        "volume config removed",
        "metadata.annotations.checksum/config removed",
    ]
    page = run(stage, "preview", *here(stage)).stdout
    assert SECRET not in json.dumps(shown) + json.dumps(dry) + page
    assert shown["plan"]["changes"][4] in page

    workload = snapshot(stage)
    to = workload.revision(shown["to"]["podTemplateHash"])
    assert to is not None
    template = dry_run_by_the_server(stage, workload, to)
    assert template_key(template) == to.key
    assert plan_of(workload, replace(to, template=template)).digest == shown["plan"]["digest"]
    assert changes_between(workload.template, template) == shown["plan"]["changes"]
    assert stage.deployment()["metadata"]["generation"] == workload.generation


def test_an_approval_is_of_the_very_plan_that_was_shown(stage: Stage) -> None:
    """What comes between is shown anew, and acted on only when that is approved."""
    stage.break_it()
    made = run(stage, "rollback", *here(stage), "--dry-run", "-o", "json").stdout
    first = json.loads(made)
    a_great_change(stage)
    before = stage.deployment()["spec"]
    where = ("-n", stage.namespace, "-o", "json")
    refused = data(run(stage, "approve", first["metadata"]["name"], *where, code=NO))
    assert reason_of(refused["status"]) == "PlanChanged"
    assert stage.deployment()["spec"] == before
    assert stage.attempts() == []
    old, new = first["status"]["plan"], refused["status"]["plan"]
    assert new["digest"] != old["digest"]
    assert set(old["changes"]) < set(new["changes"])
    now = data(run(stage, "preview", *here(stage), "-o", "json"))["status"]["plan"]
    assert now == new
    done = data(run(stage, "approve", refused["metadata"]["name"], *where))
    assert done["spec"]["planDigest"] == new["digest"]
    assert (done["status"]["phase"], done["status"]["plan"]) == ("Succeeded", new)
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


def test_a_preview_of_what_is_refused_is_a_no(stage: Stage) -> None:
    told = run(stage, "preview", *here(stage), code=NO).stdout
    assert "Refused NothingToRollBackTo: there is no other revision in the history" in told
    gone = run(stage, "preview", "deploy/nobody", "-n", stage.namespace, code=NO).stdout
    assert "Refused WorkloadNotFound" in gone


def test_a_plan_is_approved_and_carried_out(set_stage: SetStage) -> None:
    stage = set_stage(policy={"approval": "Required"})
    stage.break_it()
    assert "which is refused with the plan" in run(stage, "preview", *here(stage)).stdout
    refused = data(run(stage, "rollback", *here(stage), "-o", "json", code=NO))
    name = refused["metadata"]["name"]
    assert reason_of(refused["status"]) == "ApprovalRequired"
    assert stage.images() == [BROKEN_IMAGE]
    done = data(run(stage, "approve", name, "-n", stage.namespace, "-o", "json"))
    digest = refused["status"]["plan"]["digest"]
    assert done["metadata"]["name"] == f"{name}-approved-{digest[7:13]}"
    assert done["spec"]["planDigest"] == digest
    assert done["status"]["phase"] == "Succeeded"
    assert stage.images() == [GOOD_IMAGE]
    again = run(stage, "approve", done["metadata"]["name"], "-n", stage.namespace, code=NO)
    assert "is Succeeded (RolledBack)" in again.stdout


def test_a_dry_run_is_approved_as_well(stage: Stage) -> None:
    stage.break_it()
    made = run(stage, "rollback", *here(stage), "--dry-run", "-o", "name").stdout.strip()
    name = made.rpartition("/")[2]
    assert stage.images() == [BROKEN_IMAGE]
    run(stage, "approve", name, "-n", stage.namespace)
    assert stage.images() == [GOOD_IMAGE]


def test_waiting_has_an_end(stage: Stage) -> None:
    stage.break_it()
    stage.sandbox.kubectl.run("rollout", "pause", f"deploy/{stage.name}", "-n", stage.namespace)
    asked = run(stage, "rollback", *here(stage), "--no-follow")
    name = asked.stdout.split()[1]
    assert asked.stdout.splitlines()[-1].endswith(f"kubectl irb wait {name} -n {stage.namespace}")
    late = run(stage, "wait", name, "-n", stage.namespace, "--timeout", "1", code=TIMED_OUT)
    assert "is not over" in late.stdout


def test_a_calm_afternoon_and_one_that_is_not(set_stage: SetStage) -> None:
    services = [{"name": "Checkout API", "workload": {"name": "checkout"}}]
    stage = set_stage(services=services)

    def rows() -> dict[str, Any]:
        argv = ("check", "-n", HOME_NAMESPACE, "-o", "json")
        found = stage.sandbox.processes.run(
            "check",
            [sys.executable, "-m", "incident_rollback", *argv],
            {**base_environment(), "KUBECONFIG": str(stage.sandbox.kubeconfig)},
        )
        mine = [r for r in json.loads(found.stdout) if r["environment"] == stage.namespace]
        assert (found.returncode == FINE) == all(r["ready"] for r in json.loads(found.stdout))
        return {r["service"]: r for r in mine}

    wait_for(lambda: rows()[""]["ready"], "the controller to look at the environment")
    shallow = rows()["Checkout API"]
    assert not shallow["ready"]
    assert "history has 1 of 2" in shallow["message"]
    stage.break_it()
    deep = rows()["Checkout API"]
    assert (deep["ready"], deep["revisions"]) == (True, 2)
    assert deep["workload"] == f"{stage.namespace}/checkout"
    stage.map()
    stage.sandbox.workloads.label(stage.namespace, stage.name, {SERVICE_LABEL: "shop-checkout"})
    labelled = rows()
    assert "Checkout API" not in labelled
    assert labelled["shop-checkout"]["workload"] == f"{stage.namespace}/checkout"
    assert labelled["shop-checkout"]["ready"]
    stage.map(services=services, suspend=True)
    assert not rows()[""]["ready"]
    told = run(stage, "check", code=NO).stdout
    assert "its red switch is on" in told


def controllers_row(done: Completed) -> Json:
    rows: list[Json] = [row for row in data(done) if not row["environment"]]
    (row,) = rows
    return row


def test_a_controller_that_died_on_a_calm_afternoon_is_missed(stage: Stage) -> None:
    check = ("check", "-o", "json")
    with mapped_alone(stage):
        leading = controllers_row(run(stage, *check))
        assert leading["ready"]
        assert re.fullmatch(r"leads: \S+", leading["message"])
        stage.operator.controller.stop()
        long_ago = datetime.now(UTC) - timedelta(minutes=3, seconds=20)
        spec = {"holderIdentity": "dead", "renewTime": f"{long_ago:%Y-%m-%dT%H:%M:%S.%fZ}"}
        stage.sandbox.api.patch(LEASE, {"spec": spec})
        row = controllers_row(run(stage, *check, code=NO))
        assert not row["ready"]
        assert f"has been seen since {long_ago:%Y-%m-%d %H:%M:%S} UTC" in row["message"]
        alone = data(run(stage, *check, INCIDENT_ROLLBACK_LEADER_ELECT="false"))
        assert all(row["environment"] for row in alone)
    stage.sandbox.api.delete(LEASE)
    stage.operator.controller.begin()


def test_who_may_not_read_the_lease_is_told_so_and_a_viewer_may(stage: Stage) -> None:
    mine = str(stage.sandbox.control_plane.token_kubeconfig(stage.namespace, "default"))
    with mapped_alone(stage), binding(stage, "view"):
        with binding(stage, looker(stage)):
            done = run(stage, "check", "-o", "json", code=WRONG_USE, KUBECONFIG=mine)
            row = controllers_row(done)
            assert row["ready"] is None
            assert f"{stage.namespace}:default may not get leases" in row["message"]
            assert all(row["ready"] for row in data(done) if row["environment"])
        with binding(stage, "incidentrollback-viewer"):
            told = run(stage, "check", KUBECONFIG=mine).stdout
            assert "leads: " in told
            assert "All of it would work now." in told


@contextmanager
def mapped_alone(stage: Stage) -> Generator[None]:
    """
    Have no mapping but the stage's, and that one ready, for as long as the block.

    The shipped one is for any environment, and never ready: what it leads to is looked at when a
    rollback is asked for.
    """
    api, shipped = stage.sandbox.api, environment_path("default")
    wait_for(
        lambda: reason_of(api.get(environment_path(stage.namespace)).get("status", {})) == "Ready",
        "the controller to look at the environment",
    )
    body = api.get(shipped)
    api.delete(shipped)
    try:
        yield
    finally:
        metadata = {key: body["metadata"][key] for key in ("name", "namespace", "labels")}
        api.create(shipped.rpartition("/")[0], {**body, "metadata": metadata})


def environment_path(name: str) -> str:
    return path_to(API_VERSION, ENVIRONMENTS, HOME_NAMESPACE, name)


def looker(stage: Stage) -> str:
    """Make a ClusterRole that may look at our kinds, and at no Lease; return its name."""
    name = f"looks-{stage.namespace}"
    rule = {
        "apiGroups": [API_VERSION.partition("/")[0]],
        "resources": [ROLLBACKS, ENVIRONMENTS],
        "verbs": ["get", "list"],
    }
    path = path_to("rbac.authorization.k8s.io/v1", "clusterroles")
    stage.sandbox.api.create(path, {"metadata": {"name": name}, "rules": [rule]})
    return name


@contextmanager
def binding(stage: Stage, role: str) -> Generator[None]:
    """Give a ClusterRole to the namespace's default account, everywhere."""
    name, account = f"{role}-{stage.namespace}", f"{stage.namespace}:default"
    kubectl = stage.sandbox.kubectl
    kubectl.run(
        "create",
        "clusterrolebinding",
        name,
        f"--clusterrole={role}",
        f"--serviceaccount={account}",
    )
    try:
        yield
    finally:
        kubectl.run("delete", "clusterrolebinding", name)


WRONG: Final = [
    pytest.param(["preview", "checkout", "-n", "shop"], "deploy/NAME", id="no workload"),
    pytest.param(["describe", "nobody", "-n", "shop"], "there is no IncidentRollback", id="none"),
    pytest.param(["history", "deploy/nobody", "-n", "shop"], "there is no deployment", id="gone"),
    pytest.param(["wait", "nobody", "-n", "shop"], "there is no IncidentRollback", id="no wait"),
    pytest.param(["approve", "nobody", "-n", "shop"], "there is no IncidentRollback", id="no plan"),
]


@pytest.mark.parametrize(("args", "words"), WRONG)
def test_wrong_use_is_one_line(stage: Stage, args: list[str], words: str) -> None:
    (line,) = run(stage, *args, code=WRONG_USE).stderr.splitlines()
    assert words in line


def test_a_cluster_that_is_away_is_one_line(stage: Stage) -> None:
    nowhere = stage.sandbox.root / "nowhere"
    nowhere.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        "contexts: [{name: x, context: {cluster: x, user: x}}]\n"
        "clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: x, user: {}}]\n",
        encoding="utf-8",
    )
    done = run(stage, "get", "-A", code=WRONG_USE, KUBECONFIG=str(nowhere))
    (line,) = done.stderr.splitlines()
    assert "the API server cannot be reached" in line


def test_the_rights_are_those_of_whoever_asks(stage: Stage) -> None:
    """A namespace's default account may do nothing; that is no verdict on the operator."""
    stage.break_it()
    mine = str(stage.sandbox.control_plane.token_kubeconfig(stage.namespace, "default"))
    for args in (
        ("preview", *here(stage)),
        ("rollback", *here(stage)),
        ("get", "-A"),
        ("history", *here(stage)),
        ("check",),
    ):
        (line,) = run(stage, *args, code=WRONG_USE, KUBECONFIG=mine).stderr.splitlines()
        assert f"system:serviceaccount:{stage.namespace}:default may not" in line


def test_kubectl_finds_it_as_a_plugin(stage: Stage) -> None:
    kubectl = stage.sandbox.kubectl
    env = {**base_environment(), **kubectl.env}
    argv = [kubectl.argv0, "irb", "history", *here(stage), "-o", "name"]
    done = stage.sandbox.processes.run("kubectl", argv, env)
    assert done.returncode == FINE, done
    assert done.stdout.startswith(f"replicaset.apps/{stage.name}-")
