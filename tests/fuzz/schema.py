"""
The committed description of our HTTP surface: read, drawn from, and held against answers.

Draws what our own file uses of JSON Schema and no more.  A library for all of it would be eight
packages to pin, for one small file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from tests.fuzz.wire import Answer

Schema = Mapping[str, Any]

FILE: Final = Path(__file__).parents[2] / "docs" / "openapi.yaml"
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
WEBHOOK: Final[dict[str, Any]] = DOCUMENT["paths"]["/firehydrant"]["post"]
BODY: Final[dict[str, Any]] = WEBHOOK["requestBody"]["content"]["application/json"]["schema"]
RESPONSES: Final[dict[str, Any]] = {
    **WEBHOOK["responses"],
    "404": DOCUMENT["components"]["responses"]["NotFound"],
    "405": DOCUMENT["components"]["responses"]["MethodNotAllowed"],
}
EXTRA: Final = ("Allow", "Retry-After")
"""Headers that an answer has only where the file, or the method, asks for them."""

ODD: Final = '\0\n\r\t\x7f\u0085\u2028\ufeff"\\<>&@{}%'
TEXTS: Final = st.text(st.characters(codec="utf-8") | st.sampled_from(ODD)) | st.just("PWNED")
NUMBERS: Final = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
ANYTHING: Final = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def resolved(part: Any) -> Any:
    """Follow a `$ref` of the file, if it is one."""
    if not (isinstance(part, dict) and "$ref" in part):
        return cast("Any", part)
    here: Any = DOCUMENT
    for key in str(cast("Schema", part)["$ref"]).removeprefix("#/").split("/"):
        here = here[key]
    return resolved(here)


def validator(schema: Schema) -> Validator:
    """Return what judges by a schema of the file."""
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Draw what a schema allows; a `not` has to be held against it afterwards."""
    schema = resolved(schema)
    if schema is True or not schema.keys() & {"type", "anyOf", "const", "enum"}:
        return ANYTHING
    if "anyOf" in schema:
        return st.one_of([values(one) for one in schema["anyOf"]])
    if "examples" in schema:
        return st.sampled_from(schema["examples"])
    kinds = schema["type"]
    return st.one_of([_of(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds)])


def _of(kind: str, schema: Schema) -> st.SearchStrategy[Any]:
    match kind:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "number":
            return NUMBERS
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "string":
            return _texts(schema)
        case "array":
            return st.lists(values(schema.get("items", {})), max_size=4)
        case _:
            return _objects(schema)


def _texts(schema: Schema) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"].replace("$", r"\Z"), alphabet=st.characters())
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    longest = [] if high is None else [st.sampled_from("aß🔥").map(lambda sign: sign * high)]
    return st.one_of([TEXTS.filter(lambda text: len(text) >= low), *longest]).map(
        lambda text: text[:high]
    )


def _objects(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    parts = schema.get("properties", {})
    allowed = {key: values(part) for key, part in parts.items() if part is not False}
    needed = {key: allowed[key] for key in schema.get("required", ())}
    others = {key: part for key, part in allowed.items() if key not in needed}
    return st.fixed_dictionaries(needed, optional=others)


def drawn(strategy: st.SearchStrategy[Any], count: int, number: int) -> list[Any]:
    """Draw so many, always the same ones for the same number; fewer where there are no more."""
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found[:count]


def wrong_with(answer: Answer, *, has_body: bool = True) -> str:
    """Return what the file does not allow of an answer to a webhook; "" when it is as described."""
    described = resolved(RESPONSES.get(str(answer.status)))
    if described is None:
        return f"{answer.status} is not described"
    problems = _problems_of_headers(answer, described["headers"])
    problems += _problems_of_body(answer) if has_body else []
    return "; ".join(problems)


def _problems_of_headers(answer: Answer, described: Schema) -> list[str]:
    problems: list[str] = []
    for name, part in described.items():
        schema = resolved(part)["schema"]
        given_text = answer.header(name.lower())
        value: Any = given_text
        if schema.get("type") == "integer" and given_text is not None and given_text.isdecimal():
            value = int(given_text)
        problems += [f"{name}: {error.message}" for error in validator(schema).iter_errors(value)]
    problems += [
        f"{name} is not described"
        for name in EXTRA
        if name not in described and answer.header(name.lower()) is not None
    ]
    return problems


def _problems_of_body(answer: Answer) -> list[str]:
    try:
        document = json.loads(answer.body)
    except ValueError as error:
        return [f"no JSON: {error}"]
    schema = {"$ref": "#/components/schemas/Answer"}
    return [error.message[:300] for error in validator(schema).iter_errors(document)]
