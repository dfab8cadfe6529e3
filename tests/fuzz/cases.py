"""The requests of the long run: many kinds, all from one seed."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from tests.fuzz import mutations
from tests.fuzz.schema import ANYTHING, BODY, drawn, values
from tests.fuzz.wire import a_request

RECORDED_ID: Final = b"084eaf43-02a7-5ac7-929e-08a74fa619eb"
METHODS: Final = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
PATHS: Final = ("/", "/firehydrant/", "/metrics", "/%0A", "/firehydrant%00", "/?a=/firehydrant")

Sign = Callable[[bytes], str]


@dataclass(frozen=True)
class Case:
    """One request as bytes, and what is known of it."""

    kind: str
    sent: bytes
    signed: bytes | None = None
    """The body, where the signature in it is of these very bytes."""
    mark: str = ""
    """What an unsigned body holds, and nothing else ever may."""
    is_whole: bool = True
    """It is HTTP from end to end, so exactly one answer is owed."""


@dataclass(frozen=True)
class Maker:
    """Makes cases; `at` is the time of the stand-in API server, in seconds since the epoch."""

    rng: random.Random
    sign: Sign
    at: int

    def cases(self, count: int) -> list[Case]:
        """Return so many, shuffled: a share of each kind."""
        shares = {
            self.drawn_signed: 0.16,
            self.drawn_unsigned: 0.12,
            self.recorded_signed: 0.3,
            self.recorded_unsigned: 0.14,
            self.with_headers: 0.1,
            self.elsewhere: 0.06,
            self.broken: 0.12,
        }
        made = [case for make, share in shares.items() for case in make(round(share * count))]
        self.rng.shuffle(made)
        return made

    def drawn_signed(self, count: int) -> Iterator[Case]:
        for body in self._bodies(count):
            yield Case("drawn, signed", self._signed(body), signed=body)

    def drawn_unsigned(self, count: int) -> Iterator[Case]:
        for body in self._bodies(count):
            mark = self._a_mark()
            marked = body[: mutations.LARGEST - len(mark)] + mark.encode()
            yield self._unsigned("drawn, unsigned", marked, mark)

    def recorded_signed(self, count: int) -> Iterator[Case]:
        names = list(mutations.FILES)
        for number in range(count):
            recorded = self._a_recorded(f"m-{number}", names[number % len(names)])
            body = mutations.a_mutation(self.rng, recorded)
            yield Case("recorded and mutated, signed", self._signed(body), signed=body)

    def recorded_unsigned(self, count: int) -> Iterator[Case]:
        names = list(mutations.FILES)
        for number in range(count):
            mark = self._a_mark()
            body = self._a_recorded(mark, names[number % len(names)])
            if number % 2:  # The others lack nothing but the signature.
                body = mutations.a_mutation(self.rng, body)[: mutations.LARGEST]
            yield self._unsigned("recorded, half mutated, unsigned", body, mark)

    def with_headers(self, count: int) -> Iterator[Case]:
        """Yield good bodies with odd headers around them."""
        for number in range(count):
            body = self._a_recorded(f"h-{number}")
            headers = mutations.headers(self.rng, self.sign(body))
            yield Case("odd headers", a_request(body, headers), signed=body)

    def elsewhere(self, count: int) -> Iterator[Case]:
        """Yield good requests to other paths and by other methods."""
        for number in range(count):
            body = self._a_recorded(f"e-{number}")
            headers = [("fh-signature", self.sign(body))]
            method, path = self.rng.choice(METHODS), "/firehydrant"
            if number % 2:
                method, path = "POST", self.rng.choice(PATHS)
            sent = a_request(body, headers, method=method, path=path)
            yield Case("another path or method", sent)

    def broken(self, count: int) -> Iterator[Case]:
        """Yield what is HTTP no more, or only just."""
        for number in range(count):
            body = self._a_recorded(f"b-{number}")
            sent = mutations.a_broken_request(self.rng, self._signed(body))
            yield Case("broken HTTP", sent, signed=body, is_whole=False)

    def _bodies(self, count: int) -> Iterator[bytes]:
        forms = values(BODY) | st.dictionaries(st.sampled_from(_KEYS), ANYTHING)
        fresh = forms.map(lambda form: {**form, "sent_at": self.at})  # The others may be stale.
        texts = st.builds(json.dumps, forms | fresh | ANYTHING, ensure_ascii=st.booleans())
        strategy = texts.map(str.encode) | st.binary(max_size=300)
        return iter(drawn(strategy, count, self.rng.randrange(2**32)))

    def _a_recorded(self, incident_id: str, name: str = "runbook-tojson.json") -> bytes:
        """Return a recorded body, as if it were sent now, for an incident of its own."""
        body = re.sub(rb'"sent_at": \d+', b'"sent_at": %d' % self.at, mutations.FILES[name])
        return body.replace(RECORDED_ID, incident_id.encode())

    def _signed(self, body: bytes) -> bytes:
        return a_request(body, [("fh-signature", self.sign(body))])

    def _a_mark(self) -> str:
        return f"NOBODY{self.rng.randrange(16**12):012x}"

    def _unsigned(self, kind: str, body: bytes, mark: str) -> Case:
        good, wrong = self.sign(body), self.sign(body + b"?")
        headers = self.rng.choice(
            [
                [],
                [("fh-signature", "")],
                [("fh-signature", wrong)],
                [("fh-signature", wrong[:32])],
                [("X-FireHydrant-Signature", good)],
                [("fh-signature", good), ("fh-signature", wrong)],
                [("fh-signature", f"sha256={good}")],
            ]
        )
        return Case(kind, a_request(body, headers), mark=mark)


_KEYS: Final = (
    *("incident_id", "services", "environments", "service", "environment", "name", "summary"),
    *("event", "sent_at", "started_at", "dry_run", "to_revision", "approve", "channel_id", "data"),
)
