"""
One ApiClient a cluster, and one small `call` on it: dicts in, dicts out.

No generated API class and no model is used: they cost 33 MB and 0.7 s, and a model drops the
fields it does not know.  HTTP's errors become those of the error tree here, once.
"""

import asyncio
import json
import os
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import quote, urlencode

import aiohttp
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_kube_config,  # pyright: ignore[reportUnknownVariableType]  # its arguments are untyped
)

from incident_rollback.clients.clock import ApiClock
from incident_rollback.crd.v1alpha1 import FIELD_MANAGER
from incident_rollback.domain.raw import Json, child, children, text
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    RejectedError,
    SettingsError,
    ThrottledError,
    UnavailableError,
)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
OLDEST: Final = (1, 32)
"""The oldest Kubernetes that has all we rely on (selectable fields of custom resources)."""

CALL_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 2.0
KEEP_ALIVE_SECONDS: Final = 60.0
"""Less than the 90 s after which the API server closes an idle connection."""
POOL: Final = 20
"""Fewer connections than rollbacks at once: 100 of them cost 35 MB and bring no speed."""
WARM: Final = 3
"""As many connections as the first reads of a rollback use at once."""
PAGE: Final = 500
RETRIES: Final = (0.05, 0.2)
"""Longest pauses before a GET is tried again after its connection broke, in seconds."""
LONGEST_RETRY_AFTER: Final = 60.0
MAX_MESSAGE: Final = 1000

Authorize = Callable[[], Awaitable[str]]
"""Reads the value of the header Authorization afresh; "" when a client certificate speaks."""

OnAnswer = Callable[[str, str], None]
"""Called with the method and the status code of each answer; or with `TimedOut`, `Unreachable`."""

_DENIED: Final = re.compile(
    r'User "(?P<user>.+?)" cannot (?P<verb>\S+) resource "(?P<resource>.+?)"'
    r' in API group "(?P<group>.*?)"(?: in the namespace "(?P<namespace>.+?)")?'
)
_NOT_READY: Final = "not yet ready to handle request"
"""How admission says no while the API server starts; source: apiserver pkg/admission/plugin."""
_UNREADABLE: Final = (
    ConfigException,
    yaml.YAMLError,
    OSError,
    # What reading a kubeconfig of another shape ends in.
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said: success, or a 400, 404 or 422 that the caller judges."""

    status: int
    headers: Mapping[str, str]
    json: Json
    """{} when the body of an error is no JSON object."""

    @property
    def message(self) -> str:
        """The server's own words, or the status; cut, for it may quote a whole object."""
        return text(self.json, "message")[:MAX_MESSAGE] or f"HTTP {self.status}"

    @property
    def date(self) -> datetime | None:
        """The server's time of the answer, in whole seconds; None: it did not say."""
        try:
            date = parsedate_to_datetime(self.headers.get("Date", ""))
        except ValueError:
            return None
        return date if date.tzinfo else None


class _Response(Protocol):
    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes: ...


class _Rest(Protocol):
    """What we use of the untyped class RESTClientObject."""

    ssl_context: ssl.SSLContext

    async def close(self) -> None: ...

    async def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: object,
        *,
        _request_timeout: aiohttp.ClientTimeout,
    ) -> _Response: ...


def resource_path(*parts: str) -> str:
    """
    Return the path of a resource, each part quoted.

    An empty part would turn a read into a list, and dots would climb: such a name is refused
    here, for nothing of that name can exist.
    """
    wrong = next((part for part in parts if part in {"", ".", ".."}), None)
    if wrong is not None:
        raise InvalidRequestError(f"{wrong!r} is not the name of anything in Kubernetes")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def not_older_than(version: str) -> Mapping[str, str]:
    """
    Return the query of a list that must have seen a resourceVersion; "": all up to now.

    The API server answers it from memory as soon as it has come that far.  Up to now takes
    longer: it asks etcd how far that is, and whether nothing is missing each 100 ms only.
    Source: apiserver pkg/storage/cacher/progress/watch_progress.go, progressRequestPeriod.
    """
    if not version:
        return {}
    return {"resourceVersion": version, "resourceVersionMatch": "NotOlderThan"}


