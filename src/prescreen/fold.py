"""A text as a reader's eye takes it, where that is not what its characters say. No I/O.

Words can be written so that people and language models read them and moderators do not: in characters of
other alphabets that look alike, with invisible ones between, with the letters spaced apart. The folded reading is
judged beside the text as it was sent, never in its place, and only where its words differ: what emoji, accents
and the scripts of honest users need is no difference.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import zip_longest
from typing import Final

_JOINING: Final = "\u0600-\u08ff\u0900-\u109f\u1780-\u18af\ua800-\uabff\U00010a00-\U00011fff"
_RIGHT_TO_LEFT: Final = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff"
_FLAG: Final = "(?<=\U0001f3f4)[\U000e0030-\U000e007a]{3,6}\U000e007f"  # of England, say: an emoji with a code
# Joiners in scripts that need them, marks of direction beside letters that run so, one accent on a letter, flags.
_AT_HOME: Final = re.compile(
    f"(?<=[{_JOINING}])[\u200c\u200d]|(?<=[{_RIGHT_TO_LEFT}])[\u200e\u200f\u061c]"
    f"|[\u200e\u200f\u061c](?=[{_RIGHT_TO_LEFT}])|(?<=\\w)[\u0300-\u0333\u0339-\u036f]|{_FLAG}"
)
_REVERSED: Final = re.compile("\u202e([^\u202c\u202d\u202e\n]*)[\u202c\u202d]?")  # the bidi override, UAX #9
_TAGS: Final = re.compile("[\U000e0020-\U000e007e]+")  # ASCII that nobody sees
_MOSTLY_PLAIN: Final = frozenset({"Lo", "So", "Co", "Cn", "Cs"})
_PLAIN: Final = re.compile(r"[\x00-\x7f\xc0-\xff]*")
_WORD: Final = re.compile(r"\w+")
_RUN: Final = re.compile(r"(?:[A-Za-z0-9]*[^\x00-\x7f\s])+[A-Za-z0-9]*")
_BLOCKS: Final = re.compile(r".{1,4096}\S*", re.DOTALL)  # to be replaced in one by one: that takes less memory
_LETTER: Final = re.compile("[A-Za-z]")
_SMALL_CAPITAL: Final = re.compile("LATIN LETTER SMALL CAPITAL ([A-Z])")
# Single letters, each after the same one to three blanks or marks.
_SPACED: Final = re.compile(r"(?<![^\W_])([^\W\d_])([\s._*-]{1,3})[^\W\d_](?:\2[^\W\d_])+(?![^\W_])")
_SPACES: Final = re.compile(r"[\s._*-]+")
_REMEMBERED: Final = 1 << 15  # characters
_SHORTEST: Final = 3  # letters; shorter words of another alphabet look like ours by chance


def folded(text: str) -> str | None:
    """The folded reading of the text; None where its words are the same."""
    text = _AT_HOME.sub("", text)
    reading = text
    if not _PLAIN.fullmatch(text):
        reading = _TAGS.sub(_shown, _REVERSED.sub(lambda found: found[1][::-1], reading)).translate(_CHARACTERS)
        reading = "".join(_RUN.sub(_in_our_alphabet, block) for block in _BLOCKS.findall(reading))
    reading = _SPACED.sub(lambda found: _SPACES.sub("", found[0]), reading)
    return None if reading == text or _has_same_words(reading, text) else reading


def _has_same_words(reading: str, text: str) -> bool:
    pairs = zip_longest(_WORD.finditer(reading), _WORD.finditer(text))
    return all(one and other and one[0] == other[0] for one, other in pairs)


def _shown(tags: re.Match[str]) -> str:
    return f" {''.join(chr(ord(each) - 0xE0000) for each in tags[0])} "


class _Characters(dict[int, str]):
    """What each character is replaced by, found when it is first met; bounded, since clients choose them."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        self[code] = found = _replacement(chr(code))
        return found


_CHARACTERS: Final = _Characters()


def _replacement(character: str) -> str:
    category = unicodedata.category(character)
    if category in _MOSTLY_PLAIN and not unicodedata.decomposition(character):
        return character
    if category in ("Cf", "Cc") and not character.isspace():
        return ""  # invisible
    name = unicodedata.name(character, "")
    if category == "Mn" and name.startswith(("COMBINING", "VARIATION")):
        return ""  # struck through, or a heap of accents: the first is at home and gone by now
    if small := _SMALL_CAPITAL.fullmatch(name):
        return small[1].lower()
    plain = unicodedata.normalize("NFKC", character)
    gains_marks = category[0] != "M" and any(unicodedata.category(each)[0] == "M" for each in plain)
    return character if gains_marks else plain


def _in_our_alphabet(found: re.Match[str]) -> str:
    """A run of characters with its lookalikes replaced, if it mixes them with ASCII letters or is of nothing else."""
    run = found[0]
    if _LETTER.search(run):
        return run.translate(_lookalikes(with_similar=True))
    twin = run.translate(_lookalikes(with_similar=False))
    return twin if twin.isascii() and len(run) >= _SHORTEST else run


@cache
def _lookalikes(*, with_similar: bool) -> dict[int, str]:
    """ASCII letters and digits by the characters that look like them (Unicode's confusables, UTS #39).

    `with_similar` adds those that look like a small capital. Letters of European languages are none of them.
    """
    from confusable_homoglyphs.confusables import confusables_data

    return {
        ord(character): twin
        for character, twins in confusables_data.items()
        if len(character) == 1 and character > "\u017f" and (twin := _ascii_twin(twins, with_similar=with_similar))
    }


def _ascii_twin(twins: list[dict[str, str]], *, with_similar: bool) -> str:
    for twin in twins:
        if twin["c"].isascii() and twin["c"].isalnum():
            return twin["c"]
        if with_similar and (small := _SMALL_CAPITAL.fullmatch(twin["n"])):
            return small[1].lower()
    return ""
