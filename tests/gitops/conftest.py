"""
The control plane and the operator of the end-to-end tests, with a GitOps tool beside them.

A test takes `open_stage`: its namespace is empty, for what is deployed there the tool deploys.
"""

import contextlib
from collections.abc import Generator
from typing import Any, Protocol

import pytest

from tests.e2e.conftest import namespace, operator, pytest_runtest_makereport, sandbox
from tests.e2e.stage import Operator, Stage
from tests.gitops.scene import SERVICE
from tests.sandbox.build import Say, say_on_stderr

__all__ = ["namespace", "operator", "pytest_runtest_makereport", "sandbox"]


class OpenStage(Protocol):
    """Lets the operator into the namespace, under a policy."""

    def __call__(self, **policy: Any) -> Stage: ...


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """Shows a line of progress past pytest, for the first run compiles for minutes."""
    capture: Any = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            say_on_stderr(line)

    return say


@pytest.fixture
def open_stage(operator: Operator, namespace: str) -> Generator[OpenStage]:
    """A stage with nothing on it yet; once a test."""
    with contextlib.ExitStack() as cleanup:

        def begin(**policy: Any) -> Stage:
            stage = Stage(
                operator=operator,
                namespace=namespace,
                name=SERVICE,
                since=operator.sandbox.audit.mark(),
                seen_violations=len(operator.firehydrant.violations),
            )
            stage.let_in()
            stage.map(policy=policy)
            cleanup.callback(stage.clear)
            return stage

        yield begin
