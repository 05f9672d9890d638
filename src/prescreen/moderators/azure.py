"""Azure AI Content Safety."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prescreen.errors import BadVerdict, ConfigError, ModeratorRefused
from prescreen.model import Item, Text, Verdict
from prescreen.moderators import options
from prescreen.moderators.service import Call, ServiceModerator, sendable

CATEGORIES: Final = frozenset({"Hate", "SelfHarm", "Sexual", "Violence"})
BLOCKLIST: Final = "blocklist"
"""The category of what matches a term of a blocklist."""

_VERSION: Final = "2024-09-01"
_WORST: Final = 7
_LONGEST: Final = 10_000  # code points in one call (the service's overview, input requirements)
_LIST: Final = re.compile(r"[0-9A-Za-z._~-]{1,64}")  # the API's definition
_DATA_URL: Final = re.compile(r"data:image/[^,]*;base64,([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)


class _Analysis(BaseModel):
    model_config = ConfigDict(strict=True)

    category: str
    severity: Annotated[int, Field(ge=0, le=_WORST)]


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)

    categoriesAnalysis: list[_Analysis] = []  # noqa: N815  # the wire's name
    blocklistsMatch: list[dict[str, object]] | None = None  # noqa: N815  # as above


class AzureModerator(ServiceModerator):
    """Judges by `text:analyze` and `image:analyze`, one item a call, eight calls at once.

    `endpoint` None takes CONTENT_SAFETY_ENDPOINT, `api_key` None takes CONTENT_SAFETY_KEY. Azure gives severities
    from 0 to 7 (for images 0, 2, 4, 6) and says of none that it is too much. Here a severity of `flag_at` or more is a
    hit; the default, 4, is "medium", from where Azure OpenAI's own content filter rejects by default. A score is
    severity / 7. `blocklists` names terms that you keep at Azure; one that matches is a hit of the category
    "blocklist", and with `halt_on_blocklist_hit` the text is then not analysed any further.

    Of images it takes only those that are sent as a `data:` URL. Texts and images are sent to Azure. Raises ConfigError.
    """

    name = "azure"
    max_batch = 1
    model = f"contentsafety-{_VERSION}"

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        flag_at: int = 4,
        blocklists: Sequence[str] = (),
        halt_on_blocklist_hit: bool = False,
        max_characters: int = _LONGEST,
    ) -> None:
        if type(flag_at) is not int or not 1 <= flag_at <= _WORST:
            raise ConfigError("flag_at", f"{flag_at!r} is no severity from 1 to {_WORST}")
        lists = options.names(blocklists, "blocklists")
        if not all(map(_LIST.fullmatch, lists)):
            raise ConfigError("blocklists", "a name is made of at most 64 letters, digits and . _ ~ -")
        if not isinstance(halt_on_blocklist_hit, bool):
            raise ConfigError("halt_on_blocklist_hit", f"{halt_on_blocklist_hit!r} is neither true nor false")
        self.max_characters = options.longest(max_characters, _LONGEST)
        self.categories = CATEGORIES | {BLOCKLIST} if lists else CATEGORIES
        self._flag_at = flag_at
        self._asked = {"blocklistNames": lists, "haltOnBlocklistHit": halt_on_blocklist_hit} if lists else {}
        key = options.key(api_key, "CONTENT_SAFETY_KEY")
        address = options.address(endpoint, "CONTENT_SAFETY_ENDPOINT", option="endpoint")
        headers = {"ocp-apim-subscription-key": key}
        super().__init__(f"{address}/contentsafety", headers, {"api-version": _VERSION})

    @property
    def _variant(self) -> str:
        return f"{self._flag_at} {self._asked}"

    def calls(self, items: Sequence[Item]) -> Iterator[Call]:
        """One about each item."""
        is_refused = False
        for index, item in enumerate(items):
            if isinstance(item, Text):
                asked = {"text": sendable(item.value), "outputType": "EightSeverityLevels", **self._asked}
                yield Call([index], "/text:analyze", asked, partial(self._read, has_lists=bool(self._asked)))
            elif found := _DATA_URL.fullmatch(item.url):
                yield Call(
                    [index], "/image:analyze", {"image": {"content": found[1]}}, partial(self._read, has_lists=False)
                )
            else:
                is_refused = True
        if is_refused:
            raise ModeratorRefused("the 'azure' moderator judges only images that are sent as base64 in a data: URL")

    def _read(self, body: bytes, *, has_lists: bool) -> list[Verdict]:
        try:
            answer = _Answer.model_validate_json(body)
        except ValidationError as error:
            raise BadVerdict(f"the answer is not an analysis ({error.error_count()} faults)") from None
        severities = {each.category: each.severity for each in answer.categoriesAnalysis}
        is_listed = bool(answer.blocklistsMatch)
        is_whole = severities.keys() >= CATEGORIES or (is_listed and not severities)
        if not is_whole or len(severities) < len(answer.categoriesAnalysis):
            raise BadVerdict("the answer does not give each category one severity")
        if is_listed or has_lists:
            severities[BLOCKLIST] = _WORST if is_listed else 0
        categories = {name: severity >= self._flag_at for name, severity in severities.items()}
        scores = {name: severity / _WORST for name, severity in severities.items()}
        return [Verdict(any(categories.values()), categories, scores, self.model)]
