"""JSONPath (RFC 9535): parsed by a library, and evaluated here, in bounded time and little memory.

The library's own evaluation makes an object and a path for each value that it passes, and meets a value
again for each `..` above it. Here a value's path is a chain that shares its beginning with its neighbours', a
container is entered once by each `..`, and nothing is kept that has been passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain as chained
from typing import TYPE_CHECKING, Any, Final

from prescreen.errors import ConfigError, Oversize
from prescreen.paths.pointer import Chain

if TYPE_CHECKING:
    from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathQuery
    from jsonpath_rfc9535.segments import JSONPathSegment
    from jsonpath_rfc9535.selectors import JSONPathSelector

Node = tuple[Any, Chain]
Select = Callable[[Any, Chain, "_Run"], Iterable[Node]]
Step = Callable[[Iterable[Node], "_Run"], Iterator[Node]]

_MOST_FILTERED: Final = 2_000  # values that the filters of one path may look at; each costs the library 10 µs


class Query:
    """One JSONPath, compiled.

    `names` are the member names that it contains itself, `overlaps` says whether it may select a value
    and what is inside it. Raises ConfigError for what is not an RFC 9535 query, and for filters whose cost a
    client could drive up: with regular expressions, or with a `..`, a `*` or a filter inside.
    """

    def __init__(self, path: str, key: str) -> None:
        parsed = _parse(path, key)
        self.names: Final = frozenset(_names(parsed))
        self.overlaps: Final = any(map(_is_descendant, parsed.segments))
        self._steps: Final = list(_steps(parsed))
        _refuse_costly_filters(parsed, path, key)

    def select(self, document: object) -> Iterable[Node]:
        """The values that the query selects, in document order. Raises Oversize for too much filtering."""
        run = _Run(document)
        nodes: Iterable[Node] = [(document, None)]
        for step in self._steps:
            nodes = step(nodes, run)
        return nodes


class _Run:
    """What one evaluation keeps: the document, and how many values its filters have looked at."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._filtered = 0

    def count(self) -> None:
        self._filtered += 1
        if self._filtered > _MOST_FILTERED:
            raise Oversize(f"there are more than {_MOST_FILTERED} values at a place that is filtered")


def members(value: object) -> Iterator[tuple[str | int, Any]]:
    """What is in a container, with its token; nothing for other values."""
    if value.__class__ is dict:
        return iter(value.items())
    return enumerate(value if value.__class__ is list else ())


def _steps(parsed: JSONPathQuery) -> Iterator[Step]:
    is_single = True  # no value can have come twice yet
    for segment in parsed.segments:
        if segment is parsed.segments[-1] and str(segment) == "..[*]":
            yield lambda nodes, _run: ((value, at) for value, at in nodes if isinstance(value, dict | list))
            return  # all that is inside will be looked at
        yield _step(segment, parsed.env, is_single=is_single)
        is_single = is_single and not _is_descendant(segment)


def _step(segment: JSONPathSegment, env: JSONPathEnvironment, *, is_single: bool) -> Step:
    selects = [_select(selector, env) for selector in segment.selectors]
    only = selects[0] if len(selects) == 1 else None

    def child(nodes: Iterable[Node], run: _Run) -> Iterator[Node]:
        if only is not None:
            return chained.from_iterable(only(value, at, run) for value, at in nodes)
        return chained.from_iterable(select(value, at, run) for value, at in nodes for select in selects)

    if not _is_descendant(segment):
        return child
    return lambda nodes, run: child(_descendants(nodes, None if is_single else set()), run)


def _is_descendant(segment: JSONPathSegment) -> bool:
    return type(segment).__name__ == "JSONPathRecursiveDescentSegment"


def _descendants(nodes: Iterable[Node], entered: set[int] | None) -> Iterator[Node]:
    """Each container in or below the nodes, once, in document order; `entered` is None where none can come twice."""
    stack = [iter(nodes)]
    while stack:
        for value, at in stack[-1]:
            if entered is not None:
                if id(value) in entered:
                    continue
                entered.add(id(value))
            yield value, at
            stack.append(_containers(value, at))
            break
        else:
            stack.pop()


def _containers(value: object, at: Chain) -> Iterator[Node]:
    return ((child, (at, token)) for token, child in members(value) if child and child.__class__ in (dict, list))


def _select(selector: JSONPathSelector, env: JSONPathEnvironment) -> Select:
    """What the selector does, looked up once by its class."""
    return _SELECTS[type(selector).__name__](selector, env)


def _by_name(selector: Any, _env: JSONPathEnvironment) -> Select:
    name = selector.name

    def select(value: Any, at: Chain, _run: _Run) -> Iterable[Node]:
        return ((value[name], (at, name)),) if value.__class__ is dict and name in value else ()

    return select


def _by_index(selector: Any, _env: JSONPathEnvironment) -> Select:
    index = selector.index

    def select(value: Any, at: Chain, _run: _Run) -> Iterable[Node]:
        if value.__class__ is not list or not -len(value) <= index < len(value):
            return ()
        return ((value[index], (at, index % len(value))),)

    return select


def _by_slice(selector: Any, _env: JSONPathEnvironment) -> Select:
    span: slice = selector.slice

    def select(value: Any, at: Chain, _run: _Run) -> Iterable[Node]:
        if value.__class__ is not list or span.step == 0:
            return ()
        return ((value[index], (at, index)) for index in range(*span.indices(len(value))))

    return select


def _all(_selector: Any, _env: JSONPathEnvironment) -> Select:
    return lambda value, at, _run: ((child, (at, token)) for token, child in members(value))


def _filtered(selector: Any, env: JSONPathEnvironment) -> Select:
    from jsonpath_rfc9535.filter_expressions import FilterContext

    holds = selector.expression.evaluate

    def select(value: Any, at: Chain, run: _Run) -> Iterator[Node]:
        for token, child in members(value):
            run.count()
            if holds(FilterContext(env=env, current=child, root=run.root)):
                yield child, (at, token)

    return select


_SELECTS: Final[dict[str, Callable[[Any, JSONPathEnvironment], Select]]] = {
    "NameSelector": _by_name,
    "IndexSelector": _by_index,
    "SliceSelector": _by_slice,
    "WildcardSelector": _all,
    "FilterSelector": _filtered,
}


def _parse(path: str, key: str) -> JSONPathQuery:
    from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError

    environment = JSONPathEnvironment()
    for name in ("match", "search"):
        environment.function_extensions.pop(name)
    try:
        return environment.compile(path)
    except JSONPathError as error:
        hint = "" if path.startswith("$") else "; a path starts with $, as in '$.messages[*].content', or write 'all'"
        raise ConfigError(key, f"{path!r} is not a JSONPath (RFC 9535): {error}{hint}") from error


def _names(parsed: JSONPathQuery) -> Iterator[str]:
    for segment in parsed.segments:
        yield from (name for each in segment.selectors if (name := getattr(each, "name", None)))


def _refuse_costly_filters(parsed: JSONPathQuery, path: str, key: str) -> None:
    """A filter is evaluated for each value by the library: it may look at single places and no further."""
    left: list[Any] = [each for segment in parsed.segments for each in segment.selectors]
    while left:
        expression = left.pop()
        inner = getattr(expression, "query", None)
        if inner is not None and not inner.singular_query():
            raise ConfigError(
                key,
                f"a filter in {path!r} looks at more than one place ({inner}), and a client could make that "
                "costly; compare single ones, as in '$.messages[?@.role == 'user'].content'",
            )
        left += [each for name in ("expression", "left", "right") if (each := getattr(expression, name, None))]
        left += getattr(expression, "args", ())
