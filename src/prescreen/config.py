"""Configuration, from Python keywords and from a TOML file: both give the same frozen Settings.

Rules, limits, policies and rejections are plain classes of the layers below, which check themselves,
however they are made. pydantic checks what is around them and locates the key at fault.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, SecretStr, ValidationError
from pydantic import Field as Setting

from prescreen.document import Limits
from prescreen.errors import ConfigError
from prescreen.load import Breaker, Cache, Quota
from prescreen.model import Action, Mode
from prescreen.policy import Policy
from prescreen.rejection import Rejections
from prescreen.rule import Rule
from prescreen.strikes import Strikes
from prescreen.units import action, seconds

Seconds = Annotated[float, BeforeValidator(seconds)]

_EXPORTERS: Final = ("opentelemetry", "prometheus")


def _made(kind: type) -> BeforeValidator:
    return BeforeValidator(partial(_make, kind))


def _make(kind: type, value: object) -> object:
    """Make a `kind` of a table; what a table may hold is for `kind` itself to say."""
    if isinstance(value, kind):
        return value
    known = [each.name for each in fields(kind) if each.init]
    if not isinstance(value, Mapping):
        raise ConfigError("", f"{value!r} is neither {kind.__name__}(…) nor a table of {', '.join(known)}")
    for key in value:
        if key not in known:
            raise ConfigError(str(key), f"unknown key{_suggestion(str(key), known)}")
    if missing := [each.name for each in fields(kind) if _is_required(each) and each.name not in value]:
        raise ConfigError(missing[0], "it is required")
    return kind(**value)


def _is_required(each: Field[object]) -> bool:
    return each.init and each.default is MISSING and each.default_factory is MISSING


def _suggestion(key: str, known: Sequence[str]) -> str:
    if key in Settings.model_fields and key not in known:
        return f"; {key!r} stands at the top of the file, above the first [table]"
    near = get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"


def _listed(value: object) -> object:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise ConfigError("", "write a list of rules; in TOML, [[rules]] with two brackets")
    return value


def _mode(value: object) -> Mode:
    try:
        return Mode(value)  # type: ignore[arg-type]  # what is no Mode is the question here
    except ValueError:
        raise ConfigError("", f"{value!r} is not one of 'enforce', 'monitor' or 'off'") from None


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) or callable(value) else value


def _exporters(value: object) -> tuple[str, ...]:
    given = _several(value)
    if not isinstance(given, list | tuple) or not all(each in _EXPORTERS for each in given):
        raise ConfigError("", f"{value!r} is neither 'opentelemetry' nor 'prometheus', nor a list of them")
    return tuple(given)


def _rejection(value: object) -> object:
    return _make(Rejections, value) if isinstance(value, Mapping) else value


def _ladder(value: object) -> tuple[str, ...]:
    """The rungs of `on_error`, in order: none of them twice, and at the end what happens without a verdict."""
    if isinstance(value, str):
        if value not in set(Action):
            raise ConfigError(
                "",
                f"{value!r} is not one of 'allow', 'flag' or 'reject'; to try it before, write [{value!r}, 'reject']",
            )
        return (action(value).value,)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(rung, str) and rung for rung in value):
        raise ConfigError("", f"{value!r} is neither 'allow', 'flag' or 'reject', nor a list that ends in one of them")
    *others, last = map(str, value)
    if last not in set(Action):
        raise ConfigError(f"[{len(others)}]", f"a list ends in 'allow', 'flag' or 'reject', not in {last!r}")
    for place, rung in enumerate(others):
        if rung in set(Action):
            raise ConfigError(f"[{place}]", f"{rung!r} can stand only at the end")
        if rung in others[:place]:
            raise ConfigError(f"[{place}]", f"{rung!r} is there twice")
    return (*others, last)


def _switch(kind: type) -> BeforeValidator:
    """True is `kind` as it comes, False is None."""
    return BeforeValidator(lambda value: (kind() if value else None) if isinstance(value, bool) else value)


class Settings(BaseModel):
    """Everything that a Screen is made of, validated and frozen.

    `moderator` is a built-in's name, an import path ("app.safety:check"), or the moderator itself;
    `moderators` holds the options of built-in ones by name. `deadline` bounds one screening, retries
    included; `receive_timeout` the arrival of a request's body (ASGI). Both are in seconds.

    `subject` says who the end user is: one or several of "header:NAME", "cookie:NAME", "state:NAME", "client" (behind
    `trusted_proxies`) and callables `Head -> str | None`, of which the first that knows counts. Their ids are hashed
    with `secret` (None: PRESCREEN_SECRET); strikes under `previous_secrets` stay. `strikes` says what repeated offence costs,
    None for nothing. `store` is where strikes and lists are kept: "memory", "sqlite:FILE", "redis://…" or a Store;
    `on_store_error` what becomes of a request while it is down. `lists` says whether texts may be on lists of allowed
    and denied ones; None: where there are a secret and a store that others can reach.

    `on_error` is what happens when the moderator fails: "reject", "flag" or "allow", or a list of what to try before, in
    order: "stale" (an expired cached verdict), or another moderator. `cache` says how verdicts are kept, False: not at all.
    `quota` is what the moderator may be asked in a minute, None for anything; `max_in_flight` calls are out at once, each
    with up to `max_batch` texts. `breaker` says when a failing moderator is left alone, False: never. `max_screenings` may
    be in progress or waiting in one process; more are answered with 429.

    `telemetry` names who is told of what happens: "opentelemetry", "prometheus"; `observers` are callables `Event -> None` of your own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    rules: Annotated[tuple[Annotated[InstanceOf[Rule], _made(Rule)], ...], BeforeValidator(_listed)] = ()
    moderator: Any = "openai"
    moderators: Mapping[str, Mapping[str, Any]] = Setting(default_factory=dict, repr=False)  # keys are secret
    policy: Annotated[InstanceOf[Policy], _made(Policy)] = Policy()
    rejection: Annotated[Any, BeforeValidator(_rejection)] = Rejections()
    subject: Annotated[tuple[Any, ...], BeforeValidator(_several)] = ()
    trusted_proxies: tuple[str, ...] = ()
    secret: SecretStr | None = Setting(default=None, repr=False)
    previous_secrets: tuple[SecretStr, ...] = Setting(default=(), repr=False)
    strikes: Annotated[InstanceOf[Strikes], _made(Strikes)] | None = None
    store: Any = Setting(default="memory", repr=False)  # an address may hold a password
    on_store_error: Annotated[Action, BeforeValidator(action)] = Action.ALLOW
    lists: bool | None = None
    mode: Annotated[Mode, BeforeValidator(_mode)] = Mode.ENFORCE
    on_error: Annotated[tuple[str, ...], BeforeValidator(_ladder)] = (Action.REJECT.value,)
    cache: Annotated[Annotated[InstanceOf[Cache], _made(Cache)] | None, _switch(Cache)] = Cache()
    quota: Annotated[InstanceOf[Quota], _made(Quota)] | None = None
    max_in_flight: Annotated[int, Setting(strict=True, ge=1)] = 10
    max_batch: Annotated[int, Setting(strict=True, ge=1)] = 32
    breaker: Annotated[Annotated[InstanceOf[Breaker], _made(Breaker)] | None, _switch(Breaker)] = Breaker()
    max_screenings: Annotated[int, Setting(strict=True, ge=1)] = 1024
    deadline: Seconds = 2.0
    receive_timeout: Seconds = 30.0
    limits: Annotated[InstanceOf[Limits], _made(Limits)] = Limits()
    telemetry: Annotated[tuple[str, ...], BeforeValidator(_exporters)] = ()
    observers: tuple[Any, ...] = ()


