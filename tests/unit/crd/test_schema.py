from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AwareDatetime, Field

from incident_rollback.crd.part import Part
from incident_rollback.crd.schema import StructuralSchema, flowing, inlined, rendered


class Inner(Part, frozen=True):
    """What the inner class says."""

    cel_rules: ClassVar[tuple[tuple[str, str], ...]] = (("has(self.name)", "name it"),)

    name: Annotated[str, Field(max_length=9)] | None = None
    """The name."""


class Empty(Part, frozen=True):
    """Nothing in it."""


class Outer(Part, frozen=True):
    """One of each kind of field."""

    maybe: Annotated[str, Field(max_length=9)] | None = None
    """May be left out."""
    one_literal: Literal["a"] = "a"
    """A single literal."""
    several_literals: Literal["a", "b"] = "a"
    """Several."""
    count: Annotated[int, Field(ge=0, le=9)] = 3
    """A number."""
    at: AwareDatetime | None = None
    """An instant."""
    inner: Inner = Inner()
    """What the field says."""
    inners: Annotated[tuple[Inner, ...], Field(max_length=2)] = ()
    """Several of them."""
    title: Annotated[str, Field(max_length=9)]
    """A field that is called like a keyword."""
    nothing: Empty = Empty()
    """An object without fields."""
    conditions: Annotated[tuple[Inner, ...], Field(max_length=2)] = ()
    """Merged by type."""


INNER_RULES = [{"rule": "has(self.name)", "message": "name it"}]
NAME = {"description": "The name.", "maxLength": 9, "type": "string"}
INNER = {
    "description": "What the inner class says.",
    "properties": {"name": NAME},
    "type": "object",
    "x-kubernetes-validations": INNER_RULES,
}


def schema_of_outer() -> dict[str, Any]:
    raw = Outer.model_json_schema(schema_generator=StructuralSchema)
    return inlined(raw, raw["$defs"])


FIELD_RULES = [
    pytest.param(
        "maybe",
        {"description": "May be left out.", "maxLength": 9, "type": "string"},
        id="what may be None may be left out, and null is not said",
    ),
    pytest.param(
        "oneLiteral",
        {"description": "A single literal.", "enum": ["a"], "type": "string"},
        id="const becomes an enum of one",
    ),
    pytest.param(
        "severalLiterals",
        {"description": "Several.", "enum": ["a", "b"], "type": "string"},
        id="literals are an enum",
    ),
    pytest.param(
        "count",
        {
            "description": "A number.",
            "format": "int64",
            "maximum": 9,
            "minimum": 0,
            "type": "integer",
        },
        id="a default that is not to be stored is not said",
    ),
    pytest.param(
        "at",
        {"description": "An instant.", "format": "date-time", "maxLength": 64, "type": "string"},
        id="an instant is bounded",
    ),
    pytest.param(
        "inner",
        INNER | {"description": "What the field says."},
        id="a reference is replaced, and the field's words win",
    ),
    pytest.param(
        "inners",
        {"description": "Several of them.", "items": INNER, "maxItems": 2, "type": "array"},
        id="a reference inside a list is replaced",
    ),
    pytest.param(
        "title",
        {
            "description": "A field that is called like a keyword.",
            "maxLength": 9,
            "type": "string",
        },
        id="titles go, a field named title stays",
    ),
    pytest.param(
        "nothing",
        {"description": "An object without fields.", "type": "object"},
        id="an object without fields has no empty properties",
    ),
    pytest.param(
        "conditions",
        {
            "description": "Merged by type.",
            "items": INNER,
            "maxItems": 2,
            "type": "array",
            "x-kubernetes-list-map-keys": ["type"],
            "x-kubernetes-list-type": "map",
        },
        id="conditions are a map by type",
    ),
]


@pytest.mark.parametrize(("name", "expected"), FIELD_RULES)
def test_field_becomes_structural(name: str, expected: dict[str, Any]) -> None:
    assert schema_of_outer()["properties"][name] == expected


def test_only_what_has_no_default_is_required() -> None:
    assert schema_of_outer()["required"] == ["title"]


def test_whole_says_nothing_else() -> None:
    assert set(schema_of_outer()) == {"description", "properties", "required", "type"}


def test_paragraphs_flow() -> None:
    assert flowing("One\n    line.  Two.\n\n    Three.") == "One line. Two.\n\nThree."


def test_text_has_no_anchors() -> None:
    lines = "\n".join(rendered().values()).splitlines()
    assert [line for line in lines if ": &" in line or ": *" in line] == []
