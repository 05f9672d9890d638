"""Metrics for Prometheus. They are in a registry once, however many screens a process has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Final

from prescreen.errors import ConfigError
from prescreen.model import Event
from prescreen.telemetry.measures import MEASURES, Measure, values

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

Recorder = Callable[[tuple[str, ...], float], None]


class Prometheus:
    """An observer that makes metrics of all events, in the default registry unless another is given.

    Raises ConfigError where the package is missing.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import REGISTRY
        except ImportError as error:
            raise ConfigError("telemetry", "run: pip install 'prescreen[prometheus]'") from error
        with _making:
            self._record = _recorders(registry or REGISTRY)

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        for measure, value, labels in values(event):
            self._record[measure.name](labels, value)


_making: Final = Lock()


@cache
def _recorders(registry: CollectorRegistry) -> Mapping[str, Recorder]:
    return {measure.name: _recorder(registry, measure) for measure in MEASURES}


def _recorder(registry: CollectorRegistry, measure: Measure) -> Recorder:
    from prometheus_client import Counter, Gauge, Histogram

    name = measure.name.replace(".", "_")
    if measure.kind == "counter":
        counter = Counter(name, measure.about, measure.labels, registry=registry)
        return lambda labels, value: counter.labels(*labels).inc(value)
    if measure.kind == "gauge":
        # With several processes: in how many of those that live.
        gauge = Gauge(name, measure.about, measure.labels, registry=registry, multiprocess_mode="livesum")
        return lambda labels, value: gauge.labels(*labels).set(value)
    unit = "seconds" if measure.unit == "s" else ""
    histogram = Histogram(name, measure.about, measure.labels, unit=unit, registry=registry, buckets=measure.buckets)
    return lambda labels, value: histogram.labels(*labels).observe(value)
