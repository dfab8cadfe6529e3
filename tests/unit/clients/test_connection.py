import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from kubernetes.aio.client import Configuration

from incident_rollback.clients.clock import ApiClock
from incident_rollback.clients.connection import (
    MAX_MESSAGE,
    POOL,
    Connection,
    connect,
    resource_path,
)
from incident_rollback.domain.raw import Json
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    RejectedError,
    RollbackError,
    SettingsError,
    ThrottledError,
    TransientError,
    UnavailableError,
)
from tests.fakes.apiserver import FakeApiServer, Fault, status

POD = "/api/v1/namespaces/shop/pods/a"
RBAC = (
    'deployments.apps "frontend" is forbidden: User "system:serviceaccount:ir:controller" cannot '
    'patch resource "deployments" in API group "apps" in the namespace "shop"'
)
STARTING = 'deployments.apps "frontend" is forbidden: not yet ready to handle request'
WEBHOOK = 'admission webhook "policy.example" denied the request: containers cannot run as root'


def a_kubeconfig(folder: Path, host: str, **user: str) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": host}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


async def test_success_is_an_answer_with_dicts(
    server: FakeApiServer, connection: Connection
) -> None:
    server.put(POD, {"metadata": {"name": "a"}})
    answer = await connection.call("GET", POD)
    assert answer.status == 200
    assert answer.json["metadata"]["name"] == "a"
    assert answer.date == server.at


async def test_the_request_as_it_arrives(server: FakeApiServer, connection: Connection) -> None:
    await connection.call(
        "PATCH", POD, query={"labelSelector": "a in (b,ü)"}, body=[{"x": "ü<&"}],
        content_type="application/json-patch+json",
    )  # fmt: skip
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("PATCH", POD)
    assert seen.query == {"labelSelector": "a in (b,ü)"}
    assert seen.headers["content-type"] == "application/json-patch+json"
    assert seen.headers["user-agent"] == "incident-rollback"
    assert seen.headers["accept"] == "application/json"
    assert seen.body == [{"x": "ü<&"}]
    assert "authorization" not in seen.headers


@pytest.mark.parametrize("code", [400, 404, 422])
async def test_what_the_caller_judges_is_an_answer(
    server: FakeApiServer, connection: Connection, code: int
) -> None:
    server.faults = [Fault(code, status(code, "because"))]
    answer = await connection.call("POST", POD, body={})
    assert (answer.status, answer.message) == (code, "because")


ERRORS = [
    pytest.param("GET", Fault(403, status(403, RBAC)), ForbiddenError, id="403 by RBAC"),
    pytest.param("PATCH", Fault(403, status(403, RBAC)), ForbiddenError,
                 id="403 by RBAC on a write"),
    pytest.param("PATCH", Fault(403, status(403, WEBHOOK)), RejectedError, id="403 by a webhook"),
    pytest.param("PATCH", Fault(403, status(403, "exceeded quota: q")), RejectedError,
                 id="403 by quota"),
    pytest.param("PATCH", Fault(403, "<html>proxy</html>"), ForbiddenError,
                 id="403 by something in between"),
    pytest.param("PATCH", Fault(403, status(403, STARTING)), UnavailableError,
                 id="403 by admission while the API server starts: no verdict"),
    pytest.param("PATCH", Fault(409, status(409, "modified")), ConflictError, id="409"),
    pytest.param("PATCH", Fault(415, status(415, "no")), InvalidRequestError, id="another 4xx"),
    pytest.param("GET", Fault(410, status(410, "too old")), UnavailableError, id="410"),
    pytest.param("PATCH", Fault(500, status(500, "etcd")), UnavailableError, id="500"),
    pytest.param("GET", Fault(503, "<html>down</html>"), UnavailableError, id="503 that is HTML"),
    pytest.param("GET", Fault(200, "<html>hello</html>"), UnavailableError, id="200 that is HTML"),
    pytest.param("PATCH", Fault(drops=True), UnavailableError, id="a write that is cut off"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "fault", "expected"), ERRORS)
