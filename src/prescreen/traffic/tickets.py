"""What goes over a desk: items that are to be judged, who waits for them, and what was heard of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prescreen.errors import ModeratorBusy, ModeratorError, ModeratorRefused
from prescreen.model import Image, Item, Verdict

_FULL: Final = 0.75  # of a screening's time: a call that has less says nothing of the moderator if it ends late

CUT_SHORT: Final = "the call was cut short"

Known = dict[int, Verdict]


def spent(wait: float) -> ModeratorBusy:
    """What went wrong where there is quota in so many seconds, and they are too many."""
    return ModeratorBusy("what it may be asked in a minute is spent", retry_after=wait)


@dataclass(slots=True, eq=False)
class Ticket:
    """One item that is to be judged, and all who wait for that."""

    item: Item
    key: str | None
    cost: int
    since: float = 0.0
    waiters: list[Waiter] = field(default_factory=list)
    is_out: bool = False
    is_suspect: bool = False  # was in a call that was refused for something in it

    @property
    def is_image(self) -> bool:
        """Whether it is no text."""
        return isinstance(self.item, Image)

    @property
    def deadline(self) -> float:
        """When the last who waits for it goes."""
        return max(waiter.deadline for waiter in self.waiters)


@dataclass(slots=True, eq=False)
class Waiter:
    """One screening that waits, from `since` until `deadline`, for the items at the indexes of its tickets.

    `wake` is called when nothing is left to wait for. `known` is filled as verdicts come in; `error` is what went wrong
    with any of the others.
    """

    deadline: float
    wake: Callable[[], None]
    indexes: dict[Ticket, list[int]] = field(default_factory=dict)
    known: Known = field(default_factory=dict)
    error: ModeratorError | None = None
    since: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to wait for. After a refusal there may be: what is flagged is to be told."""
        return not self.indexes

    def is_hurried(self, now: float) -> bool:
        """Whether a call that begins now has much less time than it would have had at once."""
        return self.deadline - now < _FULL * (self.deadline - self.since)

    def settle(self, ticket: Ticket, verdict: Verdict | None, error: ModeratorError | None) -> None:
        """Take a verdict, or, with None, what went wrong."""
        indexes = self.indexes.pop(ticket)
        if verdict is not None:
            self.known.update(dict.fromkeys(indexes, verdict))
        elif self.error is None or isinstance(error, ModeratorRefused):
            self.error = error  # a refusal is the client's doing, so it comes before an outage
        if self.is_done:
            self.wake()


@dataclass(slots=True)
class Heard:
    """What came of one call: verdicts by index, and what went wrong with the others.

    `took` is its length in seconds, None where that says nothing of the next one.
    """

    known: Mapping[int, Verdict] = field(default_factory=dict)
    error: ModeratorError | None = None
    took: float | None = None
