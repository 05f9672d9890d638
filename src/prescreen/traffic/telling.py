"""What is told of one moderator's traffic, if anybody wants to know."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic
from typing import Final

from prescreen.errors import ModeratorError
from prescreen.load import tokens
from prescreen.model import Asked, Called, Image, Item, Observer
from prescreen.traffic.desk import Desk


class Teller:
    """Tells `observe`, None for nobody, of the questions to a moderator and of the calls."""

    def __init__(self, moderator: str, observe: Observer | None) -> None:
        self._moderator: Final = moderator
        self._observe: Final = observe

    def asked(
        self,
        items: Sequence[Item],
        rung: str | None,
        cached: Collection[int],
        desk: Desk | None = None,
        missing: Mapping[int, str | None] | None = None,
    ) -> None:
        """A screening asks: for the items at the indexes `cached` there are verdicts, the `missing` ones go to the desk."""
        if self._observe is not None:
            joined = desk.joinable(missing) if desk and missing else []
            saved = sum(tokens(items[index]) for index in (*cached, *joined))
            self._observe(Asked(self._moderator, len(items), len(cached), len(joined), saved, rung))

    def calling(self, items: Sequence[Item], since: float) -> AbstractContextManager[None]:
        """One call, about items that have waited since then; told of however it ends."""
        return nullcontext() if self._observe is None else self._called(self._observe, items, since)

    @contextmanager
    def _called(self, observe: Observer, items: Sequence[Item], since: float) -> Iterator[None]:
        error: str | None = "Cancelled"
        started = monotonic()
        try:
            yield
            error = None
        except ModeratorError as raised:
            error = type(raised).__name__
            raise
        finally:
            seconds, images = monotonic() - started, sum(isinstance(item, Image) for item in items)
            cost, queued = sum(map(tokens, items)), max(started - since, 0.0)
            observe(Called(self._moderator, len(items) - images, images, cost, seconds, queued, error))
