import asyncio
import gzip
import hashlib
import hmac
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import BaseTestServer, TestClient

from incident_rollback.bridge.app import ANSWER_HEADER, Absence, Limits, make_app, make_runner
from incident_rollback.bridge.app import Bridge as App
from incident_rollback.bridge.secrets import Secrets
from incident_rollback.crd.v1alpha1 import (
    TRACE_ANNOTATION,
    Condition,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
    PlanStatus,
)
from incident_rollback.errors import (
    ForbiddenError,
    InvalidRequestError,
    ThrottledError,
    UnavailableError,
)
from incident_rollback.telemetry.traces import Tracing, with_trace
from tests.fakes.clock import FakeClock
from tests.fakes.store import FakeStore
from tests.fakes.tracer import FakeTracer

PAYLOADS = Path(__file__).parents[2] / "data" / "firehydrant" / "payloads"
SECRET = "example-hmac-secret"
QUICK = Limits(body_seconds=0.5, store_seconds=0.5, first_pause_seconds=0.001)
SLOW = b"POST /firehydrant HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab"
DIGEST = "sha256:" + "a" * 64
OURS: dict[str, Any] = {
    "incident_id": "i-1",
    "services": [{"name": "checkout"}],
    "environments": [{"name": "production"}],
}


class Server(BaseTestServer):
    """Serves as in production."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self.app = app

    async def _make_runner(self, **_: Any) -> web.BaseRunner:
        return make_runner(self.app)


def a_client(app: App) -> TestClient[web.BaseRequest, None]:
    """Return a client of the application, which begins to serve when it is entered."""
    return TestClient(Server(app))


@dataclass
class Bridge:
    """The bridge under test, and what it leaves behind."""

    client: TestClient[web.BaseRequest, None]
    store: FakeStore
    clock: FakeClock
    folder: Path
    observed: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    async def post(self, document: object, **headers: str) -> ClientResponse:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        signed = {"fh-signature": sign(body), **headers}
        return await self.client.post("/firehydrant", data=body, headers=signed)

    async def rows(self, document: object) -> tuple[int, list[dict[str, Any]]]:
        answer = await self.post(document)
        return answer.status, (await answer.json())["rollbacks"]

    def end(self, phase: Phase, *, digest: str | None = None, **named: str) -> None:
        """Let every resource that is still open end now, as the controller would."""
        for rollback in list(self.store.rollbacks.values()):
            if rollback.status.phase is Phase.PENDING:
                self.store.put(ended(rollback, phase, self.clock, digest, **named))


def ended(
    rollback: IncidentRollback,
    phase: Phase,
    clock: FakeClock,
    digest: str | None = None,
    reason: str = "RolledBack",
) -> IncidentRollback:
    status = IncidentRollbackStatus(
        phase=phase,
        finished_at=clock.now(),
        conditions=(Condition(type="Ready", status="True", reason=reason),),
        plan=PlanStatus(digest=digest) if digest else None,
    )
    return rollback.model_copy(update={"status": status})


def sign(body: bytes) -> str:
    return hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[Bridge]:
    async with a_bridge(tmp_path, QUICK) as one:
        yield one


@asynccontextmanager
async def a_bridge(
    folder: Path, limits: Limits, absence: Absence | None = None
) -> AsyncGenerator[Bridge]:
    (folder / "current").write_text(f"{SECRET}\n")
    clock = FakeClock()
    store = FakeStore(clock=clock)
    observed: list[tuple[int, str]] = []
    app = make_app(
        store,
        Secrets(folder),
        clock,
        namespace=store.home,
        observe=lambda code, reason: observed.append((code, reason)),
        absence=absence,
        limits=limits,
    )
    async with a_client(app) as client:
        yield Bridge(client, store, clock, folder, observed)


Told = tuple[int, list[tuple[str, str, bool, int]]]
IGNORED: Told = (200, [])
REFUSED: Told = (400, [])
RELAY: Told = (202, [("checkout-api", "production", False, 1)])
TOJSON: Told = (202, [("checkout-api", "Production", False, 1)])
ANSWERS: Mapping[str, Told] = {
    "change-event-created.json": IGNORED,
    "command-extension-callback-body.json": REFUSED,
    "command-extension-empty-payload.json": IGNORED,
    "command-extension-no-arguments.json": IGNORED,
    "command-extension-outside-incident.json": IGNORED,
    "command-extension.json": IGNORED,
    "incident-created-no-impacts.json": IGNORED,
    "incident-created-several-services.json": IGNORED,
    "incident-created.json": IGNORED,
    "incident-updated-by-own-note.json": IGNORED,
    "incident-updated-just-after-creation.json": IGNORED,
    "incident-updated-resolved.json": IGNORED,
    "runbook-relay-backslash-in-summary.txt": REFUSED,
    "runbook-relay-duplicate-keys.json": REFUSED,
    "runbook-relay-empty-summary.json": RELAY,
    "runbook-relay-newline-in-summary.txt": RELAY,
    "runbook-relay-no-service.json": (202, [("", "", False, 1)]),
    "runbook-relay-null-channel.json": RELAY,
    "runbook-relay-quote-in-name.txt": REFUSED,
    "runbook-relay-several-services.json": (202, [("checkout api", "production", False, 1)]),
    "runbook-relay-unicode.json": (202, [("zahlungs-gateway", "produktion", False, 1)]),
    "runbook-relay.json": RELAY,
    "runbook-tojson-gameday.json": (202, [("checkout-api", "Production", True, 1)]),
    "runbook-tojson-no-service.json": (202, [("", "", False, 1)]),
    "runbook-tojson-null-channel.json": TOJSON,
    "runbook-tojson-several-services.json": (
        202,
        [
            ("Checkout API", "Production", False, 4),
            ("Checkout API", "Staging", False, 4),
            ("payments", "Production", False, 4),
            ("payments", "Staging", False, 4),
        ],
    ),
    "runbook-tojson-unicode-and-newlines.json": TOJSON,
    "runbook-tojson.json": (202, [("Checkout API", "Production", False, 1)]),
}
"""File → code, and service, environment, dryRun and pairs of each resource that is made."""


@pytest.mark.parametrize("file", sorted(path.name for path in PAYLOADS.iterdir()))
async def test_every_payload_has_its_answer(bridge: Bridge, file: str) -> None:
    sent = f'"sent_at": {int(bridge.clock.now().timestamp())}'.encode()
    body = re.sub(rb'"sent_at": \d+', sent, (PAYLOADS / file).read_bytes())

    answer = await bridge.post(body)

    made = [manifest["spec"] for manifest in bridge.store.manifests]
    assert (answer.status, [told(spec) for spec in made]) == ANSWERS[file]
    assert all(spec["incident"]["id"] == "084eaf43-02a7-5ac7-929e-08a74fa619eb" for spec in made)


def told(spec: Mapping[str, Any]) -> tuple[str, str, bool, int]:
    service = spec["service"]
    return service["name"], service["environment"], spec["dryRun"], spec["pairs"]


async def test_a_body_that_was_sent_long_ago_is_422(bridge: Bridge) -> None:
    answer = await bridge.post((PAYLOADS / "runbook-tojson.json").read_bytes())

    assert answer.status == 422
    assert not bridge.store.rollbacks


async def test_a_new_request_is_202_with_its_name_in_body_and_header(bridge: Bridge) -> None:
    answer = await bridge.post(OURS)

    (rollback,) = bridge.store.rollbacks.values()
    name = rollback.metadata.name
    assert (answer.status, await answer.json()) == (
        202,
        {
            "message": f"asked for {name}",
            "rollbacks": [
                {
                    "namespace": "incident-rollback",
                    "name": name,
                    "created": True,
                    "phase": "Pending",
                    "reason": "",
                }
            ],
        },
    )
    assert answer.headers[ANSWER_HEADER] == f"asked for {name}"
    assert rollback.spec.requested_at == bridge.clock.now()


async def test_twenty_deliveries_at_once_make_one_resource(bridge: Bridge) -> None:
    answers = await asyncio.gather(*(bridge.post(OURS) for _ in range(20)))

    assert sorted(answer.status for answer in answers) == [200] * 19 + [202]
    assert len(bridge.store.rollbacks) == 1


REPEATS = [
    pytest.param(None, 0, 200, id="open: a repeat"),
    pytest.param(Phase.SUCCEEDED, 59, 200, id="within a minute of success: a repeat"),
    pytest.param(Phase.SUCCEEDED, 60, 202, id="a minute after success: the next attempt"),
    pytest.param(Phase.REFUSED, 0, 202, id="refused: the next attempt at once"),
    pytest.param(Phase.FAILED, 0, 202, id="failed: the next attempt at once"),
]


@pytest.mark.parametrize(("phase", "seconds", "code"), REPEATS)
async def test_what_a_repeat_is_answered(
    bridge: Bridge, phase: Phase | None, seconds: int, code: int
) -> None:
    _, [first] = await bridge.rows(OURS)
    if phase is not None:
        bridge.end(phase)
    bridge.clock.advance(seconds)

    again, [second] = await bridge.rows(OURS)

    assert again == code
    assert second["name"] == (first["name"] if code == 200 else f"{first['name']}-2")
    assert second["phase"] == ("Pending" if code == 202 or phase is None else phase)


async def test_after_five_attempts_kubectl_has_to_be_used(bridge: Bridge) -> None:
    names: list[str] = []
    for _ in range(5):
        code, [row] = await bridge.rows(OURS)
        assert code == 202
        names.append(row["name"])
        bridge.end(Phase.FAILED, reason="CrashedAfterReady")

    sixth = await bridge.post(OURS)

    told = await sixth.json()
    assert sixth.status == 200
    assert [name.removeprefix(names[0]) for name in names] == ["", "-2", "-3", "-4", "-5"]
    assert told["rollbacks"][0]["name"] == names[-1]
    assert told["rollbacks"][0]["reason"] == "CrashedAfterReady"
    assert "use kubectl" in told["message"]
    assert len(bridge.store.rollbacks) == 5


async def test_a_preview_is_no_obstacle_to_the_rollback(bridge: Bridge) -> None:
    assert [(await bridge.post(OURS | {"dry_run": dry})).status for dry in (True, False)] == [
        202,
        202,
    ]


async def test_somebody_elses_resource_of_that_name_is_left_alone(bridge: Bridge) -> None:
    _, [first] = await bridge.rows(OURS)
    (ours,) = bridge.store.rollbacks.values()
    spec = ours.spec.model_copy(update={"dry_run": True})
    bridge.store.put(ours.model_copy(update={"spec": spec}))

    code, [second] = await bridge.rows(OURS)

    assert (code, second["name"]) == (202, f"{first['name']}-2")


async def test_of_several_pairs_some_may_be_known(bridge: Bridge) -> None:
    await bridge.post(OURS)

    code, rows = await bridge.rows(OURS | {"services": [{"name": "checkout"}, {"name": "b"}]})

    assert code == 202
    assert [row["created"] for row in rows] == [False, True]


async def test_approving_before_a_plan_was_shown_is_422(bridge: Bridge) -> None:
    await bridge.post(OURS | {"dry_run": True})

    answer = await bridge.post(OURS | {"approve": True})

    assert answer.status == 422
    assert (await answer.json())["message"] == "nothing to approve yet: preview first"


@pytest.mark.parametrize("shown_by", [{"dry_run": True}, {}])
async def test_approving_carries_the_digest_of_the_plan_that_was_shown(
    bridge: Bridge, shown_by: dict[str, Any]
) -> None:
    await bridge.post(OURS | shown_by)
    bridge.end(Phase.REFUSED, reason="ApprovalRequired", digest="sha256:" + "0" * 64)
    await bridge.post(OURS | shown_by)
    bridge.end(Phase.REFUSED, reason="ApprovalRequired", digest=DIGEST)

    answer = await bridge.post(OURS | {"approve": True})

    spec = bridge.store.manifests[-1]["spec"]
    assert answer.status == 202
    assert (spec["planDigest"], spec["dryRun"], spec["pairs"]) == (DIGEST, False, 1)


async def test_approving_again_approves_the_plan_that_the_approval_was_refused_with(
    bridge: Bridge,
) -> None:
    """Else the step would send the old digest for ever, whoever presses it."""
    await bridge.post(OURS)
    bridge.end(Phase.REFUSED, reason="ApprovalRequired", digest=DIGEST)
    shown = [f"sha256:{digit * 64}" for digit in "12"]
    for digest in shown:
        bridge.clock.advance(60)
        await bridge.post(OURS | {"approve": True})
        bridge.end(Phase.REFUSED, reason="PlanChanged", digest=digest)

    await bridge.post(OURS | {"approve": True})

    sent = [m["spec"].get("planDigest") for m in bridge.store.manifests]
    assert sent == [None, DIGEST, *shown]


async def test_a_plan_of_somebody_elses_resource_is_not_approved(bridge: Bridge) -> None:
    await bridge.post(OURS)
    bridge.end(Phase.REFUSED, digest=DIGEST)
    (ours,) = bridge.store.rollbacks.values()
    spec = ours.spec.model_copy(update={"dry_run": True})
    bridge.store.put(ours.model_copy(update={"spec": spec}))

    assert (await bridge.post(OURS | {"approve": True})).status == 422


async def test_pairs_without_a_plan_are_not_approved_and_that_is_said(bridge: Bridge) -> None:
    await bridge.post(OURS)
    bridge.end(Phase.REFUSED, digest=DIGEST)
    both = OURS | {"services": [{"name": "checkout"}, {"name": "b"}], "approve": True}

    answer = await bridge.post(both)

    told = await answer.json()
    assert (answer.status, len(told["rollbacks"])) == (202, 1)
    assert told["message"].endswith("; 1 of 2 without a plan to approve")
    assert bridge.store.manifests[-1]["spec"]["pairs"] == 2


ELSEWHERE = [
    pytest.param("POST", "/", 404, id="the root"),
    pytest.param("POST", "/firehydrant/", 404, id="a slash too many"),
    pytest.param("GET", "/metrics", 404, id="what is on the other port"),
    pytest.param("POST", "/%0A", 404, id="a line break"),
    pytest.param("GET", "/firehydrant", 405, id="GET"),
    pytest.param("HEAD", "/firehydrant", 405, id="HEAD"),
    pytest.param("PUT", "/firehydrant", 405, id="PUT"),
    pytest.param("PROPFIND", "/firehydrant", 405, id="a method of others"),
]


@pytest.mark.parametrize(("method", "path", "code"), ELSEWHERE)
async def test_elsewhere_and_otherwise_nothing_is_there(
    bridge: Bridge, method: str, path: str, code: int
) -> None:
    answer = await bridge.client.request(method, path, data=b"x" * 70_000)

    assert answer.status == code
    assert ANSWER_HEADER in answer.headers
    assert answer.headers.get("Allow") == ("POST" if code == 405 else None)


async def test_a_method_override_is_ignored(bridge: Bridge) -> None:
    headers = {"X-HTTP-Method-Override": "DELETE", "Content-Type": "text/plain"}

    assert (await bridge.post(OURS, **headers)).status == 202


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize(("size", "code"), [(65_536, 401), (65_537, 413)])
async def test_the_body_is_counted_while_it_is_read(
    bridge: Bridge, size: int, code: int, is_chunked: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 5000):
            yield b"x" * min(5000, size - start)

    data: Any = chunks() if is_chunked else b"x" * size
    answer = await bridge.client.post("/firehydrant", data=data)

    assert answer.status == code


UNSIGNED = [
    pytest.param({}, id="no signature"),
    pytest.param({"fh-signature": ""}, id="an empty signature"),
    pytest.param({"fh-signature": "0" * 64}, id="a wrong signature"),
    pytest.param({"fh-signature": f"sha256={sign(b'not json')}"}, id="a prefix"),
    pytest.param({"X-FireHydrant-Signature": sign(b"not json")}, id="another header"),
]


@pytest.mark.parametrize("headers", UNSIGNED)
async def test_a_missing_and_a_wrong_signature_are_the_same_401(
    bridge: Bridge, headers: dict[str, str]
) -> None:
    answer = await bridge.client.post("/firehydrant", data=b"not json", headers=headers)

    assert answer.status == 401
    assert answer.headers[ANSWER_HEADER].startswith("the header fh-signature is missing or wrong")
    assert bridge.observed == [(401, "NotSigned")]


async def test_two_signatures_are_none(bridge: Bridge) -> None:
    good = ("fh-signature", sign(b"{}"))

    answer = await bridge.client.post("/firehydrant", data=b"{}", headers=[good, good])

    assert answer.status == 401


async def test_a_body_is_not_decompressed(bridge: Bridge) -> None:
    packed = gzip.compress(json.dumps(OURS).encode())
    headers = {"fh-signature": sign(packed), "Content-Encoding": "gzip"}

    answer = await bridge.client.post("/firehydrant", data=packed, headers=headers)

    assert answer.status == 400


async def test_secrets_are_read_again_when_they_change(bridge: Bridge) -> None:
    (bridge.folder / "current").write_text("a-new-secret")
    assert (await bridge.post(OURS)).status == 401

    (bridge.folder / "previous").write_text(SECRET)
    assert (await bridge.post(OURS)).status == 202


async def test_without_a_secret_it_is_503_and_the_setting_is_named(bridge: Bridge) -> None:
    (bridge.folder / "current").unlink()

    answer = await bridge.post(OURS)

    assert answer.status == 503
    assert "INCIDENT_ROLLBACK_HMAC_SECRETS_DIR" in answer.headers[ANSWER_HEADER]
    assert answer.headers["Retry-After"]


async def test_a_slow_body_is_400_and_the_connection_is_closed(bridge: Bridge) -> None:
    answer = await raw(bridge, SLOW)

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"took longer" in answer
    assert b"Connection: close" in answer
    assert bridge.observed == [(400, "TooSlow")]


async def test_a_body_with_a_broken_chunk_is_400(bridge: Bridge) -> None:
    head = b"POST /firehydrant HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"

    answer = await raw(bridge, head, b"no size\r\n")

    assert answer.startswith(b"HTTP/1.1 400")


async def test_a_sender_that_hangs_up_is_no_bug(bridge: Bridge) -> None:
    _, writer = await asyncio.open_connection(bridge.client.host, bridge.client.port)
    writer.write(SLOW)
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.05)

    assert bridge.observed == [(400, "Broken")]


async def raw(bridge: Bridge, *parts: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection(bridge.client.host, bridge.client.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_an_api_server_that_comes_back_in_time_is_not_noticed(bridge: Bridge) -> None:
    bridge.store.failing = [UnavailableError("away")] * 3

    assert (await bridge.post(OURS)).status == 202
    assert bridge.store.calls == ["create"] * 4


async def test_a_create_whose_answer_was_lost_is_not_made_twice(bridge: Bridge) -> None:
    bridge.store.lost = [UnavailableError("the answer was lost")]

    assert (await bridge.post(OURS)).status == 200
    assert len(bridge.store.rollbacks) == 1


async def test_an_api_server_that_stays_away_is_503_and_the_log_says_why(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    bridge.store.down = UnavailableError("away")

    answer = await bridge.post(OURS)

    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert len(bridge.store.calls) > 3
    assert vars(caplog.records[-1])["detail"] == "UnavailableError: away"


async def test_an_api_server_that_hangs_is_503(bridge: Bridge) -> None:
    class Hanging(FakeStore):
        async def create(self, manifest: Mapping[str, Any]) -> tuple[IncidentRollback, bool]:
            await asyncio.sleep(60)
            return await super().create(manifest)

    app = make_app(Hanging(), Secrets(bridge.folder), bridge.clock, namespace="home", limits=QUICK)
    async with a_client(app) as client:
        other = Bridge(client, bridge.store, bridge.clock, bridge.folder)
        assert (await other.post(OURS)).status == 503


async def test_one_pair_that_fails_makes_the_whole_answer_503(bridge: Bridge) -> None:
    class Picky(FakeStore):
        async def create(self, manifest: Mapping[str, Any]) -> tuple[IncidentRollback, bool]:
            if manifest["spec"]["service"]["name"] == "b":
                raise UnavailableError("away")
            return await super().create(manifest)

    store = Picky(clock=bridge.clock)
    app = make_app(store, Secrets(bridge.folder), bridge.clock, namespace="home", limits=QUICK)
    async with a_client(app) as client:
        other = Bridge(client, store, bridge.clock, bridge.folder)
        answer = await other.post(OURS | {"services": [{"name": "checkout"}, {"name": "b"}]})

    assert (answer.status, len(store.rollbacks)) == (503, 1)


async def test_an_answer_waits_for_what_is_still_at_work(bridge: Bridge) -> None:
    class Uneven(FakeStore):
        async def create(self, manifest: Mapping[str, Any]) -> tuple[IncidentRollback, bool]:
            if manifest["spec"]["service"]["name"] == "b":
                raise ForbiddenError("no")
            await asyncio.sleep(0.05)
            return await super().create(manifest)

    store = Uneven(clock=bridge.clock)
    app = make_app(store, Secrets(bridge.folder), bridge.clock, namespace="home", limits=QUICK)
    async with a_client(app) as client:
        other = Bridge(client, store, bridge.clock, bridge.folder)
        answer = await other.post(OURS | {"services": [{"name": "b"}, {"name": "checkout"}]})

        assert (answer.status, len(store.rollbacks)) == (503, 1)


ERRORS = [
    pytest.param(
        ThrottledError("wait", retry_after=6.2), 429, "7", "patience", id="429 as it was said"
    ),
    pytest.param(
        ForbiddenError("no"),
        503,
        "30",
        "lacks create and get on incidentrollbacks.incidentrollback.dev in namespace "
        "incident-rollback",
        id="a missing permission is named",
    ),
    pytest.param(InvalidRequestError("no"), 422, None, "refused", id="the object is refused"),
    pytest.param(KeyError("PWNED"), 503, "5", "unexpected", id="a bug is not a 500"),
    pytest.param(RecursionError("PWNED"), 503, "5", "unexpected", id="nor is a deep one"),
]


@pytest.mark.parametrize(("error", "code", "retry_after", "said"), ERRORS)
async def test_errors_of_the_api_server(
    bridge: Bridge, error: Exception, code: int, retry_after: str | None, said: str
) -> None:
    bridge.store.failing = [error]

    answer = await bridge.post(OURS)

    assert (answer.status, answer.headers.get("Retry-After")) == (code, retry_after)
    assert said in (await answer.json())["message"]


async def test_a_bug_is_logged_with_its_type_and_place_but_not_its_text(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    bridge.store.failing = [KeyError("PWNED")]

    await bridge.post(OURS)

    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert re.fullmatch(r"KeyError at .*\.py:\d+", vars(record)["detail"])
    assert "PWNED" not in str(vars(record))


async def test_whoever_comes_while_enough_are_at_work_is_turned_away(tmp_path: Path) -> None:
    async with a_bridge(tmp_path, Limits(at_work=2)) as bridge:
        bridge.store.failing = [UnavailableError("away")] * 2

        answers = await asyncio.gather(*(bridge.post(OURS) for _ in range(4)))

        turned_away = [answer for answer in answers if answer.status == 503]
        assert [answer.headers["Retry-After"] for answer in turned_away] == ["1", "1"]
        assert (await bridge.post(OURS)).status == 200


async def test_too_many_slow_bodies_push_each_other_out_and_no_signed_request(
    tmp_path: Path,
) -> None:
    async with a_bridge(tmp_path, Limits(at_the_door=2)) as bridge:
        slow = [asyncio.create_task(raw(bridge, SLOW)) for _ in range(3)]
        ended, waiting = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)

        assert len(ended) == 1
        assert (await bridge.post(OURS)).status == 202
        assert (503, "Crowded") in bridge.observed
        for task in waiting:
            task.cancel()


async def test_a_signed_request_is_not_pushed_out_while_it_is_worked_on(tmp_path: Path) -> None:
    async with a_bridge(tmp_path, Limits(at_the_door=1)) as bridge:
        bridge.store.failing = [UnavailableError("away")] * 3
        signed = asyncio.create_task(bridge.post(OURS))
        while not bridge.store.calls:  # noqa: ASYNC110  # as the fake one is called
            await asyncio.sleep(0)

        assert (await bridge.client.post("/firehydrant", data=b"{}")).status == 401
        assert (await signed).status == 202


async def test_a_connection_carries_one_request(bridge: Bridge) -> None:
    body = json.dumps(OURS).encode()
    head = f"POST /firehydrant HTTP/1.1\r\nHost: x\r\nfh-signature: {sign(body)}\r\n"
    one = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    answer = await raw(bridge, one * 3)

    assert answer.count(b"HTTP/1.1 202 Accepted") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert len(bridge.store.calls) == 1


async def test_what_is_no_http_is_400_of_the_usual_shape_and_not_repeated(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    answer = await raw(bridge, b"PWNED PWNED\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 Bad Request")
    assert b"\r\nX-Incident-Rollback: this is no HTTP request" in head
    assert json.loads(body)["rollbacks"] == []
    assert bridge.observed == [(400, "NotHttp")]
    assert "PWNED" not in str([vars(record) for record in caplog.records])


EXPECTATIONS = [
    pytest.param("100-continue", 2, id="it is told to send the body"),
    pytest.param("PWNED", 1, id="what nobody knows is ignored, and not repeated"),
]


@pytest.mark.parametrize(("wish", "answers"), EXPECTATIONS)
async def test_what_a_sender_expects(bridge: Bridge, wish: str, answers: int) -> None:
    head = f"POST /firehydrant HTTP/1.1\r\nHost: x\r\nExpect: {wish}\r\nContent-Length: 2\r\n\r\n"

    answer = await raw(bridge, head.encode(), b"{}")

    assert answer.startswith(b"HTTP/1.1 100 Continue" if answers == 2 else b"HTTP/1.1 401 ")
    assert answer.count(b"HTTP/1.1 ") == answers
    assert b"HTTP/1.1 401 " in answer
    assert b"PWNED" not in answer


async def test_an_answer_names_no_versions_to_attack(bridge: Bridge) -> None:
    assert (await bridge.post(OURS)).headers["Server"] == "incident-rollback"


async def test_unsigned_bodies_take_no_place_at_work(tmp_path: Path) -> None:
    async with a_bridge(tmp_path, Limits(at_work=1, body_seconds=0.3)) as bridge:
        slow = [asyncio.create_task(raw(bridge, SLOW)) for _ in range(3)]
        await asyncio.sleep(0.1)

        assert (await bridge.post(OURS)).status == 202
        await asyncio.gather(*slow)


async def test_one_log_line_for_each_request_and_no_body(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "incident_rollback")
    await bridge.post(OURS)
    caplog.clear()

    _, [row] = await bridge.rows(OURS | {"summary": "PWNED", "name": "PWNED"})
    await bridge.post({"PWNED": 1})
    await bridge.client.post("/firehydrant", data=b"PWNED")

    told = [vars(record) for record in caplog.records]
    assert [(one["code"], one["reason"], one["incident"]) for one in told] == [
        (200, "AlreadyAsked", "i-1"),
        (400, "Malformed", ""),
        (401, "NotSigned", ""),
    ]
    assert told[0]["rollbacks"] == [row["name"]]
    assert told[0]["duration_seconds"] >= 0
    assert "PWNED" not in str(told)
    assert bridge.observed[1:] == [(200, "AlreadyAsked"), (400, "Malformed"), (401, "NotSigned")]


FLOODS = [
    pytest.param("POST", "/firehydrant", "NotSigned", id="without a signature"),
    pytest.param("GET", "/firehydrant", "MethodNotAllowed", id="by another method"),
    pytest.param("POST", "/wp-login.php", "NotFound", id="elsewhere"),
]


@pytest.mark.parametrize(("method", "path", "reason"), FLOODS)
async def test_a_flood_is_a_line_a_second_and_is_counted_in_full(
    bridge: Bridge, traced: pytest.LogCaptureFixture, method: str, path: str, reason: str
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(40):
        await bridge.client.request(method, path, data=b"{}")

    def told() -> list[dict[str, Any]]:
        return [vars(record) for record in traced.records if vars(record).get("reason") == reason]

    async with asyncio.timeout(20):
        while sum(1 + line.get("left_out", 0) for line in told()) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert len(told()) <= 2 + (loop.time() - began)
    assert len({line["trace_id"] for line in told()}) == len(told()) > 1
    assert len(bridge.observed) == 40


async def test_a_signed_request_has_its_line_whatever_floods(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "incident_rollback")
    for number in range(5):
        await bridge.client.post("/firehydrant", data=b"{}")
        await bridge.post(OURS | {"incident_id": f"i-{number}"})
        await bridge.post({"PWNED": number})
    told = [vars(record).get("reason") for record in caplog.records]
    assert (told.count("Created"), told.count("Malformed")) == (5, 5)


async def test_a_header_cannot_be_forged_by_what_stands_in_the_cluster(bridge: Bridge) -> None:
    await bridge.post(OURS)
    bridge.end(Phase.SUCCEEDED, reason="Straße\r\nSet-Cookie: a=b")

    answer = await bridge.post(OURS)

    assert answer.status == 200
    assert answer.headers[ANSWER_HEADER].endswith("(Stra e Set-Cookie: a=b)")
    assert "Set-Cookie" not in answer.headers


async def test_the_header_is_one_short_line_of_ascii(bridge: Bridge) -> None:
    services = [{"name": f"a-service-with-a-long-name-{number}"} for number in range(10)]

    answer = await bridge.post(OURS | {"services": services})

    assert answer.status == 202
    assert re.fullmatch(r"[\x20-\x7e]{197}\.\.\.", answer.headers[ANSWER_HEADER])
    assert len((await answer.json())["message"]) > 200


# --- no controller ---

MISSED = "no controller has been seen for 3 min: look; the request is kept"


async def nobody_is_there() -> str:
    return MISSED


async def test_that_no_controller_is_there_is_said_with_what_was_asked_for(tmp_path: Path) -> None:
    async with a_bridge(tmp_path, QUICK, nobody_is_there) as bridge:
        for status, begins in ((202, "asked for "), (200, "already asked for: ")):
            answer = await bridge.post(OURS)
            said = (await answer.json())["message"]
            assert (answer.status, said.endswith(f"; {MISSED}")) == (status, True)
            assert said.startswith(begins)
            assert answer.headers[ANSWER_HEADER] == said


async def test_that_no_controller_is_there_is_not_said_when_nothing_was_asked_for(
    tmp_path: Path,
) -> None:
    async with a_bridge(tmp_path, QUICK, nobody_is_there) as bridge:
        approval = await bridge.post({**OURS, "approve": True})
        assert approval.status == 422
        assert MISSED not in await approval.text()


async def test_an_api_server_that_does_not_answer_is_said_as_ever(tmp_path: Path) -> None:
    async with a_bridge(tmp_path, QUICK, nobody_is_there) as bridge:
        bridge.store.down = UnavailableError("no answer")
        answer = await bridge.post(OURS)
        assert answer.status == 503
        assert MISSED not in await answer.text()


# --- whose request it is ---

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture
def traced(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Keep log lines as they are written in a process of ours."""
    caplog.set_level(logging.INFO, "incident_rollback")
    caplog.handler.addFilter(with_trace)
    yield caplog
    caplog.handler.removeFilter(with_trace)
    Tracing.tracer = None


