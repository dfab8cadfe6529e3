"""
The process that owns every other process of the sandbox, and outlives the runner by two seconds.

Run as a script, never imported by it: `python -I supervisor.py FD RUNNER_PID`.  It knows nothing
of Kubernetes.  FD is one end of a socket pair; the runner holds the other.  When that closes, for
whatever reason (a clean end, an exception, SIGKILL), everything is ended and removed.

A message is one JSON object a line; each request gets one answer, in order, either the result or
`{"error": …}`.  Only the standard library: it must start within milliseconds.  Only Linux: nothing
else tells a process of its parent's death.
"""

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL, for the processes that were started with `graceful`."""

REAP_SECONDS = 2.0
"""How long to look for orphans that do not die of SIGKILL at once."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

Message = dict[str, Any]


@dataclass
class Child:
    """One process we started.  Instants are of CLOCK_MONOTONIC, which all processes share."""

    number: int
    popen: subprocess.Popen[bytes]
    graceful: bool
    started_at: float
    exited_at: float | None = None

    def has_ended(self) -> bool:
        """Say whether it has ended, and note when we first saw that."""
        if self.popen.poll() is None:
            return False
        if self.exited_at is None:
            self.exited_at = time.monotonic()
        return True

    def report(self) -> Message:
        return {
            "number": self.number,
            "pid": self.popen.pid,
            "started_at": self.started_at,
            "exited_at": self.exited_at,
            "returncode": self.popen.returncode,
        }


@dataclass
class Supervisor:
    """Starts, signals and reaps children until the runner is gone."""

    root: Path
    children: list[Child] = field(default_factory=list[Child])
    """By number.  Never by process id: those come round again."""
    leftovers: list[Path] = field(default_factory=list[Path])

    def answer(self, request: Message) -> Message:
        """Do what one request asks; an error becomes the answer, never the end."""
        try:
            match request["op"]:
                case "start":
                    return self.start(request)
                case "signal":
                    return self.signal(int(request["number"]), int(request["signal"]))
                case "report":
                    return self.children[int(request["number"])].report()
                case "remove_at_end":
                    self.leftovers.append(Path(request["path"]))
                    return {}
                case unknown:
                    return {"error": f"unknown request {unknown!r}"}
        except (OSError, LookupError, ValueError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def start(self, request: Message) -> Message:
        """Start a process in a session of its own, so that no Ctrl-C of the terminal reaches it."""
        with contextlib.ExitStack() as files:
            stdin = files.enter_context(Path(request["stdin"] or os.devnull).open("rb"))
            stdout = files.enter_context(Path(request["stdout"]).open("ab"))
            stderr = stdout
            if request["stderr"] != request["stdout"]:
                stderr = files.enter_context(Path(request["stderr"]).open("ab"))
            started_at = time.monotonic()
            popen = subprocess.Popen(  # noqa: S603  The argv is the runner's own.
                request["argv"],
                env=request["env"],
                cwd=request["cwd"] or self.root,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  We have one thread.
            )
        child = Child(len(self.children), popen, bool(request["graceful"]), started_at)
        self.children.append(child)
        return child.report()

    def signal(self, number: int, signal_number: int) -> Message:
        """Signal a child, unless it has ended."""
        child = self.children[number]
        if not child.has_ended():
            child.popen.send_signal(signal_number)
        return child.report()

    def reap(self) -> None:
        """Note which children have ended, and when; bury orphans that were handed to us."""
        with contextlib.suppress(ChildProcessError):  # None are left.
            while zombie := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                ours = [child for child in self.running() if child.popen.pid == zombie.si_pid]
                if not ours:
                    os.waitpid(zombie.si_pid, os.WNOHANG)

    def end_all(self) -> None:
        """End every process: politely where that was asked for, then for certain."""
        for child in self.running():
            if child.graceful:
                child.popen.terminate()
                # A stopped process cannot act on SIGTERM.
                child.popen.send_signal(signal.SIGCONT)
        give_up_at = time.monotonic() + GRACE_SECONDS
        while any(child.graceful for child in self.running()) and time.monotonic() < give_up_at:
            time.sleep(0.02)
        for child in self.running():
            kill_group(child.popen.pid)
        self.kill_orphans()

    def running(self) -> list[Child]:
        return [child for child in self.children if not child.has_ended()]

    def kill_orphans(self) -> None:
        """Kill what our children left behind: as the subreaper we have become its parent."""
        give_up_at = time.monotonic() + REAP_SECONDS
        while (orphans := children_of(os.getpid())) and time.monotonic() < give_up_at:
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            time.sleep(0.01)

    def remove_files(self) -> None:
        for path in [*self.leftovers, self.root]:
            shutil.rmtree(path, ignore_errors=True)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; runs between fork and exec."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != SUPERVISOR_PID:  # It died between fork and prctl.
        os._exit(1)


def become_subreaper() -> None:
    """Have the orphans among our descendants handed to us instead of to init."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)


def kill_group(pid: int) -> None:
    """Kill the process group that a child leads which was not reaped yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def children_of(parent: int) -> set[int]:
    """Return the process ids whose parent is `parent`."""
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # The command in brackets may hold anything, so count from the last bracket on.
            after_name = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            if int(after_name.split()[1]) == parent:
                found.add(int(stat.parent.name))
    return found


def serve(supervisor: Supervisor, channel: socket.socket, runner_pid: int) -> None:
    """Answer requests until the runner is gone or SIGTERM comes."""
    wakeup_read, wakeup_write = socket.socketpair()
    for end in (wakeup_read, wakeup_write):
        end.settimeout(0.0)
    signal.set_wakeup_fd(wakeup_write.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, wake_up)
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ, "channel")
        selector.register(wakeup_read, selectors.EVENT_READ, "signal")
        watch_runner(selector, runner_pid)
        pending = b""
        while True:
            for key, _ in selector.select():
                match key.data:
                    case "signal":
                        if signal.SIGTERM in wakeup_read.recv(4096):
                            return
                        supervisor.reap()
                    case "channel":
                        received = channel.recv(65_536)
                        if not received:
                            return
                        *lines, pending = (pending + received).split(b"\n")
                        for line in lines:
                            reply(channel, supervisor.answer(json.loads(line)))
                    case _:
                        return


def wake_up(_number: int, _frame: object) -> None:
    """Handle a signal by doing nothing: having a handler is what makes it wake the selector."""


def watch_runner(selector: selectors.BaseSelector, runner_pid: int) -> None:
    """
    Wake up when the runner has ended.

    The closed channel tells that too, but not while a forked child of the runner keeps its copy.
    """
    # A runner that is gone already has closed the channel.
    with contextlib.suppress(ProcessLookupError):
        selector.register(os.pidfd_open(runner_pid), selectors.EVENT_READ, "runner")


def reply(channel: socket.socket, message: Message) -> None:
    # A runner that no longer listens is noticed at the next read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.sendall(json.dumps(message).encode() + b"\n")


def main() -> None:
    """Serve one runner, then leave nothing behind."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    root = Path(tempfile.mkdtemp(prefix="incident-rollback-sandbox-"))
    supervisor = Supervisor(root)
    try:
        with (root / "supervisor.log").open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 2)
        become_subreaper()
        reply(channel, {"root": str(root)})
        serve(supervisor, channel, int(sys.argv[2]))
    finally:
        supervisor.end_all()
        supervisor.remove_files()


SUPERVISOR_PID = os.getpid()
LIBC = ctypes.CDLL(None)
"""Loaded before any fork: between fork and exec nothing may be imported."""

if __name__ == "__main__":
    main()
