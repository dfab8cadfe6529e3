"""Extras of libraries are left out, each by a process of its own: what is loaded stays loaded."""

import importlib
import json
import subprocess
import sys
from collections.abc import Set as AbstractSet

import pytest

from incident_rollback.extras import EXTRAS, hidden

HEAVY = {
    "kubernetes": {"google.auth", "cryptography", "kubernetes_validate", "jsonschema"},
    "httpx": {"httpx._main", "pygments", "rich.console"},
}
"""What must not come along with a library, however much of it is installed."""
WHOLE = """
import json, sys
from incident_rollback.extras import import_without_extras
import_without_extras({library!r})
{then}
print(json.dumps([name for name, module in sys.modules.items() if module is not None]))
"""


def loaded(library: str, then: str = "") -> AbstractSet[str]:
    """Return what a new process has loaded after importing a library without its extra."""
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", WHOLE.format(library=library, then=then)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("library", EXTRAS)
def test_a_library_is_loaded_without_its_extra(library: str) -> None:
    found = loaded(library)
    assert library in found
    assert not found & HEAVY[library]


@pytest.mark.parametrize("library", EXTRAS)
def test_the_extras_are_installed_here_so_that_leaving_them_out_shows(library: str) -> None:
    extras = EXTRAS[library]
    assert set(extras) <= loaded(library, f"import {', '.join(extras)}")


WORKS = [
    pytest.param(
        "kubernetes",
        "from kubernetes.aio.config import load_kube_config\n"
        "from kubernetes.config import load_incluster_config, load_kube_config",
        id="kubernetes still reads kubeconfigs and what a pod has mounted",
    ),
    pytest.param(
        "httpx", "httpx = sys.modules['httpx']; httpx.AsyncClient", id="httpx still has its client"
    ),
]


@pytest.mark.parametrize(("library", "use"), WORKS)
def test_what_we_use_of_a_library_is_there(library: str, use: str) -> None:
    assert library in loaded(library, use)


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    sys.modules.pop("wsgiref.util", None)
    with hidden("wsgiref.util"), pytest.raises(ImportError):
        importlib.import_module("wsgiref.util")
    assert importlib.import_module("wsgiref.util").__name__ == "wsgiref.util"


def test_what_is_loaded_already_stays() -> None:
    with hidden("json"):
        assert importlib.import_module("json") is json
    assert sys.modules["json"] is json


def test_it_comes_back_after_an_error() -> None:
    with pytest.raises(LookupError), hidden("xml.nothing"):
        raise LookupError
    assert "xml.nothing" not in sys.modules
