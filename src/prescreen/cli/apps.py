"""An app named on the command line, and the screen that it carries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

from prescreen.asgi import ModerationMiddleware as Asgi
from prescreen.errors import ConfigError, raised_at
from prescreen.routes import layers
from prescreen.screen import Screen, screen_from
from prescreen.wsgi import ModerationMiddleware as Wsgi


class WrongUsage(Exception):
    """The command cannot be done; the message says what to write instead."""


def load_app(name: str) -> Any:
    """The app at an import path such as "app.main:app". Raises WrongUsage, ConfigError."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise WrongUsage(f"{name!r} is no import path; write the module and the app in it, as in app.main:app")
    try:
        with redirect_stdout(sys.stderr):  # what a module prints is no part of our answer
            found: Any = import_module(module)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise WrongUsage(
                f"there is no module {error.name!r} here; modules are looked for in the working directory, "
                "so go to the one that you start your server in"
            ) from error
        raise WrongUsage(
            f"{module} needs the module {error.name!r}, which is not installed{raised_at(error)}"
        ) from error
    except Exception as error:
        raise WrongUsage(f"importing {module} failed: {type(error).__name__}: {error}{raised_at(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise WrongUsage(f"the module {module} has no {attribute!r}; name the variable that holds the app")
        found = getattr(found, part)
    return found


def screen_of(app: object) -> Screen | None:
    """The screen of the outermost of our middlewares in or around an app; None without one. Raises ConfigError."""
    return next(_screens(app), None)


def _screens(app: object) -> Iterator[Screen]:
    for layer in layers(app):
        if isinstance(layer, Asgi | Wsgi):
            yield layer.screen
        for added in getattr(layer, "user_middleware", ()):
            if isinstance(added.cls, type) and issubclass(added.cls, Asgi | Wsgi):
                yield _screen(*added.args, **added.kwargs)


def _screen(screen: Screen | None = None, **options: Any) -> Screen:
    """The screen that the middleware will have, from the arguments that it will be made with."""
    return screen_from(screen, options.pop("config", None), options)  # type: ignore[arg-type]  # checked there
