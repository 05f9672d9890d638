"""Which requests a rule is about. No I/O.

Screening rules match wide and exemptions match narrow, so that doubt always ends in screening:
frameworks and servers differ in how they read doubled slashes, letter case, control bytes, mounts
and methods, and a request that one of them routes to a ruled handler must not slip past the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Final
from urllib.parse import unquote

from prescreen.errors import ConfigError
from prescreen.model import Action, BodyKind, Head
from prescreen.units import size

_METHODS: Final = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"])
_ANY: Final[frozenset[str]] = frozenset()  # as a rule's methods: all of them
_PARAM: Final = "{}"
_REST: Final = "{:path}"
_PLACEHOLDER: Final = re.compile(r"\{[A-Za-z_]\w*(?::(\w+))?\}")
_HOLES: Final = {"path": ".*", "int": "[0-9]+"}
_PLAIN: Final = re.compile(r"(?:/[a-z0-9._~-]+)+")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
_UNSAFE_EXEMPT: Final = re.compile(r"//|/\.{1,2}(?:/|\Z)|[%#?\\\s]")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests to screen, and where in them the user's text is.

    `match` is methods and a path template: `"POST /chat"`, `"POST,PUT /posts/{id}/comments"`,
    `"* /files/{rest:path}"`, `"POST *"`. Without methods it is every method. GET covers HEAD. A
    method that no rule names for a path is screened by the path's first rule if it carries a body.

    `json` holds JSONPaths (RFC 9535), `form` and `query` field names (`"*"` for all), `text=True`
    takes a plain text body. What they name is also what the route accepts: other kinds of body
    are refused (415). `exempt=True` lets exactly this route out instead.

    `on_unreadable` and `on_oversize` say what becomes of a request that cannot be screened;
    `max_body` is in bytes or like "64KiB", None for the screen's own limit.

    Raises ConfigError.
    """

    match: str
    _: KW_ONLY
    json: str | Sequence[str] = ()
    form: str | Sequence[str] = ()
    query: str | Sequence[str] = ()
    text: bool = False
    exempt: bool = False
    on_unreadable: Action = Action.REJECT
    on_oversize: Action = Action.REJECT
    max_body: int | str | None = None
    methods: frozenset[str] = field(init=False, repr=False, compare=False)
    template: tuple[str, ...] = field(init=False, repr=False, compare=False)
    exact: re.Pattern[str] = field(init=False, repr=False, compare=False)

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        put = object.__setattr__
        for key in ("json", "form", "query"):
            put(self, key, _names(key, getattr(self, key)))
        for key in ("on_unreadable", "on_oversize"):
            put(self, key, _action(key, getattr(self, key)))
        if self.max_body is not None:
            put(self, "max_body", _size("max_body", self.max_body))
        methods, template = _parse(self.match)
        put(self, "methods", methods)
        put(self, "template", template)
        put(self, "exact", _exact(self.match))
        places = bool(self.json or self.form or self.query or self.text)
        if places == self.exempt:
            raise ConfigError(
                "match",
                "an exempt rule names no places to look"
                if places
                else f"the rule {self.match!r} names no place to look: give it json, form, query "
                "or text, or exempt = true",
            )

    @property
    def kinds(self) -> frozenset[BodyKind]:
        """The kinds of body that the route takes."""
        named: dict[BodyKind, bool] = {"json": bool(self.json), "form": bool(self.form), "text": self.text}
        return frozenset(kind for kind, is_named in named.items() if is_named)

    def limit(self, default: int) -> int:
        """The most bytes of body that the route takes."""
        return default if self.max_body is None else size(self.max_body)

    def names_method(self, method: str) -> bool:
        """Whether the rule is about this method; a made-up method is everybody's."""
        method = method.strip().upper()
        return not self.methods or method in self.methods or method not in _METHODS


class RuleSet:
    """Rules in order, compiled so that finding one costs the length of the path, not their number."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._root = _Node()
        for index, rule in enumerate(self.rules):
            self._refuse_shadowed(index)
            _plant(self._root, rule.template, index)

    def on_path(self, path: str, root_path: str = "") -> tuple[Rule, ...]:
        """The rules that could be about this path, in order; () for most paths, quickly."""
        found: set[int] = set()
        for segments in _readings(path, root_path):
            _collect(self._root, segments, found)
        return tuple(self.rules[index] for index in sorted(found)) if found else ()

    def find(self, head: Head) -> Rule | None:
        """The rule to screen this request by; None where there is none or it is exempt."""
        return choose(self.on_path(head.path, head.root_path), head)

    def _refuse_shadowed(self, index: int) -> None:
        rule = self.rules[index]
        for number, earlier in enumerate(self.rules[:index]):
            methods = not earlier.methods or (rule.methods and rule.methods <= earlier.methods)
            if methods and _covers(earlier.template, rule.template):
                raise ConfigError(
                    f"rules[{index}].match",
                    f"{rule.match!r} can never match: rules[{number}] ({earlier.match!r}) comes "
                    "first and takes all its requests; put the narrower rule first",
                )


def choose(rules: Sequence[Rule], head: Head) -> Rule | None:
    """Of the rules on the request's path, in order, the one to screen it by."""
    for rule in rules:
        if rule.exempt:
            if _is_exempt(rule, head):
                return None
        elif rule.names_method(head.method):
            return rule
    # A handler that takes any method reads this body too.
    others = (rule for rule in rules if not rule.exempt)
    return next(others, None) if head.has_body else None


@dataclass(slots=True)
class _Node:
    """One place in the tree of path templates; `ends` and `rests` hold the indexes of rules."""

    children: dict[str, _Node] = field(default_factory=dict)
    param: _Node | None = None
    ends: list[int] = field(default_factory=list)
    rests: list[int] = field(default_factory=list)


