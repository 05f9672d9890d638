"""HTTP to a service: the clients, the time, the one retry, the errors.

The HTTP client is the one that the OpenAI SDK brings and sets up (httpx, which it runs on aiohttp if you like), whoever is asked:
the layers of the SDK above it would cost more than the rest of a call, and build objects that nobody here wants.
The SDK is imported when a moderator is built (it costs about 0.6 s), and so is a first client (0.1 s). There is one for
each process, because a client shared over fork() can hand one request the answer to another, and one
for each event loop, because an async client dies with its loop.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final
from weakref import finalize

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

_JSON: Final = {"accept": "application/json", "content-type": "application/json"}
_LONGEST_ANSWER: Final = 8 << 20  # bytes; a full answer of a moderation endpoint is about 1.2 kB for each item
_LONGEST_WAIT: Final = 60.0  # seconds; only a backstop, the screen's deadline cuts earlier

# Of httpx or httpx2, whichever the SDK uses.
AsyncClient = Any
Client = Any
URL = Any


class Service:
    """An address that takes JSON by POST.

    `headers` go onto every request, and `query` into every URL. Redirects are not followed: they would carry the key and
    the texts to an address that nobody configured.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], query: Mapping[str, str] | None = None) -> None:
        self._sdk, self._base_url, self._query = _sdk(), base_url, query
        self._options: Final = {
            "base_url": base_url,
            "headers": {**_JSON, **headers},
            "timeout": _LONGEST_WAIT,
            "follow_redirects": False,
        }
        self._urls: dict[str, URL] = {}
        self._async_clients: Final = PerLoop(_Opened)
        # Now, and not while somebody waits for it; unless this process forks before it serves.
        try:
            self._sync_client: tuple[int, Client] = (os.getpid(), self._made())
        except Exception as error:  # whatever the client makes of an address
            raise ConfigError("", f"{base_url!r} is no address ({type(error).__name__})") from error

    async def post(self, path: str, payload: Mapping[str, object]) -> bytes:
        """The body of the answer, cut off where no sane one is as long. Raises ModeratorError."""
        client, url, content = await self._client(), self._url(path), encoded(payload)
        started = time.monotonic()
        for is_last in (False, True):
            try:
                async with client.stream("POST", url, content=content) as response:
                    body = await _body(response)
            except Exception as error:
                # Nobody waits as long as the client may take: what it calls a timeout is aiohttp's word for a dropped connection.
                is_drop = _is_timeout(error) and time.monotonic() - started < _LONGEST_WAIT
                if is_last or not (is_drop or _was_dropped(error)):
                    raise _down(error) if is_drop else _translated(error) from error
            else:
                return _answer(response, body)
        raise AssertionError  # the last round returns or raises

    def post_sync(self, path: str, payload: Mapping[str, object], deadline: float) -> bytes:
        """The same, blocking, until about `deadline` on the monotonic clock."""
        client, url, content = self._client_sync(), self._url(path), encoded(payload)
        for is_last in (False, True):
            try:
                with (
                    until(deadline),
                    client.stream("POST", url, content=content, timeout=_left(deadline)) as response,
                ):
                    body = _body_sync(response, deadline)
            except Exception as error:
                if is_last or time.monotonic() >= deadline or not _was_dropped(error):
                    raise _translated(error) from error
            else:
                return _answer(response, body)
        raise AssertionError  # the last round returns or raises

    def _url(self, path: str) -> URL:
        """The whole address, taken apart: the client would do that anew for each request."""
        if path not in self._urls:
            self._urls[path] = self._sync_client[1].build_request("POST", path, params=self._query).url
        return self._urls[path]

    async def _client(self) -> AsyncClient:
        opened = self._async_clients.get()
        if opened.client is None:
            await opened.open(partial(self._made_async, is_asyncio=asyncio_loop() is not None))
        return opened.client

    def _made_async(self, *, is_asyncio: bool) -> AsyncClient:
        """A client, on aiohttp where that is installed (`openai[aiohttp]`): it takes half the CPU."""
        if is_asyncio:
            with suppress(AttributeError, RuntimeError):  # an SDK without it, or aiohttp is missing
                return self._sdk.DefaultAioHttpClient(**self._options)
        return self._sdk.DefaultAsyncHttpxClient(**self._options)

    def _client_sync(self) -> Client:
        with _making:
            if self._sync_client[0] != os.getpid():
                self._sync_client = (os.getpid(), self._made())
        return self._sync_client[1]

    def _made(self) -> Client:
        client = self._sdk.DefaultHttpxClient(**self._options)
        make_timely(client)
        finalize(self, client.close)
        return client


_making: Final = lock_over_forks()


