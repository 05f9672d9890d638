"""Between a screen and a moderator: what is known is not asked, and what is asked goes together, if at all.

A moderator with an `identity` gets all of it; another one is called for each screening by itself, behind quota and circuit breaker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import monotonic, sleep
from typing import Final

from prescreen.errors import BlockingInLoop, ModeratorDown, ModeratorError
from prescreen.forks import lock_over_forks
from prescreen.load import tokens
from prescreen.loops import PerLoop
from prescreen.model import Item, Observer, Verdict
from prescreen.moderators import Bound, translated
from prescreen.moderators.call import moderate, moderate_sync
from prescreen.steps import Moderate
from prescreen.target import Found
from prescreen.traffic.answers import Keys, answered, every, in_thread, is_link, late, still_open, unless_failed
from prescreen.traffic.awaiting import AwaitingDesk
from prescreen.traffic.blocking import BlockingDesk
from prescreen.traffic.breaker import Circuit
from prescreen.traffic.bucket import Bucket
from prescreen.traffic.cache import VerdictCache
from prescreen.traffic.desk import Desk
from prescreen.traffic.telling import Teller
from prescreen.traffic.tickets import Heard, Known, Ticket, spent

_KEEPS_NONE: Final = "no verdict on it is kept"
_BEFORE: Final = 0.95  # of the time
_SHARED_SECONDS: Final = 0.25  # for a question to the shared store; without an answer the moderator is asked


class Traffic:
    """One moderator, with everything that spares it and that spares the app its failures.

    `cache` is None for a moderator without an identity; `circuit` None for no circuit breaker.
    """

    def __init__(
        self,
        bound: Bound,
        cache: VerdictCache | None,
        bucket: Bucket,
        circuit: Circuit | None,
        *,
        max_in_flight: int,
        max_batch: int,
        observe: Observer | None = None,
    ) -> None:
        self.bound, self.circuit = bound, circuit
        self._cache, self._bucket = cache, bucket
        self._teller: Final = Teller(bound.name, observe)
        self._slots, self._most = max_in_flight, min(max_batch, bound.max_batch or max_batch)
        self._awaiting: Final = PerLoop(lambda: AwaitingDesk(self, self._desk()))
        self._blocking: tuple[int, BlockingDesk] | None = None

    @property
    def keeps(self) -> bool:
        """Whether verdicts are kept."""
        return self._cache is not None and self._cache.is_on

    def recall(self, found: Found) -> Sequence[Verdict] | None:
        """The verdicts on all that is asked of a body, where they are at hand; None where `moderate` is to look."""
        if self._cache is None or (verdicts := self._cache.recall(found)) is None:
            return None
        self._teller.asked(found.asked or (), None, range(len(verdicts)))
        return verdicts

    async def moderate(self, step: Moderate, known: Known | None = None) -> Sequence[Verdict]:
        """One verdict for each item within the step's timeout. Raises ModeratorError; `known` is filled in any case."""
        known = {} if known is None else known
        try:
            if self._cache is None:
                return await self._alone(step, known)
            keys = [self._cache.key(item) for item in step.items]
            known |= self._cache.find(keys)
            if len(known) < len(keys):
                await self._fill(self._cache, step, dict(enumerate(keys)), known)
            else:
                self._teller.asked(step.items, step.rung, known)
        except Exception as error:
            raise translated(error, step.items, known) from error
        return [known[index] for index in range(len(keys))]

    def moderate_sync(self, step: Moderate, known: Known | None = None) -> Sequence[Verdict]:
        """The same, blocking."""
        known = {} if known is None else known
        try:
            if self._cache is None:
                return self._alone_sync(step, known)
            keys = [self._cache.key(item) for item in step.items]
            known |= self._cache.find(keys)
            if len(known) < len(keys):
                self._fill_sync(self._cache, step, dict(enumerate(keys)), known)
            else:
                self._teller.asked(step.items, step.rung, known)
        except BlockingInLoop:
            raise
        except Exception as error:
            raise translated(error, step.items, known) from error
        return [known[index] for index in range(len(keys))]

    async def stale(self, step: Moderate) -> Sequence[Verdict]:
        """Verdicts as they are or once were, whatever their age. Raises ModeratorError, with those, where one is missing."""
        assert self._cache is not None  # else the configuration would not have been taken
        keys = dict(enumerate(map(self._cache.key, step.items)))
        known = self._cache.find(list(keys.values()), is_stale=True)
        try:
            if self._cache.is_shared and step.timeout > 0:
                known |= await self._recall(self._cache, still_open(keys, known), step.timeout, is_stale=True)
            self._teller.asked(step.items, step.rung, known)
            return every(known, len(keys), ModeratorDown(_KEEPS_NONE))
        except Exception as error:
            raise translated(error, step.items, known) from error

    def stale_sync(self, step: Moderate) -> Sequence[Verdict]:
        """The same, blocking."""
        assert self._cache is not None  # else the configuration would not have been taken
        keys = dict(enumerate(map(self._cache.key, step.items)))
        known = self._cache.find(list(keys.values()), is_stale=True)
        try:
            if step.timeout > 0:
                known |= self._cache.find_shared(still_open(keys, known), is_stale=True)
            self._teller.asked(step.items, step.rung, known)
            return every(known, len(keys), ModeratorDown(_KEEPS_NONE))
        except Exception as error:
            raise translated(error, step.items, known) from error

    async def call(self, items: Sequence[Item], known: Known, timeout: float) -> Sequence[Verdict]:  # noqa: ASYNC109  # a moderator's parameter
        """See `moderate`. It ends a little before the layer would end it, so that the circuit hears of it."""
        return await self.moderate(Moderate(items, timeout * _BEFORE), known)

    def call_sync(self, items: Sequence[Item], timeout: float, known: Known) -> Sequence[Verdict]:
        """See `moderate`."""
        return self.moderate_sync(Moderate(items, timeout), known)

    async def take(self, costs: Sequence[int]) -> tuple[Sequence[int], float]:
        """The places of the texts of these costs that may go now, and where none may, the seconds to wait."""
        if not self._bucket.is_shared:
            return self._bucket.take(costs)
        return await in_thread(self._bucket.take, costs)

    def take_sync(self, costs: Sequence[int]) -> tuple[Sequence[int], float]:
        """The same, blocking."""
        return self._bucket.take(costs)

    async def ask(
        self,
        items: Sequence[Item],
        timeout: float,  # noqa: ASYNC109  # it bounds the call itself
        since: float,
        known: Known | None = None,
        *,
        is_hurried: bool = False,
    ) -> Heard:
        """Call the moderator about items that wait since then; `is_hurried`: that it ends late would say nothing of it.

        `known` is filled as verdicts come in, for who is cut short.
        """
        started = monotonic()
        try:
            with self._calling(items, is_hurried=is_hurried), self._teller.calling(items, since):
                verdicts = await moderate(self.bound, Moderate(items, max(timeout, 0)), known)
            return self._heard(answered(items, verdicts, monotonic() - started))
        except ModeratorError as error:
            return self._heard(Heard(error.known, error))

    def ask_sync(
        self,
        items: Sequence[Item],
        timeout: float,
        since: float,
        known: Known | None = None,
        *,
        is_hurried: bool = False,
    ) -> Heard:
        """The same, blocking."""
        started = monotonic()
        try:
            with self._calling(items, is_hurried=is_hurried), self._teller.calling(items, since):
                verdicts = moderate_sync(self.bound, Moderate(items, max(timeout, 0)), known)
            return self._heard(answered(items, verdicts, monotonic() - started))
        except ModeratorError as error:
            return self._heard(Heard(error.known, error))

    def keep(self, batch: Sequence[Ticket], heard: Heard) -> Mapping[str, Verdict]:
        """Keep what was heard; the verdicts by their key, for others to have as well."""
        assert self._cache is not None
        found = {key: verdict for index, verdict in heard.known.items() if (key := batch[index].key) is not None}
        self._cache.keep(found)
        return found

    async def share(self, found: Mapping[str, Verdict]) -> None:
        """Give the verdicts to all processes; late, if need be."""
        if found and self._cache is not None and self._cache.is_shared:
            await in_thread(self._cache.keep_shared, found)

    def share_sync(self, found: Mapping[str, Verdict], deadline: float) -> None:
        """The same, blocking; not when there is no time left for it."""
        if self._cache is not None and deadline - monotonic() > _SHARED_SECONDS:
            self._cache.keep_shared(found)

    async def _fill(self, cache: VerdictCache, step: Moderate, keys: Keys, known: Known) -> None:
        deadline = monotonic() + step.timeout
        if cache.is_shared:
            known |= await self._recall(cache, still_open(keys, known), step.timeout)
        if missing := still_open(keys, known):
            self._refuse(step.timeout, known)
        desk = self._awaiting.get()
        self._teller.asked(step.items, step.rung, known, desk.desk, missing)
        if missing:
            error = await desk.wait({at: step.items[at] for at in missing}, missing, known, deadline)
            every(known, len(keys), error or late(step))

    def _fill_sync(self, cache: VerdictCache, step: Moderate, keys: Keys, known: Known) -> None:
        deadline = monotonic() + step.timeout
        known |= cache.find_shared(still_open(keys, known))
        if missing := still_open(keys, known):
            self._refuse(step.timeout, known)
        desk = self._block_desk()
        self._teller.asked(step.items, step.rung, known, desk.desk, missing)
        if missing:
            error = desk.wait({at: step.items[at] for at in missing}, missing, known, deadline)
            every(known, len(keys), error or late(step))

    async def _recall(self, cache: VerdictCache, keys: Keys, timeout: float, *, is_stale: bool = False) -> Known:  # noqa: ASYNC109  # as above
        from anyio import move_on_after

        found: Known = {}
        with move_on_after(min(timeout, _SHARED_SECONDS)):
            found |= await in_thread(partial(cache.find_shared, keys, is_stale=is_stale))
        return found

    async def _alone(self, step: Moderate, known: Known) -> Sequence[Verdict]:
        from anyio import sleep

        deadline = monotonic() + step.timeout
        self._refuse(step.timeout, {})
        self._teller.asked(step.items, step.rung, ())
        cost = [sum(map(tokens, step.items))]
        while not (taken := await self.take(cost))[0]:
            if taken[1] > deadline - monotonic():
                raise spent(taken[1])
            await sleep(taken[1])
        return unless_failed(await self.ask(step.items, deadline - monotonic(), deadline - step.timeout, known))

    def _alone_sync(self, step: Moderate, known: Known) -> Sequence[Verdict]:
        deadline = monotonic() + step.timeout
        self._refuse(step.timeout, {})
        self._teller.asked(step.items, step.rung, ())
        cost = [sum(map(tokens, step.items))]
        while not (taken := self.take_sync(cost))[0]:
            if taken[1] > deadline - monotonic():
                raise spent(taken[1])
            sleep(taken[1])
        return unless_failed(self.ask_sync(step.items, deadline - monotonic(), deadline - step.timeout, known))

    def _calling(self, items: Sequence[Item], *, is_hurried: bool) -> AbstractContextManager[None]:
        """One call, behind the circuit breaker, which may be open by the time that it is made."""
        if self.circuit is None:
            return nullcontext()
        return self.circuit.fetching() if any(map(is_link, items)) else self.circuit.calling(is_hurried=is_hurried)

    def _heard(self, heard: Heard) -> Heard:
        self._bucket.heard(heard.error)
        return heard

    def _refuse(self, timeout: float, known: Known) -> None:
        """Raise ModeratorError where there is no use in waiting."""
        try:
            if self.circuit is not None:
                self.circuit.refuse_if_open()
            self._bucket.refuse_if_paused(timeout)
        except ModeratorError as error:
            error.known = known
            raise

    def _desk(self) -> Desk:
        return Desk(self._slots, self._most, self._is_probing)

    def _is_probing(self) -> bool:
        return self.circuit is not None and self.circuit.state != "closed"

    def _block_desk(self) -> BlockingDesk:
        # After fork() there is another one: whoever waited at this one is no thread of the child's.
        with _making:
            pid, desk = self._blocking or (0, None)
            if desk is None or pid != os.getpid():
                desk = BlockingDesk(self, self._desk())
                self._blocking = (os.getpid(), desk)
        return desk


_making: Final = lock_over_forks()
