"""
Who owns a workload, and will bring the bad revision back: told by what is on the object.

The owner itself may live on another cluster, so what is found here is a finding, not a proof;
nothing here can pause anything.  Where two answers are possible, the more careful one is given.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from incident_rollback.crd.v1alpha1 import FIELD_MANAGER
from incident_rollback.domain.raw import Json, child, children, text
from incident_rollback.domain.words import quote

if TYPE_CHECKING:
    from incident_rollback.domain.workload import WorkloadRef

MAX_NAME: Final = 253
MAX_DETAIL: Final = 500

ARGO: Final = "argocd.argoproj.io"
TRACKING_ID: Final = f"{ARGO}/tracking-id"
INSTALLATION_ID: Final = f"{ARGO}/installation-id"
ARGO_LABEL: Final = f"{ARGO}/instance"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
MAX_LABEL: Final = 63
ARGO_MANAGERS: Final = frozenset({"argocd-controller", "argocd-application-controller"})
KUSTOMIZE: Final = "kustomize.toolkit.fluxcd.io"
KUSTOMIZE_MANAGER: Final = "kustomize-controller"
HELM_TOOLKIT: Final = "helm.toolkit.fluxcd.io"
HELM_MANAGER: Final = "helm-controller"
FLUX_OPERATOR: Final = "fluxcd.controlplane.io"
CONFIG_SYNC_MANAGED: Final = "configmanagement.gke.io/managed"
CONFIG_SYNC_MANAGER: Final = "configsync.gke.io/manager"
CONFIG_SYNC_ID: Final = "configsync.gke.io/resource-id"
CONFIG_SYNC_FIELDS: Final = "configsync.gke.io"
MUTATION: Final = "client.lifecycle.config.k8s.io/mutation"
OBJECT_SET: Final = "objectset.rio.cattle.io"
HELM_RELEASE_NAME: Final = "meta.helm.sh/release-name"
HELM_RELEASE_NAMESPACE: Final = "meta.helm.sh/release-namespace"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

Reverts: TypeAlias = Literal["certain", "possible", "never"]
"""Whether the owner brings the bad revision back by itself, without another deploy of it."""

_ORDER: Final[Sequence[Reverts]] = ("certain", "possible", "never")
_BACK: Final = "brings the bad revision back"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class Tool(StrEnum):
    """What kind of owner it is."""

    CONTROLLER = "Controller"
    ARGO_CD = "ArgoCD"
    HELM_RELEASE = "FluxHelmRelease"
    KUSTOMIZATION = "FluxKustomization"
    RESOURCE_SET = "FluxResourceSet"
    CONFIG_SYNC = "ConfigSync"
    FLEET = "Fleet"
    HELM = "Helm"
    KUBECTL = "Kubectl"
    APPLIER = "Applier"


NOUNS: Final = {
    Tool.CONTROLLER: "",  # Its name says it: kind/name.
    Tool.ARGO_CD: "Argo CD Application",
    Tool.HELM_RELEASE: "Flux HelmRelease",
    Tool.KUSTOMIZATION: "Flux Kustomization",
    Tool.RESOURCE_SET: "Flux ResourceSet",
    Tool.CONFIG_SYNC: "Config Sync",
    Tool.FLEET: "Fleet bundle",
    Tool.HELM: "Helm release",
    Tool.KUBECTL: "kubectl apply",
    Tool.APPLIER: "server-side apply by",
}


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody who keeps the workload as it is written down elsewhere."""

    tool: Tool
    name: str
    """
    As found, at most 253 characters; `kind/name` of a controller, the manager of an applier.

    Empty: not known, or no name that Kubernetes would take.  Whoever may annotate a workload
    must not write into the commands that people paste.
    """
    namespace: str
    """Empty: not known; an Argo CD Application's is rarely to be seen from the object."""
    evidence: str
    """What on the object says so; safe to repeat."""
    reverts: Reverts
    detail: str = ""
    """What else is known of it; safe to repeat."""
    parent: str = ""
    """Who made the owner, and takes changes to it back; safe to repeat, empty: nobody known."""
    is_judged: bool = False
    """`reverts` rests on a look at the owner itself, not on the workload alone."""

    def __str__(self) -> str:
        where = "/".join(filter(None, (self.namespace, self.name)))
        return quote(f"{NOUNS[self.tool]} {where}")