class _Opened:
    """One event loop's client, or the making of it: in a thread, since it takes a while, and once for all who wait."""

    def __init__(self) -> None:
        from anyio import Lock

        self.client: AsyncClient = None
        self._keeper: AsyncIterator[None] | None = None
        self._lock = Lock()

    async def open(self, make: Callable[[], AsyncClient]) -> None:
        """Make the client, unless somebody else has meanwhile."""
        async with self._lock:
            self.client = self.client or await self._made(make)

    async def _made(self, make: Callable[[], AsyncClient]) -> AsyncClient:
        from anyio import to_thread

        client = await to_thread.run_sync(make, limiter=workers())
        self._keeper = self._closed_in_the_end(client)
        await anext(self._keeper)
        return client

    async def _closed_in_the_end(self, client: AsyncClient) -> AsyncIterator[None]:
        """Started and left, it closes the client when the event loop ends: loops finish the generators that are left (PEP 525)."""
        try:
            yield
        finally:
            self.client = self._keeper = None  # else they and the loop would keep each other
            await client.aclose()


def _down(error: Exception) -> ModeratorDown:
    return ModeratorDown(f"no answer ({type(error).__name__})")


def openai_headers(key: str) -> dict[str, str]:
    """What OpenAI is to be told: the key, and what the environment says to the SDK of organization, project and custom headers.

    Raises ConfigError for a header that cannot be sent.
    """
    with _sdk().OpenAI(api_key="in the headers", base_url="https://api.openai.com/v1") as client:
        told = {name.lower(): value for name, value in client.default_headers.items() if isinstance(value, str)}
    # Of the machine no service needs to know, and the key is ours to say.
    asked = {name: value for name, value in told.items() if not name.startswith(("x-stainless-", "authorization"))}
    for name, value in asked.items():
        if not f"{name}{value}".isascii() or not f"{name}{value}".isprintable():
            raise ConfigError(
                "",
                f"the header {name!r} cannot be sent: it has line ends or non-ASCII characters in it; "
                "see OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS in the environment",
            )
    return asked | bearer(key)


def bearer(key: str) -> dict[str, str]:
    """The header of a key; none for the empty one."""
    return {"authorization": f"Bearer {key}"} if key else {}


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


async def _body(response: Any) -> bytearray:
    """The body of an answer. Of one that says no by its status it is as much as there is to be had."""
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            _append(body, chunk)
    except Exception:
        if response.is_success:
            raise
    return body


def _body_sync(response: Any, deadline: float) -> bytearray:
    """The same, blocking."""
    body = bytearray()
    try:
        for chunk in response.iter_bytes():
            _append(body, chunk)
            _left(deadline)
    except Exception:
        if response.is_success:
            raise
    return body


def _answer(response: Any, body: bytearray) -> bytes:
    """The body of an answer that is one. Raises ModeratorError for any other."""
    if response.is_success:
        return bytes(body)
    raise _failed(response.status_code, _code(body), response.headers.get("retry-after"))


def _code(body: bytearray) -> object:
    """What a service calls its error. What else it says of it is left behind: that may quote the request."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = said.get("error", said) if isinstance(said, dict) else None
    return error.get("code") if isinstance(error, dict) else None


def encoded(payload: Mapping[str, object]) -> bytes:
    """The payload as JSON. Raises ModeratorDown for what JSON has no word for, such as a date or NaN."""
    try:
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # it holds what was to be sent
        raise ModeratorDown(f"what it was to be asked is no JSON ({type(error).__name__})") from None


def _append(body: bytearray, chunk: bytes) -> None:
    """Keep no more than anyone could want. What is over it makes the JSON end early, and so a BadVerdict."""
    body += chunk[: _LONGEST_ANSWER - len(body)]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ModeratorTimeout("no answer in time")
    return left


def _was_dropped(error: Exception) -> bool:
    """Whether a kept-alive connection was closed under us: worth one more try, at once."""
    return _is_named(error, "TransportError") and not _is_timeout(error)


def _is_timeout(error: Exception) -> bool:
    return _is_named(error, "TimeoutException")


def _translated(error: Exception) -> ModeratorError:
    """The client's error as ours. Its message is left behind."""
    if isinstance(error, ModeratorError):
        return error
    return ModeratorTimeout("no answer in time") if _is_timeout(error) else _down(error)


def _is_named(error: Exception, name: str) -> bool:
    """Whether it is such an error of httpx or httpx2, whichever the SDK uses."""
    return any(kind.__name__ == name and kind.__module__.startswith("httpx") for kind in type(error).__mro__)


def _sdk() -> Any:
    try:
        import openai
    except ImportError as error:
        raise ConfigError("", "the openai package is missing; run: pip install 'openai>=2,<4'") from error
    return openai
