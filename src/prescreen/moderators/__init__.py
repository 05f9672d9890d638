"""The moderators that come with prescreen, and how a user's own is called.

A moderator is a callable, or an object with a method `moderate`, that takes a sequence of Texts and
Images and returns (or, `async def`, awaits and returns) one Verdict for each, in order. It may also
have

- `moderate_sync(items, timeout)`, used instead where nothing can be awaited (WSGI);
- a parameter `known` of either: a dict that it fills with the verdict on each item, by the item's index,
  as they come in. What is in it when the time is up, or when another item fails, still counts;
- a parameter `timeout` of `moderate`: the seconds that are left. Nobody has to keep to it, the time is watched anyway;
- `max_characters`, the longest text that it takes: a longer one comes in overlapping pieces, and the worst counts;
- `identity`, a text that says everything on which its verdict on a text depends (its model, its options): then verdicts are
  cached, identical texts share a call, and the texts of several requests may come in one;
- `max_batch`, the most texts that it takes in one call then;
- `name`, for logs, and `categories`, the wire names it can report, against which the policy is
  checked at start-up. Without `categories` any name goes.

A new moderator is a module here and an entry in `BUILT_IN`. The classes of all that are here can be imported from
this package; importing the package itself imports none of them (PEP 562).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from prescreen.errors import BadVerdict, ConfigError, ModeratorDown, ModeratorError, raised_at
from prescreen.model import Item, Verdict

if TYPE_CHECKING:
    from prescreen.moderators.azure import AzureModerator
    from prescreen.moderators.keywords import KeywordModerator
    from prescreen.moderators.layers import AnyOf, Escalate, FirstOf
    from prescreen.moderators.llm import LLMModerator
    from prescreen.moderators.mistral import MistralModerator
    from prescreen.moderators.openai import OpenAIModerator

__all__ = [
    "AnyModerator",
    "AnyOf",
    "AzureModerator",
    "Escalate",
    "FirstOf",
    "KeywordModerator",
    "LLMModerator",
    "MistralModerator",
    "Moderator",
    "OpenAIModerator",
]


@runtime_checkable
class Moderator(Protocol):
    """An object that judges. `moderate` may be `def` or `async def`."""

    def moderate(self, items: Sequence[Item], /) -> Sequence[Verdict] | Awaitable[Sequence[Verdict]]:
        """One verdict for each item, in order."""


AnyModerator = Moderator | Callable[..., Sequence[Verdict] | Awaitable[Sequence[Verdict]]]

SHORTEST_PIECE: Final = 100
"""Characters; less, and a piece of a text would hold no sentence."""

BUILT_IN: Final = {
    "openai": ("prescreen.moderators.openai", "OpenAIModerator"),
    "keywords": ("prescreen.moderators.keywords", "KeywordModerator"),
    "azure": ("prescreen.moderators.azure", "AzureModerator"),
    "mistral": ("prescreen.moderators.mistral", "MistralModerator"),
    "llm": ("prescreen.moderators.llm", "LLMModerator"),
}

_HOME_OF: Final = {name: module for module, name in BUILT_IN.values()} | dict.fromkeys(
    ("AnyOf", "Escalate", "FirstOf"), "prescreen.moderators.layers"
)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'prescreen.moderators' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@dataclass(frozen=True, slots=True)
class Bound:
    """A moderator as the screen calls it.

    `call` takes the items, and `known` and `timeout` by name; `is_async` says whether it gives an awaitable without
    having done the work yet. `call_sync` takes the items, the seconds left, and `known` by name; None where there is
    only `call`. `identity` is None for a moderator that is to be called for each screening by itself.
    `source` is the moderator itself.
    """

    name: str
    call: Callable[..., Any]
    is_async: bool
    call_sync: Callable[..., Sequence[Verdict]] | None = None
    categories: Collection[str] | None = None
    max_characters: int | None = None
    identity: str | None = field(default=None, repr=False)
    max_batch: int | None = None
    source: object = field(default=None, repr=False)


def build(name: str, options: Mapping[str, object]) -> AnyModerator:
    """The built-in moderator `name`, or the object at an import path like "app.safety:check".

    Raises ConfigError.
    """
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name]
        return _construct(getattr(import_module(module), attribute), name, options)
    if ":" not in name:
        raise ConfigError(
            "moderator",
            f"there is no moderator {name!r}; write one of {', '.join(map(repr, BUILT_IN))}, "
            "or the import path of your own, as in 'app.safety:check'",
        )
    if options:
        raise ConfigError(f"moderators.{name}", "options are for built-in moderators; make the object with its own")
    try:
        found: AnyModerator = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError("moderator", f"{name!r} cannot be imported: {error}") from error
    return found


def bind(moderator: AnyModerator) -> Bound:
    """Find out how a moderator wants to be called. Raises ConfigError for what cannot be."""
    call: Any = getattr(moderator, "moderate", moderator)
    if not callable(call) or inspect.isclass(moderator):
        raise ConfigError("moderator", f"{moderator!r} is neither a function nor an object with a method 'moderate'")
    call_sync = getattr(moderator, "moderate_sync", None)
    named = getattr(moderator, "name", None) or getattr(moderator, "__name__", None)
    return Bound(
        name=named if isinstance(named, str) else type(moderator).__name__,
        call=_offering(call, ("known", "timeout"), ()),
        is_async=any(map(inspect.iscoroutinefunction, (call, type(call).__call__))),
        call_sync=_offering(call_sync, ("known",), (), 1.0) if call_sync is not None else None,
        categories=getattr(moderator, "categories", None),
        max_characters=_longest(getattr(moderator, "max_characters", None)),
        identity=_identity(getattr(moderator, "identity", None)),
        max_batch=_count("max_batch", getattr(moderator, "max_batch", None)),
        source=moderator,
    )


def _identity(value: object) -> str | None:
    """A moderator's `identity`. Raises ConfigError."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigError("moderator", f"identity = {value!r} is no text that says what its verdicts depend on")


