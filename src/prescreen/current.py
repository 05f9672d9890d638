"""The request that is being handled, as far as prescreen knows of it, for whatever the handler calls.

It goes with the context (PEP 567): into the tasks and worker threads that a handler starts, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import fields
from operator import attrgetter
from threading import Event, get_ident
from typing import TYPE_CHECKING, Any, Final

from prescreen.errors import NotScreened
from prescreen.model import DECISION_KEY, Action, Decision, Head, Mode

if TYPE_CHECKING:
    import anyio

SCREENED_KEY: Final = "prescreen.screened"
"""Where the mark of a screening lies in the ASGI scope and in the WSGI environ; see `mark.Screened`."""

told: Final[Callable[[Head], tuple[object, ...]]] = attrgetter(*(each.name for each in fields(Head) if each.compare))
"""What two heads have in common if they are equal. It does not hold the scope or environ, where the mark lies that is made of
it: they would be left to the garbage collector, at every request."""

PASSAGE_KEY: Final = "prescreen.passage"
"""Where the Passage lies in an ASGI scope while the decision is still to come."""

_SETTLED: Final = Event()  # for all that begin with their decision
_SETTLED.set()


class Passage:
    """A request on its way to the handler or in it, and the decision on it, which may still be to come.

    `subject` is the keyed hash of the end user, None for an anonymous one; `own` is this screen's decision. Where one screen stands inside another, a
    passage has an `outer` one, and has passed only if both have.
    """

    def __init__(self, subject: str | None, decision: Decision | None = None) -> None:
        self.subject = subject
        self.outer = _passage.get()
        self.own = decision
        self._settled = Event() if decision is None else _SETTLED
        self._waiter: anyio.Event | None = None
        self._thread = get_ident()

    @property
    def is_settled(self) -> bool:
        """Whether no decision is to come any more."""
        return self._settled.is_set() and (self.outer is None or self.outer.is_settled)

    @property
    def decision(self) -> Decision | None:
        """The decision, an outer one that has not passed before our own; None while one is to come, and where none will."""
        if self.outer is not None and ((outer := self.outer.decision) is None or not outer.has_passed):
            return outer
        return self.own

    def settle(self, decision: Decision | None) -> None:
        """Bring the decision; None where there will be none. Called in the event loop that the request is handled in."""
        self.own = decision
        self._settled.set()
        if self._waiter is not None:
            self._waiter.set()

    async def wait(self) -> Decision | None:
        """The decision, once it is there; None where there will be none."""
        from anyio import Event as AsyncEvent
        from anyio import to_thread

        if self.outer is not None:
            await self.outer.wait()
        if self._settled.is_set():
            return self.decision
        if get_ident() != self._thread:  # another thread has its own event loop
            await to_thread.run_sync(self._settled.wait, abandon_on_cancel=True)
        else:
            self._waiter = self._waiter or AsyncEvent()
            await self._waiter.wait()
        return self.decision

    def wait_sync(self) -> Decision | None:
        """The same, blocking. Raises NotScreened where nothing could go on meanwhile."""
        if self.outer is not None:
            self.outer.wait_sync()
        if not self._settled.is_set() and get_ident() == self._thread:
            raise NotScreened("a blocking client cannot wait for the verdict in the event loop; use AsyncOpenAI")
        self._settled.wait()
        return self.decision


def mark(holder: MutableMapping[str, Any], passage: Passage) -> None:
    """Leave the decision in an ASGI scope or a WSGI environ; what it will be asked for there, where it is still to come."""
    if passage.is_settled:
        holder[DECISION_KEY] = passage.own
    else:
        holder.pop(DECISION_KEY, None)
        holder[PASSAGE_KEY] = passage


_passage: Final[ContextVar[Passage | None]] = ContextVar("prescreen.passage", default=None)


def unscreened() -> Passage:
    """A request under a screen that is off: it has passed, so that no guard stands in its way."""
    return Passage(None, Decision(Action.ALLOW, mode=Mode.OFF))


def current() -> Passage | None:
    """The request that is being handled; None where no rule is about it, and outside of requests."""
    return _passage.get()


def is_left_over(holder: Mapping[str, Any]) -> bool:
    """Whether the context is another request's: servers may start one request in the context of the last (pipelining)."""
    return _passage.get() is not None and SCREENED_KEY not in holder


class passing:  # noqa: N801  # it reads as the verb that it is in a `with`
    """What is called inside belongs to that request; to none with None."""

    def __init__(self, passage: Passage | None) -> None:
        self._passage = passage

    def __enter__(self) -> None:
        self._token = _passage.set(self._passage)

    def __exit__(self, *_: object) -> None:
        try:  # noqa: SIM105  # it costs nothing, at every request
            _passage.reset(self._token)
        except ValueError:
            pass  # a handler that was left in the middle, and ends in the garbage collector's context


class _Follows:
    responses = False


def follow_responses() -> None:
    """From now on, what makes a WSGI response piece by piece belongs to its request: there is somebody to ask for that."""
    _Follows.responses = True


def followed(response: Iterable[bytes], passage: Passage, *, is_made: bool) -> Iterable[bytes]:
    """The response, inside its request; the very same where nobody asks, or where nothing of the app's is left to run."""
    return Passed(response, passage) if _Follows.responses and not is_made else response


class Passed(Iterator[bytes]):
    """A WSGI response whose pieces are made inside its request, whichever thread asks for them."""

    def __init__(self, response: Iterable[bytes], passage: Passage) -> None:
        self._response, self._passage = response, passage
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> Passed:
        return self

    def __next__(self) -> bytes:
        with passing(self._passage):
            if self._pieces is None:
                self._pieces = iter(self._response)
            return next(self._pieces)

    def close(self) -> None:
        """PEP 3333: called by the server when the response is over."""
        close: Callable[[], None] | None = getattr(self._response, "close", None)
        if close is not None:
            with passing(self._passage):
                close()
