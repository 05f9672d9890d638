"""Moderation before your handler runs: middleware for ASGI and WSGI.

`prescreen.asgi` and `prescreen.wsgi` hold the middlewares; this is what they are configured with and
what they give back. Importing this package imports nothing else yet: each name comes when it is
first asked for (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prescreen.errors import (
        BadVerdict,
        ClientGone,
        ConfigError,
        Incomplete,
        LengthRequired,
        ModeratorBusy,
        ModeratorDown,
        ModeratorError,
        ModeratorRefused,
        ModeratorTimeout,
        Oversize,
        PrescreenError,
        RequestError,
        Slow,
        StoreError,
        Unreadable,
        Unsupported,
        Unwanted,
    )
    from prescreen.lookup import decision_of
    from prescreen.model import (
        Action,
        Cause,
        Decision,
        Head,
        Image,
        Mode,
        Reason,
        Record,
        Rejection,
        Text,
        Verdict,
    )
    from prescreen.moderators import Moderator
    from prescreen.policy import Policy
    from prescreen.rejection import Rejections
    from prescreen.rule import Rule
    from prescreen.screen import Screen

__version__ = "0.1.0"

__all__ = [
    "Action",
    "BadVerdict",
    "Cause",
    "ClientGone",
    "ConfigError",
    "Decision",
    "Head",
    "Image",
    "Incomplete",
    "LengthRequired",
    "Mode",
    "Moderator",
    "ModeratorBusy",
    "ModeratorDown",
    "ModeratorError",
    "ModeratorRefused",
    "ModeratorTimeout",
    "Oversize",
    "Policy",
    "PrescreenError",
    "Reason",
    "Record",
    "Rejection",
    "Rejections",
    "RequestError",
    "Rule",
    "Screen",
    "Slow",
    "StoreError",
    "Text",
    "Unreadable",
    "Unsupported",
    "Unwanted",
    "Verdict",
    "decision_of",
]

_HOMES = {
    "prescreen.errors": "BadVerdict ClientGone ConfigError Incomplete LengthRequired ModeratorBusy ModeratorDown ModeratorError ModeratorRefused ModeratorTimeout Oversize PrescreenError RequestError Slow StoreError Unreadable Unsupported Unwanted",
    "prescreen.lookup": "decision_of",
    "prescreen.rule": "Rule",
    "prescreen.model": "Action Cause Decision Head Image Mode Reason Record Rejection Text Verdict",
    "prescreen.moderators": "Moderator",
    "prescreen.policy": "Policy",
    "prescreen.rejection": "Rejections",
    "prescreen.screen": "Screen",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'prescreen' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
