"""
Whose request is being worked for, in every log line; and spans, where OpenTelemetry is there.

Spans are an extra: without the package, or without an address in OpenTelemetry's own environment
variables, nothing of it is imported and a span costs one look.  No text of anybody goes into one.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Final, Protocol, TypeAlias

from incident_rollback import __version__
from incident_rollback.domain.trace import Trace

ADDRESSES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""One of these asks for spans: without an address they would go to a port of the pod's own."""
PACKAGES: Final = (
    "opentelemetry.trace",
    "opentelemetry.sdk.resources",
    "opentelemetry.sdk.trace",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)
CLOSE_SECONDS: Final = 0.3
"""For the last spans to leave: a collector that is away must not hold up the end."""

Foreign: TypeAlias = Any
"""Something of OpenTelemetry's: where it is not installed, its types are not either."""
Load = Callable[[str], Foreign]
"""Imports a module by its name; raises ImportError."""

_followed: ContextVar[Trace | None] = ContextVar("incident_rollback_trace", default=None)

_log = logging.getLogger(__name__)


class Span(Protocol):
    """A piece of work that has a beginning and an end."""

    def note(self, **attributes: str | int) -> None:
        """Add what is known only later."""
        ...

    def fail(self, error: str) -> None:
        """Say that it failed, by the name of the error's class; its text may be anybody's."""
        ...


class NoSpan:
    """Nobody is told."""

    def note(self, **attributes: str | int) -> None:
        """Do nothing."""

    def fail(self, error: str) -> None:
        """Do nothing."""


class StartedSpan(Span, Protocol):
    """A span that somebody keeps."""

    @property
    def trace(self) -> Trace:
        """Where what is done within it stands."""
        ...

    def end(self) -> None:
        """End it."""
        ...


class Tracer(Protocol):
    """Keeps spans, and sends them somewhere."""

    def start(
        self, name: str, parent: Trace | None, attributes: Mapping[str, str | int]
    ) -> StartedSpan:
        """Start a span within a trace; None: in one of its own."""
        ...

    def close(self) -> None:
        """Send what is left, for a moment at most."""
        ...


class Tracing:
    """Who keeps the spans of this process; as with loggers, there is one for all."""

    tracer: Tracer | None = None


_NO_SPAN: Final = NoSpan()


def new_trace() -> Trace:
    """Return a trace that nobody has had before."""
    return Trace(secrets.token_hex(16))


def follow(trace: Trace | None) -> None:
    """Work for this trace from now on, in this task and in those that it starts."""
    _followed.set(trace)


def followed() -> Trace | None:
    """Return the trace that this task works for; None: it works for no request alone."""
    return _followed.get()


def with_trace(record: logging.LogRecord) -> bool:
    """Put the id of the trace on a log record; a filter that lets every record pass."""
    trace = _followed.get()
    if trace is not None and not hasattr(record, "trace_id"):
        record.trace_id = trace.trace_id
    return True


@contextmanager
def span(name: str, **attributes: str | int) -> Generator[Span]:
    """
    Make a span of what is done within, as part of the trace that is followed.

    An exception marks it as failed and goes on its way.
    """
    tracer = Tracing.tracer
    if tracer is None:
        yield _NO_SPAN
        return
    started = tracer.start(name, _followed.get(), attributes)
    before = _followed.set(started.trace)
    try:
        yield started
    except BaseException as error:
        started.fail(type(error).__name__)
        raise
    finally:
        _followed.reset(before)
        started.end()


def start(
    component: str, environ: Mapping[str, str] = os.environ, load: Load = import_module
) -> None:
    """
    Keep spans from now on, if OpenTelemetry's variables ask for it and it is installed.

    `component` becomes part of the service's name, unless a variable gives another one.
    """
    address = next((name for name in ADDRESSES if environ.get(name)), None)
    if address is None or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        Tracing.tracer = OpenTelemetry(component, *map(load, PACKAGES))
    except ImportError as error:
        _log.warning(
            "%s is set, but there are no spans: %s; "
            "install incident-rollback[otel], or remove the variable",
            address,
            error,
        )


def stop() -> None:
    """Send what is left, and keep no more spans."""
    tracer, Tracing.tracer = Tracing.tracer, None
    if tracer is not None:
        tracer.close()


@contextmanager
def traced(component: str) -> Generator[None]:
    """Keep spans, where they are asked for, until the end."""
    start(component)
    try:
        yield
    finally:
        stop()


class OpenTelemetry:
    """
    Spans by OpenTelemetry's SDK, set up by its own environment variables alone.

    Its ambient context is not used: what a span belongs to is what is followed.  Its modules are
    given, for they may not be there.
    """

    def __init__(
        self,
        component: str,
        api: Foreign,
        resources: Foreign,
        sdk: Foreign,
        export: Foreign,
        otlp: Foreign,
    ) -> None:
        ours = {"service.name": f"incident-rollback-{component}", "service.version": __version__}
        given = resources.OTELResourceDetector().detect().attributes
        self._api = api
        self._ids = _Ids()
        self._provider = sdk.TracerProvider(
            resource=resources.Resource.create({**ours, **given}),
            shutdown_on_exit=False,  # It would wait for a collector that is away.
            id_generator=self._ids,
        )
        self._provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("incident_rollback", __version__)

    def start(
        self, name: str, parent: Trace | None, attributes: Mapping[str, str | int]
    ) -> "_OpenSpan":
        """Start a span; the first of a trace takes the id that its log lines have already."""
        self._ids.trace_id = int(parent.trace_id, 16) if parent else 0
        span = self._tracer.start_span(
            name,
            context=self._api.set_span_in_context(self._remote(parent), {}),
            attributes={f"incident_rollback.{key}": value for key, value in attributes.items()},
        )
        return _OpenSpan(span, self._api)

    def close(self) -> None:
        """Send what is left.  In a thread, for it waits however often it is told not to."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="last spans")
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _remote(self, parent: Trace | None) -> Foreign:
        if parent is None or not parent.span_id:
            return self._api.INVALID_SPAN
        return self._api.NonRecordingSpan(
            self._api.SpanContext(
                int(parent.trace_id, 16),
                int(parent.span_id, 16),
                is_remote=True,
                trace_flags=self._api.TraceFlags(int(parent.is_sampled)),
            )
        )


class _OpenSpan:
    """A span of OpenTelemetry's, in our words."""

    def __init__(self, span: Foreign, api: Foreign) -> None:
        self._span = span
        self._api = api
        context = span.get_span_context()
        self.trace = Trace(
            f"{context.trace_id:032x}",
            f"{context.span_id:016x}",
            is_sampled=bool(context.trace_flags.sampled),
        )

    def note(self, **attributes: str | int) -> None:
        for key, value in attributes.items():
            self._span.set_attribute(f"incident_rollback.{key}", value)

    def fail(self, error: str) -> None:
        self._span.set_attribute("error.type", error)
        self._span.set_status(self._api.StatusCode.ERROR)

    def end(self) -> None:
        self._span.end()


class _Ids:
    """What OpenTelemetry numbers with."""

    trace_id = 0
    """Of the next trace, where it is decided already; 0: it is not."""

    def generate_trace_id(self) -> int:
        return self.trace_id or secrets.randbits(128) or 1

    def generate_span_id(self) -> int:
        return secrets.randbits(64) or 1

    def is_trace_id_random(self) -> bool:
        return True
