"""Moderators made of moderators: either of two, one if the other fails, a second opinion where the first is unsure.

What a layer does is written once, as a generator of rounds; who is in a round is asked at once where that can be
awaited, one after another where not. All is within the one deadline, and what is known when it ends still counts.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar, Final

from prescreen.errors import ConfigError, ModeratorError, ModeratorRefused, ModeratorTimeout
from prescreen.model import Image, Item, Verdict
from prescreen.moderators import AnyModerator, Bound, bind, build, sound
from prescreen.moderators.call import Known, moderate, moderate_sync
from prescreen.policy import UNSPECIFIED
from prescreen.steps import Moderate

logger: Final = logging.getLogger("prescreen")


@dataclass(slots=True, eq=False)
class Opinion:
    """What one member says of the items, by their index, and what went wrong; filled while it is asked."""

    member: Bound
    known: Known = field(default_factory=dict)
    error: ModeratorError | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """To ask one member about the items at `indexes`, until `deadline` on the monotonic clock."""

    opinion: Opinion
    indexes: Sequence[int]
    deadline: float


class Layer(ABC):
    """What the layers have in common. A member is a moderator of any shape, another layer, or a built-in's name.

    `categories` is what any member can report, None if one of them does not say; `max_characters` is the smallest.
    Raises ConfigError.
    """

    needs_all: ClassVar[bool] = False
    """Whether every member has to speak of every item."""

    def __init__(self, word: str, members: Sequence[str | AnyModerator]) -> None:
        if len(members) < 2:
            raise ConfigError("moderator", f"{type(self).__name__} is made of at least two moderators")
        self._members = tuple(bind(build(each, {}) if isinstance(each, str) else each) for each in members)
        self.name = f"{word}({', '.join(member.name for member in self._members)})"
        known = [member.categories for member in self._members if member.categories is not None]
        self.categories = frozenset[str]().union(*known) if len(known) == len(members) else None
        limits = [member.max_characters for member in self._members if member.max_characters is not None]
        self.max_characters = min(limits, default=None)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def over(self, wrap: Callable[[Bound], Bound]) -> Layer:
        """The same layer, of the members that `wrap` makes of its own; layers inside it likewise."""
        found = copy(self)
        found._members = tuple(  # noqa: SLF001  # a copy of our own
            bind(member.source.over(wrap)) if isinstance(member.source, Layer) else wrap(member)
            for member in self._members
        )
        return found

    async def moderate(
        self,
        items: Sequence[Item],
        timeout: float = 60.0,  # noqa: ASYNC109  # to be shared out among the members
        known: Known | None = None,
    ) -> Sequence[Verdict]:
        """One verdict for each item within `timeout` seconds. Raises ModeratorError; `known` is filled in any case."""
        from anyio import create_task_group

        opinions = [Opinion(member) for member in self._members]
        try:
            for asks in self._rounds(opinions, items, monotonic() + timeout):
                async with create_task_group() as group:
                    for ask in filter(_is_about_any, asks):
                        group.start_soon(_ask, ask, items)
        finally:
            standing = self._standing(opinions, len(items))
            if known is not None:
                known.update(standing)
        return self._concluded(opinions, standing, len(items))

    def moderate_sync(self, items: Sequence[Item], timeout: float, known: Known | None = None) -> Sequence[Verdict]:
        """The same, blocking, one member after another."""
        opinions = [Opinion(member) for member in self._members]
        for asks in self._rounds(opinions, items, monotonic() + timeout):
            for ask in filter(_is_about_any, asks):
                with _asking(ask, items) as (step, heard):
                    heard.update(enumerate(moderate_sync(ask.opinion.member, _timely(step), heard)))
        standing = self._standing(opinions, len(items))
        if known is not None:
            known.update(standing)
        return self._concluded(opinions, standing, len(items))

    @abstractmethod
    def _rounds(self, opinions: Sequence[Opinion], items: Sequence[Item], deadline: float) -> Iterator[Sequence[Ask]]:
        """Whom to ask what; each round is over when the next begins."""

    @abstractmethod
    def _standing(self, opinions: Sequence[Opinion], count: int) -> Known:
        """The layer's own verdicts, by index, as far as there are any."""

    def _failed(self, opinions: Sequence[Opinion]) -> Opinion:
        """Whose error is the layer's; a refusal comes first, since it is the client's doing and no outage."""
        failed = [opinion for opinion in opinions if opinion.error is not None]
        return next((each for each in failed if isinstance(each.error, ModeratorRefused)), failed[-1])

    def _concluded(self, opinions: Sequence[Opinion], standing: Known, count: int) -> Sequence[Verdict]:
        lengths = [len(opinion.known) for opinion in opinions] if self.needs_all else [len(standing)]
        if min(lengths) == count:
            return [standing[index] for index in range(count)]
        failed = self._failed(opinions)
        error = failed.error
        assert error is not None
        raise error.anew(standing, f"{failed.member.name}: ") from error


class AnyOf(Layer):
    """All members are asked at once; what any of them flags is flagged.

    Categories are or-ed, scores are the highest given. Where a member fails, all fails: that the others find a text
    clean is no answer. What they flag is still known.
    """

    needs_all = True

    def __init__(self, *members: str | AnyModerator) -> None:
        super().__init__("any", members)

    def _rounds(self, opinions: Sequence[Opinion], items: Sequence[Item], deadline: float) -> Iterator[Sequence[Ask]]:
        yield [Ask(opinion, range(len(items)), deadline) for opinion in opinions]

    def _standing(self, opinions: Sequence[Opinion], count: int) -> Known:
        standing: Known = {}
        for index in range(count):
            said = [opinion.known[index] for opinion in opinions if index in opinion.known]
            if len(said) == len(opinions) or any(verdict.flagged for verdict in said):
                standing[index] = merged(said)
        return standing


