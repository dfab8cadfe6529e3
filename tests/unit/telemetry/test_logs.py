import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from incident_rollback.domain.trace import Trace
from incident_rollback.telemetry.logs import (
    JsonFormatter,
    TextFormatter,
    extras_of,
    set_up,
    without_stack,
)
from incident_rollback.telemetry.traces import follow


def a_record(message: str = "claim", level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("incident_rollback.turn", level, "", 0, message, (), None)
    record.created = 1_795_400_040.5
    vars(record).update(extra)
    return record


def with_error(error: Exception) -> logging.LogRecord:
    record = a_record("it failed", logging.ERROR)
    record.exc_info = (type(error), error, None)
    return record


def test_json_is_one_object_a_line_with_what_was_given() -> None:
    line = JsonFormatter().format(a_record("näh\nme", incident="<id>", seconds=0.1, at=object()))
    assert "\n" not in line
    read = json.loads(line)
    assert read.pop("at").startswith("<object")
    assert read == {
        "time": "2026-11-23T02:14:00.500+00:00",
        "level": "info",
        "logger": "incident_rollback.turn",
        "msg": "näh\nme",
        "incident": "<id>",
        "seconds": 0.1,
    }


def test_json_has_the_exception() -> None:
    assert (
        "ValueError: no"
        in json.loads(JsonFormatter().format(with_error(ValueError("no"))))["exception"]
    )


def test_text_is_for_people() -> None:
    line = TextFormatter().format(a_record(incident="x", reason=""))
    assert line == "02:14:00.500 INFO    claim incident=x"
    assert TextFormatter().format(with_error(ValueError("no"))).endswith("\n  | ValueError: no")


FORGED = "x\n02:14:00.500 ERROR   claim reason=Forged"
"""An id of an incident that goes on as a line of ours would."""


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        pytest.param(FORGED, '"x\\n02:14:00.500 ERROR   claim reason=Forged"', id="a line break"),
        pytest.param("x\r\n", '"x\\r\\n"', id="as Windows breaks lines"),
        pytest.param("x\u2028\x85", '"x\\u2028\\u0085"', id="as Unicode breaks lines"),
        pytest.param("\x1b[2Kx\x9b", "\\u001b[2Kx\\u009b", id="what moves a terminal's cursor"),
        pytest.param("\u202ex\u200b", "\\u202ex\\u200b", id="what turns or hides the writing"),
        pytest.param("x reason=Other", '"x reason=Other"', id="another field"),
        pytest.param('x" reason="Other', '"x\\" reason=\\"Other"', id="the end of the quotes"),
        pytest.param("näh-1/2", "näh-1/2", id="all else stays as it is"),
    ],
)
def test_a_record_of_text_is_one_line_whatever_others_wrote(hostile: str, shown: str) -> None:
    line = TextFormatter().format(a_record(incident=hostile, code=200))
    assert line.splitlines() == [line]
    assert line == f"02:14:00.500 INFO    claim incident={shown} code=200"


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@pytest.mark.parametrize("hostile", [FORGED, "x\u2028y\x85z\x1b[2K\u202e", "x\r\ny"])
def test_a_message_begins_no_line(formatter: logging.Formatter, hostile: str) -> None:
    (line,) = formatter.format(a_record(hostile)).splitlines()
    assert line.isprintable()


def test_json_is_read_as_it_was_given_though_it_is_escaped() -> None:
    given = "x\u2028\U000e0001\x85\x9b y"
    assert json.loads(JsonFormatter().format(a_record(incident=given)))["incident"] == given


def test_a_traceback_looks_like_no_record_whatever_the_exception_says() -> None:
    first, *stack = TextFormatter().format(with_error(ValueError(FORGED))).splitlines()
    assert first == "02:14:00.500 ERROR   it failed"
    assert stack == ["  | ValueError: x", "  | 02:14:00.500 ERROR   claim reason=Forged"]


def test_extras_are_what_is_not_the_records_own() -> None:
    assert extras_of(a_record()) == {}
    assert extras_of(a_record(a=1, _private=2, taskName="t")) == {"a": 1}


STACKS = [
    pytest.param("kopf.objects", False, id="kopf dies loudly of what is ordinary here"),
    pytest.param("kopfish", True, id="another one"),
    pytest.param("incident_rollback", True, id="ours"),
]


@pytest.mark.parametrize(("name", "is_kept"), STACKS)
def test_kopfs_stacks_are_left_out_and_its_line_is_kept(name: str, is_kept: bool) -> None:
    record = with_error(ValueError("no"))
    record.name = name
    assert without_stack(record)
    assert ("ValueError" in TextFormatter().format(record)) is is_kept


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Leave the logging of the tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_set_up_writes_to_stderr_at_a_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("json", "warning")
    logging.getLogger("incident_rollback").info("not heard")
    logging.getLogger("incident_rollback").warning("heard")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["msg"] == "heard"


async def test_set_up_puts_the_trace_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("json", "info")
    follow(Trace("4bf92f3577b34da6a3ce929d0e0e4736"))
    logging.getLogger("httpx").warning("another library's")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_libraries_that_talk_on_each_call_are_heard_from_warning_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up("text", "debug")
    for name in ("kopf", "httpx", "aiohttp.access", "urllib3", "asyncio"):
        logging.getLogger(name).info("not heard")
    logging.getLogger("incident_rollback").debug("heard")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("DEBUG   heard")
