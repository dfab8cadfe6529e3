"""
What is refused at once, for good, with nothing changed; and what asks for a person first.

There is always something to roll back: what is refused would be done if its one reason went away.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.e2e.conftest import SetStage
from tests.e2e.stage import BRIDGE_USER, CONTROLLER_USER, Stage, condition, names_in
from tests.sandbox.api import Json, path_to
from tests.sandbox.firehydrant_runbook import Form
from tests.sandbox.simulation import BROKEN_IMAGE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import APPS, GOOD_IMAGE, a_deployment, images_of

NEWER_IMAGE: Final = "nginx:1.19.0"
SERVICE_LABEL: Final = "incidentrollback.dev/service"
MARKER: Final = "incidentrollback.dev/request"
FINALIZER: Final = "example.com/not-yet"
A_DAY: Final = timedelta(hours=24)
FOREIGN_NAMESPACE: Final = "default"


def refused(
    stage: Stage, reason: str, form: Form = "relay", *, incident: str | None = None, **how: Any
) -> str:
    """Ask, see that it is refused for this reason, with nothing changed; return the one note."""
    incident = incident or stage.declare()
    before = stage.deployment()
    name = stage.ask(form, incident=incident, **how)
    see_refused(stage, name, reason)
    see_untouched(stage, before)
    assert stage.changes(incident) == {}
    (note,) = stage.notes(incident)
    assert "was not rolled back: " in note
    assert "Nothing was changed." in note
    last = note.splitlines()[-1]
    assert last.startswith("Next: ")
    assert last.endswith(f"({name})")
    return note


def see_refused(stage: Stage, name: str, reason: str) -> Json:
    """See that it is over, stalled, and told; return the condition Ready."""
    stage.wait_phase(name, "Refused", reason)
    status = stage.wait_settled(name)
    assert "patchedAt" not in status
    ready, stalled = condition(status, "Ready"), condition(status, "Stalled")
    assert ready is not None
    assert stalled is not None
    assert (ready["status"], stalled["status"]) == ("False", "True")
    assert stalled["reason"] == reason
    assert condition(status, "Reconciling") is None
    assert "Next: " in ready["message"]
    return ready


def see_untouched(stage: Stage, before: Json) -> None:
    """See that no patch was tried, and that nothing that people write is other than before."""
    assert stage.attempts() == []
    now = stage.deployment()
    assert now["spec"] == before["spec"]
    assert now["metadata"]["generation"] == before["metadata"]["generation"]
    assert now["metadata"]["annotations"] == before["metadata"]["annotations"]


# --- The workload and the words of the request


@dataclass(frozen=True)
class Refusal:
    """A reason to refuse, how it comes about, and what the note says of it."""

    reason: str
    says: str
    """Part of the note; {namespace} is the stage's."""
    prepare: Callable[[Stage], object] = lambda _: None
    form: Form = "relay"
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the step."""


def label_two(stage: Stage) -> None:
    for name in ("checkout-blue", "checkout-green"):
        one = a_deployment(name, stage.namespace, labels={SERVICE_LABEL: stage.name}, replicas=1)
        stage.sandbox.workloads.deploy(one)


def give_to_an_owner(stage: Stage) -> None:
    owner = stage.sandbox.api.create(
        path_to("v1", "configmaps", stage.namespace), {"metadata": {"name": "the-owner"}}
    )
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "the-owner",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    patch_metadata(stage, {"ownerReferences": [reference]})


def opt_out(stage: Stage) -> None:
    annotations = {
        "incidentrollback.dev/rollback": "never",
        "incidentrollback.dev/reason": "its schema only goes forward",
    }
    stage.sandbox.workloads.annotate(stage.namespace, stage.name, annotations)


def delete_and_hold(stage: Stage) -> None:
    patch_metadata(stage, {"finalizers": [FINALIZER]})
    stage.sandbox.workloads.delete(stage.namespace, stage.name)


def patch_metadata(stage: Stage, metadata: Json) -> None:
    path = path_to(APPS, "deployments", stage.namespace, stage.name)
    stage.sandbox.api.patch(path, {"metadata": metadata})


REFUSALS: Final = [
    pytest.param(
        Refusal("ServiceMissing", "the incident names no service", how={"service": []}),
        id="the incident names no service",
    ),
    pytest.param(
        Refusal("ServiceMissing", "without a letter or digit", how={"service": "⚡ !"}),
        id="the service's name has no letter",
    ),
    pytest.param(
        Refusal(
            "EnvironmentNotMapped", "the incident names no environment", how={"environment": []}
        ),
        id="the incident names no environment",
    ),
    pytest.param(
        Refusal("WorkloadAmbiguous", "checkout-blue, checkout-green", label_two),
        id="two workloads have the label",
    ),
    pytest.param(
        Refusal("OwnedByController", "belongs to ConfigMap/the-owner", give_to_an_owner),
        id="P4 a controller owns it",
    ),
    pytest.param(
        Refusal("OptedOut", "never: its schema only goes forward", opt_out),
        id="its owners said never",
    ),
    pytest.param(
        Refusal("Deleting", "is being deleted", delete_and_hold), id="P5 it is on its way out"
    ),
    pytest.param(
        Refusal("RevisionNotFound", "has no revision 7", form="ours", how={"to_revision": 7}),
        id="S16 the revision asked for is not there",
    ),
    pytest.param(
        Refusal(
            "NothingToRollBackTo",
            "runs revision 2 already, and is not healthy",
            form="ours",
            how={"to_revision": 2},
        ),
        id="S17 it runs the revision asked for and fails",
    ),
]


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_at_once_when(stage: Stage, case: Refusal) -> None:
    stage.break_it()
    case.prepare(stage)
    try:
        note = refused(stage, case.reason, case.form, **case.how)
    finally:
        patch_metadata(stage, {"finalizers": None})
    assert case.says in note


@pytest.mark.scenario("S12")
def test_refused_at_once_when_there_is_no_history(stage: Stage) -> None:
    assert "there is no other revision" in refused(stage, "NothingToRollBackTo")


def test_refused_at_once_when_a_request_elsewhere_names_the_service(stage: Stage) -> None:
    """Whoever may write in one namespace must not move the workloads of another."""
    stage.break_it()
    before = stage.deployment()
    service = {"name": stage.name, "environment": stage.namespace}
    name = stage.request({"service": service}, namespace=FOREIGN_NAMESPACE)
    ready = see_refused(stage, name, "NotAllowed")
    assert f"{FOREIGN_NAMESPACE} may not move a workload of {stage.namespace}" in ready["message"]
    see_untouched(stage, before)


@pytest.mark.scenario("S17")
def test_what_was_asked_for_runs_and_is_healthy_so_it_is_there_already(stage: Stage) -> None:
    stage.break_it()
    stage.undo()
    stage.wait_complete()
    before, incident = stage.deployment(), stage.declare()
    name = stage.ask("ours", incident=incident, to_revision=3)
    stage.wait_phase(name, "Succeeded", "AlreadyThere")
    stage.wait_settled(name)
    see_untouched(stage, before)
    (note,) = stage.notes(incident)
    assert "it runs what was asked for" in note
    assert "Nothing was changed" in note


def test_the_target_is_pruned_after_the_claim_and_nothing_is_changed(stage: Stage) -> None:
    stage.break_it()
    stage.hold_patches()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    stage.wait_held(name)
    before = stage.deployment()
    (good, _) = stage.sandbox.workloads.replica_sets(stage.namespace, stage.name)
    api = stage.sandbox.api
    api.delete(path_to(APPS, "replicasets", stage.namespace, good["metadata"]["name"]))
    ready = see_refused(stage, name, "RevisionNotFound")
    stage.let_patches()  # Not before: a turn may have seen the ReplicaSet, and be about to patch.
    assert "revision 1 " in ready["message"]
    assert "nothing was changed" in ready["message"]
    assert stage.patches() == []
    assert stage.deployment()["spec"] == before["spec"]
    assert MARKER not in stage.deployment()["metadata"]["annotations"]
    assert all("Rolling" not in note for note in stage.notes(incident))


# --- Changed since


def test_a_healthy_deploy_after_the_incident_began_stands(stage: Stage) -> None:
    """Somebody is at work on it already."""
    stage.break_it()
    incident = stage.declare(started_at=datetime.now(UTC) - timedelta(minutes=1))
    stage.deploy(NEWER_IMAGE)
    stage.wait_complete()
    note = refused(stage, "ChangedSinceRequest", "ours", incident=incident)
    assert f"{NEWER_IMAGE} came to deployment {stage.namespace}/{stage.name}" in note
    assert "after the incident began" in note
    assert "--to-revision N" in note


def test_a_failing_deploy_after_the_incident_began_is_rolled_back(stage: Stage) -> None:
    """It may be somebody's failed attempt to mend it, or the cause itself: it hurts now."""
    incident = stage.declare(started_at=datetime.now(UTC) - timedelta(minutes=1))
    stage.break_it()
    name = stage.ask("ours", incident=incident)
    stage.wait_phase(name, "Succeeded", "RolledBack")
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


