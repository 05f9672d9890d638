"""A desk for threads (and greenlets): one of those that wait makes the call for all. No thread of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

from prescreen.errors import ModeratorDown, ModeratorError
from prescreen.model import Item, Verdict
from prescreen.traffic.desk import NAP, Desk
from prescreen.traffic.tickets import CUT_SHORT, Heard, Known, Ticket, Waiter

if TYPE_CHECKING:
    from prescreen.traffic import Traffic


_NEXT_ONE: Final = 0.001  # seconds in which another thread comes to the desk, if many are on their way


class BlockingDesk:
    """Where the screenings of a process's threads wait for verdicts."""

    def __init__(self, traffic: Traffic, desk: Desk) -> None:
        self._traffic, self.desk = traffic, desk
        self._lock = Lock()
        self._is_gate_taken = False
        self._idle: dict[Waiter, Event] = {}  # those that wait and lead nothing, the newest last

    def wait(
        self, items: Mapping[int, Item], keys: Mapping[int, str | None], known: Known, deadline: float
    ) -> ModeratorError | None:
        """Fill `known` with the verdicts on the items, by index, until `deadline`; what went wrong with any of them."""
        bell = Event()
        waiter = Waiter(deadline, bell.set, known=known, since=monotonic())
        with self._lock:
            self.desk.join(waiter, items, keys)
        try:
            while not waiter.is_done and (left := deadline - monotonic()) > 0:
                bell.clear()
                if self._takes_gate(waiter, bell):
                    self._lead(waiter, bell)
                else:
                    bell.wait(0 if waiter.is_done else left)  # done, and rung, before the bell was cleared
        finally:
            with self._lock:
                self._idle.pop(waiter, None)
                self.desk.leave(waiter)
                self._nudge()
        return waiter.error

    def _takes_gate(self, waiter: Waiter, bell: Event) -> bool:
        with self._lock:
            if self._is_gate_taken or not self.desk.may_lead:
                self._idle[waiter] = bell
                return False
            self._idle.pop(waiter, None)
            self._is_gate_taken = True
            return True

    def _nudge(self) -> None:
        """Wake one to lead, the newest: it has the most time left for the call. With the lock held."""
        if self._idle and not self._is_gate_taken and self.desk.may_lead:
            self._idle[next(reversed(self._idle))].set()

    def _lead(self, waiter: Waiter, bell: Event) -> None:
        batch: list[Ticket] = []
        try:
            batch = self._admitted(waiter, bell)
        finally:
            with self._lock:
                self._is_gate_taken = False
                self._nudge()
        if batch:
            self._call(batch, waiter)

    def _admitted(self, waiter: Waiter, bell: Event) -> list[Ticket]:
        """What goes into the next call, when there is quota for it; [] where there is nothing, or no time."""
        self._gather(bell)
        while not waiter.is_done and (left := waiter.deadline - monotonic()) > 0 and (batch := self._next()):
            places: Sequence[int] = ()
            wait = 0.0
            try:
                places, wait = self._traffic.take_sync([ticket.cost for ticket in batch])
            finally:
                with self._lock:
                    going = self.desk.admit(batch, places, wait, monotonic())
            if going:
                return going
            bell.wait(min(wait, left, NAP))
            bell.clear()
        return []

    def _gather(self, bell: Event) -> None:
        """Let those come who are on their way: as long as they keep coming, one every millisecond."""
        since, last = monotonic(), -1
        while True:
            with self._lock:
                left, queued = self.desk.patience(since, monotonic()), self.desk.queued
            if left < _NEXT_ONE or queued == last or bell.wait(_NEXT_ONE):
                return
            last = queued

    def _next(self) -> list[Ticket]:
        with self._lock:
            return self.desk.lead(monotonic())

    def _call(self, batch: list[Ticket], leader: Waiter) -> None:
        """Make the call in the leader's time: nobody else's thread is here."""
        now, heard = monotonic(), Heard(error=ModeratorDown(CUT_SHORT))
        found: Mapping[str, Verdict] = {}
        try:
            since, is_hurried = min(ticket.since for ticket in batch), leader.is_hurried(now)
            items = [ticket.item for ticket in batch]
            heard = self._traffic.ask_sync(items, leader.deadline - now, since, is_hurried=is_hurried)
            found = self._traffic.keep(batch, heard)
        finally:  # a server may end its worker, or a greenlet
            with self._lock:
                self.desk.settle(batch, heard, leader.deadline, monotonic())
                self._nudge()
        self._traffic.share_sync(found, leader.deadline)
