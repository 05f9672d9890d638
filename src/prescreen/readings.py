"""From what was found to what the moderator is asked: every text whole, and in every reading. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prescreen.fold import folded
from prescreen.model import Item, Text


def readings(items: Sequence[Item], longest: int | None, *, join: bool = False) -> tuple[Item, ...]:
    """The items, with the folded reading of each text that has one, in pieces of at most `longest` characters.

    With `join` the texts are judged as one, too, with a blank between them and without. None is no limit.
    A piece has its text's pointer, so the worst of them counts for it.
    """
    found = [*items, *_joined([item for item in items if isinstance(item, Text)])] if join else items
    return tuple(each for item in found for each in (_readings(item, longest) if isinstance(item, Text) else (item,)))


def _joined(texts: Sequence[Text]) -> Iterator[Text]:
    if len(texts) > 1:
        for between in (" ", ""):
            yield Text("", between.join(text.value for text in texts))


def _readings(text: Text, longest: int | None) -> Iterator[Text]:
    for value in (text.value, folded(text.value)):
        if value is not None and (longest is None or len(value) <= longest):
            yield text if value is text.value else Text(text.pointer, value)
        elif value is not None and longest is not None:
            yield from (Text(text.pointer, piece) for piece in pieces(value, longest))


def pieces(text: str, longest: int) -> Iterator[str]:
    """The text in overlapping pieces of at most `longest` characters, cut between words where there are any.

    The overlap is an eighth of a piece: what is said across a cut is said whole in one of them.
    """
    start = 0
    while len(text) - start > longest:
        end = _last_blank(text, start + longest // 2, start + longest) or start + longest
        yield text[start:end]
        start = (_last_blank(text, end - longest // 4, end - longest // 8) or end - longest // 8 - 1) + 1
    yield text[start:]


def _last_blank(text: str, start: int, end: int) -> int | None:
    """Where the last blank in that range is."""
    found = max(text.rfind(blank, start, end) for blank in " \n")
    return None if found < 0 else found
