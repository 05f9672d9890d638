"""Repeated offence and its consequence: what counts, when it suspends, and for how long. No I/O, no clock.

What is known of a subject is an `Account`, kept somewhere as bytes; times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from hashlib import sha256
from math import isfinite
from typing import Final

from prescreen.errors import ConfigError
from prescreen.model import Action, Cause, Decision, Mode, Standing, Strike
from prescreen.units import seconds
from prescreen.wording import is_self_harm

Hook = Callable[[Strike], Awaitable[None] | None]

_KNOWN: Final = 8  # accounts of older secrets
_LONGEST: Final = 10 * 366 * 86_400.0  # seconds; a store keeps nothing for much longer
_MOST_ESCALATION: Final = 100  # to the power of 64 it is still a number
_KEPT: Final = 256  # strikes told apart; of more, the oldest two count as one with the later's time


@dataclass(frozen=True, slots=True)
class Strikes:
    """What a rejected request costs its sender.

    Each request that is rejected for its content is a strike against its subject, heavier by `weights` (by
    category; the heaviest of those found counts, 1 by default). When those of the last `window` come to `limit`, the
    subject is suspended for `suspend`, which settles them; each further suspension lasts `escalate` times as long, up
    to `max_suspend`, until the subject has been without one for that long. From `warn_at` (None: one below
    `limit`) a rejection says what the next ones will do. Durations are seconds, or texts like "24h".

    A request in which there is self-harm never counts, whatever else is, nor does what could not be judged, and monitor
    mode keeps no strikes.
    `on_strike` and `on_suspend` are told of each, `def` or `async def`; what they raise is logged and changes nothing.

    Raises ConfigError.
    """

    _: KW_ONLY
    limit: float = 3
    window: float | str = "24h"
    suspend: float | str = "1h"
    escalate: float = 2.0
    max_suspend: float | str = "30d"
    warn_at: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    on_strike: Hook | None = None
    on_suspend: Hook | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        for key in ("window", "suspend", "max_suspend"):
            put(self, key, _seconds(key, getattr(self, key)))
            if getattr(self, key) > _LONGEST:
                raise ConfigError(key, "it is longer than ten years")
        put(self, "limit", _number("limit", self.limit, above=0))
        put(self, "escalate", _number("escalate", self.escalate, at_least=1))
        if self.escalate > _MOST_ESCALATION:
            raise ConfigError("escalate", f"{self.escalate!r} is more than {_MOST_ESCALATION}")
        if self._longest < float(self.suspend):
            raise ConfigError("max_suspend", "it is shorter than suspend")
        if self.warn_at is not None:
            put(self, "warn_at", _number("warn_at", self.warn_at, above=0))
        if not isinstance(self.weights, Mapping):
            raise ConfigError("weights", 'write a table by category, such as {"sexual/minors": 3}')
        put(self, "weights", {name: _number(f'weights."{name}"', each) for name, each in self.weights.items()})
        for key in ("on_strike", "on_suspend"):
            if not (getattr(self, key) is None or callable(getattr(self, key))):
                raise ConfigError(key, f"{getattr(self, key)!r} cannot be called with a Strike")

    @property
    def _longest(self) -> float:
        return float(self.max_suspend)

    @property
    def _warns_from(self) -> float:
        return max(self.limit - 1, 1) if self.warn_at is None else self.warn_at

    def check_categories(self, known: Collection[str]) -> None:
        """Raise ConfigError for a weight that would never weigh anything."""
        for name in self.weights:
            if name not in known:
                raise ConfigError(f'strikes.weights."{name}"', f"the moderator has no category {name!r}")

    def weight(self, decision: Decision) -> float:
        """What a decision weighs; 0 for one that is no strike."""
        is_degraded = decision.rung is not None
        if decision.cause is not Cause.FLAGGED or decision.mode is not Mode.ENFORCE or is_degraded:
            return 0
        held = [each.category for each in decision.reasons if each.action is Action.REJECT]
        if any(map(is_self_harm, held)):
            return 0  # whatever else it sounds like: somebody in need is helped, not counted
        return max((self.weights.get(name, 1) for name in held), default=0)

    def standing(self, account: Account, now: float) -> Standing:
        """How the owner of an account stands."""
        left = account.suspended_until - now
        strikes = sum(weight for at, weight in account.recent if at > now - float(self.window))
        return Standing(
            strikes=strikes,
            limit=self.limit,
            suspended_for=left if left > 0 else None,
            next_suspension=self._lasting(account, now),
            is_warned=left > 0 or strikes >= self._warns_from,
        )

    def struck(self, account: Account, weight: float, now: float) -> Account:
        """The account after a strike. One that comes while suspended, as of requests at once, is only recorded."""
        account = replace(account, total=account.total + weight, last=now)
        if account.suspended_until > now:
            return account
        recent = _merged((*(each for each in account.recent if each[0] > now - float(self.window)), (now, weight)))
        if sum(weight for _, weight in recent) < self.limit:
            return replace(account, recent=recent)
        return self.suspended(account, self._lasting(account, now), now)

    def suspended(self, account: Account, lasting: float, now: float) -> Account:
        """The account, suspended for so many seconds. Its strikes are settled by that."""
        times = self._remembered(account, now) + 1
        return replace(account, recent=(), suspended_until=now + lasting, suspensions=times)

    def lifetime(self, account: Account, now: float) -> float:
        """For how many seconds the account means anything."""
        memory = self._longest if account.suspensions else 0.0
        return max(float(self.window), account.suspended_until - now + memory, memory)

    def _lasting(self, account: Account, now: float) -> float:
        exponent = min(self._remembered(account, now), 64)  # past any maximum; no overflow
        return min(float(self.suspend) * self.escalate**exponent, self._longest)

    def _remembered(self, account: Account, now: float) -> int:
        """How many suspensions count for the length of the next."""
        return account.suspensions if now - account.suspended_until < self._longest else 0


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of a subject: `recent` strikes (time and weight), and the `total` of all weights since it was made.

    `known` tells the accounts that have gone up in this one, by digests.
    """

    recent: tuple[tuple[float, float], ...] = ()
    total: float = 0
    last: float = 0.0
    suspended_until: float = 0.0
    suspensions: int = 0
    known: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """The account as bytes."""
        recent = [[round(at, 3), weight] for at, weight in self.recent]
        return json.dumps(
            [recent, self.total, self.last, self.suspended_until, self.suspensions, self.known], allow_nan=False
        ).encode()

    @classmethod
    def unpack(cls, data: bytes | None) -> Account:
        """The account from bytes; an empty one from None. Raises ValueError for bytes that are no account."""
        if data is None:
            return cls()
        try:
            recent, total, last, until, suspensions, known = json.loads(data, parse_constant=_refuse)
            struck = tuple((float(at), float(weight)) for at, weight in recent)
            return cls(struck, float(total), float(last), float(until), int(suspensions), tuple(map(str, known)))
        except (TypeError, ValueError) as error:
            raise ValueError("what is kept of a subject is no account") from error

    def lifted(self, now: float) -> Account:
        """The account, no longer suspended, and as if it had not been."""
        return replace(self, suspended_until=now, suspensions=max(self.suspensions - 1, 0))

    def absorbed(self, other: bytes) -> Account:
        """The account, with another of the same person in it; of the same bytes only once."""
        mark = sha256(other).hexdigest()[:16]
        return self if mark in self.known else self._with(Account.unpack(other), mark)

    def _with(self, other: Account, mark: str) -> Account:
        return Account(
            recent=_merged(tuple(sorted((*self.recent, *other.recent)))),
            total=self.total + other.total,
            last=max(self.last, other.last),
            suspended_until=max(self.suspended_until, other.suspended_until),
            suspensions=self.suspensions + other.suspensions,
            known=(*self.known, mark)[-_KNOWN:],
        )


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _merged(recent: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """No more than are kept apart: the oldest counts longer rather than being forgotten."""
    while len(recent) > _KEPT:
        (_, first), (at, second), *rest = recent
        recent = ((at, first + second), *rest)
    return recent


def _seconds(key: str, value: object) -> float:
    try:
        return seconds(value)
    except ValueError as error:
        raise ConfigError(key, str(error)) from None


def _number(key: str, value: object, *, above: float = -1, at_least: float = 0) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not is_number or value <= above or value < at_least:  # type: ignore[operator]  # it is a number here
        raise ConfigError(
            key, f"{value!r} is no number {f'above {above:g}' if above >= 0 else f'of at least {at_least:g}'}"
        )
    return value  # type: ignore[return-value]
