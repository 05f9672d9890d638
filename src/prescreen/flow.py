"""The way of a request, written once. No I/O, no clock but the moderator's, no protocol.

`screen_request` and `screen_items` are generators: they yield a step (`ReadBody`, `Moderate`,
`Report`), are sent its answer, and return a Decision. `drive` performs the steps for them, either
awaiting or blocking. An error of a step is thrown in at its yield, so what a failure means is
decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar, cast

from prescreen import decode
from prescreen.document import Limits
from prescreen.errors import ConfigError, ModeratorError, RequestError
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
)
from prescreen.paths import Places
from prescreen.policy import Policy
from prescreen.rule import Rule

T = TypeVar("T")
Flow = Generator[Step, Answer, T]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides, compiled once and shared by all requests."""

    places: Mapping[Rule, Places]
    policy: Policy
    limits: Limits
    mode: Mode
    on_error: Action
    deadline: float
    receive_timeout: float
    moderator: str


def compile_places(rules: Sequence[Rule]) -> dict[Rule, Places]:
    """The places of each rule. Raises ConfigError with the index of the rule at fault."""
    return {rule: _places(rule, index) for index, rule in enumerate(rules)}


def screen_request(plan: Plan, rule: Rule, head: Head) -> Flow[Decision]:
    """Screen one request under one rule."""
    places = plan.places[rule]
    try:
        items = yield from _read(plan, rule, head, places)
    except RequestError as error:
        decision = _unscreened(plan, rule, error)
        yield Report(Record(decision, plan.moderator))
        return decision
    return (yield from screen_items(plan, items, rule, places))


def screen_items(
    plan: Plan, items: Sequence[Item], rule: Rule | None = None, places: Places | None = None
) -> Flow[Decision]:
    """Screen texts and images that have already been found."""
    name = rule.match if rule else None
    verdicts: Sequence[Verdict] = ()
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
        places=tuple(dict.fromkeys(_place(reason.pointer, places) for reason in decision.reasons)),
    )
    yield Report(record)
    return decision


def _read(plan: Plan, rule: Rule, head: Head, places: Places) -> Flow[tuple[Item, ...]]:
    """From the head to the items; nothing of the body is read where the head alone decides."""
    limit = rule.limit(plan.limits.body)
    decode.admit(head, rule.kinds, limit)
    query = decode.query_fields(head.query, plan.limits) if rule.query else ()
    timeout = plan.receive_timeout if plan.mode is Mode.ENFORCE else None
    body = cast("bytes", (yield ReadBody(limit, timeout)))
    document = decode.decode(head, body, rule.kinds, plan.limits)
    return places.items(document, query, plan.limits)


def _unscreened(plan: Plan, rule: Rule, error: RequestError) -> Decision:
    """What becomes of a request that cannot be screened. Half a body is no policy's to allow."""
    if error.cause in (Cause.INCOMPLETE, Cause.SLOW):
        action = Action.REJECT
    else:
        action = Action(rule.on_oversize if error.cause is Cause.OVERSIZE else rule.on_unreadable)
    return Decision(action, cause=error.cause, rule=rule.match, mode=plan.mode, problem=error.problem)


def _judged(plan: Plan, rule: str | None, items: Sequence[Item], verdicts: Sequence[Verdict]) -> Decision:
    reasons = plan.policy.reasons(items, verdicts)
    cause = Cause.FLAGGED if reasons else Cause.CLEAN
    return Decision(plan.policy.conclude(reasons), reasons, cause=cause, rule=rule, mode=plan.mode)


def _unavailable(plan: Plan, rule: str | None, items: Sequence[Item], error: ModeratorError) -> Decision:
    """What becomes of a request whose moderator failed; what it did judge and reject stays rejected."""
    judged = _judged(plan, rule, [items[index] for index in error.known], list(error.known.values()))
    if judged.action is Action.REJECT:
        return judged
    return Decision(
        plan.on_error,
        judged.reasons,
        cause=Cause.UNAVAILABLE,
        rule=rule,
        mode=plan.mode,
        problem=f"{type(error).__name__}: {error.problem}",
        retry_after=error.retry_after,
    )


def _place(pointer: str, places: Places | None) -> str:
    return places.mask(pointer) if places else pointer


def _places(rule: Rule, index: int) -> Places:
    try:
        return Places(json=rule.json, form=rule.form, query=rule.query, text=rule.text)
    except ConfigError as error:
        raise ConfigError(f"rules[{index}].{error.key}", error.problem) from error
