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

    given = measure.name.replace(".", "_"), measure.about, measure.labels
    if measure.kind == "counter":
        counter = Counter(*given, registry=registry)
        return _remembered(lambda labels: counter.labels(*labels).inc)
    if measure.kind == "gauge":
        # With several processes: in how many of those that live.
        gauge = Gauge(*given, registry=registry, multiprocess_mode="livesum")
        return _remembered(lambda labels: gauge.labels(*labels).set)
    unit = "seconds" if measure.unit == "s" else ""
    histogram = Histogram(*given, unit=unit, registry=registry, buckets=measure.buckets)
    return _remembered(lambda labels: histogram.labels(*labels).observe)


def _remembered(child: Callable[[tuple[str, ...]], Callable[[float], None]]) -> Recorder:
    """Finding the child of some labels takes longer than the rest; there are few of them."""
    found = cache(child)
    return lambda labels, value: found(labels)(value)
