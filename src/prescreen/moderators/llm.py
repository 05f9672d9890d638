"""A language model as the judge, behind any endpoint that speaks like OpenAI's `/chat/completions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from prescreen.errors import BadVerdict, ConfigError, ModeratorDown, ModeratorRefused
from prescreen.model import Image, Item, Text, Verdict
from prescreen.moderators import options
from prescreen.moderators.judges import NO_VERDICT, Reading, judge_of
from prescreen.moderators.openai import OPENAI
from prescreen.moderators.service import Call, ServiceModerator, sendable
from prescreen.moderators.transport import bearer, encoded, openai_headers

_OURS: Final = frozenset({"model", "messages", "stream", "n"})


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)

    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    model_config = ConfigDict(strict=True)

    message: _Message
    finish_reason: str


class _Completion(BaseModel):
    model_config = ConfigDict(strict=True)

    choices: list[_Choice]
    model: str = ""


class LLMModerator(ServiceModerator):
    """Asks a model about each text, eight at once.

    `style` is "policy" (with your `policy` in words, and, if you like, the names of its `categories`; for models such
    as gpt-oss-safeguard), "llama-guard" or "qwen3guard" (which have a policy of their own). `controversial` says
    what Qwen3Guard's middle word means: "flag" or "ignore". `parameters` are more of the request's fields, such as
    `{"reasoning_effort": "low"}`. There are no scores.

    `api_key` None takes OPENAI_API_KEY, "" is for a server that wants none; `base_url` None takes OPENAI_BASE_URL, else
    OpenAI's own. `max_characters` is not the model's limit: the more there is around a bad sentence, the easier a small
    model overlooks it.

    Texts are sent to whoever runs `base_url`. Images are not: a request with one is refused. Raises ConfigError.
    """

    name = "llm"
    max_batch = 1

    def __init__(
        self,
        *,
        model: str = "",
        style: str = "policy",
        policy: str = "",
        categories: Sequence[str] = (),
        controversial: str = "flag",
        base_url: str | None = None,
        api_key: str | None = None,
        max_characters: int = 4_000,
        max_tokens: int | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = options.model_name(model, "gpt-oss-safeguard-20b")
        self._judge = judge_of(style, policy, categories, controversial)
        self.categories = self._judge.categories
        self.max_characters = options.longest(max_characters)
        if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
            raise ConfigError("max_tokens", f"{max_tokens!r} is no number of at least 1")
        if not isinstance(parameters, Mapping | None) or _OURS.intersection(parameters or {}):
            raise ConfigError("parameters", f"write a table of fields, without {', '.join(sorted(_OURS))}")
        try:
            encoded(parameters or {})
        except ModeratorDown:
            raise ConfigError("parameters", "JSON has no word for something in it, such as a date or NaN") from None
        tokens = max_tokens or self._judge.max_tokens
        # Newer models of OpenAI's know only the other name of it.
        own = {} if "max_completion_tokens" in (parameters or {}) else {"max_tokens": tokens}
        self._asked = {"model": model, "temperature": 0, **own, **(parameters or {})}
        key = "" if api_key == "" else options.key(api_key, "OPENAI_API_KEY", "api_key = '' if the server wants none")
        address = options.address(base_url, "OPENAI_BASE_URL", OPENAI)
        super().__init__(address, openai_headers(key) if address == OPENAI else bearer(key))

    @property
    def _variant(self) -> str:
        return f"{self._judge!r} {self._asked}"

    def calls(self, items: Sequence[Item]) -> Iterator[Call]:
        """One about each text."""
        for index, item in enumerate(items):
            if isinstance(item, Text):
                messages, reading = self._judge.ask(sendable(item.value))
                payload = {**self._asked, "messages": messages}
                yield Call([index], "/chat/completions", payload, partial(self._read, reading))
        if any(isinstance(item, Image) for item in items):
            raise ModeratorRefused("the 'llm' moderator cannot judge images")

    def _read(self, reading: Reading, body: bytes) -> list[Verdict]:
        try:
            answer = _Completion.model_validate_json(body)
        except ValidationError as error:
            raise BadVerdict(f"the answer is no completion ({error.error_count()} faults)") from None
        if len(answer.choices) != 1:
            raise BadVerdict(f"the answer has {len(answer.choices)} choices")
        [choice] = answer.choices
        if choice.finish_reason != "stop" or choice.message.refusal is not None or choice.message.content is None:
            raise ModeratorRefused(NO_VERDICT)
        return [replace(reading(choice.message.content), model=answer.model or self.model)]