def trace_ids(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the trace of each request, by the one line about it."""
    told = [vars(one) for one in caplog.records if one.getMessage().startswith("answered")]
    return [one["trace_id"] for one in told]


def trace_on(bridge: Bridge, index: int = -1) -> str:
    """Return what a resource says of its trace."""
    trace: str = bridge.store.manifests[index]["metadata"]["annotations"][TRACE_ANNOTATION]
    return trace


async def test_a_senders_trace_is_on_the_log_line_and_on_what_is_made(
    bridge: Bridge, traced: pytest.LogCaptureFixture
) -> None:
    both = OURS | {"services": [{"name": "checkout"}, {"name": "b"}]}
    await bridge.post(both, traceparent=PARENT)
    assert (trace_on(bridge, 0), trace_on(bridge, 1)) == (PARENT, PARENT)
    assert trace_ids(traced) == [TRACE_ID]


NO_TRACES = [
    pytest.param([], id="none is sent"),
    pytest.param(["PWNED"], id="what is sent is none"),
    pytest.param([PARENT, PARENT], id="several are sent"),
]


@pytest.mark.parametrize("sent", NO_TRACES)
async def test_without_a_senders_trace_each_request_gets_one(
    bridge: Bridge, traced: pytest.LogCaptureFixture, sent: list[str]
) -> None:
    for environment in ("production", "staging"):
        body = json.dumps(OURS | {"environments": [{"name": environment}]}).encode()
        headers = [("fh-signature", sign(body)), *(("traceparent", one) for one in sent)]
        await bridge.client.post("/firehydrant", data=body, headers=headers)
    first, second = trace_ids(traced)
    assert first != second
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert (trace_on(bridge, 0), trace_on(bridge, 1)) == (first, second)


async def test_who_has_not_signed_chooses_no_trace_and_makes_no_span(
    bridge: Bridge, traced: pytest.LogCaptureFixture
) -> None:
    Tracing.tracer = tracer = FakeTracer()
    for headers in ({"traceparent": PARENT}, {"traceparent": PARENT, "fh-signature": "0" * 64}):
        await bridge.client.post("/firehydrant", data=b"{}", headers=headers)
    async with asyncio.timeout(20):
        while len(trace_ids(traced)) < 2:  # noqa: ASYNC110  # the second line is held for a second
            await asyncio.sleep(0.02)
    assert len({*trace_ids(traced), TRACE_ID}) == 3
    assert tracer.spans == []


async def test_a_signed_request_is_a_span_and_what_it_made_belongs_to_that(
    bridge: Bridge, traced: pytest.LogCaptureFixture
) -> None:
    Tracing.tracer = tracer = FakeTracer()
    await bridge.post(OURS, traceparent=PARENT)
    (made,) = tracer.spans
    assert (made.name, str(made.parent)) == ("webhook", PARENT)
    assert made.attributes == {"code": 202, "reason": "Created", "incident": "i-1"}
    assert trace_on(bridge) == str(made.trace)
    assert trace_ids(traced) == [TRACE_ID]


async def test_which_secret_had_signed_is_told_by_its_name(bridge: Bridge) -> None:
    told: list[tuple[str, float]] = []
    (bridge.folder / "previous").write_text(SECRET)
    (bridge.folder / "current").write_text("a-new-secret")
    app = make_app(
        bridge.store,
        Secrets(bridge.folder),
        bridge.clock,
        namespace="home",
        observe_signed=lambda slot, seconds: told.append((slot, seconds)),
        limits=QUICK,
    )
    async with a_client(app) as client:
        other = Bridge(client, bridge.store, bridge.clock, bridge.folder)
        await other.post(OURS)
        await other.post({"PWNED": 1})
        await client.post("/firehydrant", data=b"{}")
    assert [slot for slot, _ in told] == ["previous", "previous"]
    assert all(seconds > 0 for _, seconds in told)