def _count(name: str, value: object) -> int | None:
    if value is None or (type(value) is int and value >= 1):
        return value
    raise ConfigError("moderator", f"{name} = {value!r} is no number of at least 1")


def _longest(value: object) -> int | None:
    """A moderator's `max_characters`, if it has a sensible one. Raises ConfigError."""
    if value is None or (type(value) is int and value >= SHORTEST_PIECE):
        return value
    raise ConfigError("moderator", f"max_characters = {value!r} is no number of at least {SHORTEST_PIECE}")


def _offering(call: Callable[..., Any], offered: Collection[str], *given: object) -> Callable[..., Any]:
    """The callable with all the parameters offered, which it may not have. Raises ConfigError."""
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # some callables written in C show no signature
        return partial(_with_only, call, ())
    by_name = [each.name for each in signature.parameters.values() if each.kind is not each.POSITIONAL_ONLY]
    taken = [name for name in offered if name in by_name]
    try:
        signature.bind(*given, **dict.fromkeys(taken))
    except TypeError as error:
        raise ConfigError("moderator", f"{call!r} cannot be called with a list of texts: {error}") from error
    return call if len(taken) == len(offered) else partial(_with_only, call, taken)


def _with_only(call: Callable[..., Any], taken: Collection[str], /, *arguments: object, **offered: object) -> Any:
    return call(*arguments, **{name: offered[name] for name in taken})


def verified(items: Sequence[Item], verdicts: object) -> Sequence[Verdict]:
    """The verdicts, if they are one well-formed Verdict for each item; raises BadVerdict otherwise.

    What is well-formed all the same is in the error's `known`.
    """
    if not isinstance(verdicts, Sequence) or len(verdicts) != len(items):
        count = len(verdicts) if isinstance(verdicts, Sequence) else type(verdicts).__name__
        raise BadVerdict(f"{len(items)} items were judged with {count} verdicts")
    faults = {index: fault for index, verdict in enumerate(verdicts) if (fault := _fault(verdict))}
    if faults:
        known = {index: verdict for index, verdict in enumerate(verdicts) if index not in faults}
        raise BadVerdict(next(iter(faults.values())), known=known)
    return verdicts


def translated(error: Exception, items: Sequence[Item], known: Mapping[int, Verdict]) -> ModeratorError:
    """Whatever a moderator raised, as one of our errors, with the verdicts that it did give.

    Foreign messages are left behind: they may quote the user.
    """
    if not isinstance(error, ModeratorError):
        error = ModeratorDown(f"the moderator raised {type(error).__name__}{raised_at(error)}")
    error.known = sound(items, {**known, **error.known})
    return error


def sound(items: Sequence[Item], known: Mapping[int, Verdict]) -> dict[int, Verdict]:
    """What is well-formed, and about one of the items, of the verdicts by their index."""
    return {index: known[index] for index in range(len(items)) if index in known and not _fault(known[index])}


def _fault(verdict: object) -> str | None:
    """What is wrong with one verdict."""
    if not isinstance(verdict, Verdict) or not isinstance(verdict.flagged, bool):
        return "an answer is not a Verdict whose `flagged` is True or False"
    if not isinstance(verdict.model, str):
        return "a verdict's model is no text"
    if not isinstance(verdict.categories, Mapping) or not isinstance(verdict.scores, Mapping):
        return "a verdict's categories or scores are no mapping, as in {'violence': True} and {'violence': 0.9}"
    if not _are(verdict.categories, str) or not _are(verdict.categories.values(), bool):
        return "a verdict's categories are not names with True or False"
    if not _are(verdict.scores, str) or not _are_scores(verdict.scores.values()):
        return "a verdict's scores are not names with numbers from 0 to 1"
    return None


def _are(values: Iterable[object], *kinds: type) -> bool:
    found = set(map(type, values))
    return found.issubset(kinds) or all(issubclass(kind, kinds) for kind in found)


def _are_scores(values: Collection[object]) -> bool:
    if not _are(values, int, float) or bool in map(type, values):
        return False
    scores: Any = values  # numbers, as was seen
    # NaN may hide from min and max, but not in a sum, which it makes NaN, too; and that is not even itself.
    return not scores or (min(scores) >= 0 and max(scores) <= 1 and (total := sum(scores)) == total)


def _construct(kind: Callable[..., AnyModerator], name: str, options: Mapping[str, object]) -> AnyModerator:
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known:
            raise ConfigError(f"moderators.{name}.{option}", f"unknown key; it takes {', '.join(known)}")
    try:
        return kind(**options)
    except ConfigError as error:
        raise ConfigError(f"moderators.{name}.{error.key}".rstrip("."), error.problem) from error