Finder: TypeAlias = Callable[[Json], Owner | None]
"""Looks for one kind of owner in the metadata of a workload."""


def find_owners(deployment: Json) -> tuple[Owner, ...]:
    """
    Return the owners of a Deployment, given as raw JSON with its managedFields.

    Those that are certain to bring the bad revision back come first; among equals the stronger
    evidence: owner reference, then tracking annotation and labels.  What managedFields and
    last-applied say counts only where nothing stronger speaks: Argo CD leaves both behind, too.
    """
    metadata = child(deployment, "metadata")
    found = tuple(_found(STRONG, metadata)) or tuple(_found(WEAK, metadata))[:1]
    return by_certainty(found)


def by_certainty(owners: Iterable[Owner]) -> tuple[Owner, ...]:
    """Return owners with those first that are certain to bring the bad revision back."""
    return tuple(sorted(owners, key=lambda owner: _ORDER.index(owner.reverts)))


def certain_to_revert(owners: Sequence[Owner]) -> Owner | None:
    """Return the owner that will bring the bad revision back by itself, or None."""
    return next((owner for owner in owners if owner.reverts == "certain"), None)


def judge_application(
    owner: Owner, application: Json | None, ref: "WorkloadRef | None" = None
) -> Owner:
    """
    Sharpen what an Argo CD owner does by its Application; None: it could not be read.

    An empty `automated` is active, unlike an absent one.  With a `ref` the Application must
    list the workload: one of the same name may belong to another Argo CD than the owner.
    Source: https://argo-cd.readthedocs.io/en/stable/user-guide/auto_sync/
    """
    if owner.tool is not Tool.ARGO_CD:
        return owner
    if application is None:
        return _noted(owner, "could not look at the Application")
    if ref is not None and not _lists(application, ref):
        return _noted(owner, "the Application of that name does not list the workload")
    reverts, why = _sync_of(application)
    metadata = child(application, "metadata")
    return replace(
        _noted(owner, why),
        namespace=owner.namespace or _name(text(metadata, "namespace")),
        reverts=reverts,
        parent=quote(_maker_of(metadata)),
        is_judged=True,
    )


def what_brings_back(owner: Owner) -> str:
    """Say what will bring the bad revision back, as a clause that names the owner."""
    made_by = f"made by {owner.parent}" if owner.parent else ""
    notes = "; ".join(filter(None, (made_by, owner.detail)))
    return f"{owner} {_deed(owner)}{f' ({notes})' if notes else ''}"


def how_to_pause(owner: Owner, ref: "WorkloadRef") -> str:  # noqa: C901  # a flat table
    """Return the command that keeps the owner from it, or what is to be reverted instead."""
    name, namespace = owner.name or "NAME", owner.namespace or "NAMESPACE"
    match owner.tool:
        case Tool.ARGO_CD:
            return _how_to_pause_argo(owner)
        case Tool.KUSTOMIZATION if owner.reverts == "never":
            return "revert the commit before the pause on this object is taken away"
        case Tool.KUSTOMIZATION:
            on_object = _annotate(f"deploy/{ref.name}", ref.namespace, f"{KUSTOMIZE}/reconcile")
            suspend = f"flux suspend kustomization {name} -n {namespace}"
            return f"{on_object}, or {suspend}"
        case Tool.HELM_RELEASE:
            return f"flux suspend helmrelease {name} -n {namespace}"
        case Tool.RESOURCE_SET:
            return _annotate(f"resourceset/{name}", namespace, f"{FLUX_OPERATOR}/reconcile")
        case Tool.CONFIG_SYNC:
            return (
                "revert the commit, or annotate the Deployment at its source with "
                f"{CONFIG_SYNC_MANAGED}: disabled; it cannot be paused in the cluster"
            )
        case Tool.FLEET:
            return (
                "revert the commit, or set spec.paused: true on its GitRepo or Bundle, on Fleet's "
                "own cluster"
            )
        case Tool.HELM:
            return (
                "revert the change at its source before the next helm upgrade, which may then "
                "need --force-conflicts"
            )
        case Tool.CONTROLLER:
            return f"roll back {owner} instead"
        case Tool.KUBECTL:
            return "change the manifest before the next kubectl apply"
        case Tool.APPLIER:
            return f"revert the change at the source of {quote(owner.name)}"


