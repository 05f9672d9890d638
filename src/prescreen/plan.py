"""What a screen's settings come to, as the flow needs it. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from prescreen.document import Limits
from prescreen.load import Room
from prescreen.memory import Memory
from prescreen.model import Action, Head, Item, Mode, Subject
from prescreen.policy import Policy
from prescreen.strikes import Strikes
from prescreen.target import Targets

_SMALL: Final = 7 << 10  # bytes of texts in all their readings


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides, compiled once and shared by all requests.

    `longest` is the most characters of one text that the moderator takes, None for any number. `find_subject`
    and `strikes` are None where nobody asks who it was; `has_lists` says that texts may be on lists. `rungs` are tried in
    order when the moderator has failed, before `on_error` decides: "stale", or another moderator's name.
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
    asked: Memory[Sequence[Item]] = field(default_factory=partial(Memory, _SMALL), repr=False, compare=False)
