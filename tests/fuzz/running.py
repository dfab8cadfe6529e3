"""The real bridge process, on a stand-in API server: what hostile input is sent to."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.fakes.apiserver import FakeApiServer
from tests.sandbox.components import Component
from tests.sandbox.ports import LOOPBACK, free_port
from tests.sandbox.processes import Processes

HOME: Final = "incident-rollback"
COUNTED: Final = re.compile(
    r'^incident_rollback_webhook_requests_total\{code="(\d+)",reason="(\w+)"\} ([\d.]+)$',
    re.MULTILINE,
)


@dataclass
class Target:
    """A bridge that runs, and all that can be seen of it from outside."""

    component: Component
    api: FakeApiServer
    port: int
    secret: str = field(repr=False)

    def sign(self, body: bytes) -> str:
        return hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()

    @property
    def creates(self) -> list[dict[str, Any]]:
        """The manifests that it asked the API server to create, refused ones too."""
        return [seen.body for seen in self.api.seen if seen.method == "POST"]

    @property
    def rss_bytes(self) -> int:
        return self.component.proc.rss_bytes()

    @property
    def sockets(self) -> int:
        """How many sockets it holds open."""
        links = Path(f"/proc/{self.component.proc.pid}/fd").iterdir()
        return sum(_target_of(link).startswith("socket:") for link in links)

    def counts(self) -> dict[tuple[int, str], int]:
        """Return how many answers it has given, by code and reason.  Not for the loop: it waits."""
        found = COUNTED.findall(self.component.metrics())
        given = ((int(code), reason, int(float(count))) for code, reason, count in found)
        return {(code, reason): count for code, reason, count in given if count}


def _target_of(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # Closed meanwhile.
        return ""


@asynccontextmanager
async def a_target() -> AsyncGenerator[Target]:
    """Run a bridge as its image does: the command, its settings, and a kubeconfig."""
    api = FakeApiServer()
    secret = secrets.token_hex(16)
    async with api.serving() as url:
        with Processes() as processes:
            component = _component(processes, url, secret)
            # In a thread, for the API server that it waits for is in this loop.
            await asyncio.to_thread(component.start)
            assert component.port is not None
            yield Target(component, api, component.port, secret)


def _component(processes: Processes, api_url: str, secret: str) -> Component:
    port, ops_port = free_port(), free_port()
    hmac_secrets = processes.root / "hmac"
    hmac_secrets.mkdir()
    (hmac_secrets / "current").write_text(secret, encoding="ascii")
    env = {
        "KUBECONFIG": str(_kubeconfig(processes.root / "kubeconfig", api_url)),
        "HOME": str(processes.root),
        "INCIDENT_ROLLBACK_NAMESPACE": HOME,
        "INCIDENT_ROLLBACK_BRIDGE_HOST": LOOPBACK,
        "INCIDENT_ROLLBACK_BRIDGE_PORT": str(port),
        "INCIDENT_ROLLBACK_OPS_HOST": LOOPBACK,
        "INCIDENT_ROLLBACK_OPS_PORT": str(ops_port),
        "INCIDENT_ROLLBACK_HMAC_SECRETS_DIR": str(hmac_secrets),
    }
    return Component("bridge", "bridge", processes, env, ops_port, port)


def _kubeconfig(path: Path, url: str) -> Path:
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fuzz",
        "clusters": [{"name": "fuzz", "cluster": {"server": url}}],
        "users": [{"name": "fuzz", "user": {}}],
        "contexts": [{"name": "fuzz", "context": {"cluster": "fuzz", "user": "fuzz"}}],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
