"""The values that the layers hand to each other. Nothing here does any work or knows any protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
Timing = Literal["before", "overlap"]
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
    SUSPENDED = "suspended"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body, copied once so that nothing can change it while it is decided on.

    `path` is percent-decoded, as the server gives it; `root_path` is the mount (ASGI `root_path`, WSGI `SCRIPT_NAME`); `query`
    is the raw query string; header names are lower-case. `has_body` is True where a body may follow, `has_coded_slash` where
    the path was sent with a `%2F` in it, `is_websocket` where messages will follow that are no body. `client` is the address of
    whoever holds the connection, None for a Unix socket. `state` is the live ASGI scope or WSGI environ, where the app's own
    middleware puts who the user is.
    """

    method: str
    path: str
    root_path: str = ""
    query: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    has_body: bool = True
    has_coded_slash: bool = False
    is_websocket: bool = False
    client: str | None = field(default=None, compare=False)
    state: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the header `name` (lower-case), in order."""
        return [value for key, value in self.headers if key == name]

    @property
    def declared_length(self) -> int | None:
        """The body's length as its sender declares it; None unless that is one plain number."""
        values = self.all(b"content-length")
        # ASCII digits only: int() would also take "+5", "1_0" and other alphabets' digits.
        return int(values[0]) if len(values) == 1 and len(values[0]) < 19 and values[0].isdigit() else None


@dataclass(frozen=True, slots=True)
class Text:
    """One text to moderate, and the JSON Pointer (RFC 6901) to where it was found.

    A form field is at `/name` (`/name/0`, `/name/1` if repeated), a text body at the empty pointer, a parameter at `query#/name`.
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

    `categories` and `scores` (0 to 1, higher is worse) are by the provider's wire names, as "hate/threatening"; either may be empty.
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
class Subject:
    """An end user, as a keyed hash of the app's own id for them; `previous` are the hashes under older secrets."""

    hash: str
    previous: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a subject stands: its strikes that still count, and how many of them suspend it.

    `suspended_for` is in seconds from now, None for one that is not; so is `next_suspension`. `is_warned`: it is time to tell.
    """

    strikes: float = 0
    limit: float = 0
    suspended_for: float | None = None
    next_suspension: float = 0.0
    is_warned: bool = False


@dataclass(frozen=True, slots=True)
class Strike:
    """One strike, as `on_strike` and `on_suspend` are told of it. It holds no text and no user's name."""

    subject: str
    decision_id: str
    categories: tuple[str, ...]
    standing: Standing


@dataclass(frozen=True, slots=True)
class Decision:
    """Our conclusion on one request (or on one `Screen.check`).

    `action` is what the policy says; in `Mode.MONITOR` it has no effect, so ask `is_rejected`. `rule` is the rule's `match`,
    None for a `Screen.check`. `problem` says what was wrong with a request that could not be screened, or names the moderator's
    error. `retry_after` is in seconds. `rung` is None where the moderator itself has judged, or nobody was to; else the rung of
    `on_error` that the decision came by: "stale", another moderator's name, or "reject", "flag" or "allow" where none had a
    verdict. `subject` is the keyed hash of the end user, None for an anonymous one; `standing` how they stand after this, None
    where no strikes are kept or nothing was held against them.
    """

    action: Action
    reasons: tuple[Reason, ...] = ()
    id: str = field(default_factory=lambda: urandom(12).hex())
    cause: Cause = Cause.CLEAN
    rule: str | None = None
    mode: Mode = Mode.ENFORCE
    problem: str | None = None
    retry_after: float | None = None
    rung: str | None = None
    subject: str | None = None
    standing: Standing | None = None

    @property
    def is_rejected(self) -> bool:
        """Whether the handler must not run."""
        return self.action is Action.REJECT and self.mode is Mode.ENFORCE

    @property
    def degraded(self) -> bool:
        """Whether the request passed although the moderator did not judge it: nobody did, or a rung of `on_error`."""
        return not self.is_rejected and not (self.is_judged and self.rung is None)

    @property
    def is_judged(self) -> bool:
        """Whether there are verdicts that the decision rests on."""
        return self.cause in (Cause.CLEAN, Cause.FLAGGED)

    @property
    def has_passed(self) -> bool:
        """Whether it was judged and let through: what a guarded client asks before it calls the model."""
        return not self.is_rejected and (self.mode is Mode.MONITOR or self.is_judged)

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

    `texts` and `images` count what the moderator was asked, other readings of the same text included. `places` are the reasons'
    pointers with every name that the configuration does not itself contain masked as `*`, because a client chooses the names in
    its documents. `unmatched` says that a body had nothing at its rule's places. `store_problem` says why strikes or lists
    could not be asked or kept. `stages` is in seconds, of those that happened: "read" (the body's arrival), "decode" (finding
    the texts), "store", "moderator" (queueing, calls and rungs).
    """

    decision: Decision
    moderator: str
    model: str = ""
    texts: int = 0
    images: int = 0
    latency: float = 0.0
    places: tuple[str, ...] = ()
    unmatched: bool = False
    store_problem: str | None = None
    stages: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a screening to a moderator, before it is sent: about `items`, which are texts and images.

    `cached` of them had a verdict already, and `joined` wait for the call of an identical item. `tokens_saved` is what these
    two would have cost, estimated. `rung` is that of `on_error`, None for the screen's moderator, and inside a layer.
    """

    moderator: str
    items: int
    cached: int = 0
    joined: int = 0
    tokens_saved: int = 0
    rung: str | None = None


@dataclass(frozen=True, slots=True)
class Called:
    """One call to a moderator, which may be for several screenings, after it has ended.

    `tokens` are estimated. `seconds` is the call's own time, `queued` how long the item that waited longest had waited for it,
    in seconds. `error` is the class of the ModeratorError, "Cancelled" where the screening ended first, None for neither.
    """

    moderator: str
    texts: int
    images: int
    tokens: int
    seconds: float
    queued: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    """A circuit breaker has another state: "open", "half_open" (one call tries whether the moderator is back) or "closed"."""

    moderator: str
    state: str


Event = Record | Asked | Called | CircuitChanged
Observer = Callable[[Event], None]
