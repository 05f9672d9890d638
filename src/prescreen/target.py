"""What rules say of a request, compiled: one rule, or several together where it may be about each. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from sys import getsizeof
from typing import Any, Final, TypeVar

from prescreen import decode
from prescreen.document import Accepts, Field, Limits
from prescreen.errors import ConfigError
from prescreen.headers import named
from prescreen.memory import Memory
from prescreen.model import Action, BodyKind, Head, ImagePolicy, Item, Text, Unmatched
from prescreen.paths import Places
from prescreen.policy import strictest
from prescreen.rule import EVERYTHING, SWITCHES, Rule

T = TypeVar("T")

_COMBINATIONS: Final = 1024
_UNMATCHED: Final[Sequence[Unmatched]] = ("reject", "all", "pass")  # the strictest first
_IMAGES: Final[Sequence[ImagePolicy]] = ("reject", "moderate", "ignore")
_SMALL_HEAD: Final = 1 << 10
_FRAMING: Final = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})
"""The headers that say how a body is to be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What one rule, or several together, say of a request: what any takes, read whole, and the strictest of the rest."""

    name: str
    places: Places
    accepts: Accepts
    has_query: bool
    join: bool
    overlaps: bool
    on_unreadable: Action
    on_oversize: Action


@dataclass(frozen=True, slots=True, eq=False)
class Framing:
    """How the bodies of requests to one target with such a head are read.

    Of the head it has only what that depends on, so all that share it are read alike. `query` are the parameters of the
    query, () where the target does not look at them.
    """

    target: Target
    head: Head
    query: tuple[Field, ...]


@dataclass(slots=True, eq=False)
class Found:
    """The texts and images to judge; `is_unmatched` as in `Harvest`.

    `asked` is what the moderator is to be asked about them, None before anybody has thought about that. `at_hand` is for
    whoever is asked, to keep what was last said of all that.
    """

    items: Sequence[Item]
    is_unmatched: bool = False
    asked: Sequence[Item] | None = None
    at_hand: object = None


class Targets:
    """Targets by the rules that they are made of; a combination is compiled when it is first met.

    How small heads frame a body is remembered. Raises ConfigError with the index of the rule at fault.
    """

    def __init__(self, rules: Sequence[Rule], limits: Limits) -> None:
        self._limits = limits
        self._framings = Memory[Framing](_SMALL_HEAD)
        self.of = lru_cache(_COMBINATIONS)(self._target)
        for index, rule in enumerate(rules):
            try:
                self.of((rule,))
            except ConfigError as error:
                raise ConfigError(f"rules[{index}].{error.key}", error.problem) from error

    def framing(self, target: Target, head: Head) -> Framing:
        """How the body behind this head is to be read. Raises RequestError where the head alone decides that it is not."""
        told = named(_FRAMING, head.headers)
        query = head.query if target.has_query else b""
        key = (target, told, query, head.is_websocket)
        known = self._framings.get(key)
        if known is None:
            head = Head("", "", query=query, headers=told, is_websocket=head.is_websocket)
            decode.admit(head, target.accepts)
            known = Framing(target, head, decode.query_fields(head, self._limits) if target.has_query else ())
            size = len(query) + sum(getsizeof(name) + getsizeof(value) for name, value in told)
            self._framings.keep(key, known, size)
        return known

    def find(self, framing: Framing, body: bytes) -> Found:
        """What is in a body. Raises RequestError."""
        target = framing.target
        document = decode.decode(framing.head, body, target.accepts, self._limits)
        harvest = target.places.harvest(document, framing.query, self._limits)
        return Found(tuple(harvest.items), harvest.is_unmatched)

    def _target(self, rules: tuple[Rule, ...]) -> Target:
        return Target(
            name=" + ".join(dict.fromkeys(rule.match for rule in rules)),
            places=_places(rules),
            accepts=self._accepts(rules),
            has_query=len(rules) > 1 or rules[0].reads_query,
            join=any(rule.join for rule in rules),
            overlaps=all(rule.timing == "overlap" for rule in rules),
            on_unreadable=strictest(Action(rule.on_unreadable) for rule in rules),
            on_oversize=strictest(Action(rule.on_oversize) for rule in rules),
        )

    def _accepts(self, rules: Sequence[Rule]) -> Accepts:
        switches: dict[str, bool] = {switch: all(getattr(rule, switch) for rule in rules) for switch in SWITCHES}
        return Accepts(
            kinds=frozenset[BodyKind]().union(*(rule.kinds for rule in rules)),
            limit=min(rule.limit or self._limits.body for rule in rules),
            with_floats=any("?" in path for rule in rules for path in rule.json),  # in a filter
            **switches,
        )


def size_of(items: Iterable[Item]) -> int:
    """The bytes that texts and images take in memory."""
    return sum(
        getsizeof(each.pointer) + getsizeof(each.value if isinstance(each, Text) else each.url) for each in items
    )


def _places(rules: Sequence[Rule]) -> Places:
    """What the rules name; where there are several, everything, since nobody knows whose handler will read it."""

    def merged(key: str) -> list[str]:
        return list(dict.fromkeys(name for rule in rules for name in getattr(rule, key)))

    keys = {rule.keys for rule in rules}
    return Places(
        json=[*merged("json"), *([EVERYTHING] if len(rules) > 1 else [])],
        form=merged("form"),
        query=merged("query"),
        text=any(rule.text for rule in rules),
        keys=True if True in keys else None if None in keys else False,
        images=_first(_IMAGES, [rule.images for rule in rules]),
        on_unmatched=_first(_UNMATCHED, [rule.on_unmatched for rule in rules]),
    )


def _first(order: Sequence[T], given: Sequence[Any]) -> T:
    return next(each for each in order if each in given)
