"""OpenAI's moderation endpoint, or one that speaks like it, by the official SDK.

The SDK is imported when a moderator is built (it costs about 0.6 s), and a client is built when it
is first needed: one for each process, because a client shared over fork() can hand one request the
answer to another, and one for each event loop, because an async client dies with its loop.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from prescreen import wording
from prescreen.errors import (
    ConfigError,
    ModeratorBusy,
    ModeratorDown,
    ModeratorError,
    ModeratorRefused,
    ModeratorTimeout,
)
from prescreen.model import Image, Item, Text, Verdict
from prescreen.moderators import SHORTEST_PIECE
from prescreen.moderators.answer import parse

if TYPE_CHECKING:
    from anyio.lowlevel import RunVar
    from openai import AsyncOpenAI, OpenAI

CATEGORIES: Final = frozenset(wording.CATEGORIES) - {"unspecified"}
"""The wire names of omni-moderation (OpenAI's moderation guide)."""

_OPENAI: Final = "https://api.openai.com/v1"
_SHUT_DOWN: Final = "text-moderation-"
_LARGEST_CALL: Final = 32_000  # characters; not published either
_LONGEST_ANSWER: Final = 8 << 20  # bytes; a full answer is about 1.2 kB for each item
_LONGEST_WAIT: Final = 60.0  # seconds; only a backstop, the screen's deadline cuts earlier
_SURROGATES: Final = re.compile("[\ud800-\udfff]")

Call = dict[str, Any]
Known = dict[int, Verdict]


class OpenAIModerator:
    """Judges by `POST /v1/moderations`: all texts of a request in one call (or a few), each image in its own.

    `api_key` None takes OPENAI_API_KEY; `base_url` None takes OPENAI_BASE_URL, else OpenAI's own.
    Pin `model` to a snapshot ("omni-moderation-2024-09-26") before relying on thresholds: OpenAI
    recalibrates the moving name. Raises ConfigError for a missing key or a model that is shut down.

    A text of more than `max_characters` is judged in overlapping pieces: OpenAI does not publish how long one may
    be, and counts it against the tokens a minute of an account, of which the lowest tiers have 10,000.

    Texts and images are sent to OpenAI (or to whoever runs `base_url`).
    """

    name = "openai"

    def __init__(
        self,
        *,
        model: str = "omni-moderation-latest",
        api_key: str | None = None,
        base_url: str | None = None,
        max_characters: int = 5_000,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ConfigError("model", f"{model!r} is no model's name; write 'omni-moderation-latest'")
        if model.startswith(_SHUT_DOWN):
            raise ConfigError("model", f"{model!r} is shut down; write 'omni-moderation-latest'")
        if type(max_characters) is not int or max_characters < SHORTEST_PIECE:
            raise ConfigError("max_characters", f"{max_characters!r} is no number of at least {SHORTEST_PIECE}")
        self._options: dict[str, Any] = {
            "api_key": _key(api_key),
            "base_url": _address(base_url),
            "timeout": _LONGEST_WAIT,
            "max_retries": 0,  # the SDK's retries sleep without regard to our deadline
        }
        self.model = model
        self.max_characters = max_characters
        self.categories = CATEGORIES if self._options["base_url"] == _OPENAI else None
        self._openai = _sdk()
        self._async_client: RunVar[tuple[int, AsyncOpenAI]] | None = None
        self._sync_client: tuple[int, OpenAI] | None = None

    def __repr__(self) -> str:
        return f"OpenAIModerator(model={self.model!r}, base_url={self._options['base_url']!r})"

    async def moderate(self, items: Sequence[Item], known: Known | None = None) -> Sequence[Verdict]:
        """Raises ModeratorError; the caller bounds the time. `known` is filled as verdicts come in."""
        from anyio import create_task_group

        known = {} if known is None else known
        client, errors = self._client(), list[ModeratorError]()

        async def run(indexes: Sequence[int], call: Call) -> None:
            try:
                known.update(zip(indexes, await self._ask(client, call, len(indexes)), strict=True))
            except ModeratorError as error:
                errors.append(error)

        async with create_task_group() as group:
            for indexes, call in self._calls(items):
                group.start_soon(run, indexes, call)
        return _all(known, len(items), errors)

    def moderate_sync(self, items: Sequence[Item], timeout: float, known: Known | None = None) -> Sequence[Verdict]:
        """The same, blocking, in about `timeout` seconds. Raises ModeratorError.

        The head of an answer and the body of an error are read by the SDK, whose own timeout starts
        anew with each piece: a service that sends these byte by byte can take longer.
        """
        known = {} if known is None else known
        client, errors = self._client_sync(), list[ModeratorError]()
        deadline = time.monotonic() + timeout
        for indexes, call in self._calls(items):
            try:
                known.update(zip(indexes, self._ask_sync(client, call, len(indexes), deadline), strict=True))
            except ModeratorError as error:
                errors.append(error)
        return _all(known, len(items), errors)

    async def _ask(self, client: AsyncOpenAI, call: Call, count: int) -> list[Verdict]:
        for is_last in (False, True):
            try:
                async with client.moderations.with_streaming_response.create(**call) as response:
                    body = bytearray()
                    async for chunk in response.iter_bytes():
                        _append(body, chunk)
                return parse(bytes(body), count, of_image=_is_image(call))
            except Exception as error:
                if is_last or not self._was_dropped(error):
                    raise self._translated(error) from error
        raise AssertionError  # the last round returns or raises

    def _ask_sync(self, client: OpenAI, call: Call, count: int, deadline: float) -> list[Verdict]:
        for is_last in (False, True):
            try:
                call["timeout"] = _left(deadline)
                with client.moderations.with_streaming_response.create(**call) as response:
                    body = bytearray()
                    # Against the clock: the SDK's own timeout starts anew with every chunk.
                    for chunk in response.iter_bytes():
                        _append(body, chunk)
                        _left(deadline)
                return parse(bytes(body), count, of_image=_is_image(call))
            except Exception as error:
                if is_last or time.monotonic() >= deadline or not self._was_dropped(error):
                    raise self._translated(error) from error
        raise AssertionError  # the last round returns or raises

    def _calls(self, items: Sequence[Item]) -> Iterator[tuple[Sequence[int], Call]]:
        """The calls to make, each with the indexes of the items that it judges."""
        texts = [(index, item.value) for index, item in enumerate(items) if isinstance(item, Text)]
        for batch in _batches(texts):
            yield (
                [index for index, _ in batch],
                {"model": self.model, "input": [_sendable(value) for _, value in batch]},
            )
        for index, item in enumerate(items):
            if isinstance(item, Image):
                part = {"type": "image_url", "image_url": {"url": _sendable(item.url)}}
                yield [index], {"model": self.model, "input": [part]}

    def _client(self) -> AsyncOpenAI:
        from anyio.lowlevel import RunVar

        if self._async_client is None:
            self._async_client = RunVar("prescreen.openai")
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
        sdk = self._openai
        if isinstance(error, ModeratorError):
            return error
        if isinstance(error, sdk.APIStatusError):
            return _refused(error.status_code, error.code, error.response.headers.get("retry-after"))
        if self._is_timeout(error):
            return ModeratorTimeout("no answer in time")
        return ModeratorDown(f"no answer ({type(error).__name__})")


def _is_image(call: Call) -> bool:
    return isinstance(call["input"][0], dict)


def _batches(texts: Sequence[tuple[int, str]]) -> Iterator[Sequence[tuple[int, str]]]:
    """The texts in groups that one call can carry; a text longer than that goes alone."""
    start = size = 0
    for end, (_, value) in enumerate(texts):
        size += len(value)
        if size > _LARGEST_CALL and end > start:
            yield texts[start:end]
            start, size = end, len(value)
    if texts:
        yield texts[start:]


def _all(known: Known, count: int, errors: Sequence[ModeratorError]) -> list[Verdict]:
    """Every verdict, in order; raises the first error where there was one."""
    if errors:
        raise errors[0]
    return [known[index] for index in range(count)]


def _refused(status: int, code: object, retry_after: str | None) -> ModeratorError:
    wait = float(retry_after) if retry_after and re.fullmatch(r"\d{1,5}(\.\d+)?", retry_after) else None
    said = f"HTTP {status}" + (f", {code}" if code and re.fullmatch(r"\w{1,64}", str(code)) else "")
    if status == 429:
        return ModeratorBusy(f"rate limit or quota ({said})", retry_after=wait)
    if status >= 500:
        return ModeratorDown(f"it failed ({said})", retry_after=wait)
    if status in (401, 403, 404):
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


def _sendable(text: str) -> str:
    """The text as UTF-8 can carry it: a lone surrogate (half an emoji) becomes U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _is_named(error: Exception, name: str) -> bool:
    """Whether it is such an error of the SDK's HTTP library, httpx or httpx2, whichever it uses.

    The SDK translates these only up to the head of an answer; the body is read by us.
    """
    return any(kind.__name__ == name and kind.__module__.startswith("httpx") for kind in type(error).__mro__)


def _key(api_key: str | None) -> str:
    key = os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key
    if not key:
        raise ConfigError(
            "api_key",
            "there is no API key; set OPENAI_API_KEY, or write moderator = 'keywords' to try "
            "prescreen offline (it catches phrases, not meaning)",
        )
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError("api_key", "the API key has blanks, line ends or non-ASCII characters in it")
    return key


def _address(base_url: str | None) -> str:
    # An empty OPENAI_BASE_URL would be taken for an address by the SDK.
    address = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
    if not isinstance(address, str) or not re.match(r"https?://[^/\s]", address):
        raise ConfigError("base_url", f"{address!r} is no address; write for example 'https://api.openai.com/v1'")
    return address.rstrip("/")


def _sdk() -> Any:
    try:
        import openai
    except ImportError as error:
        raise ConfigError("", "the openai package is missing; run: pip install 'openai>=2,<4'") from error
    return openai
