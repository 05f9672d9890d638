"""A walk over a JSON schema: each place where a body may hold a text, with a body that holds one there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

SENTINEL: Final = "prescreen coverage sentinel"
PICTURE: Final = "https://prescreen.invalid/sentinel.png"

_CLOSED: Final = frozenset({"date", "date-time", "time", "duration", "uuid", "ipv4", "ipv6", "ipvanyaddress"})
_FILES: Final = frozenset({"binary", "byte", "base64"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LENGTH: Final = 25  # of a sample's lists; the text is in the middle, where no "first" or "last ten" finds it
_REPEATS: Final = 2  # of definitions, on the way to one place
_EXTRA: Final = "prescreen_extra"  # a name that no schema has

Schema = Mapping[str, Any] | bool


@dataclass(frozen=True, slots=True)
class Sample:
    """`document` is a JSON value with the sentinel at `path`, or one of its few values where `kind` is "value"."""

    path: str
    document: object
    kind: str = "text"

    @property
    def sentinel(self) -> str | None:
        """What the document has at the path; None for a value of the schema's own."""
        return {"value": None, "image": PICTURE}.get(self.kind, SENTINEL)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is: the path, and the definitions that it has come through, with their paths."""

    path: str = "$"
    through: tuple[tuple[str, str], ...] = ()

    def below(self, token: str) -> _Place:
        return replace(self, path=_join(self.path, token))

    def inside(self, reference: str) -> _Place | None:
        """Below a definition; one met again repeats at every depth, and too often is enough."""
        before = dict(reversed(self.through)).get(reference)
        if before is not None and len(self.through) - len(dict(self.through)) == _REPEATS:
            return None
        path = self.path if before is None else f"{before}.."
        return _Place(path, (*self.through, (reference, path)))


class Walk:
    """The samples of schemas that refer to definitions in `document`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def samples(self, schema: Schema, place: _Place = _Place()) -> Iterator[Sample]:
        """Every text, image and value that a body of this schema may hold."""
        for flat, here in self.variants(schema, place):
            yield from self._of(flat, here)

    def variants(self, schema: Schema, place: _Place = _Place()) -> Iterator[tuple[Mapping[str, Any], _Place]]:
        """The schema without references and combinations: one for each of its variants."""
        if isinstance(schema, bool):
            schema = {} if schema else {"enum": []}
        rest = dict(schema)
        if "$ref" in rest:
            reference = rest.pop("$ref")
            inside = place.inside(reference)
            options = [{"allOf": [self.resolve(reference), rest]}] if inside else []
            place = inside or place
        elif "allOf" in rest:
            yield from self._merged([*rest.pop("allOf"), rest], {}, place)
            return
        elif key := next((key for key in ("anyOf", "oneOf") if key in rest), None):
            options = [{"allOf": [option, rest]} for option in rest.pop(key)]
        else:
            yield rest, place
            return
        for option in options:
            yield from self.variants(option, place)

    def resolve(self, reference: str) -> Any:
        """What a reference inside the document points to. Raises LookupError."""
        found: Any = self._document
        for token in reference.removeprefix("#").split("/")[1:]:
            found = found[token.replace("~1", "/").replace("~0", "~")]
        return found

    def minimal(self, schema: Schema, place: _Place = _Place()) -> object:
        """A small value of this schema, with no text of ours in it."""
        flat, here = next(self.variants(schema, place), ({"type": "null"}, place))
        kinds = _kinds(flat)
        if "const" in flat or flat.get("enum"):
            return flat["const"] if "const" in flat else flat["enum"][0]
        if "object" in kinds:
            return self._siblings(flat, here)
        simple = {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": []}
        return next((value for kind, value in simple.items() if kind in kinds), None)

    def _merged(self, parts: Sequence[Schema], so_far: Mapping[str, Any], place: _Place) -> Iterator[Any]:
        if not parts:
            yield so_far, place
            return
        for flat, here in self.variants(parts[0], place):
            yield from self._merged(parts[1:], _both(so_far, flat), here)

    def _of(self, flat: Mapping[str, Any], place: _Place) -> Iterator[Sample]:
        if "const" in flat or "enum" in flat:
            values = flat.get("enum", [flat.get("const")])
            yield from (Sample(place.path, value, "value") for value in values if isinstance(value, str))
            return
        kinds = _kinds(flat)
        if "object" in kinds:
            yield from self._members(flat, place)
        if "array" in kinds:
            yield from self._items(flat, place)
        if (not kinds or "string" in kinds) and flat.get("format") not in _CLOSED:
            yield _text(flat, place.path)

    def _members(self, flat: Mapping[str, Any], place: _Place) -> Iterator[Sample]:
        siblings = self._siblings(flat, place)
        properties = flat.get("properties", {})
        named = [(name, _token(name), inner) for name, inner in properties.items()]
        for name, token, inner in [*named, *((_EXTRA, ".*", inner) for inner in extras(flat))]:
            for sample in self.samples(inner, place.below(token)):
                yield replace(sample, document={**siblings, name: sample.document})

    def _siblings(self, flat: Mapping[str, Any], place: _Place) -> dict[str, object]:
        """The members without which an object is not what it is: required ones, and what tells variants apart."""
        required = flat.get("required", ())
        needed = {
            name: inner for name, inner in flat.get("properties", {}).items() if name in required or _is_fixed(inner)
        }
        return {name: self.minimal(inner, place.below(_token(name))) for name, inner in needed.items()}

    def _items(self, flat: Mapping[str, Any], place: _Place) -> Iterator[Sample]:
        first: list[Schema] = list(flat.get("prefixItems", ()))
        before = [self.minimal(each, place) for each in first]
        for index, each in enumerate(first):
            for sample in self.samples(each, place.below(f"[{index}]")):
                yield replace(sample, document=[*before[:index], sample.document, *before[index + 1 :]])
        items = flat.get("items", not first)
        for sample in self.samples(items, place.below("[*]")):
            beside = [self.minimal(items, place.below("[*]"))] * (_LENGTH // 2)
            yield replace(sample, document=[*before, *beside, sample.document, *beside])


def _text(flat: Mapping[str, Any], path: str) -> Sample:
    if path.endswith((".image_url", ".image_url.url")):
        return Sample(path, PICTURE, "image")
    is_file = flat.get("format") in _FILES or "octet-stream" in flat.get("contentMediaType", "")
    return Sample(f"{path}*" if path.endswith("..") else path, SENTINEL, "file" if is_file else "text")


def _kinds(flat: Mapping[str, Any]) -> frozenset[str]:
    """The types that a value may have; none where it may have any."""
    named = flat.get("type")
    if named:
        return frozenset([named] if isinstance(named, str) else named)
    signs = {"object": ("properties", "additionalProperties", "patternProperties"), "array": ("items", "prefixItems")}
    return frozenset(kind for kind, keys in signs.items() if any(key in flat for key in keys))


def extras(flat: Mapping[str, Any]) -> list[Schema]:
    """The schemas of members without a name of their own; by default, only an object without any has them."""
    patterns = list(flat.get("patternProperties", {}).values())
    others = flat.get("additionalProperties", not patterns and "properties" not in flat)
    return [*patterns, *([others] if others is not False else [])]


def _is_fixed(schema: Schema) -> bool:
    return isinstance(schema, Mapping) and ("const" in schema or "enum" in schema)


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """One schema for what fits both."""
    merged = {**one, **other}
    for name, schema in one.get("properties", {}).items():
        if name in other.get("properties", {}):
            schema = {"allOf": [schema, other["properties"][name]]}  # noqa: PLW2901  # of the two, both
        merged["properties"] = {**merged.get("properties", {}), name: schema}
    if required := [*one.get("required", ()), *other.get("required", ())]:
        merged["required"] = required
    return merged


def _token(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f".{name}" if _NAME.fullmatch(name) else f"['{escaped}']"


def _join(path: str, token: str) -> str:
    return path + (token.removeprefix(".") if path.endswith("..") else token)
