"""What the other end-to-end tests rely on: the sandbox does what it says, and cleans up."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e.stage import is_ours
from tests.sandbox import simulation
from tests.sandbox.api import Api, ApiError, Json, path_to
from tests.sandbox.audit import AuditLog
from tests.sandbox.build import HERE, KUBERNETES
from tests.sandbox.errors import NotReadyError, SandboxError
from tests.sandbox.ports import is_listening
from tests.sandbox.processes import Processes
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.waiting import PATIENCE_SECONDS, wait_for
from tests.sandbox.workloads import (
    GOOD_IMAGE,
    HURTING,
    a_deployment,
    container_statuses,
    images_of,
    is_pod_ready,
    restarts_of,
    revision_of,
    waiting_reasons,
)

ROOT = HERE.parents[1]
GONE_SECONDS = 5.0
"""The promise: so long after its runner, nothing of a sandbox is left; or, where to start one takes
longer than that, as long as it took."""

# --- Lifetime


RUNNER = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored where CI runs in the background.
from tests.sandbox.sandbox import Sandbox

STUBBORN = "trap '' TERM; (setsid sleep 600 &); sleep 600"

with Sandbox() as sandbox:
    sandbox.processes.start("stubborn", ["/bin/sh", "-c", STUBBORN], {})
    print(json.dumps({
        "root": str(sandbox.root),
        "ports": [sandbox.control_plane.api_port, sandbox.control_plane.etcd_port],
    }), flush=True)
    sys.stdin.read()
    %s
"""
FAMILY = 9
"""The supervisor, the five parts of the control plane, and three of the stubborn one."""


def descendants(pid: int) -> set[int]:
    """Return a process's children, their children, and so on."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits to be buried does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def start_runner(ending: str) -> subprocess.Popen[str]:
    """Start a process that owns a sandbox and then does `ending`."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", RUNNER % ending],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def by_kill(runner: subprocess.Popen[str]) -> None:
    runner.kill()


def by_ctrl_c(runner: subprocess.Popen[str]) -> None:
    runner.send_signal(signal.SIGINT)


def by_terminate(runner: subprocess.Popen[str]) -> None:
    runner.terminate()


def by_itself(runner: subprocess.Popen[str]) -> None:
    """Have it go on: it waits for the end of its input before `ending`."""
    assert runner.stdin is not None
    runner.stdin.close()


@pytest.mark.parametrize(
    ("end", "ending"),
    [
        pytest.param(by_kill, "pass", id="killed"),
        pytest.param(by_ctrl_c, "pass", id="ctrl-c"),
        pytest.param(by_terminate, "pass", id="terminated"),
        pytest.param(by_itself, "raise RuntimeError", id="an exception"),
        pytest.param(by_itself, "pass", id="the end of the block"),
    ],
)
def test_nothing_outlives_the_runner(
    end: Callable[[subprocess.Popen[str]], None], ending: str
) -> None:
    began_at = time.monotonic()
    with start_runner(ending) as runner:
        assert runner.stdout is not None
        started = json.loads(runner.stdout.readline())
        start_seconds = time.monotonic() - began_at
        wait_for(lambda: len(descendants(runner.pid)) >= FAMILY, "all processes to be there")
        family = descendants(runner.pid)
        end(runner)
        runner.wait(PATIENCE_SECONDS)
        ended_at = time.monotonic()

    def left() -> list[object]:
        alive: list[object] = [pid for pid in family if is_alive(pid)]
        return [
            *alive,
            *(port for port in started["ports"] if is_listening(port)),
            *(path for path in [started["root"]] if Path(path).exists()),
        ]

    wait_for(lambda: not left(), "everything of the runner to be gone", seen=left)
    assert time.monotonic() - ended_at < max(GONE_SECONDS, start_seconds)


# --- Building


def build(directory: Path, path: str) -> subprocess.Popen[str]:
    """Start a build into an empty cache, with nothing but `path` to find programs on."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox.build"],
        cwd=ROOT,
        env={"PATH": path, "XDG_CACHE_HOME": str(directory / "cache"), "HOME": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def a_go(directory: Path, version: str, build: str = "exit 1") -> str:
    """Return a PATH on which a pretended Go of this version is found first."""
    script = directory / "bin" / "go"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\n[ "$1" = env ] && {{ echo {version}; exit; }}\n{build}\n', encoding="ascii"
    )
    script.chmod(0o755)
    return f"{script.parent}:/usr/bin:/bin"


COMPILE = """
echo build >> "$HOME/builds"
sleep 1
while [ "$1" != -o ]; do shift; done
mkdir -p "$2"
for name in server kube-apiserver kube-controller-manager kube-scheduler kwok kubectl; do
    echo > "$2$name"