def test_of_many_pairs_only_what_changed_lately_is_rolled_back(set_stage: SetStage) -> None:
    """
    The rule is a day long, and so the incident began a day after the bad deploy.

    The other workload, made a moment before, is then older than a day.
    """
    stage = set_stage()
    workloads = stage.sandbox.workloads
    workloads.deploy(a_deployment("payments", stage.namespace, replicas=1))
    payments = Stage(
        stage.operator, stage.namespace, "payments", stage.since, stage.seen_violations
    )
    before = payments.deployment()
    wait_for(
        lambda: datetime.now(UTC) > made_at(payments, 1) + timedelta(seconds=2),
        "the clock to show another second",
    )
    stage.break_it()
    services = [stage.name, payments.name]
    incident = stage.declare(started_at=made_at(stage, 2) + A_DAY, services=services)
    delivery = stage.step("ours", incident=incident)
    assert delivery.status == 202, delivery
    hurt, old = names_in(delivery)
    stage.wait_phase(hurt, "Succeeded", "RolledBack")
    ready = see_refused(stage, old, "NotRecentlyChanged")
    assert "2 pairs" in ready["message"]
    assert f"kubectl irb rollback deploy/payments -n {stage.namespace}" in ready["message"]
    see_untouched(payments, before)
    assert len(stage.patches()) == 1


