"""The real kubectl, of the same version as the control plane."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.build import Programs
from tests.sandbox.processes import Completed, Proc, Processes
from tests.sandbox.waiting import PATIENCE_SECONDS


@dataclass(frozen=True)
class Kubectl:
    """kubectl as one user.  Plugins are found, `kubectl irb` among them."""

    programs: Programs
    processes: Processes
    kubeconfig: Path

    def as_user(self, kubeconfig: Path) -> "Kubectl":
        """Return kubectl with another kubeconfig."""
        return Kubectl(self.programs, self.processes, kubeconfig)

    @property
    def argv0(self) -> str:
        return str(self.programs.path("kubectl"))

    @property
    def env(self) -> dict[str, str]:
        """The whole environment; discovery is cached in the sandbox's directory."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.processes.root),
            # Our own command, as a plugin, is beside the interpreter; kubectl itself is for it.
            "PATH": f"{Path(sys.executable).parent}:{self.programs.directory}:/usr/bin:/bin",
        }

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        check: bool = True,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> Completed:
        """Run kubectl to its end.  With `check`, a failure raises SandboxError with its words."""
        completed = self.processes.run(
            "kubectl", [self.argv0, *args], self.env, stdin=stdin, timeout_seconds=timeout_seconds
        )
        return completed.check() if check else completed

    def start(self, *args: str) -> Proc:
        """Start kubectl and leave it running: for a watch, or for many at once."""
        return self.processes.start("kubectl", [self.argv0, *args], self.env)
