"""What to screen in which requests: the rule, as it is written in Python or TOML. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, TypeVar, get_args
from urllib.parse import unquote

from prescreen.errors import ConfigError
from prescreen.model import Action, ActionName, BodyKind, ImagePolicy, Timing, Unmatched
from prescreen.units import action, size

T = TypeVar("T")

METHODS: Final = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"])
_ANY: Final[frozenset[str]] = frozenset()  # as a rule's methods: all of them
SWITCHES: Final = ("decode_content", "allow_preamble", "allow_untyped", "allow_utf16")
"""The exceptions for honest clients, all off by default."""
EVERYTHING: Final = "all"
"""In the place of a JSONPath: every string of the request."""

PARAM: Final = "{}"
REST: Final = "{:path}"
BLANK: Final = " "
"""In the places of segments: a parameter, the rest of the path, and one that nobody can see."""
_PLACEHOLDER: Final = re.compile(r"\{[A-Za-z_]\w*(?::(\w+))?\}")
# What every framework that knows a kind of parameter takes for one; some take more (007, capitals in a UUID, 1 for a float).
_HOLES: Final = {
    None: "[^/]+",
    "str": "[^/]+",
    "string": "[^/]+",
    "path": ".*",
    "int": "(?:0|[1-9][0-9]*)",
    "float": r"(?:0|[1-9][0-9]*)\.[0-9]+",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "slug": "[-a-zA-Z0-9_]+",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests to screen, and where in them the user's text is.

    `match` is methods and a path template: `"POST /chat"`, `"POST,PUT /posts/{id}/comments"`,
    `"* /files/{rest:path}"`, `"POST *"`. Without methods it is every method. GET covers HEAD. A
    method that no rule names for a path is screened by the path's first rule if it carries a body.

    `json` holds JSONPaths (RFC 9535), `form` and `query` field names (`"*"` or `"all"` for all), `text=True`
    takes a plain text body. What they name is also what the route accepts: other kinds of body
    are refused (415). `json="all"` takes every string of the body, member names, query parameters and the names of
    uploads. `exempt=True` lets exactly this route out instead.

    `on_unmatched` says what becomes of a body with nothing at these places: it is read as with `json="all"`,
    passed, or rejected. With `keys`, member names inside a place are texts, too (None: only where everything is
    read). `join` also judges all texts of a request as one. `images` says what becomes of images.

    With `timing="overlap"` (ASGI only) the handler starts while the moderator judges; nothing that it answers
    leaves before the verdict, nor does a call by a client of `prescreen.openai`, and a rejection cancels it.

    `on_unreadable` and `on_oversize` say what becomes of a request that cannot be screened;
    `max_body` is in bytes or like "64KiB", None for the screen's own limit. Four exceptions for honest
    clients: `decode_content` takes JSON in gzip (for apps that unpack it), `allow_preamble` a few lines of prose before the first
    multipart boundary, `allow_untyped` a body without a Content-Type, `allow_utf16` JSON in UTF-16 or UTF-32.

    Raises ConfigError.
    """

    match: str
    _: KW_ONLY
    json: str | Sequence[str] = ()
    form: str | Sequence[str] = ()
    query: str | Sequence[str] = ()
    text: bool = False
    exempt: bool = False
    keys: bool | None = None
    join: bool = False
    images: ImagePolicy = "moderate"
    on_unmatched: Unmatched = "all"
    timing: Timing = "before"
    on_unreadable: Action | ActionName = Action.REJECT
    on_oversize: Action | ActionName = Action.REJECT
    max_body: int | str | None = None
    decode_content: bool = False
    allow_preamble: bool = False
    allow_untyped: bool = False
    allow_utf16: bool = False
    methods: frozenset[str] = field(init=False, repr=False, compare=False)
    template: tuple[str, ...] = field(init=False, repr=False, compare=False)
    exact: re.Pattern[str] = field(init=False, repr=False, compare=False)
    caseless: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        for key in ("json", "form", "query"):
            names = _names(key, getattr(self, key))
            put(self, key, ("*",) if names == (EVERYTHING,) and key != "json" else names)
        for key in ("on_unreadable", "on_oversize"):
            put(self, key, _read(key, getattr(self, key), action))
        for key in ("text", "exempt", "join", *SWITCHES):
            _refuse_other(key, getattr(self, key), (True, False))
        _refuse_other("keys", self.keys, (True, False, None))
        _refuse_other("images", self.images, get_args(ImagePolicy))
        _refuse_other("on_unmatched", self.on_unmatched, get_args(Unmatched))
        _refuse_other("timing", self.timing, get_args(Timing))
        if self.max_body is not None:
            put(self, "max_body", _read("max_body", self.max_body, size))
        methods, template = _parse(self.match)
        put(self, "methods", methods)
        put(self, "template", template)
        put(self, "exact", _exact(self.match))
        put(self, "caseless", re.compile(self.exact.pattern, re.IGNORECASE))
        places = bool(self.json or self.form or self.query or self.text)
        if places == self.exempt:
            raise ConfigError(
                "match",
                "an exempt rule names no places to look"
                if places
                else f"the rule {self.match!r} names no place to look: give it json, form, query "
                "or text, or exempt = true",
            )

        self._refuse_idle()

    def __hash__(self) -> int:
        return hash(self.match)  # targets are looked up by their rules, twice for each request

    def _refuse_idle(self) -> None:
        """Raise ConfigError for what would do nothing, or not what it looks like."""
        strange = [found[0] for found in _PLACEHOLDER.finditer(self.match) if found[1] not in _HOLES]
        if self.exempt and strange:
            known = ", ".join(filter(None, _HOLES))
            raise ConfigError("match", f"an exemption has to know what {strange[0]} fits; it knows {known}")
        if self.text and self.decode_content:
            raise ConfigError(
                "decode_content", "it is for JSON; a handler of this route that takes text would read the packed bytes"
            )
        if EVERYTHING in self.json and len(self.json) > 1:
            raise ConfigError("json", 'json = "all" takes every string already: write it alone, or name paths')
        needs = {"allow_utf16": ("json", self.json), "allow_preamble": ("form", self.form), "keys": ("json", self.json)}
        for key, (place, names) in needs.items():
            if getattr(self, key) and not names:
                raise ConfigError(key, f"it does nothing in a rule without {place}")
        told = [key for key in ("keys", "join", *SWITCHES) if getattr(self, key)]
        told += ["timing"] if self.timing != "before" else []
        if self.exempt and told:
            raise ConfigError(told[0], "an exempt rule reads nothing")

    @property
    def kinds(self) -> frozenset[BodyKind]:
        """The kinds of body that the route takes."""
        named: dict[BodyKind, bool] = {"json": bool(self.json), "form": bool(self.form), "text": self.text}
        return frozenset(kind for kind, is_named in named.items() if is_named)

    @property
    def limit(self) -> int | None:
        """The most bytes of body that the route takes; None for the screen's own limit."""
        return None if self.max_body is None else size(self.max_body)

    @property
    def reads_query(self) -> bool:
        """Whether parameters of the query are among the places: a form's fields may be sent there, too."""
        return bool(self.query or self.form) or EVERYTHING in self.json

    def names_method(self, method: str) -> bool:
        """Whether the rule is about this method; a made-up method is everybody's."""
        method = method.strip().upper()
        return not self.methods or method in self.methods or method not in METHODS


