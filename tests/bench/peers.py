"""
What people would use instead: `webhook` (Debian's package) whose hook runs `kubectl rollout undo`.

It gets the very same bytes, checks the same signature, and has the rights of an admin.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from tests.bench.machine import version_of
from tests.bench.sender import Webhook
from tests.sandbox.errors import SandboxError, ToolMissingError
from tests.sandbox.firehydrant_runbook import SIGNATURE_HEADER
from tests.sandbox.kubectl import Kubectl
from tests.sandbox.ports import LOOPBACK, free_port, is_listening
from tests.sandbox.processes import Proc
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.waiting import wait_for

PROGRAM: Final = "webhook"
HOOK: Final = "undo"
UNDO_SECONDS: Final = 60.0
ACCOUNT: Final = "peer"
ADVICE: Final = "make bench compares with `webhook`: install Debian's package (apt install webhook)"


def webhook_program() -> str:
    """Return where `webhook` is.  Raises ToolMissingError with what to install."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise ToolMissingError(ADVICE)
    return found


def versions() -> dict[str, str]:
    return {PROGRAM: version_of([webhook_program(), "-version"], r"version (\S+)")}


@dataclass(frozen=True)
class Undone:
    """A `kubectl rollout undo` that was run; instants in seconds since 1970."""

    at: float
    """Just before exec."""
    ended_at: float
    """When its end was seen; of several, the last one's is exact."""


@dataclass(frozen=True)
class Peer:
    """`webhook` at work, and the kubectl that it runs."""

    proc: Proc
    kubectl: Kubectl
    namespace: str
    url: str

    @classmethod
    def start(cls, sandbox: Sandbox, namespace: str, secret: str) -> Self:
        """Start it, and wait until it listens."""
        sandbox.kubectl.run("create", "serviceaccount", ACCOUNT, "-n", namespace)
        who = ("--clusterrole=admin", f"--serviceaccount={namespace}:{ACCOUNT}", "-n", namespace)
        sandbox.kubectl.run("create", "rolebinding", ACCOUNT, *who)
        kubectl = sandbox.kubectl_as(namespace, ACCOUNT)
        kubectl.run("get", "deployments", "-n", namespace)  # Fills its cache of what there is.
        port = free_port()
        hooks = sandbox.root / "hooks.json"
        hooks.write_text(json.dumps([hook(kubectl.argv0, secret)]), encoding="utf-8")
        proc = sandbox.processes.start(
            PROGRAM,
            [webhook_program(), "-hooks", str(hooks), "-ip", LOOPBACK, "-port", str(port)],
            kubectl.env,
        )
        wait_for(lambda: is_listening(port), "webhook to listen", seen=proc.log_tail)
        return cls(proc, kubectl, namespace, f"http://{LOOPBACK}:{port}/hooks/{HOOK}")

    def webhook(self, body: bytes, signature: str) -> Webhook:
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature}
        return Webhook(self.url, body, headers)

    def undo(self, names: Sequence[str]) -> list[Undone]:
        """
        Run `kubectl rollout undo` for all of them at once, to the end of the last one.

        Started right here: the sandbox's supervisor takes longer for it, which would count for us.
        """
        command = [self.kubectl.argv0, "rollout", "undo", "-n", self.namespace]
        started: list[tuple[float, subprocess.Popen[bytes]]] = []
        for name in names:
            at = time.time()
            proc = subprocess.Popen(  # noqa: S603  # kubectl, as the sandbox has built it
                [*command, f"deployment/{name}"],
                env=self.kubectl.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            started.append((at, proc))
        return [Undone(at, _ended(proc)) for at, proc in started]


def _ended(proc: subprocess.Popen[bytes]) -> float:
    """Wait for the end of a process, and return when that was seen.  Raises SandboxError."""
    try:
        code = proc.wait(UNDO_SECONDS)
    except subprocess.TimeoutExpired:
        proc.kill()
        code = proc.wait()
    if code != 0:
        raise SandboxError(f"kubectl rollout undo ended with {code}")
    return time.time()


def hook(kubectl: str, secret: str) -> dict[str, object]:
    """Return the hook that a person would write for Relay's template."""
    words = [
        *({"source": "string", "name": word} for word in ("rollout", "undo", "deployment")),
        {"source": "payload", "name": "service"},
        {"source": "string", "name": "-n"},
        {"source": "payload", "name": "environment"},
    ]
    signed = {
        "type": "payload-hmac-sha256",
        "secret": secret,
        "parameter": {"source": "header", "name": SIGNATURE_HEADER.title()},
    }
    return {
        "id": HOOK,
        "execute-command": kubectl,
        "pass-arguments-to-command": words,
        "trigger-rule": {"match": signed},
    }
