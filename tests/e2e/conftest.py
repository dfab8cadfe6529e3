"""
One control plane for all end-to-end tests, one operator on it, and a namespace for each test.

A test of the whole takes `stage`, or `set_stage` for another policy or Deployment; see stage.py.
"""

import contextlib
import re
import secrets
from collections.abc import Generator
from typing import Any, Protocol

import pytest

from tests.e2e.stage import BRIDGE_ACCOUNT, CONTROLLER_ACCOUNT, ROOT, Operator, Ours, Stage
from tests.sandbox.api import Json
from tests.sandbox.build import say_on_stderr
from tests.sandbox.components import Component
from tests.sandbox.errors import SandboxError
from tests.sandbox.firehydrant import StandIn
from tests.sandbox.sandbox import HOME_NAMESPACE, Sandbox
from tests.sandbox.workloads import GOOD_IMAGE, OLDER_IMAGE, a_deployment

SHOWN_COMPONENTS = 3
SHOWN_LINES = 40


@pytest.fixture(scope="session")
def sandbox(pytestconfig: pytest.Config) -> Generator[Sandbox]:
    """A running control plane with nothing of ours in it; see `Sandbox`."""
    capture: Any = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        # The first run compiles for minutes; that must not happen in silence.
        with capture.global_and_fixture_disabled():
            say_on_stderr(line)

    with Sandbox(say) as sandbox:
        yield sandbox


@pytest.fixture
def namespace(sandbox: Sandbox, request: pytest.FixtureRequest) -> Generator[str]:
    """A fresh namespace, named after the test; deleted when the test is over."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").casefold())
    name = f"{test[:40].strip('-')}-{secrets.token_hex(3)}"
    sandbox.workloads.create_namespace(name)
    yield name
    sandbox.workloads.delete_namespace(name)


@pytest.fixture(scope="session")
def operator(sandbox: Sandbox) -> Generator[Operator]:
    """The operator as installed, with a FireHydrant to talk to; see `Operator`."""
    sandbox.install(ROOT / "crds", ROOT / "manifests/base")
    for account in (CONTROLLER_ACCOUNT, BRIDGE_ACCOUNT):
        sandbox.workloads.scale(HOME_NAMESPACE, account, 0)  # Ours are real, and run out here.
    key = sandbox.root / "firehydrant-api-key"
    key.write_text("fhb-end-to-end", encoding="ascii")
    secret = secrets.token_hex(16)
    logs = {"INCIDENT_ROLLBACK_LOG_FORMAT": "text", "INCIDENT_ROLLBACK_LOG_LEVEL": "debug"}
    with StandIn() as firehydrant:
        told = {
            "INCIDENT_ROLLBACK_FIREHYDRANT_URL": firehydrant.url,
            "INCIDENT_ROLLBACK_FIREHYDRANT_API_KEY_FILE": str(key),
        }
        controller = sandbox.controller(service_account=CONTROLLER_ACCOUNT, env={**logs, **told})
        bridge = sandbox.bridge(
            service_account=BRIDGE_ACCOUNT, secrets={"current": secret}, env=logs
        )
        operator = Operator(sandbox, firehydrant, Ours.of(controller), Ours.of(bridge), secret)
        operator.controller.begin()
        operator.bridge.begin()
        yield operator
        operator.bridge.stop()
        operator.controller.stop()


class SetStage(Protocol):
    """Sets a stage; see `Stage.begin`."""

    def __call__(
        self, deployment: Json | None = None, *, policy: Json | None = None, **environment: Any
    ) -> Stage: ...


@pytest.fixture
def set_stage(operator: Operator, namespace: str) -> Generator[SetStage]:
    """Set the stage with another Deployment, policy or mapping; once a test."""
    with contextlib.ExitStack() as cleanup:

        def begin(
            deployment: Json | None = None, *, policy: Json | None = None, **environment: Any
        ) -> Stage:
            stage = Stage.begin(operator, namespace, deployment, policy=policy, **environment)
            cleanup.callback(stage.clear)
            return stage

        yield begin


@pytest.fixture
def stage(set_stage: SetStage) -> Stage:
    """`checkout` of 3 pods, healthy on nginx:1.18.0, in an environment of its own."""
    return set_stage()


@pytest.fixture
def good_and_better(set_stage: SetStage) -> Stage:
    """A stage with two good revisions: 1 is older, 2 is live."""
    stage = set_stage(a_deployment(image=OLDER_IMAGE))
    stage.deploy(GOOD_IMAGE)
    stage.wait_complete()
    return stage


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what our processes said last beside a failure."""
    report = yield
    sandbox = getattr(item, "funcargs", {}).get("sandbox")
    if call.when == "call" and report.failed and isinstance(sandbox, Sandbox):
        for component in _components(item, sandbox):
            with contextlib.suppress(SandboxError):  # It was never started.
                said = component.log_tail(SHOWN_LINES)
                report.sections.append((f"last words of {component.name}", said))
    return report


def _components(item: pytest.Function, sandbox: Sandbox) -> tuple[Component, ...]:
    operator = item.funcargs.get("operator")
    if isinstance(operator, Operator):
        return operator.controller, operator.bridge
    return sandbox.components[-SHOWN_COMPONENTS:]
