"""
What can be done to bytes: bodies that were recorded, and whole requests.

Everything comes from one random generator that the caller seeds, so that a failure can be played
again.
"""

import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PAYLOADS: Final = Path(__file__).parents[1] / "data" / "firehydrant" / "payloads"
FILES: Final = {path.name: path.read_bytes() for path in sorted(PAYLOADS.iterdir())}
LARGEST: Final = 65_536

Mutation = Callable[[random.Random, bytes], bytes]

HUGE: Final = (b"1e999", b"-1e999", b"9" * 5000, b"1" + b"0" * 400, b"1e-999", b"-0", b"2" * 400)
ODD: Final = (b"NaN", b"-Infinity", b"Infinity", b"undefined", b"01", b"+1", b"0x10", b"1_000")
BITS: Final = 8


def _flip(rng: random.Random, body: bytes) -> bytes:
    flipped = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(flipped))
        flipped[at] ^= 1 << rng.randrange(BITS)
    return bytes(flipped)


def _truncate(rng: random.Random, body: bytes) -> bytes:
    return body[: rng.randrange(len(body))]


def _repeat_a_key(rng: random.Random, body: bytes) -> bytes:
    """Put a line of the object there twice, as a forged text would."""
    lines = body.split(b"\n")
    line = rng.choice([one for one in lines if b'": ' in one] or lines)
    return body.replace(line, line + b"\n" + line, 1)


def _repeat_a_part(rng: random.Random, body: bytes) -> bytes:
    start = rng.randrange(len(body))
    part = body[start : start + rng.randint(1, 200)]
    return body[:start] + part * rng.randint(2, 20) + body[start:]


def _swap_a_value(rng: random.Random, body: bytes) -> bytes:
    """Put something else behind a colon."""
    values = [*HUGE, *ODD, *_nested(rng), *_texts(rng)]
    return _behind_a_colon(rng, body, rng.choice(values))


def _nested(rng: random.Random) -> list[bytes]:
    deep = rng.choice([10, 900, 1500, 20_000])
    return [b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"[" * deep]


def _texts(rng: random.Random) -> list[bytes]:
    texts = ["\0", "\ufeff", "\u202e", "\r\nX-Forged: 1", "🔥" * 254, "a" * 60_000, "ß" * 253]
    texts += ["../..", "{{ 7 * 7 }}", "%s%n", "${jndi:ldap://x}", "'; DROP TABLE", "<script>"]
    halves = rb'"\ud800"', rb'"\udfff\ud800"', b'"\xed\xa0\x80"', b'"\xff\xfe"', rb'"\u0000"'
    is_ascii = rng.random() < 0.5
    return [*(json.dumps(text, ensure_ascii=is_ascii).encode() for text in texts), *halves]


def _behind_a_colon(rng: random.Random, body: bytes, value: bytes) -> bytes:
    places = [match.span(1) for match in re.finditer(rb'": ?("[^"]*"|[\w.-]+)', body)]
    if not places:
        return value
    start, end = rng.choice(places)
    return body[:start] + value + body[end:]


def _reencode(rng: random.Random, body: bytes) -> bytes:
    text = body.decode()
    encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-7", "utf-8-sig"])
    return text.encode(encoding)


def _pack(rng: random.Random, body: bytes) -> bytes:
    return gzip.compress(body * rng.choice([1, 200]), mtime=0)


def _wrap(rng: random.Random, body: bytes) -> bytes:
    around = [
        (b"[", b"]"),
        (b'{"a": ', b"}"),
        (b"\0", b""),
        (b"", b"\0"),
        (b" ", b" "),
        (b"", body),
    ]
    before, after = rng.choice(around)
    return before + body + after


def _stuff(rng: random.Random, body: bytes) -> bytes:
    """Fill it up to the limit, to the byte, or to one byte more."""
    size = LARGEST + rng.choice([-1, 0, 1])
    return body + b" " * (size - len(body))


def _add_keys(rng: random.Random, body: bytes) -> bytes:
    extra = {f"k{rng.randrange(10**6)}": rng.random() for _ in range(rng.choice([1, 1000]))}
    return body.rstrip().removesuffix(b"}") + b"," + json.dumps(extra).encode()[1:]