def _deed(owner: Owner) -> str:  # noqa: C901  # a flat table
    match owner.tool, owner.reverts:
        case Tool.ARGO_CD, "certain":
            return f"{_BACK} within seconds"
        case Tool.ARGO_CD, "possible" if owner.is_judged:
            return f"{_BACK} with the next commit, whatever that is about"
        case Tool.ARGO_CD, "possible":
            return f"{_BACK} with any later sync, and within seconds if its self-heal is on"
        case Tool.ARGO_CD, "never":
            return f"{_BACK} when somebody syncs it"
        case Tool.KUSTOMIZATION | Tool.RESOURCE_SET, "certain":
            return f"{_BACK} at its next interval"
        case Tool.KUSTOMIZATION, "never":
            return f"{_BACK} once it is no longer paused on this object"
        case Tool.HELM_RELEASE, "possible":
            return f"{_BACK} at its next upgrade, and sooner if its drift detection is on"
        case Tool.HELM_RELEASE | Tool.HELM, _:
            return f"{_BACK} at its next upgrade"
        case Tool.CONFIG_SYNC, "certain":
            return f"{_BACK} at once, or rejects the rollback"
        case Tool.FLEET, _:
            return f"{_BACK} at its next deploy, and sooner if its correctDrift is on"
        case Tool.KUBECTL | Tool.APPLIER, "never":
            return f"{_BACK} when it is next run"
        case Tool.CONTROLLER, _:
            return "writes the template itself, and may write the bad revision back"
        case _, "never":
            return "leaves it alone"
        case _:
            return "may bring the bad revision back at any time"


def _how_to_pause_argo(owner: Owner) -> str:
    name, namespace = owner.name or "NAME", owner.namespace or "ARGOCD_NAMESPACE"
    if owner.reverts == "never":
        return "revert the commit before somebody syncs it"
    if owner.parent:
        return f"revert the commit, for {owner.parent} may take back a pause of {owner}"
    automated = """'{"spec":{"syncPolicy":{"automated":{"enabled":false}}}}'"""
    return (
        f"kubectl patch applications.argoproj.io {name} -n {namespace} --type merge "
        f"-p {automated} (before Argo CD 3.1 set automated to null instead)"
    )


def _annotate(what: str, namespace: str, key: str) -> str:
    return f"kubectl annotate {what} -n {namespace} {key}=disabled --overwrite"


def _found(finders: Sequence[Finder], metadata: Json) -> Iterator[Owner]:
    return (owner for finder in finders if (owner := finder(metadata)) is not None)


def _controller(metadata: Json) -> Owner | None:
    references = children(metadata, "ownerReferences")
    parent = next((_kind_name(o) for o in references if o.get("controller")), "")
    if not parent:
        return None
    evidence = quote(f"controller ownerReference {parent}")
    return Owner(Tool.CONTROLLER, parent[:MAX_NAME], "", evidence, "certain")


def _object_set_owner(metadata: Json) -> Owner | None:
    """Rancher's object sets name their owner, such as an Addon of k3s; Fleet's do not."""
    annotations = child(metadata, "annotations")
    kind = text(annotations, f"{OBJECT_SET}/owner-gvk").rpartition("Kind=")[2]
    name = text(annotations, f"{OBJECT_SET}/owner-name")
    if not kind:
        return None
    evidence = _annotation(metadata, f"{OBJECT_SET}/owner-gvk")
    return Owner(Tool.CONTROLLER, f"{kind}/{name}"[:MAX_NAME], "", evidence, "possible")


