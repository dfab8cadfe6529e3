"""What is applied to a cluster: valid, restricted, wired together, and granted what is said."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from incident_rollback import __version__
from incident_rollback.bridge.payload import Request, read_payload
from incident_rollback.controller.environments import NEEDED
from incident_rollback.crd.v1alpha1 import API_VERSION
from incident_rollback.domain.lease import LEASE_NAME
from incident_rollback.settings import PREFIX, SERVICE_ACCOUNT_DIR, Settings

Object = dict[str, Any]

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "manifests"
BASE = MANIFESTS / "base"
TARGET = MANIFESTS / "target-namespace"
EXAMPLES = MANIFESTS / "examples"
FIREHYDRANT = EXAMPLES / "firehydrant"
HOME = "incident-rollback"
KUSTOMIZATION = "kustomization.yaml"


def objects_of(path: Path) -> list[Object]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def built(folder: Path) -> Iterator[Object]:
    """Yield what the kustomization of a folder leads to, without its transformations."""
    for resource in yaml.safe_load((folder / KUSTOMIZATION).read_text())["resources"]:
        path = (folder / resource).resolve()
        if path.is_dir():
            yield from built(path)
        else:
            yield from objects_of(path)


OPERATOR = list(built(BASE))
LET_IN = list(built(TARGET))
CRDS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for crd in OPERATOR
    if crd["kind"] == "CustomResourceDefinition"
}
FILES = sorted(
    path
    for folder in (MANIFESTS, ROOT / "crds")
    for path in folder.rglob("*.yaml")
    if path.name != KUSTOMIZATION
)
KUSTOMIZATIONS = sorted(
    path for folder in (MANIFESTS, ROOT / "crds") for path in folder.rglob(KUSTOMIZATION)
)


def shown(value: object) -> str:
    """Name a parameter of a test by its path."""
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def of_kind(kind: str, objects: list[Object] = OPERATOR) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def named(kind: str, name: str) -> Object:
    (found,) = (found for found in of_kind(kind) if found["metadata"]["name"] == name)
    return found


def pod_of(deployment: Object) -> Object:
    pod: Object = deployment["spec"]["template"]["spec"]
    return pod


def container_of(deployment: Object) -> Object:
    containers: list[Object] = pod_of(deployment)["containers"]
    assert len(containers) == 1
    return containers[0]


def matches(selector: Object, labels: Object) -> bool:
    wanted: Object = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


DEPLOYMENTS = [
    pytest.param(deployment, id=deployment["metadata"]["name"])
    for deployment in of_kind("Deployment")
]


# Valid as files.


def sealed(schema: Object) -> Object:
    """Refuse unknown fields, as kubectl does; not the API server, which drops them."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: sealed(one) for name, one in schema["properties"].items()}
        closed["additionalProperties"] = False
    if "items" in schema:
        closed["items"] = sealed(schema["items"])
    return closed


METADATA: Object = {
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object"},
    },
    "required": ["name", "namespace"],
}
RULE: Object = {
    "properties": {
        "alert": {"type": "string"},
        "expr": {"type": "string"},
        "for": {"type": "string"},
        "labels": {"type": "object"},
        "annotations": {"type": "object"},
    },
    "required": ["alert", "expr", "labels", "annotations"],
}
GROUP: Object = {
    "properties": {"name": {"type": "string"}, "rules": {"type": "array", "items": RULE}},
    "required": ["name", "rules"],
}
ENDPOINT: Object = {
    "properties": {"port": {"type": "string"}, "interval": {"type": "string"}},
    "required": ["port"],
}
MONITOR: Object = {
    "properties": {
        "selector": {
            "properties": {"matchLabels": {"type": "object"}},
            "required": ["matchLabels"],
        },
        "podMetricsEndpoints": {"type": "array", "minItems": 1, "items": ENDPOINT},
    },
    "required": ["selector", "podMetricsEndpoints"],
}


