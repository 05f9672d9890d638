"""Every error that prescreen raises.

    PrescreenError
    ├── ConfigError            (also a ValueError) found while a Screen is built
    ├── RequestError           the request cannot be screened as it stands
    │   ├── Unreadable         its body has no certain reading
    │   ├── Unsupported        its body is of a kind that the rule does not name
    │   ├── Oversize           it is over a limit
    │   ├── Unwanted           the rule says that requests like it are not taken
    │   ├── Incomplete         it ended before its declared end
    │   ├── LengthRequired     its end cannot be known (WSGI only)
    │   └── Slow               its body did not arrive in time (ASGI only)
    ├── ClientGone             nobody is left to answer
    ├── ModeratorError         the moderator gave no verdict
    │   ├── ModeratorTimeout   not before the deadline
    │   ├── ModeratorDown      not reachable, or failing on its side (5xx)
    │   ├── ModeratorBusy      rate limit or quota; may carry `retry_after`
    │   ├── ModeratorRefused   it does not take this request (4xx)
    │   └── BadVerdict         its answer is not one verdict for each item
    ├── StoreError             what is kept could not be read or written
    ├── NotScreened            a guarded client will not call the model: nothing was screened
    └── ContentRejected        a guarded client will not call the model: what it was given is rejected

Messages never hold a user's text: they end up in logs and in answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb
from typing import ClassVar

from prescreen.model import Cause, Decision, Verdict


class PrescreenError(Exception):
    """The root of every error raised here."""


def raised_at(error: BaseException) -> str:
    """Where a foreign error was raised, as " (file.py:12, in check)"; its message may quote a user."""
    frames = extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""


class ConfigError(PrescreenError, ValueError):
    """The configuration cannot work.

    `key` is the dotted key at fault (`rules[0].json[1]`), "" where no single key is; `problem` says
    what is wrong with it and what to write instead; `file` is the configuration file, None without.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem
        self.file: str | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.problem) if part)


class RequestError(PrescreenError):
    """The request cannot be screened as it stands; `cause` says which answer it gets."""

    cause: ClassVar[Cause]

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Unreadable(RequestError):
    """Two readers could find different texts in this body, or none could find any."""

    cause = Cause.UNREADABLE


class Unsupported(RequestError):
    """The body is of a kind that the rule does not name."""

    cause = Cause.UNSUPPORTED


class Oversize(RequestError):
    """The request is over a limit."""

    cause = Cause.OVERSIZE


class Unwanted(RequestError):
    """It can be read, and is what the rule says not to take: an image, or a request without a text."""

    cause = Cause.UNWANTED


class Incomplete(RequestError):
    """The body ended before, or went on after, its declared length."""

    cause = Cause.INCOMPLETE


class LengthRequired(RequestError):
    """The server gives no way to know where the body ends."""

    cause = Cause.LENGTH_REQUIRED


class Slow(RequestError):
    """The body did not arrive in time."""

    cause = Cause.SLOW


class ClientGone(PrescreenError):
    """The client went away before its request was complete."""


class StoreError(PrescreenError):
    """The store could not be read or written; what was to be written may be there or not.

    `problem` names the store and what is wrong with it, and holds neither a value nor a secret.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class ModeratorError(PrescreenError):
    """The moderator gave no verdict, or not all of them.

    `retry_after` is in seconds, None where it did not say. `known` holds the verdicts that it did
    give, by the index of their item: an error about one item must not hide the verdict on another.
    """

    def __init__(
        self, problem: str, *, retry_after: float | None = None, known: Mapping[int, Verdict] | None = None
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        is_sane = isinstance(retry_after, int | float) and 0 <= retry_after < float("inf")
        self.retry_after = retry_after if is_sane else None
        self.known = known or {}

    def anew(self, known: Mapping[int, Verdict], speaker: str = "") -> ModeratorError:
        """The same error about other items: one that several wait for is raised to each of them by itself."""
        kind: type[ModeratorError] = next(each for each in type(self).__mro__ if each.__module__ == __name__)
        return kind(f"{speaker}{self.problem}", retry_after=self.retry_after, known=known)


class ModeratorTimeout(ModeratorError):
    """No verdict before the deadline."""


class ModeratorDown(ModeratorError):
    """The moderator could not be reached, or failed on its side."""


class ModeratorBusy(ModeratorError):
    """The moderator's rate limit or quota is spent."""


class ModeratorRefused(ModeratorError):
    """The moderator does not take this request; asking again will not help."""


class BadVerdict(ModeratorError):
    """The answer is not one well-formed verdict for each item. It never counts as clean."""


class BlockingInLoop(PrescreenError, RuntimeError):
    """Blocking code that runs inside an event loop was to wait for an async moderator. A mistake of the app's: no policy decides on it."""


class NotScreened(PrescreenError):
    """A guarded client was to call a model, and no screening has passed that this call could rest on."""


class ContentRejected(PrescreenError):
    """A guarded client was to send a model what the policy rejects; `decision` says why."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        why = ", ".join(self.decision.categories) or self.decision.problem or self.decision.cause.value
        return f"rejected: {why} (decision {self.decision.id})"
