"""Who sent a request: from its head to a keyed hash of the app's own id for the end user. No I/O.

The id itself never leaves this module's callers: what is kept, logged and sent to a provider is the hash.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
from base64 import b32encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from prescreen.errors import ConfigError, raised_at
from prescreen.model import Head, Subject

Finder = Callable[[Head], str | None]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX: Final = "unix"
"""Among the trusted proxies: whoever connects to the server's Unix socket."""

HASH: Final = re.compile("[A-Z2-7]{4}-[A-Z2-7]{52}")
"""What a subject's hash looks like."""

_SHORTEST_SECRET: Final = 16  # characters; less can be guessed from a hash of a known id
_LONGEST_COOKIES: Final = 64 << 10  # characters; servers allow more, and browsers never send as many
_ESCAPED: Final = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")
_HOPS: Final = 64  # addresses of X-Forwarded-For that are looked at

logger: Final = logging.getLogger("prescreen")


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets that ids are hashed with: the one in use, and older ones that strikes may still be kept under.

    Raises ConfigError for a secret of less than 16 characters.
    """

    secret: str = field(repr=False)
    previous: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for key, secret in (("secret", self.secret), *(("previous_secrets", each) for each in self.previous)):
            try:
                secret.encode()
            except UnicodeEncodeError:
                raise ConfigError(key, "it is no text in UTF-8") from None
            if len(secret) < _SHORTEST_SECRET:
                raise ConfigError(
                    key,
                    f"it has less than {_SHORTEST_SECRET} characters; write 32 random bytes, as `openssl rand -hex 32` prints them",
                )

    def subject(self, identifier: str) -> Subject:
        """The subject with this id."""
        first, *rest = (_hashed(secret, identifier) for secret in (self.secret, *self.previous))
        return Subject(first, tuple(rest))

    def digests(self, purpose: str, text: str) -> list[str]:
        """Keyed digests of a text, under the secret in use first; they say nothing of it to whoever has no secret."""
        return [_mac(secret, f"{purpose}\0{text}") for secret in (self.secret, *self.previous)]


def _hashed(secret: str, identifier: str) -> str:
    """HMAC-SHA256 (RFC 2104) in base32 (RFC 4648), behind four characters that tell the secrets apart: 57 in all."""
    return f"{_mac(secret, 'prescreen key version')[:4]}-{_mac(secret, identifier)}"


def _mac(secret: str, text: str) -> str:
    digest = hmac.digest(secret.encode(), text.encode("utf-8", "surrogatepass"), sha256)
    return b32encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Subjects:
    """Finds the subject of a request: the first of `finders` that knows one. Without a subject it is anonymous."""

    keys: Keys
    finders: Sequence[Finder]

    def of(self, head: Head) -> Subject | None:
        """The subject of a request; None for an anonymous one."""
        identifier = next(filter(None, (_asked(finder, head) for finder in self.finders)), None)
        return self.keys.subject(identifier) if identifier else None


def _asked(finder: Finder, head: Head) -> str | None:
    """What a finder says; one that fails finds nobody, and says so in the log without its message."""
    try:
        found = finder(head)
    except Exception as error:  # noqa: BLE001  # who sent it is not worth a request
        logger.error("the subject could not be found: it raised %s%s", type(error).__name__, raised_at(error))  # noqa: TRY400  # the trace may quote the user
        return None
    if found is None or isinstance(found, str):
        return found
    logger.error("the subject could not be found: it is %s, not str or None", type(found).__name__)
    return None


def finder(source: object, proxies: Iterable[str] = ()) -> Finder:
    """A finder, from a callable, or from a text as configurations have it. Raises ConfigError.

    `"header:x-user-id"`, `"cookie:session"`, `"client"` (the address; `proxies` are the networks whose
    X-Forwarded-For is believed), `"state:user.id"` (in the ASGI scope, its `state`, or the WSGI environ).

    What clients can choose is an id with its kind before it ("cookie:abc", "client:192.0.2.7"): nobody can pass for one of the
    app's own ids, which are as they are.
    """
    if callable(source):
        return source  # what it gives is looked at when it gives it
    kind, _, name = source.partition(":") if isinstance(source, str) else ("", "", "")
    if kind == "client" and not name:
        return _Client(tuple(_networks(proxies)), UNIX in proxies)
    kinds: Mapping[str, Callable[[str], Finder]] = {"header": _Header, "cookie": _Cookie, "state": _State}
    made = kinds.get(kind)
    if made is None or not name:
        raise ConfigError(
            "subject", f"{source!r} names nobody; write 'header:NAME', 'cookie:NAME', 'state:NAME' or 'client'"
        )
    return made(name.lower() if kind == "header" else name)


@dataclass(frozen=True, slots=True)
class _Header:
    name: str

    def __call__(self, head: Head) -> str | None:
        # Of a repeated header none can be left out: WSGI servers join them, too.
        return b",".join(head.all(self.name.encode("latin-1"))).decode("latin-1").strip() or None


@dataclass(frozen=True, slots=True)
class _Cookie:
    """The last cookie of that name, as most frameworks read them: trimmed, and without quotes and escapes."""

    name: str

    def __call__(self, head: Head) -> str | None:
        cookies = b";".join(head.all(b"cookie")).decode("latin-1")
        if len(cookies) > _LONGEST_COOKIES:
            return None
        split = (pair.partition("=") for pair in cookies.split(";"))
        found = [value.strip() for name, _, value in split if name.strip() == self.name]
        return f"cookie:{_unquoted(found[-1])}" if found and found[-1] else None


def _unquoted(value: str) -> str:
    """A cookie's value; the escapes are those that Python's own reader undoes (RFC 2068, section 2.2, and octal)."""
    if len(value) < 2 or not (value[0] == value[-1] == '"'):
        return value
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)) if found[1] else found[2], value[1:-1])


@dataclass(frozen=True, slots=True)
class _State:
    name: str

    def __call__(self, head: Head) -> str | None:
        inner = head.state.get("state")
        for holder in (inner, head.state):
            found = _reached(holder, self.name.split("."))
            if isinstance(found, str | int | UUID) and not isinstance(found, bool):
                return str(found)
        return None


def _reached(holder: Any, names: Sequence[str]) -> object:
    """What a dotted name leads to, through keys and attributes; a key may have dots of its own, as in an environ."""
    if not names or holder is None:
        return holder
    if not isinstance(holder, Mapping):
        return _reached(getattr(holder, names[0], None), names[1:])
    keys = (".".join(names[:end]) for end in range(len(names), 0, -1))
    key = next((key for key in keys if key in holder), None)
    return None if key is None else _reached(holder[key], names[key.count(".") + 1 :])


@dataclass(frozen=True, slots=True)
class _Client:
    """The address behind the trusted proxies: the nearest hop that is none of them."""

    trusted: tuple[Network, ...]
    trusts_unix: bool

    def __call__(self, head: Head) -> str | None:
        found = None if head.client is None else _address(head.client)
        if found is None and not (head.client is None and self.trusts_unix):
            return None
        for hop in _hops(head):
            if found is not None and not any(found in network for network in self.trusted):
                break
            address = _address(hop)
            if address is None:
                break  # whoever wrote that is not to be believed any further
            found = address
        return None if found is None else f"client:{_household(found)}"


def _hops(head: Head) -> Iterator[str]:
    """The addresses of X-Forwarded-For, nearest first."""
    forwarded = b",".join(head.all(b"x-forwarded-for")).decode("latin-1")
    yield from forwarded.rsplit(",", _HOPS)[:0:-1] if forwarded.count(",") >= _HOPS else forwarded.split(",")[::-1]


def _address(text: str) -> Address | None:
    """An address, with or without a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _household(address: Address) -> str:
    """The address, of IPv6 its /64: that is what one subscriber gets, and its devices change the rest at will (RFC 8981)."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def _networks(proxies: Iterable[str]) -> Iterator[Network]:
    for each in proxies:
        if each == UNIX:
            continue
        try:
            yield ipaddress.ip_network(each)
        except ValueError:
            raise ConfigError(
                "trusted_proxies", f"{each!r} is no address or network; write for example '10.0.0.0/8', or 'unix'"
            ) from None