def _argo_by_annotation(metadata: Json) -> Owner | None:
    """
    A tracking id `<app>:<group>/<kind>:<namespace>/<name>` that describes the object itself.

    Any other is a copy, and Argo CD ignores it as well.
    """
    app = _tracked_by(metadata, "apps/Deployment")
    return _argo(metadata, app, _annotation(metadata, TRACKING_ID)) if app else None


def _tracked_by(metadata: Json, kind: str) -> str:
    app, _, what = text(child(metadata, "annotations"), TRACKING_ID).partition(":")
    itself = f"{kind}:{text(metadata, 'namespace')}/{text(metadata, 'name')}"
    return app if what == itself else ""


def _argo_by_label(metadata: Json) -> Owner | None:
    """Argo CD's own label; the common one, which most charts set, only beside its manager."""
    labels = child(metadata, "labels")
    writers = sorted(_managers(metadata) & ARGO_MANAGERS)
    if _argo_by_annotation(metadata) is not None:
        return None  # Then the label is the chart's, or the same name, cut.
    if app := text(labels, ARGO_LABEL):
        return _argo(metadata, app, quote(f"label {ARGO_LABEL}: {app}"))
    if (app := text(labels, INSTANCE_LABEL)) and writers:
        owner = _argo(
            metadata, app, quote(f"label {INSTANCE_LABEL}: {app}; written by {writers[0]}")
        )
        return _noted(owner, "its name may be cut") if len(app) == MAX_LABEL else owner
    return None


def _argo_by_manager(metadata: Json) -> Owner | None:
    """Argo CD wrote it, and tracks it by a label of a key that is not known here."""
    writers = sorted(_managers(metadata) & ARGO_MANAGERS)
    return _argo(metadata, "", f"written by {writers[0]}") if writers else None


def _argo(metadata: Json, app: str, evidence: str) -> Owner:
    """Applications outside of Argo CD's namespace are called `<namespace>_<name>`."""
    namespace, _, name = app.rpartition("_")
    installation = text(child(metadata, "annotations"), INSTALLATION_ID)
    return _noted(
        Owner(Tool.ARGO_CD, _name(name), _name(namespace), evidence, "possible"),
        f"installation {quote(installation)}" if installation else "",
    )


def _helm_release(metadata: Json) -> Owner | None:
    source = _flux_source(metadata, HELM_TOOLKIT)
    if source is None:
        return None
    is_off = _says(metadata, f"{HELM_TOOLKIT}/driftDetection", "disabled")
    return Owner(
        Tool.HELM_RELEASE,
        *source,
        "never" if is_off else "possible",
        detail="drift detection is disabled on this object" if is_off else "",
        parent=_second_hop(metadata),
    )


def _kustomization(metadata: Json) -> Owner | None:
    """
    Drift is always corrected, unless the live object says that it shall be left alone.

    Where it only delivers the HelmRelease of the object it is that one's parent, and no owner.
    """
    source = _flux_source(metadata, KUSTOMIZE)
    if source is None or _second_hop(metadata):
        return None
    for key, value in ((f"{KUSTOMIZE}/reconcile", "disabled"), (f"{KUSTOMIZE}/ssa", "Ignore")):
        if _says(metadata, key, value):
            detail = f"{key}: {value} on this object"
            return Owner(Tool.KUSTOMIZATION, *source, "never", detail)
    return Owner(Tool.KUSTOMIZATION, *source, "certain")


def _second_hop(metadata: Json) -> str:
    """
    Return the Kustomization that delivers the HelmRelease of the object; "": none is seen.

    Both have left their labels, and only the HelmRelease's controller has written the object.
    """
    source = _flux_source(metadata, KUSTOMIZE)
    writers = _managers(metadata)
    is_hop = HELM_MANAGER in writers and KUSTOMIZE_MANAGER not in writers
    if source is None or not is_hop or not _flux_source(metadata, HELM_TOOLKIT):
        return ""
    return quote(f"{NOUNS[Tool.KUSTOMIZATION]} {source[1]}/{source[0]}")


