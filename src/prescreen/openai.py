"""OpenAI's clients, with the end user's identifier on every model call and, if you like, a guard before it.

    from prescreen.openai import AsyncOpenAI, OpenAI

    client = AsyncOpenAI()                      # attribution alone
    client = AsyncOpenAI(guard="screened")      # no call without a request that was screened and passed
    client = AsyncOpenAI(guard="text", screen=screen)   # judges what it sends, wherever it is called from

They are the official classes and take what those take. What is added happens where the SDK prepares the options of
a request, so it holds for streaming, raw responses, parsing helpers and clients made by `with_options`. It does not hold
for WebSocket sessions (`realtime`, `responses.connect`), which are no requests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import openai

from prescreen.calls import endpoint, items
from prescreen.current import Passage, current, follow_responses
from prescreen.errors import ConfigError, ContentRejected, NotScreened
from prescreen.model import Decision, Item
from prescreen.screen import Screen

if TYPE_CHECKING:
    from openai._models import FinalRequestOptions

Guard = Literal["screened", "text"]

CONFIG: Final = "PRESCREEN_CONFIG"
"""The variable that names the configuration of `guard="text"` where no screen is given."""

_ATTRIBUTED: Final = ("chat/completions", "responses")
_IDENTIFIER: Final = "safety_identifier"


class _Guarded:
    """What both clients add; `guard` and `screen` are as in `OpenAI`."""

    guard: Guard | None
    screen: Screen | None

    def _guard(self, guard: Guard | None, screen: Screen | None) -> None:
        if guard is not None and guard not in get_args(Guard):
            raise ConfigError("guard", f"{guard!r} is not one of {', '.join(map(repr, get_args(Guard)))}")
        follow_responses()
        self.guard = guard
        self.screen = None if guard != "text" else _configured() if screen is None else screen

    def _copying(self, options: Mapping[str, Any]) -> dict[str, Any]:
        extra = {"guard": self.guard, "screen": self.screen, **(options.get("_extra_kwargs") or {})}
        return {**options, "_extra_kwargs": extra}

    def _check(self, options: FinalRequestOptions, passage: Passage | None) -> None:
        """Raise NotScreened where the request at hand does not bear a call."""
        decision = passage.decision if passage else None
        if passage is not None and (decision is None or decision.is_rejected):
            raise NotScreened("the request that this call belongs to was rejected")
        if self.guard == "screened" and self._endpoint(options) is not None:
            if decision is None:
                raise NotScreened(
                    "no request that a rule is about is being handled here, or its context was lost on the way (as by run_in_executor)"
                )
            if not decision.has_passed:
                raise NotScreened(f"the request that this call belongs to has not passed ({decision.cause.value})")

    def _endpoint(self, options: FinalRequestOptions) -> str | None:
        """The endpoint, as the SDK will make the address of it."""
        sdk: Any = self
        return endpoint(options.method, str(sdk._prepare_url(options.url)))  # noqa: SLF001  # the SDK's, and so are we

    def _to_judge(self, options: FinalRequestOptions) -> list[Item]:
        """What is about to be sent; from now on nobody else can change it."""
        name = self._endpoint(options)
        if name is None:
            return []
        options.json_data, options.extra_json = deepcopy(options.json_data), deepcopy(options.extra_json)
        return items(name, options)

    def _attributed(self, options: FinalRequestOptions, passage: Passage | None) -> FinalRequestOptions:
        """The options of a call with its end user's identifier, where there is one and the caller has set none."""
        body = options.json_data
        if passage is None or passage.subject is None or not isinstance(body, dict):
            return options
        is_set = _IDENTIFIER in body or _IDENTIFIER in (options.extra_json or {})
        if not is_set and self._endpoint(options) in _ATTRIBUTED:
            options.json_data = {**body, _IDENTIFIER: passage.subject}
        return options


class OpenAI(_Guarded, openai.OpenAI):
    """`openai.OpenAI`, with `safety_identifier` set to the subject of the request being handled, unless the caller sets one.

    `guard="screened"`: a call to a model raises NotScreened unless the request being handled was screened and passed.
    `guard="text"`: its input is judged first, by `screen` (None: one made from the file that PRESCREEN_CONFIG names), and
    ContentRejected raised where the policy rejects it. Under `timing="overlap"` every call waits for the verdict.

    Raises ConfigError for a guard that it does not know, and for one without a screen.
    """

    def __init__(self, *args: Any, guard: Guard | None = None, screen: Screen | None = None, **options: Any) -> None:
        self._guard(guard, screen)
        super().__init__(*args, **options)

    def copy(self, **options: Any) -> Self:
        """As the SDK's; the guard goes along."""
        return super().copy(**self._copying(options))

    with_options = copy

    def _prepare_options(self, options: FinalRequestOptions) -> FinalRequestOptions:
        passage = current()
        if passage is not None:
            passage.wait_sync()
        self._check(options, passage)
        if self.screen is not None and (found := self._to_judge(options)):
            _raise_rejected(self.screen.check_sync(found))
        return super()._prepare_options(self._attributed(options, passage))


class AsyncOpenAI(_Guarded, openai.AsyncOpenAI):
    """`openai.AsyncOpenAI`, with what `OpenAI` here adds."""

    def __init__(self, *args: Any, guard: Guard | None = None, screen: Screen | None = None, **options: Any) -> None:
        self._guard(guard, screen)
        super().__init__(*args, **options)

    def copy(self, **options: Any) -> Self:
        """As the SDK's; the guard goes along."""
        return super().copy(**self._copying(options))

    with_options = copy

    async def _prepare_options(self, options: FinalRequestOptions) -> FinalRequestOptions:
        passage = current()
        if passage is not None:
            await passage.wait()
        self._check(options, passage)
        if self.screen is not None and (found := self._to_judge(options)):
            _raise_rejected(await self.screen.check(found))
        return await super()._prepare_options(self._attributed(options, passage))


def _raise_rejected(decision: Decision) -> None:
    if decision.is_rejected:
        raise ContentRejected(decision)


@cache
def _screen(config: str) -> Screen:
    return Screen(config)


def _configured() -> Screen:
    config = os.environ.get(CONFIG)
    if not config:
        raise ConfigError(
            "screen", f"guard='text' judges with a screen: give it one, or name a configuration in {CONFIG}"
        )
    return _screen(config)
