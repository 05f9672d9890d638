"""OpenAI's moderation endpoint, or one that speaks like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from prescreen import wording
from prescreen.errors import ConfigError
from prescreen.model import Image, Item
from prescreen.moderators import options
from prescreen.moderators.moderations import PATH, parse, text_calls
from prescreen.moderators.service import Call, ServiceModerator, sendable
from prescreen.moderators.transport import openai_headers

CATEGORIES: Final = frozenset(wording.CATEGORIES) - {"unspecified"}
"""The wire names of omni-moderation (OpenAI's moderation guide)."""

OPENAI: Final = "https://api.openai.com/v1"
_SHUT_DOWN: Final = "text-moderation-"


class OpenAIModerator(ServiceModerator):
    """Judges by `POST /v1/moderations`: all texts of a request in one call (or a few), each image in its own.

    `api_key` None takes OPENAI_API_KEY; `base_url` None takes OPENAI_BASE_URL, else OpenAI's own.
    Pin `model` to a snapshot ("omni-moderation-2024-09-26") before relying on thresholds: OpenAI
    recalibrates the moving name. Raises ConfigError for a missing key or a model that is shut down.

    A text of more than `max_characters` is judged in overlapping pieces: OpenAI does not publish how long one may
    be, and counts it against the tokens a minute of an account, of which the lowest tiers have 10,000.

    Texts and images are sent to OpenAI (or to whoever runs `base_url`).
    """

    name = "openai"

    def __init__(
        self,
        *,
        model: str = "omni-moderation-latest",
        api_key: str | None = None,
        base_url: str | None = None,
        max_characters: int = 5_000,
    ) -> None:
        self.model = options.model_name(model, "omni-moderation-latest")
        if model.startswith(_SHUT_DOWN):
            raise ConfigError("model", f"{model!r} is shut down; write 'omni-moderation-latest'")
        self.max_characters = options.longest(max_characters)
        key, address = options.key(api_key, "OPENAI_API_KEY"), options.address(base_url, "OPENAI_BASE_URL", OPENAI)
        self.categories = CATEGORIES if address == OPENAI else None
        super().__init__(address, openai_headers(key))

    def calls(self, items: Sequence[Item]) -> Iterator[Call]:
        """One or a few about all the texts, one about each image."""
        yield from text_calls(self.model, items)
        for index, item in enumerate(items):
            if isinstance(item, Image):
                part = {"type": "image_url", "image_url": {"url": sendable(item.url)}}
                payload = {"model": self.model, "input": [part]}
                yield Call([index], PATH, payload, partial(parse, count=1, of_image=True))
