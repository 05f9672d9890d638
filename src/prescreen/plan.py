"""What a screen's settings come to, as the flow needs it, and what they make of texts. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from sys import getsizeof
from typing import Final

from prescreen.document import Limits
from prescreen.errors import Oversize
from prescreen.load import Room
from prescreen.memory import Memory
from prescreen.model import Action, Head, Item, Mode, Subject, Text, Verdict
from prescreen.policy import Policy
from prescreen.readings import readings
from prescreen.strikes import Strikes
from prescreen.target import Found, Framing, Target, Targets, size_of

_SMALL: Final = 8 << 10  # bytes of a body
_SMALL_ENTRY: Final = 16 << 10  # bytes of a body, of what is found in it, and of that in all readings
_READINGS: Final = 4  # times what a request may send: as sent, folded, joined with blanks and without


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides, compiled once and shared by all requests.

    `longest` is the most characters of one text that the moderator takes, None for any number. `find_subject`
    and `strikes` are None where nobody asks who it was; `has_lists` says that texts may be on lists. `rungs` are tried in
    order when the moderator has failed, before `on_error` decides: "stale", or another moderator's name. `recall` gives the
    moderator's verdicts on what was asked where they are at hand for all of it, without waiting for anything, else None.
    """

    targets: Targets
    policy: Policy
    limits: Limits
    mode: Mode
    on_error: Action
    deadline: float
    receive_timeout: float
    moderator: str
    longest: int | None = None
    find_subject: Callable[[Head], Subject | None] | None = None
    strikes: Strikes | None = None
    has_lists: bool = False
    on_store_error: Action = Action.ALLOW
    rungs: Sequence[str] = ()
    room: Room = field(default_factory=lambda: Room(1 << 30))
    recall: Callable[[Found], Sequence[Verdict] | None] = field(default=lambda _: None, repr=False)
    found: Memory[Found] = field(default_factory=partial(Memory, _SMALL_ENTRY), repr=False, compare=False)

    def known(self, framing: Framing, body: bytes) -> Found | None:
        """What is in a body, where the same has been read lately."""
        return self.found.get((framing, body)) if len(body) <= _SMALL else None

    def find(self, framing: Framing, body: bytes) -> Found:
        """What is in a body, and is to be asked; remembered where all that is small. Raises RequestError.

        Where there are lists, they have their say before anything is made of the texts.
        """
        found = self.targets.find(framing, body)
        if not self.has_lists:
            found.asked = self.in_all_readings(framing.target, found.items)
        size = size_of(found.items)
        readings_size = size * _READINGS if found.asked is None else size_of(found.asked)
        return self.found.keep((framing, body), found, getsizeof(body) + size + readings_size)

    def in_all_readings(self, target: Target | None, items: Sequence[Item]) -> Sequence[Item]:
        """What the moderator is to be asked about the items. Raises Oversize, for a request (`target`)."""
        asked = readings(items, self.longest, join=target is not None and target.join)
        if target is None:
            return asked
        most = _READINGS * self.limits.characters
        if characters(asked) > most:
            raise Oversize(f"the texts have more than {most} characters in all their readings")
        return asked


def characters(items: Iterable[Item]) -> int:
    """Of all the texts."""
    return sum(len(item.value) for item in items if isinstance(item, Text))
