"""JSONPath (RFC 9535): parsed by a library, and evaluated here, in bounded time and little memory.

The library's own evaluation makes an object and a path for each value that it passes, and meets a value
again for each `..` above it. Here one pass goes to each value once. What it takes there is a state: a bit for each
segment that is to be applied to the value. A value's path is a chain that shares its beginning with its neighbours',
and nothing is kept that has been passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from prescreen.errors import ConfigError, Oversize
from prescreen.paths.pointer import Chain

if TYPE_CHECKING:
    from jsonpath_rfc9535 import JSONPathQuery
    from jsonpath_rfc9535.segments import JSONPathSegment
    from jsonpath_rfc9535.selectors import JSONPathSelector

Node = tuple[Any, Chain, object, bool]
"""A value, where it lies, what it is in (None if the value is selected itself), and whether all in it is left to the caller."""
Move = Callable[[Any, int], int]
_Frame = tuple[Any, Chain, Iterator[tuple[Any, Any]], Move, int]

# The bits of a state.
_SELECTED: Final = 1  # the value itself
_INSIDE: Final = 2  # of a selected value
_WHOLE: Final = 4  # all that is inside is selected, if anything is: a `..[*]` at the end
_ITSELF: Final = _SELECTED | _WHOLE
_TAKEN: Final = _ITSELF | _INSIDE
_FIRST: Final = 8  # the first segment is to be applied to the value; the second has the next bit, and so on

_REGULAR: Final = ("match", "search")
_MOST_FILTERED: Final = 2_000  # values that the filters of one path may look at; each costs the library 10 µs
_REMEMBERED: Final = 1 << 10  # states


class Query:
    """One JSONPath, compiled.

    `names` are the member names that it contains itself. Raises ConfigError for what is not an RFC 9535 query,
    and for filters whose cost a client could drive up: with regular expressions, or with a `..`, a `*` or a filter inside.
    """

    def __init__(self, path: str, key: str) -> None:
        parsed = _parse(path, key)
        self.names: Final = frozenset(_names(parsed))
        self._steps: Final = _Steps(parsed)
        _refuse_costly_filters(parsed, path, key)

    def select(self, document: object) -> Iterator[Node]:
        """The selected values, each once and after what it is in. Raises Oversize for too much filtering."""
        first, is_container = self._steps.first, document.__class__ in (dict, list)
        if first & _SELECTED or (first & _WHOLE and is_container):
            yield document, None, None, True
        elif is_container:
            yield from self._below(document)

    def _below(self, document: Any) -> Iterator[Node]:
        steps, run = self._steps, _Run(document)
        above: list[_Frame] = []
        holder, at, left, move, rest = steps[steps.first].into(document, None, run)
        while True:
            for token, child in left:
                state = move(token, rest)
                kind = child.__class__
                if kind is dict or kind is list:
                    is_left = state < _FIRST
                    if state & _TAKEN:
                        yield child, (at, token), None if state & _ITSELF else holder, is_left
                    if child and not is_left:
                        above.append((holder, at, left, move, rest))
                        step, holder, at = steps[state], child, (at, token)
                        if step.is_plain:
                            left, move, rest = (
                                iter(child.items()) if kind is dict else enumerate(child),
                                step.named,
                                step.rest,
                            )
                        else:
                            holder, at, left, move, rest = step.into(child, at, run)
                        break
                elif state & _SELECTED:
                    yield child, (at, token), None, True
                elif state & _INSIDE and isinstance(child, str):
                    yield child, (at, token), holder, True
            else:
                if not above:
                    return
                holder, at, left, move, rest = above.pop()


def members(container: Any) -> Iterator[tuple[Any, Any]]:
    """What is in a container, with its tokens."""
    return iter(container.items()) if container.__class__ is dict else enumerate(container)


class _Run:
    """What one evaluation keeps: the document, and how many values its filters have looked at."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._filtered = 0

    def holds(self, selector: Any, value: Any) -> bool:
        """Whether the filter holds for the value. Raises Oversize."""
        from jsonpath_rfc9535.filter_expressions import FilterContext

        self._filtered += 1
        if self._filtered > _MOST_FILTERED:
            raise Oversize(f"there are more than {_MOST_FILTERED} values at a place that is filtered")
        return bool(selector.expression.evaluate(FilterContext(env=selector.env, current=value, root=self._root)))


