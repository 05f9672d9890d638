"""Calling a moderator, awaiting or blocking: bounded in time, its answer verified, its errors ours."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, cast

from prescreen.errors import BlockingInLoop, ModeratorBusy, ModeratorError, ModeratorTimeout
from prescreen.model import Verdict
from prescreen.moderators import Bound, translated, verified
from prescreen.steps import Moderate
from prescreen.threads import limiter

_LATE: Final = 0.02  # seconds, in which an event loop in another thread ends by itself
_THREADS: Final = 40  # for `def` moderators, per event loop; apart from the framework's own


Known = dict[int, Verdict]


async def moderate(moderator: Bound, step: Moderate, known: Known | None = None) -> Sequence[Verdict]:
    """One verdict for each item within the step's timeout. Raises ModeratorError.

    A `def` moderator runs in a worker thread, which is left behind when its time is up. `known` is what the
    moderator fills as verdicts come in, for a caller that is itself cut short.
    """
    from anyio import move_on_after

    known = {} if known is None else known
    verdicts: object = None
    try:
        with move_on_after(step.timeout) as scope:
            verdicts = await _call(moderator, step, known)
    except Exception as error:  # whatever a moderator raises, the policy for failures must decide
        raise translated(error, step.items, known) from error
    if scope.cancelled_caught:
        late = ModeratorTimeout(f"no verdict within {step.timeout:.3g} s")
        raise translated(late, step.items, known)
    return verified(step.items, verdicts)


def moderate_sync(moderator: Bound, step: Moderate, known: Known | None = None) -> Sequence[Verdict]:
    """The same, blocking.

    An `async def` moderator runs in an event loop made for this call. A `def` one without
    `moderate_sync` cannot be cut short here; a verdict that comes late still counts.
    """
    known = {} if known is None else known
    if moderator.call_sync is None and moderator.is_async:
        return _run(moderator, step, known)
    try:
        if moderator.call_sync is not None:
            verdicts: object = moderator.call_sync(step.items, step.timeout, known=known)
        else:
            verdicts = moderator.call(step.items, known=known, timeout=step.timeout)
    except Exception as error:  # as above
        raise translated(error, step.items, known) from error
    if not inspect.isawaitable(verdicts):
        return verified(step.items, verdicts)
    try:
        return _run(replace(moderator, call=lambda *_, **__: verdicts, is_async=True), step, known)
    finally:
        if inspect.iscoroutine(verdicts):
            verdicts.close()  # if it never ran, it shall not warn of that


def _run(moderator: Bound, step: Moderate, known: Known) -> Sequence[Verdict]:
    import anyio.lowlevel

    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        # In greenlets, of which a second one would find the event loop of the first in its thread: a real thread for each.
        return _in_native_thread(moderator, step, known)
    try:
        anyio.lowlevel.current_token()
    except RuntimeError:
        return anyio.run(moderate, moderator, step, known)
    raise BlockingInLoop("an async moderator cannot be called from blocking code inside an event loop; await instead")


def _in_native_thread(moderator: Bound, step: Moderate, known: Known) -> Sequence[Verdict]:
    import anyio

    gevent, end = sys.modules["gevent"], time.monotonic() + step.timeout

    def run() -> Sequence[Verdict] | ModeratorError:
        # gevent has a few threads, for which others wait, too; and it would print what is raised here.
        left = replace(step, timeout=max(end - time.monotonic(), 0))
        try:
            return anyio.run(moderate, moderator, left, known)
        except ModeratorError as error:
            return error

    answer: object = ModeratorTimeout(f"no verdict within {step.timeout:.3g} s")
    with suppress(gevent.Timeout):
        answer = gevent.get_hub().threadpool.spawn(run).get(timeout=step.timeout + _LATE)
    if isinstance(answer, ModeratorError):
        raise translated(answer, step.items, known)
    return cast("Sequence[Verdict]", answer)


async def _call(moderator: Bound, step: Moderate, known: Known) -> object:
    if moderator.is_async:
        return await moderator.call(step.items, known=known, timeout=step.timeout)
    verdicts = await _in_thread(lambda: moderator.call(step.items, known=known, timeout=step.timeout))
    return await verdicts if inspect.isawaitable(verdicts) else verdicts


@dataclass(slots=True, eq=False)
class _Thread:
    has_started: bool = False
    has_ended: bool = False
    is_given_up: bool = False


_left_behind: set[_Thread] = set()


async def _in_thread(call: Callable[[], object]) -> object:
    """Run it in a worker thread; a cancelled caller leaves the thread behind, up to a bound."""
    from anyio import to_thread

    _left_behind.difference_update([each for each in _left_behind if each.has_ended])
    if len(_left_behind) >= _THREADS:
        raise ModeratorBusy("all its threads hang")
    thread = _Thread()

    def run() -> tuple[object]:
        thread.has_started = True
        try:
            # In a tuple, since trio's threads may return no coroutine.
            return (None if thread.is_given_up else call(),)
        finally:
            thread.has_ended = True

    try:
        (result,) = await to_thread.run_sync(run, abandon_on_cancel=True, limiter=limiter("moderators", _THREADS))
    except BaseException:
        thread.is_given_up = True  # one that has not started yet need not: it would hang uncounted
        if thread.has_started:
            _left_behind.add(thread)
        raise
    return result
