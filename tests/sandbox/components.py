"""Our own processes, run as they would run in a cluster: same command, same rights."""

import http.client
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.sandbox.errors import SandboxError
from tests.sandbox.ports import LOOPBACK
from tests.sandbox.processes import Proc, Processes
from tests.sandbox.waiting import PATIENCE_SECONDS, wait_for

PROBE_SECONDS = 5.0
SOURCES = Path(__file__).parents[2] / "operator"


@dataclass
class Component:
    """
    A controller or bridge that can be stopped, killed and started again on the same ports.

    `env` is what it is told by environment variables; change it between `stop` and `start`.
    """

    name: str
    command: str
    processes: Processes
    env: dict[str, str]
    ops_port: int
    port: int | None = None
    _procs: list[Proc] = field(default_factory=list[Proc])

    @property
    def proc(self) -> Proc:
        """The latest process.  Raises SandboxError before the first start."""
        if not self._procs:
            raise SandboxError(f"{self.name} was not started")
        return self._procs[-1]

    @property
    def url(self) -> str:
        """Where it serves.  Raises SandboxError for one that serves nothing but probes."""
        if self.port is None:
            raise SandboxError(f"{self.name} serves nothing")
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def ops_url(self) -> str:
        """Where its probes and metrics are."""
        return f"http://{LOOPBACK}:{self.ops_port}"

    def start(self, *, wait_ready: bool = True) -> Proc:
        """Start it and, unless told otherwise, wait until it is ready."""
        self._procs.append(self.launch())
        if wait_ready:
            self.wait_ready()
        return self.proc

    def launch(self) -> Proc:
        argv = [sys.executable, "-m", "incident_rollback", self.command]
        return self.processes.start(self.name, argv, {**base_environment(), **self.env})

    def wait_ready(self, *, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until /readyz says so.  Raises SandboxError at once if the process ends before."""
        last: list[str] = []

        def is_ready() -> bool:
            if not self.proc.is_running():
                raise SandboxError(f"{self.name} ended before it was ready:\n{self.log_tail()}")
            try:
                status, text = self.ask_ops("/readyz")
            except OSError as error:
                last[:] = [repr(error)]
                return False
            last[:] = [f"{status} {text}"]
            return status == http.client.OK

        wait_for(
            is_ready,
            f"{self.name} to be ready",
            timeout_seconds=timeout_seconds,
            every_seconds=0.02,
            seen=lambda: f"{last}; its log ends:\n{self.log_tail()}",
        )

    def metrics(self) -> str:
        """Return what it tells Prometheus."""
        return self.ask_ops("/metrics")[1]

    def ask_ops(self, path: str) -> tuple[int, str]:
        """
        Return status and body of a GET on the probes' port.  Raises OSError without an answer.

        Not by httpx: that loads the certificates of the world each time, on the processor time of
        the process that is being waited for.
        """
        connection = http.client.HTTPConnection(LOOPBACK, self.ops_port, timeout=PROBE_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP from {self.name}: {error!r}") from error
        finally:
            connection.close()

    def stop(self) -> float:
        """Send SIGTERM, wait for the end, and return how many seconds that took."""
        return self.proc.stop()

    def kill(self) -> None:
        """Kill it without warning, and wait for the end."""
        self.proc.kill(signal.SIGKILL)
        self.proc.wait()

    def restart(self) -> Proc:
        """Stop it in an orderly way, start it again, and wait until it is ready."""
        self.stop()
        return self.start()

    def log_text(self) -> str:
        """Return what the latest process has logged."""
        return self.proc.log_text()

    def log_tail(self, lines: int = 20) -> str:
        return self.proc.log_tail(lines)


def base_environment() -> dict[str, str]:
    """Return what every process of ours is told; nothing of the runner's own environment."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(SOURCES),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
    }
