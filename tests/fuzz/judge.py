"""prescreen's flow on a request, without a server, and what is held against it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fuzz import asgi_oracles, falcon_oracles, wsgi_oracles
from fuzz.adapters import through_asgi, through_wsgi
from fuzz.case import ADAPTERS_TURN, PLACES, Case, Kind, Place, Reading
from fuzz.oracle import Oracle
from fuzz.parsers import PARSERS
from prescreen import Image, Screen, Text, Verdict
from prescreen.drive import drive_sync
from prescreen.model import Decision, Head
from prescreen.steps import Answer, Moderate, ReadBody, Step

ACCESSORS: Final = [*asgi_oracles.ORACLES, *wsgi_oracles.ORACLES, *falcon_oracles.ORACLES]
ORACLES: Final = [*PARSERS, *ACCESSORS]
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CLEAN: Final = Verdict(flagged=False)


@dataclass(frozen=True)
class Fault:
    """What went wrong: a string that a handler reads unseen, or an error that escaped."""

    oracle: str
    unseen: str

    @property
    def looks(self) -> str:
        """What may be behind it: an undecodable text, one in the wrong codec, or something else."""
        if "\ufffd" in self.unseen:
            return "replaced"
        is_latin = not self.unseen.isascii() and all(letter < "\u0100" for letter in self.unseen)
        return "recoded" if is_latin else "other"


class Lenient:
    """A moderator that finds nothing."""

    name = "lenient"

    async def moderate(self, items: Sequence[Text | Image]) -> list[Verdict]:
        return [_CLEAN] * len(items)

    def moderate_sync(self, items: Sequence[Text | Image], timeout: float) -> list[Verdict]:
        return [_CLEAN] * len(items)


SCREENS: Final = {name: Screen(rules=[place.rule], moderator=Lenient()) for name, place in PLACES.items()}

_RULED: Final = {name: (screen, screen.rules.find(Head("POST", "/chat"))) for name, screen in SCREENS.items()}
"""Every request is to one route; that the rules are found for it is left to the adapters."""


def screened(case: Case) -> tuple[Decision, list[str]]:
    """The decision on a request, and every text that the moderator was given for it."""
    seen: list[str] = []

    def perform(step: Step) -> Answer:
        if isinstance(step, ReadBody):
            return case.body
        if isinstance(step, Moderate):
            seen.extend(item.value if isinstance(item, Text) else item.url for item in step.items)
            return [_CLEAN] * len(step.items)
        # Work for a worker thread; else a report.
        run: Any = getattr(step, "run", None)
        return run() if run else None

    screen, rules = _RULED[case.place]
    head = Head("POST", "/chat", query=case.query, headers=case.headers)
    return drive_sync(screen.request_flow(rules, head), perform), seen


async def judge(case: Case, oracles: Sequence[Oracle] | None = None) -> tuple[bool, list[Fault]]:
    """Whether the request passes, and what is wrong with that. None: the oracles whose turn it is."""
    return (await judge_all([case], oracles))[0]


async def judge_all(cases: Sequence[Case], oracles: Sequence[Oracle] | None = None) -> list[tuple[bool, list[Fault]]]:
    """The same of many: one oracle reads them all before the next does, since code that is warm runs twice as fast."""
    judged = [_screening(case) for case in cases]
    met: dict[Oracle, list[int]] = {}
    for at, case in enumerate(cases):
        is_passed, faults, _ = judged[at]
        if case.turn % ADAPTERS_TURN == 0 and not faults:
            faults.extend(await _handed_on(case, is_passed=is_passed))
        if is_passed:
            due = turns(PLACES[case.place], case.turn, case.kind) if oracles is None else oracles
            for oracle in due:
                met.setdefault(oracle, []).append(at)
    for oracle, turn in met.items():
        for at in turn:
            _, faults, seen = judged[at]
            read = await oracle.strings(cases[at], PLACES[cases[at].place])
            faults += (Fault(oracle.name, text) for text in unseen(read, seen))
    return [(is_passed, faults) for is_passed, faults, _ in judged]


def _screening(case: Case) -> tuple[bool, list[Fault], list[str]]:
    try:
        decision, seen = screened(case)
    except Exception as error:  # noqa: BLE001  # any error is a finding: prescreen's answer is a decision
        return False, [Fault("prescreen raises", repr(error))], []
    return not decision.is_rejected, [], seen


async def _handed_on(case: Case, *, is_passed: bool) -> list[Fault]:
    """What the adapters make of it: the same decision, and the same bytes."""
    screen = SCREENS[case.place]
    due = case.body if is_passed else None
    faults = []
    try:
        if await through_asgi(screen, case) != due:
            faults.append(Fault("asgi", "other bytes, or another decision"))
        if is_passed and through_wsgi(screen, case) != due:
            faults.append(Fault("wsgi", "other bytes, or another decision"))
    except Exception as error:  # noqa: BLE001  # as in `judge`
        faults.append(Fault("adapter raises", repr(error)))
    return faults


def unseen(read: Sequence[str], seen: Sequence[str]) -> list[str]:
    """The strings that are no part of any moderated text. Blanks and a byte order mark say nothing."""
    texts = [text for each in read if each not in seen and (text := each.removeprefix("\ufeff")).strip()]
    missing = [text for text in texts if not any(text in each for each in seen)]
    if missing:
        plainer = [_SURROGATE.sub("\ufffd", each) for each in seen]
        missing = [text for text in missing if not any(_SURROGATE.sub("\ufffd", text) in each for each in plainer)]
    return missing


def turns(place: Place, turn: int, kind: Kind) -> Iterator[Oracle]:
    """Every parser, and accessors of some frameworks, others with every turn.

    Where the Content-Type is in question these are two, since it is they who look at that; else one every other turn.
    """
    yield from _PARSERS[place.readings]
    frameworks = _CANDIDATES[place.readings]
    for at in (2 * turn, 2 * turn + 1) if kind == "head" else (turn // 2,) if turn % 2 == 0 else ():
        candidates = frameworks[at % len(frameworks)]
        yield candidates[at // len(frameworks) % len(candidates)]


def _candidates(readings: frozenset[Reading]) -> list[list[Oracle]]:
    found: dict[str, list[Oracle]] = {}
    for oracle in ACCESSORS:
        if oracle.reading in readings:
            found.setdefault(oracle.framework, []).append(oracle)
    return list(found.values())


_CANDIDATES: Final = {place.readings: _candidates(place.readings) for place in PLACES.values()}
_PARSERS: Final = {readings: [oracle for oracle in PARSERS if oracle.reading in readings] for readings in _CANDIDATES}
