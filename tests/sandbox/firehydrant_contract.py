"""
Reads a request as strictly as the published API describes it.

Stricter than FireHydrant is known to be: a field or parameter that the description does not list is
refused, so that a typo in a client fails a test instead of being ignored in production.  It judges
one request alone; whether the incident exists, or the key is good, is not its business.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import yaml
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

DATA: Final = Path(__file__).parents[1] / "data" / "firehydrant"

Json = dict[str, Any]


@dataclass(frozen=True)
class Received:
    """A request as it came in, without its key."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    body: bytes = b""

    @property
    def line(self) -> str:
        """What a `match` is held against: method, blank, path without the query."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Call:
    """A request that keeps to the description."""

    operation: str
    params: Mapping[str, str]
    query: Mapping[str, Any] = field(default_factory=dict[str, Any])
    body: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Breach:
    """A request that does not, with the status it is answered with and why."""

    status: int
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One method of one path of the description."""

    method: str
    path: re.Pattern[str]
    spec: Json

    @property
    def id(self) -> str:
        return str(self.spec["operationId"])

    @property
    def needs_key(self) -> bool:
        """Only an operation that says `security: []` does without."""
        return self.spec.get("security") != []

    @property
    def query_schemas(self) -> dict[str, Json]:
        listed = self.spec.get("parameters", [])
        return {one["name"]: one["schema"] for one in listed if one["in"] == "query"}

    @property
    def body_schema(self) -> Json | None:
        content = self.spec.get("requestBody", {}).get("content", {})
        return content["application/json"]["schema"] if content else None


class Contract:
    """The description, ready to judge requests and our own answers."""

    def __init__(self, document: Json) -> None:
        self.schemas: Json = {
            name: json_schema(schema) for name, schema in document["components"]["schemas"].items()
        }
        self.responses: Json = document["components"]["responses"]
        self.operations = [
            Operation(method.upper(), path_pattern(path), spec)
            for path, methods in document["paths"].items()
            for method, spec in methods.items()
        ]
        self.event_types = event_types(self.operations)
        self._validators: dict[str, Draft202012Validator] = {}

    def find(self, method: str, path: str) -> Operation | None:
        for operation in self.operations:
            if operation.method == method and operation.path.fullmatch(path):
                return operation
        return None

    def read(self, request: Received) -> Call | Breach:
        """Say what is asked for, or everything that is wrong with how it is asked."""
        operation = self.find(request.method, request.path)
        if operation is None:
            return Breach(404, (f"no such operation: {request.line}",))
        query, query_faults = self._read_query(operation, request)
        body, body_faults = self._read_body(operation, request)
        if query_faults or body_faults:
            return Breach(400, (*query_faults, *body_faults))
        match = operation.path.fullmatch(request.path)
        return Call(operation.id, match.groupdict() if match else {}, query, body)

    def answer_schema(self, operation: Operation, status: int) -> Json | None:
        """What an answer must look like; None where the description leaves it open."""
        response: Json = operation.spec["responses"].get(str(status), {})
        if "$ref" in response:
            response = self.responses[response["$ref"].rpartition("/")[2]]
        content = response.get("content")
        return content["application/json"]["schema"] if content else None

    def faults_of(self, value: Any, schema: Json) -> list[str]:
        """Everything in the value that the schema does not allow, in words."""
        errors = self._validator(schema).iter_errors(value)  # pyright: ignore[reportUnknownMemberType]
        return [said for error in errors for said in in_words(error)]

    def _validator(self, schema: Json) -> Draft202012Validator:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            whole = {**json_schema(schema), "components": {"schemas": self.schemas}}
            self._validators[key] = Draft202012Validator(whole, format_checker=FORMATS)
        return self._validators[key]

    def _read_query(self, operation: Operation, request: Received) -> tuple[Json, list[str]]:
        values: Json = {}
        faults: list[str] = []
        for name, text in request.query:
            schema = operation.query_schemas.get(name)
            if schema is None:
                faults.append(f"{name} is not a known parameter")
            elif name in values:
                faults.append(f"{name} is given twice")
            else:
                values[name] = from_text(text, schema)
                faults += [f"{name} {fault}" for fault in self.faults_of(values[name], schema)]
        asked = {one for one in str(values.get("types", "")).split(",") if one}
        if asked - self.event_types:  # It would find nothing, quietly.
            faults.append("types does not have a valid value")
        return values, faults

    def _read_body(self, operation: Operation, request: Received) -> tuple[Json, list[str]]:
        schema = operation.body_schema
        if schema is None:
            return {}, ["body is not expected"] if request.body else []
        if request.content_type != "application/json":
            return {}, [f"content type is {request.content_type or 'missing'}"]
        try:
            body = json.loads(request.body)
        except ValueError:
            return {}, ["body is not JSON"]
        faults = self.faults_of(body, schema)
        return ({}, faults) if faults else (body, [])


