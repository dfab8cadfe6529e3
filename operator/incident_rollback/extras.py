"""
Optional halves of libraries that a process of ours has no use for, and does not load.

Each is an extra that its library can do without: it is looked for when the library is imported, and
loaded wherever it happens to be installed, for whatever reason.  That costs every process memory,
and time at its start.
"""

import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from types import ModuleType

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    # For the login "gcp" of kubeconfigs, which Kubernetes has given up, it brings `cryptography`;
    # for checking manifests before they are sent, `jsonschema`.
    "kubernetes": ("google.auth", "kubernetes_validate"),
    # The command `httpx`; brings all of `rich`, `click` and `pygments`.
    "httpx": ("httpx._main",),
}
"""A library, and the extras that it is imported without."""


def import_without_extras(*libraries: str) -> None:
    """Import some of the libraries of EXTRAS, each as where its extras are not installed."""
    for library in libraries:
        with ExitStack() as hiding:
            for extra in EXTRAS[library]:
                hiding.enter_context(hidden(extra))
            import_module(library)


@contextmanager
def hidden(name: str) -> Generator[None]:
    """
    Have a module look as if it were not installed, for the time of a block.

    None in `sys.modules` is Python's own way to say that an import is to fail.  Afterwards the
    module can be imported again; one that is loaded already stays as it is.
    """
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    if name in modules:
        yield
        return
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]