def segments_of(path: str) -> list[str]:
    """A path in canonical form: case folded, blanks and unprintable characters out, cut at slashes.

    What was a segment and has nothing left is BLANK.
    """
    segments = path.removeprefix("/").casefold().split("/")
    if path.isascii() and path.isprintable() and " " not in path:
        return segments
    return [segment and (_visible(segment) or BLANK) for segment in segments]


def _visible(segment: str) -> str:
    return "".join(c for c in segment if c.isprintable() and c not in " \ufffd")


def _parse(match: object) -> tuple[frozenset[str], tuple[str, ...]]:
    """Methods (empty for all) and canonical template segments."""
    if not isinstance(match, str):
        raise ConfigError("match", f"{match!r} is not text; write for example 'POST /chat'")
    methods, template = _split(match)
    if template == "*":
        return methods, (REST,)
    _check(match, template)
    segments = tuple(_segment(part) for part in segments_of(unquote(template)) if part)
    if REST in segments[:-1]:
        raise ConfigError("match", f"in {match!r}, a parameter that takes the rest of the path comes last")
    return methods, segments


def _check(match: str, template: str) -> None:
    """Raise ConfigError for what looks like a path template and would not do what it looks like."""
    if "<" in template:
        raise ConfigError("match", f"in {match!r}, write a path parameter as {{name}} or {{name:path}}")
    if "?" in template or "#" in template:
        raise ConfigError("match", f"in {match!r}, leave the query out; parameters are named with query = [...]")
    for part in template.split("/"):
        literal, count = _PLACEHOLDER.subn("", part)
        if count > 1 or "{" in literal or "}" in literal or ("*" in literal and part != "*"):
            raise ConfigError("match", f"in {match!r}, {part!r} is no segment: write a name, {{name}} or {{name:path}}")


def _exact(match: str) -> re.Pattern[str]:
    """The template to the letter, for exemptions."""
    _, template = _split(match)
    if template == "*":
        return re.compile("/.*")
    literals = _PLACEHOLDER.split(template)[::2]
    kinds = [found[1] for found in _PLACEHOLDER.finditer(template)]
    holes = [_HOLES.get(kind, f"(?!)(?#{kind})") for kind in kinds]  # of a kind of the app's own we know nothing
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
    if unknown := sorted(names - METHODS):
        raise ConfigError("match", f"{unknown[0]!r} in {match!r} is not a method; write for example 'POST,PUT /chat'")
    return frozenset(names | ({"GET", "HEAD"} if names & {"GET", "HEAD"} else set())), template


def _segment(part: str) -> str:
    if part == "*":
        return REST
    found = _PLACEHOLDER.search(part)
    if found is None:
        return part
    # A placeholder inside a longer segment ({name}.json) is widened to the whole segment.
    return REST if found[1] == "path" else PARAM


def _names(key: str, value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(key, f"{value!r} is not a list of names")
    return tuple(names)


def _refuse_other(key: str, value: object, allowed: Sequence[object]) -> None:
    if not any(value is each or (isinstance(each, str) and value == each) for each in allowed):
        wanted = ", ".join(
            str(each).lower() if isinstance(each, bool) else repr(each) for each in allowed if each is not None
        )
        raise ConfigError(key, f"{value!r} is not one of {wanted}")


def _read(key: str, value: object, reader: Callable[[object], T]) -> T:
    try:
        return reader(value)
    except ValueError as error:
        raise ConfigError(key, str(error)) from None
