"""JSON Pointers (RFC 6901), made only for what comes out of a walk."""

from __future__ import annotations

from typing import Final

from prescreen.errors import Oversize

Chain = tuple["Chain", str | int] | None
"""Where a value lies: the chain of its container and its own token; None for the whole document."""

_LONGEST: Final = 4_096  # characters; the names in it are the client's


def pointer(chain: Chain) -> str:
    """The pointer to what lies at `chain`. Raises Oversize where the names in it are too long."""
    tokens: list[str] = []
    while chain is not None:
        chain, token = chain
        tokens.append(str(token))
    if sum(map(len, tokens)) > _LONGEST:
        raise Oversize(f"a text lies under names of more than {_LONGEST} characters")
    return "".join(f"/{escape(token)}" for token in reversed(tokens))


def escape(name: str) -> str:
    """A name as a token of a pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")
