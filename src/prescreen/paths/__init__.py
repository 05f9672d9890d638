"""From a Document to the texts and images in it, at the places that a rule names. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prescreen.document import Document, Field, Limits, escaped_strings
from prescreen.errors import Oversize, Unwanted
from prescreen.model import Image, ImagePolicy, Item, Text, Unmatched
from prescreen.paths.fields import Fields
from prescreen.paths.pointer import escape
from prescreen.paths.query import Query
from prescreen.paths.walk import PART_NAMES, Walk
from prescreen.rule import EVERYTHING

_QUERY: Final = "query#"


class Places:
    """Where a rule looks: compiled once, then asked for the items of each document.

    `json`, `form`, `query`, `text`, `keys`, `images` and `on_unmatched` are as in Rule. Raises ConfigError for a `json`
    that is no RFC 9535 query.
    """

    def __init__(
        self,
        *,
        json: Iterable[str],
        form: Iterable[str],
        query: Iterable[str],
        text: bool,
        keys: bool | None = None,
        images: ImagePolicy = "moderate",
        on_unmatched: Unmatched = "pass",
    ) -> None:
        paths = list(json)
        self.takes_all: Final = EVERYTHING in paths
        self._queries = tuple(Query(path, f"json[{index}]") for index, path in enumerate(paths) if path != EVERYTHING)
        self._with_images = images != "ignore"  # what nobody looks at may be prose that begins and ends like an image
        self._form = Fields(form, with_images=self._with_images)
        # Some accessors (Flask's `request.values`, say) look for a form's field in the query, too.
        self._query = Fields({*query, *self._form.names}, _QUERY, with_images=self._with_images)
        self._text = text
        self._keys, self._images, self._on_unmatched = keys, images, on_unmatched
        named = (*self._form.names, *self._query.names, *(name for each in self._queries for name in each.names))
        self._names = PART_NAMES.union(named) - {"*"}  # that stands for all names, and is none
        self._tokens = frozenset(map(escape, self._names))

    def items(self, document: Document, query: Iterable[Field], limits: Limits) -> tuple[Item, ...]:
        """Every text and image at the named places, each once; see `harvest`."""
        return tuple(self.harvest(document, tuple(query), limits).items)

    def harvest(self, document: Document, query: tuple[Field, ...], limits: Limits) -> Harvest:
        """What is at the named places; where a body has nothing there, what `on_unmatched` says.

        Raises Oversize for more than `limits` allows, Unreadable for a named form field or query parameter
        that is not UTF-8, Unwanted for what the rule refuses to take.
        """
        found = Harvest(limits, self._images)
        if self.takes_all:
            is_matched = found.take(self._everything(document, query, limits))
        else:
            # Each reading for itself: what one reader finds makes up for nothing that another reads.
            matches = [found.take(reading) for reading in self._readings(document, limits)]
            is_matched = all(matches)
        if not is_matched and document.kind is not None:
            found.is_unmatched = True
            if self._on_unmatched == "reject":
                raise Unwanted("the request has no text where its route expects it")
            if self._on_unmatched == EVERYTHING and not self.takes_all:
                found.take(self._everything(document, query, limits))
        for body in document.form_like:
            found.take(self._form.spelled_out(body, limits.fields, limits.characters))
        found.take(self._query.texts(query, limits.characters))
        return found

    def mask(self, pointer: str) -> str:
        """The pointer with every name that the client chose replaced by `*`: fit for a log."""
        document = _QUERY if pointer.startswith(_QUERY) else ""
        tokens = pointer.removeprefix(document).split("/")[1:]
        return "/".join([document, *(token if self._is_known(token) else "*" for token in tokens)])

    def _readings(self, document: Document, limits: Limits) -> Iterator[Iterator[Item]]:
        """What is at the places, for each reader whose kind of body it is."""
        if document.has_json:
            yield self._in_json(document)
        if document.kind == "form":
            yield self._form.texts(document.fields, limits.characters)
        if self._text and document.text:
            yield _plain(document.text)

    def _in_json(self, document: Document) -> Iterator[Item]:
        walk = Walk(self._names if self._keys else None, with_links=True, with_images=self._with_images)
        for path in self._queries:
            yield from walk.inside(path.select(document.json))

    def _everything(self, document: Document, query: tuple[Field, ...], limits: Limits) -> Iterator[Item]:
        """Every string of the body, and what else is a text: member names, parameters, the names of uploads."""
        known = None if self._keys is False else self._names
        if document.has_json:
            walk = Walk(known, with_links=self.takes_all, with_vocabulary=True, with_images=self._with_images)
            yield from walk.inside([(document.json, None, None, True)])
        yield from self._form.texts(document.fields, limits.characters)
        yield from self._form.everything(document.fields, limits.characters, known)
        if document.text:
            yield from _plain(document.text)
        if self.takes_all:
            yield from self._query.everything(query, limits.characters, known)

    def _is_known(self, token: str) -> bool:
        return token in self._tokens or (token.isascii() and token.isdigit() and len(token) < 6)


def _plain(text: str) -> Iterator[Text]:
    """A text body, and what readers find in it that take it for JSON."""
    yield Text("", text)
    yield from (Text("", reading) for reading in escaped_strings(text))


class Harvest:
    """What was found at a rule's places, each once, and bounded while it is being found.

    `is_unmatched` says that a body had nothing at the named places.
    """

    def __init__(self, limits: Limits, images: ImagePolicy) -> None:
        self.items: dict[Item, None] = {}  # in the order found
        self.is_unmatched = False
        self._limits, self._policy = limits, images
        self._images = self._characters = 0
        self._ignored: set[Image] = set()
        self._has_any = False

    def take(self, found: Iterable[Item]) -> bool:
        """Keep what is found; whether it is anything. Raises Oversize, Unwanted."""
        self._has_any = False
        for item in found:
            if isinstance(item, Image):
                self._take_image(item)
            elif item.value and not item.value.isspace():
                self._take_text(item)
        return self._has_any

    def _take_text(self, text: Text) -> None:
        self._has_any = True
        if text not in self.items:
            self._characters += len(text.value)
            self._keep(text)
        if self._characters > self._limits.characters:
            raise Oversize(f"there are more than {self._limits.characters} characters to moderate")

    def _take_image(self, image: Image) -> None:
        if self._policy == "reject":
            raise Unwanted("the rule for this route does not take images")
        if self._policy == "moderate":
            self._ask_about(image)
        else:
            self._ignored.add(image)  # finding it was work all the same
            self._check_count()
        # Four characters of base64 are three bytes.
        if image.url[:5].lower() == "data:" and len(image.url) * 3 // 4 > self._limits.image:
            raise Oversize(f"an image is larger than {self._limits.image} bytes")

    def _ask_about(self, image: Image) -> None:
        self._has_any = True
        if image not in self.items:
            self._images += 1
            self._keep(image)
        if self._images > self._limits.images:
            raise Oversize(f"there are more than {self._limits.images} images to moderate")

    def _keep(self, item: Item) -> None:
        self.items[item] = None
        self._check_count()

    def _check_count(self) -> None:
        if len(self.items) + len(self._ignored) > self._limits.texts:
            raise Oversize(f"there are more than {self._limits.texts} texts and images to moderate")