class _Step:
    """From a value in one state to the states of what is in it."""

    def __init__(self, state: int, segments: Iterable[tuple[JSONPathSegment, int, int]]) -> None:
        self.rest = _INSIDE if state & (_SELECTED | _INSIDE | _WHOLE) else 0
        self._names: dict[Any, int] = {}
        self._spans: list[tuple[slice, int]] = []
        self._filters: list[tuple[JSONPathSelector, int]] = []
        for segment, own, following in segments:
            if state & own:
                self.rest |= own if _is_descendant(segment) else 0
                for selector in segment.selectors:
                    self._add(selector, following)
        self._names = {name: named | self.rest for name, named in self._names.items()}
        self.named = self._names.get
        self.is_plain = bool(self.rest and not self._filters and not self._spans)

    def _add(self, selector: Any, following: int) -> None:
        match type(selector).__name__:
            case "NameSelector":
                self._names[selector.name] = following | self._names.get(selector.name, 0)
            case "WildcardSelector":
                self.rest |= following
            case "IndexSelector":
                self._spans.append((slice(selector.index, selector.index + 1 or None), following))
            case "SliceSelector":
                self._spans.append((selector.slice, following))
            case _:
                self._filters.append((selector, following))

    def into(self, value: Any, at: Chain, run: _Run) -> _Frame:
        """A container with what is in it and may have a state, and with what says which."""
        if self._filters or (self._spans and value.__class__ is list):
            return value, at, members(value), self._by_value(value, run), self.rest
        if self.rest:
            return value, at, members(value), self.named, self.rest
        named = [(name, value[name]) for name in self._names if name in value] if value.__class__ is dict else ()
        return value, at, iter(named), self.named, 0

    def _by_value(self, value: Any, run: _Run) -> Move:
        """What says the states where a name alone does not."""
        size = len(value) if value.__class__ is list else 0
        spans = [(range(*span.indices(size)), following) for span, following in self._spans if span.step != 0]

        def move(token: str | int, rest: int) -> int:
            state = self._names.get(token, rest)
            for span, following in spans:
                state |= following if token in span else 0
            for selector, following in self._filters:
                state |= following if run.holds(selector, value[token]) else 0
            return state

        return move


class _Steps(dict[int, _Step]):
    """The step from each state, made when it is first met; bounded, since clients choose what is met. `first` is the first state."""

    def __init__(self, parsed: JSONPathQuery) -> None:
        super().__init__()
        segments = list(parsed.segments)
        states = [*(_FIRST << index for index in range(len(segments))), _SELECTED]
        if segments and str(segments[-1]) == "..[*]":
            segments.pop()
            states[-2:] = [_WHOLE]
        self.first: Final = states[0]
        self._segments: Final = list(zip(segments, states, states[1:], strict=False))

    def __missing__(self, state: int) -> _Step:
        if len(self) >= _REMEMBERED:
            self.clear()
        self[state] = step = _Step(state, self._segments)
        return step


def _is_descendant(segment: JSONPathSegment) -> bool:
    return type(segment).__name__ == "JSONPathRecursiveDescentSegment"


def _parse(path: str, key: str) -> JSONPathQuery:
    from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError

    environment = JSONPathEnvironment()
    for name in _REGULAR:
        environment.function_extensions.pop(name)
    try:
        return environment.compile(path)
    except JSONPathError as error:
        if any(f"{name}(" in path for name in _REGULAR):
            raise ConfigError(
                key, f"{path!r} is not taken: it would run a regular expression on users' text"
            ) from error
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
                "costly; compare single ones, as in $.messages[?@.role == 'user'].content",
            )
        left += [each for name in ("expression", "left", "right") if (each := getattr(expression, name, None))]
        left += getattr(expression, "args", ())
