"""What must hold, whatever the weather: each rule is a function from a report to the violations that it finds.

About time. An answer is due DEADLINE + GRACE after the request was sent, plus what the machine was late: twice a
request waits for others than prescreen, before its screening's clock starts and after that has run out. How late the
machine was then is measured beside it: how long an unscreened request to the same app took (`pings`), and by how much
the load's own event loop overslept (`lags`). The worst of those that overlap with the first GRACE seconds, and the worst
of those that overlap with the time after the deadline, are allowed for. So that this hides no app that prescreen holds
up, pings have a bound of their own, for which only the load's own event loop is allowed for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final

from chaos.load import Sample, Sent
from chaos.plan import DEADLINE, FAIR, GRACE, LENIENT, RUNGS, STRICT, recovery
from chaos.run import WORKERS, Handled, Judged, Report, Weather

_AROUND_KILL: Final = 1.0  # seconds after it in which a connection may prove lost
_TOO_LATE: Final = 0.3  # seconds; where the machine is later than that, missing a deadline says nothing
_LONGEST: Final = 11.0  # seconds; no sample is longer


@dataclass(frozen=True, slots=True)
class Strictness:
    """What share of all answers may be late, and by how much; what share unjudged in settled weather; how long a ping may take."""

    share: float = 0.0
    unjudged: float = 0.0
    seconds: float = 0.0
    ping: float = 0.3


STRICT_TIME: Final = Strictness()
ROBUST_TIME: Final = Strictness(share=0.01, unjudged=0.02, seconds=1.0, ping=1.0)
"""For a machine that does other things at the same time: the 99th percentile holds, and no answer is late by a second."""


class Evidence:
    """A report, and what is looked up in it."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.sent = report.measured.sent

    @cached_property
    def handled(self) -> dict[int, list[Handled]]:
        found: dict[int, list[Handled]] = defaultdict(list)
        for each in self.report.handled:
            found[each.number].append(each)
        return found

    @cached_property
    def judged(self) -> dict[int, list[Judged]]:
        found: dict[int, list[Judged]] = defaultdict(list)
        for each in self.report.judged:
            found[each.text].append(each)
        return found

    def reached(self) -> Iterator[tuple[Sent, Handled]]:
        """Every request that reached a handler, with what the handler has put on record."""
        for sent in self.sent:
            for handled in self.handled.get(sent.number, ()):
                yield sent, handled

    def lateness(self, app: str, start: float, end: float) -> float:
        """How late the machine was, at worst, between these times."""
        measured = self.report.measured
        return max(_worst(measured.pings[app], start, end), _worst(measured.lags, start, end))

    def overdue(self, sent: Sent) -> float:
        """By how much an answer came too late, the machine's own lateness allowed for."""
        over = sent.took - DEADLINE - GRACE
        if over <= 0:
            return over
        due = sent.sent + DEADLINE
        before, after = (sent.sent, sent.sent + GRACE), (due, sent.ended)
        return over - self.lateness(sent.app, *before) - self.lateness(sent.app, *after)

    def is_settled(self, sent: Sent) -> bool:
        """Whether fair weather had lasted long enough when this was sent, and lasted until it was, or could have been, judged."""
        index = self._index(sent.sent)
        if index is None or self.report.weathers[index].name != FAIR:
            return False
        fair, before = self.report.weathers[index], self.report.weathers[index - 1] if index else None
        since = fair.start + recovery(before.name if before else FAIR)
        return since <= sent.sent and min(sent.ended, sent.sent + DEADLINE / 2) <= fair.end

    def weather(self, at: float) -> Weather | None:
        """What it was like then; None before the first weather and after the last."""
        index = self._index(at)
        return None if index is None else self.report.weathers[index]

    def _index(self, at: float) -> int | None:
        weathers = self.report.weathers
        index = bisect_right(weathers, at, key=lambda each: each.start) - 1
        return index if index >= 0 and at <= weathers[index].end else None

    def when(self, at: float) -> str:
        weather = self.weather(at)
        return f"{at - weather.start:.2f} s into {weather.name}" if weather else "at the end"

    def name(self, sent: Sent) -> str:
        return f"{sent.app} {sent.path} request {sent.number} ({sent.kind} text {sent.text}, {self.when(sent.sent)})"


def _worst(samples: Sequence[Sample], start: float, end: float) -> float:
    """The longest of the samples that overlap with this time; 0 without any."""
    first = bisect_left(samples, start - _LONGEST, key=lambda each: each.at)
    last = bisect_left(samples, end, key=lambda each: each.at)
    return max((each.took for each in samples[first:last] if each.end >= start), default=0.0)


Rule = Callable[[Evidence], Iterator[str]]


def every_request_is_answered(evidence: Evidence) -> Iterator[str]:
    kills = evidence.report.kills
    for sent in evidence.sent:
        if sent.fate == "never answered":
            yield f"{evidence.name(sent)} was never answered"
        if sent.fate == "lost":
            if not any(kill.app == sent.app and 0 <= sent.ended - kill.at <= _AROUND_KILL for kill in kills):
                yield f"{evidence.name(sent)} lost its connection, and nobody had killed a worker"
            if sent.resent is None:
                yield f"{evidence.name(sent)} lost its connection and could not be sent again"


def every_answer_is_in_time(evidence: Evidence, strictness: Strictness = STRICT_TIME) -> Iterator[str]:
    late = [sent for sent in evidence.sent if sent.fate == "answered" and evidence.overdue(sent) > 0]
    for sent in late:
        is_too_late = evidence.overdue(sent) > strictness.seconds
        if is_too_late or len(late) > strictness.share * len(evidence.sent):
            yield f"{evidence.name(sent)} was answered after {sent.took:.3f} s, {evidence.overdue(sent):.3f} s too late"


