"""What is to happen, in which order: the same for the same seed. And the figures that app, weather and judge share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

SENTINEL: Final = "seven violet lanterns"
HARMLESS: Final = "eleven quiet harbours"
STRICT, LENIENT = "/strict", "/lenient"  # the routes, by what happens there while the moderator is away

DEADLINE: Final = 1.0  # seconds, of both screens
GRACE: Final = 0.1  # seconds over the deadline for everything that is not the screening
PROBE: Final = 0.5  # seconds until an open breaker tries again
RUNGS: Final = ("stale", "flag")

FAIR: Final = "fair"
FAULTS: Final = ("429", "500", "half 500", "stall", "slow", "drip", "reset", "counts", "garbage", "dead", "deaf")
EVENTS: Final = ("kill workers", "restart store", "freeze store")

_FAULT: Final = 1.3  # seconds: longer than the deadline, so that some requests go from one weather into the next
# Seconds that prescreen leaves a moderator alone after it said "too many requests", at most.
_PAUSES: Final = {"429": 4.0}
_EVENT: Final = 0.4  # of a phase has gone by


@dataclass(frozen=True, slots=True)
class Phase:
    """A weather, for so many seconds. `event` happens in the middle of it, at `event_after` seconds."""

    weather: str
    seconds: float
    event: str | None = None

    @property
    def event_after(self) -> float:
        return self.seconds * _EVENT


def recovery(after: str) -> float:
    """Seconds of fair weather after which all must be well again: a probe may be under way, and fail, when it begins."""
    return max(PROBE, _PAUSES.get(after, 0.0)) + DEADLINE


def round_of(chance: Random, stretch: float = 1.0) -> Iterator[Phase]:
    """Every fault once, each with fair weather after it; faults up to `stretch` times as long.

    Every event once, too, in the first half: what it broke has to be seen whole again.
    """
    faults = chance.sample(FAULTS, len(FAULTS))
    events = dict(zip(chance.sample(range(len(FAULTS)), len(EVENTS)), EVENTS, strict=True))
    for index, fault in enumerate(faults):
        yield Phase(fault, _FAULT * chance.uniform(1, stretch), events.get(2 * index))
        yield Phase(FAIR, recovery(fault) + DEADLINE, events.get(2 * index + 1))
