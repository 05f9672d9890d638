"""The answer of `POST /v1/moderations`, as OpenAI and those who speak like it send it.

Validated here and not by the SDK, whose lenient reading takes garbage for an answer and costs twenty
times as much.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from prescreen.errors import BadVerdict
from prescreen.model import Verdict


class _Result(BaseModel):
    model_config = ConfigDict(strict=True)

    flagged: bool | None = None
    categories: dict[str, bool | None]
    category_scores: dict[str, float | None] | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)

    results: list[_Result]
    model: str = ""


def parse(body: bytes, count: int) -> list[Verdict]:
    """The verdicts of a moderation answer; raises BadVerdict unless they are `count` whole ones."""
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError as error:
        raise BadVerdict(f"the answer is not a moderation result ({error.error_count()} faults)") from None
    if len(answer.results) != count:
        raise BadVerdict(f"{count} items were judged with {len(answer.results)} results")
    return [_verdict(result, answer.model) for result in answer.results]


def _verdict(result: _Result, model: str) -> Verdict:
    categories = {name: hit for name, hit in result.categories.items() if hit is not None}
    flagged = result.flagged
    if flagged is None and len(categories) == len(result.categories):
        flagged = any(categories.values())
    if flagged is None or not categories:
        raise BadVerdict("a result says neither flagged nor which categories hold")
    scores = {name: score for name, score in (result.category_scores or {}).items() if score is not None}
    return Verdict(flagged, categories, scores, model)