async def test_errors_are_mapped_once(
    server: FakeApiServer,
    connection: Connection,
    method: str,
    fault: Fault,
    expected: type[RollbackError],
) -> None:
    server.faults = [fault]
    with pytest.raises(expected) as raised:
        await connection.call(method, POD, body=None if method == "GET" else [])
    assert isinstance(raised.value, expected)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(
            RBAC,
            "system:serviceaccount:ir:controller may not patch deployments.apps in namespace shop, "
            "or the namespace does not exist",
            id="in a namespace",
        ),
        pytest.param(
            'x is forbidden: User "eve" cannot list resource "pods" in API group "" '
            "at the cluster scope",
            "eve may not list pods in the whole cluster",
            id="in the cluster",
        ),
        pytest.param(
            'x is forbidden: User "eve" cannot update resource "incidentrollbacks/status" in API '
            'group "incidentrollback.dev" in the namespace "a": RBAC: role not found',
            "eve may not update incidentrollbacks.incidentrollback.dev/status in namespace a, "
            "or the namespace does not exist",
            id="a subresource",
        ),
        pytest.param("get lost", "get lost", id="other words stay as they are"),
    ],
)
async def test_a_missing_permission_is_named(
    server: FakeApiServer, connection: Connection, message: str, expected: str
) -> None:
    server.faults = [Fault(403, status(403, message))]
    with pytest.raises(ForbiddenError) as raised:
        await connection.call("GET", POD)
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("code", "header", "expected"),
    [(429, "7", 7.0), (429, "", 1.0), (429, "soon", 1.0), (429, "99999", 60.0), (503, "4", 4.0)],
)
async def test_retry_after_is_taken_from_the_header(
    server: FakeApiServer, connection: Connection, code: int, header: str, expected: float
) -> None:
    server.faults = [Fault(code, status(code, "later"), {"Retry-After": header})]
    with pytest.raises(TransientError) as raised:
        await connection.call("GET", POD)
    assert raised.value.retry_after == expected
    assert isinstance(raised.value, ThrottledError if code == 429 else UnavailableError)


async def test_a_read_that_is_cut_off_is_made_again(
    server: FakeApiServer, connection: Connection
) -> None:
    server.put(POD, {"metadata": {"name": "a"}})
    server.faults = [Fault(drops=True), Fault(drops=True)]
    assert (await connection.call("GET", POD)).status == 200
    assert len(server.seen) == 3


async def test_a_read_that_stays_cut_off_is_given_up(
    server: FakeApiServer, connection: Connection
) -> None:
    server.faults = [Fault(drops=True)] * 10
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await connection.call("GET", POD)


async def test_a_slow_answer_is_not_waited_for_and_not_asked_for_again(
    server: FakeApiServer, connection: Connection
) -> None:
    server.faults = [Fault(stall_seconds=0.5)]
    told: list[object] = []
    connection.on_answer = lambda method, code: told.append((method, code))
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.1 s"):
        await connection.call("GET", POD, timeout=0.1)
    assert len(server.seen) == 1
    assert told == [("GET", "TimedOut")]


