"""Where screenings wait together: no failure of one call leaves the others waiting, or a slot taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from doubles import Check
from prescreen import ModeratorDown, Screen, Text, Verdict
from prescreen.loops import _Timer, bells
from prescreen.model import Item


@pytest.fixture
def anyio_backend(door: str) -> str:
    return "asyncio" if door == "blocking" else door


class Cut(BaseException):
    """As gevent's Timeout and GreenletExit, or a worker's SystemExit: nothing that a moderator raises."""


class Fragile:
    """Breaks as told, a call each; then all is clean."""

    name = identity = "fragile"

    def __init__(self, *breaks: BaseException) -> None:
        self._breaks = list(breaks)
        self.asked: list[list[str]] = []

    async def moderate(self, items: Sequence[Item]) -> list[Verdict]:
        await anyio.lowlevel.checkpoint()
        return self.moderate_sync(items, 1)

    def moderate_sync(self, items: Sequence[Item], timeout: float) -> list[Verdict]:
        self.asked.append([item.value for item in items if isinstance(item, Text)])
        if self._breaks:
            raise self._breaks.pop(0)
        return [Verdict(flagged=False) for _ in items]


async def test_what_waits_for_a_slot_when_the_circuit_opens_is_told_at_once(check: Check) -> None:
    moderator = Fragile(ModeratorDown("gone"))
    screen = Screen(moderator=moderator, deadline=30, max_in_flight=1, max_batch=1, breaker={"calls": 1})
    with anyio.fail_after(10):
        decision = await check(screen, [Text("/0", "seven violet lanterns"), Text("/1", "eight violet lanterns")])
    assert decision.problem == "ModeratorDown: gone"
    assert moderator.asked == [["seven violet lanterns"]]


def test_a_call_that_is_cut_short_gives_its_slot_back() -> None:
    screen = Screen(moderator=Fragile(Cut()), deadline=3, max_in_flight=1)
    with pytest.raises(Cut):
        screen.check_sync("seven violet lanterns")
    for text in ("seven violet lanterns", "eight violet lanterns"):
        assert screen.check_sync(text).problem is None


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_whose_time_is_up_is_nothing_to_those_who_come(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Callable[[Any], object] = asyncio.run if loop == "asyncio" else pytest.importorskip("uvloop").run
    rung: list[_Timer] = []
    ring = _Timer._ring

    def counted(timer: _Timer) -> None:
        rung.append(timer)
        ring(timer)

    monkeypatch.setattr(_Timer, "_ring", counted)

    async def wait(make: Callable[[], Any], after: float, seconds: float) -> float:
        await asyncio.sleep(after)
        started = asyncio.get_running_loop().time()
        await make().wait(seconds)
        return asyncio.get_running_loop().time() - started - seconds

    async def main() -> None:
        make = bells()
        # Uneven parts of a millisecond, in which a loop's timers come too early.
        ends = [wait(make, 0.0, 0.1 + number * 0.0037) for number in range(30)]
        came = await asyncio.gather(*ends, *(wait(make, number * 0.0002, 0.3) for number in range(1000)))
        assert min(came) > -0.002
        assert max(came) < 5

    run(main())
    assert 1 <= len(rung) < 1030 * 2  # and not as often as the loop goes round


async def test_who_has_less_time_does_not_wait_for_who_has_more() -> None:
    make, rung = bells(), anyio.Event()

    async def patient() -> None:
        await make().wait(60)
        rung.set()

    async with anyio.create_task_group() as group:
        group.start_soon(patient)
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(10):
            await make().wait(0.05)
        assert not rung.is_set()
        group.cancel_scope.cancel()