def no_app_is_held_up(evidence: Evidence, strictness: Strictness = STRICT_TIME) -> Iterator[str]:
    measured = evidence.report.measured
    for app, pings in measured.pings.items():
        for ping in pings:
            took = ping.took - _worst(measured.lags, ping.at, ping.end)
            if took > strictness.ping:
                yield f"{app} needed {took:.3f} s for a request that is not screened, {evidence.when(ping.at)}"


def killed_workers_are_replaced(evidence: Evidence) -> Iterator[str]:
    for app, workers in evidence.report.measured.workers.items():
        killed = sum(kill.app == app for kill in evidence.report.kills)
        if len(workers) != WORKERS + killed:
            yield f"{app} had {len(workers)} workers, {killed} of them killed: not one new worker for each"


def no_flagged_text_reaches_a_handler_unmarked(evidence: Evidence) -> Iterator[str]:
    for sent, handled in evidence.reached():
        if sent.is_flagged and not (sent.path == LENIENT and _is_marked(handled)):
            yield f"{evidence.name(sent)} reached the handler: {handled}"


def what_passes_unjudged_is_marked(evidence: Evidence) -> Iterator[str]:
    for sent, handled in evidence.reached():
        is_by_verdict = not handled.degraded or handled.rung == "stale"
        if is_by_verdict and not _was_judged(evidence, sent, flagged=False, before=handled.at):
            yield f"{evidence.name(sent)} passed as judged, and no moderator has judged it: {handled}"
        if not is_by_verdict and not (sent.path == LENIENT and _is_marked(handled)):
            yield f"{evidence.name(sent)} passed, and its mark is not that of its rung: {handled}"


def _is_marked(handled: Handled) -> bool:
    """Whether it says that nobody has judged this, and by which rung it came through."""
    return (handled.degraded, handled.rung, handled.action, handled.cause) == (True, "flag", "flag", "unavailable")


def every_rung_is_a_configured_one(evidence: Evidence) -> Iterator[str]:
    for sent, handled in evidence.reached():
        if handled.rung is not None and (sent.path == STRICT or handled.rung not in RUNGS):
            yield f"{evidence.name(sent)} came by a rung that is not there: {handled}"


def nothing_is_lost_and_nothing_doubled(evidence: Evidence) -> Iterator[str]:
    numbers = {sent.number for sent in evidence.sent}
    for sent in evidence.sent:
        times = len(evidence.handled.get(sent.number, ()))
        if times > 1:
            yield f"{evidence.name(sent)} was handled {times} times"
        elif sent.fate == "answered" and (sent.status == 200) != (times == 1):
            yield f"{evidence.name(sent)} was answered with {sent.status} and handled {times} times"
    for number in evidence.handled.keys() - numbers:
        yield f"request {number} was handled and never sent"


def every_rejection_says_why(evidence: Evidence) -> Iterator[str]:
    for sent in evidence.sent:
        if sent.status in (None, 200):
            continue
        if sent.status not in (400, 503):
            yield f"{evidence.name(sent)} was answered with {sent.status}"
        elif sent.status == 400 and not _was_judged(evidence, sent, flagged=True, before=sent.ended):
            yield f"{evidence.name(sent)} was rejected, and no moderator has flagged it"
        elif sent.status == 503 and sent.path == LENIENT:
            yield f"{evidence.name(sent)} was refused for want of a moderator, where it shall pass"
        elif sent.status == 503 and not (sent.retry_after or "").strip("0").isdecimal():
            yield f"{evidence.name(sent)} was refused with Retry-After {sent.retry_after!r}"


def all_is_well_soon_after_the_weather_is(evidence: Evidence, strictness: Strictness = STRICT_TIME) -> Iterator[str]:
    unwell: list[str] = []
    expected: dict[str, Counter[bool]] = {app: Counter() for app in evidence.report.measured.pings}
    for sent in evidence.sent:
        if sent.fate != "answered" or not evidence.is_settled(sent):
            continue
        if sent.is_flagged:
            is_well = sent.status == 400
        else:
            is_well = sent.status == 200 and not any(each.degraded for each in evidence.handled.get(sent.number, ()))
        is_telling = is_well or evidence.lateness(sent.app, sent.sent, sent.ended) < _TOO_LATE
        expected[sent.app][is_telling] += 1
        if not is_well and is_telling:
            unwell.append(
                f"{evidence.name(sent)} got {sent.status} in settled weather {evidence.handled.get(sent.number, '')}"
            )
    if len(unwell) > strictness.unjudged * sum(count[True] for count in expected.values()):
        yield from unwell
    for app, count in expected.items():
        if count[True] <= count[False]:
            yield f"{app} on this machine is too slow to tell whether it recovers"


def _was_judged(evidence: Evidence, sent: Sent, *, flagged: bool, before: float) -> bool:
    return any(each.flagged is flagged and each.at <= before for each in evidence.judged.get(sent.text, ()))


def rules(strictness: Strictness) -> list[Rule]:
    return [
        every_request_is_answered,
        partial(every_answer_is_in_time, strictness=strictness),
        partial(no_app_is_held_up, strictness=strictness),
        killed_workers_are_replaced,
        no_flagged_text_reaches_a_handler_unmarked,
        what_passes_unjudged_is_marked,
        every_rung_is_a_configured_one,
        nothing_is_lost_and_nothing_doubled,
        every_rejection_says_why,
        partial(all_is_well_soon_after_the_weather_is, strictness=strictness),
    ]


def violations(report: Report, strictness: Strictness = STRICT_TIME) -> list[str]:
    """Everything that is not as it must be, in words."""
    evidence = Evidence(report)
    return [each for rule in rules(strictness) for each in rule(evidence)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
