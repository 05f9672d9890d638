"""Many bodies, judged and counted."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from multiprocessing import get_context
from time import monotonic, process_time_ns
from types import ModuleType
from typing import Any, Final

from fuzz.bodies import case
from fuzz.case import Case, Kind
from fuzz.judge import Fault, judge_all
from prescreen import decode, readings
from prescreen.decode import forms, media
from prescreen.paths import fields

BATCH: Final = 2_000
_REMEMBERED: Final = 1 << 13
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
    milliseconds: Counter[Kind] = field(default_factory=Counter)
    faults: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    kept: list[tuple[Case, Fault]] = field(default_factory=list)

    def add(self, other: Tally) -> list[tuple[Case, Fault]]:
        """Add another tally; what of its findings is new."""
        new = [(case, fault) for case, fault in other.kept if self.faults[_signature(case, fault)] < _KEPT]
        self.bodies += other.bodies
        self.passed += other.passed
        self.milliseconds += other.milliseconds
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
    tally, started = Tally(), process_time_ns()
    cases = [case(kind, seed) for seed in range(first, first + number)]
    for one, (is_passed, faults) in zip(cases, await judge_all(cases), strict=True):
        tally.bodies[kind] += 1
        tally.passed[kind] += is_passed
        for fault in {fault.oracle: fault for fault in faults}.values():
            tally.faults[_signature(one, fault)] += 1
            if tally.faults[_signature(one, fault)] <= _KEPT:
                tally.kept.append((one, fault))
    tally.milliseconds[kind] = (process_time_ns() - started) // 10**6
    return tally


def endless(kinds: Sequence[Kind], seed: int, minutes: float) -> Iterator[Batch]:
    """Batches until the time is up: as many of each kind, however long one takes."""
    end = monotonic() + minutes * 60
    for first in count(seed, BATCH):
        if monotonic() >= end:
            return
        yield from ((kind, first, BATCH) for kind in kinds)


def numbered(kinds: Sequence[Kind], seed: int, bodies: int) -> Iterator[Batch]:
    """The same for so many bodies of each kind."""
    for first in range(seed, end := seed + bodies, BATCH):
        yield from ((kind, first, min(BATCH, end - first)) for kind in kinds)


def _settle() -> None:
    """The frameworks are here to stay: nobody needs to look for garbage in them."""
    gc.collect()
    gc.freeze()


def in_parallel(batches: Iterator[Batch], processes: int) -> Iterator[Tally]:
    """The tally of each batch as it comes; never more batches under way than processes can use."""
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_settle) as pool:
        running = {pool.submit(run_batch, batch) for _, batch in zip(range(2 * processes), batches, strict=False)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                running |= {pool.submit(run_batch, batch) for _, batch in zip("1", batches, strict=False)}
