"""The routes of an app, and which rules cover them. No framework is imported; each is known by its shape.

An app that is wrapped is unwrapped. What cannot be looked into (another app below a mount) is a route
that takes any method and any path there, so that no rule is called useless for our short sight.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from itertools import islice
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote

from prescreen.match import RuleSet
from prescreen.model import Head
from prescreen.rule import Rule

logger: Final = logging.getLogger("prescreen")

BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HOLE: Final = re.compile(r"\{(\w+)(?::(\w+))?\}")
"""A parameter in a route's path: its name, and its converter."""
_BRACES: Final = re.compile(r"\{(\w+):(\w+)\([^{}]*\)\}")  # Falcon's converters have arguments
_ANGLES: Final = re.compile(r"<(?:(\w+)(?:\([^<>]*\))?:)?(\w+)>")  # Flask's and Django's
_INNER: Final = ("__self__", "__wrapped__", "app", "asgi_app", "wsgi_app", "application")
_MOST_LAYERS: Final = 64
_MOST_ROUTES: Final = 2_000  # more would hold up the start
_MOST_SHOWN: Final = 20
_UNSAID: Final = frozenset({"HEAD", "OPTIONS"})  # every framework adds these


@dataclass(frozen=True, slots=True)
class Route:
    """Methods (empty for all) and a path such as `/posts/{id:int}`; `source` is what the framework knows of it."""

    methods: frozenset[str]
    path: str
    source: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{','.join(sorted(self.methods - _UNSAID or self.methods)) or '*'} {self.path}"

    @property
    def sample(self) -> str:
        """A path that gets here."""
        return HOLE.sub(lambda hole: "1/1" if hole[2] == "path" else "1", self.path)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Which paths may get here."""
        return _pattern(self.path)

    def heads(self, path: str) -> Iterator[Head]:
        """A request of each method, to this path."""
        for method in sorted(self.methods or {"GET", *BODY_METHODS}):
            yield Head(method, path, has_body=method in BODY_METHODS)


@lru_cache(_MOST_ROUTES)
def _pattern(template: str) -> re.Pattern[str]:
    literals, kinds = HOLE.sub("\0", template).split("\0"), [hole[2] for hole in HOLE.finditer(template)]
    holes = [".*" if kind == "path" else "[^/]+" for kind in kinds]
    return re.compile("".join(re.escape(text) + hole for text, hole in zip(literals, [*holes, ""], strict=True)))


@dataclass(frozen=True, slots=True)
class Survey:
    """`covered` has each rule with the routes that it covers, `bare` the routes that take a body and have no rule."""

    covered: tuple[tuple[Rule, tuple[Route, ...]], ...]
    bare: tuple[Route, ...]


def announce(rules: RuleSet, app: object) -> None:
    """Log which routes each rule covers, and warn of a rule that covers none. Never fails."""
    try:
        routes = routes_of(app) if rules.rules else None
        for rule, found in survey(rules, routes).covered if routes is not None else ():
            if found:
                logger.info("the rule %s %s %s", rule.match, "exempts" if rule.exempt else "covers", _listed(found))
            else:
                logger.warning("the rule %s covers no route of the app; see `prescreen check --app`", rule.match)
    except Exception:  # a look at a foreign object, and no reason not to start
        logger.debug("the routes of the app could not be looked at", exc_info=True)


def survey(rules: RuleSet, routes: Sequence[Route]) -> Survey:
    """Which rules cover which routes: asked of the rules themselves, with requests to sample paths."""
    samples = frozenset(map(_sample_of, rules.rules))
    covering = {route: _covering(rules, route, samples) for route in routes}
    return Survey(
        covered=tuple((rule, tuple(each for each in covering if rule in covering[each])) for rule in rules.rules),
        bare=tuple(bare for route in routes if (bare := _bare(rules, route)) is not None),
    )


def exemption(rules: RuleSet, head: Head) -> Rule | None:
    """The rule that lets a request out for which `rules` finds none; None where it is simply nobody's."""
    exempt = (
        rule for rule in rules.on_path(head.path, head.root_path) if rule.exempt and rule.names_method(head.method)
    )
    return next((rule for rule in exempt if rule.exact.fullmatch(head.path)), None)


def _covering(rules: RuleSet, route: Route, samples: Iterable[str]) -> set[Rule]:
    # A rule may be narrower than the route: "/pages/news" is a path of "/pages/{name}".
    paths = {route.sample, *filter(route.pattern.fullmatch, samples)}
    found: set[Rule] = set()
    for head in (head for path in paths for head in route.heads(path)):
        found.update(rules.find(head) or filter(None, [exemption(rules, head)]))
    return found


def _sample_of(rule: Rule) -> str:
    path = unquote(rule.match.split()[-1]).replace("*", "1")
    return Route(frozenset(), f"/{path.removeprefix('/')}").sample


def _bare(rules: RuleSet, route: Route) -> Route | None:
    """The route with those of its methods that take a body and that no rule is about."""
    heads = [head for head in route.heads(route.sample) if head.has_body]
    bare = frozenset(head.method for head in heads if not rules.find(head) and exemption(rules, head) is None)
    return replace(route, methods=bare if route.methods else route.methods) if bare else None


def _listed(routes: Sequence[Route]) -> str:
    more = f" and {len(routes) - _MOST_SHOWN} more" if len(routes) > _MOST_SHOWN else ""
    return ", ".join(map(str, routes[:_MOST_SHOWN])) + more


