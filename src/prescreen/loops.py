"""What there is once for each event loop, of asyncio or trio, and what a task of one waits for."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar
from weakref import ReferenceType, ref

if TYPE_CHECKING:
    from anyio.lowlevel import RunVar

T = TypeVar("T")

_numbers: Final = count()
_TICK: Final = 0.001  # seconds: uvloop's timers come on whole milliseconds, a little early


def asyncio_loop() -> AbstractEventLoop | None:
    """The event loop of the asyncio task that runs; None in a task of trio's."""
    return None if in_trio() else asyncio.get_running_loop()


def in_trio() -> bool:
    """Whether a task of trio's runs, which may be a guest of asyncio's loop."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


async def turn() -> None:
    """Let the event loop go round once: what is cancelled ends here, and others have their turn.

    Under load that makes all faster: of many requests all are screened first that can be, then handled.
    """
    if in_trio():
        from anyio.lowlevel import checkpoint

        await checkpoint()
    else:
        await asyncio.sleep(0)


class PerLoop(Generic[T]):
    """One T for each event loop, made when it is first asked for; after fork() there is another one."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Final = make
        self._made: RunVar[tuple[int, T]] | None = None
        self._last: tuple[int, ReferenceType[AbstractEventLoop], T] | None = None

    def get(self) -> T:
        """The one of the event loop that runs."""
        pid, loop, last = os.getpid(), asyncio_loop(), self._last
        if last is not None and loop is not None and last[0] == pid and last[1]() is loop:
            return last[2]
        found = self._found(pid)
        if loop is not None:
            self._last = pid, ref(loop), found
        return found

    def _found(self, pid: int) -> T:
        from anyio.lowlevel import RunVar

        if self._made is None:
            self._made = RunVar(f"prescreen.{next(_numbers)}")  # older versions tell them apart by name
        known = self._made.get(None)
        if known is None or known[0] != pid:
            self._made.set(known := (pid, self._make()))
        return known[1]


class Bell(Protocol):
    """What one task waits for, and others ring."""

    def ring(self) -> None:
        """Wake whoever waits, or is going to. Only in the loop that the bell was made in."""

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, but no longer than this. Only once."""


def bells() -> Callable[[], Bell]:
    """What makes bells of the event loop that runs."""
    return partial(_AsyncioBell, _Timer()) if asyncio_loop() else _AnyBell


class _AsyncioBell:
    """A future: a fifth of what an event inside a cancel scope costs."""

    def __init__(self, timer: _Timer) -> None:
        self._rung, self._timer = asyncio.get_running_loop().create_future(), timer

    def ring(self) -> None:
        if not self._rung.done():
            self._rung.set_result(None)

    async def wait(self, seconds: float) -> None:
        try:
            self._timer.add(self, seconds)
            await self._rung
        finally:
            self._timer.remove(self)


class _Timer:
    """Rings bells when their time is up: one of the loop's timers for all of them, since most ring long before."""

    def __init__(self) -> None:
        self._ends: dict[Bell, float] = {}
        self._next: asyncio.Handle | None = None  # it holds its loop, so there is none while nobody waits
        self._at = 0.0  # when that is

    def add(self, bell: Bell, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._ends[bell] = end = loop.time() + seconds
        if self._next is None or end < self._at:
            self._set(loop, end)

    def remove(self, bell: Bell) -> None:
        self._ends.pop(bell, None)
        if not self._ends and self._next is not None:
            self._next.cancel()
            self._next = None

    def _set(self, loop: AbstractEventLoop, end: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next, self._at = loop.call_at(end, self._ring), end

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        self._next, now = None, loop.time() + _TICK
        for bell, end in self._ends.items():
            if end <= now:
                bell.ring()
        if left := [end for end in self._ends.values() if end > now]:
            self._set(loop, min(left))


class _AnyBell:
    def __init__(self) -> None:
        from anyio import Event

        self._rung = Event()
        self.ring: Final = self._rung.set

    async def wait(self, seconds: float) -> None:
        from anyio import move_on_after

        with move_on_after(seconds):
            await self._rung.wait()
