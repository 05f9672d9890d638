"""`POST /v1/moderations`, as OpenAI and those who speak like it have it: the calls, and what the answers say.

Answers are validated here and not by the SDK, whose lenient reading takes garbage for an answer and costs
twenty times as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from prescreen.errors import BadVerdict
from prescreen.load import LARGEST_CALL
from prescreen.model import Item, Text, Verdict
from prescreen.moderators.service import Call, sendable

T = TypeVar("T")

PATH: Final = "/moderations"

# OpenAI's moderation guide; an answer that says itself what it looked at is believed.
_TEXT_ONLY: Final = frozenset(
    {"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "sexual/minors"}
)


def text_calls(model: str, items: Sequence[Item]) -> Iterator[Call]:
    """Calls about all the texts among the items, as lists of strings; several where one could not carry them."""
    texts = [(index, item.value) for index, item in enumerate(items) if isinstance(item, Text)]
    for batch in _batches(texts):
        payload = {"model": model, "input": [sendable(value) for _, value in batch]}
        yield Call([index for index, _ in batch], PATH, payload, partial(parse, count=len(batch)))


def _batches(texts: Sequence[tuple[int, str]]) -> Iterator[Sequence[tuple[int, str]]]:
    """The texts in groups that one call can carry; a text longer than that goes alone."""
    start = size = 0
    for end, (_, value) in enumerate(texts):
        size += len(value)
        if size > LARGEST_CALL and end > start:
            yield texts[start:end]
            start, size = end, len(value)
    if texts:
        yield texts[start:]


class _Result(BaseModel):
    model_config = ConfigDict(strict=True)

    flagged: bool | None = None
    categories: dict[str, bool | None]
    category_scores: dict[str, float | None] | None = None
    category_applied_input_types: dict[str, list[str]] | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)

    results: list[_Result]
    model: str = ""


def parse(body: bytes, count: int, *, of_image: bool = False) -> list[Verdict]:
    """The verdicts of a moderation answer; raises BadVerdict unless they are `count` whole ones.

    A verdict on an image claims nothing of categories that are applied only to text: their score of 0 is no opinion.
    """
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError as error:
        raise BadVerdict(f"the answer is not a moderation result ({error.error_count()} faults)") from None
    if len(answer.results) != count:
        raise BadVerdict(f"{count} items were judged with {len(answer.results)} results")
    return [_verdict(result, answer.model, of_image=of_image) for result in answer.results]


def _verdict(result: _Result, model: str, *, of_image: bool) -> Verdict:
    categories = _said(result.categories)
    flagged = result.flagged
    if flagged is None and len(categories) == len(result.categories):
        flagged = any(categories.values())
    if flagged is None or not categories:
        raise BadVerdict("a result says neither flagged nor which categories hold")
    verdict = Verdict(flagged, categories, _said(result.category_scores or {}), model)
    return _for_image(verdict, result.category_applied_input_types) if of_image else verdict


def _said(values: dict[str, T | None]) -> dict[str, T]:
    """The values without the nulls, of which there are hardly ever any."""
    if None not in values.values():
        return cast("dict[str, T]", values)
    return {name: value for name, value in values.items() if value is not None}


def _for_image(verdict: Verdict, applied: Mapping[str, Sequence[str]] | None) -> Verdict:
    """The verdict without the categories that nobody held against the image; a hit always stays."""

    def is_claimed(name: str) -> bool:
        is_applied = name not in _TEXT_ONLY if applied is None else "image" in applied.get(name, ("image",))
        return is_applied or verdict.categories.get(name, False)

    return replace(
        verdict,
        categories={name: hit for name, hit in verdict.categories.items() if is_claimed(name)},
        scores={name: score for name, score in verdict.scores.items() if is_claimed(name)},
    )
