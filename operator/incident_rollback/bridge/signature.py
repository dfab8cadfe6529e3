"""FireHydrant's signature: bare hex HMAC-SHA256 of the raw body in the header `fh-signature`."""

import hashlib
import hmac
from collections.abc import Iterable

from pydantic import SecretStr

HEADER = "fh-signature"


def is_signed(body: bytes, header: str | None, secrets: Iterable[SecretStr]) -> bool:
    """
    Say whether one of the secrets signed these bytes.

    Upper and lower case hex are alike; a prefix such as `sha256=` is not a signature.  A missing
    header takes as long as a wrong one, and every secret is tried, so that the time tells neither
    which one matched nor whether any did.  An empty secret signs nothing.

    Source: https://docs.firehydrant.com/docs/runbook-step-send-a-webhook
    """
    given = (header or "").encode(errors="replace").lower()
    matches = [_matches(body, given, secret.get_secret_value().encode()) for secret in secrets]
    return any(matches)


def _matches(body: bytes, given: bytes, secret: bytes) -> bool:
    wanted = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
    return hmac.compare_digest(wanted, given) and secret != b""
