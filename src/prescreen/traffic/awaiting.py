"""A desk for one event loop: calls are made in tasks of their own, so that no screening's end ends another's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from prescreen.errors import ModeratorDown, ModeratorError, raised_at
from prescreen.loops import bells
from prescreen.model import Item
from prescreen.traffic.desk import NAP, Desk
from prescreen.traffic.tickets import CUT_SHORT, Heard, Known, Ticket, Waiter

if TYPE_CHECKING:
    import asyncio

    from prescreen.traffic import Traffic

logger: Final = logging.getLogger("prescreen")

# Of the event loop: an answer goes out, the next request comes in, its task starts, and it is here.
_QUIET_ROUNDS: Final = 4


class AwaitingDesk:
    """Where the screenings of one event loop wait for verdicts."""

    def __init__(self, traffic: Traffic, desk: Desk) -> None:
        self._traffic, self.desk = traffic, desk
        self._bell: Final = bells()
        self._is_gate_taken = False

    async def wait(
        self, items: Mapping[int, Item], keys: Mapping[int, str | None], known: Known, deadline: float
    ) -> ModeratorError | None:
        """Fill `known` with the verdicts on the items, by index, until `deadline`; what went wrong with any of them."""
        done, since = self._bell(), monotonic()
        waiter = Waiter(deadline, done.ring, known=known, since=since)
        self.desk.join(waiter, items, keys)
        try:
            self._pump()
            await done.wait(deadline - since)
        finally:
            self.desk.leave(waiter)
        return waiter.error

    def _pump(self) -> None:
        if not self._is_gate_taken and self.desk.may_lead:
            self._is_gate_taken = True
            try:
                _spawn(self._run)
            except BaseException:
                self._is_gate_taken = False
                raise

    async def _run(self) -> None:
        """Lead one call. Nobody waits for this task, so that nothing may come out of it."""
        try:
            try:
                batch = await self._admitted()
            finally:
                self._is_gate_taken = False
            self._pump()
            if batch:
                await self._call(batch)
        except Exception as error:  # noqa: BLE001  # such as no thread to be had: who waits is told
            logger.error("a call to the moderator failed: it raised %s%s", type(error).__name__, raised_at(error))  # noqa: TRY400  # the trace may quote the user
            self._pump()

    async def _admitted(self) -> list[Ticket]:
        """What goes into the next call, when there is quota for it; [] where nobody waits any more."""
        from anyio import sleep

        await self._gathered()
        while batch := self.desk.lead(monotonic()):
            try:
                places, wait = await self._traffic.take([ticket.cost for ticket in batch])
            except BaseException:  # no thread to ask a store in, or the event loop ends
                self._fail(batch)
                raise
            if going := self.desk.admit(batch, places, wait, monotonic()):
                return going
            await sleep(min(wait, NAP))
        return []

    async def _gathered(self) -> None:
        """Let those come who are on their way: until the event loop has gone round and brought nobody, a few times over."""
        from anyio.lowlevel import checkpoint

        since, quiet, queued = monotonic(), 0, self.desk.queued
        while quiet < _QUIET_ROUNDS and self.desk.patience(since, monotonic()) > 0:
            await checkpoint()
            quiet, queued = (quiet + 1 if self.desk.queued == queued else 0), self.desk.queued

    async def _call(self, batch: list[Ticket]) -> None:
        """Make the call in the time of whoever has most of it."""
        last = max((waiter for ticket in batch for waiter in ticket.waiters), key=_deadline, default=None)
        if last is None:  # all have left
            return self._fail(batch)
        now = monotonic()
        try:
            since, is_hurried = min(ticket.since for ticket in batch), last.is_hurried(now)
            items = [ticket.item for ticket in batch]
            heard = await self._traffic.ask(items, last.deadline - now, since, is_hurried=is_hurried)
            found = self._traffic.keep(batch, heard)
        except BaseException:  # the event loop ends
            self._fail(batch)
            raise
        self.desk.settle(batch, heard, last.deadline, monotonic())
        self._pump()
        return await self._traffic.share(found)

    def _fail(self, batch: list[Ticket]) -> None:
        self.desk.settle(batch, Heard(error=ModeratorDown(CUT_SHORT)), 0.0, monotonic())
        self._pump()


_deadline: Final = attrgetter("deadline")
_tasks: Final[set[asyncio.Task[None]]] = set()


def _spawn(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in a task of its own, which belongs to no request."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        trio.lowlevel.spawn_system_task(run, context=Context())
        return
    import asyncio

    task = asyncio.get_running_loop().create_task(run(), context=Context())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
