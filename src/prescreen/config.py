"""Configuration, from Python keywords and from a TOML file: both give the same frozen Settings.

Rules, policies and rejections are the plain classes of the layers below; pydantic checks what is
around them, refuses unknown keys and names the dotted key at fault.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from prescreen.document import Limits
from prescreen.errors import ConfigError
from prescreen.model import Action, Mode
from prescreen.policy import Policy
from prescreen.rejection import Rejections
from prescreen.rule import Rule
from prescreen.units import seconds, size

Seconds = Annotated[float, BeforeValidator(seconds)]


def _limits(value: object) -> object:
    """Sizes as people write them; everything else is Limits' own business."""
    if not isinstance(value, Mapping):
        return value
    return {key: size(given) if key in ("body", "part_head") else given for key, given in value.items()}


class Settings(BaseModel):
    """Everything that a Screen is made of, validated and frozen.

    `moderator` is a built-in's name, an import path ("app.safety:check"), or the moderator itself;
    `moderators` holds the options of built-in ones by name. `deadline` bounds one screening, retries
    included; `receive_timeout` the arrival of a request's body (ASGI). Both are in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    rules: tuple[Rule, ...] = ()
    moderator: Any = "openai"
    moderators: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict, repr=False)  # keys are secret
    policy: Policy = Policy()
    rejection: Any = Rejections()
    mode: Mode = Mode.ENFORCE
    on_error: Action = Action.REJECT
    deadline: Seconds = 2.0
    receive_timeout: Seconds = 30.0
    limits: Annotated[Limits, BeforeValidator(_limits)] = Limits()


class _FileSettings(Settings):
    """What a file may say: no Python objects."""

    moderator: str = "openai"
    rejection: Rejections = Rejections()


def settings(**options: object) -> Settings:
    """Settings from keyword arguments. Raises ConfigError."""
    return _validated(Settings, options)


def load(path: str | Path, **overrides: object) -> Settings:
    """Settings from a TOML file; `overrides` replace its top-level keys. Raises ConfigError."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError("", f"cannot read it: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigError("", f"it is not a TOML file: {error}") from error
    _anchor_files(data, path.parent)
    found = _validated(_FileSettings, data)
    given = {name: getattr(found, name) for name in found.model_fields_set}
    return settings(**(given | overrides))


def _anchor_files(data: Mapping[str, Any], folder: Path) -> None:
    """Make the files that moderators name relative to the configuration, not to the working directory."""
    moderators = data.get("moderators")
    for options in moderators.values() if isinstance(moderators, dict) else ():
        if isinstance(options, dict) and isinstance(options.get("files"), list):
            options["files"] = [folder / str(name) for name in options["files"]]


def _validated(kind: type[Settings], data: Mapping[str, object]) -> Settings:
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise _translated(error) from None


_UNKNOWN: Final = {"extra_forbidden", "unexpected_keyword_argument"}
_FIELDS: Final = {"rules": Rule, "policy": Policy, "rejection": Rejections, "limits": Limits}


def _translated(error: ValidationError) -> ConfigError:
    """The first fault, with its dotted key and what to write instead."""
    first = error.errors(include_url=False)[0]
    location = [part for part in first["loc"] if part != "Rule"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return ConfigError(_join(_dotted(location), cause.key), cause.problem)
    if first["type"] in _UNKNOWN:
        return ConfigError(_dotted(location), f"unknown key{_suggestion(location)}")
    problem = str(cause) if cause else first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(_dotted(location), problem)


def _suggestion(location: Sequence[str | int]) -> str:
    owner = _FIELDS.get(str(location[0])) if len(location) > 1 else Settings
    known = [name for name in getattr(owner, "__annotations__", {}) if not name.startswith("_")]
    near = get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}" if known else ""


def _dotted(location: Sequence[str | int]) -> str:
    key = ""
    for part in location:
        key = f"{key}[{part}]" if isinstance(part, int) else _join(key, str(part))
    return key


def _join(key: str, inner: str) -> str:
    return f"{key}.{inner}" if key and inner else key or inner
