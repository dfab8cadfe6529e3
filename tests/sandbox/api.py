"""
A tiny JSON client for the API server: dictionaries in, dictionaries out, no generated classes.

It sets scenes and looks at results.  What is under test has a client of its own.
"""

import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx

from tests.sandbox.errors import SandboxError

Json = dict[str, Any]
PatchKind = Literal["merge", "strategic", "json", "apply"]

CONTENT_TYPES: Final[dict[PatchKind, str]] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
REQUEST_SECONDS = 30.0
NOT_FOUND = 404


class ApiError(SandboxError):
    """The API server said no."""

    def __init__(self, request: str, status: int, body: Json) -> None:
        super().__init__(
            f"{request}: {status} {body.get('reason', '')}: {body.get('message', body)}"
        )
        self.status = status
        """HTTP's number."""
        self.reason = str(body.get("reason", ""))
        """Kubernetes' word: NotFound, AlreadyExists, Conflict, Forbidden, Invalid, …."""
        self.body = body
        """The whole Status object."""


def path_to(
    api_version: str,
    resource: str,
    namespace: str | None = None,
    name: str | None = None,
    subresource: str | None = None,
) -> str:
    """
    Return the path of an object or, without `name`, of a collection.

    `resource` is the plural, as in the URL: `path_to("apps/v1", "deployments", "shop", "cart")`.
    """
    root = "/api" if "/" not in api_version else "/apis"
    parts = [root, api_version]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts += [part for part in (resource, name, subresource) if part is not None]
    return "/".join(parts)


class Api:
    """Requests to one API server as one user.  Any answer but 2xx raises ApiError."""

    def __init__(self, server: str, ca: Path, token: str, user_agent: str = "sandbox") -> None:
        self._client = httpx.Client(
            base_url=server,
            verify=ssl.create_default_context(cafile=str(ca)),
            headers={"Authorization": f"Bearer {token}", "User-Agent": user_agent},
            timeout=REQUEST_SECONDS,
            trust_env=False,  # A proxy of the machine has no business between us.
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **query: str) -> Json:
        """Return one object, or a list object for a collection's path."""
        return self.request("GET", path, query=query)

    def find(self, path: str) -> Json | None:
        """Return one object, or None if it is not there."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def list(self, path: str, **query: str) -> list[Json]:
        """Return the items of a collection; `query` may hold labelSelector and fieldSelector."""
        items: list[Json] = self.get(path, **query)["items"]
        return items

    def create(self, path: str, body: Json, **query: str) -> Json:
        """Create an object; `path` is the collection's, or a subresource's."""
        return self.request("POST", path, body, query=query)

    def replace(self, path: str, body: Json, **query: str) -> Json:
        return self.request("PUT", path, body, query=query)

    def patch(self, path: str, body: Any, kind: PatchKind = "merge", **query: str) -> Json:
        """Patch an object; `body` is a list of steps for `json`, an object for the others."""
        return self.request("PATCH", path, body, content_type=CONTENT_TYPES[kind], query=query)

    def apply(self, path: str, body: Json, manager: str = "sandbox", **query: str) -> Json:
        """Create or change an object server-side, winning every conflict."""
        return self.patch(path, body, "apply", fieldManager=manager, force="true", **query)

    def delete(self, path: str, **query: str) -> None:
        """Delete an object or, by its path, a collection; one that is not there is fine."""
        try:
            self.request("DELETE", path, query=query)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: dict[str, str] | None = None,
    ) -> Json:
        """Send one request.  Raises ApiError, or httpx.TransportError without an answer."""
        headers = {} if body is None else {"Content-Type": content_type}
        json = {} if body is None else {"json": body}
        answer = self._client.request(method, path, params=query, headers=headers, **json)
        content: Json = answer.json() if answer.content[:1] == b"{" else {"message": answer.text}
        if not answer.is_success:
            raise ApiError(f"{method} {path}", answer.status_code, content)
        return content

    def is_ready(self) -> bool:
        """Say whether the API server calls itself ready; one that does not answer is not."""
        try:
            return self._client.get("/readyz", timeout=2).is_success
        except httpx.TransportError:
            return False
