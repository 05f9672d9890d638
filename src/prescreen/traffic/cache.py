"""Verdicts that are known already: one process's own, and those that a shared store has from all."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from os import urandom
from typing import Final

from prescreen.errors import StoreError
from prescreen.load import Cache
from prescreen.model import Item, Text, Verdict
from prescreen.moderators import sound
from prescreen.stores import LARGEST_VALUE, LONGEST_TTL, Store
from prescreen.stores.memory import MemoryStore
from prescreen.target import Found
from prescreen.traffic.answers import is_link

logger: Final = logging.getLogger("prescreen")

Known = dict[int, Verdict]

_PREFIX: Final = "verdict:"
_DIGEST: Final = 20  # bytes: no two texts of the world share one by chance
_AT_HAND: Final = 8  # verdicts, of each small body that was read lately
_REMEMBERED: Final = 512  # verdicts, ready for use
_AHEAD: Final = 60.0  # seconds: so far may another machine's clock be
_QUIET: Final = 5.0  # seconds in which a shared store that failed is left alone


@dataclass(frozen=True, slots=True, eq=False)
class _AtHand:
    """A cache's verdicts on all that is asked of a body, and until when (on the monotonic clock) they answer."""

    cache: VerdictCache
    verdicts: Sequence[Verdict]
    until: float


class VerdictCache:
    """The verdicts of one moderator; its `identity` is part of every key.

    `options` None keeps nothing, and only tells which texts are the same. `secret` keys the digests, None is for a key that nobody else has; without one nothing is shared.
    """

    def __init__(
        self, options: Cache | None, identity: str, secret: str | None, shared: Store | None, *, has_stale: bool
    ) -> None:
        self.is_on: Final = options is not None
        options = options or Cache(shared=False)
        self._ttl = float(options.ttl)
        self._kept_for = min(self._ttl + (float(options.stale) if has_stale else 0.0), LONGEST_TTL)
        self._own: Final = MemoryStore(options.entries, int(options.size))
        self._shared = shared if secret is not None and options.shared else None
        self._quiet_until = 0.0
        key = blake2b(secret.encode(), person=b"verdicts").digest() if secret is not None else urandom(64)
        self._digest = blake2b(identity.encode("utf-8", "surrogatepass") + b"\0", key=key, digest_size=_DIGEST)

    @property
    def is_shared(self) -> bool:
        """Whether there is a shared store to ask, which blocks."""
        return self._shared is not None and time.monotonic() >= self._quiet_until

    def key(self, item: Item) -> str | None:
        """The key of an item; None for what may be another thing tomorrow: what is behind a link."""
        if is_link(item):
            return None
        kind, value = ("t", item.value) if isinstance(item, Text) else ("i", item.url)
        digest = self._digest.copy()
        digest.update(f"{kind}{value}".encode("utf-8", "surrogatepass"))
        return f"{_PREFIX}{digest.hexdigest()}"

    def recall(self, found: Found) -> Sequence[Verdict] | None:
        """What this process knows of all that is asked of a body, if that is little and all known; it is at hand from then on."""
        last = found.at_hand
        if isinstance(last, _AtHand) and last.cache is self and time.monotonic() < last.until:
            return last.verdicts
        asked = found.asked or ()
        if not self.is_on or not 0 < len(asked) <= _AT_HAND:
            return None
        kept = list(self._found(self._own, dict(enumerate(map(self.key, asked))), is_stale=False))
        if len(kept) < len(asked):
            return None
        left = min(made for *_, made in kept) + self._ttl - time.time()
        found.at_hand = at_hand = _AtHand(self, [verdict for _, verdict, *_ in kept], time.monotonic() + left)
        return at_hand.verdicts

    def find(self, keys: Sequence[str | None], *, is_stale: bool = False) -> Known:
        """What this process knows of the items with these keys, by their index; with `is_stale` expired verdicts, too."""
        if not self.is_on:
            return {}
        found = self._found(self._own, dict(enumerate(keys)), is_stale=is_stale)
        return {index: verdict for index, verdict, *_ in found}

    def find_shared(self, keys: Mapping[int, str | None], *, is_stale: bool = False) -> Known:
        """The same of all processes, for the items that are missing; it blocks. {} where the store does not answer."""
        if self._shared is None or not self.is_shared:
            return {}
        try:
            found = list(self._found(self._shared, keys, is_stale=is_stale))
        except StoreError as error:
            self._leave_alone(error)
            return {}
        if not is_stale and found:  # as it is, with its own age
            self._own.put({key: data for index, _, data, _ in found if (key := keys[index])}, self._kept_for)
        return {index: verdict for index, verdict, *_ in found}

    def keep(self, verdicts: Mapping[str, Verdict]) -> None:
        """Keep the moderator's own verdicts by key, in this process."""
        self._keep(self._own, verdicts)

    def keep_shared(self, verdicts: Mapping[str, Verdict]) -> None:
        """The same for all processes; it blocks."""
        if self._shared is None or not self.is_shared or not verdicts:
            return
        try:
            self._keep(self._shared, verdicts)
        except StoreError as error:
            self._leave_alone(error)

    def _found(
        self, store: Store, keys: Mapping[int, str | None], *, is_stale: bool
    ) -> Iterator[tuple[int, Verdict, bytes, float]]:
        wanted = [(index, key) for index, key in keys.items() if key is not None]
        if not wanted:
            return
        now = time.time()
        oldest = now - (self._kept_for if is_stale else self._ttl)
        for (index, _), data in zip(wanted, store.get([key for _, key in wanted]), strict=True):
            if data is not None and (kept := _unpacked(data)) is not None and oldest <= kept[0] <= now + _AHEAD:
                yield index, kept[1], data, kept[0]

    def _keep(self, store: Store, verdicts: Mapping[str, Verdict]) -> None:
        if verdicts and self.is_on:
            now = time.time()
            packed = {key: _packed(verdict, now) for key, verdict in verdicts.items()}
            store.put({key: data for key, data in packed.items() if len(data) <= LARGEST_VALUE}, self._kept_for)

    def _leave_alone(self, error: StoreError) -> None:
        self._quiet_until = time.monotonic() + _QUIET
        logger.warning("the shared verdicts are left alone for %g s: %s", _QUIET, error.problem)


def _packed(verdict: Verdict, now: float) -> bytes:
    from pydantic_core import to_json  # a quarter of what the standard library takes

    categories, scores = dict(verdict.categories), dict(verdict.scores)
    # Services name a score for each category, in the same order; so no name is kept twice.
    told = [*scores.values()] if [*scores] == [*categories] else scores
    facts = [now, verdict.flagged, verdict.model, categories, told]
    try:
        return to_json(facts)
    except ValueError:  # half an emoji for a name
        return json.dumps(facts).encode()


@lru_cache(_REMEMBERED)
def _unpacked(data: bytes) -> tuple[float, Verdict] | None:
    """When the verdict was given, and the verdict; None for what is none of ours."""
    try:
        made, flagged, model, categories, told = json.loads(data)
        scores = dict(zip(categories, told, strict=True)) if isinstance(told, list) else told
        verdict = sound([Text("", "")], {0: Verdict(flagged, categories, scores, model)}).get(0)
        return None if verdict is None else (float(made), verdict)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
