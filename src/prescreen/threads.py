"""Worker threads of an event loop, in groups that do not wait for each other, nor for the app's own."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from anyio.lowlevel import RunVar


def workers() -> CapacityLimiter:
    """The threads for work that waits for nothing."""
    return limiter("workers", os.cpu_count() or 1)


def limiter(name: str, threads: int) -> CapacityLimiter:
    """The threads of this event loop for a purpose."""
    from anyio import CapacityLimiter

    found = _limiters(name).get(None)
    if found is None:
        _limiters(name).set(found := CapacityLimiter(threads))
    return found


@cache
def _limiters(name: str) -> RunVar[CapacityLimiter]:
    from anyio.lowlevel import RunVar

    return RunVar(f"prescreen.{name}")
