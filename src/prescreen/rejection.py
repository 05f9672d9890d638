"""From a rejecting decision to the answer that the end user gets. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from html import escape
from typing import Final, Literal, get_args

from prescreen.errors import ConfigError
from prescreen.model import Action, Cause, Decision, Reason, Rejection, Standing
from prescreen.page import PAGE
from prescreen.units import spelled
from prescreen.wording import (
    AGAIN,
    CATEGORIES,
    EXPLANATIONS,
    MORE_CATEGORIES,
    RESOURCES,
    SUPPORT,
    Explanation,
    is_self_harm,
)

Format = Literal["problem", "openai", "html", "text", "negotiate"]

# Clients retry these (the openai SDK does), and a rejection must not be retried.
_RETRIED: Final = frozenset({408, 409, 425, 429})
_DEFAULT_RETRY_AFTER: Final = 5  # seconds
_LONGEST_RETRY_AFTER: Final = 366 * 86_400
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FRAMING: Final = frozenset({"content-length", "content-type", "transfer-encoding", "connection"})


@dataclass(frozen=True, slots=True)
class Rejections:
    """How rejections look. Called with a Decision and the request's `Accept`, gives a Rejection.

    `status` and `title` are for flagged requests; other causes (unreadable, too large, moderator
    unavailable) have their own. `wording` gives plain words per category and overrides ours.
    `resources` is shown beside self-harm categories; "" for none. `suspended` is what a suspended subject
    reads, with "{wait}" for how long. `headers` go onto every rejection. `show_scores` adds the moderator's scores to `problem` bodies.

    Raises ConfigError.
    """

    _: KW_ONLY
    format: Format = "problem"
    status: int = 400
    title: str = EXPLANATIONS[Cause.FLAGGED].title
    wording: Mapping[str, str] = field(default_factory=dict)
    resources: str = RESOURCES
    suspended: str = EXPLANATIONS[Cause.SUSPENDED].detail
    headers: Mapping[str, str] = field(default_factory=dict)
    show_scores: bool = False

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise ConfigError("format", f"{self.format!r} is not one of {', '.join(map(repr, get_args(Format)))}")
        if not isinstance(self.status, int) or not 400 <= self.status < 500 or self.status in _RETRIED:
            raise ConfigError(
                "status",
                f"{self.status!r} will not do: a rejection is a 4xx that clients do not retry "
                f"(so none of {', '.join(map(str, sorted(_RETRIED)))}); write for example 400, 403 or 422",
            )
        if not isinstance(self.show_scores, bool):
            raise ConfigError("show_scores", f"{self.show_scores!r} is neither true nor false")
        for key in ("title", "resources", "suspended"):
            if not isinstance(getattr(self, key), str):
                raise ConfigError(key, f"{getattr(self, key)!r} is not text")
        object.__setattr__(self, "wording", _texts("wording", self.wording))
        object.__setattr__(self, "headers", _headers(self.headers))

    def __call__(self, decision: Decision, accept: str = "") -> Rejection:
        """The answer for a decision that rejects; `accept` is the request's Accept header."""
        kind = _negotiate(accept) if self.format == "negotiate" else self.format
        media_type, write = _WRITERS[kind]
        answer = self._answer(decision)
        body = write(self, decision, answer).encode()
        headers = {"content-type": media_type, "content-length": str(len(body)), **_HEADERS, **self.headers}
        if self.format == "negotiate":
            headers["vary"] = "accept"
        if decision.cause in (Cause.UNAVAILABLE, Cause.SUSPENDED, Cause.OVERLOADED):
            headers["retry-after"] = str(_whole_seconds(decision.retry_after))
        return Rejection(answer.status, headers, body)

    def words(self, category: str) -> str:
        """Plain words for a category; an unknown one is spelled out from its wire name."""
        known = self.wording.get(category) or CATEGORIES.get(category) or MORE_CATEGORIES.get(category)
        return known or category.replace("/", ", ").replace("_", " ")

    def support(self, decision: Decision) -> str | None:
        """The supportive text for a decision that self-harm is part of, else None."""
        if any(is_self_harm(reason.category) for reason in _grounds(decision)):
            return f"{SUPPORT} {self.resources}".strip()
        return None

    def _answer(self, decision: Decision) -> Explanation:
        answer = EXPLANATIONS[decision.cause]
        if decision.cause is Cause.FLAGGED:
            named = dict.fromkeys(self.words(reason.category) for reason in _grounds(decision))
            detail = self.support(decision) or answer.detail.format(categories=_enumerate(list(named)))
            return replace(answer, status=self.status, title=self.title, detail=_warned(detail, decision.standing))
        if decision.cause is Cause.SUSPENDED:
            return replace(answer, detail=self.suspended.replace("{wait}", spelled(decision.retry_after or 0)))
        problem = decision.problem or "It could not be screened"
        return replace(answer, detail=answer.detail.format(problem=problem[:1].upper() + problem[1:]))


