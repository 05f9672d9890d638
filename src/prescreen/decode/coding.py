"""Compressed bodies, unpacked within bounds."""

from __future__ import annotations

import zlib
from typing import Final

from prescreen.errors import Oversize, Unreadable

_GZIP: Final = 16 + zlib.MAX_WBITS  # the format of RFC 1952, and no other
_RATIO: Final = 100  # times its own size, which honest JSON does not reach; deflate itself could do 1,030
_ALWAYS: Final = 64 << 10  # bytes that a body may unpack to whatever its ratio


def gunzip(body: bytes, limit: int) -> bytes:
    """The bytes in one gzip member. Raises Oversize past `limit` bytes or a bomb's ratio, Unreadable."""
    most = min(limit, max(_ALWAYS, _RATIO * len(body)))
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise Unreadable("the body is not gzip, as its Content-Encoding says") from error
    if len(plain) > most:
        raise Oversize(f"the body unpacks to more than {most} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise Unreadable("the body is not one whole gzip member")
    return plain
