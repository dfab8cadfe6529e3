"""
Take one rule out of the program, and see which tests notice.

Nothing is written: the changed module is compiled from memory, in a process of its own that has
imported nothing of the package yet.  This module must import nothing of it either.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "operator" / "incident_rollback"
PRELOADED: Final = ("pytest", "pydantic", "kubernetes.aio.client", "aiohttp.web")
"""What every process needs and nothing changes: imported once, before they part."""
NOT_NEEDED: Final = ("cacheprovider", "threadexception", "unraisableexception")
"""Plugins that cost time, or write into the tree."""
MISHAPS: Final = frozenset({"ImportError", "ModuleNotFoundError", "NameError", "SyntaxError"})
"""What a slip in a change raises: a test that fails by these has noticed nothing."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How a safety rule is taken out, and by whom that is noticed."""

    rule: str
    """Its name in docs/design.md, section 3."""
    says: str
    """The part of it that is taken out, in words."""
    module: str
    """Below the package, e.g. `domain/aim.py`."""
    text: str
    """Where the rule is: stands there exactly once."""
    instead: str
    noticed_by: tuple[str, ...]
    """Tests, from tests/ on, all of which must fail: `unit/domain/test_aim.py::test_it[a row]`."""

    def source(self) -> str:
        """Return the module without the rule; raise ValueError when the text is not there once."""
        source = (SOURCE / self.module).read_text()
        if (found := source.count(self.text)) != 1:
            raise ValueError(f"{self.module} has {found} times, not once: {self.text!r}")
        return source.replace(self.text, self.instead)


@dataclass(slots=True)
class Verdict:
    """What became of tests: pytest's exit code, and for each that failed why, by its name."""

    exit_code: int = 0
    failed: dict[str, str] = field(default_factory=dict[str, str])
    said: str = ""


def run(removal: Removal | None, tests: Sequence[str], cache: str) -> Verdict:
    """
    Run tests without a rule, or as it is; call this in a process of its own.

    `cache` is a folder for what is compiled, which costs more than the tests.
    """
    sys.pycache_prefix, sys.dont_write_bytecode = cache, False
    assert not [name for name in sys.modules if name.startswith("incident_rollback")]
    if removal is not None:
        sys.meta_path.insert(0, _Changed(removal))
    notes, said = _Notes(), io.StringIO()
    arguments = ["-q", "--no-header", f"--rootdir={ROOT}"]
    arguments += [f"-pno:{plugin}" for plugin in NOT_NEEDED]
    named = [f"{ROOT}/tests/{test}" for test in tests]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([f"-c{ROOT / 'pyproject.toml'}", *arguments, *named], plugins=[notes])
    return Verdict(int(code), notes.failed, said.getvalue()[-2000:])


class _Notes:
    """A plugin that notes by which error each test has failed."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any]
    ) -> None:
        if call.excinfo is not None:
            name = node.nodeid.removeprefix("tests/")
            self.failed[name] = call.excinfo.typename


class _Changed(importlib.abc.MetaPathFinder):
    """Finds one module of the package, with a rule taken out."""

    def __init__(self, removal: Removal) -> None:
        self.path = str(SOURCE / removal.module)
        self.name = "incident_rollback." + removal.module.removesuffix(".py").replace("/", ".")
        self.source = removal.source()

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=_FromMemory(fullname, self.path, self.source)
        )


class _FromMemory(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        return compile(self.source, self.path, "exec", dont_inherit=True)