def _resource_set(metadata: Json) -> Owner | None:
    """Old Flux Operators look for a pause on the ResourceSet alone."""
    source = _flux_source(metadata, f"resourceset.{FLUX_OPERATOR}")
    if source is None:
        return None
    if _says(metadata, f"{FLUX_OPERATOR}/reconcile", "disabled"):
        detail = f"{FLUX_OPERATOR}/reconcile: disabled on this object, which old ones ignore"
        return Owner(Tool.RESOURCE_SET, *source, "possible", detail)
    return Owner(Tool.RESOURCE_SET, *source, "certain")


def _config_sync(metadata: Json) -> Owner | None:
    """
    A resource-id that does not describe the object itself is a copy.

    Config Sync never writes `managed: disabled`, and `mutation: ignore` counts at the source
    alone: what somebody put on the live object pauses nothing.
    """
    annotations = child(metadata, "annotations")
    managed = text(annotations, CONFIG_SYNC_MANAGED)
    manager = text(annotations, CONFIG_SYNC_MANAGER)
    itself = f"apps_deployment_{text(metadata, 'namespace')}_{text(metadata, 'name')}"
    is_copy = text(annotations, CONFIG_SYNC_ID).lower() not in ("", itself)
    if is_copy or not manager or managed not in ("enabled", "disabled"):
        return None
    scope, _, name = manager.partition("_")
    is_root = scope == ":root"
    owner = Owner(
        Tool.CONFIG_SYNC,
        _name(name or ("root-sync" if is_root else "repo-sync")),
        "config-management-system" if is_root else _name(scope),
        _annotation(metadata, CONFIG_SYNC_MANAGER),
        "certain",
        "RootSync" if is_root else "RepoSync",
    )
    if managed == "disabled":
        note = "managed: disabled on this object, which counts at its source alone"
        return replace(_noted(owner, note), reverts="possible")
    if text(annotations, MUTATION) != "ignore":
        return owner
    if _declares(metadata, MUTATION):
        return replace(_noted(owner, "its source says mutation: ignore"), reverts="never")
    return _noted(owner, "mutation: ignore on this object is not its source's, and does not count")


def _fleet(metadata: Json) -> Owner | None:
    annotations = child(metadata, "annotations")
    bundle = text(annotations, f"{OBJECT_SET}/id")
    if not bundle or text(annotations, f"{OBJECT_SET}/owner-gvk"):
        return None
    evidence = _annotation(metadata, f"{OBJECT_SET}/id")
    return Owner(Tool.FLEET, bundle[:MAX_NAME], "", evidence, "possible")


def _helm(metadata: Json) -> Owner | None:
    """Helm by itself: Flux and Fleet use it, too, and leave its marks."""
    annotations, labels = child(metadata, "annotations"), child(metadata, "labels")
    name = text(annotations, HELM_RELEASE_NAME)
    namespace = text(annotations, HELM_RELEASE_NAMESPACE)
    is_helm = text(labels, "app.kubernetes.io/managed-by") == "Helm" and name and namespace
    if not is_helm or _helm_release(metadata) or _fleet(metadata):
        return None
    evidence = _annotation(metadata, HELM_RELEASE_NAME)
    return Owner(Tool.HELM, _name(name), _name(namespace), evidence, "never")


def _applier(metadata: Json) -> Owner | None:
    """Whoever applies the template server-side; one that is called a controller may loop."""
    for entry in children(metadata, "managedFields"):
        manager = text(entry, "manager")
        is_applied = text(entry, "operation") == "Apply" and not entry.get("subresource")
        if (
            is_applied
            and "f:template" in child(entry, "fieldsV1", "f:spec")
            and not manager.startswith("kubectl")
            and manager not in (FIELD_MANAGER, "before-first-apply")
        ):
            is_loop = re.search(r"controller|operator", manager, re.IGNORECASE)
            evidence = quote(f"{manager} applies spec.template")
            reverts: Reverts = "possible" if is_loop else "never"
            return Owner(Tool.APPLIER, manager[:MAX_NAME], "", evidence, reverts)
    return None


