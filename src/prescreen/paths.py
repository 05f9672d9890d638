"""From a Document to the texts and images in it, at the places that a rule names. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from prescreen.document import Document, Field, Limits
from prescreen.errors import ConfigError, Oversize, Unreadable
from prescreen.model import Image, Item, Text

if TYPE_CHECKING:
    from jsonpath_rfc9535 import JSONPathQuery

_IMAGE_PARTS: Final = frozenset({"image_url", "input_image"})
_VOCABULARY: Final = {
    "type": frozenset({"text", "input_text", "output_text"}) | _IMAGE_PARTS,
    "detail": frozenset({"auto", "low", "high"}),
}
_QUERY: Final = "query#"
_PART_NAMES: Final = frozenset({"type", "text", "content", "image_url", "url", "filename"})


class Places:
    """Where one rule looks: compiled once, then asked for the items of each document.

    Raises ConfigError for a `json` that is not an RFC 9535 query, or that filters with a regular
    expression: those run on the client's text, where a backtracking one is a lever to stall us.
    """

    def __init__(self, *, json: Iterable[str], form: Iterable[str], query: Iterable[str], text: bool) -> None:
        self._queries = tuple(_compile(path, f"json[{index}]") for index, path in enumerate(json))
        self._form = frozenset(map(_loose, form))
        self._query = frozenset(map(_loose, query))
        self._text = text
        named = map(_escape, (*self._form, *self._query, *_literals(self._queries)))
        self._names = _PART_NAMES.union(named)

    def items(self, document: Document, query: Iterable[Field], limits: Limits) -> tuple[Item, ...]:
        """Every text and image at the named places, each once, in document order per place.

        Raises Oversize for more texts or characters than `limits` allows, Unreadable for a named
        form field or query parameter that is not UTF-8.
        """
        found: dict[tuple[str, str], Item] = {}
        for item in self._found(document, query):
            if isinstance(item, Image):
                found[item.pointer, item.url] = item
            else:
                found.setdefault((item.pointer, item.value), item)
        return _within(tuple(found.values()), limits)

    def _found(self, document: Document, query: Iterable[Field]) -> Iterator[Item]:
        for path in self._queries if document.has_json else ():
            for node in path.finditer(document.json):  # type: ignore[arg-type]
                yield from _inside(node.value, _pointer(node.location))
        yield from _named(document.fields, self._form, "")
        yield from _named(query, self._query, _QUERY)
        if self._text and document.text:
            yield Text("", document.text)

    def mask(self, pointer: str) -> str:
        """The pointer with every name that the client chose replaced by `*`: fit for a log."""
        document = _QUERY if pointer.startswith(_QUERY) else ""
        tokens = pointer.removeprefix(document).split("/")[1:]
        return "/".join([document, *(token if self._is_known(token) else "*" for token in tokens)])

    def _is_known(self, token: str) -> bool:
        return token in self._names or (token.isascii() and token.isdigit() and len(token) < 6)


def _compile(path: str, key: str) -> JSONPathQuery:
    from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError

    environment = JSONPathEnvironment()
    for name in ("match", "search"):
        environment.function_extensions.pop(name)
    try:
        return environment.compile(path)
    except JSONPathError as error:
        hint = "" if path.startswith("$") else "; a path starts with $, as in '$.messages[*].content'"
        raise ConfigError(key, f"{path!r} is not a JSONPath (RFC 9535): {error}{hint}") from error


def _literals(queries: Iterable[JSONPathQuery]) -> Iterator[str]:
    """The names that the configured paths contain themselves."""
    for query in queries:
        for segment in query.segments:
            yield from (name for each in segment.selectors if (name := getattr(each, "name", None)))


def _inside(value: object, pointer: str) -> Iterator[Item]:
    """Every text and image inside a value, whatever its shape, in document order."""
    stack: list[tuple[str, object]] = [(pointer, value)]
    images: set[str] = set()
    while stack:
        at, value = stack.pop()
        if isinstance(value, str) and at not in images:
            yield Text(at, value)
        elif isinstance(value, list):
            stack.extend((f"{at}/{index}", value[index]) for index in range(len(value) - 1, -1, -1))
        elif isinstance(value, dict):
            if (image := _image(value, at)) is not None:
                images.add(image.pointer)
                yield image
            members = [(f"{at}/{_escape(name)}", child) for name, child in value.items() if not _is_word(name, child)]
            stack.extend(reversed(members))


def _is_word(name: str, value: object) -> bool:
    """Whether this member only says what a content part is, in the format's own words."""
    return isinstance(value, str) and value in _VOCABULARY.get(name, ())


def _image(part: Mapping[str, object], pointer: str) -> Image | None:
    kind = part.get("type")
    if not (isinstance(kind, str) and kind in _IMAGE_PARTS):
        return None
    url, at = part.get("image_url"), f"{pointer}/image_url"
    if isinstance(url, dict):
        url, at = url.get("url"), f"{at}/url"
    return Image(at, url) if isinstance(url, str) and _is_image_url(url) else None


def _is_image_url(url: str) -> bool:
    return url[:11].lower().startswith(("https://", "http://", "data:image/"))


def _named(fields: Iterable[Field], names: frozenset[str], document: str) -> Iterator[Item]:
    """The values, and for files the names, of every occurrence of the named fields."""
    chosen = [field for field in fields if "*" in names or _loose(field.name) in names]
    counts: dict[str, int] = {}
    repeated = {name for name, number in _tally(chosen).items() if number > 1}
    for field in chosen:
        at = f"{document}/{_escape(field.name)}"
        if field.name in repeated:
            counts[field.name] = counts.get(field.name, -1) + 1
            at = f"{at}/{counts[field.name]}"
        if field.filename is not None:
            yield Text(f"{at}/filename", field.filename)
            at = f"{at}/content"
        yield Text(at, _utf8(field))


def _tally(fields: Iterable[Field]) -> dict[str, int]:
    tally: dict[str, int] = {}
    for field in fields:
        tally[field.name] = tally.get(field.name, 0) + 1
    return tally


def _utf8(field: Field) -> str:
    try:
        return field.value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("a form field or query parameter is not UTF-8") from error


def _within(items: tuple[Item, ...], limits: Limits) -> tuple[Item, ...]:
    texts = [item.value for item in items if isinstance(item, Text)]
    if len(items) > limits.texts:
        raise Oversize(f"there are {len(items)} texts and images to moderate; the limit is {limits.texts}")
    if (characters := sum(map(len, texts))) > limits.characters:
        raise Oversize(f"there are {characters} characters to moderate; the limit is {limits.characters}")
    return tuple(item for item in items if isinstance(item, Image) or item.value.strip())


def _pointer(location: Iterable[str | int]) -> str:
    return "".join(f"/{_escape(str(token))}" for token in location)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")  # RFC 6901, section 3


def _loose(name: str) -> str:
    """A field name as the most forgiving reader takes it: trimmed, percent-coding undone."""
    return unquote(name).strip()
