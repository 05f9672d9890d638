"""A store for many machines: a Redis or Valkey server. Needs the extra `redis`."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from prescreen.errors import ConfigError, StoreError
from prescreen.stores import check
from prescreen.units import seconds

T = TypeVar("T")

SCHEMES: Final[Mapping[str, str]] = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
"""What redis-py calls them."""

_CONNECTIONS: Final = 50  # in one process, if the URL does not say otherwise with max_connections
_PAGE: Final = 500
_PATTERN_CHARACTERS: Final = re.compile(r"([*?\[\]^\\-])")

# What is there, and what shall be, is "" for nothing and else the value after a "=".
_SWAP: Final = """
local held = redis.call('GET', KEYS[1])
if (held and '=' .. held or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] == '' then redis.call('SET', KEYS[1], string.sub(ARGV[2], 2))
else redis.call('SET', KEYS[1], string.sub(ARGV[2], 2), 'PX', ARGV[3]) end
return 1
"""


class RedisStore:
    """Entries of the Redis database at `url`, their keys after `prefix`.

    A call takes at most about twice `timeout` seconds, looking up the host's name apart; `scan` as much for each
    page. Options in the URL (`?socket_timeout=2`) are redis-py's and come before ours. Redis has to be told not
    to evict what shall be kept (maxmemory-policy), and forgets the last seconds in a crash (redis.io,
    "persistence"). Raises ConfigError; whether the server is there is seen with the first call.
    """

    is_local = False

    def __init__(self, url: str, timeout: float = 0.5, prefix: str = "prescreen:") -> None:
        self._redis: Any = _library()
        self._prefix = prefix
        self._url: Final = url
        self._timeout = seconds(timeout)
        self._pool: Any = self._pool_at(url)
        self._client: Any = self._redis.Redis(connection_pool=self._pool)
        self._swap: Any = self._client.register_script(_SWAP)

    def __repr__(self) -> str:
        return f"RedisStore({self._address!r})"

    def hastier(self, timeout: float) -> RedisStore:
        """The same entries, over connections of its own that wait no longer than this."""
        return RedisStore(self._url, min(timeout, self._timeout), self._prefix)

    def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """See Store."""
        check(keys)
        return self._ask(partial(self._values, keys)) if keys else []

    def put(self, values: Mapping[str, bytes], /, ttl: float) -> None:
        """See Store."""
        check(values, values.values(), ttl)

        def send() -> None:
            with self._client.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(self._prefix + key, value, px=_milliseconds(ttl))
                pipeline.execute()

        self._ask(send)

    def swap(self, key: str, old: bytes | None, new: bytes | None, /, ttl: float | None) -> bool:
        """See Store."""
        check([key], [old, new], ttl)
        arguments = [_optional(old), _optional(new), b"" if ttl is None else _milliseconds(ttl)]
        # Never sent twice: if the first was carried out and only its answer lost, the second would say "no".
        return self._ask(lambda: bool(self._swap([self._prefix + key], arguments)), tries=1)

    def scan(self, prefix: str, /) -> Iterator[tuple[str, bytes]]:
        """See Store. It goes through all keys of the database, other programs' too."""
        check([prefix])
        pattern = _PATTERN_CHARACTERS.sub(r"\\\1", self._prefix + prefix) + "*"
        found = self._ask(lambda: list(set(self._client.scan_iter(match=pattern, count=_PAGE))))
        keys = [name.decode(errors="replace").removeprefix(self._prefix) for name in found]
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            values = self._ask(partial(self._values, page))
            yield from ((key, value) for key, value in zip(page, values, strict=True) if value is not None)

    def close(self) -> None:
        """See Store."""
        self._pool.disconnect()

    def _values(self, keys: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = self._client.mget([self._prefix + key for key in keys])
        return values

    def _ask(self, command: Callable[[], T], tries: int = 2) -> T:
        """What the command returns. A kept-alive connection that proves broken at once is worth another try."""
        started = time.monotonic()
        try:
            return command()
        except self._redis.ConnectionError as error:
            is_broken = type(error) is self._redis.ConnectionError  # and no wrong password
            if is_broken and tries > 1 and time.monotonic() - started < self._timeout / 2:
                return self._ask(command, tries - 1)
            raise self._translated(error) from error
        except self._redis.ResponseError as error:
            raise self._translated(error) from None  # it may quote what was sent
        except (self._redis.RedisError, OSError, UnicodeError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> StoreError:
        if isinstance(error, self._redis.TimeoutError):
            return StoreError(f"{self._address}: no answer within {self._timeout:g} s")
        if isinstance(error, self._redis.AuthenticationError):
            return StoreError(f"{self._address}: it does not accept the name or the password")
        if isinstance(error, self._redis.ReadOnlyError) or "READONLY" in str(error):
            return StoreError(f"{self._address}: it is a replica, and only for reading")
        if isinstance(error, self._redis.ResponseError):
            return StoreError(f"{self._address}: it answered with an error ({type(error).__name__})")
        return StoreError(f"{self._address}: not reachable ({type(error).__name__})")

    @property
    def _address(self) -> str:
        """The URL without its secrets."""
        options = self._pool.connection_kwargs
        return f"redis://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"

    def _pool_at(self, url: str) -> Any:
        """Never unbounded in time: redis-py's own retries are off, and a connection begins with no more than it needs."""
        options = {
            "max_connections": _CONNECTIONS,
            "timeout": self._timeout,
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            **self._options(url),
            "retry": self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
            "encoding": "utf-8",
            "decode_responses": False,
        }
        try:
            pool = self._redis.BlockingConnectionPool(**options)
            pool.connection_class(**pool.connection_kwargs)  # connects nowhere, but knows which options there are
        except (TypeError, ValueError, self._redis.RedisError):
            raise ConfigError("store", "redis-py does not take the options in this URL (after the '?')") from None
        return pool

    def _options(self, url: str) -> dict[str, Any]:
        """What redis-py reads in the URL, which reads over an odd database and takes a `#` for the end of it."""
        scheme, colon, rest = url.partition(":")
        try:
            options: dict[str, Any] = self._redis.connection.parse_url(SCHEMES[scheme] + colon + rest)
            is_whole = "#" not in url and re.fullmatch("/?[0-9]*", urlsplit(url).path)
        except (KeyError, ValueError):
            is_whole = None
        if not is_whole:  # nothing of it is repeated: what could not be read may be the password
            problem = "write 'redis://user:password@host:6379/0', with what is special in a password percent-encoded"
            raise ConfigError("store", problem)
        return options


def _library() -> Any:
    try:
        import redis
    except ImportError as error:
        problem = f"it needs redis-py, pip install 'prescreen[redis]': {error}"
        raise ConfigError("store", problem) from error
    return redis


def _optional(value: bytes | None) -> bytes:
    return b"" if value is None else b"=" + value


def _milliseconds(ttl: float) -> int:
    return math.ceil(ttl * 1000)
