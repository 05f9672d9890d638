"""From verdicts to a conclusion. No I/O, no state: the same verdicts always conclude the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from difflib import get_close_matches
from typing import Final

from prescreen.errors import ConfigError
from prescreen.model import Action, Item, Reason, Verdict
from prescreen.units import action

REST: Final = "*"
"""As a category: every category that is not named itself."""

_STRICTEST_FIRST: Final = (Action.REJECT, Action.FLAG)

UNSPECIFIED: Final = "unspecified"
"""The category of a verdict that is flagged without naming one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as a hit, and what a hit does.

    Without `thresholds` the provider's own flags decide. A threshold (0 to 1) replaces them for the
    category that it names and leaves the others alone; `"*"` is for all that are not named.
    `score >= threshold` hits. `ignore` drops categories altogether. `actions` says what a hit in a
    category does (default: reject); `Action.FLAG` passes the request on, annotated and recorded.

    Raises ConfigError.
    """

    _: KW_ONLY
    thresholds: Mapping[str, float] = field(default_factory=dict)
    actions: Mapping[str, Action] = field(default_factory=dict)
    ignore: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key in ("thresholds", "actions"):
            if not isinstance(getattr(self, key), Mapping):
                raise ConfigError(key, 'write a table by category, such as {"violence": …}')
        for category, threshold in self.thresholds.items():
            if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
                raise ConfigError(f'thresholds."{category}"', f"{threshold!r} is not a number from 0 to 1")
        is_list = isinstance(self.ignore, Collection) and not isinstance(self.ignore, str)
        if not is_list or not all(isinstance(name, str) for name in self.ignore):
            raise ConfigError("ignore", f"write a list of categories: [{self.ignore!r}]")
        object.__setattr__(self, "thresholds", dict(self.thresholds))
        object.__setattr__(self, "actions", {name: _action(name, value) for name, value in self.actions.items()})
        object.__setattr__(self, "ignore", tuple(self.ignore))

    def check_categories(self, known: Collection[str]) -> None:
        """Raise ConfigError for a category that the moderator never reports; it would do nothing."""
        for key, names in (("thresholds", self.thresholds), ("actions", self.actions), ("ignore", self.ignore)):
            for name in names:
                if name not in known and name != REST:
                    near = get_close_matches(name, known, n=1)
                    hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(sorted(known))}"
                    raise ConfigError(f'policy.{key}."{name}"', f"the moderator has no category {name!r}; {hint}")

    def reasons(self, items: Sequence[Item], verdicts: Sequence[Verdict]) -> tuple[Reason, ...]:
        """Every hit, in the order of the items; one verdict for each item.

        Of several at one place (pieces of a text, its readings) the worst stands for all.
        """
        if len(items) == len(verdicts) and all(map(self._is_harmless, verdicts)):
            return ()
        found: dict[tuple[str, str], Reason] = {}
        for item, verdict in zip(items, verdicts, strict=True):
            for category in self._hits(verdict):
                reason = Reason(category, item.pointer, verdict.scores.get(category), self._action(category))
                known = found.get((item.pointer, category))
                if known is None or (known.score or 0) < (reason.score or 0):
                    found[item.pointer, category] = reason
        return tuple(found.values())

    def conclude(self, reasons: Sequence[Reason]) -> Action:
        """The strictest action of all the reasons; ALLOW without any."""
        return strictest(reason.action for reason in reasons)

    def _hits(self, verdict: Verdict) -> Iterator[str]:
        named = dict.fromkeys((*verdict.categories, *verdict.scores))
        for category in named:
            if category not in self.ignore and self._is_hit(category, verdict):
                yield category
        # Flagged without a category to show for it: only thresholds for all that it names undo that.
        is_explained = any(verdict.categories.values()) or (named and all(map(self._is_settled, named)))
        if verdict.flagged and not is_explained:
            yield UNSPECIFIED

    def _is_harmless(self, verdict: Verdict) -> bool:
        """Whether nothing in it could be a hit, found without weighing each category: so are most."""
        if verdict.flagged or any(verdict.categories.values()):
            return False
        return not self.thresholds or max(verdict.scores.values(), default=0) < min(self.thresholds.values())

    def _is_hit(self, category: str, verdict: Verdict) -> bool:
        threshold, score = self._threshold(category), verdict.scores.get(category)
        if threshold is None or score is None:
            return verdict.categories.get(category, False)
        return score >= threshold

    def _is_settled(self, category: str) -> bool:
        return category in self.ignore or self._threshold(category) is not None

    def _threshold(self, category: str) -> float | None:
        return self.thresholds.get(category, self.thresholds.get(REST))

    def _action(self, category: str) -> Action:
        return self.actions.get(category, self.actions.get(REST, Action.REJECT))


def strictest(actions: Iterable[Action]) -> Action:
    """REJECT before FLAG before ALLOW; ALLOW of none."""
    given = tuple(actions)
    return next((action for action in _STRICTEST_FIRST if action in given), Action.ALLOW)


def _action(category: str, value: object) -> Action:
    try:
        return action(value)
    except ValueError as error:
        raise ConfigError(f'actions."{category}"', str(error)) from None
