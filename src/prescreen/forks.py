"""Locks that no fork() finds held."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakMethod

_register: Final[Any] = getattr(os, "register_at_fork", dict)  # Windows has none, and no fork() either


def lock_over_forks(before: Callable[[], None] | None = None) -> threading.Lock:
    """A lock that a fork() takes and both processes give back, so that it guards nothing half done in the child.

    The method `before` is called with the lock held just before the fork, while its object lives.
    """
    lock = threading.Lock()
    method = WeakMethod(before) if before else lambda: None

    def prepare() -> None:
        lock.acquire()
        if (call := method()) is not None:
            call()

    _register(before=prepare, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
