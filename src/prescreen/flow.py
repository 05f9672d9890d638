"""The way of a request, written once. No I/O, no clock but the moderator's, no protocol.

`screen_request` and `screen_items` are generators: they yield a step (`ReadBody`, `Moderate`, `Report` and
the others in `steps`), are sent its answer, and return a Decision. `drive` performs the steps for them, either
awaiting or blocking. An error of a step is thrown in at its yield, so what a failure means is
decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import Final, cast

from prescreen.errors import ModeratorError, ModeratorRefused, RequestError, StoreError
from prescreen.ladder import left_open, shares
from prescreen.model import (
    Action,
    Cause,
    Decision,
    Head,
    Item,
    Mode,
    Reason,
    Standing,
    Subject,
    Text,
    Verdict,
)
from prescreen.plan import Plan, characters
from prescreen.rule import Rule
from prescreen.screening import Screening, said_of
from prescreen.steps import AddStrike, Answer, Flow, LookUp, Moderate, ReadBody, Recall, Step, Work
from prescreen.target import Found, Target
from prescreen.units import spelled

DENIED: Final = "denied"
"""The category of a text that is on the list of denied ones."""

_SHARE: Final = 0.5  # of the time, for a question to the store before the moderator has its turn
_GRACE: Final = 0.1  # seconds for a strike that is due when the deadline is over
_TOO_MANY: Final = "more screenings are in progress than there is room for"


def screen_request(plan: Plan, rules: tuple[Rule, ...], head: Head) -> Flow[Decision]:
    """Screen one request under the rules that it may be about."""
    target = plan.targets.of(rules)
    subject = plan.find_subject(head) if plan.find_subject else None
    screening = _Flow(plan, subject, target)
    return screening.run(screening.read(target, head))


def screen_items(plan: Plan, items: Sequence[Item], subject: Subject | None = None) -> Flow[Decision]:
    """Screen texts and images that come from no request."""
    return _Flow(plan, subject).run(_given(items))


def _given(items: Sequence[Item]) -> Flow[Found]:
    return Found(items)
    yield  # a generator like the other


class _Flow(Screening):
    """The way of one screening."""

    def run(self, reading: Flow[Found]) -> Flow[Decision]:
        """From who sent it and what is in it to the decision, which is on record when it is returned."""
        if not self.plan.room.enter():
            overloaded = self.decision(Action.REJECT, Cause.OVERLOADED, problem=_TOO_MANY, retry_after=self.left)
            yield self.report(overloaded)
            return overloaded
        try:
            decision = yield from self._decided(reading)
            if self.strikes is not None:
                decision = yield from self._struck(decision)
            yield self.report(decision)
            return decision
        finally:
            self.plan.room.leave()

    def _decided(self, reading: Flow[Found]) -> Flow[Decision]:
        if self.strikes is not None and (decision := (yield from self._suspended())) is not None:
            return decision
        try:
            found = yield from reading
            self.is_unmatched = found.is_unmatched
            if self.plan.has_lists:
                decision, found = yield from self._listed(found)
                if decision is not None:
                    return decision
            # What the moderator is going to be asked stays with what was found.
            if found.asked is None:
                found.asked = yield from self._in_all_readings(found.items)
            self.asked = found.asked
        except RequestError as error:
            return self.unscreened(error)
        return self._recalled() or (yield from self._moderated(self.asked))

    def read(self, target: Target, head: Head) -> Flow[Found]:
        """From the head to the items; nothing of the body is read where the head alone decides."""
        plan = self.plan
        framing = plan.targets.framing(target, head)
        timeout = plan.receive_timeout if plan.mode is Mode.ENFORCE else None
        started = perf_counter()
        try:
            body = cast("bytes", (yield ReadBody(target.accepts.limit, timeout)))
        finally:
            self.stages["read"] = perf_counter() - started
        if (known := plan.known(framing, body)) is not None:
            self.remembered = known
            return known
        size = target.accepts.limit if target.accepts.decode_content else len(body)
        return cast("Found", (yield from self._worked(partial(plan.find, framing, body), size)))

    def _in_all_readings(self, items: Sequence[Item]) -> Flow[Sequence[Item]]:
        work = partial(self.plan.in_all_readings, self.target, items)
        return cast("Sequence[Item]", (yield from self._worked(work, characters(items))))

    def _worked(self, run: Callable[[], object], size: int) -> Flow[object]:
        """What is worked out of so many bytes, and the time for it."""
        started = perf_counter()
        try:
            return (yield Work(run, size))
        finally:
            self.stages["decode"] = self.stages.get("decode", 0.0) + perf_counter() - started

    def _suspended(self) -> Flow[Decision | None]:
        """The decision on a request of a suspended subject, before anything of it is read."""
        if self.subject is None:
            return None
        standing = cast("Standing | None", (yield from self._store(partial(Recall, self.subject), _SHARE)))
        if standing is None or standing.suspended_for is None:
            return self.without_store()
        left = standing.suspended_for
        return self.decision(
            Action.REJECT, Cause.SUSPENDED, standing=standing, retry_after=left, problem=f"for {spelled(left)} more"
        )

    def _listed(self, found: Found) -> Flow[tuple[Decision | None, Found]]:
        """The decision where a list has it; None where the moderator is to be asked, and what is on no list."""
        items = found.items
        is_asked = self.store_problem is None  # one that is down is not waited for twice
        if is_asked and (texts := [item.value for item in items if isinstance(item, Text)]):
            listed = cast("Mapping[str, bool]", (yield from self._store(partial(LookUp, texts), _SHARE)) or {})
            if denied := [
                Reason(DENIED, each.pointer) for each in items if self._is_listed(each, listed, is_allowed=False)
            ]:
                return self.decision(Action.REJECT, Cause.FLAGGED, reasons=tuple(dict.fromkeys(denied))), found
            left = [each for each in items if not self._is_listed(each, listed, is_allowed=True)]
            found = found if len(left) == len(items) else Found(left)
        return self.without_store(), found

    def _recalled(self) -> Decision | None:
        """The decision by verdicts that are at hand for all that was asked; None where somebody has to be asked."""
        if not self.asked:
            return self.judged((), ())
        if self.remembered is None or self.remembered.asked is not self.asked:
            return None
        started = perf_counter()
        verdicts = self.plan.recall(self.remembered)
        if verdicts is None:
            return None
        self.verdicts = verdicts
        self.latency = self.stages["moderator"] = perf_counter() - started
        return self.judged(self.asked, verdicts)

    @staticmethod
    def _is_listed(item: Item, listed: Mapping[str, bool], *, is_allowed: bool) -> bool:
        return isinstance(item, Text) and listed.get(item.value) is is_allowed

    def _moderated(self, items: Sequence[Item]) -> Flow[Decision]:
        started = perf_counter()
        decision = yield from self._climbed(items, started + self.left)
        self.latency = self.stages["moderator"] = perf_counter() - started
        self.left -= self.latency
        return decision

    def _climbed(self, items: Sequence[Item], end: float) -> Flow[Decision]:
        """What the moderator says of the items; if it fails, what the rungs say in turn of those that it left open."""
        said: list[tuple[int, Verdict]] = []
        left: Sequence[int] = range(len(items))
        failure: ModeratorError | None = None
        for rung, share in shares(self.plan.rungs):
            timeout = max((end - perf_counter()) * share, 0)
            error: ModeratorError | None = None
            try:
                # The same object where nothing has been said yet: what is known of it is found by that.
                open_ = items if len(left) == len(items) else tuple([items[index] for index in left])
                answer = yield Moderate(open_, timeout, rung)
                known: Mapping[int, Verdict] = dict(
                    zip(range(len(left)), cast("Sequence[Verdict]", answer), strict=True)
                )
            except ModeratorError as raised:
                known, error = raised.known, raised
            said = sorted([*said, *((left[place], known[place]) for place in known)], key=itemgetter(0))
            left = left_open(left, known) if error else ()
            failure = failure or error
            decision = self._known([(items[index], verdict) for index, verdict in said], failure, rung, is_all=not left)
            if decision is not None:
                return decision
        assert failure is not None
        return self.unavailable([items[index] for index, _ in said], failure)

    def _known(
        self, said: Sequence[tuple[Item, Verdict]], failure: ModeratorError | None, rung: str | None, *, is_all: bool
    ) -> Decision | None:
        """The decision by the verdicts that there are; None where more of them are to be asked for.

        What was judged and rejected stays rejected. What the moderator refuses to judge is the client's doing and no
        outage: to let that pass would let anyone pass who attaches a broken image.
        """
        self.verdicts = [verdict for _, verdict in said]
        decision = self.judged([item for item, _ in said], self.verdicts)
        if is_all or decision.action is Action.REJECT:
            return (
                decision
                if rung is None
                else replace(decision, rung=rung, problem=said_of(failure) if failure else None)
            )
        if rung is None and isinstance(failure, ModeratorRefused):
            return self.decision(Action.REJECT, Cause.REFUSED, reasons=decision.reasons, problem=said_of(failure))
        return None

    def _struck(self, decision: Decision) -> Flow[Decision]:
        """The decision, held against its subject where it is a strike."""
        if self.strikes is None or self.subject is None or self.store_problem is not None:
            return decision
        weight = self.strikes.weight(decision)
        if not weight:
            return decision
        strike = partial(AddStrike, self.subject, decision, weight)
        standing = cast("Standing | None", (yield from self._store(strike)))
        return replace(decision, standing=standing)

    def _store(self, step: Callable[[float], Step], share: float = 1.0) -> Flow[Answer]:
        """What the store answers within its share of the time that is left; None where it does not."""
        started = perf_counter()
        try:
            return (yield step(max(self.left * share, _GRACE)))
        except StoreError as error:
            self.store_problem = error.problem
            return None
        finally:
            spent = perf_counter() - started
            self.left -= spent
            self.stages["store"] = self.stages.get("store", 0.0) + spent