def _kubectl(metadata: Json) -> Owner | None:
    if text(child(metadata, "annotations"), LAST_APPLIED):
        return Owner(Tool.KUBECTL, "", "", f"annotation {LAST_APPLIED}", "never")
    for entry in children(metadata, "managedFields"):
        manager = text(entry, "manager")
        if manager.startswith("kubectl") and text(entry, "operation") == "Apply":
            return Owner(Tool.KUBECTL, "", "", quote(f"applied by {manager}"), "never")
    return None


STRONG: Final[Sequence[Finder]] = (
    _controller,
    _argo_by_annotation,
    _argo_by_label,
    _helm_release,
    _kustomization,
    _resource_set,
    _config_sync,
    _object_set_owner,
    _fleet,
    _helm,
)
WEAK: Final[Sequence[Finder]] = (_argo_by_manager, _applier, _kubectl)


def _flux_source(metadata: Json, prefix: str) -> tuple[str, str, str] | None:
    """Return name, namespace and evidence of the pair of labels that all of Flux uses."""
    labels = child(metadata, "labels")
    name, namespace = text(labels, f"{prefix}/name"), text(labels, f"{prefix}/namespace")
    if not name or not namespace:
        return None
    return _name(name), _name(namespace), quote(f"labels {prefix}: {namespace}/{name}")


def _says(metadata: Json, key: str, value: str) -> bool:
    """Flux reads its marks from annotations and labels of the live object, in any case."""
    marks = (text(child(metadata, where), key) for where in ("annotations", "labels"))
    return any(mark.casefold() == value.casefold() for mark in marks)


def _declares(metadata: Json, annotation: str) -> bool:
    return any(
        f"f:{annotation}" in child(entry, "fieldsV1", "f:metadata", "f:annotations")
        for entry in children(metadata, "managedFields")
        if entry.get("manager") == CONFIG_SYNC_FIELDS
    )


def _managers(metadata: Json) -> frozenset[str]:
    return frozenset(text(entry, "manager") for entry in children(metadata, "managedFields"))


def _sync_of(application: Json) -> tuple[Reverts, str]:
    """Say what an Application does by itself, and why."""
    if text(child(application, "metadata", "annotations"), f"{ARGO}/skip-reconcile") == "true":
        return "never", "the Application says skip-reconcile"
    automated = child(application, "spec", "syncPolicy").get("automated")
    if automated is None:
        return "never", "it syncs by hand only"
    if automated.get("enabled") is False:
        return "never", "its automated sync is paused"
    if automated.get("selfHeal") is True:
        return "certain", "its self-heal is on"
    return "possible", "its sync is automated, its self-heal is off"


def _maker_of(metadata: Json) -> str:
    """Return an ApplicationSet, an app of apps, or a Kustomization; "" where none is seen."""
    for reference in children(metadata, "ownerReferences"):
        return _kind_name(reference)
    if app := _tracked_by(metadata, "argoproj.io/Application"):
        return f"{NOUNS[Tool.ARGO_CD]} {app}"
    return str(_kustomization(metadata) or "")


def _lists(application: Json, ref: "WorkloadRef") -> bool:
    wanted = ("apps", ref.kind, ref.namespace, ref.name)
    keys = ("group", "kind", "namespace", "name")
    resources = children(child(application, "status"), "resources")
    return any(tuple(text(one, key) for key in keys) == wanted for one in resources)


def _kind_name(reference: Json) -> str:
    return f"{text(reference, 'kind')}/{text(reference, 'name')}"


def _annotation(metadata: Json, key: str) -> str:
    return quote(f"annotation {key}: {text(child(metadata, 'annotations'), key)}")


def _noted(owner: Owner, *notes: str) -> Owner:
    detail = "; ".join(filter(None, (owner.detail, *notes)))
    return replace(owner, detail=detail[:MAX_DETAIL])


def _name(found: str) -> str:
    """Return what was found if it can be the name of an object; "" otherwise."""
    return found if len(found) <= MAX_NAME and _NAME.fullmatch(found) else ""