MUTATIONS: Final[Sequence[Mutation]] = (
    _flip,
    _flip,
    _truncate,
    _repeat_a_key,
    _repeat_a_part,
    _swap_a_value,
    _swap_a_value,
    _swap_a_value,
    _reencode,
    _pack,
    _wrap,
    _stuff,
    _add_keys,
)


def a_mutation(rng: random.Random, body: bytes) -> bytes:
    """Return the body after one mutation; never longer than a byte over what is taken."""
    return rng.choice(MUTATIONS)(rng, body)[: LARGEST + 1]


def headers(rng: random.Random, signature: str) -> list[tuple[str, str]]:
    """Return headers around a signature that is good; whether it still counts is not said."""
    return [*rng.choice([*_signatures(signature), *_beside(rng, ("fh-signature", signature))])]


def _signatures(signature: str) -> list[list[tuple[str, str]]]:
    return [
        [("fh-signature", signature)] * 2,
        [("fh-signature", signature), ("FH-Signature", "0" * 64)],
        [("fH-sIgNaTuRe", signature.upper())],
        [("fh-signature", f" {signature}\t")],
        [("fh-signature", f"sha256={signature}")],
        [("fh-signature", f"{signature},{signature}")],
        [("fh-signature", signature[:-1])],
        [("fh-signature", "é" * 64)],
        [("fh-signature", "\udcff" * 64)],
        [("fh_signature", signature)],
        [("Authorization", f"HMAC {signature}")],
    ]


def _beside(rng: random.Random, good: tuple[str, str]) -> list[list[tuple[str, str]]]:
    """Return the one good header among others that are odd, long or many."""
    beside = {
        "X-Long": "a" * rng.choice([8_000, 8_200, 100_000]),
        "X-" + "a" * rng.choice([8_000, 100_000]): "1",
        "Content-Encoding": rng.choice(["gzip", "br", "é", "zstd"]),
        "Content-Type": rng.choice(["multipart/form-data", "\udcff", "text/plain; charset=utf-16"]),
        "Expect": rng.choice(["100-continue", "PWNED", "200-ok"]),
        "Connection": rng.choice(["keep-alive", "Upgrade", "x"]),
        "X-HTTP-Method-Override": "DELETE",
        "Cookie": "a=" + "b" * 4000,
        "Forwarded": "for=PWNED",
        "traceparent": rng.choice(["PWNED", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é" * 55]),
    }
    protocol = rng.choice(["websocket", "tcp", "h2c", "TLS/1.0"])
    return [
        *([good, one] for one in beside.items()),
        [good, ("Connection", "Upgrade"), ("Upgrade", protocol)],
        [good, *((f"X-{number}", "a") for number in range(rng.choice([50, 100, 200])))],
    ]


def a_broken_request(rng: random.Random, whole: bytes) -> bytes:
    """Return bytes that were a good request; most are none any more."""
    return rng.choice(BREAKS)(rng, whole)


def _flip_the_head(rng: random.Random, whole: bytes) -> bytes:
    head, _, body = whole.partition(b"\r\n\r\n")
    return _flip(rng, head) + b"\r\n\r\n" + body


def _cut(rng: random.Random, whole: bytes) -> bytes:
    return whole[: rng.randrange(1, len(whole))]


def _lie_about_the_length(rng: random.Random, whole: bytes) -> bytes:
    lies = [b"0", b"1", b"-1", b"+5", b"1e3", b"99999999999999999999999", b"70000", b"", b"5, 5"]
    lies += [b"0x10", b" 5 5", "٣".encode()]
    return re.sub(rb"Content-Length: \d+", b"Content-Length: " + rng.choice(lies), whole, count=1)


def _two_lengths(rng: random.Random, whole: bytes) -> bytes:
    extra = rng.choice([b"Content-Length: 3", b"Transfer-Encoding: chunked", b"content-length: 0"])
    return whole.replace(b"Host: ", extra + b"\r\nHost: ", 1)


def _chunked(rng: random.Random, whole: bytes) -> bytes:
    head, _, body = whole.partition(b"\r\n\r\n")
    head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head, count=1)
    sizes = [b"%x" % len(body), b"%X;ext=" % len(body) + b"e" * rng.choice([1, 50_000])]
    sizes += [b"fffffffffffffffff", b"-1", b"0x5", b"%x" % (len(body) + 5), b"zz", b"", b"1", b"5 "]
    ends = [b"\r\n0\r\n\r\n", b"\r\n0\r\n", b"0\r\n\r\n", b"\r\n0\r\nX-Late: 1\r\n\r\n"]
    ends += [b"\r\n0\r\n" + b"X-Late: " + b"a" * 8000 + b"\r\n", b"\r\n"]
    return head + b"\r\n\r\n" + rng.choice(sizes) + b"\r\n" + body + rng.choice(ends)


def _byte_by_byte(rng: random.Random, whole: bytes) -> bytes:
    head, _, body = whole.partition(b"\r\n\r\n")
    head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head, count=1)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body[: rng.choice([10, 5000])])
    return head + b"\r\n\r\n" + chunks + b"0\r\n\r\n"


