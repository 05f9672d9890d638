"""Which requests a rule is about. No I/O.

Screening rules match wide and exemptions match narrow, so that doubt always ends in screening:
frameworks and servers differ in how they read doubled slashes, letter case, control bytes, mounts
and methods, and a request that one of them routes to a ruled handler must not slip past the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from prescreen.errors import ConfigError
from prescreen.headers import named
from prescreen.model import Head
from prescreen.rule import BLANK, METHODS, PARAM, REST, Rule, segments_of

_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")  # a path that has only one reading, letter case aside
_REMEMBERED: Final = 2048  # paths
_SHORT: Final = 256  # characters; a longer path is not remembered
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
_NOTHING: Final = frozenset({"", BLANK})
_UNSAFE_EXEMPT: Final = re.compile(r"//|/\.{1,2}(?:/|\Z)|[%#?\\\s\ufffd]")
_WHOLE_HOLE: Final = re.compile(r"\{\w+(?::path)?\}")
_ANNOUNCING: Final = frozenset({b"content-length", b"transfer-encoding"})
_NO_BODY: Final = frozenset({(b"content-length", b"0")})
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # with a body, it is some other handler's request


class RuleSet:
    """Rules in order, compiled so that finding one costs the length of the path, not their number."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._root = _Node()
        self._remembered = lru_cache(_REMEMBERED)(self._search)
        for index, rule in enumerate(self.rules):
            self._refuse_shadowed(index)
            _plant(self._root, rule.template, index)

    def on_path(self, path: str, root_path: str = "") -> tuple[Rule, ...]:
        """The rules that could be about this path, in order; () for most paths, quickly."""
        return self._remembered(path, root_path) if len(path) <= _SHORT else self._search(path, root_path)

    def _search(self, path: str, root_path: str) -> tuple[Rule, ...]:
        found: set[int] = set()
        if path and not path.startswith("/"):
            return self.rules  # no honest client sends this, and no two frameworks read it alike
        if not root_path and _PLAIN.fullmatch(path):
            _collect(self._root, path[1:].lower().split("/"), found)
        else:
            for segments in _readings(path, root_path):
                _collect(self._root, segments, found)
        return tuple(self.rules[index] for index in sorted(found)) if found else ()

    def find(self, head: Head) -> tuple[Rule, ...]:
        """The rules to screen this request by, together; () where there is none or it is exempt."""
        return choose(self.on_path(head.path, head.root_path), head)

    def _refuse_shadowed(self, index: int) -> None:
        rule = self.rules[index]
        for number, earlier in enumerate(self.rules[:index]):
            methods = not earlier.methods or (rule.methods and rule.methods <= earlier.methods)
            if methods and _shadows(earlier, rule):
                raise ConfigError(
                    f"rules[{index}].match",
                    f"{rule.match!r} can never match: rules[{number}] ({earlier.match!r}) comes "
                    "first and takes all its requests; put the narrower rule first",
                )


def announces_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a body may follow these headers (HTTP/1.1), whose names are lower-case."""
    return not _NO_BODY.issuperset(named(_ANNOUNCING, headers))


def choose(rules: Sequence[Rule], head: Head) -> tuple[Rule, ...]:
    """Of the rules on the request's path, in order, those to screen it by; () for none.

    That is the first one, where the path is spelled so plainly that every server and framework
    reads it alike and the method is one that a rule names. Where it is not, the request may reach
    any of their handlers, and is screened by all of them.
    """
    if len(rules) == 1 and not rules[0].exempt and rules[0].names_method(head.method):
        return tuple(rules)  # so it is with most
    screening: list[Rule] = []
    for rule in rules:
        if not rule.exempt:
            screening.append(rule)
        elif (
            _is_exempt(rule, head)
            and not any(earlier.names_method(head.method) for earlier in screening)
            and all(
                other.exempt or not other.names_method(head.method) or _is_wider(other, rule, head) for other in rules
            )
        ):
            return ()
    taking = [rule for rule in screening if rule.names_method(head.method)]
    if not taking:
        # A handler that takes any method reads this body and query, too.
        has_text = head.has_body or head.is_websocket or (head.query and any(rule.reads_query for rule in screening))
        return tuple(screening) if has_text else ()
    if len(taking) == 1:
        return (taking[0],)  # whether it fits to the letter or not
    return _winners(taking, head) or tuple(taking)


def _winners(rules: Sequence[Rule], head: Head) -> tuple[Rule, ...]:
    """The first rule that fits to the letter, or but for letter case, with the mount in front and without it.

    With them come all others on the path but for those that stand behind each of them and are wider: whether a framework
    goes by order or by the narrowest, it is never theirs.
    """
    if head.method not in METHODS or not _PLAIN.fullmatch(head.path):
        return ()
    fitting = {
        rule: [
            bool(exact.fullmatch(path))
            for path in _with_and_without_mount(head)
            for exact in (rule.exact, rule.caseless)
        ]
        for rule in rules
    }
    first = {next((rule for rule in rules if fitting[rule][index]), None) for index in range(len(fitting[rules[0]]))}
    winners = [rule for rule in rules if rule in first]
    return tuple(
        rule
        for place, rule in enumerate(rules)
        if rule in first or not all(rules.index(won) < place and _is_wider(rule, won, head) for won in winners)
    )


def _is_wider(rule: Rule, than: Rule, head: Head) -> bool:
    """Whether the path is the other rule's, by whichever order a framework goes; of two kinds of parameter it may take either."""
    if rule.template[1:] and rule.template == (*than.template[:-1], REST) and than.template[-1] == PARAM:
        return False  # one segment, or all that is left
    if rule.template != than.template or rule.exact.pattern == than.exact.pattern:
        return _covers(rule.template, than.template)
    return not any(map(rule.exact.fullmatch, _with_and_without_mount(head)))


