"""
The other peer, where it is installed: ansible-rulebook, whose rule runs `kubectl rollout undo`.

It has a webhook of its own that checks the same signature, and a rule that a person would write.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.bench.machine import version_of
from tests.bench.peers import Peer
from tests.bench.sender import Webhook
from tests.sandbox.firehydrant_runbook import SIGNATURE_HEADER
from tests.sandbox.ports import LOOPBACK, free_port, is_listening
from tests.sandbox.processes import Proc
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.waiting import wait_for

PROGRAM: Final = "ansible-rulebook"
INVENTORY: Final = "localhost ansible_connection=local\n"


def left_out() -> list[str]:
    """Say that it was left out, where it was."""
    found = shutil.which(PROGRAM)
    return [] if found else [f"{PROGRAM} is not installed here: left out"]


def versions() -> dict[str, str]:
    """Return its version; nothing where it is not installed."""
    found = shutil.which(PROGRAM)
    return {PROGRAM: version_of([found, "--version"], r"\[(\S+)\]")} if found else {}


@dataclass(frozen=True)
class Rulebook:
    """ansible-rulebook at work."""

    proc: Proc
    url: str

    @classmethod
    def start(cls, sandbox: Sandbox, peer: Peer, secret: str) -> Self | None:
        """Start it with the rights of the other peer; None where it is not installed."""
        found = shutil.which(PROGRAM)
        if found is None:
            return None
        port = free_port()
        rules = sandbox.root / "rulebook.yml"
        rules.write_text(json.dumps([ruleset(peer.kubectl.argv0, port, secret)]), encoding="utf-8")
        inventory = sandbox.root / "inventory"
        inventory.write_text(INVENTORY, encoding="utf-8")
        proc = sandbox.processes.start(
            PROGRAM,
            [found, "--rulebook", str(rules), "--inventory", str(inventory)],
            # It runs Ansible's commands, which are beside it.
            {
                **peer.kubectl.env,
                "PATH": f"{Path(found).parent}:/usr/bin:/bin",
                "LANG": "C.UTF-8",
            },
        )
        wait_for(lambda: is_listening(port), f"{PROGRAM} to listen", seen=proc.log_tail)
        return cls(proc, f"http://{LOOPBACK}:{port}/undo")

    def webhook(self, body: bytes, signature: str) -> Webhook:
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature}
        return Webhook(self.url, body, headers)

    def stop(self) -> None:
        """End it: idle, it still takes processor time."""
        self.proc.kill()
        self.proc.wait()


def ruleset(kubectl: str, port: int, secret: str) -> dict[str, Any]:
    """Return the rules that a person would write for Relay's template; JSON is YAML too."""
    where = "{{ event.payload.service }} -n {{ event.payload.environment }}"
    signed = {"hmac_secret": secret, "hmac_header": SIGNATURE_HEADER}
    source = {
        "name": "firehydrant",
        "eda.builtin.webhook": {"host": LOOPBACK, "port": port, **signed},
    }
    command = {"cmd": f"{kubectl} rollout undo deployment {where}"}
    action = {"run_module": {"name": "ansible.builtin.command", "module_args": command}}
    rule = {"name": "undo", "condition": "event.payload.service is defined", "action": action}
    return {"name": "rollback", "hosts": "all", "sources": [source], "rules": [rule]}
