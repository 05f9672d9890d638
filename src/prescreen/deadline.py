"""Awaiting within a time limit, where most often there is nothing to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

from anyio import move_on_after

from prescreen.loops import in_trio

T = TypeVar("T")


class Late(Exception):
    """The time was up first."""


async def within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, None without a limit. Raises Late, and whatever it raises itself.

    A timer costs more than most that is awaited under one, so it is set only when the work first waits. Cancel scopes
    must not be entered then, since the work may have entered one of its own; asyncio's timer knows no such order.
    """
    if in_trio():
        with move_on_after(seconds):
            return await work
        raise Late
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await _Rest(work, waits_for)
    except TimeoutError:
        if limit.expired():
            raise Late from None
        raise


class _Rest(Generic[T]):
    """What is left of a coroutine that has begun, and waits."""

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._work, self._waits_for = work, waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    answer = yield waits_for
                except BaseException as error:  # noqa: BLE001  # it is the work's, whatever it is
                    waits_for = self._work.throw(error)
                else:
                    waits_for = self._work.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
