"""Mistral's moderation endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prescreen.errors import ModeratorRefused
from prescreen.model import Image, Item
from prescreen.moderators import options
from prescreen.moderators.moderations import text_calls
from prescreen.moderators.service import Call, ServiceModerator
from prescreen.moderators.transport import bearer

CATEGORIES: Final = frozenset(
    {
        "sexual",
        "hate_and_discrimination",
        "violence_and_threats",
        "dangerous",
        "criminal",
        "dangerous_and_criminal_content",  # of mistral-moderation-2411, which is deprecated: both in one
        "selfharm",
        "health",
        "financial",
        "law",
        "pii",
        "jailbreaking",
    }
)
"""The wire names of mistral-moderation-2603 and of the version before it (docs.mistral.ai, safety and moderation)."""

_MISTRAL: Final = "https://api.mistral.ai/v1"


class MistralModerator(ServiceModerator):
    """Judges by `POST /v1/moderations`: all texts of a request in one call, or a few.

    `api_key` None takes MISTRAL_API_KEY. Pin `model` ("mistral-moderation-2603") before relying on thresholds.
    Answers do not say `flagged`: a text is flagged that is in any category. `health`, `financial`, `law` and
    `pii` are categories as well; where your app is about these, put them into the policy's `ignore`.

    Texts are sent to Mistral. It does not look at images: a request with one is refused. Raises ConfigError.
    """

    name = "mistral"

    def __init__(
        self,
        *,
        model: str = "mistral-moderation-latest",
        api_key: str | None = None,
        base_url: str = _MISTRAL,
        max_characters: int = 5_000,
    ) -> None:
        self.model = options.model_name(model, "mistral-moderation-latest")
        self.max_characters = options.longest(max_characters)
        key, address = options.key(api_key, "MISTRAL_API_KEY"), options.address(base_url, "", _MISTRAL)
        self.categories = CATEGORIES if address == _MISTRAL else None
        super().__init__(address, bearer(key))

    def calls(self, items: Sequence[Item]) -> Iterator[Call]:
        """One or a few about all the texts."""
        yield from text_calls(self.model, items)
        if any(isinstance(item, Image) for item in items):
            raise ModeratorRefused("the 'mistral' moderator cannot judge images")