done
"""


def cached(directory: Path) -> list[str]:
    """Return what is in the cache, but for locks."""
    found = (directory / "cache/incident-rollback/controlplane").glob("*")
    return [path.name for path in found if path.suffix != ".lock"]


def test_without_go_one_line_says_what_to_install(tmp_path: Path) -> None:
    _, stderr = (process := build(tmp_path, "/nonexistent")).communicate()
    assert process.returncode == 1
    (line,) = stderr.splitlines()
    assert "no Go on PATH" in line
    assert "Go 1.26 or newer" in line
    assert "https://go.dev/dl/" in line


def test_with_an_old_go_one_line_says_what_to_install(tmp_path: Path) -> None:
    _, stderr = (process := build(tmp_path, a_go(tmp_path, "go1.25.9"))).communicate()
    assert process.returncode == 1
    (line,) = stderr.splitlines()
    assert "is go1.25.9" in line
    assert "Go 1.26 or newer" in line


def test_a_failing_build_says_what_the_compiler_said_and_leaves_nothing(tmp_path: Path) -> None:
    path = a_go(tmp_path, "go1.26.0", "echo no space left on device >&2; exit 1")
    _, stderr = (process := build(tmp_path, path)).communicate()
    assert process.returncode == 1
    assert "no space left on device" in stderr
    assert cached(tmp_path) == []


def test_two_that_need_the_programs_at_once_build_once(tmp_path: Path) -> None:
    path = a_go(tmp_path, "go1.27rc1", COMPILE)
    both = [build(tmp_path, path) for _ in range(2)]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    assert cached(tmp_path) == [Path(answers[0].strip()).name]
    assert (tmp_path / "builds").read_text(encoding="ascii") == "build\n"


def test_a_killed_build_leaves_nothing(tmp_path: Path) -> None:
    half_made = 'while [ "$1" != -o ]; do shift; done; mkdir -p "$2"; echo > "$2/kwok"; sleep 600'
    process = build(tmp_path, a_go(tmp_path, "go1.26.0", half_made))
    wait_for(lambda: cached(tmp_path), "the build to begin")
    family = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, family)), "the compiler to be gone")
    wait_for(lambda: not cached(tmp_path), "the half-made result to be gone")


def test_the_version_that_the_programs_tell_is_the_one_that_is_pinned(sandbox: Sandbox) -> None:
    assert f"k8s.io/kubernetes v{KUBERNETES}" in (HERE / "go.mod").read_text(encoding="utf-8")
    assert sandbox.api.get("/version")["gitVersion"] == f"v{KUBERNETES}"
    assert f"Client Version: v{KUBERNETES}" in sandbox.kubectl.run("version").stdout


# --- Rollouts


def test_a_bad_release_hurts_and_undo_heals(sandbox: Sandbox, namespace: str) -> None:
    workloads = sandbox.workloads
    deployed = workloads.deploy(a_deployment("web", namespace, replicas=2, strategy=HURTING))
    assert revision_of(deployed) == 1

    workloads.set_image(namespace, "web", simulation.BROKEN_IMAGE)
    workloads.wait_waiting(namespace, "web", "CrashLoopBackOff")
    assert [revision_of(r) for r in workloads.replica_sets(namespace, "web")] == [1, 2]
    (bad,) = workloads.pods(namespace, "web", revision=2)
    assert restarts_of(bad) > 0
    assert [is_pod_ready(pod) for pod in workloads.pods(namespace, "web", revision=1)] == [True]

    workloads.undo(namespace, "web")
    workloads.wait_revision(namespace, "web", 3)
    healed = workloads.wait_complete(namespace, "web")
    assert images_of(healed) == [GOOD_IMAGE]
    assert [revision_of(r) for r in workloads.replica_sets(namespace, "web")] == [2, 3]


def test_a_restart_is_a_revision_of_its_own(sandbox: Sandbox, namespace: str) -> None:
    sandbox.workloads.deploy(a_deployment("web", namespace, replicas=1))
    sandbox.workloads.restart(namespace, "web")
    sandbox.workloads.wait_revision(namespace, "web", 2)
    sandbox.workloads.wait_complete(namespace, "web")


def test_a_progress_deadline_passes(sandbox: Sandbox, namespace: str) -> None:
    body = a_deployment(
        "web",
        namespace,
        replicas=1,
        progress_deadline_seconds=1,
        template_annotations={simulation.WAITING: "ImagePullBackOff"},
    )
    sandbox.workloads.deploy(body, wait=False)

    def reasons() -> list[str]:
        status = sandbox.workloads.deployment(namespace, "web").get("status", {})
        return [condition["reason"] for condition in status.get("conditions", [])]

    wait_for(lambda: "ProgressDeadlineExceeded" in reasons(), "the deadline", seen=reasons)


def test_scaling_pausing_and_annotating(sandbox: Sandbox, namespace: str) -> None:
    workloads = sandbox.workloads
    workloads.deploy(a_deployment("web", namespace, replicas=1))
    workloads.scale(namespace, "web", 2)
    assert workloads.wait_complete(namespace, "web")["status"]["replicas"] == 2
    assert workloads.pause(namespace, "web")["spec"]["paused"] is True
    assert "paused" not in workloads.resume(namespace, "web")["spec"]
    annotated = workloads.annotate(namespace, "web", {"example.com/a": "b"})
    assert annotated["metadata"]["annotations"]["example.com/a"] == "b"
    assert workloads.label(namespace, "web", {"tier": "front"})["metadata"]["labels"] == {
        "tier": "front"
    }


# --- Simulated pods


def a_simulated_pod(
    sandbox: Sandbox,
    namespace: str,
    annotations: dict[str, str],
    is_it: Callable[[Json], bool],
    what: str,
) -> Json:
    """Deploy one pod with annotations, and return it once `is_it` is true of it."""
    body = a_deployment("web", namespace, replicas=1, template_annotations=annotations)
    sandbox.workloads.deploy(body, wait=False)
    return wait_pod(sandbox, namespace, is_it, what)


def wait_pod(sandbox: Sandbox, namespace: str, is_it: Callable[[Json], bool], what: str) -> Json:
    """Return the first pod of the namespace of which `is_it` is true, as soon as there is one."""

    def pods() -> list[Json]:
        return sandbox.api.list(path_to("v1", "pods", namespace))

    def found() -> Json | None:
        return next(filter(is_it, pods()), None)

    return wait_for(found, what, seen=lambda: [pod.get("status") for pod in pods()])


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def is_running_unready(pod: Json) -> bool:
    return pod["status"].get("phase") == "Running" and not is_pod_ready(pod)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff"])
def test_a_waiting_pod_says_why(sandbox: Sandbox, namespace: str, reason: str) -> None:
    pod = a_simulated_pod(
        sandbox,
        namespace,
        {simulation.WAITING: reason},
        lambda pod: waiting_reasons([pod]) == [reason],
        "the pod to wait",
    )
    assert not is_pod_ready(pod)


@pytest.mark.parametrize(("reason", "code"), [("OOMKilled", 137), ("Error", 1)])
def test_a_terminated_pod_crash_loops_and_says_why(
    sandbox: Sandbox, namespace: str, reason: str, code: int
) -> None:
    pod = a_simulated_pod(
        sandbox,
        namespace,
        {simulation.TERMINATED: reason},
        lambda pod: waiting_reasons([pod]) == ["CrashLoopBackOff"],
        "the pod to crash-loop",
    )
    (status,) = container_statuses(pod)
    assert status["lastState"]["terminated"]["reason"] == reason
    assert status["lastState"]["terminated"]["exitCode"] == code
    assert status["restartCount"] > 0
    assert not is_pod_ready(pod)


def test_a_slow_pod_runs_before_it_is_ready(sandbox: Sandbox, namespace: str) -> None:
    slow = {simulation.READY_AFTER: "3s"}
    pod = a_simulated_pod(sandbox, namespace, slow, is_pod_ready, "the pod to be ready")
    (ready,) = (c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    started = instant(container_statuses(pod)[0]["state"]["running"]["startedAt"])
    # Kubernetes keeps whole seconds, so three may look like two.
    assert (instant(ready["lastTransitionTime"]) - started).total_seconds() >= 2


def test_a_pod_may_crash_after_it_was_ready(sandbox: Sandbox, namespace: str) -> None:
    late = {simulation.CRASH_AFTER: "3s"}
    pod = a_simulated_pod(sandbox, namespace, late, is_running_unready, "the pod to crash")
    (status,) = container_statuses(pod)
    assert waiting_reasons([pod]) == ["CrashLoopBackOff"]
    assert status["restartCount"] == 1
    end = status["lastState"]["terminated"]
    assert end["exitCode"] == 1
    # It was ready as soon as it had started; three seconds may look like two.
    assert (instant(end["finishedAt"]) - instant(end["startedAt"])).total_seconds() >= 2


def test_a_slow_pod_may_crash_too_and_stays_down(sandbox: Sandbox, namespace: str) -> None:
    both = {simulation.READY_AFTER: "300ms", simulation.CRASH_AFTER: "300ms"}
    a_simulated_pod(sandbox, namespace, both, lambda pod: restarts_of(pod) == 1, "the pod to crash")
    with pytest.raises(NotReadyError):
        wait_for(
            lambda: is_pod_ready(sandbox.workloads.pods(namespace, "web")[0]),
            "what must not happen",
            timeout_seconds=2,
        )


def test_a_flapping_pod_comes_and_goes(sandbox: Sandbox, namespace: str) -> None:
    flapping = {simulation.FLAP_EVERY: "500ms"}
    a_simulated_pod(
        sandbox,
        namespace,
        flapping,
        lambda pod: is_pod_ready(pod) and restarts_of(pod) >= 1,
        "the pod to be back after a crash",
    )
    wait_pod(sandbox, namespace, lambda pod: restarts_of(pod) >= 2, "the pod to crash again")


def test_a_ready_pod_may_have_restarts_behind_it(sandbox: Sandbox, namespace: str) -> None:
    restarted = {simulation.RESTARTS: "7"}
    pod = a_simulated_pod(sandbox, namespace, restarted, is_pod_ready, "the pod to be ready")
    assert restarts_of(pod) == 7


def test_a_pod_may_take_its_time_to_stop(sandbox: Sandbox, namespace: str) -> None:
    stopping = {simulation.STOP_AFTER: "6s"}
    a_simulated_pod(sandbox, namespace, stopping, is_pod_ready, "the pod to be ready")
    sandbox.workloads.delete(namespace, "web")
    pod = wait_pod(
        sandbox, namespace, lambda pod: "deletionTimestamp" in pod["metadata"], "the deletion"
    )
    path = path_to("v1", "pods", namespace, pod["metadata"]["name"])
    wait_for(lambda: sandbox.api.find(path) is None, "the pod to be gone")


# --- Rights and witnesses


def test_the_audit_log_tells_who_wrote_what_and_how_often(sandbox: Sandbox, namespace: str) -> None:
    since = sandbox.audit.mark()
    sandbox.workloads.deploy(a_deployment("web", namespace, replicas=1))
    sandbox.workloads.set_image(namespace, "web", "nginx:1.19.0")
    audit = sandbox.settled_audit()

    (patch,) = audit.where(since=since, verb="patch", resource="deployments", namespace=namespace)
    assert patch.user == "admin"
    assert (patch.group, patch.name, patch.code) == ("apps", "web", 200)
    assert patch.request_object["spec"]["template"]["spec"]["containers"][0]["image"] == (
        "nginx:1.19.0"
    )
    assert images_of(patch.response_object) == ["nginx:1.19.0"]
    assert patch.received_at <= patch.answered_at
    users = {record.user for record in audit.records(since) if not is_ours(record)}
    assert users == {"admin"}, "the control plane's own work is not in the log"


def test_a_service_account_may_do_nothing_and_is_on_record(
    sandbox: Sandbox, namespace: str
) -> None:
    since = sandbox.audit.mark()
    refused = sandbox.kubectl_as(namespace, "default").run("get", "pods", check=False)
    assert refused.returncode != 0
    assert "Forbidden" in refused.stderr
    records = sandbox.settled_audit().where(since=since, verb="list", resource="pods")
    record, *_ = (record for record in records if record.namespace == namespace)
    assert record.user == f"system:serviceaccount:{namespace}:default"
    assert record.code == 403
    assert record.request_object is None


@pytest.mark.parametrize("half", [b"", b"half", b"h" * 100_000])
@pytest.mark.parametrize("whole", [b"", b"whole\n", b"w" * 100_000 + b"\n"])
def test_a_mark_is_at_the_end_of_a_whole_line(tmp_path: Path, whole: bytes, half: bytes) -> None:
    log = AuditLog(tmp_path / "audit.log")
    assert log.mark() == 0
    log.path.write_bytes(whole + half)
    assert log.mark() == len(whole)


def test_what_a_pod_finds_mounted_is_imitated(sandbox: Sandbox, namespace: str) -> None:
    mounted = sandbox.control_plane.mounted(namespace, "default")
    host, port = (mounted.env[f"KUBERNETES_SERVICE_{what}"] for what in ("HOST", "PORT"))
    token = (mounted.directory / "token").read_text(encoding="ascii")
    assert (mounted.directory / "namespace").read_text(encoding="ascii") == namespace
    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    with Api(f"https://{host}:{port}", mounted.directory / "ca.crt", token) as api:
        me = api.create(path_to("authentication.k8s.io/v1", "selfsubjectreviews"), review)
    assert me["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"


def test_an_answer_that_is_no_raises_what_the_api_server_said(sandbox: Sandbox) -> None:
    with pytest.raises(ApiError, match="NotFound") as caught:
        sandbox.workloads.deployment("default", "nobody")
    assert caught.value.status == 404


def test_kubectl_fails_with_its_own_words(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r'deployments\.apps "nobody" not found'):
        sandbox.kubectl.run("get", "deployment", "nobody")


CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, shortNames: [gd]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: A thing of this test.
        properties: {spec: {type: object, properties: {size: {type: integer, minimum: 1}}}}
"""


