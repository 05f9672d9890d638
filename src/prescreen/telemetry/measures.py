"""What is measured, for every backend alike: no user's text, no user's hash, and labels of which there are few.

Names and units are as OpenTelemetry's conventions for metrics want them; Prometheus has them with `_` for `.`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from prescreen.load import STALE
from prescreen.model import Asked, Called, CircuitChanged, Event, Record

_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
)
_ITEMS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_MOST_CATEGORIES: Final = 128  # of all moderators of a process; a service or a function may make up more


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. Of a counter the values add up, of a gauge the last one counts; a histogram has `buckets`, by their upper bounds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    about: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


SCREENINGS: Final = Measure(
    "prescreen.screenings",
    "counter",
    "{screening}",
    "Decisions on requests, and on texts that come from none (their rule is empty)",
    ("action", "cause", "rule", "mode", "rung", "degraded"),
)
HITS: Final = Measure(
    "prescreen.hits",
    "counter",
    "{hit}",
    "Categories hit, each once a decision",
    ("category", "action", "rule", "mode"),
)
STORE: Final = Measure(
    "prescreen.store.failures",
    "counter",
    "{screening}",
    "Screenings that had to do without strikes and lists, because the store failed",
    ("rule",),
)
STAGES: Final = Measure(
    "prescreen.stage.duration",
    "histogram",
    "s",
    "Time of a screening by stage (read, decode, store, moderator), and of its longest waiting item in front of a call (queue)",
    ("stage",),
    _SECONDS,
)
ITEMS: Final = Measure(
    "prescreen.items",
    "counter",
    "{item}",
    "Texts and images that screenings asked about, by where the verdict comes from: cache, joined (somebody else's call), moderator",
    ("moderator", "source", "rung"),
)
SAVED: Final = Measure(
    "prescreen.tokens.saved", "counter", "{token}", "Estimated tokens that did not have to be sent", ("moderator",)
)
SENT: Final = Measure(
    "prescreen.tokens.sent", "counter", "{token}", "Estimated tokens sent to the moderator", ("moderator",)
)
CALLS: Final = Measure(
    "prescreen.call.duration",
    "histogram",
    "s",
    "Time of a call to the moderator; its error is empty where it gave verdicts",
    ("moderator", "error"),
    _SECONDS,
)
BATCHES: Final = Measure(
    "prescreen.call.items", "histogram", "{item}", "Texts and images in a call", ("moderator",), _ITEMS
)
OPEN: Final = Measure(
    "prescreen.circuit.open",
    "gauge",
    "1",
    "1 while the moderator is left alone, or tried with single calls; else 0",
    ("moderator",),
)

MEASURES: Final = (SCREENINGS, HITS, STORE, STAGES, ITEMS, SAVED, SENT, CALLS, BATCHES, OPEN)

Value = tuple[Measure, float, tuple[str, ...]]


def values(event: Event) -> Iterator[Value]:
    """What an event adds: the measure, its value, and the values of its labels, "" for none."""
    match event:
        case Record():
            yield from _decided(event)
        case Asked():
            yield from _asked(event)
        case Called():
            yield from _called(event)
        case CircuitChanged():
            yield OPEN, float(event.state != "closed"), (event.moderator,)
        case _:
            assert_never(event)


def _decided(record: Record) -> Iterator[Value]:
    decision = record.decision
    action, rule, mode = decision.action.value, decision.rule or "", decision.mode.value
    is_degraded = "true" if decision.degraded else "false"
    yield SCREENINGS, 1, (action, decision.cause.value, rule, mode, decision.rung or "", is_degraded)
    for category in decision.categories:
        yield HITS, 1, (_bounded(category), action, rule, mode)
    if record.store_problem is not None:
        yield STORE, 1, (rule,)
    for stage, seconds in record.stages.items():
        yield STAGES, seconds, (stage,)


def _asked(asked: Asked) -> Iterator[Value]:
    sources = {"cache": asked.cached, "joined": asked.joined}
    if asked.rung != STALE:  # there nobody is asked
        sources["moderator"] = asked.items - asked.cached - asked.joined
    for source, count in sources.items():
        if count:
            yield ITEMS, count, (asked.moderator, source, asked.rung or "")
    if asked.tokens_saved:
        yield SAVED, asked.tokens_saved, (asked.moderator,)


def _called(called: Called) -> Iterator[Value]:
    yield CALLS, called.seconds, (called.moderator, called.error or "")
    yield BATCHES, called.texts + called.images, (called.moderator,)
    yield SENT, called.tokens, (called.moderator,)
    yield STAGES, called.queued, ("queue",)


_categories: Final[set[str]] = set()


def _bounded(category: str) -> str:
    if category not in _categories:
        if len(_categories) >= _MOST_CATEGORIES:
            return "other"
        _categories.add(category)
    return category
