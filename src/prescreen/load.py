"""What spares the moderator, and what happens when it is slow, spent or gone: the options, and the pure parts. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final

from prescreen.errors import ConfigError
from prescreen.forks import lock_over_forks
from prescreen.model import Item, Text
from prescreen.units import seconds, size

STALE: Final = "stale"
"""The rung of `on_error` that takes an expired cached verdict."""

SLOW: Final = 0.75
"""Of the deadline: a call that takes longer is slow, unless `Breaker` says otherwise."""

LARGEST_CALL: Final = 32_000
"""Characters of all the texts in one call; OpenAI publishes no limit."""

_MINUTE: Final = 60  # seconds, of which each has its own count
_IMAGE_TOKENS: Final = 1_000  # a guess; OpenAI publishes none for moderation
_BYTES_PER_TOKEN: Final = 4  # of UTF-8 (OpenAI's rule of thumb for English; other scripts have more bytes a character)


@dataclass(frozen=True, slots=True)
class Cache:
    """How verdicts are kept, by a keyed digest of the exact text, the moderator and its model.

    `ttl` and `stale` are in seconds (or like "24h"): for `ttl` a verdict answers for its text, and for `stale` after that
    it may do so where `on_error` has the rung "stale". `entries` and `size` (bytes, or like "8MiB") bound what one
    process keeps. `shared` says whether a Redis that is the `store` has them as well. Raises ConfigError.
    """

    _: KW_ONLY
    ttl: float | str = "24h"
    stale: float | str = "7d"
    entries: int = 16_384
    size: int | str = "8MiB"
    shared: bool = True

    def __post_init__(self) -> None:
        for key in ("ttl", "stale"):
            object.__setattr__(self, key, _duration(key, getattr(self, key)))
        _refuse_fraction("entries", self.entries)
        try:
            object.__setattr__(self, "size", size(self.size))
        except ValueError as error:
            raise ConfigError("size", str(error)) from None
        _refuse_other_than_bool("shared", self.shared)


@dataclass(frozen=True, slots=True)
class Quota:
    """What may be asked of the moderator in any minute: `rpm` calls, and texts of `tpm` tokens; None for any number.

    Tokens are estimated. A Redis that is the `store` has them counted for all processes together. Raises ConfigError.
    """

    _: KW_ONLY
    rpm: int | None = None
    tpm: int | None = None

    def __post_init__(self) -> None:
        for key in ("rpm", "tpm"):
            if getattr(self, key) is not None:
                _refuse_fraction(key, getattr(self, key))
        if self.rpm is None and self.tpm is None:
            raise ConfigError("", "write a number of calls or tokens a minute, as in {rpm = 500, tpm = 10000}")


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a moderator is left alone for a while: `rate` of at least `calls` calls inside `window` failed, or were slow.

    After `probe` one call tries whether it is back. `window`, `slow` and `probe` are in seconds (or like "5s"); `slow` None
    is three quarters of the screen's deadline. Raises ConfigError.
    """

    _: KW_ONLY
    rate: float = 0.5
    calls: int = 5
    window: float | str = "10s"
    slow: float | str | None = None
    probe: float | str = "5s"

    def __post_init__(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate <= 1:
            raise ConfigError("rate", f"{self.rate!r} is no share above 0 and up to 1")
        _refuse_fraction("calls", self.calls)
        for key in ("window", "slow", "probe"):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, _duration(key, getattr(self, key)))
        if float(self.window) < 1:
            raise ConfigError("window", "it is less than a second")


class Room:
    """How many screenings there may be at once."""

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0
        self._lock = lock_over_forks()

    def enter(self) -> bool:
        """Whether there is room for one more, which is then in."""
        with self._lock:
            is_in = self._taken < self._most
            self._taken += is_in
        return is_in

    def leave(self) -> None:
        """One that was in is done."""
        with self._lock:
            self._taken -= 1


def tokens(item: Item) -> int:
    """About how many tokens an item is."""
    if not isinstance(item, Text):
        return _IMAGE_TOKENS
    length = len(item.value)
    return (length if item.value.isascii() else len(item.value.encode("utf-8", "replace"))) // _BYTES_PER_TOKEN + 1


Spent = Sequence[tuple[int, int, int]]
"""What the last minute cost: second, calls and tokens, the oldest first."""


def spend(quota: Quota, spent: Spent, costs: Sequence[int], now: float) -> tuple[Spent, Sequence[int], float]:
    """Take one call with those of the texts of these costs (in tokens) that there is quota for.

    What was spent, the places of the texts that may go, and, where none may, in how many seconds one may. In no 60 seconds is
    it more than the quota; a text that costs more than all of it counts as all of it. What the clocks of others have put into
    the next seconds counts, too.
    """
    this = int(now)
    live = sorted(each for each in spent if this - _MINUTE <= each[0] <= this + _MINUTE)
    costs = [min(cost, quota.tpm or cost) for cost in costs]
    if (wait := _opens(quota, live, min(costs), now) - now) > 0:
        return live, (), wait
    places = tuple(_fitting(costs, None if quota.tpm is None else quota.tpm - sum(each[2] for each in live)))
    live.append((this, 1, sum(costs[place] for place in places)))
    return _merged(live), places, 0.0


def _opens(quota: Quota, live: Spent, cost: int, now: float) -> float:
    """When one call with a text of this cost is within the quota."""
    calls, used, opens = sum(each[1] for each in live), sum(each[2] for each in live), now
    for second, gone, freed in live:
        if (quota.rpm is None or calls < quota.rpm) and (quota.tpm is None or used + cost <= quota.tpm):
            break
        calls, used, opens = calls - gone, used - freed, second + _MINUTE + 1.0
    return opens


def _merged(spent: Spent) -> Spent:
    """One account for each second."""
    seconds: dict[int, tuple[int, int]] = {}
    for second, calls, cost in spent:
        before = seconds.get(second, (0, 0))
        seconds[second] = before[0] + calls, before[1] + cost
    return [(second, *account) for second, account in sorted(seconds.items())]


def _fitting(costs: Sequence[int], most: int | None) -> Iterator[int]:
    """The places of those that go together, in order; one that is too dear keeps no others waiting."""
    total = 0
    for place, cost in enumerate(costs):
        if most is None or total + cost <= most:
            total += cost
            yield place


def _duration(key: str, value: object) -> float:
    try:
        return seconds(value)
    except ValueError as error:
        raise ConfigError(key, str(error)) from None


def _refuse_fraction(key: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ConfigError(key, f"{value!r} is no whole number of at least 1")


def _refuse_other_than_bool(key: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(key, f"{value!r} is neither true nor false")
