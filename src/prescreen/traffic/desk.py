"""Who waits for a verdict on what, and which texts go to the moderator together. No I/O, no clock, no lock.

Group commit, as databases do it: with a free slot a text leaves at once; while all calls are out the
newcomers gather, and leave together when a slot frees. Where many wait, a call takes along no more than a slot's share
of them: who is answered together comes back together, and meanwhile the other slots would stand idle. A driver
(`awaiting`, `blocking`) makes the calls; it says what time it is (`now`, on the monotonic clock).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from prescreen.errors import ModeratorError, ModeratorRefused, ModeratorTimeout
from prescreen.load import LARGEST_CALL, tokens
from prescreen.model import Image, Item, Verdict
from prescreen.traffic.tickets import Heard, Ticket, Waiter, spent

_FEW: Final = 8  # screenings: so many go together even where there are slots for each of them
_WORTHWHILE: Final = 0.05  # seconds: with less time left nobody starts over
_LATELY: Final = 5.0  # seconds: how long a call took is known for that long
_WEIGHT: Final = 0.2  # of the latest call in what one usually takes

_TOO_LATE: Final = "too little time was left for a call: all that may be out at once were out"


class Desk:
    """The queue in front of one moderator: at most `slots` calls at once, of at most `most` texts each.

    While `is_probing` says so, nobody knows whether the moderator is well: one call goes, and the others wait for its end.
    """

    def __init__(self, slots: int, most: int, is_probing: Callable[[], bool] = lambda: False) -> None:
        self._slots, self._most, self._is_probing = slots, most, is_probing
        self._out = 0
        self._waiting = 0  # screenings, queued or out
        self._usual, self._usual_until = 0.0, 0.0  # seconds a call takes, as long as that is news
        self._open: dict[str, Ticket] = {}  # by key, queued or out: where identical texts meet
        self._lanes: dict[Waiter, deque[Ticket]] = {}  # one for each screening, served in turn
        self._first: deque[Ticket] = deque()  # given back: they have waited already
        self._halves: deque[list[Ticket]] = deque()  # of a call that was refused for something in it
        self._is_halves_turn = True

    @property
    def may_lead(self) -> bool:
        """Whether there is a slot, and something for it."""
        slots = 1 if self._is_probing() else self._slots
        return self._out < slots and bool(self._first or self._halves or self._lanes)

    @property
    def queued(self) -> int:
        """How many items wait for a slot."""
        return len(self._first) + sum(map(len, self._halves)) + sum(map(len, self._lanes.values()))

    def joinable(self, keys: Mapping[int, str | None]) -> list[int]:
        """The indexes of the items that would not need a place of their own in a call."""
        found, seen = [], set[str]()
        for index, key in keys.items():
            if key is not None:
                if key in self._open or key in seen:
                    found.append(index)
                seen.add(key)
        return found

    def join(self, waiter: Waiter, items: Mapping[int, Item], keys: Mapping[int, str | None]) -> None:
        """Wait for verdicts on the items, by their index; None for a key: it is not to be shared with anyone."""
        texts: deque[Ticket] = deque()
        images: list[Ticket] = []  # behind the texts, which go together
        for index, item in items.items():
            key = keys[index]
            ticket = self._open.get(key) if key is not None else None
            if ticket is None:
                ticket = Ticket(item, key, tokens(item), waiter.since)
                (images if isinstance(item, Image) else texts).append(ticket)
                if key is not None:
                    self._open[key] = ticket
            if ticket not in waiter.indexes:
                ticket.waiters.append(waiter)
            waiter.indexes.setdefault(ticket, []).append(index)
        texts.extend(images)
        self._waiting += 1
        if texts:
            self._lanes[waiter] = texts

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer. What nobody else waits for is not asked any more; a call that is out goes on.

        Nobody joins that call later: it may be a stalled one that its only waiter gave up.
        """
        for ticket in waiter.indexes:
            ticket.waiters.remove(waiter)
            if not ticket.waiters:
                self._forget(ticket)
        self._waiting -= 1
        waiter.indexes.clear()
        lane = self._lanes.pop(waiter, None)
        if lane and (live := self._live(lane)):
            self._first.extend(live)

    def lead(self, now: float) -> list[Ticket]:
        """Take a slot, and what goes into its call; [] where there is nothing, and then no slot is taken.

        Who takes it has to give it back: with `settle`, or with `restore` for all of it.
        """
        # Halves take turns with the others: who sends many culprits does not keep everybody else waiting.
        half = self._half() if self._is_halves_turn else []
        self._is_halves_turn = not half
        batch = half or self._gathered(now) or self._half()
        self._out += bool(batch)
        for ticket in batch:
            ticket.is_out = True
        return batch

    def admit(self, batch: Sequence[Ticket], places: Sequence[int], wait: float, now: float) -> list[Ticket]:
        """The tickets at these places, for which there is quota; the others are given back.

        Where none goes, so is the slot, and who has less time than the `wait` until one may go is told at once.
        """
        going = [batch[place] for place in places]
        if len(going) == len(batch):
            return going
        staying = [ticket for ticket in batch if ticket not in going]
        if not going:
            hasty = [ticket for ticket in staying if ticket.waiters and ticket.deadline - now < wait]
            for ticket in hasty:
                self._answer(ticket, None, spent(wait))
            staying = [ticket for ticket in staying if ticket not in hasty]
        self.restore(staying, is_all=not going)
        return going

    def restore(self, batch: Sequence[Ticket], *, is_all: bool) -> None:
        """Give back what does not go into the call after all; with `is_all` the slot, too."""
        for ticket in batch:
            ticket.is_out = False
        if any(ticket.is_suspect for ticket in batch):
            self._halves.appendleft(list(batch))  # in no other company than before
        else:
            self._first.extendleft(reversed(batch))
        self._out -= is_all

    def settle(self, batch: Sequence[Ticket], heard: Heard, deadline: float, now: float) -> None:
        """The call, which had until `deadline`, is over. A slot is free.

        What was refused together is asked once more in two halves, so that only the culprit fails. Who has time left
        when a call was too slow that had less, because it left before or was made in somebody else's time, waits for another.
        """
        self._out -= 1
        if heard.error is None:
            last = self._usual if now < self._usual_until else heard.took
            self._usual, self._usual_until = last + _WEIGHT * (heard.took - last), now + _LATELY
        open_ = [ticket for index, ticket in enumerate(batch) if index not in heard.known]
        for index, verdict in heard.known.items():
            self._answer(batch[index], verdict, None)
        if isinstance(heard.error, ModeratorRefused) and len(open_) > 1:
            for ticket in open_:
                ticket.is_out, ticket.is_suspect = False, True
            middle = len(open_) // 2
            self._halves.extendleft([open_[middle:], open_[:middle]])  # the sooner there is a culprit by itself
        elif isinstance(heard.error, ModeratorTimeout):
            for ticket in open_:
                self._late(ticket, heard.error, max(deadline, now))
        else:
            for ticket in open_:
                self._answer(ticket, None, heard.error)

    def _half(self) -> list[Ticket]:
        """Of what was refused together, the part whose turn it is; who has a culprit already need not know the others."""
        while self._halves:
            live = self._live(self._halves.popleft())
            refused = [ticket for ticket in live if all(waiter.is_refused for waiter in ticket.waiters)]
            for ticket in refused:
                self._answer(ticket, None, ticket.waiters[0].error)
            if half := [ticket for ticket in live if ticket not in refused]:
                return half
        return []

    def _gathered(self, now: float) -> list[Ticket]:
        """One item of each screening in turn, so that one with many does not keep one with few waiting.

        An image goes alone: services take one in a call. It keeps its place in its lane, and its lane the turn.
        """
        share = max(_FEW, -(-self._waiting // self._slots))
        served = [(waiter, len(lane)) for waiter, lane in islice(self._lanes.items(), share)]
        turns = deque([self._first, *(self._lanes[waiter] for waiter, _ in served)])
        batch: list[Ticket] = []
        size = 0
        while turns and len(batch) < self._most:
            lane = turns[0]
            ticket = self._next(lane, now)
            if ticket is None or (batch and isinstance(ticket.item, Image)):
                turns.popleft()
                continue
            size += LARGEST_CALL if isinstance(ticket.item, Image) else len(ticket.item.value)
            if batch and size > LARGEST_CALL:
                break
            batch.append(lane.popleft())
            if lane is not self._first:
                turns.rotate(-1)
        self._go_on(served)
        return batch

    def _next(self, lane: deque[Ticket], now: float) -> Ticket | None:
        """The first of the lane that is worth a call. For the others it is over: nobody waits, or nobody has the time.

        A call that has to be cut short would help nobody, and take the place of one that does.
        """
        while lane:
            ticket = lane[0]
            if not ticket.waiters:
                self._forget(lane.popleft())
            elif now < self._usual_until and ticket.deadline - now < self._usual:
                self._answer(lane.popleft(), None, ModeratorTimeout(_TOO_LATE))
            else:
                return ticket
        return None

    def _go_on(self, served: Iterable[tuple[Waiter, int]]) -> None:
        """Those of which something was taken, since their lane had that many, stand behind the others, if they wait for more."""
        for waiter, count in served:
            if len(self._lanes[waiter]) < count and (lane := self._lanes.pop(waiter)):
                self._lanes[waiter] = lane

    def _live(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Those that somebody waits for; the others are forgotten."""
        live = []
        for ticket in tickets:
            if ticket.waiters:
                live.append(ticket)
            else:
                self._forget(ticket)
        return live

    def _late(self, ticket: Ticket, error: ModeratorError, end: float) -> None:
        """Who has time left after the end that the call had waits for another; for the others it was too slow."""
        patient = [waiter for waiter in ticket.waiters if waiter.deadline - end > _WORTHWHILE]
        if not patient:
            return self._answer(ticket, None, error)
        for waiter in [each for each in ticket.waiters if each not in patient]:
            ticket.waiters.remove(waiter)
            waiter.settle(ticket, None, error)
        ticket.is_out = False
        if ticket.is_suspect:
            self._halves.append([ticket])
        else:
            self._first.append(ticket)
        return None

    def _answer(self, ticket: Ticket, verdict: Verdict | None, error: ModeratorError | None) -> None:
        self._forget(ticket)
        for waiter in ticket.waiters:
            waiter.settle(ticket, verdict, error)

    def _forget(self, ticket: Ticket) -> None:
        if ticket.key is not None and self._open.get(ticket.key) is ticket:
            del self._open[ticket.key]
