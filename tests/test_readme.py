"""What the pages promise is there: targets, files, settings, reasons and metrics."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from incident_rollback.crd.v1alpha1 import Phase
from incident_rollback.errors import TerminalError
from incident_rollback.settings import PREFIX, Settings
from incident_rollback.telemetry.metrics import FAILURES, BridgeMetrics, ControllerMetrics

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "operator" / "incident_rollback"
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "docs/operations.md", *ROOT.glob("docs/adr/*.md")])

MOVES = frozenset({"Wait", "Refuse", "Succeed", "Fail"})
"""The decisions whose first word becomes the reason of Ready."""
RECORDED = frozenset({"RollingBack", "Previewed"})
"""Reasons that have no decision of that name: the record writes them itself."""
MADE_HERE = frozenset({"overlay", "dist"})
"""Folders that a reader makes."""


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_of(page: str) -> Iterator[str]:
    """Yield the code of a page: its blocks, and what stands between backticks."""
    yield from re.findall(r"^ *```sh\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))


def rows_of(table: str) -> list[list[str]]:
    """Return the cells of a table's body."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def first_words(trees: Iterable[ast.Module], callees: frozenset[str]) -> set[str]:
    """Return the literal first arguments of calls."""
    calls = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id in callees
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]


def leaf_reasons() -> set[str]:
    """Return the reasons that errors bring along."""
    return {kind.reason for kind in TerminalError.__subclasses__()}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_target_that_is_named_is_there(page: Path) -> None:
    code = "\n".join(code_of(page.read_text(encoding="utf-8")))
    named = set(re.findall(r"^\s*make ([a-z][a-z0-9-]*)", code, re.MULTILINE))
    assert named <= set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.MULTILINE))


def test_the_two_commands_are_these() -> None:
    assert {"make demo", "make test"} <= {
        line.split("#")[0].strip() for block in code_of(README) for line in block.splitlines()
    }


def test_every_target_has_a_rule_and_says_so() -> None:
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    rules = set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.MULTILINE))
    assert set(phony[1].replace("\\\n", " ").split()) == rules


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_path_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(code_of(text))
    top = "crds|manifests|operator|tests|docs"
    named = re.findall(rf"(?<![\w/.])(?:{top})/[\w./-]*[\w-]", code)
    named += re.findall(r"(?<![\w/])(?:domain|controller|crd|bridge|clients)/\w+\.py", code)
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    missing = [
        path for path in named if not (ROOT / path).exists() and not (PACKAGE / path).exists()
    ]
    missing += [path for path in linked if not (page.parent / path).exists()]
    assert missing == []


def test_every_setting_is_told_with_its_default_and_no_other() -> None:
    table = README.split("## Settings")[1].split("##")[0]
    told = {row[0].strip("`"): row[1] for row in rows_of(table)}
    fields = Settings.model_fields
    assert set(told) == {f"{PREFIX}{name.upper()}" for name in fields}
    for name, field in fields.items():
        if field.default not in (None, ""):
            is_word = isinstance(field.default, bool)
            default = str(field.default).lower() if is_word else field.default
            assert told[f"{PREFIX}{name.upper()}"] == f"`{default}`"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_no_page_names_a_setting_that_is_not_there(page: Path) -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", page.read_text(encoding="utf-8")))
    assert named <= {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def test_every_reason_of_ready_is_explained_and_no_other() -> None:
    table = README.split("<!-- reasons -->")[1].split("<!-- /reasons -->")[0]
    told = [row[0].strip("`") for row in rows_of(table)]
    assert len(told) == len(set(told))
    assert set(told) == first_words(trees(), MOVES) | leaf_reasons() | RECORDED
    assert all(all(cells) for cells in rows_of(table)), "each says what to do"


def test_reasons_stand_beside_a_phase() -> None:
    table = README.split("<!-- reasons -->")[1].split("<!-- /reasons -->")[0]
    assert {row[1] for row in rows_of(table)} <= {*map(str, Phase), "waits"}


def test_every_failure_is_counted_from_the_start() -> None:
    table = README.split("<!-- reasons -->")[1].split("<!-- /reasons -->")[0]
    failed = [row[0].strip("`") for row in rows_of(table) if row[1] == "Failed"]
    assert sorted(failed) == sorted(FAILURES)


def test_every_phase_is_explained() -> None:
    table = README.split("| phase | means |")[1].split("\n\n")[0]
    assert [row[0] for row in rows_of(f"| phase | means |{table}")] == list(map(str, Phase))


def test_every_reason_of_held_is_named() -> None:
    told = README.split("- `Held`")[1].split("- `Reported`")[0]
    assert set(re.findall(r"`([A-Z]\w+)`", told)) == first_words(trees(), frozenset({"News"}))


def test_every_metric_is_told_and_no_other() -> None:
    registries = (ControllerMetrics().registry, BridgeMetrics().registry)
    kept = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for registry in registries
        for family in registry.collect()
    }
    table = README.split("## Metrics")[1].split("\n## ")[0]
    assert {row[0].strip("`") for row in rows_of(table)} == kept


def test_the_map_of_the_package_names_every_module() -> None:
    page = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    named = re.findall(r"^    ([\w/]+\.py) ", page or "", re.MULTILINE)
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(str(path.relative_to(PACKAGE)) for path in modules)