def test_manifests_with_a_crd_and_its_objects_apply_in_one_go(
    sandbox: Sandbox, namespace: str, tmp_path: Path
) -> None:
    gadget = f"""
apiVersion: example.com/v1
kind: Gadget
metadata: {{name: one, namespace: {namespace}}}
spec: {{size: 1}}
"""
    (tmp_path / "gadget.yaml").write_text(gadget, encoding="utf-8")
    (tmp_path / "crd.yaml").write_text(CRD, encoding="utf-8")
    kustomization = "resources: [gadget.yaml, crd.yaml]\n"
    (tmp_path / "kustomization.yaml").write_text(kustomization, encoding="utf-8")
    sandbox.install(tmp_path)
    sandbox.install(tmp_path)

    assert "one" in sandbox.kubectl.run("get", "gd", "-n", namespace).stdout
    assert "A thing of this test." in sandbox.kubectl.run("explain", "gadget").stdout
    with pytest.raises(SandboxError, match="greater than or equal to 1"):
        sandbox.install(gadget.replace("size: 1", "size: 0"))
    assert "kind: Gadget" in sandbox.kubectl.run("kustomize", str(tmp_path)).stdout


# --- The API server's bad days


def test_the_api_server_can_be_killed_and_come_back(sandbox: Sandbox, namespace: str) -> None:
    port = sandbox.control_plane.api_port
    sandbox.workloads.deploy(a_deployment("before", namespace, replicas=1))
    sandbox.control_plane.stop_api_server()
    assert not is_listening(port)
    assert not sandbox.api.is_ready()

    sandbox.control_plane.start_api_server()
    assert sandbox.control_plane.api_port == port
    assert is_listening(port)
    since = sandbox.audit.mark()
    sandbox.workloads.deploy(a_deployment("after", namespace, replicas=1))
    sandbox.workloads.wait_complete(namespace, "before")
    assert sandbox.settled_audit().where(since=since, verb="create", name="after")
    assert "after" in sandbox.kubectl.run("get", "deployments", "-n", namespace).stdout


