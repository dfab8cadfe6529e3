import asyncio
import logging
from collections.abc import Iterator

import pytest

from incident_rollback import __version__
from incident_rollback.domain.trace import Trace
from incident_rollback.telemetry.traces import (
    ADDRESSES,
    PACKAGES,
    Tracing,
    follow,
    followed,
    new_trace,
    span,
    start,
    stop,
    traced,
    with_trace,
)
from tests.fakes.tracer import FakeOpenTelemetry, FakeTracer

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736")
WITHIN = Trace(TRACE.trace_id, "00f067aa0ba902b7", is_sampled=False)
ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.fixture(autouse=True)
def nobody_keeps_spans() -> Iterator[None]:
    yield
    Tracing.tracer = None


@pytest.fixture
def tracer() -> FakeTracer:
    Tracing.tracer = tracer = FakeTracer()
    return tracer


# Log lines


def a_record() -> logging.LogRecord:
    return logging.LogRecord("incident_rollback", logging.INFO, "", 0, "", (), None)


def id_on(record: logging.LogRecord) -> str | None:
    assert with_trace(record)
    found: str | None = getattr(record, "trace_id", None)
    return found


async def test_a_line_has_the_trace_that_its_task_follows() -> None:
    assert id_on(a_record()) is None
    follow(TRACE)
    assert id_on(a_record()) == TRACE.trace_id
    follow(None)
    assert id_on(a_record()) is None


async def test_a_line_that_names_a_trace_keeps_it() -> None:
    record = a_record()
    record.trace_id = "its own"
    follow(TRACE)
    assert id_on(record) == "its own"


async def test_what_a_task_starts_follows_the_same_and_changes_nothing_for_it() -> None:
    async def other() -> Trace | None:
        inherited = followed()
        follow(new_trace())
        return inherited

    follow(TRACE)
    assert await asyncio.create_task(other()) == TRACE
    assert followed() == TRACE


def test_no_two_traces_are_new() -> None:
    assert len({new_trace() for _ in range(100)}) == 100


# Spans


async def test_where_nobody_keeps_spans_there_are_none() -> None:
    follow(TRACE)
    with span("turn", rollback="a/b") as made:
        made.note(phase="Pending")
        made.fail("KeyError")
        assert followed() == TRACE


async def test_a_span_belongs_to_what_is_followed_and_what_is_done_within_to_the_span(
    tracer: FakeTracer,
) -> None:
    follow(TRACE)
    with span("turn", rollback="a/b") as turn:
        turn.note(phase="Pending")
        with span("patch"):
            pass
    first, second = tracer.spans
    assert (first.name, first.parent) == ("turn", TRACE)
    assert first.attributes == {"rollback": "a/b", "phase": "Pending"}
    assert (second.name, second.parent) == ("patch", first.trace)
    assert first.is_ended
    assert second.is_ended
    assert followed() == TRACE


async def test_a_span_that_follows_nothing_has_a_trace_of_its_own(tracer: FakeTracer) -> None:
    with span("turn"):
        assert followed() == tracer.spans[0].trace
    assert tracer.spans[0].parent is None
    assert followed() is None


async def test_an_exception_marks_its_span_by_class_alone(tracer: FakeTracer) -> None:
    with pytest.raises(KeyError), span("turn"):
        raise KeyError("PWNED")
    (failed,) = tracer.spans
    assert (failed.error, failed.is_ended) == ("KeyError", True)


# OpenTelemetry


NOT_ASKED = [
    pytest.param({}, id="no variable"),
    pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, id="an empty one"),
    pytest.param({"OTEL_SERVICE_NAME": "x"}, id="a variable that is no address"),
    pytest.param({**ASKED, "OTEL_SDK_DISABLED": "true"}, id="switched off"),
]


@pytest.mark.parametrize("environ", NOT_ASKED)
def test_nothing_is_imported_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    fake = FakeOpenTelemetry()
    start("bridge", environ, fake.load)
    assert fake.loaded == []
    assert Tracing.tracer is None


def test_without_the_package_one_line_says_so_and_all_else_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    start("bridge", ASKED, missing)
    (line,) = caplog.messages
    assert line.startswith("OTEL_EXPORTER_OTLP_ENDPOINT is set, but there are no spans: ")
    assert "incident-rollback[otel]" in line
    assert Tracing.tracer is None


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_enough(address: str) -> None:
    fake = FakeOpenTelemetry()
    start("bridge", {address: "http://collector:4318"}, fake.load)
    assert fake.loaded == list(PACKAGES)
    assert fake.processors == [["an exporter"]]
    assert fake.resource == {
        "service.name": "incident-rollback-bridge",
        "service.version": __version__,
    }


def test_the_services_name_can_be_given() -> None:
    environ = {**ASKED, "OTEL_SERVICE_NAME": "rollbacks"}
    fake = FakeOpenTelemetry(environ)
    start("bridge", environ, fake.load)
    assert fake.resource["service.name"] == "rollbacks"


async def test_the_first_span_of_a_trace_has_no_parent_and_the_id_of_its_lines() -> None:
    fake = FakeOpenTelemetry()
    start("controller", ASKED, fake.load)
    follow(TRACE)
    with span("turn", rollback="a/b") as made:
        made.note(phase="Pending")
        within = followed()
    (kept,) = fake.spans
    assert kept.given["parent"].span_id == 0
    assert f"{kept.context.trace_id:032x}" == TRACE.trace_id
    assert within == Trace(TRACE.trace_id, f"{kept.context.span_id:016x}")
    assert kept.attributes == {
        "incident_rollback.rollback": "a/b",
        "incident_rollback.phase": "Pending",
    }
    assert kept.is_ended


async def test_a_later_span_continues_where_the_sender_was() -> None:
    fake = FakeOpenTelemetry()
    start("controller", ASKED, fake.load)
    follow(WITHIN)
    with pytest.raises(KeyError), span("turn"):
        raise KeyError("PWNED")
    (kept,) = fake.spans
    parent = kept.given["parent"]
    assert (parent.is_remote, parent.trace_flags.sampled) == (True, False)
    assert f"{parent.trace_id:032x}-{parent.span_id:016x}" == f"{WITHIN.trace_id}-{WITHIN.span_id}"
    assert (kept.status, kept.attributes) == ("ERROR", {"error.type": "KeyError"})


async def test_spans_of_no_trace_have_traces_of_their_own() -> None:
    fake = FakeOpenTelemetry()
    start("controller", ASKED, fake.load)
    for trace in (TRACE, None, None):
        follow(trace)
        with span("turn"):
            pass
    assert len({one.context.trace_id for one in fake.spans}) == 3


def test_at_the_end_what_is_left_is_sent() -> None:
    fake = FakeOpenTelemetry()
    start("controller", ASKED, fake.load)
    stop()
    assert fake.is_shut_down
    assert Tracing.tracer is None
    stop()


async def test_a_process_keeps_spans_until_its_end() -> None:
    Tracing.tracer = tracer = FakeTracer()
    with traced("bridge"), span("webhook"):  # No variable asks for another one.
        pass
    assert len(tracer.spans) == 1
    assert tracer.is_closed
