from pathlib import Path

import pytest

from incident_rollback.cli.session import kubeconfig, namespace_in, own_namespace
from incident_rollback.domain.raw import Json

SHOP: Json = {"name": "prod", "context": {"cluster": "c", "namespace": "shop"}}
BARE: Json = {"name": "bare", "context": {"cluster": "c"}}

CONTEXTS: list[object] = [
    pytest.param([], "default", id="no file"),
    pytest.param([{"current-context": "prod", "contexts": [SHOP]}], "shop", id="its namespace"),
    pytest.param([{"current-context": "bare", "contexts": [SHOP, BARE]}], "default", id="none set"),
    pytest.param([{"contexts": [SHOP]}], "default", id="no current context"),
    pytest.param(
        [{"current-context": "prod"}, {"current-context": "bare", "contexts": [BARE, SHOP]}],
        "shop",
        id="the first file that names a context wins",
    ),
    pytest.param([{"current-context": "prod", "contexts": None}], "default", id="null is absent"),
]


@pytest.mark.parametrize(("files", "expected"), CONTEXTS)
def test_the_namespace_is_that_of_the_current_context(files: list[Json], expected: str) -> None:
    assert namespace_in(files) == expected


def test_the_kubeconfig_is_found_as_by_kubectl() -> None:
    assert kubeconfig({"KUBECONFIG": "/a:/b"}) == "/a:/b"
    assert kubeconfig({}) == str(Path.home() / ".kube" / "config")


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    broken, good = tmp_path / "broken", tmp_path / "good"
    broken.write_text("{", encoding="utf-8")
    good.write_text(
        "current-context: prod\ncontexts: [{name: prod, context: {namespace: shop}}]\n",
        encoding="utf-8",
    )
    assert own_namespace({"KUBECONFIG": f"/nowhere:{broken}:{good}"}) == "shop"
