"""The committed CRDs: generated from the models, structural, bounded, and what they promise."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from incident_rollback.crd.schema import rendered
from incident_rollback.crd.v1alpha1 import (
    MAX_CANDIDATES,
    MAX_UPDATE_TEXT,
    MAX_UPDATES,
    Candidate,
    Condition,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
    PlanStatus,
    RevisionStatus,
    RollbackEnvironment,
    TargetStatus,
    Update,
)

Schema = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "crds"
FILES = ("incidentrollbacks.yaml", "rollbackenvironments.yaml")
CRDS: dict[str, Schema] = {name: yaml.safe_load((FOLDER / name).read_text()) for name in FILES}
VERSIONS: dict[str, Schema] = {name: crd["spec"]["versions"][0] for name, crd in CRDS.items()}
SCHEMAS: dict[str, Schema] = {
    name: version["schema"]["openAPIV3Schema"] for name, version in VERSIONS.items()
}
ROLLBACK, ENVIRONMENT = (SCHEMAS[name] for name in FILES)

KEYWORDS = {
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
}
TYPES = {"object", "array", "string", "integer", "boolean"}
EXACT = 2**53
"""Beyond it a float, which is what the API server keeps bounds in, skips integers."""
NOT_RE2 = re.compile(r"\(\?[=!<]|\\[1-9]")


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Walk a schema, but for what the API server itself says about every resource."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        if path or name not in {"apiVersion", "kind", "metadata"}:
            yield from nodes(field, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def node_at(schema: Schema, path: str) -> Schema:
    """Follow a JSON path of fields, `[?(…)]` and `[]`; KeyError when it leads nowhere."""
    for step in re.findall(r"\.(\w+)|(\[)(?:[^\]]*\])", path):
        schema = schema["properties"][step[0]] if step[0] else schema["items"]
    return schema


def is_valid(value: Any, schema: Schema) -> bool:
    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError:
        return False
    return True


def is_typed(node: Schema) -> bool:
    return node.get("type") in TYPES


def is_of_known_keywords(node: Schema) -> bool:
    return set(node) <= KEYWORDS


def is_bounded_string(node: Schema) -> bool:
    return node.get("type") != "string" or "maxLength" in node or "enum" in node


def is_bounded_list(node: Schema) -> bool:
    return node.get("type") != "array" or ("maxItems" in node and "items" in node)


def is_bounded_integer(node: Schema) -> bool:
    if node.get("type") != "integer":
        return True
    return (
        "minimum" in node and -EXACT <= node["minimum"] <= node.get("maximum", EXACT + 1) <= EXACT
    )


def is_integer_of_known_width(node: Schema) -> bool:
    return node.get("type") != "integer" or node.get("format") == "int64"


def is_plain_pattern(node: Schema) -> bool:
    return not NOT_RE2.search(node.get("pattern", ""))


def is_requiring_what_it_has(node: Schema) -> bool:
    return set(node.get("required", ())) <= set(node.get("properties", {}))


def is_keyed_by_required_fields(node: Schema) -> bool:
    keys = set(node.get("x-kubernetes-list-map-keys", ()))
    return keys <= set(node.get("items", {}).get("required", ()))


def is_defaulting_to_something_valid(node: Schema) -> bool:
    return "default" not in node or is_valid(node["default"], node)


def is_without_null(node: Schema) -> bool:
    return None not in (node.get("default", ""), *node.get("enum", ()))


def is_described(node: Schema) -> bool:
    return bool(node.get("description"))


RULES = [
    pytest.param(is_typed, {"anyOf": []}, id="every node has one type"),
    pytest.param(
        is_of_known_keywords, {"type": "string", "const": "a"}, id="no keyword is refused"
    ),
    pytest.param(is_bounded_string, {"type": "string"}, id="every string is bounded"),
    pytest.param(is_bounded_list, {"type": "array", "items": {}}, id="every list is bounded"),
    pytest.param(is_bounded_integer, {"type": "integer", "minimum": 0}, id="integers are bounded"),
    pytest.param(
        is_bounded_integer,
        {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        id="bounds of integers are exact as floats",
    ),
    pytest.param(
        is_integer_of_known_width,
        {"type": "integer", "format": "int32"},
        id="integers have 64 bits",
    ),
    pytest.param(is_plain_pattern, {"pattern": "^(?!a)"}, id="patterns do not look around"),
    pytest.param(is_requiring_what_it_has, {"required": ["a"]}, id="required fields exist"),
    pytest.param(
        is_keyed_by_required_fields,
        {"x-kubernetes-list-map-keys": ["type"], "items": {"required": ["status"]}},
        id="keys of a list are required",
    ),
    pytest.param(
        is_defaulting_to_something_valid,
        {"default": 0, "type": "integer", "minimum": 1},
        id="defaults are valid",
    ),
    pytest.param(is_without_null, {"default": None}, id="null is said nowhere"),
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("holds", "broken"), RULES)
def test_schema_is_structural_and_bounded(
    name: str, holds: Callable[[Schema], bool], broken: Schema
) -> None:
    assert [path for path, node in nodes(SCHEMAS[name]) if not holds(node)] == []
    assert not holds(broken), "the rule notices nothing"


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_described(name: str) -> None:
    fields = ((path, node) for path, node in nodes(SCHEMAS[name]) if not path.endswith("[]"))
    assert [path for path, node in fields if not is_described(node)] == []


@pytest.mark.parametrize("name", FILES)
def test_committed_crd_is_the_generated_one(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == rendered()[name], f"crds/{name} is stale: run make crds"


def test_no_other_crd_is_committed() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*rendered(), "kustomization.yaml"}


@pytest.mark.parametrize("version", ["1.32", "1.37"])
@pytest.mark.parametrize("name", FILES)
def test_crd_is_valid_kubernetes(name: str, version: str) -> None:
    kubernetes_validate.validate(CRDS[name], version, strict=True)


CEL_RULES = [
    pytest.param(ROLLBACK, ".spec", "self == oldSelf", id="the spec never changes"),
    pytest.param(
        ROLLBACK,
        ".spec",
        "has(self.service) != has(self.targetRef)",
        id="service or targetRef, and not both",
    ),
    pytest.param(
        ROLLBACK,
        ".spec.to",
        "has(self.revision) != has(self.podTemplateHash)",
        id="revision or podTemplateHash, and not both",
    ),
    pytest.param(ENVIRONMENT, ".spec.cluster", "has(self.inCluster)", id="one cluster"),
]


@pytest.mark.parametrize(("schema", "path", "rule"), CEL_RULES)
def test_rule_is_asked_of_the_api_server(schema: Schema, path: str, rule: str) -> None:
    rules = node_at(schema, path)["x-kubernetes-validations"]
    assert rule in [entry["rule"] for entry in rules]
    assert all(entry["message"] for entry in rules)


@pytest.mark.parametrize("schema", [ROLLBACK, ENVIRONMENT], ids=FILES)
def test_spec_is_required_so_that_it_cannot_be_taken_away(schema: Schema) -> None:
    assert schema["required"] == ["spec"]


STORED_DEFAULTS = [
    pytest.param(
        ROLLBACK,
        {".status": {"observedGeneration": -1}, ".spec.dryRun": False, ".spec.pairs": 1},
        id="of a rollback",
    ),
    pytest.param(
        ENVIRONMENT,
        {
            ".status": {"observedGeneration": -1},
            ".spec.cluster": {"inCluster": {}},
            ".spec.suspend": False,
            ".spec.policy": RollbackEnvironment.model_validate(
                {"metadata": {"name": "a"}, "spec": {"environments": ["a"]}}
            ).spec.policy.model_dump(by_alias=True, mode="json", exclude_none=True),
            ".spec.policy.approval": "NotRequired",
            ".spec.policy.maxAgeSeconds": 900,
            ".spec.policy.stableSeconds": 30,
            ".spec.policy.holdSeconds": 600,
            ".spec.policy.cooldownSeconds": 600,
            ".spec.policy.maxReleaseAgeSeconds": 604800,
            ".spec.policy.maxRevisionsBack": 10,
            ".spec.policy.gitOps": "Refuse",
        },
        id="of an environment",
    ),
]


@pytest.mark.parametrize(("schema", "stored"), STORED_DEFAULTS)
def test_only_these_defaults_are_stored(schema: Schema, stored: Schema) -> None:
    found = {path: node["default"] for path, node in nodes(schema) if "default" in node}
    assert found == stored


@pytest.mark.parametrize("name", FILES)
def test_status_may_be_partial(name: str) -> None:
    assert "required" not in SCHEMAS[name]["properties"]["status"]


@pytest.mark.parametrize("name", FILES)
def test_conditions_merge_by_type(name: str) -> None:
    conditions = node_at(SCHEMAS[name], ".status.conditions")
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


COLUMNS = [
    pytest.param(
        "incidentrollbacks.yaml",
        ["Workload", "Phase", "Reason", "From", "To", "Incident", "Age"],
        id="of a rollback",
    ),
    pytest.param(
        "rollbackenvironments.yaml",
        ["Environments", "Target Namespace", "Suspended", "Ready", "Reason", "Age"],
        id="of an environment",
    ),
]


@pytest.mark.parametrize(("name", "narrow"), COLUMNS)
def test_columns_are_these_and_lead_somewhere(name: str, narrow: list[str]) -> None:
    columns = VERSIONS[name]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == narrow
    for column in columns:
        if column["type"] != "date":
            node = node_at(SCHEMAS[name], column["jsonPath"])
            assert column["type"] == {"array": "string"}.get(node["type"], node["type"])


def test_rollbacks_are_found_by_these_fields() -> None:
    selectable = [field["jsonPath"] for field in VERSIONS[FILES[0]]["selectableFields"]]
    assert selectable == [
        ".status.phase",
        ".status.settled",
        ".spec.incident.id",
        ".status.target.environment",
        ".status.target.namespace",
    ]
    scalars = {node_at(ROLLBACK, path)["type"] for path in selectable}
    assert scalars <= {"string", "boolean", "integer"}


@pytest.mark.parametrize(
    ("name", "short"), [(FILES[0], "irb"), (FILES[1], "rbenv")], ids=["irb", "rbenv"]
)
def test_names_are_these(name: str, short: str) -> None:
    names = CRDS[name]["spec"]["names"]
    assert names["shortNames"] == [short]
    assert names["categories"] == ["incident-rollback"], "all is what people delete in bulk"
    assert CRDS[name]["metadata"]["name"] == f"{names['plural']}.incidentrollback.dev"
    assert VERSIONS[name]["subresources"] == {"status": {}}


@pytest.mark.parametrize("name", FILES)
def test_gitops_tools_leave_the_crd_as_it_is(name: str) -> None:
    assert CRDS[name]["metadata"]["annotations"] == {
        "argocd.argoproj.io/sync-wave": "-1",
        "kustomize.toolkit.fluxcd.io/substitute": "disabled",
    }


def test_fullest_status_of_the_models_is_accepted() -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    seen = RevisionStatus(
        revision=0, pod_template_hash="6d4b", images=("nginx:1.18.0",) * 20, evidence="é" * 1000
    )
    status = IncidentRollbackStatus(
        observed_generation=1,
        phase=Phase.SUCCEEDED,
        settled=True,
        conditions=(
            Condition(
                type="Ready",
                status="True",
                reason="RolledBack",
                message="back",
                last_transition_time=noon,
                observed_generation=1,
            ),
        ),
        target=TargetStatus(namespace="shop", name="checkout", uid="1"),
        to=seen,
        candidates=(Candidate(revision=1, verdict="Chosen", why="ran a day"),) * MAX_CANDIDATES,
        plan=PlanStatus(
            digest="sha256:0",
            changes=("é" * 1000,) * 50,
            not_rolled_back=("é" * 1000,) * 50,
            deployed_at=noon,
            written_by="é" * 1000,
        ),
        claimed_at=noon,
        patched_at=noon,
        healthy_since=noon,
        finished_at=noon,
        updates=(Update(key="end", kind="Note", text="é" * MAX_UPDATE_TEXT, decided_at=noon),)
        * MAX_UPDATES,
    ).model_copy(update={"from_": seen})
    stored = json.loads(status.model_dump_json(by_alias=True, exclude_none=True))
    jsonschema.validate(stored, node_at(ROLLBACK, ".status"))
    assert set(stored) == set(node_at(ROLLBACK, ".status")["properties"])


def test_default_of_the_status_reads_as_not_looked_at() -> None:
    unseen = node_at(ROLLBACK, ".status")["default"]
    rollback = IncidentRollback.model_validate(
        {
            "metadata": {"name": "a"},
            "spec": {"targetRef": {"name": "checkout"}},
            "status": unseen,
        }
    )
    assert rollback.status == IncidentRollbackStatus()
