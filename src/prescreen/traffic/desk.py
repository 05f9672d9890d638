"""Who waits for a verdict on what, and which texts go to the moderator together. No I/O, no clock, no lock.

Group commit, as databases do it: while there are slots for all who wait a text leaves at once; where there are more of them it
takes those along that are just arriving, for `patience` at the most; while all slots are taken the newcomers gather, and leave together when a slot frees. Where many wait, a call takes along no more than a slot's share
of them: who is answered together comes back together, and meanwhile the other slots would stand idle. A driver
(`awaiting`, `blocking`) makes the calls; it says what time it is (`now`, on the monotonic clock).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from prescreen.errors import ModeratorError, ModeratorRefused, ModeratorTimeout
from prescreen.load import tokens
from prescreen.model import Item, Verdict
from prescreen.traffic.lanes import Lanes
from prescreen.traffic.tickets import Heard, Ticket, Waiter, spent

_FEW: Final = 10  # screenings: so many go together even where there are slots for each of them
_WORTHWHILE: Final = 0.05  # seconds: with less time left nobody starts over
_COMPANY: Final = 0.05  # of what a call usually takes: so long may one wait for company where slots are short
_LATELY: Final = 5.0  # seconds: how long a call took is known for that long
_WEIGHT: Final = 0.2  # of the latest call in what one usually takes

NAP: Final = 0.05
"""Seconds after which whoever waits for quota looks who has come meanwhile, and has not the time."""
_TOO_LATE: Final = "too little time was left for a call: all that may be out at once were out"


class Desk:
    """The queue in front of one moderator: at most `slots` calls at once, of at most `most` texts each.

    While `is_probing` says so, nobody knows whether the moderator is well: one call goes, and the others wait for its end.
    """

    def __init__(self, slots: int, most: int, is_probing: Callable[[], bool] = lambda: False) -> None:
        self._slots, self._most, self._is_probing = slots, most, is_probing
        self._out = self._images_out = 0
        self._waiting = 0  # screenings, queued or out
        self._usual, self._usual_until = 0.0, 0.0  # seconds a call takes, as long as that is news
        self._open: dict[str, Ticket] = {}  # by key, queued or out: where identical texts meet
        self._texts, self._images = Lanes(most), Lanes(1)  # services take one image in a call
        self._halves: deque[list[Ticket]] = deque()  # of a call that was refused for something in it
        # In turn: neither many culprits nor many images keep everybody else waiting.
        self._sources = deque([self._half, self._some_texts, self._an_image])

    @property
    def may_lead(self) -> bool:
        """Whether there is a slot, and something for it."""
        slots = 1 if self._is_probing() else self._slots
        return self._out < slots and (bool(self._halves or self._texts) or self._may_lead_image)

    @property
    def queued(self) -> int:
        """How many items wait for a slot."""
        return len(self._texts) + len(self._images) + sum(map(len, self._halves))

    def patience(self, since: float, now: float) -> float:
        """How many seconds longer the next call may wait for company, having waited since then; 0 or less is not at all.

        Not while there are slots for all who wait, nor where nobody could come along, or it would be too late for somebody; else
        for a small part of what a call takes.
        """
        share = min(self._share, self._most)
        is_ready = self._halves or self._texts.first or not 0 < len(self._texts) < share
        if is_ready or self._waiting <= self._slots or now >= self._usual_until:
            return 0.0
        return min(since + _COMPANY * self._usual, self._texts.end - self._usual) - now

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
        new: list[Ticket] = []
        for index, item in items.items():
            key = keys[index]
            ticket = self._open.get(key) if key is not None else None
            if ticket is None:
                ticket = Ticket(item, key, tokens(item), waiter.since)
                new.append(ticket)
                if key is not None:
                    self._open[key] = ticket
            if ticket not in waiter.indexes:
                ticket.waiters.append(waiter)
            waiter.indexes.setdefault(ticket, []).append(index)
        self._waiting += 1
        self._texts.join(waiter, [ticket for ticket in new if not ticket.is_image])
        self._images.join(waiter, [ticket for ticket in new if ticket.is_image])

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
        self._texts.leave(waiter)
        self._images.leave(waiter)

    def lead(self, now: float) -> list[Ticket]:
        """Take a slot, and what goes into its call; [] where there is nothing, and then no slot is taken.

        Who takes it has to give it back: with `settle`, or with `restore` for all of it.
        """
        for source in self._sources:
            if batch := source(now):
                self._sources.remove(source)
                self._sources.append(source)
                return self._taken(batch)
        return []

    def admit(self, batch: Sequence[Ticket], places: Sequence[int], wait: float, now: float) -> list[Ticket]:
        """The tickets at these places, for which there is quota; the others are given back.

        Where none goes, so is the slot, and who has less time than the `wait` until one may go is told at once, the queue included.
        """
        going = [batch[place] for place in places]
        if len(going) == len(batch):
            return going
        staying = [ticket for ticket in batch if ticket not in going]
        if not going:
            least = min(ticket.cost for ticket in batch)  # what costs less may go sooner
            for ticket in [*batch, *self._texts.tickets(), *self._images.tickets()]:
                if ticket.waiters and ticket.cost >= least and ticket.deadline - now < wait:
                    self._answer(ticket, None, spent(wait))
            staying = [ticket for ticket in staying if ticket.waiters]
            self._free(batch)
        self.restore(staying)
        return going

    def restore(self, batch: Sequence[Ticket]) -> None:
        """Give back what does not go into the call after all."""
        for ticket in batch:
            ticket.is_out = False
        if any(ticket.is_suspect for ticket in batch):
            self._halves.appendleft(list(batch))  # in no other company than before
        elif batch:
            self._lanes_of(batch[0]).first.extendleft(reversed(batch))

    def settle(self, batch: Sequence[Ticket], heard: Heard, deadline: float, now: float) -> None:
        """The call, which had until `deadline`, is over. A slot is free.

        What was refused together is asked once more in two halves, so that only the culprit fails. Who has time left
        when a call was too slow that had less, because it left before or was made in somebody else's time, waits for another.
        """
        self._free(batch)
        if heard.error is None and heard.took is not None:
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

    @property
    def _may_lead_image(self) -> bool:
        """Whether an image may go: how long one takes that is behind a link is up to its host, so they leave slots to the texts."""
        return bool(self._images) and self._images_out < max(self._slots // 2, 1)

    def _taken(self, batch: list[Ticket]) -> list[Ticket]:
        self._out += 1
        self._images_out += batch[0].is_image
        for ticket in batch:
            ticket.is_out = True
        return batch

    def _free(self, batch: Sequence[Ticket]) -> None:
        self._out -= 1
        self._images_out -= batch[0].is_image

    def _half(self, now: float) -> list[Ticket]:  # noqa: ARG002  # as the other sources
        """Of what was refused together, the part whose turn it is."""
        while self._halves:
            if half := self._live(self._halves.popleft()):
                return half
        return []

    def _some_texts(self, now: float) -> list[Ticket]:
        return self._texts.gathered(self._share, partial(self._next, now))

    def _an_image(self, now: float) -> list[Ticket]:
        return self._images.gathered(1, partial(self._next, now)) if self._may_lead_image else []

    @property
    def _share(self) -> int:
        """How many screenings go together: those that wait, dealt out to all slots."""
        return max(_FEW, -(-self._waiting // self._slots))

    def _lanes_of(self, ticket: Ticket) -> Lanes:
        return self._images if ticket.is_image else self._texts

    def _next(self, now: float, lane: deque[Ticket]) -> Ticket | None:
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
            self._lanes_of(ticket).first.append(ticket)
        return None

    def _answer(self, ticket: Ticket, verdict: Verdict | None, error: ModeratorError | None) -> None:
        self._forget(ticket)
        waiters, ticket.waiters = ticket.waiters, []
        for waiter in waiters:
            waiter.settle(ticket, verdict, error)

    def _forget(self, ticket: Ticket) -> None:
        if ticket.key is not None and self._open.get(ticket.key) is ticket:
            del self._open[ticket.key]
