"""What became of the requests, by the weather that they were sent in, and how late the machine was."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Final

from chaos.judge import Evidence, percentile
from chaos.load import Sent
from chaos.plan import FAIR, FAULTS
from chaos.run import Report

_HEAD: Final = ("weather", "app", "requests", "answered", "median", "99 %", "max", "200", "400", "503", "degraded by")
_LINE: Final = "{:9} {:8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>6} {:>6}  {}"


def table(report: Report) -> Iterator[str]:
    """The lines of the table; times in milliseconds."""
    evidence = Evidence(report)
    sent: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    for each in evidence.sent:
        weather = evidence.weather(each.sent)
        sent[weather.name if weather else FAIR, each.app].append(each)
    yield _LINE.format(*_HEAD)
    for name in (FAIR, *FAULTS):
        for app in report.measured.pings:
            yield _LINE.format(name, app, *_figures(evidence, sent[name, app]))


def _figures(evidence: Evidence, sent: list[Sent]) -> Iterator[object]:
    answered = [each for each in sent if each.fate == "answered"]
    statuses = Counter(each.status for each in answered)
    rungs = Counter(
        handled.rung or handled.action
        for each in sent
        for handled in evidence.handled.get(each.number, ())
        if handled.degraded or handled.rung
    )
    yield from (f"{len(sent):,}", f"{len(answered):,}", *_times(each.took for each in answered))
    yield from (statuses[200], statuses[400], statuses[503])
    yield ", ".join(f"{rung} {number}" for rung, number in sorted(rungs.items())) or "-"


def _times(taken: Iterable[float]) -> Iterator[str]:
    values = list(taken) or [0.0]
    for value in (median(values), percentile(values, 0.99), max(values)):
        yield f"{value * 1000:.0f}"


def remarks(report: Report) -> Iterator[str]:
    """What else there is to know."""
    measured, kills = report.measured, report.kills
    lost = Counter(each.app for each in measured.sent if each.fate == "lost")
    yield "ms late (median, 99 %, max): " + "; ".join(
        f"{name} {' '.join(_times(each.took for each in samples))}"
        for name, samples in {
            **{f"{app}'s ping": found for app, found in measured.pings.items()},
            "the load": measured.lags,
        }.items()
    )
    for app in measured.pings:
        killed = sum(kill.app == app for kill in kills)
        yield f"{app}: {killed} workers killed, {lost[app]} connections lost with them and sent again, {len(measured.workers[app])} workers seen"
