"""Moderators that ask a service over HTTP: the clients, the time, the one retry, the errors.

The OpenAI SDK carries the requests, whoever they are for: its low-level `post` takes any path and any JSON.
It is imported when a moderator is built (it costs about 0.6 s), and a client is built when it is first
needed: one for each process, because a client shared over fork() can hand one request the answer to
another, and one for each event loop, because an async client dies with its loop.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prescreen.errors import (
    ConfigError,
    ModeratorBusy,
    ModeratorDown,
    ModeratorError,
    ModeratorRefused,
    ModeratorTimeout,
)
from prescreen.model import Item, Verdict

if TYPE_CHECKING:
    from anyio.lowlevel import RunVar
    from openai import AsyncOpenAI, OpenAI

_OPENAI_ONLY: Final = ("Authorization", "OpenAI-Organization", "OpenAI-Project")
_CALLS: Final = 8  # in flight for one request: an account's rate limit is everybody's
_LONGEST_ANSWER: Final = 8 << 20  # bytes; a full answer of a moderation endpoint is about 1.2 kB for each item
_LONGEST_WAIT: Final = 60.0  # seconds; only a backstop, the screen's deadline cuts earlier
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_STREAMED: Final = {"X-Stainless-Raw-Response": "stream"}  # what the SDK's `with_streaming_response` sets

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


class Service:
    """An address that takes JSON by POST.

    `headers` go onto every request; None leaves out one that the SDK would set. `query` goes into every URL.
    Redirects are not followed: they would carry the key and the texts to an address that nobody configured.
    """

    def __init__(
        self, base_url: str, headers: Mapping[str, str | None], query: Mapping[str, object] | None = None
    ) -> None:
        self._openai = sdk = _sdk()
        self._options: dict[str, Any] = {
            "api_key": "in the headers",
            "base_url": base_url,
            "default_headers": {name: sdk.Omit() if value is None else value for name, value in headers.items()},
            "default_query": query,
            "timeout": _LONGEST_WAIT,
            "max_retries": 0,  # the SDK's retries sleep without regard to our deadline
        }
        self._bare = {"Authorization": sdk.Omit()} if headers.get("Authorization") is None else {}
        self._async_client: RunVar[tuple[int, AsyncOpenAI]] | None = None
        self._sync_client: tuple[int, OpenAI] | None = None

    async def post(self, path: str, payload: Mapping[str, object]) -> bytes:
        """The body of the answer, cut off where no sane one is as long. Raises ModeratorError."""
        client = self._client()
        for is_last in (False, True):
            try:
                response: Any = await client.post(path, cast_to=object, body=payload, options=self._how(_LONGEST_WAIT))
                body = bytearray()
                try:
                    async for chunk in response.iter_bytes():
                        _append(body, chunk)
                finally:
                    await response.close()
                return bytes(body)
            except Exception as error:
                if is_last or not self._was_dropped(error):
                    raise self._translated(error) from error
        raise AssertionError  # the last round returns or raises

    def post_sync(self, path: str, payload: Mapping[str, object], deadline: float) -> bytes:
        """The same, blocking, until about `deadline` on the monotonic clock."""
        client = self._client_sync()
        for is_last in (False, True):
            try:
                response: Any = client.post(path, cast_to=object, body=payload, options=self._how(_left(deadline)))
                body = bytearray()
                try:
                    # Against the clock: the SDK's own timeout starts anew with every chunk.
                    for chunk in response.iter_bytes():
                        _append(body, chunk)
                        _left(deadline)
                finally:
                    response.close()
                return bytes(body)
            except Exception as error:
                if is_last or time.monotonic() >= deadline or not self._was_dropped(error):
                    raise self._translated(error) from error
        raise AssertionError  # the last round returns or raises

    def _how(self, timeout: float) -> Any:
        return {"headers": _STREAMED | self._bare, "timeout": timeout, "follow_redirects": False}

    def _client(self) -> AsyncOpenAI:
        from anyio.lowlevel import RunVar

        if self._async_client is None:
            self._async_client = RunVar("prescreen.service")
        pid, client = self._async_client.get((0, None))
        if client is None or pid != os.getpid():
            client = self._openai.AsyncOpenAI(**self._options)
            self._async_client.set((os.getpid(), client))
        return client

    def _client_sync(self) -> OpenAI:
        # Two threads may both build one at first; the loser's is dropped. A lock could be held at fork.
        pid, client = self._sync_client or (0, None)
        if client is None or pid != os.getpid():
            client = self._openai.OpenAI(**self._options)
            self._sync_client = (os.getpid(), client)
        return client

    def _was_dropped(self, error: Exception) -> bool:
        """Whether a kept-alive connection was closed under us: worth one more try, at once."""
        is_connection = isinstance(error, self._openai.APIConnectionError) or _is_named(error, "TransportError")
        return is_connection and not self._is_timeout(error)

    def _is_timeout(self, error: Exception) -> bool:
        return isinstance(error, self._openai.APITimeoutError) or _is_named(error, "TimeoutException")

    def _translated(self, error: Exception) -> ModeratorError:
        """The SDK's error as ours. Its messages are left behind: they may quote the request."""
        if isinstance(error, ModeratorError):
            return error
        if isinstance(error, self._openai.APIStatusError):
            return _failed(error.status_code, error.code, error.response.headers.get("retry-after"))
        if self._is_timeout(error):
            return ModeratorTimeout("no answer in time")
        return ModeratorDown(f"no answer ({type(error).__name__})")