@functools.cache
def load_contract() -> Contract:
    """The contract of the repository's own copy of the description, read once."""
    text = (DATA / "openapi-subset.yaml").read_text(encoding="utf-8")
    return Contract(yaml.safe_load(text))


def path_pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))


def json_schema(schema: Json) -> Json:
    """
    Turn an OpenAPI 3.0 schema into a JSON schema: `nullable` becomes a type.
    Where properties are listed, no others are allowed, unless it says so itself.
    """
    out = dict(schema)
    is_nullable = out.pop("nullable", False)
    if "properties" in out:
        out["properties"] = {name: json_schema(one) for name, one in out["properties"].items()}
        out.setdefault("additionalProperties", False)
    if "items" in out:
        out["items"] = json_schema(out["items"])
    if "anyOf" in out:
        out["anyOf"] = [json_schema(one) for one in out["anyOf"]]
    if is_nullable and "type" in out:
        out["type"] = [out["type"], "null"]
    return out


def from_text(text: str, schema: Json) -> Any:
    """The value of a query parameter; a text that does not fit stays text and fails later."""
    match schema["type"]:
        case "integer" if re.fullmatch(r"-?\d+", text):
            return int(text)
        case "boolean" if text in {"true", "false"}:
            return text == "true"
        case "array":
            return text.split(",")
        case _:
            return text


def event_types(operations: Iterable[Operation]) -> frozenset[str]:
    """The values of `types`, which the description lists in prose only."""
    listed = next(one for one in operations if one.id == "listIncidentEvents")
    types = next(one for one in listed.spec["parameters"] if one["name"] == "types")
    return frozenset(re.findall(r"`(\w+)` \(", types["description"]))


def in_words(error: ValidationError) -> Iterator[str]:
    """Name the field and what is wrong with it, as the recorded answer of status 400 does."""
    where = ".".join(str(part) for part in error.absolute_path)
    inside = f"{where}." if where else ""
    given = cast("Json", error.instance)  # pyright: ignore[reportUnknownMemberType]
    schema = cast("Json", error.schema)
    match error.validator:  # pyright: ignore[reportUnknownMemberType]
        case "required":
            needed: list[str] = schema["required"]
            yield from (f"{inside}{name} is missing" for name in needed if name not in given)
        case "additionalProperties" if schema["additionalProperties"] is False:
            known: Json = schema["properties"]
            yield from (
                f"{inside}{name} is not a known field" for name in given if name not in known
            )
        case "enum":
            yield f"{where} does not have a valid value".strip()
        case _:
            yield f"{where} is invalid: {error.message}".strip()


FORMATS: Final = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def is_instant(value: object) -> bool:
    """RFC 3339: a day, a time and an offset.  The library alone would check nothing."""
    return not isinstance(value, str) or (
        "T" in value and datetime.fromisoformat(value).tzinfo is not None
    )
