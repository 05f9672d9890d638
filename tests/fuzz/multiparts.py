"""multipart/form-data: as browsers and clients send it, and in the odd spellings that parsers disagree on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from fuzz.grammar import NAMES, Dice, document, urlencoded, words
from fuzz.mutation import BOUNDARY

PART_TYPES: Final = (
    "text/plain",
    "text/plain; charset=utf-8",
    "text/plain; charset=us-ascii",
    "application/octet-stream",
    "application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "image/png",
)
_BOUNDARIES: Final = (BOUNDARY, BOUNDARY, "----WebKitFormBoundaryAbC123", "a", "'quoted:b'")
_ODD: Final = 0.1


def multipart(dice: Dice) -> tuple[bytes, bytes]:
    """A Content-Type and its body."""
    boundary = dice.pick(_BOUNDARIES)
    parts = [_odd_part(dice) if dice.chance(_ODD) else _part(dice) for _ in range(1 + dice.below(3))]
    framed = _odd_frame(dice, parts, boundary) if dice.chance(_ODD) else _frame(parts, boundary)
    named = f'boundary="{boundary}"' if ":" in boundary or dice.chance(0.2) else f"boundary={boundary}"
    charset = dice.pick(("", "", "", " charset=utf-8;", " charset=us-ascii;"))
    return f"multipart/form-data;{charset} {named}".encode(), framed


def _frame(parts: list[bytes], boundary: str) -> bytes:
    lines = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
    return lines + f"--{boundary}--\r\n".encode()


def _odd_frame(dice: Dice, parts: list[bytes], boundary: str) -> bytes:
    """Parts where some parsers find them and some do not, and lines that end otherwise."""
    whole, other = _frame(parts, boundary), f"--{boundary}\r\n".encode() + _part(dice)
    delimiter = f"--{boundary}".encode()
    return dice.pick(
        (
            other + b"\r\n" + whole,
            _part(dice) + b"\r\n" + whole,
            b"\r\n" + whole,
            b"This is a message in several parts.\r\n" + whole,
            whole + other + b"\r\n",
            whole + b"\r\n" + other + b"\r\n" + delimiter + b"--\r\n",
            whole.removesuffix(b"--\r\n"),
            whole.removesuffix(b"\r\n"),
            whole.replace(b"\r\n", b"\n"),
            whole.replace(delimiter + b"\r\n", delimiter + b" \t\r\n"),
            whole.replace(delimiter + b"\r\n", delimiter + b"X\r\n"),
            whole.replace(b"\r\n" + delimiter, delimiter),
            whole.replace(b"\r\n" + delimiter, b"\n" + delimiter),
            whole.replace(delimiter, delimiter.swapcase()),
        )
    )


def _part(dice: Dice) -> bytes:
    head = f'Content-Disposition: form-data; name="{dice.pick(NAMES)}"'
    is_file = dice.chance(0.3)
    if is_file:
        names = ("note.txt", "", "dir/note.txt", "na\u00efve.txt", "a&amp;b.txt", "%22.txt", "a\\\\b.txt", words(dice))
        head += f'; filename="{dice.pick(names)}"'
    if is_file or dice.chance(0.2):
        head += f"\r\nContent-Type: {dice.pick(PART_TYPES)}"
    value = words(dice) if dice.chance(0.8) else json.dumps(document(dice), ensure_ascii=dice.chance(0.5))
    if dice.chance(0.1):
        head += f"\r\nContent-Length: {len(value.encode())}"
    if dice.chance(0.05):
        head += f"\r\nContent-Transfer-Encoding: {dice.pick(('binary', '8bit', '7bit'))}"
    return f"{head}\r\n\r\n{value}".encode()


def _odd_part(dice: Dice) -> bytes:
    """One odd thing about a part that is honest otherwise."""
    return dice.pick((_oddly_named, _oddly_headed, _oddly_coded))(dice)


def _oddly_named(dice: Dice) -> bytes:
    name, word = dice.pick(NAMES) or "message", words(dice)
    spellings = (
        f"name={name}",
        f'name=" {name} "',
        f'name="{name[:2]}\\{name[2:]}"',
        f"name='{name}'",
        f'name="{quote(name[:1], safe="")}%{ord(name[-1]) % 128:02x}"',
        f"name*=utf-8''{quote(name)}",
        f"name=\"id\"; name*=utf-8''{quote(name)}",
        f'name*0="{name[:3]}"; name*1="{name[3:]}"',
        f'name="id"; name="{name}"',
        f'NAME="{name}"',
        f'name ="{name}"',
        f'name="{name}"; filename',
        f'name="{name}"; filename=note.txt',
        f"name=\"{name}\"; filename*=utf-8''{quote(word)}",
        f'name="{name}"; filename="a.txt"; filename="{dice.pick(NAMES)}.txt"',
        f'name="{name}"; size=3',
        f'name="{name}";',
        f'filename="{name}.txt"',
    )
    return f"Content-Disposition: form-data; {dice.pick(spellings)}\r\n\r\n{word}".encode()


def _oddly_headed(dice: Dice) -> bytes:
    line = f'Content-Disposition: form-data; name="{dice.pick(NAMES)}"'
    other = f'Content-Disposition: form-data; name="{dice.pick(NAMES)}"'
    heads = (
        f"{line}\r\n{other}",
        f"{line}\r\nX-Other: 1",
        line.replace("form-data", "attachment"),
        line.replace("form-data;", "form-data"),
        line.replace(" name", "\r\n name"),
        line.replace(": ", " : "),
        line.replace(": ", ":\t"),
        line.swapcase(),
        f" {line}",
        f"{line}\r\nContent-Type: text/plain\r\nContent-Type: application/json",
        f"{line}\r\nContent-Length: 2",
        "Content-Type: text/plain",
        "",
    )
    return f"{dice.pick(heads)}\r\n\r\n{words(dice)}".encode()


def _oddly_coded(dice: Dice) -> bytes:
    """A value in a coding that its own head names."""
    line = f'Content-Disposition: form-data; name="{dice.pick(NAMES)}"\r\n'.encode()
    word = words(dice)
    codings: tuple[tuple[str, Callable[[str], bytes]], ...] = (
        ("Content-Transfer-Encoding: base64", lambda text: base64.b64encode(text.encode())),
        ("Content-Transfer-Encoding: quoted-printable", lambda text: quote(text).replace("%", "=").encode()),
        ("Content-Type: text/plain; charset=utf-16", lambda text: text.encode("utf-16")),
        ("Content-Type: text/plain; charset=utf-7", lambda text: text.encode("utf-7")),
        ("Content-Type: text/plain; charset=latin-1", lambda text: text.encode("latin-1", "replace")),
        ("Content-Type: text/plain; charset=unicode_escape", lambda text: text.encode("unicode_escape")),
        ("Content-Type: application/x-www-form-urlencoded", lambda _text: urlencoded(dice)),
    )
    head, encode = dice.pick(codings)
    return line + head.encode() + b"\r\n\r\n" + encode(word)
