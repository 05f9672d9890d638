"""Worker threads of an event loop, in groups that do not wait for each other, nor for the app's own."""

from __future__ import annotations

import os
from functools import cache, partial
from typing import TYPE_CHECKING

from prescreen.loops import PerLoop

if TYPE_CHECKING:
    from anyio import CapacityLimiter


def workers() -> CapacityLimiter:
    """The threads for work that waits for nothing."""
    return limiter("workers", os.cpu_count() or 1)


def limiter(name: str, threads: int) -> CapacityLimiter:
    """The threads of this event loop for a purpose."""
    return _limiters(name, threads).get()


@cache
def _limiters(name: str, threads: int) -> PerLoop[CapacityLimiter]:  # noqa: ARG001  # the name tells two of a size apart
    from anyio import CapacityLimiter

    return PerLoop(partial(CapacityLimiter, threads))
