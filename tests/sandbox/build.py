"""
Programs that are compiled once from Go modules, then kept in a cache: the control plane's first.

Which ones, and which versions, a `go.mod` and its `go.sum` say.  The cache lies outside the
checkout, in a directory named by everything the result depends on, so it never has to be
invalidated.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.errors import NotReadyError, SandboxError, ToolMissingError
from tests.sandbox.processes import Proc, Processes

HERE = Path(__file__).parent
KUBERNETES = "1.36.3"
"""What the programs say they are; `go.mod` holds what they really are, and a test compares."""

PROGRAMS = {
    "etcd": "server",
    "kube-apiserver": "kube-apiserver",
    "kube-controller-manager": "kube-controller-manager",
    "kube-scheduler": "kube-scheduler",
    "kwok": "kwok",
    "kubectl": "kubectl",
}
"""Our name for each, and the name of its Go package, which `go build` calls the file by."""

VERSION_PACKAGE = "k8s.io/component-base/version"
MAJOR, MINOR = KUBERNETES.split(".")[:2]
SMALL = "-s -w"
"""No symbols: half the size, and nobody debugs these."""
LDFLAGS = (
    f"{SMALL} -X {VERSION_PACKAGE}.gitVersion=v{KUBERNETES}"
    f" -X {VERSION_PACKAGE}.gitMajor={MAJOR} -X {VERSION_PACKAGE}.gitMinor={MINOR}"
)
CRDS = "crds"
"""Where the CRDs are, beside the programs that want them."""

PROGRESS_EVERY_SECONDS = 15.0
BUILD_PATIENCE_SECONDS = 3600.0
"""Five minutes on two cores; a cold module cache behind a slow line adds to that."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What one `go.mod` pins, and how its tools are built."""

    cache: str
    """What the cache's directory for it is called."""
    what: str
    """For people: it follows "building"."""
    module: Path
    """Where `go.mod` and `go.sum` are."""
    files: tuple[str, ...]
    """What `go build` calls the tools by."""
    minutes: int
    """How long that takes on two cores, with the modules at hand."""
    ldflags: str = SMALL
    crds: tuple[tuple[str, str], ...] = ()
    """Manifests to keep beside the programs: a module, and a pattern of files in it."""

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-buildvcs=false", "-ldflags", self.ldflags)

    def is_complete(self, directory: Path) -> bool:
        """Say whether all that is built is there."""
        return all((directory / file).is_file() for file in self.files)


CONTROL_PLANE = Recipe(
    cache="controlplane",
    what="a Kubernetes control plane",
    module=HERE,
    files=tuple(PROGRAMS.values()),
    minutes=5,
    ldflags=LDFLAGS,
)


@dataclass(frozen=True)
class Programs:
    """Where the built programs are."""

    directory: Path

    def path(self, name: str) -> Path:
        """Return the file of one of PROGRAMS."""
        return self.directory / PROGRAMS[name]


def say_on_stderr(line: str) -> None:
    """Show a line of progress."""
    sys.stderr.write(f"sandbox: {line}\n")
    sys.stderr.flush()


def programs(processes: Processes, say: Say = say_on_stderr) -> Programs:
    """Return the control plane's programs, after building them if need be; see `built`."""
    return Programs(built(CONTROL_PLANE, processes, say))


def built(recipe: Recipe, processes: Processes, say: Say = say_on_stderr) -> Path:
    """
    Return where the programs are, after building them if this has not been done on this machine.

    Two that call this at once build once.  An interrupted build leaves nothing.
    Raises ToolMissingError without a Go that is new enough, SandboxError if the build fails.
    """
    directory = cache_directory(recipe) / digest(recipe)
    if recipe.is_complete(directory):
        return directory
    go = find_go(recipe)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_suffix(".lock"), recipe, say):
        if not recipe.is_complete(directory):
            compile_into(directory, recipe, go, processes, say)
    return directory


def cache_directory(recipe: Recipe = CONTROL_PLANE) -> Path:
    """Return where the programs of all versions are kept, following the XDG convention."""
    home = os.environ.get("XDG_CACHE_HOME")
    base = Path(home) if home else Path.home() / ".cache"
    return base / "incident-rollback" / recipe.cache


def digest(recipe: Recipe = CONTROL_PLANE) -> str:
    """Return a name for what would be built: modules, flags and kind of machine."""
    sha = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        sha.update((recipe.module / name).read_bytes())
    crds = [part for pair in recipe.crds for part in pair]
    sha.update("\0".join([*recipe.flags, *crds, sys.platform, platform.machine()]).encode())
    return sha.hexdigest()[:16]


