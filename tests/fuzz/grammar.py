"""What clients send, in every spelling that the grammars allow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from random import Random
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

from fuzz.mutation import BOUNDARY

T = TypeVar("T")

WORDS: Final = (
    "seven violet lanterns",
    "a name for a cat",
    "what is the capital of Norway?",
    "déjà vu",
    "naïve café",
    "日本語のテキスト",
    "so 😀 glad",
    "e\u0301tude",
    'she said "hello"',
    "back\\slash and \\n",
    "50% + 1 & more = all",
    "first line\nsecond line",
    "first line\r\nsecond line",
    "tab\there",
    "a;b;c",
    "<b>bold</b> &amp; &#109;ild",
    "%41%42 %zz",
    "one+two",
    '{"message": "a text inside"}',
    '["in", "a list"]',
    '"quoted"',
    "\\u0073even",
    "=?utf-8?q?word?=",
    "line\u2028separator",
    "\ufeffmarked",
    "right\u202eleft",
    "zero\u200bwidth",
    "\uff46\uff55\uff4c\uff4c width",
    "--" + BOUNDARY,
    "true",
    "42",
    "null",
    "",
    " ",
    "x" * 300,
)
NAMES: Final = (
    "message",
    "message",
    "message",
    "messages",
    "content",
    "role",
    "id",
    "text",
    "Message",
    "title",
    "déjà",
    "user message",
    "",
)
_LONG: Final = "x" * 66_000  # over the size from which work goes to a thread


class Dice(Random):
    """Random choices, cheaply. `has_long` says that the next word is a long one."""

    has_long = False

    def chance(self, share: float) -> bool:
        return self.random() < share

    def below(self, end: int) -> int:
        return int(self.random() * end)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]


def words(dice: Dice) -> str:
    if dice.has_long:
        dice.has_long = False
        return f"{_LONG} {dice.pick(WORDS)}"
    word = dice.pick(WORDS)
    return f"{word} {dice.pick(WORDS)}" if dice.chance(0.2) else word


# JSON


def document(dice: Dice) -> Any:
    if dice.chance(0.35):
        return {"model": "small", "messages": [_chat(dice) for _ in range(1 + dice.below(3))]}
    if dice.chance(0.05):
        return value_of(dice, 2)
    document = {dice.pick(NAMES): value_of(dice, 2) for _ in range(dice.below(3))}
    return document | {"message": words(dice) if dice.chance(0.7) else value_of(dice, 2)}


def _chat(dice: Dice) -> Any:
    content: Any = words(dice)
    if dice.chance(0.4):
        content = [_part(dice) for _ in range(1 + dice.below(2))]
    return {"role": dice.pick(("user", "system", "tool")), "content": content}


def _part(dice: Dice) -> Any:
    if dice.chance(0.7):
        return {"type": dice.pick(("text", "input_text", words(dice))), "text": words(dice)}
    url = dice.pick(("https://pictures.example/a.png", "data:image/png;base64,AAAA", words(dice)))
    return {"type": "image_url", "image_url": {"url": url, "detail": dice.pick(("auto", words(dice)))}}


def value_of(dice: Dice, depth: int) -> Any:
    roll = dice.below(10)
    if roll < 5 or not depth:
        return words(dice)
    if roll < 7:
        return [value_of(dice, depth - 1) for _ in range(dice.below(3))]
    if roll < 9:
        return {dice.pick(NAMES): value_of(dice, depth - 1) for _ in range(dice.below(3))}
    return dice.pick((None, True, 0, -1.5, 1e300, 12345678901234567890))


def spelled(dice: Dice, value: Any) -> str:
    """JSON in its rarer spellings: blanks anywhere, characters escaped at random."""
    blank = dice.pick(("", "", " ", "\n", "\t", "\r\n  "))
    if isinstance(value, str):
        return f"{blank}{_literal(dice, value)}"
    if isinstance(value, list):
        return f"{blank}[{','.join(spelled(dice, each) for each in value)}{blank}]"
    if isinstance(value, dict):
        members = (f"{blank}{_literal(dice, name)}{blank}:{spelled(dice, each)}" for name, each in value.items())
        return f"{{{','.join(members)}{blank}}}"
    return f"{blank}{json.dumps(value)}{blank}"


def _literal(dice: Dice, text: str) -> str:
    share = dice.pick((0, 26, 256))  # of 256
    rolls = dice.randbytes(len(text))
    spellings = map(_SPELLINGS.__getitem__, text)
    return f'"{"".join([each[4 * (roll < share) + roll % 4] for each, roll in zip(spellings, rolls, strict=True)])}"'


class _Spellings(dict[str, tuple[str, ...]]):
    """Four ways to write a character, of which the first is as it is if that may be; then four with its number."""

    def __missing__(self, letter: str) -> tuple[str, ...]:
        units = letter.encode("utf-16-be").hex()
        digits = [units[at : at + 4] for at in range(0, len(units), 4)]
        lower, upper = ("".join(f"\\u{cased}" for cased in (map(case, digits))) for case in (str.lower, str.upper))
        mixed = f"{lower[:6]}{upper[6:]}"
        coded = (lower, upper, mixed, upper)
        must = letter in '"\\' or letter < " "
        self[letter] = found = (
            coded * 2 if must else (letter, "\\/" if letter == "/" else letter, letter, letter, *coded)
        )
        return found


_SPELLINGS: Final = _Spellings()


# Forms


_CODED: Final = [[f"%{byte:02X}" for byte in range(256)], [f"%{byte:02x}" for byte in range(256)]]


def urlencoded(dice: Dice) -> bytes:
    pairs = [f"{_coded(dice, dice.pick(NAMES))}={_coded(dice, words(dice))}" for _ in range(1 + dice.below(3))]
    return "&".join(pairs).encode()


_quoted_plus = lru_cache(1 << 12)(quote_plus)
_quoted = lru_cache(1 << 12)(partial(quote, safe="/?:@!$'()*,;"))


def _coded(dice: Dice, text: str) -> str:
    roll = dice.below(8)
    if roll < 5:
        return _quoted_plus(text)
    if roll < 6:
        return _quoted(text)
    if roll < 7:
        data = text.encode()
        return "".join([_CODED[roll & 1][byte] for roll, byte in zip(dice.randbytes(len(data)), data, strict=True)])
    return text.replace("%", "%25").replace("&", "%26").replace("+", "%2B").replace("=", "%3D")
