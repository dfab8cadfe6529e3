"""
Starting processes that cannot outlive the one that started them.

Everything goes through one supervisor process, which ends all the others when this one is gone,
however it went.  Calls are short and synchronous; any thread may make them.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.sandbox import supervisor as supervisor_script
from tests.sandbox.errors import NotReadyError, SandboxError
from tests.sandbox.waiting import PATIENCE_SECONDS, wait_for

GONE_WITHIN_SECONDS = 10.0
"""For the supervisor to end: its grace, its search for orphans, and a busy machine."""


@dataclass(frozen=True)
class Report:
    """What the supervisor knows of a process.  Instants compare with `time.monotonic()`."""

    number: int
    pid: int
    started_at: float
    exited_at: float | None
    returncode: int | None


@dataclass(frozen=True)
class Completed:
    """A process that has run to its end, with what it said."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    started_at: float
    exited_at: float

    def check(self) -> Self:
        """Return this, or raise SandboxError with what the process complained of."""
        if self.returncode != 0:
            said = (self.stderr or self.stdout).strip()
            raise SandboxError(f"{' '.join(self.argv)} ended with {self.returncode}: {said}")
        return self


@dataclass(frozen=True)
class Proc:
    """A process of the sandbox, running or not."""

    name: str
    argv: tuple[str, ...]
    number: int
    pid: int
    started_at: float
    """Just before exec, in seconds of `time.monotonic()`."""
    log_path: Path
    """Standard output and error together, unless the caller asked for two files."""
    owner: "Processes"

    def report(self) -> Report:
        """Ask how it is."""
        return self.owner.report(self.number)

    def is_running(self) -> bool:
        return self.report().returncode is None

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal; nothing happens to a process that has ended."""
        self.owner.ask(op="signal", number=self.number, signal=int(sig))

    def freeze(self) -> None:
        """Send SIGSTOP, and return when no thread of it runs any more; SIGCONT lets it go on."""
        self.kill(signal.SIGSTOP)
        wait_for(
            lambda: states_of(self.pid) <= {"T"},
            f"{self.name} (process {self.pid}) to stand still",
            every_seconds=0.01,
            seen=lambda: f"its threads are {states_of(self.pid)}",
        )

    def wait(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end and return its code, negative for a signal.  Raises NotReadyError."""
        wait_for(
            lambda: not self.is_running(),
            f"{self.name} (process {self.pid}) to end",
            timeout_seconds=timeout_seconds,
            every_seconds=0.01,
            seen=lambda: f"still running; its log ends:\n{self.log_tail()}",
        )
        returncode = self.report().returncode
        assert returncode is not None
        return returncode

    def stop(self, timeout_seconds: float = PATIENCE_SECONDS) -> float:
        """Send SIGTERM, wait for the end, and return how many seconds that took."""
        before = time.monotonic()
        self.kill(signal.SIGTERM)
        self.wait(timeout_seconds)
        return (self.report().exited_at or before) - before

    def log_text(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def rss_bytes(self) -> int:
        """Return how much memory it holds now; 0 once it has ended."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return 0
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu_seconds(self) -> float:
        """Return the processor time it has used so far, in user and system mode; 0 once ended."""
        try:
            fields = stat_of(Path(f"/proc/{self.pid}"))
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Processes:
    """
    The supervisor, seen from the process that needs it.

    Use as a context manager, or call `close`; when neither happens because this process was
    killed, the supervisor cleans up by itself.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise SandboxError("the sandbox runs on Linux only; use a container or a machine of it")
        ours, theirs = socket.socketpair()
        with theirs:
            self._supervisor = subprocess.Popen(  # noqa: S603  Our own interpreter and script.
                [
                    *(sys.executable, "-I", supervisor_script.__file__),
                    *(str(theirs.fileno()), str(os.getpid())),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._channel = ours
        self._lock = threading.Lock()
        self._pending = b""
        self._started: list[Proc] = []
        self._ended = False
        self.root = Path(self._receive()["root"])
        """A fresh directory that is removed at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def supervisor_pid(self) -> int:
        return self._supervisor.pid

    @property
    def started(self) -> tuple[Proc, ...]:
        """Every process so far, in order, whether it still runs or not."""
        return tuple(self._started)

    def start(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: Path | None = None,
        stdin: Path | None = None,
        stderr: Path | None = None,
        graceful: bool = True,
    ) -> Proc:
        """
        Start a process; `env` is its whole environment, `name` names its log.

        A `graceful` one gets SIGTERM and two seconds at the end; the others are killed at once.
        Raises SandboxError if it cannot be started.
        """
        log_path = self.path(f"{name}.log")
        answer = self.ask(
            op="start",
            argv=list(argv),
            env=dict(env),
            cwd=str(cwd) if cwd else None,
            stdin=str(stdin) if stdin else None,
            stdout=str(log_path),
            stderr=str(stderr or log_path),
            graceful=graceful,
        )
        proc = Proc(
            name=name,
            argv=tuple(argv),
            number=answer["number"],
            pid=answer["pid"],
            started_at=answer["started_at"],
            log_path=log_path,
            owner=self,
        )
        self._started.append(proc)
        return proc

    def run(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> Completed:
        """Run a process to its end.  Raises NotReadyError, and kills it, if that takes too long."""
        stdin_path = None
        if stdin is not None:
            stdin_path = self.path(f"{name}.stdin")
            stdin_path.write_text(stdin, encoding="utf-8")
        stderr = self.path(f"{name}.stderr")
        proc = self.start(name, argv, env, cwd=cwd, stdin=stdin_path, stderr=stderr)
        try:
            proc.wait(timeout_seconds)
        except NotReadyError:
            proc.kill()
            raise
        report = proc.report()
        assert report.returncode is not None
        assert report.exited_at is not None
        return Completed(
            argv=proc.argv,
            returncode=report.returncode,
            stdout=proc.log_text(),
            stderr=stderr.read_text(encoding="utf-8", errors="replace"),
            started_at=report.started_at,
            exited_at=report.exited_at,
        )

    def path(self, name: str) -> Path:
        """Return a path in the temporary directory that nobody uses: `name`, `name`.2, …."""
        with self._lock:
            path, attempt = self.root / name, 2
            while path.exists():
                path, attempt = self.root / f"{name}.{attempt}", attempt + 1
            path.touch()
        return path

    def remove_at_end(self, path: Path) -> None:
        """Have a file tree outside the temporary directory removed, even if we are killed."""
        self.ask(op="remove_at_end", path=str(path))

    def report(self, number: int) -> Report:
        return Report(**self.ask(op="report", number=number))

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request to the supervisor and return its answer.  Raises SandboxError."""
        with self._lock:
            try:
                self._channel.sendall(json.dumps(request).encode() + b"\n")
                answer = self._receive()
            except OSError as error:
                raise SandboxError(f"the sandbox's supervisor is gone: {error}") from error
        if "error" in answer:
            raise SandboxError(f"{request['op']}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End every process, remove every file, and return when that is done."""
        if self._ended:
            return
        self._ended = True
        self._channel.close()
        try:
            self._supervisor.wait(GONE_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            # Its children die with it: they asked Linux for that when they were started.
            self._supervisor.kill()
            self._supervisor.wait()
        # For a supervisor that was killed; any other has done it.
        shutil.rmtree(self.root, ignore_errors=True)

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            received = self._channel.recv(65_536)
            if not received:
                raise SandboxError("the sandbox's supervisor ended by itself")
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def states_of(pid: int) -> set[str]:
    """Return in which states the threads of a process are, as /proc has them: "T" is stopped."""
    found: set[str] = set()
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # It has just ended.
            found.add(stat_of(thread)[0])
    return found


def stat_of(process: Path) -> list[str]:
    """Return what /proc says of a process or thread, from its state on.  Raises OSError."""
    stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
    return stat.rpartition(")")[2].split()  # A name may hold blanks.