class ServiceModerator(Service, ABC):
    """A moderator that asks a service. What it is called, and which calls it makes, is for the kinds of it to say."""

    name: str
    model: str = ""
    max_batch: int | None = None

    @property
    def identity(self) -> str:
        """What a verdict depends on besides the text."""
        return f"{self.name} {self._options['base_url']} {self.model} {self._variant}"

    @property
    def _variant(self) -> str:
        """The options on which a verdict depends besides the model."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, base_url={self._options['base_url']!r})"

    @abstractmethod
    def calls(self, items: Sequence[Item]) -> Iterator[Call]:
        """The calls that judge the items. Raises ModeratorRefused after the last where some of them cannot be judged."""

    async def moderate(self, items: Sequence[Item], known: Known | None = None) -> Sequence[Verdict]:
        """Raises ModeratorError; the caller bounds the time. `known` is filled as verdicts come in."""
        from anyio import CapacityLimiter, create_task_group

        known = {} if known is None else known
        errors: list[ModeratorError] = []
        limiter = CapacityLimiter(_CALLS)

        async def run(call: Call) -> None:
            try:
                async with limiter:
                    _note(known, call, await self.post(call.path, call.payload))
            except ModeratorError as error:
                errors.append(error)

        async with create_task_group() as group:
            for call in _each(self.calls(items), errors):
                group.start_soon(run, call)
        return _all(known, len(items), errors)

    def moderate_sync(self, items: Sequence[Item], timeout: float, known: Known | None = None) -> Sequence[Verdict]:
        """The same, blocking, one call after another, in about `timeout` seconds. Raises ModeratorError.

        The head of an answer and the body of an error are read by the SDK, whose own timeout starts
        anew with each piece: a service that sends these byte by byte can take longer.
        """
        known = {} if known is None else known
        errors: list[ModeratorError] = []
        deadline = time.monotonic() + timeout
        for call in _each(self.calls(items), errors):
            try:
                _note(known, call, self.post_sync(call.path, call.payload, deadline))
            except ModeratorError as error:
                errors.append(error)
        return _all(known, len(items), errors)


def elsewhere(headers: Mapping[str, str | None]) -> dict[str, str | None]:
    """Headers for a service that is not OpenAI's: what the environment says for OpenAI, the SDK shall keep to itself."""
    custom = (line.partition(":")[0].strip() for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines())
    ours = {name.lower() for name in headers}
    kept = [name for name in (*_OPENAI_ONLY, *custom) if name and name.lower() not in ours]
    return {**dict.fromkeys(kept), **headers}


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


_OUR_FAULT: Final = (
    "unsupported_parameter",
    "unsupported_value",
    "model_not_found",
)  # the configuration's, not the client's


def _failed(status: int, code: object, retry_after: str | None) -> ModeratorError:
    wait = float(retry_after) if retry_after and re.fullmatch(r"\d{1,5}(\.\d+)?", retry_after) else None
    said = f"HTTP {status}" + (f", {code}" if code and re.fullmatch(r"\w{1,64}", str(code)) else "")
    if status in (402, 429):
        return ModeratorBusy(f"rate limit or quota ({said})", retry_after=wait)
    if status >= 500:
        return ModeratorDown(f"it failed ({said})", retry_after=wait)
    if status < 400 or status in (401, 403, 404, 405) or code in _OUR_FAULT:
        return ModeratorDown(f"it does not know us ({said}); check the API key, the model and the address")
    if status in (408, 409):
        return ModeratorDown(f"it was not ready ({said})", retry_after=wait)
    return ModeratorRefused(f"it refused to judge this ({said})")


def _append(body: bytearray, chunk: bytes) -> None:
    """Keep no more than anyone could want. What is over it makes the JSON end early, and so a BadVerdict."""
    body += chunk[: _LONGEST_ANSWER - len(body)]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ModeratorTimeout("no answer in time")
    return left


def _is_named(error: Exception, name: str) -> bool:
    """Whether it is such an error of the SDK's HTTP library, httpx or httpx2, whichever it uses.

    The SDK translates these only up to the head of an answer; the body is read by us.
    """
    return any(kind.__name__ == name and kind.__module__.startswith("httpx") for kind in type(error).__mro__)


def _sdk() -> Any:
    try:
        import openai
    except ImportError as error:
        raise ConfigError("", "the openai package is missing; run: pip install 'openai>=2,<4'") from error
    return openai