def made_at(stage: Stage, revision: int) -> datetime:
    """Return when a revision's ReplicaSet was made."""
    found = stage.sandbox.workloads.replica_sets(stage.namespace, stage.name)[revision - 1]
    return datetime.fromisoformat(found["metadata"]["creationTimestamp"])


# --- Plans: approval and dry runs


@pytest.fixture
def asking(set_stage: SetStage) -> Stage:
    """A broken workload whose environment asks for approval."""
    stage = set_stage(policy={"approval": "Required"})
    stage.break_it()
    return stage


def digest_of(status: Json) -> str:
    digest: str = status["plan"]["digest"]
    return digest


def test_where_approval_is_required_the_plan_is_shown_and_the_next_step_approves_it(
    asking: Stage,
) -> None:
    stage, incident = asking, asking.declare()
    note = refused(stage, "ApprovalRequired", "ours", incident=incident)
    (first,) = stage.requests
    digest = digest_of(stage.status(first))
    assert f"container app: image {BROKEN_IMAGE} -> {GOOD_IMAGE}" in note
    assert f"planDigest: {digest}" in note
    second = stage.ask("ours", incident=incident, approve=True)
    assert second != first
    assert stage.rollback(second)["spec"]["planDigest"] == digest
    stage.wait_phase(second, "Succeeded", "RolledBack")
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == 1


