import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from incident_rollback.bridge.signature import is_signed

FIREHYDRANT = Path(__file__).parents[2] / "data" / "firehydrant"
FIXTURES = json.loads((FIREHYDRANT / "signatures.json").read_text())
SECRET = SecretStr(FIXTURES["secret"])
OTHER = SecretStr("another-secret")
BODY = b'{"incident_id": "1"}'


def sign(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


GOOD = sign(BODY, FIXTURES["secret"])


@pytest.mark.parametrize(("file", "signature"), FIXTURES["signatures"].items())
def test_the_signature_of_every_payload_is_accepted(file: str, signature: str) -> None:
    body = (FIREHYDRANT / "payloads" / file).read_bytes()

    assert is_signed(body, signature, [SECRET])
    assert not is_signed(body + b" ", signature, [SECRET])


RULES = [
    pytest.param(GOOD, [SECRET], True, id="the only secret"),
    pytest.param(GOOD, [OTHER, SECRET], True, id="the last of several secrets"),
    pytest.param(GOOD, [SECRET, OTHER], True, id="the first of several secrets"),
    pytest.param(GOOD.upper(), [SECRET], True, id="upper case hex"),
    pytest.param(GOOD, [OTHER], False, id="signed by somebody else"),
    pytest.param(GOOD, [], False, id="no secret accepts nothing"),
    pytest.param(None, [SECRET], False, id="no header"),
    pytest.param("", [SECRET], False, id="an empty header"),
    pytest.param(f"sha256={GOOD}", [SECRET], False, id="a prefix is not bare hex"),
    pytest.param(GOOD[:-1], [SECRET], False, id="one digit short"),
    pytest.param(f"{GOOD}0", [SECRET], False, id="one digit too many"),
    pytest.param("\udcff\x00é", [SECRET], False, id="bytes that are no text"),
    pytest.param(sign(BODY, ""), [SecretStr("")], False, id="an empty secret signs nothing"),
]


@pytest.mark.parametrize(("header", "secrets", "expected"), RULES)
def test_what_counts_as_signed(
    header: str | None, secrets: list[SecretStr], expected: bool
) -> None:
    assert is_signed(BODY, header, secrets) is expected


def test_every_secret_is_tried_even_after_a_match() -> None:
    tried: list[SecretStr] = []

    def each() -> Iterator[SecretStr]:
        for secret in (SECRET, OTHER):
            tried.append(secret)
            yield secret

    assert is_signed(BODY, GOOD, each())
    assert tried == [SECRET, OTHER]
