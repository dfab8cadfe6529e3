"""The cluster as whoever runs the command sees it: by their kubeconfig, and with their rights."""

import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import yaml

from incident_rollback.clients.clock import ApiClock
from incident_rollback.clients.cluster import KubernetesCluster
from incident_rollback.clients.connection import Connection, connect
from incident_rollback.clients.store import KubernetesStore
from incident_rollback.domain.raw import Json, child, children, text
from incident_rollback.settings import read_settings

DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True)
class Session:
    """One cluster, for one command."""

    connection: Connection
    clock: ApiClock
    home: str
    """The operator's home namespace."""

    @property
    def cluster(self) -> KubernetesCluster:
        """The workloads."""
        return KubernetesCluster(self.connection)

    def store(self, namespace: str = "") -> KubernetesStore:
        """Return our resources; new ones are made in `namespace`, else in the home namespace."""
        return KubernetesStore(self.connection, namespace or self.home)


@asynccontextmanager
async def session(
    *, home: str = "", environ: Mapping[str, str] = os.environ
) -> AsyncGenerator[Session]:
    """
    Connect by `KUBECONFIG` or ~/.kube/config, and learn the API server's time.

    Raises SettingsError when there is neither, UnavailableError when nobody answers.
    """
    clock = ApiClock()
    paths = kubeconfig(environ)
    connection = await connect(clock, environ={**environ, "KUBECONFIG": paths})
    try:
        await connection.server_version()
        yield Session(connection, clock, home or read_settings().namespace)
    finally:
        await connection.close()


def kubeconfig(environ: Mapping[str, str] = os.environ) -> str:
    """Return the paths of the kubeconfig, as kubectl does."""
    return environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def own_namespace(environ: Mapping[str, str] = os.environ) -> str:
    """Return the namespace of the current context, as kubectl does; else `default`."""
    found: list[Json] = []
    for path in filter(None, kubeconfig(environ).split(os.pathsep)):
        try:
            read: object = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # Connecting says what is wrong with it.
        if isinstance(read, dict):
            found.append(cast("Json", read))
    return namespace_in(found)


def namespace_in(kubeconfigs: Iterable[Json]) -> str:
    """Return the namespace of the current context; the first file that names something wins."""
    files = list(kubeconfigs)
    current = next((name for file in files if (name := text(file, "current-context"))), "")
    contexts = (context for file in files for context in children(file, "contexts"))
    chosen = next((c for c in contexts if text(c, "name") == current), Json())
    return text(child(chosen, "context"), "namespace") or DEFAULT_NAMESPACE
