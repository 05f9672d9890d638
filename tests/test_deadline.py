"""Time limits without a timer where nothing waits: what is late, what is not, and whose error it is."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from prescreen.deadline import Late, within

pytestmark = pytest.mark.anyio


async def at_once() -> str:
    return "there"


async def after(*waits: float) -> str:
    for seconds in waits:
        await anyio.sleep(seconds)
    return "there"


async def test_what_does_not_wait_is_there() -> None:
    assert await within(0, at_once()) == "there"


@pytest.mark.parametrize("seconds", [None, 10.0])
async def test_what_waits_in_time_is_there(seconds: float | None) -> None:
    assert await within(seconds, after(0, 0.001, 0)) == "there"


async def test_what_waits_too_long_is_late_and_cut_short() -> None:
    ends: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cut short")

    with pytest.raises(Late):
        await within(0.01, work())
    assert ends == ["cut short"]
    await anyio.lowlevel.checkpoint()  # and nothing of the cancellation is left


async def test_the_time_is_for_all_waits_together() -> None:
    with pytest.raises(Late):
        await within(0.05, after(*[0.02] * 500))


@pytest.mark.parametrize("is_at_once", [True, False])
@pytest.mark.parametrize("error", [TimeoutError("the work's own"), ValueError("no"), StopAsyncIteration()])
async def test_an_error_of_the_work_is_its_own(error: Exception, is_at_once: bool) -> None:
    async def work() -> None:
        if not is_at_once:
            await anyio.lowlevel.checkpoint()
        raise error

    with pytest.raises(type(error)) as caught:
        await within(10, work())
    assert caught.value is error


async def test_an_error_thrown_at_the_work_may_be_caught_by_it() -> None:
    ends: list[object] = []

    async def work() -> str:
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
        ends.append("went on")
        await anyio.lowlevel.checkpoint()
        return "there"

    assert await within(10, work()) == "there"
    assert ends == ["went on"]


async def test_work_may_wait_inside_scopes_and_groups_of_its_own() -> None:
    async def work() -> list[str]:
        found: list[str] = []

        async def part() -> None:
            found.append(await after(0))

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                group.start_soon(part)
                group.start_soon(part)
        return found

    assert await within(10, work()) == ["there", "there"]


async def test_late_work_inside_a_scope_of_its_own_is_late_all_the_same() -> None:
    async def work() -> None:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)

    with pytest.raises(Late):
        await within(0.01, work())
    assert await after(0) == "there"


async def test_who_is_cancelled_takes_the_work_along() -> None:
    ends: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            ends.append("cancelled")
            raise

    with anyio.move_on_after(0.01) as scope:
        await within(10, work())
    assert scope.cancelled_caught
    assert ends == ["cancelled"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_whatever_an_event_loop_can_await_can_be_awaited() -> None:
    class Bare:
        """As servers in other languages make them: no coroutine, and with nothing but `__await__`."""

        def __await__(self) -> Generator[Any, Any, str]:
            yield None
            return "there"

    async def work() -> list[str]:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "there")
        return [await Bare(), await future, await asyncio.create_task(at_once())]

    assert await within(10, work()) == ["there"] * 3


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_closed_caller_closes_the_work() -> None:
    ends: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ends.append("closed")

    caller = within(10, work())
    caller.send(None)
    caller.close()
    assert ends == ["closed"]
