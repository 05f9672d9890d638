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
from typing import Any, Final, cast

from prescreen.errors import ModeratorError, ModeratorRefused, RequestError, StoreError
from prescreen.ladder import left_open, shares
from prescreen.model import (
    Action,
    Cause,
    Decision,
    Head,
    Image,
    Item,
    Mode,
    Reason,
    Record,
    Standing,
    Subject,
    Text,
    Verdict,
)
from prescreen.plan import Plan, characters
from prescreen.policy import strictest
from prescreen.rule import Rule
from prescreen.steps import AddStrike, Answer, Flow, LookUp, Moderate, ReadBody, Recall, Report, Step, Work
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
    screening = _Screening(plan, subject, target)
    return screening.run(screening.read(target, head))


def screen_items(plan: Plan, items: Sequence[Item], subject: Subject | None = None) -> Flow[Decision]:
    """Screen texts and images that come from no request."""
    return _Screening(plan, subject).run(_given(items))


def _given(items: Sequence[Item]) -> Flow[Found]:
    return Found(items)
    yield  # a generator like the other


class _Screening:
    """One screening, of a request (`target`) or of items that come from none."""

    __slots__ = (
        "_asked",
        "_is_unmatched",
        "_latency",
        "_left",
        "_plan",
        "_remembered",
        "_store_problem",
        "_strikes",
        "_subject",
        "_target",
        "_verdicts",
        "stages",
    )

    def __init__(self, plan: Plan, subject: Subject | None, target: Target | None = None) -> None:
        self._plan, self._subject, self._target = plan, subject, target
        self._strikes = plan.strikes if plan.mode is Mode.ENFORCE else None
        self._left = plan.deadline
        self._store_problem: str | None = None
        self._remembered: Found | None = None  # where the same body has been read lately
        self._is_unmatched = False
        self._asked: Sequence[Item] = ()
        self._verdicts: Sequence[Verdict] = ()
        self._latency = 0.0
        self.stages: dict[str, float] = {}

    def run(self, reading: Flow[Found]) -> Flow[Decision]:
        """From who sent it and what is in it to the decision, which is on record when it is returned."""
        if not self._plan.room.enter():
            overloaded = self._decision(Action.REJECT, Cause.OVERLOADED, problem=_TOO_MANY, retry_after=self._left)
            yield self._report(overloaded)
            return overloaded
        try:
            decision = yield from self._struck((yield from self._decided(reading)))
            yield self._report(decision)
            return decision
        finally:
            self._plan.room.leave()

    def _decided(self, reading: Flow[Found]) -> Flow[Decision]:
        decision = yield from self._suspended()
        if decision is None:
            try:
                decision = yield from self._found(reading)
            except RequestError as error:
                decision = self._unscreened(error)
        return decision or self._recalled() or (yield from self._moderated(self._asked))

    def _found(self, reading: Flow[Found]) -> Flow[Decision | None]:
        """What is in it, and the decision on that where a list has it."""
        found = yield from reading
        self._is_unmatched = found.is_unmatched
        if self._plan.has_lists:
            return (yield from self._listed(found))
        return (yield from self._asks(found))

    def _asks(self, found: Found) -> Flow[Decision | None]:
        """What the moderator is going to be asked, which stays with what was found; and no decision yet."""
        if found.asked is None:
            found.asked = yield from self._in_all_readings(found.items)
        self._asked = found.asked
        return None

    def read(self, target: Target, head: Head) -> Flow[Found]:
        """From the head to the items; nothing of the body is read where the head alone decides."""
        plan = self._plan
        framing = plan.targets.framing(target, head)
        timeout = plan.receive_timeout if plan.mode is Mode.ENFORCE else None
        started = perf_counter()
        try:
            body = cast("bytes", (yield ReadBody(target.accepts.limit, timeout)))
        finally:
            self.stages["read"] = perf_counter() - started
        if (known := plan.known(framing, body)) is not None:
            self._remembered = known
            return known
        size = target.accepts.limit if target.accepts.decode_content else len(body)
        return cast("Found", (yield from self._worked(partial(plan.find, framing, body), size)))

    def _in_all_readings(self, items: Sequence[Item]) -> Flow[Sequence[Item]]:
        work = partial(self._plan.in_all_readings, self._target, items)
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
        if self._strikes is None or self._subject is None:
            return None
        standing = cast("Standing | None", (yield from self._store(partial(Recall, self._subject), _SHARE)))
        if standing is None or standing.suspended_for is None:
            return self._without_store()
        left = standing.suspended_for
        return self._decision(
            Action.REJECT, Cause.SUSPENDED, standing=standing, retry_after=left, problem=f"for {spelled(left)} more"
        )

    def _listed(self, found: Found) -> Flow[Decision | None]:
        """The decision where a list has it; None where the moderator is to be asked, about what is on no list."""
        items = found.items
        is_asked = self._plan.has_lists and self._store_problem is None  # one that is down is not waited for twice
        if is_asked and (texts := [item.value for item in items if isinstance(item, Text)]):
            listed = cast("Mapping[str, bool]", (yield from self._store(partial(LookUp, texts), _SHARE)) or {})
            if denied := [
                Reason(DENIED, each.pointer) for each in items if self._is_listed(each, listed, is_allowed=False)
            ]:
                return self._decision(Action.REJECT, Cause.FLAGGED, reasons=tuple(dict.fromkeys(denied)))
            left = [each for each in items if not self._is_listed(each, listed, is_allowed=True)]
            found = found if len(left) == len(items) else Found(left)
        return self._without_store() or (yield from self._asks(found))

    def _recalled(self) -> Decision | None:
        """The decision by verdicts that are at hand for all that was asked; None where somebody has to be asked."""
        if not self._asked:
            return self._judged((), ())
        if self._remembered is None or self._remembered.asked is not self._asked:
            return None
        started = perf_counter()
        verdicts = self._plan.recall(self._remembered)
        if verdicts is None:
            return None
        self._verdicts = verdicts
        self._latency = self.stages["moderator"] = perf_counter() - started
        return self._judged(self._asked, verdicts)

    @staticmethod
    def _is_listed(item: Item, listed: Mapping[str, bool], *, is_allowed: bool) -> bool:
        return isinstance(item, Text) and listed.get(item.value) is is_allowed

    def _moderated(self, items: Sequence[Item]) -> Flow[Decision]:
        started = perf_counter()
        decision = yield from self._climbed(items, started + self._left)
        self._latency = self.stages["moderator"] = perf_counter() - started
        self._left -= self._latency
        return decision

    def _climbed(self, items: Sequence[Item], end: float) -> Flow[Decision]:
        """What the moderator says of the items; if it fails, what the rungs say in turn of those that it left open."""
        said: list[tuple[int, Verdict]] = []
        left: Sequence[int] = range(len(items))
        failure: ModeratorError | None = None
        for rung, share in shares(self._plan.rungs):
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
        return self._unavailable([items[index] for index, _ in said], failure)

    def _known(
        self, said: Sequence[tuple[Item, Verdict]], failure: ModeratorError | None, rung: str | None, *, is_all: bool
    ) -> Decision | None:
        """The decision by the verdicts that there are; None where more of them are to be asked for.

        What was judged and rejected stays rejected. What the moderator refuses to judge is the client's doing and no
        outage: to let that pass would let anyone pass who attaches a broken image.
        """
        self._verdicts = [verdict for _, verdict in said]
        decision = self._judged([item for item, _ in said], self._verdicts)
        if is_all or decision.action is Action.REJECT:
            return decision if rung is None else replace(decision, rung=rung)
        if rung is None and isinstance(failure, ModeratorRefused):
            problem = f"{type(failure).__name__}: {failure.problem}"
            return self._decision(Action.REJECT, Cause.REFUSED, reasons=decision.reasons, problem=problem)
        return None

    def _struck(self, decision: Decision) -> Flow[Decision]:
        """The decision, held against its subject where it is a strike."""
        if self._strikes is None or self._subject is None or self._store_problem is not None:
            return decision
        weight = self._strikes.weight(decision)
        if not weight:
            return decision
        strike = partial(AddStrike, self._subject, decision, weight)
        standing = cast("Standing | None", (yield from self._store(strike)))
        return replace(decision, standing=standing)

    def _store(self, step: Callable[[float], Step], share: float = 1.0) -> Flow[Answer]:
        """What the store answers within its share of the time that is left; None where it does not."""
        started = perf_counter()
        try:
            return (yield step(max(self._left * share, _GRACE)))
        except StoreError as error:
            self._store_problem = error.problem
            return None
        finally:
            spent = perf_counter() - started
            self._left -= spent
            self.stages["store"] = self.stages.get("store", 0.0) + spent

    def _without_store(self) -> Decision | None:
        """What becomes of a request where the store could not be asked; None: it goes on."""
        if self._store_problem is None or self._plan.on_store_error is not Action.REJECT:
            return None
        return self._decision(Action.REJECT, Cause.UNAVAILABLE, problem=f"StoreError: {self._store_problem}")

    def _unscreened(self, error: RequestError) -> Decision:
        """What becomes of a request that cannot be screened. Half a body is no policy's to allow, and the rule's word stands."""
        target = self._target
        assert target is not None  # only requests can be unreadable
        if error.cause in (Cause.INCOMPLETE, Cause.SLOW, Cause.UNWANTED):
            action = Action.REJECT
        else:
            action = target.on_oversize if error.cause is Cause.OVERSIZE else target.on_unreadable
        return self._decision(action, error.cause, problem=error.problem)

    def _judged(self, items: Sequence[Item], verdicts: Sequence[Verdict]) -> Decision:
        reasons = self._plan.policy.reasons(items, verdicts)
        if not reasons:
            return self._decision(Action.ALLOW, Cause.CLEAN)
        return self._decision(self._plan.policy.conclude(reasons), Cause.FLAGGED, reasons=reasons)

    def _unavailable(self, judged: Sequence[Item], error: ModeratorError) -> Decision:
        """What becomes of a request that nobody could judge, or not all of it."""
        reasons = self._plan.policy.reasons(judged, self._verdicts)
        action = strictest((self._plan.on_error, self._plan.policy.conclude(reasons)))
        return self._decision(
            action,
            Cause.UNAVAILABLE,
            reasons=reasons,
            problem=f"{type(error).__name__}: {error.problem}",
            retry_after=error.retry_after,
            rung=self._plan.on_error.value,
        )

    def _decision(self, action: Action, cause: Cause, **facts: Any) -> Decision:
        """A decision on this; one that would allow says so if strikes and lists could not be asked."""
        if self._store_problem is not None and action is Action.ALLOW:
            action = strictest((action, self._plan.on_store_error))
        return Decision(
            action,
            cause=cause,
            rule=self._target.name if self._target else None,
            mode=self._plan.mode,
            subject=self._subject.hash if self._subject else None,
            **facts,
        )

    def _report(self, decision: Decision) -> Report:
        return Report(decision, self._store_problem, partial(self._record, decision))

    def _record(self, decision: Decision) -> Record:
        images = [*map(type, self._asked)].count(Image)
        mask: Callable[[str], str] = self._target.places.mask if self._target else str
        places = map(mask, [reason.pointer for reason in decision.reasons]) if decision.reasons else ()
        return Record(
            decision,
            self._plan.moderator,
            model=self._verdicts[0].model if self._verdicts else "",
            texts=len(self._asked) - images,
            images=images,
            latency=self._latency,
            places=tuple(dict.fromkeys(places)),
            unmatched=self._is_unmatched,
            store_problem=self._store_problem,
            stages=self.stages,
        )