class _FileSettings(Settings):
    """What a file may say: no Python objects."""

    moderator: str = "openai"
    rejection: Annotated[InstanceOf[Rejections], _made(Rejections)] = Rejections()
    subject: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    store: str = Setting(default="memory", repr=False)


def settings(**options: object) -> Settings:
    """Settings from keyword arguments. Raises ConfigError."""
    return _validated(Settings, options)


def load(path: str | Path, **overrides: object) -> Settings:
    """Settings from a TOML file; `overrides` replace its top-level keys. Raises ConfigError."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError("", f"cannot read it: {error.strerror} ({path.absolute()})") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigError("", f"it is not a TOML file: {error}") from error
    _anchor_files(data, path.parent)
    found = _validated(_FileSettings, data)
    given = {name: getattr(found, name) for name in found.model_fields_set}
    return settings(**(given | overrides))


def _anchor_files(data: dict[str, Any], folder: Path) -> None:
    """Make the files that moderators and stores name relative to the configuration, not to the working directory."""
    store = data.get("store")
    if isinstance(store, str) and store.startswith("sqlite:"):
        data["store"] = f"sqlite:{folder / store.removeprefix('sqlite:')}"
    moderators = data.get("moderators")
    for options in moderators.values() if isinstance(moderators, dict) else ():
        if isinstance(options, dict) and isinstance(options.get("files"), list):
            options["files"] = [folder / str(name) for name in options["files"]]


def _validated(kind: type[Settings], data: Mapping[str, object]) -> Settings:
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise _translated(error) from None


def _translated(error: ValidationError) -> ConfigError:
    """The first fault, with its dotted key and what to write instead."""
    first = error.errors(include_url=False)[0]
    key = _dotted(first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return ConfigError(_join(key, cause.key), cause.problem)
    if first["type"] == "extra_forbidden":
        return ConfigError(key, f"unknown key{_suggestion(key, list(Settings.model_fields))}")
    return ConfigError(key, str(cause) if cause else first["msg"][:1].lower() + first["msg"][1:])


def _dotted(location: Sequence[str | int]) -> str:
    key = ""
    for part in location:
        key = f"{key}[{part}]" if isinstance(part, int) else _join(key, str(part))
    return key


def _join(key: str, inner: str) -> str:
    return f"{key}.{inner}" if key and inner and inner[0] != "[" else key + inner
