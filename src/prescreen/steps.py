"""What the flow wishes for. A driver performs each step and sends the answer that its docstring names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from prescreen.model import Decision, Item, Record, Subject

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Read the whole body. Answer: bytes.

    Throws Oversize past `limit` bytes, Slow after `timeout` seconds (None: no limit, and none on
    WSGI, where the server sees to it), Incomplete, LengthRequired, ClientGone.
    """

    limit: int
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Moderate:
    """Judge every item within `timeout` seconds. Answer: as many Verdicts, in the same order.

    `rung` is whom to ask: None the moderator, "stale" what it once said, else another moderator's name. Throws
    ModeratorError.
    """

    items: Sequence[Item]
    timeout: float
    rung: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Do this, which takes time in proportion to `size` bytes. Answer: what it returns. Throws what it raises.

    `run` does no I/O. Where nothing else could happen meanwhile, as in an event loop, a large piece belongs in a thread.
    """

    run: Callable[[], object]
    size: int


@dataclass(frozen=True, slots=True)
class Recall:
    """How does this subject stand? Answer: a Standing. Throws StoreError."""

    subject: Subject
    timeout: float


@dataclass(frozen=True, slots=True)
class AddStrike:
    """Hold `decision` against its subject. Answer: the Standing after it. Throws StoreError."""

    subject: Subject
    decision: Decision
    weight: float
    timeout: float


@dataclass(frozen=True, slots=True)
class LookUp:
    """Which of these texts are on a list? Answer: a dict of those that are, True for allowed, False for denied.

    Throws StoreError.
    """

    texts: Sequence[str] = field(repr=False)
    timeout: float


@dataclass(frozen=True, slots=True)
class Report:
    """Put the decision on record. Answer: None.

    `store_problem` is the record's. The record itself is made where somebody wants it, by `make`.
    """

    decision: Decision
    store_problem: str | None
    make: Callable[[], Record]

    @property
    def record(self) -> Record:
        """The trace of the decision."""
        return self.make()


Step = ReadBody | Work | Moderate | Recall | AddStrike | LookUp | Report
Answer = object

Flow = Generator[Step, Answer, T]
"""It yields steps, is sent their answers, and returns a T."""
