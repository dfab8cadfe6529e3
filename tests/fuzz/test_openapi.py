"""The committed description of our HTTP surface is true of the bridge that runs."""

import asyncio
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import pytest
from jsonschema import Draft202012Validator

from incident_rollback.bridge.app import PATH
from incident_rollback.bridge.payload import MAX_BODY_BYTES
from incident_rollback.bridge.signature import HEADER
from tests.fakes.apiserver import Fault, status
from tests.fuzz.mutations import FILES
from tests.fuzz.running import Target
from tests.fuzz.schema import (
    ANYTHING,
    BODY,
    DOCUMENT,
    FILE,
    RESPONSES,
    WEBHOOK,
    drawn,
    resolved,
    validator,
    values,
    wrong_with,
)
from tests.fuzz.wire import Answer, a_request, send
from tests.sandbox.build import say_on_stderr

TEMPLATE: Final = FILE.parents[1] / "manifests/examples/firehydrant/rollback.json.liquid"
SEED: Final = 20261123
DRAWN: Final = 400
OURS: Final[Mapping[str, Any]] = {
    "incident_id": "i-1",
    "services": [{"name": "checkout"}],
    "environments": [{"name": "production"}],
}
TAKEN: Final = {200, 202, 422}
REFUSED: Final = {400, 422}
BOUNDS: Final = [
    *("a" * length for length in (0, 1, 200, 253, 254, 500, 501, 1000, 1001)),
    *(-1, 0, 1, 2**53, 2**53 + 1, "1" * 20, "1" * 21, None, True, False, []),
    *([{"name": "a" * length}] for length in (252, 253, 254)),
]
"""What stands near a limit; drawn values seldom do."""
RELAYS: Final = json.loads(FILES["runbook-relay.json"])
DENIED: Final = status(403, 'User "bridge" cannot create resource "incidentrollbacks"')


def parts(of: Any = DOCUMENT) -> Iterator[Any]:
    """Go through the whole file."""
    yield of
    if isinstance(of, dict):
        of = list(cast("dict[str, Any]", of).values())
    for part in cast("Sequence[Any]", of) if isinstance(of, list) else ():
        yield from parts(part)


def test_the_file_holds_together() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    for part in parts():
        assert resolved(part) is not None
    for schema in (BODY, *DOCUMENT["components"]["schemas"].values()):
        Draft202012Validator.check_schema(schema)


def test_the_file_has_our_names_and_numbers() -> None:
    assert DOCUMENT["paths"][PATH]["post"] is WEBHOOK
    assert DOCUMENT["components"]["securitySchemes"]["signature"]["name"] == HEADER
    assert f"{MAX_BODY_BYTES:,} bytes" in WEBHOOK["requestBody"]["description"]
    template = set(re.findall(r'^  "(\w+)": ', TEMPLATE.read_text(encoding="utf-8"), re.MULTILINE))
    assert DOCUMENT["components"]["schemas"]["Ours"]["properties"].keys() == template


async def ask(target: Target, document: object, **of: Any) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    sent = a_request(body, [("fh-signature", target.sign(body))], **of)
    (answer,) = await send(target.port, sent)
    return answer


async def test_every_answer_that_is_described_is_given_and_looks_like_that(target: Target) -> None:
    given = [
        await ask(target, OURS),
        await ask(target, OURS),
        await ask(target, {"event": {}}),
        await ask(target, b"{"),
        await ask(target, {**OURS, "incident_id": " "}),
        await ask(target, b" " * (MAX_BODY_BYTES + 1)),
        await ask(target, OURS, path="/"),
        await ask(target, OURS, method="PUT"),
        *await send(target.port, a_request(b"{}")),
    ]
    for fault in (Fault(429, status(429, "wait"), {"Retry-After": "3"}), Fault(403, DENIED)):
        target.api.faults.append(fault)
        given.append(await ask(target, {**OURS, "incident_id": str(fault.code)}))

    assert [problem for answer in given if (problem := wrong_with(answer))] == []
    assert {str(answer.status) for answer in given} == RESPONSES.keys()


async def test_what_the_file_calls_a_request_is_taken_and_nothing_else(target: Target) -> None:
    judge, rng = validator(BODY), random.Random(SEED)  # noqa: S311  # to be repeated
    good = [one for one in drawn(values(BODY), DRAWN, SEED) if judge.is_valid(one)]
    others = drawn(ANYTHING, DRAWN, SEED)
    near = [almost(rng, one, rng.choice(others)) for one in good] + list(at_the_bounds())

    wrong: list[str] = []
    taken = 0
    for document in [*good, *filter(is_judged, near)]:
        answer = await ask(target, document)
        expected = TAKEN if judge.is_valid(document) else REFUSED
        taken += answer.status in {200, 202}
        if answer.status not in expected:
            wrong.append(f"{answer.status} {answer.body!r} for {json.dumps(document)[:500]}")

    say_on_stderr(f"{len(good)} valid documents, {len(near)} others; {taken} were taken")
    assert wrong[:3] == []
    assert taken > DRAWN / 4


def at_the_bounds() -> Iterator[dict[str, Any]]:
    """Yield both forms with each key in turn left out, and with each value near a limit."""
    for form, base in (("Ours", OURS), ("Relays", RELAYS)):
        for key in DOCUMENT["components"]["schemas"][form]["properties"]:
            yield {name: part for name, part in base.items() if name != key}
            yield from ({**base, key: value} for value in BOUNDS)


def almost(rng: random.Random, document: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Return a document that differs in one key: it has another value, or is one more."""
    return {**document, rng.choice([*document, "one_more"]): value}


def is_judged(document: Mapping[str, Any]) -> bool:
    """
    Say whether the file can tell.

    No pattern says which texts are times, and to JSON Schema 1.0 is a whole number.
    """
    started = document.get("started_at")
    examples = DOCUMENT["components"]["schemas"]["Ours"]["properties"]["started_at"]["examples"]
    whole = (document.get(key) for key in ("incident_number", "to_revision"))
    is_odd = isinstance(started, str) and started not in examples
    return not is_odd and not any(isinstance(number, float) for number in whole)


PROBES: Final = [path for path in DOCUMENT["paths"] if path != PATH]


@pytest.mark.parametrize("path", PROBES)
async def test_the_other_port_has_what_is_described(target: Target, path: str) -> None:
    code, text = await asyncio.to_thread(target.component.ask_ops, path)

    described = DOCUMENT["paths"][path]["get"]["responses"][str(code)]
    assert validator(described["content"]["text/plain"]["schema"]).is_valid(text)
