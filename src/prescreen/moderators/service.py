"""Moderators that ask a service over HTTP: which calls they make, and what becomes of the answers."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from prescreen.errors import ModeratorError, ModeratorRefused
from prescreen.model import Item, Verdict
from prescreen.moderators.transport import Service

_CALLS: Final = 8  # in flight for one request: an account's rate limit is everybody's
_SURROGATES: Final = re.compile("[\ud800-\udfff]")

Known = dict[int, Verdict]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a service: `payload` goes to `path` as JSON, and is about the items at `indexes`.

    `read` makes one verdict for each of them from the answer's body; it raises BadVerdict.
    """

    indexes: Sequence[int]
    path: str
    payload: Mapping[str, object]
    read: Callable[[bytes], Sequence[Verdict]]


class ServiceModerator(Service, ABC):
    """A moderator that asks a service. What it is called, and which calls it makes, is for the kinds of it to say."""

    name: str
    model: str = ""
    max_batch: int | None = None

    @property
    def identity(self) -> str:
        """What a verdict depends on besides the text."""
        return f"{self.name} {self._base_url} {self.model} {self._variant}"

    @property
    def _variant(self) -> str:
        """The options on which a verdict depends besides the model."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, base_url={self._base_url!r})"

    @abstractmethod
    def calls(self, items: Sequence[Item]) -> Iterator[Call]:
        """The calls that judge the items. Raises ModeratorRefused after the last where some of them cannot be judged."""

    async def moderate(self, items: Sequence[Item], known: Known | None = None) -> Sequence[Verdict]:
        """Raises ModeratorError; the caller bounds the time. `known` is filled as verdicts come in."""
        from anyio import CapacityLimiter, create_task_group

        known = {} if known is None else known
        errors: list[ModeratorError] = []

        async def run(call: Call, turn: AbstractAsyncContextManager[object]) -> None:
            try:
                async with turn:
                    _note(known, call, await self.post(call.path, call.payload))
            except ModeratorError as error:
                errors.append(error)

        calls = list(_each(self.calls(items), errors))
        if len(calls) == 1:
            await run(calls[0], nullcontext())
        else:
            limiter = CapacityLimiter(_CALLS)
            async with create_task_group() as group:
                for call in calls:
                    group.start_soon(run, call, limiter)
        return _all(known, len(items), errors)

    def moderate_sync(self, items: Sequence[Item], timeout: float, known: Known | None = None) -> Sequence[Verdict]:
        """The same, blocking, one call after another, in about `timeout` seconds. Raises ModeratorError."""
        known = {} if known is None else known
        errors: list[ModeratorError] = []
        deadline = time.monotonic() + timeout
        for call in _each(self.calls(items), errors):
            try:
                _note(known, call, self.post_sync(call.path, call.payload, deadline))
            except ModeratorError as error:
                errors.append(error)
        return _all(known, len(items), errors)


def sendable(text: str) -> str:
    """The text as UTF-8 can carry it: a lone surrogate (half an emoji) becomes U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _each(calls: Iterator[Call], errors: list[ModeratorError]) -> Iterator[Call]:
    try:
        yield from calls
    except ModeratorRefused as error:
        errors.append(error)


def _note(known: Known, call: Call, body: bytes) -> None:
    known.update(zip(call.indexes, call.read(body), strict=True))


def _all(known: Known, count: int, errors: Sequence[ModeratorError]) -> list[Verdict]:
    """Every verdict, in order; raises what went wrong. A refusal is the client's doing, so it comes before an outage."""
    if errors:
        raise next((error for error in errors if isinstance(error, ModeratorRefused)), errors[0])
    return [known[index] for index in range(count)]
