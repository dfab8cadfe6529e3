import asyncio
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from incident_rollback.__main__ import app
from incident_rollback.cli.commands import INTERRUPTED, finish, speaking, stop
from incident_rollback.cli.options import Exit, Output
from incident_rollback.cli.page import Answer
from incident_rollback.errors import ForbiddenError, UnavailableError

FOR_PEOPLE = (
    "preview",
    "rollback",
    "check",
    "approve",
    "get",
    "describe",
    "wait",
    "history",
)
WIDE = {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}


@pytest.mark.parametrize("command", FOR_PEOPLE)
def test_help_tells_the_exit_codes(command: str) -> None:
    said = CliRunner().invoke(app, [command, "--help"], env=WIDE)
    assert said.exit_code == 0
    assert "Exit codes: 0 fine; 1 the answer is no" in said.output
    assert "3 timed out waiting" in " ".join(said.output.split())


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["rollback"], id="no workload"),
        pytest.param(["rollback", "deploy/x"], id="no namespace"),
        pytest.param(["rollback", "deploy/x", "-n", "y", "--to-revision", "0"], id="no revision"),
        pytest.param(["get", "-o", "xml"], id="no format"),
        pytest.param(["undo"], id="no command"),
    ],
)
def test_wrong_use_is_two(args: list[str]) -> None:
    assert CliRunner().invoke(app, args).exit_code == Exit.WRONG_USE


async def no() -> Answer:
    await asyncio.sleep(0)
    return Answer(["Refused"], {}, ("x/y",), Exit.NO)


async def forbidden() -> Answer:
    raise ForbiddenError("jane may not\n  get it")


async def interrupted() -> Answer:
    raise KeyboardInterrupt


def test_an_answer_is_written_and_its_code_returned(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        finish(no, Output.NAME)
    assert ended.value.code == Exit.NO
    assert capsys.readouterr().out == "x/y\n"


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        finish(forbidden, Output.TABLE)
    assert ended.value.code == Exit.WRONG_USE
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "incident-rollback: jane may not get it\n")


def test_an_end_by_hand_says_that_the_rollback_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        finish(interrupted, Output.TABLE)
    assert ended.value.code == INTERRUPTED
    assert "goes on" in capsys.readouterr().err


def test_an_unreachable_cluster_is_two() -> None:
    with pytest.raises(SystemExit) as ended:
        stop(UnavailableError("away"))
    assert ended.value.code == Exit.WRONG_USE


@pytest.mark.parametrize(
    ("output", "where"), [(Output.TABLE, "out"), (Output.JSON, "err"), (Output.NAME, "err")]
)
def test_lines_stay_out_of_the_way_of_data(
    output: Output, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with speaking(output) as say:
        say("02:14:00 Pending")
    said = capsys.readouterr()
    assert getattr(said, where) == "02:14:00 Pending\n"
    assert said.out + said.err == "02:14:00 Pending\n"


def test_the_long_running_processes_load_nothing_for_people() -> None:
    code = (
        "import sys, incident_rollback.__main__; "
        "print(sorted({'rich.table', 'yaml', 'kubernetes'} & set(sys.modules)))"
    )
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
