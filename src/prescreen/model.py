"""The values that the layers hand to each other. Nothing here does any work or knows any protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from os import urandom
from typing import Final, Literal

DECISION_KEY: Final = "prescreen.decision"
"""Where the Decision lies in the ASGI scope and in the WSGI environ."""


class Action(StrEnum):
    """What to do with a request. FLAG passes it on, annotated and recorded."""

    ALLOW = "allow"
    FLAG = "flag"
    REJECT = "reject"


ActionName = Literal["allow", "flag", "reject"]
BodyKind = Literal["json", "form", "text"]
Unmatched = Literal["all", "pass", "reject"]
ImagePolicy = Literal["moderate", "reject", "ignore"]


class Mode(StrEnum):
    """Whether decisions take effect. MONITOR decides and records, and never rejects."""

    ENFORCE = "enforce"
    MONITOR = "monitor"
    OFF = "off"


ModeName = Literal["enforce", "monitor", "off"]


class Cause(StrEnum):
    """Why a decision came out as it did; each has its own answer in `rejection`."""

    CLEAN = "clean"
    FLAGGED = "flagged"
    UNREADABLE = "unreadable"
    UNSUPPORTED = "unsupported"
    OVERSIZE = "oversize"
    UNWANTED = "unwanted"
    INCOMPLETE = "incomplete"
    LENGTH_REQUIRED = "length_required"
    SLOW = "slow"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body, copied once so that nothing can change it while it is decided on.

    `path` is percent-decoded, as the server gives it; `root_path` is the mount (ASGI `root_path`,
    WSGI `SCRIPT_NAME`); `query` is the raw query string; header names are lower-case. `has_body`
    is True where a body may follow, `has_coded_slash` where the path was sent with a `%2F` in it,
    `is_websocket` where messages will follow that are no body.
    """

    method: str
    path: str
    root_path: str = ""
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    has_body: bool = True
    has_coded_slash: bool = False
    is_websocket: bool = False

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the header `name` (lower-case), in order."""
        return [value for key, value in self.headers if key == name]

    @property
    def declared_length(self) -> int | None:
        """The body's length as its sender declares it; None unless that is one plain number."""
        values = self.all(b"content-length")
        # ASCII digits only: int() would also take "+5", "1_0" and other alphabets' digits.
        is_plain = len(values) == 1 and len(values[0]) < 19 and values[0].isdigit()
        return int(values[0]) if is_plain else None


@dataclass(frozen=True, slots=True)
class Text:
    """One text to moderate, and the JSON Pointer (RFC 6901) to where it was found.

    A form field is at `/name` (`/name/0`, `/name/1` where it is repeated), a plain text body at
    the empty pointer, a query parameter at `query#/name`.
    """

    pointer: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Image:
    """One image to moderate: an `https:` or `data:image/` URL, and where it was found."""

    pointer: str
    url: str = field(repr=False)


Item = Text | Image


@dataclass(frozen=True, slots=True)
class Verdict:
    """A moderator's opinion on one item; never a decision.

    `categories` and `scores` (0 to 1, higher is worse) are keyed by the provider's wire names, such
    as `"hate/threatening"`. Either may be empty.
    """

    flagged: bool
    categories: Mapping[str, bool] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    model: str = ""


@dataclass(frozen=True, slots=True)
class Reason:
    """One category hit at one place. `score` is None where the moderator gave none."""

    category: str
    pointer: str
    score: float | None = None
    action: Action = Action.REJECT


@dataclass(frozen=True, slots=True)
class Decision:
    """Our conclusion on one request (or on one `Screen.check`).

    `action` is what the policy says; in `Mode.MONITOR` it has no effect, so ask `is_rejected`.
    `rule` is the rule's `match`, None for a `Screen.check`. `problem` says what was wrong with a
    request that could not be screened, or names the moderator's error. `retry_after` is in seconds.
    """

    action: Action
    reasons: tuple[Reason, ...] = ()
    id: str = field(default_factory=lambda: urandom(12).hex())
    cause: Cause = Cause.CLEAN
    rule: str | None = None
    mode: Mode = Mode.ENFORCE
    problem: str | None = None
    retry_after: float | None = None

    @property
    def is_rejected(self) -> bool:
        """Whether the handler must not run."""
        return self.action is Action.REJECT and self.mode is Mode.ENFORCE

    @property
    def degraded(self) -> bool:
        """Whether the request passed although no moderator judged it."""
        return self.cause not in (Cause.CLEAN, Cause.FLAGGED) and not self.is_rejected

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories hit, each once, in the order found."""
        return tuple(dict.fromkeys(reason.category for reason in self.reasons))


@dataclass(frozen=True, slots=True)
class Rejection:
    """The refusal sent to the end user, protocol-free. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """The trace of one decision. It holds no text; `latency` is the moderator's, in seconds.

    `texts` and `images` count what the moderator was asked, other readings of the same text included. `places` are
    the reasons' pointers with every name that the configuration does not itself contain masked as `*`, because a
    client chooses the names in its documents. `unmatched` says that a body had nothing at its rule's places.
    """

    decision: Decision
    moderator: str
    model: str = ""
    texts: int = 0
    images: int = 0
    latency: float = 0.0
    places: tuple[str, ...] = ()
    unmatched: bool = False


# The flow's wishes. A driver performs each and sends the answer named in its docstring.


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Read the whole body. Answer: bytes.

    Throws Oversize past `limit` bytes, Slow after `timeout` seconds (None: no limit, and none on
    WSGI, where the server sees to it), Incomplete, LengthRequired, ClientGone.
    """

    limit: int
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Moderate:
    """Judge every item within `timeout` seconds. Answer: as many Verdicts, in the same order.

    Throws ModeratorError.
    """

    items: Sequence[Item]
    timeout: float


@dataclass(frozen=True, slots=True)
class Work:
    """Do this, which takes time in proportion to `size` bytes. Answer: what it returns. Throws what it raises.

    `run` does no I/O. Where nothing else could happen meanwhile, as in an event loop, a large piece belongs in a thread.
    """

    run: Callable[[], object]
    size: int


@dataclass(frozen=True, slots=True)
class Report:
    """Put the decision on record. Answer: None."""

    record: Record


Step = ReadBody | Work | Moderate | Report
Answer = object
