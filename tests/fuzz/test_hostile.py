"""
What a public port has to bear: the real process, and bytes that nobody should send.

The seed of a failure is in its message; `FUZZ_SEED` and `FUZZ_REQUESTS` play it again, or longer.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.fuzz.cases import Case, Maker
from tests.fuzz.running import Target
from tests.fuzz.schema import validator, wrong_with
from tests.fuzz.wire import Answer, a_request, send
from tests.sandbox.build import say_on_stderr
from tests.sandbox.waiting import wait_for

SEED: Final = int(os.environ.get("FUZZ_SEED", "20261123"))
REQUESTS: Final = int(os.environ.get("FUZZ_REQUESTS", "10000"))
AT_ONCE: Final = 24
WARM_SHARE: Final = 0.25
"""The first requests fill caches and the allocator's arenas; memory is compared from there on."""
GROWTH: Final = 1.25
LARGEST_ANSWER: Final = 8192
SHOWN: Final = 5
POOL: Final = 20
"""Connections to the API server that may be kept."""
SPOKEN: Final = "PWNED"
"""In many texts that are drawn; no answer repeats a text."""

CRD: Final = yaml.safe_load(
    (Path(__file__).parents[2] / "crds" / "incidentrollbacks.yaml").read_text(encoding="utf-8")
)
SPEC: Final = validator(
    CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
)


@dataclass
class Judge:
    """Holds every answer against the rules, and remembers what only the whole can show."""

    problems: list[str] = field(default_factory=list[str])
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    to_unsigned: set[tuple[object, ...]] = field(default_factory=set[tuple[object, ...]])
    """All different answers, but for the date: it must be one."""
    ids: set[str] = field(default_factory=set[str])
    """The incidents of signed bodies, by a reading of our own."""
    created: int = 0

    def hear(self, number: int, case: Case, answers: Sequence[Answer]) -> None:
        """Judge what one request was answered."""
        final = [answer for answer in answers if answer.status >= 200]
        self.ids |= _ids_in(case.signed)
        is_head = case.sent.startswith(b"HEAD ")
        found = (wrong_with(answer, has_body=not is_head) for answer in final)
        wrong = [problem for problem in found if problem]
        if len(final) > 1 or (case.is_whole and not final):
            wrong.append(f"{len(final)} answers")
        for answer in final:
            self.statuses[case.kind, answer.status] += 1
            self.created += answer.body.count(b'"created": true')
            shown = f"{answer.headers}{answer.body!r}"
            if SPOKEN in shown or (case.mark and case.mark.lower() in shown.lower()):
                wrong.append("it repeats what was sent")
            if len(answer.body) > LARGEST_ANSWER:
                wrong.append(f"{len(answer.body)} bytes of answer")
            if case.mark:
                self.to_unsigned.add(_without_date(answer))
        if not final:
            self.statuses[case.kind, 0] += 1
        self.problems += [
            f"seed {SEED}, request {number} ({case.kind}): {problem}\n  sent: {case.sent[:600]!r}"
            for problem in wrong
        ]


def _without_date(answer: Answer) -> tuple[object, ...]:
    headers = [pair for pair in answer.headers if pair[0] != "date"]
    return answer.status, tuple(headers), answer.body


def _ids_in(body: bytes | None) -> set[str]:
    try:
        document: Any = json.loads(body or b"", strict=False)
        return {document["incident_id"].strip()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return set()


async def test_ten_thousand_hostile_requests(target: Target) -> None:
    judge = Judge()
    rng = random.Random(SEED)  # noqa: S311  # to be repeated
    cases = Maker(rng, target.sign, int(target.api.at.timestamp())).cases(REQUESTS)
    warm = int(WARM_SHARE * len(cases))
    sockets = target.sockets

    await play(target, cases[:warm], judge)
    rss = target.rss_bytes
    await play(target, cases[warm:], judge, warm)
    growth = target.rss_bytes / rss

    for (kind, status), count in sorted(judge.statuses.items()):
        say_on_stderr(f"{kind:32} {status or 'closed':>6} {count:6}")
    say_on_stderr(
        f"seed {SEED}: {len(cases)} requests, {judge.created} rollbacks; RSS {rss / 1e6:.1f} MB, "
        f"then x {growth:.2f}; {sockets} sockets, then {target.sockets}"
    )
    assert judge.problems[:SHOWN] == []
    assert [status for status, *_ in judge.to_unsigned] == [401]
    assert growth < GROWTH
    await the_log_is_clean(target, cases)
    await only_signed_wishes_became_resources(target, judge)
    assert await is_well(target, sockets)


async def play(target: Target, cases: Sequence[Case], judge: Judge, first: int = 0) -> None:
    """Send all of them, some at once."""
    numbered = enumerate(cases, first)

    async def take_turns() -> None:
        for number, case in numbered:
            answers = await send(target.port, case.sent, hang_up=not case.is_whole)
            judge.hear(number, case, answers)

    await asyncio.gather(*(take_turns() for _ in range(AT_ONCE)))


async def the_log_is_clean(target: Target, cases: Sequence[Case]) -> None:
    """No bug, no body, and of a signed one the incident's id alone."""
    log = await asyncio.to_thread(target.component.log_text)
    lines = [json.loads(line) for line in log.rstrip("\n").split("\n")]
    loud = [line for line in lines if line["level"] == "error" or "exception" in line]
    assert loud[:SHOWN] == [], f"seed {SEED}"
    assert [line for line in lines if SPOKEN in str({**line, "incident": ""})][:SHOWN] == []
    lowered = log.lower()
    told = [case.mark for case in cases if case.mark and case.mark.lower() in lowered]
    assert told[:SHOWN] == [], f"seed {SEED}"


async def only_signed_wishes_became_resources(target: Target, judge: Judge) -> None:
    creates = [manifest["spec"] for manifest in target.creates]
    assert {spec["incident"]["id"] for spec in creates} - judge.ids == set()
    broken = [spec for spec in creates if not SPEC.is_valid(spec)]
    assert broken[:SHOWN] == [], f"seed {SEED}"
    made = [path for path in target.api.objects if "/incidentrollbacks/" in path]
    assert len(made) >= judge.created > 0
    counts = await asyncio.to_thread(target.counts)
    assert [(code, reason) for code, reason in counts if code >= 500] == []


async def is_well(target: Target, sockets: int) -> bool:
    """Wait until what was left open is closed; then a good request is as welcome as ever."""
    kept = sockets + POOL
    await asyncio.to_thread(wait_for, lambda: target.sockets <= kept, "sockets to be closed")
    body = b'{"incident_id": "last", "services": [{"name": "a"}], "environments": [{"name": "b"}]}'
    (answer,) = await send(target.port, a_request(body, [("fh-signature", target.sign(body))]))
    return answer.status == 202 and target.component.proc.is_running()
