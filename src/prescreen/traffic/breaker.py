"""A circuit breaker around one moderator, by the library interlock."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from interlock import CircuitBreaker, CircuitOpenError, Config, State
from interlock.protocols import CoreEventListener, FailureClassifier
from interlock.window import WindowType

from prescreen.errors import ModeratorBusy, ModeratorDown, ModeratorError, ModeratorRefused, ModeratorTimeout
from prescreen.load import SLOW, Breaker
from prescreen.model import CircuitChanged, Observer

logger: Final = logging.getLogger("prescreen")


class _Hurried(ModeratorTimeout):
    """A call ended late that had little time from its beginning."""


class _LeftOut(BaseException):
    """A call that went well, and is not counted, since it would be the one that opens the circuit."""


class Circuit(FailureClassifier, CoreEventListener):
    """Closed while the moderator answers; open, and nobody waits for it, once too many calls failed or were slow.

    What the moderator says of a text, and that its quota is spent, is no failure of its.
    """

    def __init__(self, name: str, options: Breaker, deadline: float, observe: Observer | None = None) -> None:
        self._observe = observe
        self._probe = float(options.probe)
        self._opened = -math.inf
        self._troubled = -math.inf  # when a call last was amiss, or may have been
        self._is_closed = True  # as the library last told; to ask it takes its lock
        self._slow = deadline * SLOW if options.slow is None else float(options.slow)
        self._rate, self._calls = options.rate, options.calls
        self._memory = math.ceil(float(options.window)) + 1.0  # the library's window moves by whole seconds
        config = Config(
            failure_rate_threshold=options.rate,
            slow_call_rate_threshold=options.rate,
            minimum_number_of_calls=options.calls,
            window_type=WindowType.TIME_BASED,
            window_size=math.ceil(float(options.window)),
            slow_call_duration_threshold=self._slow,
            wait_duration_in_open=self._probe,
            permitted_calls_in_half_open=1,
            max_concurrent_probes=1,
        )
        self._breaker = CircuitBreaker(name=name, config=config, classifier=self, listener=self)

    @property
    def state(self) -> str:
        """One of "closed", "open" and "half_open"."""
        return State.CLOSED.value if self._is_closed else self._breaker.state.value

    def refuse_if_open(self) -> None:
        """Raise ModeratorDown while it is open and not yet time to try again."""
        if (
            not self._is_closed
            and self._breaker.state is State.OPEN
            and (left := self._opened + self._probe - time.monotonic()) > 0
        ):
            raise _open(left)

    @contextmanager
    def calling(self, *, is_hurried: bool = False) -> Iterator[None]:
        """One call, whose error and length are taken note of. Raises ModeratorDown, and the call is not made, while it is open.

        That one with little time from its beginning, `is_hurried`, ends late is no failure of the moderator's.
        """
        said: ModeratorError | None = None
        try:
            with ExitStack() as stack:
                try:
                    stack.enter_context(self._breaker)
                except CircuitOpenError as error:
                    raise _open(error.retry_after) from None
                started = time.monotonic()
                try:
                    yield
                except ModeratorTimeout as error:
                    if is_hurried:
                        raise _Hurried(error.problem, known=error.known) from error
                    raise
                except (ModeratorRefused, ModeratorBusy) as error:
                    said = error
                if self._would_open(time.monotonic() - started):
                    raise _LeftOut  # noqa: TRY301  # it has to leave the block that counts
                if said is not None:
                    raise said
        except _Hurried as error:
            raise error.anew(error.known) from None
        except _LeftOut:
            if said is not None:
                raise said from None

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """The same for a call about what is behind a link, whose host decides how long it takes: only other failures count."""
        self.refuse_if_open()
        try:
            yield
        except ModeratorTimeout:
            raise
        except ModeratorError:
            with suppress(ModeratorError, CircuitOpenError), self._breaker:
                raise
            raise

    def _would_open(self, took: float) -> bool:
        """Whether a call of so many seconds that went well would open it: the library counts, and asks how many there were only then."""
        now = time.monotonic()
        if took >= self._slow / 2:  # by the library's own clock it may be slow
            self._troubled = now
        if took >= self._slow or not self._is_closed or now - self._troubled > self._memory:
            return False
        seen = self._breaker.snapshot()
        return seen.total_calls + 1 >= self._calls and max(seen.failed_calls, seen.slow_calls) >= self._rate * (
            seen.total_calls + 1
        )

    def is_failure(self, *, result: object, exception: Exception | None) -> bool:  # noqa: ARG002  # the library's names
        """For the library: whether this says that the moderator is not well."""
        if exception is None:
            return False
        self._troubled = time.monotonic()
        if isinstance(exception, _Hurried):
            return not self._is_closed  # of a probe it counts: nobody knows that it is well
        return not isinstance(exception, ModeratorRefused | ModeratorBusy)

    def on_state_change(self, *, name: str, old: State, new: State) -> None:
        """For the library: the state is another one."""
        self._is_closed = new is State.CLOSED
        if self._observe is not None:
            self._observe(CircuitChanged(name, new.value))
        if new is State.OPEN:
            self._opened = time.monotonic()
            logger.warning("moderator %s: the circuit is open; it is left alone for %g s", name, self._probe)
        elif new is State.CLOSED and old is not new:
            logger.warning("moderator %s: the circuit is closed again", name)


def _open(left: float | None) -> ModeratorDown:
    return ModeratorDown("it failed or was slow too often, and is left alone for now", retry_after=left)