def layers(app: object) -> Iterator[Any]:
    """The app and everything that it is wrapped around, from the outside in."""
    seen: list[object] = []
    todo = [app]
    while todo and len(seen) < _MOST_LAYERS:
        layer = todo.pop(0)
        if not isinstance(layer, ModuleType) and not any(layer is each for each in seen):
            seen.append(layer)
            yield layer
            todo += [inner for name in _INNER if (inner := getattr(layer, name, None)) is not None]


def routes_of(app: object) -> tuple[Route, ...] | None:
    """The routes of an app, in order; None where they cannot be found."""
    for layer in layers(app):
        for read in (_listed_routes, _url_map, _dispatched, _django, _falcon):
            if (found := read(layer)) is not None:
                return tuple(dict.fromkeys(islice(found, _MOST_ROUTES)))
    return None


def _listed_routes(app: Any) -> Iterable[Route] | None:
    """Starlette, FastAPI, Litestar."""
    routes = getattr(app, "routes", None)
    return _flattened(routes) if isinstance(routes, Sequence) else None


def _flattened(routes: Iterable[Any]) -> Iterator[Route]:
    for route in routes:
        path = getattr(route, "path", None) or ""
        if contexts := getattr(route, "effective_route_contexts", None):  # FastAPI's included routers
            yield from _flattened(getattr(context, "starlette_route", None) or context for context in contexts())
        elif hasattr(route, "routes"):
            yield from _mounted(path, route.app)  # Starlette's Mount; a Host has no path
        elif str(getattr(route, "scope_type", "")).endswith(("asgi", "ASGI")):
            yield _anything(path)  # Litestar's mounts
        elif path:
            # A WebSocket's route has no methods, and is opened by a GET (RFC 6455, section 4.1).
            methods = getattr(route, "methods", ["GET"]) or _methods_of(getattr(route, "endpoint", None))
            yield Route(frozenset(methods), _BRACES.sub(r"{\1:\2}", path), route)


def _mounted(prefix: str, app: object) -> Iterator[Route]:
    found = routes_of(app)
    if type(app).__module__.endswith("staticfiles"):
        yield replace(_anything(prefix), methods=frozenset({"GET", "HEAD"}))
    elif found is None:
        yield _anything(prefix)
    else:
        yield from (replace(route, path=prefix.rstrip("/") + route.path) for route in found)


def _anything(prefix: str) -> Route:
    return Route(frozenset(), f"{prefix.rstrip('/')}/{{rest:path}}")


def _methods_of(view: object) -> Iterable[str]:
    """The methods that a class of handlers has; none where it is no such class."""
    names = ("get", *map(str.lower, BODY_METHODS)) if isinstance(view, type) else ()
    return [name.upper() for name in names if callable(getattr(view, name, None))]


def _url_map(app: Any) -> Iterable[Route] | None:
    """Flask, Quart."""
    rules = getattr(getattr(app, "url_map", None), "iter_rules", None)
    if rules is None:
        return None
    return [Route(frozenset(rule.methods or ()), _braced(rule.rule), rule) for rule in rules() if not rule.build_only]


def _braced(path: str) -> str:
    return _ANGLES.sub(lambda hole: f"{{{hole[2]}:{hole[1]}}}" if hole[1] else f"{{{hole[2]}}}", path)


def _dispatched(app: Any) -> Iterable[Route] | None:
    """Werkzeug's DispatcherMiddleware."""
    mounts = getattr(app, "mounts", None)
    if not isinstance(mounts, dict):
        return None
    inner = [*mounts.items(), ("", app.app)]
    return [route for prefix, mounted in inner for route in _mounted(prefix, mounted)]


def _django(app: Any) -> Iterable[Route] | None:
    if not type(app).__module__.startswith("django.") or "django.urls" not in sys.modules:
        return None
    return _resolved(sys.modules["django.urls"].get_resolver().url_patterns, "/")


def _resolved(patterns: Iterable[Any], prefix: str) -> Iterator[Route]:
    for each in patterns:
        for path in _spelled(each.pattern):
            if hasattr(each, "url_patterns"):
                yield from _resolved(each.url_patterns, prefix + path)
            else:
                yield Route(_taken(each.callback), prefix + path, each)


def _spelled(pattern: Any) -> list[str]:
    """The paths of a Django pattern: one, or for a regular expression those that it can be put as."""
    if type(pattern).__name__ != "RegexPattern":
        return [_braced(str(pattern))]
    normalized = sys.modules["django.utils.regex_helper"].normalize(str(pattern))
    return [re.sub(r"%\((\w+)\)s", r"{\1}", path).replace("%%", "%") for path, _ in normalized]


def _taken(view: Any) -> frozenset[str]:
    actions = getattr(view, "actions", None)  # of a REST framework's view set
    names = actions or _methods_of(getattr(view, "view_class", None) or getattr(view, "cls", None))
    return frozenset(name.upper() for name in names)


def _falcon(app: Any) -> Iterable[Route] | None:
    if not type(app).__module__.startswith("falcon.") or "falcon" not in sys.modules:
        return None
    found = import_module("falcon.inspect").inspect_routes(app)
    return [Route(_own(route.methods), _BRACES.sub(r"{\1:\2}", route.path), route) for route in found]


def _own(methods: Iterable[Any]) -> frozenset[str]:
    return frozenset(each.method for each in methods if not each.internal)