def test_where_approval_is_required_a_resource_with_the_digest_acts(asking: Stage) -> None:
    ready = see_refused(asking, asking.request(), "ApprovalRequired")
    digest = ready["message"].rpartition("planDigest: ")[2]
    name = asking.request({"planDigest": digest})
    asking.wait_phase(name, "Succeeded", "RolledBack")
    assert len(asking.patches()) == 1


def test_an_approved_plan_that_is_not_the_plan_any_more_changes_nothing(asking: Stage) -> None:
    """Another bad release came since the plan was shown: that one nobody has approved to undo."""
    stage, workloads = asking, asking.sandbox.workloads
    shown = stage.request({"dryRun": True})
    digest = digest_of(stage.wait_phase(shown, "Previewed"))
    workloads.set_template_annotation(stage.namespace, stage.name, "release", "hotfix")
    workloads.wait_revision(stage.namespace, stage.name, 3)
    before = stage.deployment()
    ready = see_refused(stage, stage.request({"planDigest": digest}), "PlanChanged")
    assert digest not in ready["message"]
    assert "now it is sha256:" in ready["message"]
    see_untouched(stage, before)


def test_a_dry_run_shows_the_plan_and_writes_nothing_but_its_own_record(stage: Stage) -> None:
    stage.break_it()
    before, incident = stage.deployment(), stage.declare()
    name = stage.ask("ours", incident=incident, dry_run=True)
    status = stage.wait_phase(name, "Previewed", "Previewed")
    stage.wait_settled(name)
    assert (status["from"]["revision"], status["to"]["revision"]) == (2, 1)
    assert not {"claimedAt", "patchedAt"} & set(status)
    see_untouched(stage, before)
    written = {(r.user, r.verb, r.resource, r.subresource) for r in stage.writes()}
    assert written == {
        (BRIDGE_USER, "create", "incidentrollbacks", ""),
        (CONTROLLER_USER, "update", "incidentrollbacks", "status"),
        (CONTROLLER_USER, "create", "events", ""),
    }
    assert stage.events(stage.name) == []
    (note,) = stage.notes(incident)
    assert note.startswith("Dry run, nothing was changed.")
    assert f"container app: image {BROKEN_IMAGE} -> {GOOD_IMAGE}" in note
    assert digest_of(status) in note
    assert images_of(before) == [BROKEN_IMAGE]


FLUX: Final = {
    "kustomize.toolkit.fluxcd.io/name": "apps",
    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
}
"""The marks that a Flux Kustomization leaves on what it reconciles."""


@pytest.mark.scenario("P6")
def test_p6_what_flux_brings_back_is_refused_with_the_command_that_pauses_it(
    set_stage: SetStage,
) -> None:
    stage = set_stage(a_deployment(labels=FLUX))
    stage.break_it()
    note = refused(stage, "ReconciledFromSource")
    assert "Flux Kustomization flux-system/apps" in note
    assert "kustomize.toolkit.fluxcd.io/reconcile=disabled" in note


@pytest.mark.scenario("P6")
def test_p6_the_policy_may_say_go_on_and_the_note_says_what_will_bring_it_back(
    set_stage: SetStage,
) -> None:
    stage = set_stage(a_deployment(labels=FLUX), policy={"gitOps": "Proceed"})
    stage.break_it()
    incident = stage.declare()
    name = stage.ask(incident=incident)
    target = stage.wait_phase(name, "Succeeded", "RolledBack")["target"]
    (owner,) = target["managedBy"]
    assert (owner["tool"], owner["name"], owner["reverts"]) == (
        "FluxKustomization",
        "apps",
        "certain",
    )
    told = stage.wait_told(incident, "is back on").text
    assert "Flux Kustomization flux-system/apps" in told
    assert len(stage.patches()) == 1