class FirstOf(Layer):
    """The first member is asked; if it fails, the next, about the items that are without a verdict, and so on.

    A text that a member refuses to judge goes to no other: who writes it could choose by that who judges it. An image does,
    since many moderators take none.

    `patience` is the share (above 0, below 1) of the time left that each but the last may take. A failure is logged as a warning.
    """

    def __init__(self, *members: str | AnyModerator, patience: float = 0.5) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 < patience < 1:
            raise ConfigError("patience", f"{patience!r} is no share between 0 and 1")
        super().__init__("first", members)
        self._patience = patience

    def _rounds(self, opinions: Sequence[Opinion], items: Sequence[Item], deadline: float) -> Iterator[Sequence[Ask]]:
        missing = list(range(len(items)))
        for opinion in opinions:
            now = monotonic()
            is_last = opinion is opinions[-1]
            yield [Ask(opinion, missing, deadline if is_last else now + (deadline - now) * self._patience)]
            missing = [index for index in missing if index not in opinion.known]
            if isinstance(opinion.error, ModeratorRefused):
                missing = [index for index in missing if isinstance(items[index], Image)]
            if not missing:
                return
            if opinion.error is not None and not is_last:
                kind = type(opinion.error).__name__
                logger.warning("%s: %s failed (%s: %s)", self.name, opinion.member.name, kind, opinion.error.problem)

    def _standing(self, opinions: Sequence[Opinion], count: int) -> Known:  # noqa: ARG002  # the opinions say it
        return {index: verdict for opinion in opinions for index, verdict in opinion.known.items()}


class Escalate(Layer):
    """The first member is asked; where it is unsure, the second judges.

    Unsure is a highest score within `between`, both ends included. Without scores it is 1 where the first
    member flags and 0 where not. The second one's verdict stands alone; if it fails, that is an error, with
    the first one's other verdicts known.
    """

    def __init__(
        self, first: str | AnyModerator, second: str | AnyModerator, *, between: Sequence[float] = (0.3, 0.7)
    ) -> None:
        if not _is_range(between):
            raise ConfigError("between", f"{between!r} is no pair of scores from 0 to 1, as in (0.3, 0.7)")
        super().__init__("escalate", (first, second))
        self._low, self._high = between

    def _rounds(self, opinions: Sequence[Opinion], items: Sequence[Item], deadline: float) -> Iterator[Sequence[Ask]]:
        first, second = opinions
        yield [Ask(first, range(len(items)), deadline)]
        yield [Ask(second, [index for index in first.known if self._is_unsure(first.known[index])], deadline)]

    def _standing(self, opinions: Sequence[Opinion], count: int) -> Known:  # noqa: ARG002  # the opinions say it
        first, second = opinions
        sure = {index: verdict for index, verdict in first.known.items() if not self._is_unsure(verdict)}
        return sure | second.known

    def _is_unsure(self, verdict: Verdict) -> bool:
        return self._low <= max(verdict.scores.values(), default=float(verdict.flagged)) <= self._high


def merged(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of several: no hit of one of them is undone by what another says."""
    categories: dict[str, bool] = {}
    scores: dict[str, float] = {}
    for verdict in verdicts:
        for name, hit in _named(verdict).items():
            categories[name] = hit or categories.get(name, False)
        for name, score in verdict.scores.items():
            scores[name] = max(score, scores.get(name, 0.0))
    for verdict in verdicts:
        for name, hit in verdict.categories.items():
            if hit and name not in verdict.scores:
                scores.pop(name, None)  # hit without a score: no threshold may hold another one's score against it
    models = dict.fromkeys(verdict.model for verdict in verdicts if verdict.model)
    return Verdict(any(verdict.flagged for verdict in verdicts), categories, scores, ", ".join(models))


def _named(verdict: Verdict) -> Mapping[str, bool]:
    """The categories; a flag that comes without one gets a name, lest another's category pass for its reason."""
    if verdict.flagged and not any(verdict.categories.values()):
        return {**verdict.categories, UNSPECIFIED: True}
    return verdict.categories


def _is_range(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in value):
        return False
    return bool(0 <= value[0] <= value[1] <= 1)


async def _ask(ask: Ask, items: Sequence[Item]) -> None:
    with _asking(ask, items) as (step, heard):
        heard.update(enumerate(await moderate(ask.opinion.member, _timely(step), heard)))


@contextmanager
def _asking(ask: Ask, items: Sequence[Item]) -> Iterator[tuple[Moderate, Known]]:
    """The step to perform, and where its verdicts go; all that comes of it ends up in the opinion, however it ends."""
    step = Moderate([items[index] for index in ask.indexes], ask.deadline - monotonic())
    heard: Known = {}
    try:
        yield step, heard
    except ModeratorError as error:
        heard.update(error.known)
        ask.opinion.error = error
    finally:
        for index, verdict in sound(step.items, heard).items():
            ask.opinion.known[ask.indexes[index]] = verdict


def _is_about_any(ask: Ask) -> bool:
    return bool(ask.indexes)


def _timely(step: Moderate) -> Moderate:
    if step.timeout <= 0:
        raise ModeratorTimeout("no time was left for it")
    return step
