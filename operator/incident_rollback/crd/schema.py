"""
The models become structural schemas, and those become the CRDs: the whole of crds/.

Knows what the API server wants a schema to look like and where pydantic says it otherwise.
A default is written only where it shall be stored with the object; every other default is the
controller's own, and may change without touching what people have created.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from incident_rollback.crd import v1alpha1
from incident_rollback.crd.part import Part

Schema = dict[str, Any]

HEADER: Final = "# Generated from incident_rollback/crd/v1alpha1.py by `make crds`; do not edit.\n"
PROJECT: Final = "incident-rollback"
"""The label of what we ship, and our own category: `all` is what people delete in bulk."""
MAX_INSTANT: Final = 64
"""Characters of a date-time: longer than any, so that CEL can count on a bound."""

PERSISTED: Final[Mapping[type[Part], Iterable[str]]] = {
    v1alpha1.IncidentRollbackSpec: ("dryRun", "pairs"),
    v1alpha1.RollbackEnvironmentSpec: ("cluster", "suspend", "policy"),
    v1alpha1.Policy: tuple(map(to_camel, v1alpha1.Policy.model_fields)),
}
"""The fields whose default is stored with the object, so that a later version cannot move it."""

UNSEEN: Final = {"observedGeneration": -1}
"""The status of an object that the controller has not looked at: tools see it is not done."""

ANNOTATIONS: Final = {
    # Argo CD: a CRD goes before what is made of it.
    "argocd.argoproj.io/sync-wave": "-1",
    # Flux would fill in every ${…} of a description.
    "kustomize.toolkit.fluxcd.io/substitute": "disabled",
}

TYPE_META: Final[Schema] = {
    "apiVersion": {"description": "The version of this representation.", "type": "string"},
    "kind": {"description": "The kind of this resource.", "type": "string"},
    "metadata": {"type": "object"},
}
"""What every resource has.  The API server bounds it, and lets nobody else say more about it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; a wide one is shown with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """What a CRD says beside its schema."""

    model: type[Part]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()


# From and To are revisions: short enough for one line, and what --to-revision takes.  The image
# of the first container might be a sidecar's, equal on both sides, so the wide ones show all.
KINDS: Final = (
    Kind(
        model=v1alpha1.IncidentRollback,
        plural=v1alpha1.ROLLBACKS,
        short_name="irb",
        columns=(
            Column("Workload", ".status.target.name"),
            Column("Phase", ".status.phase"),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
            Column("From", ".status.from.revision", "integer"),
            Column("To", ".status.to.revision", "integer"),
            Column("Incident", ".spec.incident.number", "integer"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Target Namespace", ".status.target.namespace", is_wide=True),
            Column("From Images", ".status.from.images", is_wide=True),
            Column("To Images", ".status.to.images", is_wide=True),
            Column("Message", '.status.conditions[?(@.type=="Ready")].message', is_wide=True),
        ),
        selectable=(
            ".status.phase",
            ".status.settled",
            ".spec.incident.id",
            ".status.target.environment",
            ".status.target.namespace",
        ),
    ),
    Kind(
        model=v1alpha1.RollbackEnvironment,
        plural=v1alpha1.ENVIRONMENTS,
        short_name="rbenv",
        columns=(
            Column("Environments", ".spec.environments"),
            Column("Target Namespace", ".spec.namespace"),
            Column("Suspended", ".spec.suspend", "boolean"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Message", '.status.conditions[?(@.type=="Ready")].message', is_wide=True),
        ),
    ),
)


class StructuralSchema(GenerateJsonSchema):
    """
    Pydantic's own generator, where a structural schema wants something said differently.

    Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
    """

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Say nothing of null: what may be None may be left out."""
        return self.generate_inner(schema["schema"])

    def literal_schema(self, schema: core_schema.LiteralSchema) -> Schema:
        """Write one literal like several, for `const` is not allowed."""
        node = super().literal_schema(schema)
        if "const" in node:
            node["enum"] = [node.pop("const")]
        return node

    def int_schema(self, schema: core_schema.IntSchema) -> Schema:
        """Name the width, or clients in Go read a float."""
        return super().int_schema(schema) | {"format": "int64"}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> Schema:
        """Bound an instant like every other string."""
        return super().datetime_schema(schema) | {"maxLength": MAX_INSTANT}

    def encode_default(self, dft: object) -> object:
        """Leave out of a default what is absent: null is said nowhere."""
        if isinstance(dft, Part):
            return dft.model_dump(mode="json", by_alias=True, exclude_none=True)
        return super().encode_default(dft)

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """Add the CEL rules of the class, and keep only the defaults that shall be stored."""
        cls = schema["cls"]
        node = super().model_schema(schema)
        for name, field in node["properties"].items():
            if name not in PERSISTED.get(cls, ()) or field.get("default") is None:
                field.pop("default", None)  # Absent stays absent: null is no default.
        if "conditions" in node["properties"]:
            by_type = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
            node["properties"]["conditions"].update(by_type)
        if rules := getattr(cls, "cel_rules", ()):
            node["x-kubernetes-validations"] = [
                {"rule": rule, "message": message} for rule, message in rules
            ]
        return node


def inlined(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """
    Replace references and drop titles, at every depth.

    What stands beside a reference wins: a field knows more than its type.
    """
    if "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]] | node
    flat = {key: value for key, value in node.items() if key not in {"$ref", "$defs", "title"}}
    if not flat.get("properties", True):
        del flat["properties"]  # The API server would, and tools would see a difference for ever.
    if "description" in flat:
        flat["description"] = flowing(flat["description"])
    if "properties" in flat:
        flat["properties"] = {
            name: inlined(field, definitions) for name, field in flat["properties"].items()
        }
    if "items" in flat:
        flat["items"] = inlined(flat["items"], definitions)
    return flat


def flowing(docstring: str) -> str:
    """Join the lines of each paragraph: kubectl has its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


def schema_of(model: type[Part]) -> Schema:
    """Return the structural schema of a whole resource."""
    raw = model.model_json_schema(schema_generator=StructuralSchema)
    schema = inlined(raw, raw["$defs"])
    schema["properties"] |= TYPE_META
    schema["properties"]["status"]["default"] = UNSEEN
    schema["required"] = ["spec"]
    return schema


def crd_of(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    name = kind.model.__name__
    version: Schema = {
        "name": v1alpha1.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [printed(column) for column in kind.columns],
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema_of(kind.model)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{v1alpha1.GROUP}",
            "annotations": ANNOTATIONS,
            "labels": {"app.kubernetes.io/name": PROJECT},
        },
        "spec": {
            "group": v1alpha1.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [kind.short_name],
                "categories": [PROJECT],
            },
            "versions": [version],
        },
    }


def printed(column: Column) -> Schema:
    """Return a column as the CRD lists it."""
    shown = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return shown | {"priority": 1} if column.is_wide else shown


def rendered() -> dict[str, str]:
    """Return the text of each file of crds/, by file name."""
    import yaml  # Brought along by the Kubernetes client; needed here alone.

    return {
        f"{kind.plural}.yaml": HEADER
        # By way of JSON, which has no anchors: parts that are equal are so by chance.
        + yaml.safe_dump(json.loads(json.dumps(crd_of(kind))), sort_keys=False, width=100)
        for kind in KINDS
    }


def write(folder: Path) -> None:
    """Write the CRDs into a folder."""
    for name, text in rendered().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
