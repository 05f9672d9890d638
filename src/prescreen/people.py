"""Who sent a request and what is held against them: the parts that a configuration asks for, put together.

Performs the flow's steps `Recall`, `AddStrike` and `LookUp`, awaiting or blocking, each within its time.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prescreen.book import StrikeBook
from prescreen.errors import ConfigError, StoreError, raised_at
from prescreen.lists import TextLists
from prescreen.model import Head, Strike, Subject
from prescreen.steps import AddStrike, Answer, LookUp, Recall
from prescreen.stores import Store, open_store
from prescreen.strikes import Hook, Strikes
from prescreen.subject import Keys, Subjects, finder
from prescreen.threads import limiter

if TYPE_CHECKING:
    from prescreen.config import Settings

StoreStep = Recall | AddStrike | LookUp

SECRET: Final = "PRESCREEN_SECRET"  # noqa: S105  # the name of the variable
_THREADS: Final = 40  # per event loop, for stores that block
_HOOK_SECONDS: Final = 1.0

logger: Final = logging.getLogger("prescreen")


@dataclass(frozen=True, slots=True)
class _Struck:
    strike: Strike
    hooks: tuple[Hook, ...]


class People:
    """Subjects, their strikes, and the lists of texts; each None where the settings do not ask for it.

    Raises ConfigError.
    """

    def __init__(self, settings: Settings) -> None:
        self.keys: Final = _keys(settings)
        self.secret: Final = self.keys.secret if self.keys else None
        self.find_subject: Final = _subjects(settings, self.keys)
        self._strikes: Final[Strikes | None] = settings.strikes
        if settings.strikes is not None and self.find_subject is None:
            raise ConfigError("strikes", "there is nobody to hold them against; say with subject who the end user is")
        has_lists = (
            settings.lists if settings.lists is not None else self.keys is not None and settings.store != "memory"
        )
        if has_lists and self.keys is None:
            raise ConfigError("lists", f"texts are kept as keyed digests; {_WRITE_SECRET}")
        self.store: Final[Store | None] = open_store(settings.store) if has_lists or settings.strikes else None
        self.book: Final = StrikeBook(self.store, settings.strikes) if self.store and settings.strikes else None
        self.lists: Final = TextLists(self.store, self.keys) if self.store and self.keys and has_lists else None

    def subject(self, identifier: str) -> Subject:
        """The subject with this id of the app's. Raises ConfigError without a secret."""
        if self.keys is None:
            raise ConfigError("secret", _WRITE_SECRET)
        return self.keys.subject(identifier)

    async def perform(self, step: StoreStep) -> Answer:
        """Perform a step, awaiting. Raises StoreError."""
        from anyio import move_on_after, to_thread

        if self.store is not None and self.store.is_local:
            answer = self._answer(step)  # it waits for nothing
        else:
            answer = None
            with move_on_after(step.timeout) as scope:
                threads = limiter("stores", _THREADS)
                answer = await to_thread.run_sync(self._answer, step, abandon_on_cancel=True, limiter=threads)
            if scope.cancelled_caught:
                raise StoreError(f"no answer within {step.timeout:g} s")
        if not isinstance(answer, _Struck):
            return answer
        for hook in answer.hooks:
            await _tell(hook, answer.strike)
        return answer.strike.standing

    def perform_sync(self, step: StoreStep) -> Answer:
        """Perform a step, blocking. Raises StoreError."""
        answer = self._answer(step)
        if not isinstance(answer, _Struck):
            return answer
        for hook in answer.hooks:
            _tell_sync(hook, answer.strike)
        return answer.strike.standing

    def _answer(self, step: StoreStep) -> Answer:
        try:
            if isinstance(step, LookUp):
                assert self.lists is not None
                return self.lists.find(step.texts)
            assert self.book is not None
            if isinstance(step, Recall):
                return self.book.recall(step.subject, step.timeout)
            strike, is_new = self.book.strike(step.subject, step.decision, step.weight, step.timeout)
            return _Struck(strike, tuple(self._hooks(is_suspended=is_new)))
        except StoreError:
            raise
        except Exception as error:  # a store of the user's own
            # Its message is left behind: it may quote what is kept.
            raise StoreError(f"the store raised {type(error).__name__}{raised_at(error)}") from error

    def _hooks(self, *, is_suspended: bool) -> list[Hook]:
        assert self._strikes is not None
        wanted = [self._strikes.on_strike, self._strikes.on_suspend if is_suspended else None]
        return [hook for hook in wanted if hook is not None]


_WRITE_SECRET: Final = f"set {SECRET}, or secret, to at least 16 characters, for example 32 random bytes in hexadecimal"


def _keys(settings: Settings) -> Keys | None:
    secret = settings.secret.get_secret_value() if settings.secret else os.environ.get(SECRET)
    if not secret:
        return None
    return Keys(secret, tuple(each.get_secret_value() for each in settings.previous_secrets))


def _subjects(settings: Settings, keys: Keys | None) -> Callable[[Head], Subject | None] | None:
    finders = []
    for index, source in enumerate(settings.subject):
        try:
            finders.append(finder(source, settings.trusted_proxies))
        except ConfigError as error:
            raise ConfigError(f"subject[{index}]" if error.key == "subject" else error.key, error.problem) from error
    if not finders:
        return None
    if keys is None:
        raise ConfigError("secret", f"subjects are kept as keyed hashes; {_WRITE_SECRET}")
    return Subjects(keys, tuple(finders)).of


async def _tell(hook: Hook, strike: Strike) -> None:
    """Tell a hook; what goes wrong in it is logged, without its message."""
    from anyio import move_on_after, to_thread

    call: Any = hook
    try:
        with move_on_after(_HOOK_SECONDS) as scope:
            if any(map(inspect.iscoroutinefunction, (call, getattr(call, "__call__", None)))):  # noqa: B004  # an object may await
                await call(strike)
            else:
                threads = limiter("hooks", _THREADS)
                # In a tuple, since trio's threads may return no coroutine.
                told = await to_thread.run_sync(lambda: (call(strike),), abandon_on_cancel=True, limiter=threads)
                if inspect.isawaitable(told[0]):
                    await told[0]
    except Exception as error:  # noqa: BLE001  # the app's own table is not worth the answer
        _log_failure(error)
    else:
        if scope.cancelled_caught:
            logger.error("a hook for strikes took longer than %g s and was left", _HOOK_SECONDS)


def _tell_sync(hook: Hook, strike: Strike) -> None:
    told: Any = None
    try:
        told = hook(strike)
        if inspect.isawaitable(told):
            import anyio

            async def wait() -> None:
                with anyio.fail_after(_HOOK_SECONDS):
                    await told

            anyio.run(wait)
    except Exception as error:  # noqa: BLE001  # as above
        _log_failure(error)
    finally:
        if inspect.iscoroutine(told):
            told.close()  # if it never ran, it shall not warn of that


def _log_failure(error: Exception) -> None:
    logger.error("a hook for strikes failed: it raised %s%s", type(error).__name__, raised_at(error))
