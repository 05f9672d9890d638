"""Every text and image in a JSON value, whatever its shape."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from prescreen.model import Image, Item, Text
from prescreen.paths.pointer import Chain, pointer
from prescreen.paths.query import Node, members

# What an OpenAI-style message or content part may say of itself. These strings are vocabulary, not text.
_IMAGE_PARTS: Final = ("image_url", "input_image")
_VOCABULARY: Final = {
    "type": frozenset({"text", "input_text", "output_text", *_IMAGE_PARTS}),
    "detail": frozenset({"auto", "low", "high"}),
}
PART_NAMES: Final = frozenset({"type", "text", "role", "content", "image_url", "url", "filename"})
"""The names in such messages and parts."""

_ADDRESS: Final = re.compile(r"(?:https?://|data:image/)[!-~]+", re.IGNORECASE)
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_LONGEST_WORDS: Final = 8_192  # characters; cameras put all kinds of things behind an image, and images are longer
_ENDS: Final = {"png": b"IEND\xaeB`\x82", "jpg": b"\xff\xd9", "jpeg": b"\xff\xd9", "gif": b"\x3b"}
# By the first bytes, in base64, of the formats that OpenAI's guide to images names: anything else may be prose.
_DATA: Final = re.compile(
    r"data:image/(?:png;base64,iVBORw0KGgo|jpe?g;base64,/9j/|gif;base64,R0lGOD|webp;base64,UklGR)[A-Za-z0-9+/]+={0,2}"
)


def items(at: str, value: str, *, with_links: bool, with_images: bool = True) -> Iterator[Item]:
    """What a string is: a text, unless it is an image in a `data:` URL; an image, too, if it begins like one.

    With `with_links` a link to what is called an image is one. Without `with_images` nobody will look at images, so that
    everything is a text.
    """
    if not with_images:
        yield Text(at, value)
        return
    is_image = _DATA.fullmatch(value) is not None
    if not is_image or _may_hold_words(value):
        yield Text(at, value)
    if is_image or (with_links and _is_picture(value)):
        yield Image(at, value)


def _may_hold_words(image: str) -> bool:
    """Whether what begins like an image is so short, and ends so unlike one, that it may be something to read."""
    return len(image) <= _LONGEST_WORDS and not _is_whole(image)


def _is_whole(image: str) -> bool:
    """Whether it ends like an image, too, so that no words are written in the place of its bytes."""
    kind, _, data = image.partition(";base64,")
    if len(data) % 4:
        return False
    head, end = b64decode(data[:16]), b64decode(data[-16:])
    if kind.endswith("webp"):
        return int.from_bytes(head[4:8], "little") + 8 == len(data) * 3 // 4 - data[-2:].count("=")
    return end.endswith(_ENDS[kind.removeprefix("data:image/")])


def _is_picture(value: str) -> bool:
    """Whether it is a link, and nothing else, to what is called an image."""
    path = value.partition("?")[0].lower()
    return path.startswith("https://") and path.endswith(_PICTURES) and _ADDRESS.fullmatch(value) is not None


class Walk:
    """What is said at the places of one JSON value.

    A pointer is put together only for what comes out, so the work is linear in the document. `known` are the member names
    that are no texts, None where none is one. `with_vocabulary` takes even what content parts say of themselves, each
    word once. Without `with_images` an image is one only in a content part that says so.
    """

    def __init__(
        self,
        known: Collection[str] | None,
        *,
        with_links: bool,
        with_vocabulary: bool = False,
        with_images: bool = True,
    ) -> None:
        self._names = None if known is None else set(known)
        self._spoken_for: set[tuple[int, str]] = set()  # ids live as long as the document
        self._with_links, self._with_images = with_links, with_images
        self._said: set[str] | None = set() if with_vocabulary else None

    def inside(self, nodes: Iterable[Node]) -> Iterator[Item]:
        """Every text and image in the selected values."""
        for value, at, holder, is_left in nodes:
            if isinstance(value, str):
                yield from self._string(value, at, holder)
            elif value.__class__ is dict or value.__class__ is list:
                if value.__class__ is dict:
                    yield from self._about(value, at)
                if is_left:
                    yield from self._all_in(value, at)

    def _all_in(self, container: Any, at: Chain) -> Iterator[Item]:
        names = self._names
        stack: list[tuple[Any, Chain, Iterator[tuple[Any, Any]]]] = [(container, at, members(container))]
        while stack:
            holder, at, left = stack[-1]
            for token, value in left:
                kind = value.__class__
                if kind is dict or kind is list:
                    if value:
                        at = (at, token)
                        if kind is dict and ("type" in value or (names is not None and not names.issuperset(value))):
                            yield from self._about(value, at)
                        stack.append((value, at, iter(value.items()) if kind is dict else enumerate(value)))
                        break
                elif isinstance(value, str):
                    yield from self._string(value, (at, token), holder)
            else:
                stack.pop()

    def _string(self, value: str, at: Chain, holder: object) -> Iterator[Item]:
        # A pointer costs something, and there is no limit on blanks.
        if value and not value.isspace() and (holder is None or not self._is_spoken_for(holder, at, value)):
            yield from items(pointer(at), value, with_links=self._with_links, with_images=self._with_images)

    def _about(self, container: dict[str, Any], at: Chain) -> Iterator[Item]:
        """The names in an object, and its image if it is a content part that has one."""
        if self._names is not None and not self._names.issuperset(container):
            yield from self._new_names(self._names, container, at)
        if container.get("type") in _IMAGE_PARTS:
            yield from self._picture(container, at)

    def _new_names(self, known: set[str], container: dict[str, Any], at: Chain) -> Iterator[Item]:
        for name in container:
            if name not in known and not name.isspace():
                known.add(name)
                yield from items(pointer((at, name)), name, with_links=False, with_images=self._with_images)

    def _picture(self, part: dict[str, Any], at: Chain) -> Iterator[Image]:
        holder, name, place = part, "image_url", (at, "image_url")
        if isinstance(part.get("image_url"), dict):
            holder, name, place = part["image_url"], "url", (place, "url")
        url = holder.get(name)
        if isinstance(url, str) and url[:11].lower().startswith(("https://", "http://", "data:image/")):
            yield Image(pointer(place), url)
            if _DATA.fullmatch(url) and not _may_hold_words(url):
                self._spoken_for.add((id(holder), name))

    def _is_spoken_for(self, holder: object, at: Chain, value: str) -> bool:
        """Whether the string is a content part's own vocabulary, or an image's URL and nothing else."""
        token = at[1] if at else 0
        if not isinstance(token, str):
            return False
        if value in _VOCABULARY.get(token, ()):
            if self._said is None or value in self._said:
                return True
            self._said.add(value)
        return (id(holder), token) in self._spoken_for
