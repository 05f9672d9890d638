"""Which places of which bodies the moderator sees: found out by sending a text through each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final

from prescreen.cli.bodies import Operation, Probe
from prescreen.document import Limits
from prescreen.drive import drive_sync
from prescreen.model import BodyKind, Head, Image, Item
from prescreen.routes import exemption
from prescreen.rule import Rule
from prescreen.screen import Screen
from prescreen.steps import Answer, Moderate, ReadBody, Report, Step, Work

UNDESCRIBED: Final = "(a body that nothing describes)"
TOO_MUCH: Final = "(more places than can be listed)"
_PLENTY: Final = 1 << 40
_ROOMY: Final = Limits(**{each.name: _PLENTY for each in fields(Limits) if each.name != "depth"} | {"depth": 90})


class State(StrEnum):
    """What becomes of a text at a place, the worst first."""

    GAP = "gap"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    EXEMPT = "exempt"
    COVERED = "covered"


@dataclass(frozen=True, slots=True)
class Field:
    """A place in the bodies of an operation; `rule` is the one that screens or exempts it, None without."""

    place: str
    kind: str
    media: str
    body_kind: BodyKind | None
    state: State
    rule: str | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """`fields` by operation; `dead` has the places of rules at which no body can have a text."""

    fields: dict[Operation, tuple[Field, ...]]
    dead: tuple[tuple[Rule, str], ...]

    @property
    def gaps(self) -> list[tuple[Operation, Field]]:
        """Every place that a handler may read and the moderator does not see."""
        return [(each, field) for each, found in self.fields.items() for field in found if field.state is State.GAP]


def cover(screen: Screen, operations: Iterable[Operation]) -> Coverage:
    """Try every place of every body against the rules of `screen`."""
    judge = _Judge(screen.settings.rules)
    found = {each: tuple(judge.fields(each)) for each in operations}
    return Coverage({each: fields for each, fields in found.items() if fields}, tuple(judge.dead(list(found))))


class _Judge:
    """The rules in a screen of our own, which is asked what it finds and never gets to ask a moderator."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._screen = _screen(rules)

    def fields(self, operation: Operation) -> Iterator[Field]:
        """The fields of one operation, each place once."""
        found: dict[tuple[str, str], Field] = {}
        for probe in operation.probes or ():
            if probe.sentinel is not None:
                field = Field(probe.place, probe.kind, probe.media, probe.body_kind, *self._state(operation, probe))
                worst = min(
                    found.get((field.place, field.media), field), field, key=lambda each: list(State).index(each.state)
                )
                found[field.place, field.media] = worst
        yield from found.values()
        if operation.probes is None or not operation.is_whole:
            place = UNDESCRIBED if operation.probes is None else TOO_MUCH
            yield Field(place, "body", "", None, *self._guess(_head(operation)))

    def dead(self, operations: Sequence[Operation]) -> Iterator[tuple[Rule, str]]:
        """The paths and fields of rules that find nothing in any body of the routes that the rule covers."""
        for rule in self._screen.rules.rules:
            own = [each for each in operations if rule in self._screen.rules.find(_head(each))]
            if all(each.probes is not None and each.is_whole for each in own):
                probes = [(each, probe) for each in own for probe in each.probes or ()]
                yield from ((rule, place) for alone, place in _alone(rule) if not _finds_any(alone, probes))

    def _state(self, operation: Operation, probe: Probe) -> tuple[State, str | None]:
        head = _head(operation, probe)
        rules = self._screen.rules.find(head)
        if not rules:
            return self._guess(head)
        step = _last_step(self._screen, rules, head, probe.body)
        seen = any(probe.sentinel in _content(item) for item in _items(step) if probe.sentinel)
        refused = isinstance(step, Report) and step.record.decision.is_rejected
        state = State.COVERED if seen else State.REFUSED if refused else State.GAP
        return state, " + ".join(rule.match for rule in rules)

    def _guess(self, head: Head) -> tuple[State, str | None]:
        """What can be said of a body without looking into it."""
        if rules := self._screen.rules.find(head):
            return State.UNKNOWN, " + ".join(rule.match for rule in rules)
        exempt = exemption(self._screen.rules, head)
        return (State.EXEMPT, exempt.match) if exempt else (State.GAP, None)


class _Enough(BaseException):
    """The step that was asked for has come."""


def _screen(rules: Iterable[Rule]) -> Screen:
    return Screen(rules=[_plain(rule) for rule in rules], moderator="keywords", limits=_ROOMY)


def _plain(rule: Rule) -> Rule:
    """The rule without its limit and without what it does when it finds nothing: neither may hide a gap."""
    return replace(rule, max_body=None, on_unmatched="pass")


def _alone(rule: Rule) -> Iterator[tuple[Screen, str]]:
    """The rule with each one of its places alone."""
    bare: dict[str, Any] = {"json": (), "form": (), "query": (), "text": False}
    for key, places in (("json", [path for path in rule.json if path.startswith("$")]), ("form", rule.form)):
        for place in places:
            yield _screen([replace(rule, **{**bare, key: [place]})]), place


def _finds_any(screen: Screen, probes: Iterable[tuple[Operation, Probe]]) -> bool:
    return any(
        _items(_last_step(screen, screen.rules.rules, _head(operation, probe), probe.body))
        for operation, probe in probes
    )


def _last_step(screen: Screen, rules: tuple[Rule, ...], head: Head, body: bytes) -> Step:
    """What the flow of a request comes to: moderating what was found, or a report that it was not."""
    last: list[Step] = []

    def perform(step: Step) -> Answer:
        if isinstance(step, ReadBody):
            return body
        if isinstance(step, Work):
            return step.run()
        last.append(step)
        raise _Enough

    with suppress(_Enough):
        drive_sync(screen.request_flow(rules, head), perform)
    return last[0]


def _items(step: Step) -> Sequence[Item]:
    return step.items if isinstance(step, Moderate) else ()


def _content(item: Item) -> str:
    return item.url if isinstance(item, Image) else item.value


def _head(operation: Operation, probe: Probe | None = None) -> Head:
    headers = {"content-type": probe.content_type, "content-length": str(len(probe.body))} if probe else {}
    coded = tuple((name.encode(), value.encode()) for name, value in headers.items())
    return Head(operation.method, operation.sample, headers=coded)
