"""An answer, and how it is written: as a page for people, or as data for programs."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from incident_rollback.cli.options import Exit, Output

PIPED_WIDTH: Final = 100_000
"""Nothing is cut or wrapped where nobody looks at it."""

GOOD: Final = r"\b(Succeeded|Chosen|live|yes)\b"
BAD: Final = r"\b(Failed|rolled back from|no)\b"
UNDECIDED: Final = r"\b(Refused|PassedOver|Pending|RollingBack)\b"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: its head, and rows of as many cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Page: TypeAlias = Sequence[str | Grid]
"""Lines of text and tables, top down."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found, in every form that it may be asked for."""

    page: Page
    data: object
    """The same as JSON: dicts, lists, texts and numbers."""
    names: tuple[str, ...]
    """The objects it is about, as kubectl names them: `deployment.apps/checkout`."""
    code: Exit = Exit.FINE


def plain(text: str) -> str:
    """
    Return a text that others wrote, harmless to a terminal.

    Escape sequences and line breaks become spaces; what is invisible or turns the direction of
    writing is left out.
    """
    kinds = ((char, unicodedata.category(char)) for char in text)
    return "".join(" " if kind in _BREAKS else char for char, kind in kinds if kind != "Cf")


_BREAKS: Final = ("Cc", "Zl", "Zp", "Cs")


def make_console(*, stderr: bool = False) -> Console:
    """Return a console for stdout or stderr; without colours and as wide as need be in a pipe."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def write(answer: Answer, output: Output, console: Console) -> None:
    """Write an answer in the form that was asked for."""
    match output:
        case Output.TABLE:
            _write_page(answer.page, console)
        case Output.JSON:
            sys.stdout.write(json.dumps(answer.data, indent=2, ensure_ascii=False) + "\n")
        case Output.YAML:
            sys.stdout.write(yaml.safe_dump(answer.data, sort_keys=False, allow_unicode=True))
        case Output.NAME:
            sys.stdout.write("".join(f"{name}\n" for name in answer.names))


def line(text: str) -> Text:
    """Return a line in colours, which only a terminal shows."""
    made = Text(plain(text))
    for pattern, style in ((GOOD, "green"), (BAD, "red"), (UNDECIDED, "yellow")):
        made.highlight_regex(pattern, style)
    return made


def facts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return names and values, one pair a line, those without a value left out."""
    known = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in known), default=0)
    return [f"{name:<{width}}  {value}" for name, value in known]


def _write_page(page: Page, console: Console) -> None:
    for block in page:
        if isinstance(block, Grid):
            console.print(_table(block))
        else:
            console.print(line(block), soft_wrap=True)


def _table(grid: Grid) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in grid.head:
        table.add_column(title, overflow="fold")
    for row in grid.rows:
        table.add_row(*(_cell(cell) for cell in row))
    return table


def _cell(text: str) -> Text:
    """Colour a cell only where it is nothing but the word."""
    made = Text(plain(text))
    for pattern, style in ((GOOD, "green"), (BAD, "red"), (UNDECIDED, "yellow")):
        made.highlight_regex(f"^{pattern}$", style)
    return made
