"""What of a question is open, answered, or late; and asking a store in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from prescreen.errors import ModeratorError, ModeratorTimeout
from prescreen.model import Image, Item, Verdict
from prescreen.steps import Moderate
from prescreen.threads import limiter
from prescreen.traffic.tickets import Heard, Known

T = TypeVar("T")
Keys = Mapping[int, str | None]

_THREADS: Final = 40  # per event loop, for a shared store


def still_open(keys: Keys, known: Known) -> dict[int, str | None]:
    """The keys of the items, by their index, that are without a verdict."""
    return {index: key for index, key in keys.items() if index not in known}


def is_link(item: Item) -> bool:
    """Whether it is behind a link: what is there, and how long it takes to come, is up to others."""
    return isinstance(item, Image) and item.url[:5].lower() != "data:"


def answered(items: Sequence[Item], verdicts: Sequence[Verdict], took: float) -> Heard:
    """What was heard of a call that took so many seconds, which say nothing of the next one where a link was behind it."""
    return Heard(dict(enumerate(verdicts)), took=None if any(map(is_link, items)) else took)


def late(step: Moderate) -> ModeratorTimeout:
    """What went wrong where nothing came in time."""
    return ModeratorTimeout(f"no verdict within {step.timeout:.3g} s")


def every(known: Mapping[int, Verdict], count: int, error: ModeratorError | None) -> list[Verdict]:
    """Every verdict, in order. Raises the error, with those that are there, where one is missing."""
    if len(known) < count:
        assert error is not None
        raise error.anew(known) from error
    return [known[index] for index in range(count)]


def unless_failed(heard: Heard) -> list[Verdict]:
    """Every verdict, in order. Raises the error even where all have one: of several members one flagged, another failed."""
    if heard.error is not None:
        raise heard.error
    return list(heard.known.values())


async def in_thread(call: Callable[..., T], *arguments: object) -> T:
    """Call it in one of the threads for shared stores, and leave it there if it is not waited for any longer."""
    from anyio import to_thread

    return await to_thread.run_sync(call, *arguments, abandon_on_cancel=True, limiter=limiter("verdicts", _THREADS))
