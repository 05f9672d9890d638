"""Screenings in a queue, a lane for each. No I/O, no clock, no lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Final

from prescreen.load import LARGEST_CALL
from prescreen.model import Text
from prescreen.traffic.tickets import Ticket, Waiter

Front = Callable[[deque[Ticket]], Ticket | None]
"""The first ticket of a lane that is worth a call, after those that are not have been taken out of it."""


class Lanes:
    """Tickets by who waits for them; at most `most` of them leave together."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._lanes: dict[Waiter, deque[Ticket]] = {}
        self.first: Final[deque[Ticket]] = deque()
        """What comes before all lanes: it was given back, and has waited already."""

    def __bool__(self) -> bool:
        return bool(self.first or self._lanes)

    def __len__(self) -> int:
        return len(self.first) + sum(map(len, self._lanes.values()))

    @property
    def end(self) -> float:
        """When the first goes of those who have a lane."""
        return min(waiter.deadline for waiter in self._lanes)

    def join(self, waiter: Waiter, tickets: Iterable[Ticket]) -> None:
        """Queue them, if there are any."""
        if lane := deque(tickets):
            self._lanes[waiter] = lane

    def tickets(self) -> Iterable[Ticket]:
        """All that are queued."""
        return chain(self.first, *self._lanes.values())

    def leave(self, waiter: Waiter) -> None:
        """Whoever else waits for one of its tickets has waited already."""
        self.first.extend(self._lanes.pop(waiter, ()))

    def gathered(self, share: int, front: Front) -> list[Ticket]:
        """What goes together: of `share` screenings one item each, in turn, so that one with many does not keep one with few waiting."""
        served = [(waiter, len(lane)) for waiter, lane in islice(self._lanes.items(), share)]
        turns = deque([self.first, *(self._lanes[waiter] for waiter, _ in served)])
        batch: list[Ticket] = []
        size = 0
        while turns and len(batch) < self._most:
            lane = turns[0]
            ticket = front(lane)
            if ticket is None:
                turns.popleft()
                continue
            size += len(ticket.item.value) if isinstance(ticket.item, Text) else 0
            if batch and size > LARGEST_CALL:
                break
            batch.append(lane.popleft())
            if lane is not self.first:
                turns.rotate(-1)
        self._go_on(served)
        return batch

    def _go_on(self, served: Iterable[tuple[Waiter, int]]) -> None:
        """Those of which something was taken, since their lane had that many, stand behind the others, if they wait for more."""
        for waiter, count in served:
            if len(self._lanes[waiter]) < count and (lane := self._lanes.pop(waiter)):
                self._lanes[waiter] = lane
