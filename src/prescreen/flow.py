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
from typing import Final, TypeVar, cast

from prescreen import decode
from prescreen.document import Field, Limits
from prescreen.errors import ModeratorError, ModeratorRefused, Oversize, RequestError
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
from prescreen.policy import Policy, strictest
from prescreen.readings import readings
from prescreen.rule import Rule
from prescreen.target import Target, Targets

T = TypeVar("T")

_READINGS: Final = 4  # times what a request may send: as sent, folded, joined with blanks and without
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
    return (yield from _moderated(plan, found.items, target, is_unmatched=found.is_unmatched))


def screen_items(plan: Plan, items: Sequence[Item]) -> Flow[Decision]:
    """Screen texts and images that come from no request."""
    work = partial(readings, tuple(items), plan.longest)
    asked = cast("Sequence[Item]", (yield Work(work, sum(map(_size, items)))))
    return (yield from _moderated(plan, asked))


def _moderated(
    plan: Plan, items: Sequence[Item], target: Target | None = None, *, is_unmatched: bool = False
) -> Flow[Decision]:
    """From the items, in every reading, to the decision."""
    name = target.name if target else None
    verdicts: Sequence[Verdict] = ()
    started = perf_counter()
    try:
        if items:
            verdicts = cast("Sequence[Verdict]", (yield Moderate(items, plan.deadline)))
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


@dataclass(frozen=True, slots=True)
class _Found:
    """What the moderator will be asked about a request; `is_unmatched` as in `Harvest`."""

    items: Sequence[Item]
    is_unmatched: bool


def _read(plan: Plan, target: Target, head: Head) -> Flow[_Found]:
    """From the head to the items; nothing of the body is read where the head alone decides."""
    decode.admit(head, target.accepts)
    query = decode.query_fields(head, plan.limits) if target.has_query else ()
    timeout = plan.receive_timeout if plan.mode is Mode.ENFORCE else None
    body = cast("bytes", (yield ReadBody(target.accepts.limit, timeout)))
    size = target.accepts.limit if target.accepts.decode_content else len(body)
    return cast("_Found", (yield Work(partial(_find, plan, target, head, body, query), size)))


def _find(plan: Plan, target: Target, head: Head, body: bytes, query: tuple[Field, ...]) -> _Found:
    document = decode.decode(head, body, target.accepts, plan.limits)
    found = target.places.harvest(document, query, plan.limits)
    items = readings(tuple(found.items), plan.longest, join=target.join)
    if sum(map(_size, items)) > _READINGS * plan.limits.characters:
        raise Oversize(
            f"the texts have more than {_READINGS * plan.limits.characters} characters in all their readings"
        )
    return _Found(items, found.is_unmatched)


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