async def test_a_proxy_of_the_environment_is_not_used(
    server: FakeApiServer, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await connection.call("GET", POD)
    assert len(server.seen) == 1


async def test_nobody_listens(unused_tcp_port_factory: Callable[[], int]) -> None:
    host = f"http://127.0.0.1:{unused_tcp_port_factory()}"
    connection = Connection(Configuration(host=host), ApiClock())
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await connection.call("GET", POD)
    await connection.close()


HEARD = [
    pytest.param([], [("GET", "200")], id="an answer"),
    pytest.param([Fault(403, status(403, RBAC))], [("GET", "403")], id="an error"),
    pytest.param([Fault(401)] * 2, [("GET", "401")] * 2, id="asked again with a new token"),
    pytest.param([Fault(drops=True)] * 10, [("GET", "Unreachable")] * 3, id="cut off each time"),
]


@pytest.mark.parametrize(("faults", "heard"), HEARD)
async def test_every_request_is_heard_of_by_method_and_code(
    server: FakeApiServer, connection: Connection, faults: list[Fault], heard: list[object]
) -> None:
    told: list[object] = []
    connection.on_answer = lambda method, code: told.append((method, code))
    server.put(POD, {"metadata": {"name": "a"}})
    server.faults = list(faults)
    with suppress(RollbackError):
        await connection.call("GET", POD)
    assert told == heard


async def test_every_answer_moves_the_clock_errors_too(server: FakeApiServer) -> None:
    clock = ApiClock(wall=lambda: datetime(2000, 1, 1, tzinfo=UTC))
    connection = Connection(Configuration(host=server.host), clock)
    server.faults = [Fault(500, status(500, "no"))]
    with pytest.raises(UnavailableError):
        await connection.call("GET", POD)
    assert abs((clock.now() - server.at).total_seconds()) < 2
    await connection.close()


async def test_an_unreadable_date_is_no_date(server: FakeApiServer, connection: Connection) -> None:
    server.faults = [Fault(404, "{}", {"Date": "yesterday"})]
    answer = await connection.call("GET", POD)
    assert answer.date is None


async def test_lists_are_read_page_by_page_without_managed_fields(
    server: FakeApiServer, connection: Connection
) -> None:
    server.page = 2
    for name in "abcde":
        path = f"/api/v1/namespaces/shop/pods/{name}"
        server.put(path, {"metadata": {"name": name, "managedFields": [{"manager": "m"}]}})
    found = await connection.items("/api/v1/namespaces/shop/pods")
    assert [item["metadata"]["name"] for item in found] == list("abcde")
    assert not any("managedFields" in item["metadata"] for item in found)
    assert [seen.query.get("limit") for seen in server.seen] == ["500"] * 3


async def test_a_list_of_a_kind_that_is_not_there(
    server: FakeApiServer, connection: Connection
) -> None:
    with pytest.raises(UnavailableError, match="cannot list"):
        await connection.items("/apis/incidentrollback.dev/v1alpha1/nothing/at/all")
    assert len(server.seen) == 1


async def test_a_list_by_a_selector_that_is_refused(
    server: FakeApiServer, connection: Connection
) -> None:
    server.faults = [Fault(400, status(400, "field label not supported: status.nope"))]
    with pytest.raises(InvalidRequestError, match=r"status\.nope"):
        await connection.items("/api/v1/pods", {"fieldSelector": "status.nope=1"})


async def test_messages_are_cut(server: FakeApiServer, connection: Connection) -> None:
    server.faults = [Fault(422, status(422, "x" * 100_000))]
    assert (await connection.call("GET", POD)).message == "x" * MAX_MESSAGE


async def test_warming_uses_several_connections(
    server: FakeApiServer, connection: Connection
) -> None:
    await connection.warm()
    assert [seen.path for seen in server.seen] == ["/version"] * 3


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"major": "1", "minor": "32"}, (1, 32)),
        ({"major": "1", "minor": "36+"}, (1, 36)),
        ({"major": "2", "minor": "0"}, (2, 0)),
    ],
)
async def test_the_version(
    server: FakeApiServer, connection: Connection, said: Json, expected: tuple[int, int]
) -> None:
    server.version = said
    assert await connection.server_version() == expected


@pytest.mark.parametrize("said", [{"major": "1", "minor": "31"}, {"major": "", "minor": ""}, {}])
async def test_an_old_kubernetes_is_refused(
    server: FakeApiServer, connection: Connection, said: Json
) -> None:
    server.version = said
    with pytest.raises(SettingsError, match=r"is too old: 1\.32 or later"):
        await connection.server_version()


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_what_is_no_name_makes_no_path(part: str) -> None:
    with pytest.raises(InvalidRequestError):
        resource_path("api", "v1", "namespaces", part)


def test_names_are_quoted() -> None:
    assert resource_path("api", "../a b?x") == "/api/..%2Fa%20b%3Fx"


async def test_quoted_names_arrive_as_one_part(
    server: FakeApiServer, connection: Connection
) -> None:
    await connection.call("GET", resource_path("api", "v1", "../../x"))
    assert server.seen[0].path == "/api/v1/../../x"


