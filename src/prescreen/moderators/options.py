"""Options that several moderators take, checked when one is built. Each function raises ConfigError."""

from __future__ import annotations

import os
import re
from typing import Final

from prescreen.errors import ConfigError
from prescreen.moderators import SHORTEST_PIECE

_OFFLINE: Final = "moderator = 'keywords' to try prescreen offline (it catches phrases, not meaning)"


def key(api_key: str | None, variable: str, instead: str = _OFFLINE) -> str:
    """An API key, or the environment's where it is None; `instead` is what one without may write."""
    found = os.environ.get(variable, "") if api_key is None else api_key
    if not found:
        raise ConfigError("api_key", f"there is no API key; set {variable}, or write {instead}")
    if not isinstance(found, str) or not found.isascii() or not found.isprintable() or " " in found:
        raise ConfigError("api_key", "the API key has blanks, line ends or non-ASCII characters in it")
    return found


def address(value: str | None, variable: str, default: str = "", *, option: str = "base_url") -> str:
    """An address without a slash at its end: the value, or else the environment's, or else the default."""
    found = value or os.environ.get(variable) or default
    example = default or "https://my-resource.example.com"
    if not found:
        raise ConfigError(option, f"there is no address; set {variable}, or write for example {example!r}")
    if not isinstance(found, str) or not re.match(r"https?://[^/\s]", found):
        raise ConfigError(option, f"{found!r} is no address; write for example {example!r}")
    return found.rstrip("/")


def model_name(value: object, example: str) -> str:
    """The name of a model."""
    if not isinstance(value, str) or not value:
        raise ConfigError("model", f"{value!r} is no model's name; write for example {example!r}")
    return value


def longest(value: object, most: int | None = None) -> int:
    """The most characters of a piece; `most` is what the service takes, None for who knows."""
    if type(value) is not int or value < SHORTEST_PIECE or (most is not None and value > most):
        upto = "" if most is None else f" and at most {most}"
        raise ConfigError("max_characters", f"{value!r} is no number of at least {SHORTEST_PIECE}{upto}")
    return value


def names(value: object, option: str) -> tuple[str, ...]:
    """A list of names."""
    if isinstance(value, list | tuple) and all(isinstance(name, str) and name.strip() for name in value):
        return tuple(value)
    raise ConfigError(option, f"{value!r} is no list of names, as in ['first', 'second']")
