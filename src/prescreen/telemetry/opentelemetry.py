"""Metrics and spans for OpenTelemetry, by its API alone: where they go is for the app's own SDK to say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prescreen.errors import ConfigError
from prescreen.model import Called, Cause, Event, Record
from prescreen.telemetry.measures import MEASURES, Measure, values

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import SpanKind, TracerProvider
    from opentelemetry.util.types import AttributeValue

Attributes = Mapping[str, "AttributeValue | None"]

_FAILURES: Final = (Cause.UNAVAILABLE, Cause.OVERLOADED)


class OpenTelemetry:
    """An observer that makes metrics of all events, and a span of each screening and of each call to a moderator.

    A screening's span belongs to whatever span is current, such as the server's. On ASGI a call's span stands alone, since a call may be
    for several requests; on WSGI it belongs to the one that made it. The providers are the global ones, unless
    others are given. Raises ConfigError where the package is missing.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise ConfigError("telemetry", "run: pip install 'prescreen[otel]'") from error
        self._trace = trace
        self._tracer = trace.get_tracer("prescreen", version("prescreen"), tracer_provider)
        meter = metrics.get_meter("prescreen", version("prescreen"), meter_provider)
        self._record = {measure.name: _recorder(meter, measure) for measure in MEASURES}

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        for measure, value, labels in values(event):
            self._record[measure.name](value, _attributes(measure.labels, labels))
        if isinstance(event, Record):
            self._screening(event)
        elif isinstance(event, Called):
            self._call(event)

    def _screening(self, record: Record) -> None:
        decision = record.decision
        about: Attributes = {
            "prescreen.decision.id": decision.id,
            "prescreen.action": decision.action.value,
            "prescreen.cause": decision.cause.value,
            "prescreen.mode": decision.mode.value,
            "prescreen.rule": decision.rule,
            "prescreen.rung": decision.rung,
            "prescreen.degraded": decision.degraded,
            "prescreen.categories": decision.categories or None,
            "prescreen.moderator": record.moderator,
            "prescreen.texts": record.texts,
            "prescreen.images": record.images,
            **{f"prescreen.stage.{stage}": seconds for stage, seconds in record.stages.items()},
        }
        has_failed = decision.cause in _FAILURES
        self._span("prescreen.screening", sum(record.stages.values()), about, self._trace.SpanKind.INTERNAL, has_failed)

    def _call(self, called: Called) -> None:
        about: Attributes = {
            "prescreen.moderator": called.moderator,
            "prescreen.texts": called.texts,
            "prescreen.images": called.images,
            "prescreen.tokens": called.tokens,
            "prescreen.queued": called.queued,
            "error.type": called.error,
        }
        has_failed = called.error is not None
        self._span("prescreen.call", called.seconds, about, self._trace.SpanKind.CLIENT, has_failed)

    def _span(self, name: str, seconds: float, about: Attributes, kind: SpanKind, has_failed: bool) -> None:  # noqa: FBT001  # it has no other reading
        end = time.time_ns()
        known = {key: value for key, value in about.items() if value is not None}
        span = self._tracer.start_span(name, kind=kind, attributes=known, start_time=end - int(seconds * 1e9))
        if has_failed:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(end)


def _recorder(meter: Meter, measure: Measure) -> Callable[[float, Mapping[str, AttributeValue]], None]:
    about = {"name": measure.name, "unit": measure.unit, "description": measure.about}
    if measure.kind == "counter":
        return meter.create_counter(**about).add
    if measure.kind == "gauge":
        return meter.create_gauge(**about).set
    return meter.create_histogram(**about, explicit_bucket_boundaries_advisory=measure.buckets).record


@cache
def _attributes(names: tuple[str, ...], given: tuple[str, ...]) -> Mapping[str, AttributeValue]:
    """The labels as attributes; `error.type` is OpenTelemetry's own name."""
    named = zip(names, given, strict=True)
    return {"error.type" if name == "error" else f"prescreen.{name}": value for name, value in named if value}
