"""A text as a reader's eye takes it, where that is not what its characters say. No I/O.

Words can be written so that people and language models read them and moderators do not: in characters of
other alphabets that look alike, with invisible ones between, with the letters spaced apart. The folded reading is
judged beside the text as it was sent, never in its place, and only where its words differ: what emoji, accents
and the scripts of honest users need is no difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import chain, starmap, zip_longest
from operator import eq
from typing import Final

INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point, and a blank that is none: nobody sees them."""

_JOINING: Final = "\u0600-\u08ff\u0900-\u109f\u1780-\u18af\ua800-\uabff\U00010a00-\U00011fff"
_RIGHT_TO_LEFT: Final = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff"
_MARKS: Final = "\u061c\u200e\u200f"
_REGIONAL: Final = "\U0001f1e6-\U0001f1ff"
# Joiners in scripts that need them; marks of direction beside letters that run so; flags of a country, a pair of letters,
# and those of England, Scotland and Wales, an emoji with a code. What each begins with comes first: then the search is fast.
_AT_HOME: Final = re.compile(
    f"[\u200c\u200d{_MARKS}{_REGIONAL}\U000e0067](?:(?<=[{_JOINING}][\u200c\u200d])"
    f"|(?<=[{_RIGHT_TO_LEFT}][{_MARKS}])|(?<=[{_MARKS}])(?=[{_RIGHT_TO_LEFT}])"
    f"|(?<=[{_REGIONAL}])(?<![{_REGIONAL}]{{2}})[{_REGIONAL}](?![{_REGIONAL}])"
    "|(?<=\U0001f3f4\U000e0067)\U000e0062"
    "(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074|\U000e0077\U000e006c\U000e0073)\U000e007f)"
)
_ACCENTED: Final = re.compile(r"(?:\w[\u0300-\u036f])+")
_REVERSED: Final = re.compile("\u202e([^\u202c-\u202e\u2066-\u2069\n]*)[\u202c\u202d]?")  # the bidi override, UAX #9
_TAGS: Final = re.compile("[\U000e0020-\U000e007e]+")  # ASCII that nobody sees
_UNTAGGED: Final = {0xE0000 + code: code for code in range(0x20, 0x7F)}
_MOSTLY_PLAIN: Final = frozenset({"Lo", "Co", "Cn", "Cs"})
_PLAIN: Final = re.compile(r"[\t\n\r\x20-\x7e\xc0-\xff]*")
# All but Japanese, Chinese and Korean: ninety thousand characters, each of which is replaced by itself.
_REPLACED: Final = re.compile("[^\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0002a6df]+")
_SHORTEST: Final = 3  # letters; shorter words of another alphabet look like ours by chance
_WORD: Final = re.compile(r"\w+")
# A run of letters, digits and all that is not ASCII, if not all is ASCII and no letter of it is.
_FOREIGN: Final = re.compile(r"(?<![^\s\x00-/:-@\[-`{-\x7f])([0-9]*+[^\s\x00-\x7f][^\s\x00-/:-\x7f]*+)(?![A-Za-z])")
_BLOCKS: Final = re.compile(r".{1,4096}\S*", re.DOTALL)  # to be gone through one by one: that takes less memory
_CAPITAL: Final = re.compile(
    "(?:LATIN LETTER SMALL CAPITAL|REGIONAL INDICATOR SYMBOL LETTER|PARENTHESIZED LATIN (?:SMALL|CAPITAL) LETTER"
    "|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER) ([A-Z])"
)
_BLANKS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and a symbol, by their category
# Single letters, each after one blank or mark, or each after the same two or three.
_MARK: Final = r"[\s._*|/\\,+~:\u00b7\u2022\u2010-\u2015-]"
_SPACED: Final = re.compile(
    rf"(?<![^\W_])[^\W\d_](?:(?:{_MARK}[^\W\d_]){{2,}}|({_MARK}{{2,3}})[^\W\d_](?:\1[^\W\d_])+)(?![^\W_])"
)
_SPACES: Final = re.compile(f"{_MARK}+")
# What all of these end with, and hardly anything else has: two single letters. To look for that first saves most of the time.
_TWO_SINGLE: Final = re.compile(rf"{_MARK}[^\W\d_]{_MARK}{{1,3}}[^\W\d_](?![^\W_])")
_LONGEST: Final = 4  # characters that one may stand for: some stand for a whole sentence
_REMEMBERED: Final = 1 << 16  # characters: there are not many more, but for those that stand for themselves


