"""What a moderator may still be asked this minute, and how long it wants to be left alone."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from prescreen.errors import ModeratorBusy, ModeratorError, StoreError
from prescreen.forks import lock_over_forks
from prescreen.load import Quota, Spent, spend
from prescreen.stores import Store, update

logger: Final = logging.getLogger("prescreen")

_FIRST_PAUSE: Final = 0.5  # seconds after a "too many requests" that names none; doubled each time
_LONGEST_PAUSE: Final = 4.0
_LONGEST_WISH: Final = 60.0  # of a Retry-After: quotas are by the minute, and a day's would keep the door shut for one
_PATIENCE: Final = 0.2  # seconds for the shared store
_QUIET: Final = 5.0


class Bucket:
    """The quota of one moderator, None for none, counted in `shared` where there is one, else in this process."""

    def __init__(
        self, quota: Quota | None, name: str, shared: Store | None, longest_pause: float = _LONGEST_PAUSE
    ) -> None:
        """`name` says whose quota it is, to all who share the store."""
        self._quota, self._key = quota, f"quota:{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
        self._shared = shared if quota is not None else None
        self._quiet_until = 0.0
        self._spent: Spent = ()
        self._lock = lock_over_forks()
        self._paused_until = 0.0
        self._longest_pause = min(longest_pause, _LONGEST_PAUSE)
        self._pause = min(_FIRST_PAUSE, self._longest_pause)

    @property
    def is_shared(self) -> bool:
        """Whether `take` asks a store, which blocks."""
        return self._shared is not None and time.monotonic() >= self._quiet_until

    def refuse_if_paused(self, timeout: float) -> None:
        """Raise ModeratorBusy where the moderator wants to be left alone for longer than somebody has time."""
        if (left := self._paused_until - time.monotonic()) > timeout:
            raise ModeratorBusy("it asked to be left alone", retry_after=left)

    def take(self, costs: Sequence[int]) -> tuple[Sequence[int], float]:
        """One call: the places of the texts of these costs (in tokens) that may go, and where none may, the seconds to wait."""
        if (left := self._paused_until - time.monotonic()) > 0:
            return (), left
        if self._quota is None:
            return range(len(costs)), 0.0
        if self._shared is not None and self.is_shared:
            try:
                return self._take_shared(self._shared, self._quota, costs)
            except StoreError as error:
                self._quiet_until = time.monotonic() + _QUIET
                logger.warning("the quota is counted in this process alone for %g s: %s", _QUIET, error.problem)
        with self._lock:
            self._spent, places, wait = spend(self._quota, self._spent, costs, time.monotonic())
        return places, wait

    def heard(self, error: ModeratorError | None) -> None:
        """Take note of how a call ended: with a "too many requests" there is a pause."""
        if error is None:
            self._pause = min(_FIRST_PAUSE, self._longest_pause)
        elif isinstance(error, ModeratorBusy):
            now, wish = time.monotonic(), self._pause
            if now >= self._paused_until:  # of several that were out at once, one doubles it
                self._pause = min(self._pause * 2, self._longest_pause)
            elif error.retry_after is None:
                return
            if error.retry_after is not None:
                wish = min(error.retry_after, _LONGEST_WISH)
            self._paused_until = max(self._paused_until, now + wish)

    def _take_shared(self, store: Store, quota: Quota, costs: Sequence[int]) -> tuple[Sequence[int], float]:
        places: Sequence[int] = ()
        wait = 0.0

        def spent(old: bytes | None) -> tuple[bytes | None, float | None]:
            nonlocal places, wait
            now, places, wait = spend(quota, _unpacked(old), costs, time.time())
            return json.dumps(now).encode(), 120.0

        update(store, self._key, spent, timeout=_PATIENCE)
        return places, wait


def _unpacked(data: bytes | None) -> Spent:
    """What was spent; nothing where it is no account of ours."""
    try:
        return [(int(second), int(calls), int(cost)) for second, calls, cost in json.loads(data or b"[]")]
    except (ValueError, TypeError):
        return ()
