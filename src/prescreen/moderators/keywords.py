"""The offline moderator: a list of phrases, matched on whole words.

It catches the phrases on its list and nothing else: no paraphrase, no other language, no image, and
it flags a quotation like the real thing. It is for trying prescreen out, for tests, and for an own
list beside a real moderator; it is never chosen unless named.

Cost does not grow with the list: the words of a text are looked up by the first word of a phrase
and then by length.
"""

from __future__ import annotations

import logging
import re
import tomllib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from prescreen import wording
from prescreen.errors import ConfigError, ModeratorRefused
from prescreen.fold import INVISIBLE
from prescreen.model import Item, Text, Verdict

SENTINEL: Final = "prescreen test phrase seven violet lanterns"
"""A harmless phrase that is always flagged, as `violence`, to see a rejection without foul words."""

PHRASES: Final[Mapping[str, Sequence[str]]] = {
    "harassment": ("you are an idiot", "you are a moron", "you are worthless", "nobody likes you", "shut up you idiot"),
    "harassment/threatening": (
        "i will hurt you",
        "i am going to hurt you",
        "i will find you and hurt you",
        "i know where you live and",
        "you will pay with your life",
    ),
    "hate": ("your kind is not human", "people like you are vermin"),
    "self-harm/intent": (
        "i want to die",
        "i want to kill myself",
        "i am going to kill myself",
        "i want to end my life",
        "i want to hurt myself",
    ),
    "self-harm/instructions": ("how do i kill myself", "best way to kill myself", "how to kill myself"),
    "violence": ("i will kill you", "i am going to kill you", "i will kill them all", SENTINEL),
    "illicit/violent": ("how to build a bomb", "how do i build a bomb", "how to make a pipe bomb"),
}
"""The built-in list: English, short, each phrase meant as it reads nearly always."""

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_APOSTROPHES: Final = re.compile("[\u2018\u2019\u02bc\uff07\u00b4]")
_SHORT_FORMS: Final = {"im": "i am", "youre": "you are", "youll": "you will", "gonna": "going to"}
_ENDINGS: Final = {"ll": "will", "re": "are", "m": "am", "ve": "have"}

logger = logging.getLogger("prescreen")


class KeywordModerator:
    """Flags texts that contain a phrase of the list, with score 1; all else scores 0.

    `phrases` adds own ones by category; `files` adds lists from TOML files (`category = ["phrase", …]`)
    or text files (a phrase a line, `#` for comments, category = the file's name without its ending,
    `_` for `/`). `builtin=False` leaves the built-in list out, but for the sentinel.
    Text is compared after NFKC, case folding and removal of invisible characters and apostrophes.
    Raises ConfigError.
    """

    name = "keywords"

    def __init__(
        self,
        *,
        phrases: Mapping[str, Sequence[str]] | None = None,
        files: Iterable[str | Path] = (),
        builtin: bool = True,
    ) -> None:
        if not isinstance(builtin, bool):
            raise ConfigError("builtin", f"{builtin!r} is neither true nor false")
        self._lists: dict[str, dict[tuple[str, ...], set[str]]] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}
        self._add(PHRASES if builtin else {"violence": [SENTINEL]})
        if phrases is not None:
            self._add(phrases)
        for file in _files(files):
            try:
                self._add(_load(file))
            except ConfigError as error:
                raise ConfigError("files", f"{file.name}: {error.problem}") from error
        listed = (names for phrases in self._lists.values() for names in phrases.values())
        # All of OpenAI's, so that one policy serves this moderator and the real one.
        self.categories = frozenset(wording.CATEGORIES).difference({"unspecified"}).union(*listed)
        self._clean = self._verdict(())
        logger.warning("the 'keywords' moderator is at work: it catches listed phrases, not meaning")

    async def moderate(self, items: Sequence[Item], known: dict[int, Verdict] | None = None) -> Sequence[Verdict]:
        """No waiting and no thread: a text takes microseconds. Raises ModeratorRefused where there is an image."""
        return self.moderate_sync(items, known=known)

    def moderate_sync(
        self,
        items: Sequence[Item],
        timeout: float | None = None,  # noqa: ARG002  # the protocol's
        known: dict[int, Verdict] | None = None,
    ) -> Sequence[Verdict]:
        """The same, for callers that cannot await."""
        found = {index: self._judge(item.value) for index, item in enumerate(items) if isinstance(item, Text)}
        if known is not None:
            known.update(found)
        if len(found) < len(items):
            raise ModeratorRefused("the 'keywords' moderator cannot judge images")
        return list(found.values())

    def _judge(self, text: str) -> Verdict:
        hits = self._hits(_words(text))
        return self._verdict(hits) if hits else self._clean

    def _verdict(self, hits: Collection[str]) -> Verdict:
        categories = {category: category in hits for category in self.categories}
        return Verdict(bool(hits), categories, {name: float(hit) for name, hit in categories.items()}, "keywords")

    def _hits(self, words: list[str]) -> set[str]:
        hits: set[str] = set()
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                hits |= self._lists[word].get(tuple(words[start : start + length]), set())
        return hits

    def _add(self, phrases: Mapping[str, Sequence[str]]) -> None:
        if not isinstance(phrases, Mapping):
            raise ConfigError("phrases", "write a table of lists: {category = ['a phrase', ...]}")
        for category, listed in phrases.items():
            if not isinstance(listed, list | tuple) or not all(isinstance(phrase, str) for phrase in listed):
                raise ConfigError(f'phrases."{category}"', "write a list of phrases")
            for phrase in listed:
                words = tuple(_words(phrase))
                if not words:
                    raise ConfigError(f'phrases."{category}"', f"{phrase!r} has no word in it")
                self._lists.setdefault(words[0], {}).setdefault(words, set()).add(category)
                self._lengths[words[0]] = tuple(sorted({*self._lengths.get(words[0], ()), len(words)}))


def _files(files: Iterable[str | Path]) -> list[Path]:
    if isinstance(files, str) or not isinstance(files, Iterable):
        raise ConfigError("files", "write a list of file names")
    names = list(files)
    if not all(isinstance(name, str | Path) for name in names):
        raise ConfigError("files", "write a list of file names")
    return [Path(name) for name in names]


def _words(text: str) -> list[str]:
    text = text.replace("`", "'")
    if not text.isascii():
        text = INVISIBLE.sub("", unicodedata.normalize("NFKC", _APOSTROPHES.sub("'", text)))
    words: list[str] = []
    found: list[str] = _WORD.findall(text.casefold())
    if "'" not in text and _SHORT_FORMS.keys().isdisjoint(found):
        return found
    for word in found:
        if "'" in word:
            stem, _, ending = word.rpartition("'")
            words.extend((stem, _ENDINGS[ending]) if ending in _ENDINGS else (word.replace("'", ""),))
        else:
            words.extend(_SHORT_FORMS.get(word, word).split())
    return words


def _load(path: Path) -> Mapping[str, Sequence[str]]:
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".toml":
            return tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError("", f"{path.name} cannot be read: {error}") from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {path.stem.replace("_", "/"): [line for line in lines if line]}