def of_prometheus(spec: Object) -> Object:
    """Return the schema of an object of the Prometheus Operator, as far as we use it."""
    fixed = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    return {
        "properties": {**fixed, "metadata": METADATA, "spec": spec},
        "required": ["apiVersion", "kind", "metadata", "spec"],
    }


PROMETHEUS_OPERATOR = {
    "PodMonitor": of_prometheus(MONITOR),
    "PrometheusRule": of_prometheus(
        {"properties": {"groups": {"type": "array", "items": GROUP}}, "required": ["groups"]}
    ),
}
"""By kind.  Its own definitions are on no registry that tests may use."""


def own_schema(kind: str) -> Object:
    schema = sealed(CRDS[kind])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


@pytest.mark.parametrize("version", ["1.32", "1.37"])
@pytest.mark.parametrize("path", FILES, ids=shown)
def test_manifest_is_valid(path: Path, version: str) -> None:
    for manifest in objects_of(path):
        if manifest["apiVersion"] == API_VERSION:
            jsonschema.validate(manifest, own_schema(manifest["kind"]))
        elif manifest["apiVersion"] == "monitoring.coreos.com/v1":
            jsonschema.validate(manifest, sealed(PROMETHEUS_OPERATOR[manifest["kind"]]))
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


INVALID = [
    pytest.param({"spec": {"environments": ["a"], "sevices": []}}, id="a field that is not there"),
    pytest.param({"spec": {"environments": []}}, id="a list that is too short"),
    pytest.param({"spec": {}}, id="a required field that is missing"),
]


@pytest.mark.parametrize("manifest", INVALID)
def test_our_schema_notices(manifest: Object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, own_schema("RollbackEnvironment"))


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=shown)
def test_kustomization_names_every_file_beside_it_and_no_other(path: Path) -> None:
    resources = yaml.safe_load(path.read_text())["resources"]
    beside = {file.name for file in path.parent.glob("*.yaml")} - {KUSTOMIZATION}
    assert {name for name in resources if name.endswith(".yaml")} == beside
    folders = [path.parent / name for name in resources if not name.endswith(".yaml")]
    assert all((folder / KUSTOMIZATION).is_file() for folder in folders)


