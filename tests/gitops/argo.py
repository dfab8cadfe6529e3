"""
Argo CD on the sandbox, and Applications of local git repositories.

Its application-controller, its repo-server and a Redis run; nobody needs its web server here.
"""

import base64
import json
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tests.e2e.stage import CONTROLLER_USER, ROOT
from tests.gitops.ground import install_crds, make_deployer
from tests.gitops.tools import ARGO_CD, see_that_all_is_there
from tests.sandbox.api import Api, Json, path_to
from tests.sandbox.build import CRDS, Say, built
from tests.sandbox.ports import LOOPBACK, free_port, is_listening
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.waiting import wait_for

if TYPE_CHECKING:
    from tests.sandbox.processes import Proc

NAMESPACE: Final = "argocd"
ACCOUNT: Final = "argocd-application-controller"
MANAGER: Final = "argocd-controller"
"""What it calls itself as a field manager."""
API_VERSION: Final = "argoproj.io/v1alpha1"
CLUSTER: Final = "sandbox"
RIGHTS: Final = ROOT / "manifests/argo-cd"
"""What lets the operator look at Applications."""
PART: Final = {"app.kubernetes.io/part-of": "argocd"}


class ArgoCD:
    """Argo CD for as long as a `with` block; the operator may look at its Applications."""

    def __init__(self, sandbox: Sandbox, say: Say) -> None:
        self.sandbox = sandbox
        self._say = say
        self._procs: list[Proc] = []
        self._bin = sandbox.root / "argocd-bin"

    def __enter__(self) -> Self:
        see_that_all_is_there()
        program = built(ARGO_CD, self.sandbox.processes, self._say)
        self._bin.mkdir()
        for name in ("argocd-repo-server", ACCOUNT):
            (self._bin / name).symlink_to(program / ARGO_CD.files[0])
        install_crds(self.sandbox, program / CRDS)
        make_deployer(self.sandbox, NAMESPACE, ACCOUNT)
        self._configure()
        self.let_look()
        self._start_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for proc in reversed(self._procs):
            proc.stop()

    def application(self, name: str) -> "Application":
        """Return an Application that is yet to be made, with an empty repository."""
        repository = self.sandbox.root / "git" / name
        repository.mkdir(parents=True)
        application = Application(self, name, repository)
        application.git("init", "--quiet", "--initial-branch=main")
        return application

    def let_look(self) -> None:
        """Let the operator look at Applications, as its manifests do."""
        self.sandbox.install(RIGHTS)
        self._wait_may_look(may=True)

    def forbid_to_look(self) -> None:
        """Take that right away again."""
        self.sandbox.kubectl.run("delete", "-k", str(RIGHTS))
        self._wait_may_look(may=False)

    def said(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(f"{proc.name} said\n{proc.log_tail()}" for proc in self._procs)

    def _wait_may_look(self, *, may: bool) -> None:
        asked = {"namespace": NAMESPACE, "verb": "get", "group": "argoproj.io"}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": CONTROLLER_USER,
                "resourceAttributes": {**asked, "resource": "applications"},
            },
        }
        path = path_to("authorization.k8s.io/v1", "subjectaccessreviews")
        wait_for(
            lambda: self.sandbox.api.create(path, review)["status"]["allowed"] is may,
            f"the right to look at Applications to be {may}",
        )

    def _configure(self) -> None:
        """Write what its installation would bring: settings, a project, and our one cluster."""
        plane = self.sandbox.control_plane
        reach = {
            "bearerToken": plane.token(NAMESPACE, ACCOUNT),
            "tlsClientConfig": {"caData": base64.b64encode(plane.ca.read_bytes()).decode()},
        }
        cluster = {"name": CLUSTER, "server": plane.server, "config": json.dumps(reach)}
        everywhere = [{"namespace": "*", "server": "*"}]
        everything = [{"group": "*", "kind": "*"}]
        project = {
            "sourceRepos": ["*"],
            "destinations": everywhere,
            "clusterResourceWhitelist": everything,
        }
        key = {"server.secretkey": secrets.token_hex(16)}
        kind = {"argocd.argoproj.io/secret-type": "cluster"}
        self._write("v1", "ConfigMap", "argocd-cm", {}, PART)
        self._write("v1", "Secret", "argocd-secret", {"stringData": key}, PART)
        self._write("v1", "Secret", "cluster", {"stringData": cluster}, kind)
        self._write(API_VERSION, "AppProject", "default", {"spec": project})

    def _write(
        self,
        api_version: str,
        kind: str,
        name: str,
        body: Json,
        labels: dict[str, str] | None = None,
    ) -> None:
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
        self.sandbox.api.create(
            path_to(api_version, f"{kind.lower()}s", NAMESPACE),
            {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body},
        )

    def _start_all(self) -> None:
        redis, repo = free_port(), free_port()
        self._start(
            redis,
            str(shutil.which("redis-server")),
            *("--bind", LOOPBACK, "--port", str(redis)),
            *("--save", "", "--appendonly", "no", "--dir", str(self.sandbox.root)),
        )
        self._start(
            repo,
            str(self._bin / "argocd-repo-server"),
            *("--port", str(repo), "--metrics-port", str(free_port())),
            *("--redis", f"{LOOPBACK}:{redis}", "--disable-tls"),
        )
        metrics = free_port()
        kubeconfig = self.sandbox.control_plane.token_kubeconfig(NAMESPACE, ACCOUNT)
        self._start(
            metrics,
            str(self._bin / ACCOUNT),
            *("--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE),
            *("--repo-server", f"{LOOPBACK}:{repo}", "--repo-server-plaintext"),
            *("--redis", f"{LOOPBACK}:{redis}", "--metrics-port", str(metrics)),
        )

    def _start(self, port: int, program: str, *args: str) -> None:
        """Start one of them, and wait until it listens."""
        root = str(self.sandbox.root)
        env = {
            # It runs git, and itself, by name.
            "PATH": f"{self._bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": root,
            "TMPDIR": root,
            "GIT_ALLOW_PROTOCOL": "file",
            "ARGOCD_GPG_ENABLED": "false",
        }
        proc = self.sandbox.processes.start(Path(program).name, [program, *args], env)
        self._procs.append(proc)
        wait_for(lambda: is_listening(port), proc.name, seen=proc.log_tail)


@dataclass(frozen=True)
class Application:
    """An Application and the git repository of it."""

    argo: ArgoCD
    name: str
    repository: Path

    def make(self, automated: Json) -> None:
        """Make the Application; `automated` says how it syncs by itself."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "Application",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": self.repository.as_uri(),
                    "path": ".",
                    "targetRevision": "main",
                },
                "destination": {"name": CLUSTER, "namespace": self.name},
                "syncPolicy": {"automated": automated},
            },
        }
        self._api.apply(self._path, body)

    def commit(self, manifest: Json) -> None:
        """Commit another manifest, and return when it is synced."""
        (self.repository / "deployment.yaml").write_text(json.dumps(manifest), encoding="utf-8")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "release")
        revision = self.git("rev-parse", "HEAD")
        self.refresh()
        wait_for(
            lambda: self._synced_revision() == revision,
            f"Argo CD to sync {self.name}",
            seen=lambda: f"{self.status()}\n{self.argo.said()}",
        )

    def refresh(self) -> None:
        """Have Argo CD compare it anew, and return when it has."""
        asked = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = "argocd.argoproj.io/refresh"
        self._api.patch(self._path, {"metadata": {"annotations": {key: "hard"}}})

        def is_compared() -> bool:
            found = self._api.get(self._path)
            is_asked = key in found["metadata"].get("annotations", {})
            return not is_asked and found.get("status", {}).get("reconciledAt", "") >= asked

        wait_for(is_compared, f"Argo CD to look at {self.name}", seen=self.argo.said)

    def sync_state(self) -> str:
        """Return Synced, OutOfSync or Unknown."""
        return str(self.status().get("sync", {}).get("status", ""))

    def status(self) -> Json:
        """Return the status of the Application."""
        status: Json = self._api.get(self._path).get("status", {})
        return status

    def delete(self) -> None:
        """Have Argo CD forget it; what it applied stays."""
        self._api.delete(self._path)

    def git(self, *args: str) -> str:
        """Run git in the repository, and return what it said."""
        env = {
            "HOME": str(self.argo.sandbox.root),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A developer",
            "GIT_AUTHOR_EMAIL": "developer@shop.invalid",
            "GIT_COMMITTER_NAME": "A developer",
            "GIT_COMMITTER_EMAIL": "developer@shop.invalid",
        }
        git = str(shutil.which("git"))
        run = self.argo.sandbox.processes.run("git", [git, *args], env, cwd=self.repository)
        return run.check().stdout.strip()

    def _synced_revision(self) -> str:
        sync = self.status().get("sync", {})
        return str(sync.get("revision", "")) if sync.get("status") == "Synced" else ""

    @property
    def _api(self) -> Api:
        return self.argo.sandbox.api

    @property
    def _path(self) -> str:
        return path_to(API_VERSION, "applications", NAMESPACE, self.name)
