"""The rungs of `on_error`: who is asked in turn, for how long, and about what. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prescreen.load import STALE
from prescreen.model import Verdict

_PATIENCE: Final = 0.5  # of the time, for a moderator while there is another one to ask
_NEARLY: Final = 0.95  # of the time, for a moderator before what is kept is looked up


def shares(rungs: Sequence[str]) -> Iterator[tuple[str | None, float]]:
    """Whom to ask in turn, None the moderator itself, and their share of the time that is then left."""
    asked = (None, *rungs)
    for place, rung in enumerate(asked, start=1):
        later = asked[place:]
        yield rung, _PATIENCE if any(each != STALE for each in later) else _NEARLY if later else 1.0


def left_open(asked: Sequence[int], known: Mapping[int, Verdict]) -> Sequence[int]:
    """What whoever failed has not settled: a flag may be the word of one of several (`AnyOf`), the others' unheard."""
    return [index for place, index in enumerate(asked) if place not in known or known[place].flagged] or asked
