"""The words that end users read. Plain, short, and never scolding where somebody may be in need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prescreen.model import Cause

AGAIN: Final = "Please change it and try again."
CATEGORIES: Final = {
    "harassment": "harassment",
    "harassment/threatening": "threats against someone",
    "hate": "hateful language",
    "hate/threatening": "threats out of hate",
    "illicit": "help with wrongdoing",
    "illicit/violent": "help with violent wrongdoing",
    "self-harm": "self-harm",
    "self-harm/intent": "the wish to harm oneself",
    "self-harm/instructions": "instructions for self-harm",
    "sexual": "sexual content",
    "sexual/minors": "sexual content involving minors",
    "violence": "violence",
    "violence/graphic": "graphic violence",
    "unspecified": "content that our moderation does not accept",
}
"""Plain words for OpenAI's thirteen categories, and for a flag that comes without one."""

MORE_CATEGORIES: Final = {
    # our own list of denied texts
    "denied": "a text that we do not accept",
    # Azure AI Content Safety
    "Hate": "hateful language",
    "SelfHarm": "self-harm",
    "Sexual": "sexual content",
    "Violence": "violence",
    "blocklist": "words that are not accepted here",
    # Mistral
    "hate_and_discrimination": "hateful language",
    "violence_and_threats": "violence or threats",
    "dangerous": "help with something dangerous",
    "criminal": "help with a crime",
    "dangerous_and_criminal_content": "help with something dangerous or criminal",
    "selfharm": "self-harm",
    "health": "a question about health",
    "financial": "a question about money",
    "law": "a question about the law",
    "pii": "personal data",
    "jailbreaking": "an attempt to get around the rules",
    # Qwen3Guard
    "Violent": "violence",
    "Non-violent Illegal Acts": "help with wrongdoing",
    "Sexual Content or Sexual Acts": "sexual content",
    "PII": "personal data",
    "Suicide & Self-Harm": "self-harm",
    "Unethical Acts": "help with something unethical",
    "Politically Sensitive Topics": "a politically sensitive topic",
    "Copyright Violation": "a copyright violation",
    "Jailbreak": "an attempt to get around the rules",
}
"""Plain words for the categories of other moderators, where the wire name would not do."""


def is_self_harm(category: str) -> bool:
    """Whether a category, whoever's it is, means self-harm: whoever is in need gets support and no scolding."""
    letters = "".join(filter(str.isalpha, category.casefold()))
    return any(stem in letters for stem in ("selfharm", "selfinjur", "suicid"))


SUPPORT: Final = (
    "It sounds as if you may be going through a hard time. You are not alone, and talking to someone can help."
)
RESOURCES: Final = (
    "If you are in danger, please call your local emergency number. You can find a free helpline "
    "near you at https://findahelpline.com."
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one cause is answered: status, title, a sentence, and the code of the `openai` format.

    In `detail`, {problem} is what was wrong with the request and {categories} the words for what
    was found.
    """

    status: int
    title: str
    detail: str
    code: str
    type: str = "invalid_request_error"


EXPLANATIONS: Final = {
    Cause.FLAGGED: Explanation(
        400,
        "Your message was not accepted",
        f"It appears to contain {{categories}}. {AGAIN}",
        "content_policy_violation",
    ),
    Cause.UNREADABLE: Explanation(400, "The request could not be read", "{problem}.", "invalid_request"),
    Cause.UNSUPPORTED: Explanation(415, "This kind of request is not accepted", "{problem}.", "unsupported_media_type"),
    Cause.OVERSIZE: Explanation(413, "The request is too large", "{problem}.", "request_too_large"),
    Cause.UNWANTED: Explanation(422, "The request does not fit", "{problem}.", "invalid_request"),
    Cause.INCOMPLETE: Explanation(400, "The request was incomplete", "{problem}.", "invalid_request"),
    Cause.LENGTH_REQUIRED: Explanation(411, "The request needs a length", "{problem}.", "length_required"),
    Cause.SLOW: Explanation(408, "The request took too long", "{problem}.", "request_timeout"),
    Cause.REFUSED: Explanation(
        422,
        "Your message could not be checked",
        "A part of it, such as an image, could not be looked at. Please change it and try again.",
        "content_not_checkable",
    ),
    Cause.SUSPENDED: Explanation(
        403,
        "You cannot send messages for now",
        "You can send messages again in {wait}.",
        "suspended",
    ),
    Cause.UNAVAILABLE: Explanation(
        503,
        "Your message could not be checked",
        "Messages are checked before they are processed, and that is not possible right now. "
        "Please try again in a moment.",
        "moderation_unavailable",
        "api_error",
    ),
    Cause.OVERLOADED: Explanation(
        429,
        "There are too many messages right now",
        "Messages are checked before they are processed, and too many are waiting. Please try again in a moment.",
        "rate_limit_exceeded",
        "rate_limit_error",
    ),
}