class Connection:
    """One cluster's API server, for the life of the process.  Make it inside the loop."""

    def __init__(
        self, configuration: Configuration, clock: ApiClock, authorize: Authorize | None = None
    ) -> None:
        self.clock = clock
        self._host = str(configuration.host).rstrip("/")
        self._rest = cast("_Rest", ApiClient(configuration).rest_client)
        # A connector of our own must carry the TLS context, and is ours to close.
        self._connector = aiohttp.TCPConnector(
            limit=POOL, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=self._rest.ssl_context
        )
        configuration.client_session_kwargs = {"connector": self._connector, "trust_env": False}
        self._authorize = authorize
        self._authorization: str | None = configuration.api_key.get("BearerToken")
        self._renewing = asyncio.Lock()
        self.on_answer: OnAnswer = lambda _method, _code: None

    async def close(self) -> None:
        """Close every connection."""
        await self._rest.close()
        await self._connector.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = CALL_SECONDS,  # noqa: ASYNC109  # it becomes aiohttp's own
    ) -> Answer:
        """
        Make one request, and return its answer when it is a success, 400, 404 or 422.

        A GET whose connection broke is tried twice more, for the server may close an idle
        connection just as it is used; a write is not, for it may have happened.
        Raises UnavailableError, ThrottledError, ForbiddenError, ConflictError; RejectedError
        when admission refused a write; InvalidRequestError on any other 4xx.
        """
        url = f"{self._host}{path}?{urlencode(query)}" if query else f"{self._host}{path}"
        request = _Request(method, url, body, content_type, accept, timeout)
        token = await self._token()
        answer = await self._ask(request, token)
        if answer.status == 401:
            answer = await self._ask(request, await self._token(refused=token))
        _raise_error(method, answer)
        return answer

    async def items(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        """
        Return all objects of a list, page by page, without their managedFields.

        Raises UnavailableError when there is no such list, for the kind is not installed, and
        InvalidRequestError when the selector is refused.
        """
        found: list[Json] = []
        asked: dict[str, str] = {**(query or {}), "limit": str(PAGE)}
        while True:
            answer = await self.call("GET", path, query=asked)
            if answer.status >= 400:
                kind = UnavailableError if answer.status == 404 else InvalidRequestError
                raise kind(f"cannot list {path}: {answer.message}")
            for item in children(answer.json, "items"):
                cast("Json", item.get("metadata") or {}).pop("managedFields", None)
                found.append(item)
            token = text(child(answer.json, "metadata"), "continue")
            if not token:
                return found
            # The token knows the version, and the server wants to hear it from nobody else.
            asked = {k: v for k, v in asked.items() if not k.startswith("resourceVersion")}
            asked["continue"] = token

    async def warm(self, connections: int = WARM) -> None:
        """Use as many connections, so that the next rollback need not open them."""
        await asyncio.gather(*(self.call("GET", "/version") for _ in range(connections)))

    async def server_version(self) -> tuple[int, int]:
        """
        Return Kubernetes' major and minor version.

        Raises SettingsError when it is too old.
        """
        said = (await self.call("GET", "/version")).json
        major, minor = (re.match(r"\d*", text(said, key)) for key in ("major", "minor"))
        version = (int(major[0] or 0) if major else 0, int(minor[0] or 0) if minor else 0)
        if version < OLDEST:
            needed = ".".join(map(str, OLDEST))
            raise SettingsError(
                f"Kubernetes {version[0]}.{version[1]} at {self._host} is too old: "
                f"{needed} or later is needed"
            )
        return version

    async def _token(self, refused: str | None = None) -> str:
        """Return the token, read again when the one that was refused is still in use."""
        async with self._renewing:
            if self._authorization == refused:
                self._authorization = await self._read_token()
            return self._authorization or ""

    async def _read_token(self) -> str:
        try:
            return await self._authorize() if self._authorize else ""
        except _UNREADABLE as error:
            raise UnavailableError(f"cannot read our token for the API server: {error}") from error

    async def _ask(self, request: "_Request", token: str) -> Answer:
        for pause in RETRIES if request.method == "GET" else ():
            try:
                return await self._exchange(request, token)
            except _ConnectionLostError:
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  # only spreads load
        return await self._exchange(request, token)

    async def _exchange(self, request: "_Request", token: str) -> Answer:
        sent = self.clock.monotonic()
        try:
            response = await self._rest.request(
                request.method,
                request.url,
                request.headers(token),
                request.body,
                _request_timeout=aiohttp.ClientTimeout(
                    total=request.timeout, sock_connect=CONNECT_SECONDS
                ),
            )
            received = self.clock.monotonic()
            raw = await response.read()
        except TimeoutError as error:
            self.on_answer(request.method, "TimedOut")
            raise UnavailableError(
                f"the API server did not answer within {request.timeout:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            self.on_answer(request.method, "Unreachable")
            raise _ConnectionLostError(f"the API server cannot be reached: {error}") from error
        self.on_answer(request.method, str(response.status))
        answer = Answer(response.status, response.headers, _json_object(raw, response.status))
        if answer.date is not None:
            self.clock.saw(answer.date, sent, received)
        return answer


async def connect(
    clock: ApiClock,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Connection:
    """
    Return a connection by the mounted ServiceAccount, else by `KUBECONFIG`.

    Nothing is sent yet.  Raises SettingsError when there is neither, or it cannot be read.
    """
    if (service_account / "token").is_file() and environ.get("KUBERNETES_SERVICE_HOST"):
        return _connect_in_cluster(clock, environ, service_account)
    if paths := environ.get("KUBECONFIG"):
        return await _connect_by_kubeconfig(clock, paths)
    raise SettingsError(
        "KUBECONFIG is not set, and no ServiceAccount is mounted: which cluster is meant?"
    )


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    body: object
    content_type: str
    accept: str
    timeout: float

    def headers(self, token: str) -> dict[str, str]:
        """Return the headers; the name in User-Agent is also the default field manager."""
        headers = {"Accept": self.accept, "User-Agent": FIELD_MANAGER}
        if self.body is not None:
            headers["Content-Type"] = self.content_type
        return {**headers, "Authorization": token} if token else headers


class _ConnectionLostError(UnavailableError):
    """The connection broke before the answer was read: a GET may be tried again at once."""


def _connect_in_cluster(
    clock: ApiClock, environ: Mapping[str, str], service_account: Path
) -> Connection:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    configuration = Configuration(host=f"https://{f'[{host}]' if ':' in host else host}:{port}")
    configuration.ssl_ca_cert = str(service_account / "ca.crt")

    def read() -> str:
        return f"Bearer {(service_account / 'token').read_text().strip()}"

    async def authorize() -> str:
        return read()

    try:
        return Connection(configuration, clock, authorize)
    except OSError as error:
        raise SettingsError(f"{service_account}: the ca.crt cannot be read: {error}") from error


async def _connect_by_kubeconfig(clock: ApiClock, paths: str) -> Connection:
    if not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path):  # noqa: ASYNC240  # at start
        raise SettingsError(f"KUBECONFIG: {paths} is not a file")

    async def load() -> Configuration:
        configuration = Configuration()
        await load_kube_config(  # type: ignore[no-untyped-call]  # the library's
            config_file=paths, client_configuration=configuration, persist_config=False
        )
        return configuration

    async def authorize() -> str:
        # The whole file, for its token may be in a file of its own or come from a plugin.
        return str((await load()).api_key.get("BearerToken", ""))

    try:
        return Connection(await load(), clock, authorize)
    except _UNREADABLE as error:
        why = " ".join(str(error).split())  # A YAML error has several lines.
        raise SettingsError(f"KUBECONFIG: {paths} cannot be used: {why}") from error


def _json_object(raw: bytes, status: int) -> Json:
    try:
        parsed: object = json.loads(raw)
    except ValueError as error:
        if status < 300:
            raise UnavailableError("the API server's answer is no JSON") from error
        return {}
    return cast("Json", parsed) if isinstance(parsed, dict) else {}


def _raise_error(method: str, answer: Answer) -> None:
    match answer.status:
        case status if status < 400 or status in {400, 404, 422}:
            return
        case 401:
            raise UnavailableError("the API server does not accept our token")
        case 403 if _NOT_READY in answer.message:
            raise UnavailableError("the API server is starting: admission is not ready yet")
        case 403:
            raise _refusal(method, answer)
        case 409:
            raise ConflictError(answer.message)
        case 429:
            raise ThrottledError(answer.message, retry_after=_retry_after(answer, 1.0))
        case status if status >= 500 or status in {408, 410}:
            # 410: the list that was being paged through is too old; the next one is not.
            raise UnavailableError(
                f"the API server failed: {answer.message}", retry_after=_retry_after(answer, 2.0)
            )
        case _:
            raise InvalidRequestError(answer.message)


def _refusal(method: str, answer: Answer) -> ForbiddenError | RejectedError:
    """Tell an authorizer's 403 from one of admission, which only writes pass through."""
    by_authorizer = re.search(r'User ".*" cannot ', answer.message)
    if method != "GET" and answer.json.get("kind") == "Status" and not by_authorizer:
        return RejectedError(answer.message)
    denied = _DENIED.search(answer.message)
    if denied is None:
        return ForbiddenError(answer.message)
    resource, _, subresource = denied["resource"].partition("/")
    what = ".".join(filter(None, (resource, denied["group"])))
    what = f"{what}/{subresource}" if subresource else what
    where = (
        f"in namespace {denied['namespace']}, or the namespace does not exist"
        if denied["namespace"]
        else "in the whole cluster"
    )
    return ForbiddenError(f"{denied['user']} may not {denied['verb']} {what} {where}")


def _retry_after(answer: Answer, otherwise: float) -> float:
    given = answer.headers.get("Retry-After", "")
    return min(float(given), LONGEST_RETRY_AFTER) if given.isdecimal() else otherwise
