"""Where things are, and what a module may do when it is imported."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "operator" / "incident_rollback"
UNIT = ROOT / "tests" / "unit"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMED = [path for path in MODULES if path.name != "__init__.py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def docstrings(path: Path) -> Iterator[str]:
    """Go through all docstrings of a module, those of its fields included."""
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text
            case _:
                pass


def imported(path: Path) -> set[str]:
    """Return the top names of what a module imports, wherever it does."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name.split(".")[0] for alias in aliases}
            case ast.ImportFrom(module=str(module)):
                names.add(module.split(".")[0])
            case _:
                pass
    return names


def test_the_source_root_is_no_package() -> None:
    """With an __init__.py, `python -m anything` from here would die on `import collections`."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_the_command_works_from_the_repository_root() -> None:
    command = [sys.executable, "-m", "incident_rollback", "version"]
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(  # noqa: S603  # our own command
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == version("incident-rollback")


@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_a_module_says_what_it_knows(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_docstrings_name_no_sibling_modules(path: Path) -> None:
    """Names drift; the map of the package is the place for them."""
    siblings = "|".join(sorted({re.escape(one.stem) for one in NAMED if one != path}))
    named = re.compile(rf"\b({siblings})\.py\b|\bincident_rollback\.\w+")
    assert [text for text in docstrings(path) if named.search(text)] == []


@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_a_longer_docstring_opens_on_its_own_line(path: Path) -> None:
    crowded = [text for text in docstrings(path) if "\n" in text and not text.startswith("\n")]
    assert crowded == []


def is_harmless(node: ast.stmt) -> bool:
    """Say whether a statement of a module only defines names."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case _:
            kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef)
            return isinstance(node, (*kinds, ast.ClassDef, ast.Assign, ast.AnnAssign))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_importing_a_module_defines_names_and_does_nothing_else(path: Path) -> None:
    assert [ast.unparse(node) for node in parsed(path).body if not is_harmless(node)] == []


def test_only_the_watch_imports_kopf() -> None:
    assert [name_of(path) for path in MODULES if "kopf" in imported(path)] == [
        "controller/watch.py"
    ]


PURE = ("crd/", "domain/", "errors.py")
IMPURE = {"aiohttp", "asyncio", "httpx", "kopf", "kubernetes", "logging", "os", "time"}


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith(PURE)], ids=name_of)
def test_the_inside_is_pure(path: Path) -> None:
    assert not imported(path) & IMPURE


def test_unit_tests_mirror_the_package_path_for_path() -> None:
    tests = [path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")]
    homeless = [
        str(path)
        for path in tests
        if not (PACKAGE / path.parent / path.name.removeprefix("test_")).exists()
    ]
    assert homeless == []


WITHOUT_TESTS_OF_ITS_OWN = {
    "controller/limiter.py",  # tested with the outbox that it limits
    "domain/incident.py",  # values, and nothing that could be wrong with them
    "domain/moves.py",
}


def test_every_module_of_the_domain_and_of_the_controller_has_unit_tests() -> None:
    untested = {
        name_of(path)
        for path in NAMED
        if name_of(path).startswith(("domain/", "controller/"))
        and not (UNIT / path.relative_to(PACKAGE)).with_name(f"test_{path.name}").exists()
    }
    assert untested == WITHOUT_TESTS_OF_ITS_OWN


def test_no_file_is_named_after_nothing() -> None:
    names = {path.stem for path in [*MODULES, *(ROOT / "tests").rglob("*.py")]}
    assert not names & {"utils", "util", "common", "base", "helpers", "misc"}
