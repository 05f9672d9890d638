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
        ContentRejected,
        Incomplete,
        LengthRequired,
        ModeratorBusy,
        ModeratorDown,
        ModeratorError,
        ModeratorRefused,
        ModeratorTimeout,
        NotScreened,
        Oversize,
        PrescreenError,
        RequestError,
        Slow,
        StoreError,
        Unreadable,
        Unsupported,
        Unwanted,
    )
    from prescreen.load import Breaker, Cache, Quota
    from prescreen.lookup import decision_of, settled_decision_of
    from prescreen.model import (
        Action,
        Asked,
        Called,
        Cause,
        CircuitChanged,
        Decision,
        Head,
        Image,
        Mode,
        Reason,
        Record,
        Rejection,
        Standing,
        Strike,
        Text,
        Verdict,
    )
    from prescreen.moderators import Moderator
    from prescreen.moderators.azure import AzureModerator
    from prescreen.moderators.keywords import KeywordModerator
    from prescreen.moderators.layers import AnyOf, Escalate, FirstOf
    from prescreen.moderators.llm import LLMModerator
    from prescreen.moderators.mistral import MistralModerator
    from prescreen.moderators.openai import OpenAIModerator
    from prescreen.policy import Policy
    from prescreen.rejection import Rejections
    from prescreen.rule import Rule
    from prescreen.screen import Screen
    from prescreen.strikes import Strikes

__version__ = "0.1.0"

__all__ = [
    "Action",
    "AnyOf",
    "Asked",
    "AzureModerator",
    "BadVerdict",
    "Breaker",
    "Cache",
    "Called",
    "Cause",
    "CircuitChanged",
    "ClientGone",
    "ConfigError",
    "ContentRejected",
    "Decision",
    "Escalate",
    "FirstOf",
    "Head",
    "Image",
    "Incomplete",
    "KeywordModerator",
    "LLMModerator",
    "LengthRequired",
    "MistralModerator",
    "Mode",
    "Moderator",
    "ModeratorBusy",
    "ModeratorDown",
    "ModeratorError",
    "ModeratorRefused",
    "ModeratorTimeout",
    "NotScreened",
    "OpenAIModerator",
    "Oversize",
    "Policy",
    "PrescreenError",
    "Quota",
    "Reason",
    "Record",
    "Rejection",
    "Rejections",
    "RequestError",
    "Rule",
    "Screen",
    "Slow",
    "Standing",
    "StoreError",
    "Strike",
    "Strikes",
    "Text",
    "Unreadable",
    "Unsupported",
    "Unwanted",
    "Verdict",
    "decision_of",
    "settled_decision_of",
]

_HOMES = {
    "prescreen.errors": "BadVerdict ClientGone ConfigError ContentRejected Incomplete LengthRequired ModeratorBusy ModeratorDown ModeratorError ModeratorRefused ModeratorTimeout NotScreened Oversize PrescreenError RequestError Slow StoreError Unreadable Unsupported Unwanted",
    "prescreen.load": "Breaker Cache Quota",
    "prescreen.lookup": "decision_of settled_decision_of",
    "prescreen.rule": "Rule",
    "prescreen.model": "Action Asked Called Cause CircuitChanged Decision Head Image Mode Reason Record Rejection Standing Strike Text Verdict",
    "prescreen.moderators": "Moderator",
    "prescreen.moderators.azure": "AzureModerator",
    "prescreen.moderators.keywords": "KeywordModerator",
    "prescreen.moderators.layers": "AnyOf Escalate FirstOf",
    "prescreen.moderators.llm": "LLMModerator",
    "prescreen.moderators.mistral": "MistralModerator",
    "prescreen.moderators.openai": "OpenAIModerator",
    "prescreen.policy": "Policy",
    "prescreen.rejection": "Rejections",
    "prescreen.screen": "Screen",
    "prescreen.strikes": "Strikes",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'prescreen' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