async def test_neither_service_account_nor_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="KUBECONFIG is not set"):
        await connect(ApiClock(), environ={}, service_account=tmp_path)


async def test_a_token_without_the_service_host_is_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with pytest.raises(SettingsError, match="KUBECONFIG is not set"):
        await connect(ApiClock(), environ={}, service_account=tmp_path)


@pytest.mark.parametrize(
    "content", [None, "", "just text", "a: [", "{}", "current-context: it\ncontexts: []\n"]
)
async def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match="KUBECONFIG") as raised:
        await connect(ApiClock(), environ={"KUBECONFIG": str(path)}, service_account=tmp_path)
    assert "\n" not in str(raised.value)


async def test_a_kubeconfig_with_a_token(server: FakeApiServer, tmp_path: Path) -> None:
    path = a_kubeconfig(tmp_path, server.host, token="secret")
    connection = await connect(
        ApiClock(), environ={"KUBECONFIG": str(path)}, service_account=tmp_path
    )
    await connection.call("GET", POD)
    await connection.close()
    assert server.seen[0].headers["authorization"] == "Bearer secret"


async def test_a_refused_token_is_read_again_from_its_file(
    server: FakeApiServer, tmp_path: Path
) -> None:
    token = tmp_path / "the-token"
    token.write_text("old")
    path = a_kubeconfig(tmp_path, server.host, tokenFile=str(token))
    connection = await connect(
        ApiClock(), environ={"KUBECONFIG": str(path)}, service_account=tmp_path
    )
    await connection.call("GET", POD)
    token.write_text("new")
    server.faults = [Fault(401, status(401, "Unauthorized"))]
    answer = await connection.call("PATCH", POD, body=[])
    await connection.close()
    assert answer.status == 404
    sent = [seen.headers["authorization"] for seen in server.seen]
    assert sent == ["Bearer old", "Bearer old", "Bearer new"]


async def test_a_token_that_stays_refused_is_not_tried_for_ever(
    server: FakeApiServer, connection: Connection
) -> None:
    server.faults = [Fault(401, status(401, "Unauthorized"))] * 5
    with pytest.raises(UnavailableError, match="does not accept our token"):
        await connection.call("GET", POD)
    assert len(server.seen) == 2


async def test_many_refusals_read_the_token_once(server: FakeApiServer) -> None:
    reads: list[str] = []

    async def authorize() -> str:
        await asyncio.sleep(0)
        reads.append("")
        return f"Bearer {len(reads)}"

    connection = Connection(Configuration(host=server.host), ApiClock(), authorize)
    await connection.call("GET", POD)
    server.faults = [Fault(401, status(401, "Unauthorized"))] * 5
    await asyncio.gather(*(connection.call("GET", POD) for _ in range(5)))
    await connection.close()
    assert len(reads) == 2


async def test_a_token_that_cannot_be_read_is_a_passing_trouble(server: FakeApiServer) -> None:
    async def authorize() -> str:
        raise FileNotFoundError("token")

    connection = Connection(Configuration(host=server.host), ApiClock(), authorize)
    with pytest.raises(UnavailableError, match="cannot read our token"):
        await connection.call("GET", POD)
    await connection.close()


async def test_in_a_cluster_without_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with pytest.raises(SettingsError, match=r"ca\.crt"):
        await connect(
            ApiClock(),
            environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            service_account=tmp_path,
        )


async def test_many_calls_at_once_share_the_pool(
    server: FakeApiServer, connection: Connection
) -> None:
    server.faults = [Fault(404, "{}", stall_seconds=0.02)] * (3 * POOL)
    await asyncio.gather(*(connection.call("GET", POD) for _ in range(3 * POOL)))
    assert len({seen.port for seen in server.seen}) == POOL


async def test_calls_one_after_another_share_one_connection(
    server: FakeApiServer, connection: Connection
) -> None:
    for _ in range(5):
        await connection.call("GET", POD)
    assert len({seen.port for seen in server.seen}) == 1
