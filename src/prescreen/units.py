"""Durations, sizes and actions as people write them: "2s", "1MiB", "reject"."""

from __future__ import annotations

import math
import re

from prescreen.model import Action

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "kB": 1000, "KiB": 1 << 10, "MB": 10**6, "MiB": 1 << 20, "GiB": 1 << 30}
_SPELLED = ((1, "second", 60), (60, "minute", 60), (3600, "hour", 48), (86400, "day", math.inf))
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")


def seconds(value: object) -> float:
    """Seconds, from a number of seconds or a text such as "2s" or "500ms".

    Raises ValueError for anything else, and for what is not above zero.
    """
    return _positive(value, _SECONDS, "a duration such as 2.5, '2s' or '500ms'")


def size(value: object) -> int:
    """Bytes, from a number of bytes or a text such as "64KiB" or "1MiB". Raises ValueError."""
    wanted = "a size such as 65536, '64KiB' or '1MiB'"
    number = _positive(value, _BYTES, wanted)
    if number != int(number):
        raise ValueError(f"{value!r} is not {wanted}")
    return int(number)


def spelled(duration: float) -> str:
    """Seconds in words for people, rounded up to a unit that fits: "5 minutes", "1 hour", "30 days"."""
    counted = ((max(math.ceil(duration / unit), 1), name, most) for unit, name, most in _SPELLED)
    number, name = next((number, name) for number, name, most in counted if number < most)
    return f"{number} {name}{'s' if number > 1 else ''}"


def action(value: object) -> Action:
    """An Action from itself or its name. Raises ValueError."""
    try:
        return Action(value)  # type: ignore[arg-type]  # what is no Action is the question here
    except ValueError:
        raise ValueError(f"{value!r} is not one of 'allow', 'flag' or 'reject'") from None


def _positive(value: object, units: dict[str, int] | dict[str, float], wanted: str) -> float:
    number = _number(value, units)
    if number is None or not 0 < number < math.inf:
        raise ValueError(f"{value!r} is not {wanted}")
    return number


def _number(value: object, units: dict[str, int] | dict[str, float]) -> float | None:
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value.strip())
        factor = units.get(found[2]) if found else None
        return None if found is None or factor is None else float(found[1]) * factor
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
