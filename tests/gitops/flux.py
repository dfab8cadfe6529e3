"""
Flux's kustomize-controller on the sandbox, and sources that it keeps workloads by.

Only that controller runs.  In place of its source-controller we serve tarballs over loopback, and
write on a GitRepository what the source-controller would have written.
"""

import hashlib
import http.client
import io
import json
import tarfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.gitops.ground import install_crds, make_deployer
from tests.gitops.tools import FLUX
from tests.sandbox.api import Api, Json, path_to
from tests.sandbox.build import CRDS, Say, built
from tests.sandbox.ports import LOOPBACK, free_port
from tests.sandbox.processes import Proc
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.waiting import wait_for

NAMESPACE: Final = "flux-system"
CONTROLLER: Final = "kustomize-controller"
"""The program, its account, and its field manager."""
USER: Final = f"system:serviceaccount:{NAMESPACE}:{CONTROLLER}"
SOURCES: Final = "source.toolkit.fluxcd.io/v1"
KUSTOMIZATIONS: Final = "kustomize.toolkit.fluxcd.io/v1"
INTERVAL: Final = "5s"
WITNESS: Final = "witness"


class Flux:
    """The controller for as long as a `with` block."""

    def __init__(self, sandbox: Sandbox, say: Say) -> None:
        self.sandbox = sandbox
        self._say = say
        self._shelf = sandbox.root / "artifacts"
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        program = built(FLUX, self.sandbox.processes, self._say)
        install_crds(self.sandbox, program / CRDS)
        make_deployer(self.sandbox, NAMESPACE, CONTROLLER)
        self._shelf.mkdir()
        with ExitStack() as cleanup:
            shelf = partial(Shelf, directory=str(self._shelf))
            self._server = cleanup.enter_context(ThreadingHTTPServer((LOOPBACK, 0), shelf))
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
            cleanup.callback(self._server.shutdown)
            self.proc = self._start(program)
            cleanup.callback(self.proc.stop)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def _start(self, program: Path) -> Proc:
        health = free_port()
        proc = self.sandbox.processes.start(
            CONTROLLER,
            [
                str(program / CONTROLLER),
                *(f"--metrics-addr={LOOPBACK}:{free_port()}", f"--health-addr={LOOPBACK}:{health}"),
                *("--events-addr=", "--enable-leader-election=false"),
            ],
            {
                "KUBECONFIG": str(
                    self.sandbox.control_plane.token_kubeconfig(NAMESPACE, CONTROLLER)
                ),
                "RUNTIME_NAMESPACE": NAMESPACE,
                "HOME": str(self.sandbox.root),
                "TMPDIR": str(self.sandbox.root),
            },
        )
        wait_for(lambda: is_ready(health), CONTROLLER, seen=proc.log_tail)
        return proc

    def source(self, name: str) -> "Source":
        """Return an empty source, and have Flux apply whatever will be committed to it."""
        return Source(self, name)

    def publish(self, content: bytes) -> str:
        """Serve an artifact, and return where."""
        name = f"{hashlib.sha256(content).hexdigest()}.tar.gz"
        (self._shelf / name).write_bytes(content)
        return f"http://{LOOPBACK}:{self._server.server_port}/{name}"


class Shelf(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base names it so
        pass


@dataclass(frozen=True)
class Source:
    """A GitRepository and the Kustomization of it, both of one name."""

    flux: Flux
    name: str

    def commit(self, manifest: Json) -> None:
        """
        Replace what is in the source, and return when Flux has applied it.

        A ConfigMap is added beside it: Flux looks at that in every pass.
        """
        witness = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": WITNESS, "namespace": manifest["metadata"]["namespace"]},
        }
        content = tarball([manifest, witness])
        digest = hashlib.sha256(content).hexdigest()
        revision = f"main@sha1:{digest[:40]}"
        self._make(KUSTOMIZATIONS, "Kustomization", self._kustomization_spec)
        self._make(SOURCES, "GitRepository", {"interval": "1h", "url": "https://git.invalid/shop"})
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {
            "observedGeneration": 1,
            "artifact": {
                "url": self.flux.publish(content),
                "path": self.name,
                "revision": revision,
                "digest": f"sha256:{digest}",
                "size": len(content),
                "lastUpdateTime": now,
            },
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Succeeded",
                    "message": f"stored artifact for revision {revision}",
                    "lastTransitionTime": now,
                }
            ],
        }
        path = path_to(SOURCES, "gitrepositories", NAMESPACE, self.name)
        self._api.patch(f"{path}/status", {"status": status})
        wait_for(
            lambda: self.status().get("lastAppliedRevision") == revision,
            f"Flux to apply {self.name}",
            seen=lambda: f"{self.status()}\n{self.flux.proc.log_tail()}",
        )

    def status(self) -> Json:
        """Return the status of the Kustomization."""
        status: Json = self._api.get(self._kustomization).get("status", {})
        return status

    def wait_passes(self, count: int) -> None:
        """Wait until Flux has gone over the whole source so many times, from its beginning on."""
        since = self.flux.sandbox.audit.mark()

        def passes() -> int:
            looked = self.flux.sandbox.audit.where(
                since=since, user=USER, verb="patch", resource="configmaps", name=WITNESS
            )
            return len([r for r in looked if r.is_dry_run and r.namespace == self.name])

        # One more: that it looked at the witness says that the pass before is over.
        wait_for(
            lambda: passes() > count,
            f"{count} passes of Flux over {self.name}",
            seen=self.flux.proc.log_tail,
        )

    def delete(self) -> None:
        """Have Flux forget it; what it applied goes with it."""
        self._api.delete(self._kustomization)
        self._api.delete(path_to(SOURCES, "gitrepositories", NAMESPACE, self.name))

    @property
    def _api(self) -> Api:
        return self.flux.sandbox.api

    @property
    def _kustomization(self) -> str:
        return path_to(KUSTOMIZATIONS, "kustomizations", NAMESPACE, self.name)

    @property
    def _kustomization_spec(self) -> Json:
        return {
            "interval": INTERVAL,
            "path": "./",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": self.name},
        }

    def _make(self, api_version: str, kind: str, spec: Json) -> None:
        resources = {"Kustomization": "kustomizations", "GitRepository": "gitrepositories"}
        body = {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": spec,
        }
        self._api.apply(path_to(api_version, resources[kind], NAMESPACE, self.name), body)


def tarball(manifests: list[Json]) -> bytes:
    """Return a .tar.gz with a file for each manifest."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for number, manifest in enumerate(manifests):
            content = json.dumps(manifest).encode()  # JSON is YAML.
            entry = tarfile.TarInfo(f"{number}.yaml")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def is_ready(port: int) -> bool:
    """Say whether the controller calls itself ready."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