def test_the_api_server_can_be_frozen_and_thawed(sandbox: Sandbox) -> None:
    sandbox.control_plane.freeze_api_server()
    try:
        assert is_listening(sandbox.control_plane.api_port)
        assert not sandbox.api.is_ready()
    finally:
        sandbox.control_plane.thaw_api_server()
    assert sandbox.api.get("/version")


# --- Processes


def test_a_process_tells_how_it_went(sandbox: Sandbox) -> None:
    script = "import os, sys; print(os.environ['NAME']); sys.exit(3)"
    proc = sandbox.processes.start("brief", [sys.executable, "-c", script], {"NAME": "me"})
    assert proc.wait() == 3
    assert proc.log_text() == "me\n"
    report = proc.report()
    assert report.exited_at is not None
    assert report.started_at < report.exited_at
    assert not proc.is_running()
    assert proc.rss_bytes() == 0
    proc.kill()  # Nobody is hit.


def test_a_process_can_be_stopped_and_measured(sandbox: Sandbox) -> None:
    script = "import time; print('up', flush=True); time.sleep(600)"
    proc = sandbox.processes.start("long", [sys.executable, "-c", script], {})
    wait_for(lambda: "up" in proc.log_text(), "the process to be up", seen=proc.log_text)
    assert proc.rss_bytes() > 1_000_000
    assert os.getsid(proc.pid) == proc.pid
    assert proc.stop() >= 0
    assert proc.wait() == -signal.SIGTERM


