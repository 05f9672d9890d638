"""A failing request, made as small as it still fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fuzz.case import Case
from fuzz.judge import ORACLES, Fault, judge


async def shrunk(case: Case, fault: Fault) -> tuple[Case, Fault]:
    """Ever smaller chunks out of body, query and header values, while the same oracle finds fault."""
    oracles = [each for each in ORACLES if each.name == fault.oracle]

    async def fails(smaller: Case) -> bool:
        return any(each.oracle == fault.oracle for each in (await judge(smaller, oracles))[1])

    before = None
    while before != case:
        before = case
        case = await _with_short(case, "body", fails)
        case = await _with_short(case, "query", fails)
        for index, (name, _) in enumerate(case.headers):
            case = case if name == b"content-length" else await _with_short_header(case, index, fails)
    _, faults = await judge(case, oracles)
    return case, next((each for each in faults if each.oracle == fault.oracle), fault)


async def _with_short(case: Case, part: str, fails: Callable[[Case], Awaitable[bool]]) -> Case:
    return case.but(**{part: await _shortest(getattr(case, part), lambda data: fails(case.but(**{part: data})))})


async def _with_short_header(case: Case, index: int, fails: Callable[[Case], Awaitable[bool]]) -> Case:
    name, value = case.headers[index]

    def having(shorter: bytes) -> Case:
        return case.but(headers=(*case.headers[:index], (name, shorter), *case.headers[index + 1 :]))

    return having(await _shortest(value, lambda shorter: fails(having(shorter))))


async def _shortest(data: bytes, fails: Callable[[bytes], Awaitable[bool]]) -> bytes:
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if await fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
