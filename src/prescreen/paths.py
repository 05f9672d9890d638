"""From a Document to the texts and images in it, at the places that a rule names. No I/O."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, unquote_plus

from prescreen.document import Document, Field, Limits, unquoted
from prescreen.errors import ConfigError, Oversize, Unreadable
from prescreen.model import Image, Item, Text

if TYPE_CHECKING:
    from jsonpath_rfc9535 import JSONPathNode, JSONPathQuery

# What an OpenAI-style content part may say of itself. These strings are vocabulary, not text.
_IMAGE_PARTS: Final = ("image_url", "input_image")
_VOCABULARY: Final = {
    "type": frozenset({"text", "input_text", "output_text", *_IMAGE_PARTS}),
    "detail": frozenset({"auto", "low", "high"}),
}
_PART_NAMES: Final = frozenset({"type", "text", "content", "image_url", "url", "filename"})
_QUERY: Final = "query#"
_LONGEST_POINTER: Final = 4_096  # characters; the names in it are the client's

Chain = tuple["Chain", str | int] | None
"""Where a value lies: the chain of its container and its own token. Made a pointer only when needed."""


class Places:
    """Where a rule looks: compiled once, then asked for the items of each document.

    Raises ConfigError for a `json` that is not an RFC 9535 query, or that filters with a regular
    expression: those run on the client's text, where a backtracking one is a lever to stall us.
    """

    def __init__(self, *, json: Iterable[str], form: Iterable[str], query: Iterable[str], text: bool) -> None:
        self._queries = tuple(_compile(path, f"json[{index}]") for index, path in enumerate(json))
        self._form = frozenset(map(_loose, form))
        # Some accessors (Flask's `request.values`, say) look for a form's field in the query, too.
        self._query = frozenset(map(_loose, query)) | self._form
        self._text = text
        self._spelled = _spellings(self._form)
        named = map(_escape, (*self._form, *self._query, *_literals(self._queries)))
        self._names = _PART_NAMES.union(named)

    def items(self, document: Document, query: Iterable[Field], limits: Limits) -> tuple[Item, ...]:
        """Every text and image at the named places, each once.

        Raises Oversize for more texts or characters than `limits` allows, Unreadable for a named
        form field or query parameter that is not UTF-8.
        """
        found: dict[tuple[str, str], Item] = {}
        characters = images = 0
        for item in self._found(document, query):
            if isinstance(item, Image):
                found[item.pointer, item.url] = item
                images += 1
            elif item.value.strip() and (item.pointer, item.value) not in found:
                found[item.pointer, item.value] = item
                characters += len(item.value)
            if len(found) > limits.texts:
                raise Oversize(f"there are more than {limits.texts} texts and images to moderate")
            if images > limits.images:
                raise Oversize(f"there are more than {limits.images} images to moderate")
            if characters > limits.characters:
                raise Oversize(f"there are more than {limits.characters} characters to moderate")
        return tuple(found.values())

    def mask(self, pointer: str) -> str:
        """The pointer with every name that the client chose replaced by `*`: fit for a log."""
        document = _QUERY if pointer.startswith(_QUERY) else ""
        tokens = pointer.removeprefix(document).split("/")[1:]
        return "/".join([document, *(token if self._is_known(token) else "*" for token in tokens)])

    def _found(self, document: Document, query: Iterable[Field]) -> Iterator[Item]:
        walk = _Walk()
        for path in self._queries if document.has_json else ():
            for node in path.finditer(document.json):  # type: ignore[arg-type]
                yield from walk.node(node)
        yield from _named(document.fields, self._form, "")
        yield from _named(query, self._query, _QUERY)
        if document.form_like is not None and "*" in self._form:
            bodies = [field.value for field in document.fields] or [document.form_like]
            coded = (body for body in bodies if b"%" in body or b"+" in body)  # else it is there already
            yield from (Text("", unquoted(body).decode("utf-8", "replace")) for body in coded)
        elif document.form_like is not None:
            yield from self._spelled_out(document.form_like)
        if self._text and document.text:
            yield Text("", document.text)

    def _spelled_out(self, body: bytes) -> Iterator[Text]:
        """What a form reader that ignores the Content-Type would find under the named fields."""
        if self._spelled is not None:
            for match in self._spelled.finditer(body):
                name, _, value = match[0].lstrip(b"&").partition(b"=")
                pointer = f"/{_escape(unquoted(name).decode('utf-8', 'replace'))}"
                yield Text(pointer, unquoted(value).decode("utf-8", "replace"))

    def _is_known(self, token: str) -> bool:
        return token in self._names or (token.isascii() and token.isdigit() and len(token) < 6)


class _Walk:
    """One pass over one JSON value: each string inside what is selected comes out once.

    Nothing recurses, a container is entered once however often it is selected, and a pointer is put
    together only for what comes out, so the work is linear in the document.
    """

    def __init__(self) -> None:
        self._entered: set[int] = set()  # ids of containers; they live as long as the document
        self._images: set[tuple[int, str]] = set()

    def node(self, node: JSONPathNode) -> Iterator[Item]:
        """Every text and image inside a selected node, whatever its shape, in document order."""
        value = node.value
        if isinstance(value, str):
            if value.strip() and (node.parent is None or id(node.parent.value) not in self._entered):
                yield Text(_pointer(node.location), value)
        elif isinstance(value, dict | list) and id(value) not in self._entered:
            chain: Chain = None
            for token in node.location:
                chain = (chain, token)
            yield from self._inside(value, chain)

    def _inside(self, value: dict[str, object] | list[object], chain: Chain) -> Iterator[Item]:
        stack = [(value, chain, self._members(value))]
        yield from self._picture(value, chain)
        while stack:
            container, at, members = stack[-1]
            for token, child in members:
                if isinstance(child, str):
                    if child.strip() and not self._is_spoken_for(container, token, child):
                        yield Text(_pointer(_tokens((at, token))), child)
                elif isinstance(child, dict | list) and id(child) not in self._entered:
                    stack.append((child, (at, token), self._members(child)))
                    yield from self._picture(child, (at, token))
                    break
            else:
                stack.pop()

    def _members(self, container: dict[str, object] | list[object]) -> Iterator[tuple[str | int, object]]:
        self._entered.add(id(container))
        return iter(container.items()) if isinstance(container, dict) else enumerate(container)

    def _picture(self, part: object, chain: Chain) -> Iterator[Image]:
        """The image of a content part that is one."""
        if not isinstance(part, dict) or part.get("type") not in _IMAGE_PARTS:
            return
        holder, tokens = part, ["image_url"]
        if isinstance(part.get("image_url"), dict):
            holder, tokens = part["image_url"], ["image_url", "url"]
        url = holder.get(tokens[-1])
        if isinstance(url, str) and url[:11].lower().startswith(("https://", "http://", "data:image/")):
            self._images.add((id(holder), tokens[-1]))
            yield Image(_pointer([*_tokens(chain), *tokens]), url)

    def _is_spoken_for(self, container: object, token: str | int, value: str) -> bool:
        """Whether the string is a content part's own vocabulary, or an image's URL."""
        return isinstance(token, str) and (
            value in _VOCABULARY.get(token, ()) or (id(container), token) in self._images
        )


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


def _named(fields: Iterable[Field], names: frozenset[str], document: str) -> Iterator[Text]:
    """The values, and for files the names, of every occurrence of the named fields."""
    chosen = [field for field in fields if "*" in names or _loose(field.name) in names]
    repeated, seen = Counter(field.name for field in chosen), Counter[str]()
    for field in chosen:
        at = f"{document}/{_escape(field.name)}"
        if repeated[field.name] > 1:
            at, seen[field.name] = f"{at}/{seen[field.name]}", seen[field.name] + 1
        if field.filename is not None:
            yield from (Text(f"{at}/filename", reading) for reading in _filenames(field.filename))
            at = f"{at}/content"
        yield from (Text(at, reading) for reading in _values(field))


def _values(field: Field) -> Iterator[str]:
    """A field's value, and what readers find that take its unescaped bytes for latin-1."""
    value = unquoted(field.value) if field.is_coded else field.value
    try:
        yield value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("a form field or query parameter is not UTF-8") from error
    if field.is_coded and not field.value.isascii():
        yield unquote_plus(field.value.decode("latin-1"))


