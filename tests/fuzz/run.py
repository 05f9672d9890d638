"""Many bodies, judged and counted."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, cycle
from multiprocessing import get_context
from time import monotonic
from types import ModuleType
from typing import Any, Final

from fuzz.bodies import case
from fuzz.case import Case, Kind
from fuzz.judge import Fault, judge
from prescreen import decode, readings
from prescreen.decode import forms, media
from prescreen.paths import fields

BATCH: Final = 500
_REMEMBERED: Final = 1 << 12
_PURE: Final[Sequence[tuple[ModuleType, str]]] = (
    (readings, "folded"),
    (decode, "unquoted"),
    (forms, "unquoted"),
    (fields, "unquoted"),
    (media, "_parse"),
)
_MEMORY: Final[dict[Any, Any]] = {}
_KEPT: Final = 2  # findings that look alike; the others are counted
Batch = tuple[Kind, int, int]
"""A kind, a first seed and a number of bodies."""


@dataclass
class Tally:
    """What came of some bodies."""

    bodies: Counter[Kind] = field(default_factory=Counter)
    passed: Counter[Kind] = field(default_factory=Counter)
    faults: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    kept: list[tuple[Case, Fault]] = field(default_factory=list)

    def add(self, other: Tally) -> list[tuple[Case, Fault]]:
        """Add another tally; what of its findings is new."""
        new = [(case, fault) for case, fault in other.kept if self.faults[_signature(case, fault)] < _KEPT]
        self.bodies += other.bodies
        self.passed += other.passed
        self.faults += other.faults
        return new


def _signature(case: Case, fault: Fault) -> tuple[str, str, str]:
    return case.kind, fault.oracle, fault.looks


def run_batch(batch: Batch) -> Tally:
    """Judge one batch of bodies."""
    logging.disable(logging.CRITICAL)  # what frameworks and prescreen have to say of each refusal
    try:
        with remembering():
            return asyncio.run(tally_of(batch))
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def remembering() -> Iterator[None]:
    """What prescreen makes of a text, and of nothing else, it makes once of each text: they come again and again."""
    originals = [(module, name, getattr(module, name)) for module, name in _PURE]
    for module, name, original in originals:
        setattr(module, name, _MEMORY.setdefault(original, lru_cache(_REMEMBERED)(original)))
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


async def tally_of(batch: Batch) -> Tally:
    kind, first, number = batch
    tally = Tally()
    for seed in range(first, first + number):
        one = case(kind, seed)
        is_passed, faults = await judge(one)
        tally.bodies[kind] += 1
        tally.passed[kind] += is_passed
        for fault in {fault.oracle: fault for fault in faults}.values():
            tally.faults[_signature(one, fault)] += 1
            if tally.faults[_signature(one, fault)] <= _KEPT:
                tally.kept.append((one, fault))
    return tally


def endless(kinds: Iterable[Kind], seed: int, minutes: float) -> Iterator[Batch]:
    """Batches of each kind in turn until the time is up."""
    end = monotonic() + minutes * 60
    each = cycle(kinds)
    for first in count(seed, BATCH):
        if monotonic() >= end:
            return
        yield next(each), first, BATCH


def in_parallel(batches: Iterator[Batch], processes: int) -> Iterator[Tally]:
    """The tally of each batch as it comes; never more batches under way than processes can use."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        running = {pool.submit(run_batch, batch) for _, batch in zip(range(2 * processes), batches, strict=False)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                running |= {pool.submit(run_batch, batch) for _, batch in zip("1", batches, strict=False)}
