import io
import json
from typing import Any

import pytest
import yaml
from rich.console import Console

from incident_rollback.cli.options import Output
from incident_rollback.cli.page import (
    PIPED_WIDTH,
    Answer,
    Grid,
    facts,
    line,
    make_console,
    plain,
    write,
)

LONG = "because " * 60
ANSWER = Answer(
    page=[
        "Phase  Succeeded",
        "",
        Grid(("REVISION", "WHY"), (("1", LONG), ("2", "[bold]no[/bold]"))),
    ],
    data={"phase": "Succeeded", "words": "größer"},
    names=("deployment.apps/checkout", "deployment.apps/cart"),
)

HARMLESS = [
    pytest.param("checkout:1.18.0", "checkout:1.18.0", id="what is plain stays"),
    pytest.param("größer – 障害", "größer – 障害", id="every script stays"),
    pytest.param("\x1b[31mred\x1b[0m", " [31mred [0m", id="an escape sequence is none any more"),
    pytest.param("\x9b31m", " 31m", id="nor is the short one"),
    pytest.param("one\r\ntwo\tthree", "one  two three", id="one line"),
    pytest.param("ab\u202ecd\u200b", "abcd", id="nothing turns the direction or hides"),
    pytest.param("a\u2028b", "a b", id="a line separator is a space"),
]


@pytest.mark.parametrize(("given", "expected"), HARMLESS)
def test_texts_of_others_are_harmless_to_a_terminal(given: str, expected: str) -> None:
    assert plain(given) == expected


def piped(capsys: pytest.CaptureFixture[str], output: Output) -> str:
    write(ANSWER, output, make_console())
    return capsys.readouterr().out


def test_a_pipe_gets_no_colours_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    out = piped(capsys, Output.TABLE)
    assert "\x1b" not in out
    assert LONG.strip() in out
    assert len(out.splitlines()) == 5
    assert "[bold]no[/bold]" in out, "markup of others is text"


def test_a_terminal_gets_colours() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    write(ANSWER, Output.TABLE, terminal)
    assert isinstance(terminal.file, io.StringIO)
    assert "\x1b[32mSucceeded" in terminal.file.getvalue()


def test_json_and_yaml_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    as_json: Any = json.loads(piped(capsys, Output.JSON))
    assert as_json == yaml.safe_load(piped(capsys, Output.YAML)) == ANSWER.data


def test_names_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert piped(capsys, Output.NAME) == "deployment.apps/checkout\ndeployment.apps/cart\n"


def test_a_console_in_a_pipe_is_as_wide_as_need_be() -> None:
    assert make_console().width == PIPED_WIDTH


def test_facts_are_aligned_and_those_without_a_value_left_out() -> None:
    assert facts([("From", "2"), ("Workload", "checkout"), ("Plan", "")]) == [
        "From      2",
        "Workload  checkout",
    ]


def test_a_line_is_coloured_by_whole_words() -> None:
    assert [str(span.style) for span in line("Failed: it is not Succeededly").spans] == ["red"]
