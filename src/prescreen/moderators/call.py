"""Calling a moderator, awaiting or blocking: bounded in time, its answer verified, its errors ours."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

from prescreen.errors import ModeratorTimeout
from prescreen.model import Moderate, Verdict
from prescreen.moderators import Bound, translated, verified

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from anyio.lowlevel import RunVar

# A moderator that ends by itself gets most of the time, and a moment more to say what it knows.
_SHARE: Final = 0.95
_GRACE: Final = 0.05  # seconds
_THREADS: Final = 40  # for `def` moderators, per event loop; apart from the framework's own


async def moderate(moderator: Bound, step: Moderate) -> Sequence[Verdict]:
    """One verdict for each item within the step's timeout. Raises ModeratorError.

    A `def` moderator runs in a worker thread, which is left behind when its time is up.
    """
    from anyio import move_on_after

    verdicts: object = None
    grace = _GRACE if moderator.takes_timeout else 0.0
    try:
        with move_on_after(step.timeout + grace) as scope:
            verdicts = await _call(moderator, step)
    except Exception as error:  # whatever a moderator raises, the policy for failures must decide
        raise translated(error) from error
    if scope.cancelled_caught:
        raise ModeratorTimeout(f"no verdict within {step.timeout:g} s")
    return verified(step.items, verdicts)


def moderate_sync(moderator: Bound, step: Moderate) -> Sequence[Verdict]:
    """The same, blocking.

    An `async def` moderator runs in an event loop made for this call. A `def` one without
    `moderate_sync` cannot be cut short here; a verdict that comes late still counts.
    """
    if moderator.call_sync is None and moderator.is_async:
        return _run(moderator, step)
    try:
        if moderator.call_sync is not None:
            verdicts: object = moderator.call_sync(step.items, step.timeout)
        else:
            verdicts = moderator.call(*_arguments(moderator, step))
    except Exception as error:  # as above
        raise translated(error) from error
    if not inspect.isawaitable(verdicts):
        return verified(step.items, verdicts)
    try:
        return _run(replace(moderator, call=lambda *_: verdicts, is_async=True), step)
    finally:
        if inspect.iscoroutine(verdicts):
            verdicts.close()  # if it never ran, it shall not warn of that


def _run(moderator: Bound, step: Moderate) -> Sequence[Verdict]:
    import anyio.lowlevel

    try:
        anyio.lowlevel.current_token()
    except RuntimeError:
        return anyio.run(moderate, moderator, step)
    raise RuntimeError("an async moderator cannot be called from blocking code inside an event loop; await instead")


async def _call(moderator: Bound, step: Moderate) -> object:
    from anyio import to_thread

    if moderator.is_async:
        return await moderator.call(*_arguments(moderator, step))

    def call() -> tuple[object]:
        return (
            moderator.call(*_arguments(moderator, step)),
        )  # in a tuple, since trio's threads may return no coroutine

    (verdicts,) = await to_thread.run_sync(call, abandon_on_cancel=True, limiter=_own_limiter())
    return await verdicts if inspect.isawaitable(verdicts) else verdicts


def _arguments(moderator: Bound, step: Moderate) -> tuple[object, ...]:
    return (step.items, step.timeout * _SHARE) if moderator.takes_timeout else (step.items,)


def _own_limiter() -> CapacityLimiter:
    from anyio import CapacityLimiter

    found = _limiters().get(None)
    if found is None:
        _limiters().set(found := CapacityLimiter(_THREADS))
    return found


@cache
def _limiters() -> RunVar[CapacityLimiter]:
    from anyio.lowlevel import RunVar

    return RunVar("prescreen.threads")
