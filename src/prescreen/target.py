"""What rules say of a request, compiled: one rule, or several together where it may be about each. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from prescreen.errors import ConfigError
from prescreen.model import Action, BodyKind
from prescreen.paths import Places
from prescreen.policy import strictest
from prescreen.rule import Rule

_COMBINATIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What one rule, or several together, say of a request: what each takes, and the strictest of the rest."""

    name: str
    places: Places
    kinds: frozenset[BodyKind]
    has_query: bool
    max_body: int | None
    on_unreadable: Action
    on_oversize: Action


class Targets:
    """Targets by the rules that they are made of; a combination is compiled when it is first met.

    Raises ConfigError with the index of the rule at fault.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.of = lru_cache(_COMBINATIONS)(_target)
        for index, rule in enumerate(rules):
            try:
                self.of((rule,))
            except ConfigError as error:
                raise ConfigError(f"rules[{index}].{error.key}", error.problem) from error


def _target(rules: tuple[Rule, ...]) -> Target:
    def merged(key: str) -> list[str]:
        return list(dict.fromkeys(name for rule in rules for name in getattr(rule, key)))

    limits = [rule.limit for rule in rules]
    return Target(
        name=" + ".join(dict.fromkeys(rule.match for rule in rules)),
        places=Places(
            json=merged("json"), form=merged("form"), query=merged("query"), text=any(rule.text for rule in rules)
        ),
        kinds=frozenset[BodyKind]().union(*(rule.kinds for rule in rules)),
        has_query=any(rule.query or rule.form for rule in rules),
        max_body=None if None in limits else max(limit for limit in limits if limit is not None),
        on_unreadable=strictest(Action(rule.on_unreadable) for rule in rules),
        on_oversize=strictest(Action(rule.on_oversize) for rule in rules),
    )