def prepare() -> None:
    """Read the table of lookalikes now, and not while somebody waits for it: it takes a tenth of a second."""
    for with_similar in (True, False):
        _lookalikes(with_similar=with_similar)


def folded(text: str) -> str | None:
    """The folded reading of the text; None where its words are the same."""
    reading = text
    if not _PLAIN.fullmatch(text):
        text = _ACCENTED.sub(_composed, _ACCENTED.sub(_composed, _AT_HOME.sub("", text)))
        hidden = "".join(_TAGS.findall(text)).translate(_UNTAGGED)
        reading = _REPLACED.sub(_replaced, _REVERSED.sub(lambda found: found[1][::-1], text))
        reading = f"{reading} {hidden}" if hidden else reading
        reading = "".join(map(_in_our_alphabet, _BLOCKS.findall(reading)))
    if _TWO_SINGLE.search(reading):
        reading = _SPACED.sub(lambda found: _SPACES.sub("", found[0]), reading)
    return None if reading == text or all(starmap(eq, zip_longest(_words(reading), _words(text)))) else reading


def _composed(pairs: re.Match[str]) -> str:
    """Letters with their accents as one character each, where there is one."""
    return unicodedata.normalize("NFC", pairs[0])


def _words(text: str) -> Iterator[str]:
    return chain.from_iterable(_WORD.findall(block[0]) for block in _BLOCKS.finditer(text))


class _Characters(dict[int, int | str]):
    """What each character is replaced by, found when it is first met; bounded, since clients choose them."""

    def __missing__(self, code: int) -> int | str:
        if len(self) >= _REMEMBERED:
            self.clear()
        found = _replacement(chr(code))
        self[code] = replacement = code if found == chr(code) else found  # itself takes no more memory than that
        return replacement


_CHARACTERS: Final = _Characters()


def _replaced(run: re.Match[str]) -> str:
    return run[0].translate(_CHARACTERS)


def _replacement(character: str) -> str:
    category = unicodedata.category(character)
    if character in _BLANKS:
        return " "
    if INVISIBLE.match(character) or (category in ("Cf", "Cc") and not character.isspace()):
        return ""
    if category in _MOSTLY_PLAIN and not unicodedata.decomposition(character):
        return character
    name = unicodedata.name(character, "")
    if category in ("Mn", "Me") and name.startswith("COMBINING"):
        return ""  # struck through, underlined, or one of a heap: an accent that belongs here is one with its letter
    if capital := _CAPITAL.fullmatch(name):
        return capital[1].lower()
    plain = unicodedata.normalize("NFKC", character)
    gains_marks = category[0] != "M" and any(unicodedata.category(each)[0] == "M" for each in plain)
    return character if gains_marks or len(plain) > _LONGEST else plain


def _in_our_alphabet(block: str) -> str:
    """The text with the lookalikes replaced in each word that mixes them with ASCII letters, or is of nothing else."""
    looser, strict = _lookalikes(with_similar=True), _lookalikes(with_similar=False)
    pieces = _FOREIGN.split(block)
    pieces[::2] = [each if each.isascii() else each.translate(looser) for each in pieces[::2]]
    pieces[1::2] = [
        twin if len(each) >= _SHORTEST and (twin := each.translate(strict)).isascii() else each for each in pieces[1::2]
    ]
    return "".join(pieces)


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
        if with_similar and (small := _CAPITAL.fullmatch(twin["n"])):
            return small[1].lower()
    return ""
