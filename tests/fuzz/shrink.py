"""A failing request, made as small as it still fails."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.case import Case
from fuzz.judge import ORACLES, judge


async def shrunk(case: Case, oracle: str) -> Case:
    """Chunks out of body, query and header values, ever smaller ones, while the same oracle finds fault."""
    by_name = [each for each in ORACLES if each.name == oracle]
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller(case):
            if any(fault.oracle == oracle for fault in (await judge(smaller, by_name))[1]):
                case, is_smaller = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    for body in _without_chunks(case.body):
        yield case.but(body=body)
    for query in _without_chunks(case.query):
        yield case.but(query=query)
    for index, (name, value) in enumerate(case.headers):
        before, after = case.headers[:index], case.headers[index + 1 :]
        yield case.but(headers=before + after)
        for shorter in _without_chunks(value) if name != b"content-length" else ():
            yield case.but(headers=(*before, (name, shorter), *after))


def _without_chunks(data: bytes) -> Iterator[bytes]:
    size = len(data)
    while size:
        for start in range(0, len(data), size):
            yield data[:start] + data[start + size :]
        size //= 2