def _with_and_without_mount(head: Head) -> Sequence[str]:
    return list(dict.fromkeys((head.path, *_without_mount(head))))


def _without_mount(head: Head) -> Sequence[str]:
    """The path as frameworks route by it: they cut the mount off its beginning, or off the first place where it stands."""
    root = head.root_path.rstrip("/")
    if not root:
        return [head.path]
    return [head.path.removeprefix(root) or "/", head.path.split(root, 1)[-1] or "/"]


@dataclass(slots=True)
class _Node:
    """One place in the tree of path templates; `ends` and `rests` hold the indexes of rules."""

    children: dict[str, _Node] = field(default_factory=dict)
    param: _Node | None = None
    ends: list[int] = field(default_factory=list)
    rests: list[int] = field(default_factory=list)


def _plant(node: _Node, template: tuple[str, ...], index: int) -> None:
    for segment in template:
        if segment == REST:
            node.rests.append(index)
            return
        if segment == PARAM:
            node.param = node.param or _Node()
            node = node.param
        else:
            node = node.children.setdefault(segment, _Node())
    node.ends.append(index)


def _collect(root: _Node, segments: Sequence[str], found: set[int]) -> None:
    level, settled = [root], set[str]()
    for segment in segments:
        if segment in settled:
            continue
        is_nothing = segment in _NOTHING  # some readers drop each of them, some keep it
        below = list(level) if is_nothing else []
        for node in level:
            found.update(node.rests)
            if segment in node.children:
                below.append(node.children[segment])
            if node.param is not None:
                below.append(node.param)
        if not below:
            return
        below = list({id(node): node for node in below}.values()) if is_nothing else below
        if is_nothing and len(below) == len(level):
            settled.add(segment)  # one more would add nothing either
        else:
            settled.clear()
        level = below
    for node in level:
        found.update(node.rests, node.ends)


def _readings(path: str, root_path: str) -> Iterator[Sequence[str]]:
    """Every way in which some server and framework may understand this path, as segments."""
    root = [segment for segment in segments_of(root_path) if segment not in _NOTHING]
    for spelling in _spellings(path, root_path):
        yield (segments := segments_of(spelling))
        if root:
            yield [*root, *segments]  # the server has left the mount out
            if (below := _unmounted(segments, root)) is not None:
                yield below


def _spellings(path: str, root_path: str) -> set[str]:
    """The path without a mount or an authority in front, a fragment behind, a second percent-coding."""
    # By the letter, as some frameworks cut it off; one of them wherever it stands.
    found = {path, path.removeprefix(root_path), path.split(root_path, 1)[-1] if root_path else path}
    for respell in (unquote, _without_authority, unquote, _without_fragment):
        found |= {respell(each) for each in found}
    return found


def _without_authority(path: str) -> str:
    absolute = _ABSOLUTE.match(path)
    return path[absolute.end() :] if absolute else path


def _without_fragment(path: str) -> str:
    return re.split("[#?]", path, maxsplit=1)[0]


def _unmounted(segments: Sequence[str], root: Sequence[str]) -> Sequence[str] | None:
    """The segments below the mount; None where they do not begin with it."""
    wanted = list(reversed(root))
    for index, segment in enumerate(segments):
        if not wanted:
            return segments[index:]
        if segment not in _NOTHING and segment != wanted.pop():
            return None
    return None if wanted else ()


def _is_exempt(rule: Rule, head: Head) -> bool:
    """Exactly this route and no spelling of another: method, case and slashes to the letter."""
    if rule.methods and (head.method not in rule.methods or (head.has_body and head.method in _BODILESS)):
        return False
    if not head.path.isprintable() or _UNSAFE_EXEMPT.search(head.path) or head.has_coded_slash:
        return False
    return all(map(rule.exact.fullmatch, _without_mount(head)))


def _shadows(earlier: Rule, rule: Rule) -> bool:
    """Whether the earlier rule takes every path of the later one; {id:int} and {name}.css take some."""
    if any("{" in part and not _WHOLE_HOLE.fullmatch(part) for part in earlier.match.split("/")):
        return earlier.exact.pattern == rule.exact.pattern
    return _covers(earlier.template, rule.template)


def _covers(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    """Whether every path that fits `narrow` fits `wide`."""
    for index, segment in enumerate(wide):
        if segment == REST:
            return True
        if index >= len(narrow) or narrow[index] == REST or segment not in (PARAM, narrow[index]):
            return False
    return len(wide) == len(narrow)
