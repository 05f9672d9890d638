"""A moderation service on a loopback socket that speaks like OpenAI's and misbehaves on request.

It flags a text with "flag <category>" in it, and scores one with "score <category> <number>". An image
with "missing" in its URL it cannot find, at one with "broken" it fails, for one with "slow" it waits
and waits.

    with FakeOpenAI() as service:
        service.script("drop", status(429, retry_after="7"), "answer")
        ...  # use service.url; look at service.requests

`python tests/fake_openai.py [step ...]` serves on its own, prints the base URL and runs until killed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from fake_service import Exchange, FakeService, Step, delay, reply, stall, status

__all__ = ["CATEGORIES", "FLAGGED_SCORE", "FakeOpenAI", "Result", "Step", "altered", "delay", "reply", "status"]

CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
FLAGGED_SCORE: Final = 0.9
QUIET_SCORE: Final = 0.01
# The longest name first: "hate" must not take what was meant for "hate/threatening".
_NAME: Final = "|".join(re.escape(name) for name in sorted(CATEGORIES, key=len, reverse=True))
_FLAG: Final = re.compile(rf"flag[ -]({_NAME})")
_SCORE: Final = re.compile(rf"score ({_NAME}) (\d+(?:\.\d+)?)")

Result = dict[str, Any]


class FakeOpenAI(FakeService):
    """`POST /v1/moderations`."""

    paths = ("/v1/moderations",)

    def __init__(self) -> None:
        super().__init__(STEPS)

    def inputs(self) -> list[Any]:
        """The `input` of each request so far."""
        return [request.json["input"] for request in self.requests]

    def body(self, exchange: Exchange) -> bytes:
        return _body(exchange, _results(exchange))


def _results(exchange: Exchange) -> list[Result]:
    """The proper results: one for each string, one for a list of parts."""
    given: Any = exchange.request_json["input"]
    texts: list[Any] = [given] if isinstance(given, str) else given
    if all(isinstance(text, str) for text in texts):
        return [_result([text], "text") for text in texts]
    kind = "image" if all(part["type"] == "image_url" for part in texts) else "text"
    return [_result([_part(part) for part in texts], kind)]


def _body(exchange: Exchange, results: Sequence[Any]) -> bytes:
    """The body of an answer with these results."""
    model = exchange.request_json.get("model", "omni-moderation-latest")
    return json.dumps({"id": "modr-1", "model": model, "results": results}).encode()


def _part(part: Mapping[str, Any]) -> str:
    return str(part["text"] if part["type"] == "text" else part["image_url"]["url"])


def _result(texts: Sequence[str], kind: str) -> Result:
    flags = {name for text in texts for name in _FLAG.findall(text)}
    given = {name: float(score) for text in texts for name, score in _SCORE.findall(text)}
    scores = {name: FLAGGED_SCORE if name in flags else given.get(name, QUIET_SCORE) for name in CATEGORIES}
    return {
        "flagged": bool(flags),
        "categories": {name: name in flags for name in CATEGORIES},
        "category_scores": scores,
        "category_applied_input_types": {name: [kind] for name in CATEGORIES},
    }


def altered(change: Callable[[Result], object]) -> Step:
    """The proper answer, with each result changed in place."""

    def step(exchange: Exchange) -> None:
        results = _results(exchange)
        for result in results:
            change(result)
        exchange.send(_body(exchange, results))

    return step


def counted(change: Callable[[list[Result]], Sequence[Any]]) -> Step:
    """The proper answer, with other results in the place of the proper ones."""
    return lambda exchange: exchange.send(_body(exchange, change(_results(exchange))))


def _answer(exchange: Exchange) -> None:
    given = exchange.request_json["input"]
    images = [part for part in given if isinstance(part, dict) and part["type"] == "image_url"]
    if len(images) > 1:
        status(400, error="too_many_images")(exchange)
    elif any("missing" in _part(image) for image in images):
        status(400, error="invalid_image_url")(exchange)
    elif any("broken" in _part(image) for image in images):
        status(500)(exchange)
    elif any("slow" in _part(image) for image in images):
        stall(exchange)
    else:
        exchange.send(exchange.proper())


def _null(result: Result) -> None:
    result.update(flagged=None, categories=dict.fromkeys(CATEGORIES), category_scores=dict.fromkeys(CATEGORIES))


def _extend(result: Result) -> None:
    result.update(flagged=True)
    result["categories"]["spoilers"] = True
    result["category_scores"]["spoilers"] = FLAGGED_SCORE


def _score(result: Result, score: float) -> None:
    result["category_scores"]["violence"] = score


STEPS: Final[Mapping[str, Step]] = {
    "answer": _answer,
    # 200, and yet no verdict.
    "list body": counted(lambda results: [results]),
    "too few": counted(lambda results: results[:-1]),
    "too many": counted(lambda results: [*results, *results]),
    "no results": counted(lambda _: []),
    "null results": counted(lambda results: [None] * len(results)),
    "nulls": altered(_null),
    "null flag and category": altered(lambda result: (result.pop("flagged"), result["categories"].update(hate=None))),
    "no categories": altered(lambda result: result.pop("categories")),
    "empty categories": altered(lambda result: result.update(categories={})),
    "flagged as text": altered(lambda result: result.update(flagged="false")),
    "flagged as number": altered(lambda result: result.update(flagged=0)),
    "categories as numbers": altered(lambda result: result.update(categories=dict.fromkeys(CATEGORIES, 0))),
    "score too high": altered(partial(_score, score=1.7)),
    "score too low": altered(partial(_score, score=-0.2)),
    "score not a number": altered(partial(_score, score=float("nan"))),
    # Unusual, and yet verdicts.
    "no flagged": altered(lambda result: result.pop("flagged")),
    "null category": altered(lambda result: result["categories"].update({"illicit": None})),
    "extra category": altered(_extend),
}


def main() -> None:
    with FakeOpenAI() as service:
        service.script(*sys.argv[1:])
        sys.stdout.write(f"{service.url}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            service.stopping.wait()


if __name__ == "__main__":
    main()
