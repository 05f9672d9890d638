"""The way of a request, written once. No I/O, no clock but the moderator's, no protocol.

`screen_request` and `screen_items` are generators: they yield a step (`ReadBody`, `Work`, `Moderate`,
`Report`), are sent its answer, and return a Decision. `drive` performs the steps for them, either
awaiting or blocking. An error of a step is thrown in at its yield, so what a failure means is
decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TypeVar, cast

from prescreen import decode
from prescreen.document import Field, Limits
from prescreen.errors import ModeratorError, ModeratorRefused, RequestError
from prescreen.model import (
    Action,
    Answer,
    Cause,
    Decision,
    Head,
    Image,
    Item,
    Mode,
    Moderate,
    ReadBody,
    Record,
    Report,
    Step,
    Text,
    Verdict,
    Work,
)
from prescreen.paths import Harvest
from prescreen.policy import Policy, strictest
from prescreen.readings import readings
from prescreen.rule import Rule
from prescreen.target import Target, Targets

T = TypeVar("T")
Flow = Generator[Step, Answer, T]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides, compiled once and shared by all requests.

    `longest` is the most characters of one text that the moderator takes, None for any number.
    """

    targets: Targets
    policy: Policy
    limits: Limits
    mode: Mode
    on_error: Action
    deadline: float
    receive_timeout: float
    moderator: str
    longest: int | None = None


def screen_request(plan: Plan, rules: tuple[Rule, ...], head: Head) -> Flow[Decision]:
    """Screen one request under the rules that it may be about."""
    target = plan.targets.of(rules)
    try:
        found = yield from _read(plan, target, head)
    except RequestError as error:
        decision = _unscreened(plan, target, error)
        yield Report(Record(decision, plan.moderator))
        return decision
    return (yield from screen_items(plan, tuple(found.items), target, is_unmatched=found.is_unmatched))


def screen_items(
    plan: Plan, items: Sequence[Item], target: Target | None = None, *, is_unmatched: bool = False
) -> Flow[Decision]:
    """Screen texts and images that have already been found."""
    name = target.name if target else None
    verdicts: Sequence[Verdict] = ()
    work = partial(readings, items, plan.longest, join=target is not None and target.join)
    items = cast("Sequence[Item]", (yield Work(work, sum(map(_size, items)))))
    started = perf_counter()
    try:
        if items:
            verdicts = cast("Sequence[Verdict]", (yield Moderate(tuple(items), plan.deadline)))
        decision = _judged(plan, name, items, verdicts)
    except ModeratorError as error:
        decision = _unavailable(plan, name, items, error)
    record = Record(
        decision,
        plan.moderator,
        model=verdicts[0].model if verdicts else "",
        texts=sum(isinstance(item, Text) for item in items),
        images=sum(isinstance(item, Image) for item in items),
        latency=perf_counter() - started if items else 0.0,
        places=tuple(dict.fromkeys(_place(reason.pointer, target) for reason in decision.reasons)),
        unmatched=is_unmatched,
    )
    yield Report(record)
    return decision


def _read(plan: Plan, target: Target, head: Head) -> Flow[Harvest]:
    """From the head to the items; nothing of the body is read where the head alone decides."""
    decode.admit(head, target.accepts)
    query = decode.query_fields(head, plan.limits) if target.has_query else ()
    timeout = plan.receive_timeout if plan.mode is Mode.ENFORCE else None
    body = cast("bytes", (yield ReadBody(target.accepts.limit, timeout)))
    return cast("Harvest", (yield Work(partial(_find, plan, target, head, body, query), len(body))))


def _find(plan: Plan, target: Target, head: Head, body: bytes, query: tuple[Field, ...]) -> Harvest:
    document = decode.decode(head, body, target.accepts, plan.limits)
    return target.places.harvest(document, query, plan.limits)


def _unscreened(plan: Plan, target: Target, error: RequestError) -> Decision:
    """What becomes of a request that cannot be screened. Half a body is no policy's to allow, and the rule's word stands."""
    if error.cause in (Cause.INCOMPLETE, Cause.SLOW, Cause.UNWANTED):
        action = Action.REJECT
    else:
        action = target.on_oversize if error.cause is Cause.OVERSIZE else target.on_unreadable
    return Decision(action, cause=error.cause, rule=target.name, mode=plan.mode, problem=error.problem)


def _judged(plan: Plan, rule: str | None, items: Sequence[Item], verdicts: Sequence[Verdict]) -> Decision:
    reasons = plan.policy.reasons(items, verdicts)
    cause = Cause.FLAGGED if reasons else Cause.CLEAN
    return Decision(plan.policy.conclude(reasons), reasons, cause=cause, rule=rule, mode=plan.mode)


def _unavailable(plan: Plan, rule: str | None, items: Sequence[Item], error: ModeratorError) -> Decision:
    """What becomes of a request whose moderator failed.

    What it did judge and reject stays rejected. What it refuses to judge is the client's doing and no
    outage: to let that pass would let anyone pass who attaches a broken image.
    """
    judged = _judged(plan, rule, [items[index] for index in error.known], list(error.known.values()))
    if judged.action is Action.REJECT:
        return judged
    is_refused = isinstance(error, ModeratorRefused)
    return Decision(
        Action.REJECT if is_refused else strictest((plan.on_error, judged.action)),
        judged.reasons,
        cause=Cause.REFUSED if is_refused else Cause.UNAVAILABLE,
        rule=rule,
        mode=plan.mode,
        problem=f"{type(error).__name__}: {error.problem}",
        retry_after=error.retry_after,
    )


def _size(item: Item) -> int:
    return len(item.value) if isinstance(item, Text) else 0


def _place(pointer: str, target: Target | None) -> str:
    return target.places.mask(pointer) if target else pointer
