"""One control plane for all end-to-end tests, and a namespace for each."""

import contextlib
import re
import secrets
from collections.abc import Generator
from typing import Any

import pytest

from tests.sandbox.build import say_on_stderr
from tests.sandbox.errors import SandboxError
from tests.sandbox.sandbox import Sandbox

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what our processes said last beside a failure."""
    report = yield
    sandbox = getattr(item, "funcargs", {}).get("sandbox")
    if call.when == "call" and report.failed and isinstance(sandbox, Sandbox):
        for component in sandbox.components[-SHOWN_COMPONENTS:]:
            with contextlib.suppress(SandboxError):  # It was never started.
                said = component.log_tail(SHOWN_LINES)
                report.sections.append((f"last words of {component.name}", said))
    return report