def _filenames(name: str) -> Iterable[str]:
    """A file's name as sent and as readers clean it up: unescaped, without folders and HTML entities."""
    readings = [name]
    for clean in (_unescaped, html.unescape, _printable, _basename):
        readings += [clean(each) for each in readings]
    return dict.fromkeys(readings)


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _printable(name: str) -> str:
    return "".join(filter(str.isprintable, name))


def _basename(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _spellings(names: frozenset[str]) -> re.Pattern[bytes] | None:
    """What finds the named fields in raw bytes, each byte of a name plain or percent-coded."""
    if not names or "*" in names:
        return None
    spelled = ("".join(map(_spelling, name.encode())) for name in names)
    return re.compile(f"(?:\\A|&)(?:{'|'.join(spelled)})=[^&]*".encode("latin-1"))


def _spelling(byte: int) -> str:
    coded = "".join(f"[{digit}{digit.upper()}]" for digit in f"{byte:02x}")
    plain = r"(?:\+|\x20)" if byte == 0x20 else f"\\x{byte:02x}"
    return f"(?:{plain}|%{coded})"


def _tokens(chain: Chain) -> list[str | int]:
    tokens: list[str | int] = []
    while chain is not None:
        chain, token = chain
        tokens.append(token)
    return tokens[::-1]


def _pointer(tokens: Iterable[str | int]) -> str:
    texts = [str(token) for token in tokens]
    if sum(map(len, texts)) > _LONGEST_POINTER:
        raise Oversize(f"a text lies under names of more than {_LONGEST_POINTER} characters")
    return "".join(f"/{_escape(text)}" for text in texts)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")  # RFC 6901, section 3


def _loose(name: str) -> str:
    """A field name as the most forgiving reader takes it: trimmed, percent-coding undone."""
    return unquote(name).strip()