def _plant(node: _Node, template: tuple[str, ...], index: int) -> None:
    for segment in template:
        if segment == _REST:
            node.rests.append(index)
            return
        if segment == _PARAM:
            node.param = node.param or _Node()
            node = node.param
        else:
            node = node.children.setdefault(segment, _Node())
    node.ends.append(index)


def _collect(root: _Node, segments: Sequence[str], found: set[int]) -> None:
    level = [root]
    for segment in segments:
        below: list[_Node] = []
        for node in level:
            found.update(node.rests)
            if segment in node.children:
                below.append(node.children[segment])
            if node.param is not None:
                below.append(node.param)
        if not below:
            return
        level = below
    for node in level:
        found.update(node.rests, node.ends)


def _readings(path: str, root_path: str) -> Iterator[Sequence[str]]:
    """Every way in which some server and framework may understand this path, as segments."""
    if not root_path and _PLAIN.fullmatch(path):
        yield path[1:].split("/")
        return
    root = [segment for segment in _segments(root_path) if segment]
    for spelling in _spellings(path):
        with_empty = _segments(spelling)
        without = [segment for segment in with_empty if segment]
        yield without
        if len(without) != len(with_empty):
            yield with_empty
        if root:
            yield without[len(root) :] if without[: len(root)] == root else root + without


def _spellings(path: str) -> Iterator[str]:
    """The path, without an authority in front, a fragment behind, or a second percent-coding."""
    yield path
    if absolute := _ABSOLUTE.match(path):
        yield path[absolute.end() :]
    if "#" in path or "?" in path:
        yield re.split("[#?]", path, maxsplit=1)[0]
    if "%" in path:
        yield unquote(path)


def _segments(path: str) -> list[str]:
    """The segments after the first slash: case folded, blanks and unprintable characters out."""
    if not (path.isascii() and path.isprintable()) or " " in path:
        path = "".join(c for c in path if c.isprintable() and c not in " \ufffd")
    return path.removeprefix("/").casefold().split("/")


def _is_exempt(rule: Rule, head: Head) -> bool:
    """Exactly this route and no spelling of another: case, slashes and methods to the letter."""
    if rule.methods and head.method not in rule.methods:
        return False
    if not head.path.isprintable() or _UNSAFE_EXEMPT.search(head.path) or head.has_coded_slash:
        return False
    return any(map(rule.exact.fullmatch, {head.path, head.path.removeprefix(head.root_path)}))


def _covers(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    """Whether every path that fits `narrow` fits `wide`."""
    for index, segment in enumerate(wide):
        if segment == _REST:
            return True
        if index >= len(narrow) or narrow[index] == _REST or segment not in (_PARAM, narrow[index]):
            return False
    return len(wide) == len(narrow)


def _parse(match: object) -> tuple[frozenset[str], tuple[str, ...]]:
    """Methods (empty for all) and canonical template segments."""
    if not isinstance(match, str):
        raise ConfigError("match", f"{match!r} is not text; write for example 'POST /chat'")
    methods, template = _split(match)
    if template == "*":
        return methods, (_REST,)
    if "<" in template:
        raise ConfigError("match", f"in {match!r}, write a path parameter as {{name}} or {{name:path}}")
    segments = tuple(_segment(part) for part in _segments(unquote(template)) if part)
    if any(len(_PLACEHOLDER.findall(part)) > 1 for part in template.split("/")):
        raise ConfigError("match", f"in {match!r}, a path segment has more than one parameter")
    if _REST in segments[:-1]:
        raise ConfigError("match", f"in {match!r}, a parameter that takes the rest of the path comes last")
    return methods, segments


def _exact(match: str) -> re.Pattern[str]:
    """The template to the letter, for exemptions."""
    _, template = _split(match)
    if template == "*":
        return re.compile("/.*")
    literals = _PLACEHOLDER.split(template)[::2]
    kinds = [found[1] for found in _PLACEHOLDER.finditer(template)]
    holes = [_HOLES.get(kind, "[^/]+") for kind in kinds]
    if template.endswith("/*"):
        literals[-1] = literals[-1].removesuffix("*")
        holes.append(".*")
        literals.append("")
    return re.compile("".join(re.escape(text) + hole for text, hole in zip(literals, [*holes, ""], strict=True)))


def _split(match: str) -> tuple[frozenset[str], str]:
    methods, _, template = match.strip().rpartition(" ")
    if not template.startswith("/") and template != "*":
        raise ConfigError("match", f"{match!r} has no path; write for example 'POST /chat' or 'POST *'")
    names = {name.strip().upper() for name in (methods or "*").split(",")}
    if "*" in names:
        return _ANY, template
    if unknown := sorted(names - _METHODS):
        raise ConfigError("match", f"{unknown[0]!r} in {match!r} is not a method; write for example 'POST,PUT /chat'")
    return frozenset(names | ({"GET", "HEAD"} if names & {"GET", "HEAD"} else set())), template


def _segment(part: str) -> str:
    if part == "*":
        return _REST
    found = _PLACEHOLDER.search(part)
    if found is None:
        return part
    # A placeholder inside a longer segment ({name}.json) is widened to the whole segment.
    return _REST if found[1] == "path" else _PARAM


def _names(key: str, value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(key, f"{value!r} is not a list of names")
    return tuple(names)


def _action(key: str, value: object) -> Action:
    try:
        return Action(value)  # type: ignore[arg-type]  # what is no Action is the question here
    except ValueError:
        raise ConfigError(key, f"{value!r} is not one of 'reject', 'flag', 'allow'") from None


def _size(key: str, value: object) -> int:
    try:
        return size(value)
    except ValueError as error:
        raise ConfigError(key, str(error)) from None
