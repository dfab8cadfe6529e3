"""
Count how many small faults in what decides the quick tests find.

mutmut changes one operator, constant, argument or `case` at a time, in a copy of the tree, and runs
the tests that come by there.  Which files it changes and which tests it runs is in pyproject.toml.
What is left is tried once more with every module imported anew, for tables are made at import.
Run as `python -m tests.mutants`: it prints what survived, writes the table of docs/mutants.md, and
fails below the wanted score.  With `survivors` it tries only what survived the last time.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "mutants.md"
COPY: Final = Path(os.environ.get("MUTANTS_COPY", ROOT / ".cache" / "mutants"))
"""Stays from run to run: mutmut tries again only what has changed since."""
PROCESSES: Final = 2
AFRESH: Final = """
process_isolation = "forkserver"
forkserver_warmup = "import"
preload_modules_file = "preload.txt"
timeout_constant = 4.0
"""
"""How what survived is tried again: each in a process that has imported nothing of ours."""
PRELOADED: Final = "kubernetes.aio.client\npydantic\n"
WANTED: Final = 0.90
"""Of all mutants, the share that the tests must find."""
SURVIVED: Final = 0
UNTESTED: Final = 33
"""mutmut's word for a mutant that no test comes by: counted as survived."""
TABLE: Final = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of the table -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Score:
    """Of one module, or of all: how many mutants there were, and how many were found."""

    name: str
    killed: int
    survived: int

    @property
    def share(self) -> float:
        return self.killed / (self.killed + self.survived or 1)


def unfold_properties(source: str) -> str:
    """
    Write each property as a method and an assignment of the same meaning.

    mutmut leaves decorated functions alone, and ours hold rules.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(
                decorator_list=[ast.Name(id="property" | "cached_property" as kind)]
            ):
                _unfold(lines, node, kind)
            case _:
                pass
    return "".join(lines)


def _unfold(lines: list[str], method: ast.FunctionDef, kind: str) -> None:
    """Change the lines of one property."""
    indent, last = " " * method.col_offset, (method.end_lineno or method.lineno) - 1
    lines[method.decorator_list[0].lineno - 1] = "\n"
    head = lines[method.lineno - 1]
    lines[method.lineno - 1] = head.replace(f"def {method.name}(", f"def _read_{method.name}(", 1)
    lines[last] += f"\n{indent}{method.name} = {kind}(_read_{method.name})\n"


def write(path: Path, text: str) -> None:
    """Write only what is new: mutmut looks at the times of files."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def mirror(source: Path, target: Path, *, unfolded: bool) -> None:
    """Make `target` hold the files of `source`, and no others."""
    kept = [
        path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    for path in kept:
        copied = target / path.relative_to(source)
        if path.suffix == ".py":
            text = path.read_text()
            write(copied, unfold_properties(text) if unfolded else text)
        else:
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copied)
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if not (source / path.relative_to(target)).exists():
            path.unlink()


def lay_out(settings: str = "") -> None:
    """Copy the tree, with the package below `src`: mutmut knows no other name for it."""
    mirror(ROOT / "operator", COPY / "src", unfolded=True)
    mirror(ROOT / "tests", COPY / "tests", unfolded=False)
    pinned = (ROOT / "pyproject.toml").read_text().replace('"operator", "."', '"src", "."')
    first = "use_git_change_detection = false\n"
    write(COPY / "pyproject.toml", pinned.replace(first, first + settings))
    write(COPY / "preload.txt", PRELOADED)
    # mutmut copies what it does not change only once, and asks old tests no more what they cover.
    for stale in ("tests", "pyproject.toml", "mutmut-stats.json"):
        path = COPY / "mutants" / stale
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def run_mutmut(names: Sequence[str]) -> None:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(PROCESSES), *names]
    subprocess.run(["nice", "-n", "19", *command], cwd=COPY, check=True)  # noqa: S603, S607


def results() -> Iterator[tuple[str, Mapping[str, int]]]:
    """Yield each module and how its mutants ended, by mutmut's exit codes."""
    made = COPY / "mutants" / "src" / "incident_rollback"
    for meta in sorted(made.rglob("*.py.meta")):
        ended = json.loads(meta.read_text())["exit_code_by_key"]
        if ended:
            yield str(meta.relative_to(made)).removesuffix(".meta"), ended


def is_survivor(code: int | None) -> bool:
    return code in {None, SURVIVED, UNTESTED}


def scored(ended: Mapping[str, Mapping[str, int]]) -> Iterator[Score]:
    for module, codes in ended.items():
        survived = sum(map(is_survivor, codes.values()))
        yield Score(module, len(codes) - survived, survived)


def sum_of(scores: Iterable[Score]) -> Score:
    every = list(scores)
    return Score("all", sum(one.killed for one in every), sum(one.survived for one in every))


def as_table(scores: Iterable[Score]) -> str:
    rows = [
        f"| {one.name} | {one.killed + one.survived} | {one.killed} | {one.survived} "
        f"| {one.share:.1%} |\n"
        for one in scores
    ]
    return "".join(
        ["| module | mutants | killed | survived | score |\n", "|---|--:|--:|--:|--:|\n", *rows]
    )


def survivors() -> list[str]:
    return [name for _, codes in results() for name, code in codes.items() if is_survivor(code)]


def main(arguments: Sequence[str]) -> int:
    if arguments != ["survivors"]:
        lay_out()
        run_mutmut([])
    lay_out(AFRESH)
    run_mutmut(survivors())
    scores = list(scored(dict(results())))
    table = as_table([*scores, sum_of(scores)])
    PAGE.write_text(TABLE.sub(lambda _: table, PAGE.read_text()))
    print("\n".join([*survivors(), "", table]))  # noqa: T201  # what was asked for
    return 0 if sum_of(scores).share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
