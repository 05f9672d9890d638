"""Two drivers for the one flow: the same few lines, awaiting and blocking.

A driver sends each step's answer back in, and throws each step's error in. Leaving early (a
cancelled request, a client gone) closes the flow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from prescreen.steps import Answer, Flow, Step

T = TypeVar("T")


Perform = Callable[[Step], Answer | Awaitable[Answer]]
"""Gives the answer to a step, or an awaitable of it; no answer is itself one."""


async def drive(flow: Flow[T], perform: Perform) -> T:
    """Run `flow` to its end, awaiting what `perform` has to wait for."""
    try:
        step = next(flow)
        while True:
            try:
                answer = perform(step)
                if hasattr(answer, "__await__"):
                    answer = await answer
            except Exception as error:  # noqa: BLE001  # the flow decides what it means
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()


def drive_sync(flow: Flow[T], perform: Callable[[Step], Answer]) -> T:
    """Run `flow` to its end, blocking in `perform` for each step."""
    try:
        step = next(flow)
        while True:
            try:
                answer = perform(step)
            except Exception as error:  # noqa: BLE001  # the flow decides what it means
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()
