"""The traffic of a screen's moderators, from its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from prescreen.errors import ConfigError
from prescreen.load import STALE, Quota
from prescreen.model import Observer
from prescreen.moderators import BUILT_IN, Bound, bind, build
from prescreen.moderators.layers import Layer
from prescreen.stores import Store
from prescreen.traffic import Traffic
from prescreen.traffic.breaker import Circuit
from prescreen.traffic.bucket import Bucket
from prescreen.traffic.cache import VerdictCache

if TYPE_CHECKING:
    from prescreen.config import Settings

_STORE_SECONDS: Final = 0.05  # for verdicts and quotas; without an answer we do without


def chosen(settings: Settings) -> Bound:
    """The moderator that the settings name. Raises ConfigError."""
    rungs = settings.on_error[:-1]
    for name in settings.moderators:
        if name not in BUILT_IN and name != settings.moderator:
            raise ConfigError(f"moderators.{name}", f"there is no moderator {name!r}; there are {', '.join(BUILT_IN)}")
    named = settings.moderator
    if named in rungs:
        raise ConfigError(f"on_error[{rungs.index(named)}]", f"{named!r} is the moderator itself")
    return bind(build(named, settings.moderators.get(named, {})) if isinstance(named, str) else named)


def rung(settings: Settings, place: int) -> Bound:
    """The moderator that is a rung of `on_error`. Raises ConfigError."""
    name = settings.on_error[place]
    try:
        return bind(build(name, settings.moderators.get(name, {})))
    except ConfigError as error:
        raise ConfigError(f"on_error[{place}]" if error.key == "moderator" else error.key, error.problem) from error


def traffics(
    settings: Settings, moderator: Bound, secret: str | None, observe: Observer | None = None
) -> Mapping[str | None, Traffic]:
    """The traffic of the moderator (None), of what it once said ("stale": the same), and of the other rungs by name."""
    shared = _shared(settings)
    make = partial(_traffic, settings, shared, secret, observe=observe)
    first = make(settings.quota, moderator)
    found: dict[str | None, Traffic] = {None: first}
    for place, name in enumerate(settings.on_error[:-1]):
        if name != STALE:
            found[name] = make(None, rung(settings, place))
        elif first.keeps:
            found[name] = first
        else:
            raise ConfigError(f"on_error[{place}]", f"no verdicts of the moderator {moderator.name!r} are kept")
    return found


def _traffic(
    settings: Settings,
    shared: Store | None,
    secret: str | None,
    quota: Quota | None,
    bound: Bound,
    *,
    observe: Observer | None,
) -> Traffic:
    make = partial(Traffic, max_in_flight=settings.max_in_flight, max_batch=settings.max_batch)
    if isinstance(bound.source, Layer):
        # What a layer does is its members' doing, and told of them.
        each = partial(_traffic, settings, shared, secret, quota, observe=observe)
        return make(bind(bound.source.over(lambda member: _wrapped(each(member)))), None, Bucket(None, "", None), None)
    cache = None
    if bound.identity is not None:
        cache = VerdictCache(settings.cache, bound.identity, secret, shared, has_stale=STALE in settings.on_error)
    circuit = Circuit(bound.name, settings.breaker, settings.deadline, observe) if settings.breaker else None
    probe = float(settings.breaker.probe) if settings.breaker else math.inf
    bucket = Bucket(
        quota, bound.identity or bound.name, shared, longest_pause=probe
    )  # else it could be back, and nobody would notice
    return make(bound, cache, bucket, circuit, observe=observe)


def _wrapped(traffic: Traffic) -> Bound:
    """A member of a layer, called by way of its traffic."""
    return replace(traffic.bound, call=traffic.call, is_async=True, call_sync=traffic.call_sync)


def _shared(settings: Settings) -> Store | None:
    """The store for what all processes have together, if it is one that many machines reach."""
    from prescreen.stores.redis import SCHEMES, RedisStore

    if type(settings.store) is RedisStore:
        return settings.store.hastier(_STORE_SECONDS)
    if isinstance(settings.store, RedisStore):  # of the user's own kind
        return settings.store
    if isinstance(settings.store, str) and settings.store.partition(":")[0] in SCHEMES:
        return RedisStore(settings.store, _STORE_SECONDS)
    return None