def _pipeline(rng: random.Random, whole: bytes) -> bytes:
    return whole * rng.choice([2, 10, 200])


def _smuggle(_: random.Random, whole: bytes) -> bytes:
    return whole.replace(b"Content-Length:", b"Content-Length :", 1)


LINES: Final = (
    *(b"POST /firehydrant", b"GET /", b"POST /firehydrant HTTP/0.9", b"PRI * HTTP/2.0"),
    *(b"POST /firehydrant HTTP/9.9", b"POST  /firehydrant  HTTP/1.1", b"CONNECT a:1 HTTP/1.1"),
    *(b"POST http://[::1/firehydrant HTTP/1.1", b"POST * HTTP/1.1", b"OPTIONS * HTTP/1.1"),
    *(b"POST //firehydrant HTTP/1.1", b"POST /%ff%00 HTTP/1.1", b"POST /\xff\xfe HTTP/1.1"),
    *(b"post /firehydrant HTTP/1.1", b"POST /%66irehydrant?a=%zz#b HTTP/1.1", b"\xff\xfe\xfd"),
    *(b"POST /firehydrant/../firehydrant HTTP/1.1", b"POST http://x:99999/ HTTP/1.1"),
    *(b"POST //[/firehydrant HTTP/1.1", b"GET //\\@:0/ HTTP/1.1", b"POST http:// HTTP/1.1"),
    *(b"POST ? HTTP/1.1", b"POST /" + b"a" * 8000 + b" HTTP/1.1", b"POST /" + b"a" * 70_000),
)


def _other_lines(rng: random.Random, whole: bytes) -> bytes:
    return rng.choice(LINES) + whole[whole.index(b"\r\n") :]


def _noise(rng: random.Random, _: bytes) -> bytes:
    size = rng.choice([1, 3, 100, 5000, 100_000])
    hello = bytes.fromhex("16030100c8010000c40303")  # How TLS begins.
    return rng.choice([b"", hello, b"\r\n" * 50, b"SSH-2.0-x\r\n", b"\0"]) + rng.randbytes(size)


FOLDS: Final = (
    *(b"Host: bridge\r\n folded", b"Host : bridge", b"Host:bridge\r\n: x", b"NoColon"),
    *(b"Host: a\r\nHost: b", b"Host: br\0idge", b"Host: bridge\nX: 1", b"Host: b\rX: 1"),
    *(b"H\xffst: b", b""),
)


def _fold(rng: random.Random, whole: bytes) -> bytes:
    return whole.replace(b"Host: bridge", rng.choice(FOLDS), 1)


def _many_headers(rng: random.Random, whole: bytes) -> bytes:
    """Put too many headers there, or too long ones; at our rate not enough to fill the door."""
    count, size = rng.choice([(127, 1), (128, 1), (129, 1), (5000, 1), (120, 1000), (20, 8000)])
    extra = b"".join(b"X-%d: %s\r\n" % (number, b"a" * size) for number in range(count))
    return whole.replace(b"Host: ", extra + b"Host: ", 1)


BREAKS: Final[Sequence[Mutation]] = (
    _flip_the_head,
    _flip_the_head,
    _flip_the_head,
    _cut,
    _lie_about_the_length,
    _two_lengths,
    _chunked,
    _chunked,
    _byte_by_byte,
    _pipeline,
    _smuggle,
    _other_lines,
    _other_lines,
    _noise,
    _fold,
    _many_headers,
)
