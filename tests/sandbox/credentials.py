"""Kubeconfigs, and what a pod would find mounted: how a process gets to be a certain user."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.sandbox.api import Api, path_to

TOKEN_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Mounted:
    """
    The files and variables that a pod has, for what reads in-cluster configuration.

    Client libraries look under /var/run/secrets/kubernetes.io/serviceaccount and nowhere else, so
    without being told about `directory` they will not find it.
    """

    directory: Path
    """Holds `token`, `ca.crt` and `namespace`."""
    env: dict[str, str]
    """KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT."""


def write_kubeconfig(
    path: Path, *, server: str, ca: Path, token: str, namespace: str = "default"
) -> Path:
    """Write a kubeconfig with one context, readable by us alone."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [
            {"name": "sandbox", "cluster": {"server": server, "certificate-authority": str(ca)}}
        ],
        "users": [{"name": "sandbox", "user": {"token": token}}],
        "contexts": [
            {
                "name": "sandbox",
                "context": {"cluster": "sandbox", "user": "sandbox", "namespace": namespace},
            }
        ],
    }
    write_secret(path, yaml.safe_dump(content))
    return path


def write_secret(path: Path, content: str) -> None:
    """Write a file that others on the machine cannot read; kubectl complains otherwise."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(content, encoding="utf-8")


def service_account_token(
    admin: Api, namespace: str, name: str, *, expires_seconds: int = TOKEN_SECONDS
) -> str:
    """Ask for a token of a ServiceAccount, as kubelet does.  Raises ApiError if it is not there."""
    answer = admin.create(
        path_to("v1", "serviceaccounts", namespace, name, "token"),
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": expires_seconds},
        },
    )
    token: str = answer["status"]["token"]
    return token


def write_mounted(directory: Path, *, server: str, ca: Path, token: str, namespace: str) -> Mounted:
    """Lay out what kubelet mounts into every pod."""
    directory.mkdir(parents=True)
    write_secret(directory / "token", token)
    (directory / "ca.crt").write_bytes(ca.read_bytes())
    (directory / "namespace").write_text(namespace, encoding="ascii")
    host, _, port = server.removeprefix("https://").partition(":")
    env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    return Mounted(directory, env)
