"""Telling others what happens: the observers of a screen, and two that come with prescreen.

An observer is any plain callable that takes an event: a Record of each decision, an Asked for each question to a
moderator, a Called for each call to one, a CircuitChanged. It runs where the event happens, so it must not block.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from prescreen.errors import ConfigError, raised_at
from prescreen.model import Event, Observer
from prescreen.telemetry.opentelemetry import OpenTelemetry
from prescreen.telemetry.prometheus import Prometheus

if TYPE_CHECKING:
    from prescreen.config import Settings

__all__ = ["OpenTelemetry", "Prometheus", "observer"]

logger: Final = logging.getLogger("prescreen")

_BUILT_IN: Final = {"opentelemetry": OpenTelemetry, "prometheus": Prometheus}


def observer(settings: Settings) -> Observer | None:
    """Everybody who is to be told, as one; None for nobody. Raises ConfigError."""
    for index, each in enumerate(settings.observers):
        if not callable(each) or any(map(inspect.iscoroutinefunction, (each, type(each).__call__))):
            raise ConfigError(f"observers[{index}]", f"{each!r} is no plain callable (`def`) that takes an event")
    built_in = [_BUILT_IN[name]() for name in dict.fromkeys(settings.telemetry)]
    told = (*settings.observers, *built_in)
    return _Observers(told) if told else None


class _Observers:
    """Tells several. What one of them raises is logged, once for each of that name, and harms nobody else."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers: Final = observers
        self._failed: Final[set[str]] = set()

    def __call__(self, event: Event) -> None:
        for observe in self._observers:
            try:
                observe(event)
            except Exception as error:  # noqa: BLE001  # a metric is not worth a decision
                self._log(getattr(observe, "__qualname__", type(observe).__qualname__), error)

    def _log(self, name: str, error: Exception) -> None:
        # Its message stays out of the log: it may quote whatever the observer works with.
        if name not in self._failed:
            self._failed.add(name)
            logger.error(
                "the observer %s failed, and may fail again: %s%s", name, type(error).__name__, raised_at(error)
            )