def _whole_seconds(retry_after: float | None) -> int:
    """A Retry-After (RFC 9110, section 10.2.3): what the moderator asks for, if that makes sense."""
    if retry_after is None or not 0 < retry_after < _LONGEST_RETRY_AFTER:
        return _DEFAULT_RETRY_AFTER
    return math.ceil(retry_after)


def _warned(detail: str, standing: Standing | None) -> str:
    """The sentence, and what strikes have done to the sender, or what the next ones will do."""
    if standing is None or not standing.is_warned:
        return detail
    if standing.suspended_for is not None:
        return f"{detail.removesuffix(AGAIN).strip()} You cannot send messages for {spelled(standing.suspended_for)}."
    when = "this happens once more" if standing.limit - standing.strikes <= 1 else "this goes on"
    return f"{detail} If {when}, you will not be able to send messages for {spelled(standing.next_suspension)}."


def _grounds(decision: Decision) -> list[Reason]:
    """The reasons that reject, without those that only flag."""
    return [reason for reason in decision.reasons if reason.action is Action.REJECT]


def is_token(name: str) -> bool:
    """Whether it can be a header's name."""
    return _TOKEN.fullmatch(name) is not None


def _texts(key: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigError(key, f"{value!r} is no table of texts by name")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConfigError(f'{key}."{name}"', f"{text!r} is not text")
    return dict(value)


def _headers(value: object) -> dict[str, str]:
    headers = _texts("headers", value)
    for name, text in headers.items():
        if name.lower() in _FRAMING or not is_token(name) or not (text.isprintable() and text.isascii()):
            raise ConfigError(f'headers."{name}"', "this header cannot be set here")
    return {name.lower(): text for name, text in headers.items()}


def _enumerate(words: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "unaccepted content"


def _problem(look: Rejections, decision: Decision, answer: Explanation) -> str:
    """RFC 9457."""
    members: dict[str, object] = {
        "type": f"urn:prescreen:{answer.code.replace('_', '-')}",
        "title": answer.title,
        "status": answer.status,
        "detail": answer.detail,
        "decision_id": decision.id,
    }
    if decision.cause is Cause.FLAGGED:
        members["categories"] = [_category(look, reason) for reason in _grounds(decision)]
    if decision.standing is not None and decision.standing.is_warned:
        members["strikes"] = _strikes(decision.standing)
    return json.dumps(members)


def _strikes(standing: Standing) -> dict[str, object]:
    if standing.suspended_for is None:
        return {"count": _plain(standing.strikes), "limit": _plain(standing.limit)}
    return {"suspended_seconds": math.ceil(standing.suspended_for)}


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number


def _category(look: Rejections, reason: Reason) -> dict[str, object]:
    member: dict[str, object] = {
        "category": reason.category,
        "words": look.words(reason.category),
        "pointer": reason.pointer,
    }
    return member | {"score": reason.score} if look.show_scores else member


def _openai(_look: Rejections, decision: Decision, answer: Explanation) -> str:
    """The error envelope that OpenAI's clients parse."""
    param = next((reason.pointer for reason in _grounds(decision)), None)
    message = f"{answer.title}. {answer.detail}"
    return json.dumps({"error": {"message": message, "type": answer.type, "param": param, "code": answer.code}})


def _html(_look: Rejections, decision: Decision, answer: Explanation) -> str:
    return PAGE.format(title=escape(answer.title), detail=escape(answer.detail), id=escape(decision.id))


def _text(_look: Rejections, decision: Decision, answer: Explanation) -> str:
    return f"{answer.title}. {answer.detail}\n(decision {decision.id})\n"


Writer = Callable[[Rejections, Decision, Explanation], str]
_WRITERS: Final[dict[str, tuple[str, Writer]]] = {
    "problem": ("application/problem+json", _problem),
    "openai": ("application/json", _openai),
    "html": ("text/html; charset=utf-8", _html),
    "text": ("text/plain; charset=utf-8", _text),
}
_OFFERS: Final = {
    "application/problem+json": "problem",
    "application/json": "problem",
    "text/html": "html",
    "text/plain": "text",
}


def _negotiate(accept: str) -> Format:
    """The offer that the client likes best (RFC 9110, section 12.5.1); `problem` in doubt."""
    liked = dict(map(_preference, accept.split(",")[:50]))
    best, quality = "problem", 0.0
    for media_type, name in _OFFERS.items():
        kind = media_type.partition("/")[0]
        offered = next((liked[each] for each in (media_type, f"{kind}/*", "*/*") if each in liked), 0.0)
        if offered > quality:
            best, quality = name, offered
    return best  # type: ignore[return-value]  # every value of _OFFERS is a Format


def _preference(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return media_type, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return media_type, 0.0
