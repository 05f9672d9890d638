"""What the bodies of an app's routes may carry, as requests to try: from models, or from an OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from prescreen.cli.apps import WrongUsage
from prescreen.cli.models import body_schema
from prescreen.cli.schema import SENTINEL, Sample, Schema, Walk, extras
from prescreen.decode.media import KINDS
from prescreen.model import BodyKind
from prescreen.routes import BODY_METHODS, HOLE, Route
from prescreen.rule import METHODS

_MOST: Final = 2_000  # samples of one body
_BOUNDARY: Final = "prescreen-coverage"
_FILE: Final = '; filename="sentinel.txt"\r\nContent-Type: text/plain'
WHOLE: Final = "(the whole body)"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request with `sentinel` at one place of its body; none where the place takes but a few values."""

    place: str
    kind: str
    media: str
    content_type: str
    body: bytes
    sentinel: str | None

    @property
    def body_kind(self) -> BodyKind | None:
        """The kind of body; None for one that no rule takes."""
        return _kind(self.media)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route; `probes` is None where nobody says what its body may carry.

    `is_whole` is False where that is so much that `probes` holds only the first of it.
    """

    method: str
    path: str
    probes: tuple[Probe, ...] | None
    is_whole: bool = True

    @property
    def sample(self) -> str:
        """A path that gets here."""
        return Route(frozenset(), self.path).sample

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations(routes: Iterable[Route], document: Mapping[str, Any] | None) -> list[Operation]:
    """Every operation that may read a body, in the order of the routes; what only the document knows comes last.

    Raises WrongUsage for a document that cannot be followed.
    """
    walk = Walk(document or {})
    try:
        described = _described(document or {}, walk)
        found = [each for route in routes for each in _of_route(route, walk, described)]
        found += [_operation(method, path, walk, content) for (method, _), (path, content) in described.items()]
    except (LookupError, TypeError, AttributeError) as error:
        raise WrongUsage(
            "the OpenAPI document cannot be followed; give one document of version 3.0 or 3.1, "
            f"with all references inside it ({type(error).__name__}: {error})"
        ) from error
    return [each for each in found if each.probes != ()]


_Content = Mapping[str, Any]
"""Schemas by media type, as OpenAPI has them."""
_Described = dict[tuple[str, str], tuple[str, _Content]]


def _described(document: Mapping[str, Any], walk: Walk) -> _Described:
    """The content of bodies, by method and path without the parameters' names."""

    def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
        return walk.resolve(part["$ref"]) if "$ref" in part else part

    found: _Described = {}
    for path, item in document.get("paths", {}).items():
        for method, operation in resolved(item).items():
            if method.upper() in METHODS:
                body = resolved(operation.get("requestBody", {}))
                found[method.upper(), _shape(path)] = path, body.get("content", {})
    return found


def _of_route(route: Route, walk: Walk, described: _Described) -> Iterator[Operation]:
    field, dependant = (getattr(route.source, name, None) for name in ("body_field", "dependant"))
    for method in sorted(route.methods or BODY_METHODS):
        documented = described.pop((method, _shape(route.path)), None)
        if field is not None:
            schema = body_schema(field.field_info)
            yield _operation(method, route.path, Walk(schema), {field.field_info.media_type: {"schema": schema}})
        elif documented is not None and documented[1]:
            yield _operation(method, route.path, walk, documented[1])
        elif method in BODY_METHODS and (_takes_request(dependant) if dependant else documented is None):
            yield Operation(method, route.path, None)


def _takes_request(dependant: Any) -> bool:
    """Whether a FastAPI handler, or what it depends on, has the request itself: it may read any body."""
    return bool(dependant.request_param_name) or any(map(_takes_request, dependant.dependencies))


def _shape(path: str) -> str:
    return HOLE.sub("{}", path)


def _operation(method: str, path: str, walk: Walk, content: _Content) -> Operation:
    probes: list[Probe] = []
    try:
        for media, described in content.items():
            probes += islice(_probes(media, described.get("schema", True), walk), _MOST - len(probes) + 1)
    except RecursionError:
        return Operation(method, path, tuple(probes), is_whole=False)
    return Operation(method, path, tuple(probes[:_MOST]), is_whole=len(probes) <= _MOST)


def _probes(media: str, schema: Schema, walk: Walk) -> Iterator[Probe]:
    kind = _kind(media)
    if kind == "json":
        content_type = "application/json" if "*" in media else media
        for each in walk.samples(schema):
            yield Probe(each.path, each.kind, media, content_type, json.dumps(each.document).encode(), each.sentinel)
    elif kind == "form":
        yield from _fields(media, schema, walk)
    else:
        yield Probe(WHOLE, "text" if kind else "file", media, media, SENTINEL.encode(), SENTINEL)


def _fields(media: str, schema: Schema, walk: Walk) -> Iterator[Probe]:
    """One probe for each field of a form, whatever lies inside it."""
    for flat, _ in walk.variants(schema):
        for name, inner in [*flat.get("properties", {}).items(), *(("*", inner) for inner in extras(flat))]:
            samples = list(islice(walk.samples(inner), _MOST))
            if samples:
                sample = next((each for each in samples if each.sentinel), samples[0])
                content_type, body = _form(media, name, sample)
                yield Probe(name, sample.kind, media, content_type, body, sample.sentinel)


def _form(media: str, name: str, sample: Sample) -> tuple[str, bytes]:
    name = "prescreen_extra" if name == "*" else name
    value = sample.sentinel or str(sample.document)
    if not media.startswith("multipart/"):
        return media, urlencode({name: value}).encode()
    head = f'Content-Disposition: form-data; name="{name}"{_FILE if sample.kind == "file" else ""}'
    body = f"--{_BOUNDARY}\r\n{head}\r\n\r\n{value}\r\n--{_BOUNDARY}--\r\n"
    return f"{media}; boundary={_BOUNDARY}", body.encode()


def _kind(media: str) -> BodyKind | None:
    essence = media.partition(";")[0].strip().lower()
    return "json" if essence.endswith(("+json", "/*")) else KINDS.get(essence)