def test_a_program_that_is_not_there_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="/nonexistent"):
        sandbox.processes.start("nobody", ["/nonexistent"], {})


def test_waiting_in_vain_says_what_was_seen() -> None:
    with pytest.raises(NotReadyError, match=r"waited 0 s for rain; last seen: sun"):
        wait_for(lambda: False, "rain", timeout_seconds=0, seen=lambda: "sun")


def test_even_a_killed_supervisor_takes_everything_with_it() -> None:
    with Processes() as processes:
        proc = processes.start("long", ["/bin/sleep", "600"], {})
        os.kill(processes.supervisor_pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(proc.pid), "its child to be gone")
        with pytest.raises(SandboxError, match="supervisor"):
            processes.start("late", ["/bin/sleep", "600"], {})
    assert not processes.root.exists()


PRETENDED = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Probe(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(" ".join([sys.argv[1], self.path, os.environ["SAYS"]]).encode())

if os.environ["SAYS"] == "nothing":
    sys.exit("INCIDENT_ROLLBACK_NAMESPACE is wrong")
host, port = (os.environ[f"INCIDENT_ROLLBACK_OPS_{what}"] for what in ("HOST", "PORT"))
HTTPServer((host, int(port)), Probe).serve_forever()
"""


@pytest.fixture
def pretended(tmp_path: Path) -> dict[str, str]:
    """Variables that put a stand-in for our own command in its place."""
    package = tmp_path / "incident_rollback"
    package.mkdir()
    (package / "__main__.py").write_text(PRETENDED, encoding="utf-8")
    (package / "__init__.py").touch()
    return {"PYTHONPATH": str(tmp_path), "SAYS": "hello"}


def test_a_component_comes_back_on_its_ports(
    sandbox: Sandbox, namespace: str, pretended: dict[str, str]
) -> None:
    account = {"namespace": namespace, "service_account": "default"}
    bridge = sandbox.bridge(**account, secrets={"current": "s3cret"}, env=pretended)
    bridge.start()
    ops_url, url, first = bridge.ops_url, bridge.url, bridge.proc.pid
    assert bridge.metrics() == "bridge /metrics hello"
    secrets = Path(bridge.env["INCIDENT_ROLLBACK_HMAC_SECRETS_DIR"])
    assert (secrets / "current").read_text(encoding="utf-8") == "s3cret"
    whoami = sandbox.kubectl.as_user(Path(bridge.env["KUBECONFIG"])).run("auth", "whoami")
    assert f"system:serviceaccount:{namespace}:default" in whoami.stdout

    bridge.env["SAYS"] = "again"
    bridge.restart()
    assert bridge.metrics() == "bridge /metrics again"
    assert (bridge.ops_url, bridge.url) == (ops_url, url)
    assert bridge.proc.pid != first
    bridge.kill()
    with pytest.raises(OSError, match="refused"):
        bridge.ask_ops("/livez")


def test_a_component_that_ends_before_it_is_ready_says_why(
    sandbox: Sandbox, namespace: str, pretended: dict[str, str]
) -> None:
    pretended["SAYS"] = "nothing"
    account = {"namespace": namespace, "service_account": "default"}
    controller = sandbox.controller(**account, env=pretended)
    with pytest.raises(SandboxError, match="INCIDENT_ROLLBACK_NAMESPACE is wrong"):
        controller.start()
    with pytest.raises(SandboxError, match="serves nothing"):
        _ = controller.url
