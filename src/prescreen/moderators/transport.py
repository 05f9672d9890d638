"""HTTP to a service: the clients, the time, the one retry, the errors.

The OpenAI SDK carries the requests, whoever they are for: its low-level `post` takes any path and any JSON.
It is imported when a moderator is built (it costs about 0.6 s), and so is a first client (0.1 s). There is one for
each process, because a client shared over fork() can hand one request the answer to another, and one
for each event loop, because an async client dies with its loop.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from prescreen.errors import (
    ConfigError,
    ModeratorBusy,
    ModeratorDown,
    ModeratorError,
    ModeratorRefused,
    ModeratorTimeout,
)
from prescreen.forks import lock_over_forks
from prescreen.loops import PerLoop, asyncio_loop
from prescreen.moderators.timely import make_timely, until
from prescreen.threads import workers

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_OPENAI_ONLY: Final = ("Authorization", "OpenAI-Organization", "OpenAI-Project")
_LONGEST_ANSWER: Final = 8 << 20  # bytes; a full answer of a moderation endpoint is about 1.2 kB for each item
_LONGEST_WAIT: Final = 60.0  # seconds; only a backstop, the screen's deadline cuts earlier
# What the SDK tells of the machine: no service needs it, and each header costs time.
_UNASKED: Final = (
    "X-Stainless-Arch",
    "X-Stainless-Async",
    "X-Stainless-Lang",
    "X-Stainless-OS",
    "X-Stainless-Package-Version",
    "X-Stainless-Read-Timeout",
    "X-Stainless-Retry-Count",
    "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version",
)
_STREAMED: Final = {"X-Stainless-Raw-Response": "stream"}  # what the SDK's `with_streaming_response` sets


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
        left_out = _UNASKED if headers.get("Authorization") is not None else ("Authorization", *_UNASKED)
        self._headers = _STREAMED | dict.fromkeys(left_out, sdk.Omit())
        self._async_clients: Final = PerLoop(_Opened)
        # Now, and not while somebody waits for it; unless this process forks before it serves.
        self._sync_client: tuple[int, OpenAI] = (os.getpid(), self._made())

    async def post(self, path: str, payload: Mapping[str, object]) -> bytes:
        """The body of the answer, cut off where no sane one is as long. Raises ModeratorError."""
        client = await self._client()
        started = time.monotonic()
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
                # Nobody waits as long as the SDK may take: what it calls a timeout is aiohttp's word for a dropped connection.
                is_drop = self._is_timeout(error) and time.monotonic() - started < _LONGEST_WAIT
                if is_last or not (is_drop or self._was_dropped(error)):
                    raise _down(error) if is_drop else self._translated(error) from error
        raise AssertionError  # the last round returns or raises

    def post_sync(self, path: str, payload: Mapping[str, object], deadline: float) -> bytes:
        """The same, blocking, until about `deadline` on the monotonic clock."""
        client = self._client_sync()
        for is_last in (False, True):
            try:
                with until(deadline):
                    response: Any = client.post(path, cast_to=object, body=payload, options=self._how(_left(deadline)))
                    body = bytearray()
                    try:
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
        return {"headers": self._headers, "timeout": timeout, "follow_redirects": False}

    async def _client(self) -> AsyncOpenAI:
        opened = self._async_clients.get()
        if opened.client is None:
            await opened.open(partial(self._made_async, is_asyncio=asyncio_loop() is not None))
        assert opened.client is not None
        return opened.client

    def _made_async(self, *, is_asyncio: bool) -> AsyncOpenAI:
        """A client, on aiohttp where that is installed (`openai[aiohttp]`): it takes half the CPU."""
        http = None
        if is_asyncio:
            with suppress(AttributeError, RuntimeError):  # an SDK without it, or aiohttp is missing
                http = self._openai.DefaultAioHttpClient()
        client: AsyncOpenAI = self._openai.AsyncOpenAI(**self._options, http_client=http)
        return client

    def _client_sync(self) -> OpenAI:
        with _making:
            if self._sync_client[0] != os.getpid():
                self._sync_client = (os.getpid(), self._made())
        return self._sync_client[1]

    def _made(self) -> OpenAI:
        client: OpenAI = self._openai.OpenAI(**self._options)
        make_timely(client)
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
        return _down(error)


_making: Final = lock_over_forks()


class _Opened:
    """One event loop's client, or the making of it: in a thread, since it takes a while, and once for all who wait."""

    def __init__(self) -> None:
        from anyio import Lock

        self.client: AsyncOpenAI | None = None
        self._keeper: AsyncIterator[None] | None = None
        self._lock = Lock()

    async def open(self, make: Callable[[], AsyncOpenAI]) -> None:
        """Make the client, unless somebody else has meanwhile."""
        async with self._lock:
            self.client = self.client or await self._made(make)

    async def _made(self, make: Callable[[], AsyncOpenAI]) -> AsyncOpenAI:
        from anyio import to_thread

        client = await to_thread.run_sync(make, limiter=workers())
        self._keeper = self._closed_in_the_end(client)
        await anext(self._keeper)
        return client

    async def _closed_in_the_end(self, client: AsyncOpenAI) -> AsyncIterator[None]:
        """Started and left, it closes the client when the event loop ends: loops finish the generators that are left (PEP 525)."""
        try:
            yield
        finally:
            self.client = self._keeper = None  # else they and the loop would keep each other
            await client.close()


def _down(error: Exception) -> ModeratorDown:
    return ModeratorDown(f"no answer ({type(error).__name__})")


def elsewhere(headers: Mapping[str, str | None]) -> dict[str, str | None]:
    """Headers for a service that is not OpenAI's: what the environment says for OpenAI, the SDK shall keep to itself."""
    custom = (line.partition(":")[0].strip() for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines())
    ours = {name.lower() for name in headers}
    kept = [name for name in (*_OPENAI_ONLY, *custom) if name and name.lower() not in ours]
    return {**dict.fromkeys(kept), **headers}


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