def run(*command: str | Path) -> str:
    """Run a linter of our own environment; return what it complains about."""
    done = subprocess.run(  # noqa: S603  # Our own words, all of them.
        [Path(sys.executable).parent / command[0], *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_yaml_is_clean() -> None:
    assert run("yamllint", "--strict", "crds", "manifests", ".yamllint.yaml") == ""


def test_containerfile_is_clean() -> None:
    assert run("hadolint", "Containerfile") == ""


# The image.


CONTAINERFILE = (ROOT / "Containerfile").read_text()


def test_image_runs_as_the_user_the_pods_ask_for() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", CONTAINERFILE, re.MULTILINE)
    users = {pod_of(deployment)["securityContext"]["runAsUser"] for deployment in deployments()}
    assert users == {int(user)}


def test_image_holds_only_what_the_lock_file_pins() -> None:
    installs = re.findall(r"pip install (?:[^\n\\]|\\\n)*", CONTAINERFILE)
    assert [one for one in installs if "--require-hashes" not in one] == []
    assert len(installs) == 1


def test_build_sees_everything_it_copies_and_little_else() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", CONTAINERFILE, re.MULTILINE)
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {path.split("/")[0] for path in copied} == {
        line.removeprefix("!") for line in lines if line.startswith("!")
    }
    assert all((ROOT / path).exists() for path in copied)


def test_image_is_tagged_with_the_version() -> None:
    (image,) = yaml.safe_load((BASE / KUSTOMIZATION).read_text())["images"]
    assert image == {"name": "incident-rollback", "newTag": __version__}
    assert {container_of(one)["image"] for one in deployments()} == {image["name"]}


# Restricted.


def deployments() -> list[Object]:
    return of_kind("Deployment")


def is_nonroot(pod: Object, _: Object) -> bool:
    return pod["securityContext"]["runAsNonRoot"] is True


def is_confined_by_seccomp(pod: Object, _: Object) -> bool:
    return bool(pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"})


def is_never_escalated(_: Object, container: Object) -> bool:
    return container["securityContext"]["allowPrivilegeEscalation"] is False


def is_without_capabilities(_: Object, container: Object) -> bool:
    return bool(container["securityContext"]["capabilities"] == {"drop": ["ALL"]})


def is_read_only(_: Object, container: Object) -> bool:
    return container["securityContext"]["readOnlyRootFilesystem"] is True


def is_apart_from_the_host(pod: Object, _: Object) -> bool:
    return not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


def is_of_harmless_volumes(pod: Object, _: Object) -> bool:
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    return kinds <= {"emptyDir", "projected", "secret"}


def is_bounded(_: Object, container: Object) -> bool:
    resources = container["resources"]
    return set(resources["requests"]) == {"cpu", "memory"} and set(resources["limits"]) == {
        "memory"
    }


RESTRICTIONS = [
    pytest.param(is_nonroot, id="not root"),
    pytest.param(is_confined_by_seccomp, id="the runtime's seccomp profile"),
    pytest.param(is_never_escalated, id="no privilege escalation"),
    pytest.param(is_without_capabilities, id="no capabilities"),
    pytest.param(is_read_only, id="a file system that is read-only"),
    pytest.param(is_apart_from_the_host, id="nothing of the host's"),
    pytest.param(is_of_harmless_volumes, id="no volume of the host's"),
    pytest.param(is_bounded, id="requests, and a limit for memory alone"),
]


@pytest.mark.parametrize("holds", RESTRICTIONS)
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_pods_are_restricted(deployment: Object, holds: Any) -> None:
    assert holds(pod_of(deployment), container_of(deployment))


def test_namespace_enforces_it() -> None:
    labels = named("Namespace", HOME)["metadata"]["labels"]
    modes = [labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")]
    assert modes == ["restricted"] * 3


def test_no_secret_is_shipped() -> None:
    assert [path for path in FILES for one in objects_of(path) if one["kind"] == "Secret"] == []


# Wired together.


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_settings_exist_and_paths_are_mounted(deployment: Object) -> None:
    container = container_of(deployment)
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    for variable in container["env"]:
        assert variable["name"].startswith(PREFIX)
        assert variable["name"].removeprefix(PREFIX).lower() in Settings.model_fields
        path = Path(variable["value"])
        assert any(path.is_relative_to(mount) for mount in mounts)


def ports_of(deployment: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container_of(deployment)["ports"]}


def test_ports_are_those_of_the_settings() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    bridge = ports_of(named("Deployment", "incident-rollback-bridge"))
    assert bridge == {"webhook": defaults["bridge_port"], "ops": defaults["ops_port"]}
    controller = ports_of(named("Deployment", "incident-rollback-controller"))
    assert controller == {"ops": defaults["ops_port"]}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_probes_ask_the_ops_port(deployment: Object) -> None:
    container = container_of(deployment)
    probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert probes == {
        "livenessProbe": {"path": "/livez", "port": "ops"},
        "readinessProbe": {"path": "/readyz", "port": "ops"},
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_mount_has_its_volume_and_the_other_way_round(deployment: Object) -> None:
    mounts = {mount["name"] for mount in container_of(deployment)["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod_of(deployment)["volumes"]}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_token_is_the_short_lived_one_where_clients_look(deployment: Object) -> None:
    pod = pod_of(deployment)
    account = named("ServiceAccount", pod["serviceAccountName"])
    assert (account["automountServiceAccountToken"], pod["automountServiceAccountToken"]) == (
        False,
        False,
    )
    (mount,) = (
        mount
        for mount in container_of(deployment)["volumeMounts"]
        if mount["mountPath"] == str(SERVICE_ACCOUNT_DIR)
    )
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    token, ca, namespace = volume["projected"]["sources"]
    assert token["serviceAccountToken"] == {"path": "token", "expirationSeconds": 3600}
    assert [item["path"] for item in ca["configMap"]["items"]] == ["ca.crt"]
    assert [item["path"] for item in namespace["downwardAPI"]["items"]] == ["namespace"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_new_pod_is_ready_before_an_old_one_goes(deployment: Object) -> None:
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_drain_takes_one_of_two(deployment: Object) -> None:
    """And it can: a budget that lets none go would hold up the node for ever."""
    budget = named("PodDisruptionBudget", deployment["metadata"]["name"])
    assert deployment["spec"]["replicas"] == 2
    assert budget["spec"] == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_two_are_apart_if_they_can_be(deployment: Object) -> None:
    spread = pod_of(deployment)["topologySpreadConstraints"]
    for constraint in spread:
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["labelSelector"] == deployment["spec"]["selector"]
    keys = [constraint["topologyKey"] for constraint in spread]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_service_is_the_webhook_alone() -> None:
    bridge = named("Deployment", "incident-rollback-bridge")
    (service,) = of_kind("Service")
    assert service["spec"]["selector"] == bridge["spec"]["selector"]["matchLabels"]
    assert service["spec"]["ports"] == [{"name": "webhook", "port": 80, "targetPort": "webhook"}]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_selector_finds_its_own_pods_only(deployment: Object) -> None:
    selecting = [
        other["metadata"]["name"]
        for other in deployments()
        if matches(other["spec"]["selector"], deployment["spec"]["template"]["metadata"]["labels"])
    ]
    assert selecting == [deployment["metadata"]["name"]]


OPEN = {
    "incident-rollback-bridge": {
        "Ingress": {"webhook", "ops"},
        "Egress": {53, 443, 6443},
    },
    "incident-rollback-controller": {
        "Ingress": {"ops"},
        "Egress": {53, 443, 6443},
    },
}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_network_is_open_for_this_and_nothing_else(deployment: Object) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    policies = [
        policy["spec"]
        for policy in of_kind("NetworkPolicy")
        if matches(policy["spec"]["podSelector"], labels)
    ]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    assert OPEN[deployment["metadata"]["name"]] == {
        direction: {
            port["port"]
            for policy in policies
            for rule in policy.get(direction.lower(), ())
            for port in rule["ports"]
        }
        for direction in ("Ingress", "Egress")
    }


def test_everything_of_a_namespace_is_in_the_home_namespace() -> None:
    everywhere = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    outside = [
        (one["kind"], one["metadata"]["name"])
        for one in OPERATOR
        if one["kind"] not in everywhere and one["metadata"].get("namespace") != HOME
    ]
    assert outside == []


def test_namespace_to_be_let_into_is_for_the_user_to_name() -> None:
    assert [one for one in LET_IN if "namespace" in one["metadata"]] == []


# Granted: who, what, where.  A change here is a line in the changelog.


CONTROLLER = "incident-rollback-controller"
BRIDGE = "incident-rollback-bridge"
OURS = "incidentrollback.dev"
LEASES = "coordination.k8s.io/leases"

GRANTS = {
    (CONTROLLER, "everywhere", f"{OURS}/incidentrollbacks", "get"),
    (CONTROLLER, "everywhere", f"{OURS}/incidentrollbacks", "list"),
    (CONTROLLER, "everywhere", f"{OURS}/incidentrollbacks", "watch"),
    (CONTROLLER, "everywhere", f"{OURS}/incidentrollbacks/status", "update"),
    (CONTROLLER, "everywhere", "scheduling.k8s.io/priorityclasses", "get"),
    (CONTROLLER, "everywhere", "node.k8s.io/runtimeclasses", "get"),
    (CONTROLLER, "everywhere", "/nodes", "get"),
    (CONTROLLER, "home", f"{OURS}/rollbackenvironments", "get"),
    (CONTROLLER, "home", f"{OURS}/rollbackenvironments", "list"),
    (CONTROLLER, "home", f"{OURS}/rollbackenvironments/status", "update"),
    (CONTROLLER, "home", "/events", "create"),
    (CONTROLLER, "home", LEASES, "create"),
    (CONTROLLER, "home", f"{LEASES} {LEASE_NAME}", "get"),
    (CONTROLLER, "home", f"{LEASES} {LEASE_NAME}", "update"),
    (CONTROLLER, "target", "apps/deployments", "get"),
    (CONTROLLER, "target", "apps/deployments", "list"),
    (CONTROLLER, "target", "apps/deployments", "patch"),
    (CONTROLLER, "target", "apps/replicasets", "list"),
    (CONTROLLER, "target", "/pods", "list"),
    (CONTROLLER, "target", "/events", "create"),
    (CONTROLLER, "target", "/events", "list"),
    (CONTROLLER, "target", "/configmaps", "get"),
    (CONTROLLER, "target", "/persistentvolumeclaims", "get"),
    (CONTROLLER, "target", "/secrets", "get"),
    (CONTROLLER, "target", "/serviceaccounts", "get"),
    (BRIDGE, "home", f"{OURS}/incidentrollbacks", "create"),
    (BRIDGE, "home", f"{OURS}/incidentrollbacks", "get"),
    (BRIDGE, "home", f"{LEASES} {LEASE_NAME}", "get"),
}


def granted(objects: list[Object]) -> Iterator[tuple[str, str, str, str]]:
    """Yield account, scope, resource (and name, where it is one) and verb of every binding."""
    roles = {
        (one["kind"], one["metadata"]["name"]): one["rules"]
        for one in objects
        if one["kind"] in {"Role", "ClusterRole"}
    }
    scopes = {HOME: "home", None: "target"}
    for binding in objects:
        if binding["kind"] not in {"RoleBinding", "ClusterRoleBinding"}:
            continue
        everywhere = binding["kind"] == "ClusterRoleBinding"
        scope = "everywhere" if everywhere else scopes[binding["metadata"].get("namespace")]
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", HOME)
            for rule in roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
                assert set(rule) - {"resourceNames"} == {"apiGroups", "resources", "verbs"}
                kinds = product(
                    rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
                )
                for group, resource, name in kinds:
                    for verb in rule["verbs"]:
                        yield subject["name"], scope, f"{group}/{resource} {name}".rstrip(), verb


def test_accounts_may_do_exactly_this() -> None:
    grants = [*granted(OPERATOR), *granted(LET_IN)]
    assert sorted(grants) == sorted(GRANTS)


HELPFUL = {
    ("get", "configmaps"),
    ("get", "persistentvolumeclaims"),
    ("get", "secrets"),
    ("get", "serviceaccounts"),
    ("list", "events"),
}
"""Without these a rollback goes on, and says what it could not look at."""


def test_target_namespace_grants_just_what_the_controller_asks_for() -> None:
    grants = {(verb, resource.split("/")[1]) for _, _, resource, verb in granted(LET_IN)}
    assert grants == set(NEEDED) | HELPFUL
    assert set(NEEDED) & HELPFUL == set()


def test_accounts_are_those_of_the_pods() -> None:
    accounts = {one["metadata"]["name"] for one in of_kind("ServiceAccount")}
    assert accounts == {CONTROLLER, BRIDGE}
    assert accounts == {pod_of(deployment)["serviceAccountName"] for deployment in deployments()}


def test_viewer_may_only_look_and_is_bound_to_nobody() -> None:
    viewer = named("ClusterRole", "incidentrollback-viewer")
    assert viewer["rules"] == [
        {
            "apiGroups": [OURS],
            "resources": ["incidentrollbacks", "rollbackenvironments"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["incident-rollback-controller"],
            "verbs": ["get"],
        },
    ]
    bindings = [*of_kind("RoleBinding"), *of_kind("ClusterRoleBinding")]
    assert viewer["metadata"]["name"] not in {one["roleRef"]["name"] for one in bindings}


def test_requester_is_bound_to_nobody_and_part_of_no_other_role() -> None:
    requester = named("ClusterRole", "incidentrollback-requester")
    assert requester["rules"] == [
        {
            "apiGroups": [OURS],
            "resources": ["incidentrollbacks"],
            "verbs": ["create", "get", "list", "watch"],
        }
    ]
    bindings = [*of_kind("RoleBinding"), *of_kind("ClusterRoleBinding")]
    assert requester["metadata"]["name"] not in {one["roleRef"]["name"] for one in bindings}
    aggregated = "rbac.authorization.k8s.io/aggregate-to-"
    labels = (label for role in of_kind("ClusterRole") for label in role["metadata"]["labels"])
    assert [label for label in labels if label.startswith(aggregated)] == []


# What FireHydrant sends.


RECEIVED_AT = datetime(2026, 1, 1, 14, 8, 22, tzinfo=UTC)
INCIDENT: Object = json.loads(
    """{
      "id": "084eaf43", "number": 1042, "incident_url": "https://app.firehydrant.io/1042",
      "name": "5% of \\"checkouts\\" fail", "description": "", "summary": "", "severity": "SEV2",
      "current_milestone": "started", "active": true, "started_at": "2026-01-01T14:02:00Z",
      "services": [{"id": "b03c", "name": "Checkout", "labels": {}}],
      "environments": [{"id": "86ff", "name": "Production"}],
      "channel_id": null, "channel_name": null, "created_by": {"id": "1c1c", "name": "Ada"}
    }"""
)
OUR_KEYS = [
    "incident_id",
    "incident_number",
    "incident_url",
    "name",
    "summary",
    "severity",
    "milestone",
    "active",
    "started_at",
    "services",
    "environments",
    "channel_id",
    "channel_name",
    "opened_by",
    "sent_at",
    "dry_run",
    "to_revision",
    "approve",
]


def filled(template: str) -> str:
    """Fill in a template of ours as FireHydrant would; a variable it lacks is a KeyError."""
    text = re.sub(
        r"\{\{ incident\.(\w+) \| toJSON \}\}",
        lambda found: json.dumps(INCIDENT[found[1]]),
        template,
    )
    return text.replace('{{ "now" | date: "%s" }}', str(int(RECEIVED_AT.timestamp())))


STEPS = [
    pytest.param("preview", (True, None, False), id="a preview changes nothing"),
    pytest.param("rollback", (False, None, False), id="a rollback goes to the last healthy one"),
    pytest.param("approve", (False, None, True), id="an approval is for the plan shown"),
]


@pytest.mark.parametrize(("step", "asked"), STEPS)
def test_template_is_our_form(step: str, asked: tuple[bool, int | None, bool]) -> None:
    body = filled((FIREHYDRANT / f"{step}.json.liquid").read_text())
    keys = [key for key, _ in json.loads(body, object_pairs_hook=list[tuple[str, Any]])]
    assert keys == OUR_KEYS
    request = read_payload(body.encode(), RECEIVED_AT)
    assert isinstance(request, Request), request
    assert (request.dry_run, request.to_revision, request.approve) == asked
    assert request.incident.name == INCIDENT["name"]
    assert request.incident.services == ("Checkout",)
    assert request.incident.environments == ("Production",)


def test_template_of_relay_is_relays_form() -> None:
    template = (FIREHYDRANT / "relay.json.liquid").read_text()
    body = re.sub(r"\{\{ incident[^}]*\}\}", "text", template)
    request = read_payload(body.encode(), RECEIVED_AT)
    assert isinstance(request, Request), request
    assert request.form == "relay"


RUNBOOK = (FIREHYDRANT / "runbook.tf").read_text()


def test_runbook_has_a_step_for_each_of_our_templates() -> None:
    used = re.findall(r'file\("\$\{path\.module\}/([\w.]+)"\)', RUNBOOK)
    ours = {path.name for path in FIREHYDRANT.glob("*.liquid")} - {"relay.json.liquid"}
    assert sorted(used) == sorted(ours)


def test_steps_of_the_runbook_wait_for_a_person() -> None:
    steps = RUNBOOK.split("  steps {")[1:]
    assert len(steps) == len(STEPS)
    for step in steps:
        assert re.search(r"automatic += false\n", step)
        assert re.search(r"repeats += false\n", step)
        assert "rule" not in step
