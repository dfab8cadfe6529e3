"""Tracers in memory: one of ours, and OpenTelemetry's modules where it is not installed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from incident_rollback.domain.trace import Trace


@dataclass
class FakeSpan:
    """A span as it was left."""

    name: str
    parent: Trace | None
    trace: Trace
    attributes: dict[str, str | int]
    error: str = ""
    is_ended: bool = False

    def note(self, **attributes: str | int) -> None:
        self.attributes |= attributes

    def fail(self, error: str) -> None:
        self.error = error

    def end(self) -> None:
        self.is_ended = True


@dataclass
class FakeTracer:
    """Keeps every span, in the order in which they were started; numbers instead of chance."""

    spans: list[FakeSpan] = field(default_factory=list[FakeSpan])
    is_closed: bool = False

    def start(
        self, name: str, parent: Trace | None, attributes: Mapping[str, str | int]
    ) -> FakeSpan:
        number = len(self.spans) + 1
        trace_id = parent.trace_id if parent else f"{number:032x}"
        made = FakeSpan(name, parent, Trace(trace_id, f"{number:016x}"), dict(attributes))
        self.spans.append(made)
        return made

    def close(self) -> None:
        self.is_closed = True

    def named(self, name: str) -> list[FakeSpan]:
        return [one for one in self.spans if one.name == name]


class OpenSpan:
    """What OpenTelemetry's span is to those who use it."""

    def __init__(self, context: Any, **given: Any) -> None:
        self.context, self.given = context, given
        self.attributes: dict[str, Any] = dict(given.get("attributes", {}))
        self.status: object = None
        self.is_ended = False

    def get_span_context(self) -> Any:
        return self.context

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_status(self, status: object) -> None:
        self.status = status

    def end(self) -> None:
        self.is_ended = True


class FakeOpenTelemetry:
    """
    OpenTelemetry's modules, as far as we use them; give `load` to whoever would import them.

    Kinder than the real ones: nothing is sent anywhere, and everything is sampled.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.environ = environ or {}
        self.loaded: list[str] = []
        self.spans: list[OpenSpan] = []
        self.resource: dict[str, str] = {}
        self.ids: Any = None
        self.is_shut_down = False
        self.processors: list[object] = []

    def load(self, name: str) -> Any:
        self.loaded.append(name)
        return {
            "opentelemetry.trace": SimpleNamespace(
                INVALID_SPAN=OpenSpan(SimpleNamespace(trace_id=0, span_id=0)),
                NonRecordingSpan=OpenSpan,
                SpanContext=self._span_context,
                StatusCode=SimpleNamespace(ERROR="ERROR"),
                TraceFlags=lambda flags: SimpleNamespace(sampled=bool(flags)),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
                set_span_in_context=lambda span, _: span,  # pyright: ignore[reportUnknownLambdaType]
            ),
            "opentelemetry.sdk.resources": SimpleNamespace(
                OTELResourceDetector=lambda: self,
                Resource=SimpleNamespace(create=dict),
            ),
            "opentelemetry.sdk.trace": SimpleNamespace(TracerProvider=self._provide),
            "opentelemetry.sdk.trace.export": SimpleNamespace(BatchSpanProcessor=list),
            "opentelemetry.exporter.otlp.proto.http.trace_exporter": SimpleNamespace(
                OTLPSpanExporter=lambda: ["an exporter"]
            ),
        }[name]

    def detect(self) -> Any:
        name = self.environ.get("OTEL_SERVICE_NAME")
        return SimpleNamespace(attributes={"service.name": name} if name else {})

    def _provide(self, *, resource: Any, shutdown_on_exit: bool, id_generator: Any) -> Any:
        assert not shutdown_on_exit
        self.resource, self.ids = resource, id_generator
        return self

    def add_span_processor(self, processor: object) -> None:
        self.processors.append(processor)

    def get_tracer(self, *_: str) -> Any:
        return self

    def shutdown(self) -> None:
        self.is_shut_down = True

    def start_span(self, name: str, *, context: OpenSpan, attributes: Any) -> OpenSpan:
        parent = context.get_span_context()
        trace_id = parent.trace_id or self.ids.generate_trace_id()
        own = self._span_context(
            trace_id, self.ids.generate_span_id(), trace_flags=SimpleNamespace(sampled=True)
        )
        self.spans.append(OpenSpan(own, name=name, parent=parent, attributes=attributes))
        return self.spans[-1]

    def _span_context(self, trace_id: int, span_id: int, **more: Any) -> Any:
        return SimpleNamespace(trace_id=trace_id, span_id=span_id, **more)