def find_go(recipe: Recipe = CONTROL_PLANE) -> Path:
    """Return the Go command.  Raises ToolMissingError if there is none, or an older one."""
    wanted = wanted_go(recipe)
    advice = (
        f"the sandbox builds {recipe.what} with Go {wanted[0]}.{wanted[1]} or newer:"
        " install it from https://go.dev/dl/ and put its bin directory on PATH"
    )
    found = shutil.which("go")
    if found is None:
        raise ToolMissingError(f"no Go on PATH; {advice}")
    answer = subprocess.run(  # noqa: S603
        [found, "env", "GOVERSION"],
        check=False,
        capture_output=True,
        text=True,
        cwd=recipe.module,
        env=go_environment(),
    )
    version = answer.stdout.strip()
    if parse_go_version(version) < wanted:
        raise ToolMissingError(f"{found} is {version or 'not a working Go'}; {advice}")
    return Path(found)


def wanted_go(recipe: Recipe = CONTROL_PLANE) -> tuple[int, int]:
    """Return the least version of Go, as `go.mod` has it."""
    pinned = (recipe.module / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"^go (\S+)$", pinned, re.MULTILINE)
    return parse_go_version(f"go{found[1]}" if found else "")


def parse_go_version(version: str) -> tuple[int, int]:
    """Return major and minor of `go1.26.8`, `go1.27rc1` or the like; (0, 0) for anything else."""
    found = re.match(r"go(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def go_environment() -> Mapping[str, str]:
    """Return our own environment, without a say of it in what is built."""
    # GOTOOLCHAIN: never fetch another compiler.  GOWORK: a workspace further up is none of ours.
    fixed = {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    return {**os.environ, **fixed}


@contextmanager
def locked(path: Path, recipe: Recipe, say: Say) -> Generator[None]:
    """Hold a lock that ends with this process, whatever ends it."""
    with path.open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is building {recipe.what}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compile_into(target: Path, recipe: Recipe, go: Path, processes: Processes, say: Say) -> None:
    """Build beside `target`, and rename when all is there."""
    unfinished = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    processes.remove_at_end(unfinished)
    say(
        f"first run: building {recipe.what} from source with Go, about {recipe.minutes} minutes"
        " on 2 cores; later runs start in seconds"
    )
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, unfinished, ignore_errors=True)
        proc = processes.start(
            "go-build",
            [str(go), "build", "-v", *recipe.flags, "-o", f"{unfinished}/", "tool"],
            go_environment(),
            cwd=recipe.module,
            graceful=False,
        )
        wait_with_progress(proc, recipe, say)
        if not recipe.is_complete(unfinished):
            raise SandboxError(f"building {recipe.what} failed:\n{proc.log_tail()}")
        for module, pattern in recipe.crds:
            copy_crds(module, pattern, unfinished / CRDS, recipe, go, processes)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    say(f"built in {elapsed(proc)}: {target}")


def copy_crds(
    module: str, pattern: str, target: Path, recipe: Recipe, go: Path, processes: Processes
) -> None:
    """Copy CRDs out of a module.  Raises SandboxError if it cannot be had, or has none there."""
    answer = processes.run(
        "go-mod-download",
        [str(go), "mod", "download", "-json", module],
        go_environment(),
        cwd=recipe.module,
    ).check()
    found = sorted(Path(json.loads(answer.stdout)["Dir"]).glob(pattern))
    if not found:
        raise SandboxError(f"there is no {pattern} in {module}")
    target.mkdir(exist_ok=True)
    for path in found:
        (target / path.name).write_bytes(path.read_bytes())  # The original is read-only.


def wait_with_progress(proc: Proc, recipe: Recipe, say: Say) -> None:
    """Wait for the compiler, with a line every now and then.  Raises SandboxError if it fails."""
    while proc.is_running():
        try:
            proc.wait(PROGRESS_EVERY_SECONDS)
        except NotReadyError:
            say(f"{elapsed(proc)}: {progress(proc.log_text())}")
        if time.monotonic() - proc.started_at > BUILD_PATIENCE_SECONDS:
            proc.kill()
            raise SandboxError(f"building {recipe.what} took over an hour; given up")
    if proc.report().returncode != 0:
        raise SandboxError(f"building {recipe.what} failed:\n{proc.log_tail()}")


def progress(log: str) -> str:
    """Say how far `go build -v` has come: it names what it fetches, then what it compiles."""
    lines = log.splitlines()
    packages = [line for line in lines if not line.startswith("go: ")]
    if not packages:
        return f"fetching Go modules, {len(lines)} so far"
    return f"compiling, {len(packages)} packages so far, last {packages[-1]}"


def elapsed(proc: Proc) -> str:
    """Say how long ago a process was started: `1 min 05 s`."""
    minutes, seconds = divmod(int(time.monotonic() - proc.started_at), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def main(recipe: Recipe = CONTROL_PLANE) -> int:
    """Build, and print where; for a Makefile.  Errors are one line."""
    try:
        with Processes() as processes:
            directory = built(recipe, processes)
    except SandboxError as error:
        say_on_stderr(str(error))
        return 1
    sys.stdout.write(f"{directory}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
